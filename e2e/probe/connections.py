"""Asking on a beat over TCP: a connection for each attempt, or one for all."""

import errno
import os
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from e2e import timing
from e2e.errors import ProbeBrokenError
from e2e.probe.asking import LARGEST, Asker, Beat
from e2e.probe.outcome import CUT_OFF, SILENT, Outcome, outcome_of
from e2e.probe.pulse import clock
from e2e.probe.reply import Reply
from e2e.probe.wire import (
    CONTENT_LENGTH,
    END_OF_HEAD,
    KEPT_REQUEST,
    REQUEST,
    WITHOUT_LINGERING,
    is_cut,
    repeats,
    reply_of,
    waited_for,
)

PENDING = (0, errno.EINPROGRESS)
GIVEN_UP = "given up"


class NewConnections(Asker):
    """Every attempt has a connection of its own."""

    def ask(self) -> None:
        """Connect."""
        _Call(self, REQUEST)


class OneConnection(Asker):
    """All attempts share one connection; while there is none each tries to open it."""

    kept: "_Kept | None" = None

    def ask(self) -> None:
        """Ask over the connection, whether or not it has answered the last time."""
        if self.kept:
            self.kept.ask()
        else:
            _Call(self, KEPT_REQUEST, keep=self._keep)

    def _keep(self, open_one: socket.socket, pod: str) -> bool:
        if self.kept:
            return False
        self.kept = _Kept(self, open_one, pod)
        return True

    def lose(self) -> None:
        """Let the next attempt open another one."""
        self.kept = None


class _Call:
    """An attempt over a new connection."""

    __slots__ = (
        "_began",
        "_by",
        "_for_reply",
        "_keep",
        "_open",
        "_opened",
        "_received",
        "_repeated",
        "_request",
        "_waited",
    )

    def __init__(
        self,
        by: Asker,
        request: bytes,
        keep: Callable[[socket.socket, str], bool] | None = None,
    ) -> None:
        self._by, self._request, self._keep = by, request, keep
        self._received, self._opened = b"", 0.0
        self._for_reply = by.for_reply
        self._repeated: float | None = None
        # True once patience is over.
        self._waited = False
        new = by.fresh(socket.SOCK_STREAM)
        self._open: socket.socket | None = new
        self._began = clock()
        new.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, WITHOUT_LINGERING)
        result = new.connect_ex(by.address)
        if result not in PENDING:
            new.close()
            raise OSError(result, os.strerror(result))
        by.called_from(new)
        by.pulse.heed(new, self._connected, write=True)
        by.pulse.later(by.patience, self._impatient)

    def _connected(self) -> None:
        assert self._open is not None
        self._opened = clock() - self._began
        self._repeated = waited_for(self._open, self._opened)
        try:
            self._open.send(self._request)
        except OSError as error:
            self._end(error=error)
        else:
            self._by.pulse.heed_reply(self._open, self._readable)

    def _readable(self) -> None:
        assert self._open is not None
        try:
            chunk = self._open.recv(LARGEST)
        except OSError as error:
            self._end(error=error)
            return
        self._received += chunk
        if not chunk or not is_cut(self._received, closed=False):
            self._end()

    def _end(self, error: OSError | None = None) -> None:
        used, by = self._open, self._by
        assert used is not None
        by.pulse.forget(used)
        took = clock() - self._began
        reply = None
        if not error:
            reply = replace(reply_of(self._received, took, self._opened), waited=self._repeated)
        if self._waited:
            if reply and reply.outcome != CUT_OFF:
                by.tell_late(self._began, reply, lost=bool(waited_for(used, self._opened)))
        elif reply is None:
            assert error is not None
            if not isinstance(error, ConnectionRefusedError):
                by.avoid(used)
            by.failed(self._began, error, self._opened)
        else:
            by.tell(self._began, reply)
        self._open = None
        if not (reply and reply.echo and self._keep and self._keep(used, reply.echo)):
            used.close()

    def _impatient(self) -> None:
        if self._open is None:
            return
        if self._opened and self._for_reply:
            self._by.pulse.later(self._for_reply, self._impatient)
            self._for_reply = 0.0
            return
        self._waited = True
        self._by.avoid(self._open)
        self._by.tell(self._began, Reply(SILENT, clock() - self._began, opened=self._opened))
        if self._by.hears_late:
            self._by.pulse.later(timing.ATTEMPT - self._by.patience, self._give_up)
        else:
            self._give_up()

    def _give_up(self) -> None:
        if self._open is not None:
            self._by.pulse.forget(self._open)
            self._open.close()
            self._open = None


class _Kept:
    """A connection that is kept, and its requests that are under way, the oldest first."""

    def __init__(self, by: OneConnection, open_one: socket.socket, pod: str) -> None:
        self._by, self._open, self._pod = by, open_one, pod
        self._under_way: deque[Beat] = deque()
        self._received = b""
        self._over = False
        by.pulse.heed(open_one, self._readable)

    def ask(self) -> None:
        beat = Beat()
        beat.repeated = repeats(self._open)
        self._under_way.append(beat)
        try:
            self._open.send(KEPT_REQUEST)
        except BlockingIOError:
            pass  # all that fits is unsent already; this one will be silent
        except OSError as error:
            self._end(error)
            return
        self._by.pulse.later(self._by.patience, partial(self._impatient, beat))

    def _readable(self) -> None:
        try:
            chunk = self._open.recv(LARGEST)
        except OSError as error:
            self._end(error)
            return
        self._received += chunk
        while self._under_way and not is_cut(self._received, closed=False):
            one, self._received = _first_of(self._received)
            self._land(self._under_way.popleft(), one)
        if not chunk:
            self._end(None)

    def _land(self, beat: Beat, said: bytes) -> None:
        reply = reply_of(said, clock() - beat.began)
        self._pod = reply.echo or self._pod
        beat.ended = True
        if beat.waited:
            lost = repeats(self._open) > beat.repeated
            self._by.tell_late(beat.began, reply, lost=lost)
        else:
            self._by.tell(beat.began, reply)

    def _impatient(self, beat: Beat) -> None:
        if beat.ended:
            return
        beat.waited = True
        took = clock() - beat.began
        self._by.tell(beat.began, Reply(SILENT, took, detail=f"kept to {self._pod}"))
        self._by.pulse.later(timing.ATTEMPT - self._by.patience, partial(self._give_up, beat))

    def _give_up(self, beat: Beat) -> None:
        if not beat.ended:
            self._end(None, how=GIVEN_UP)

    def _end(self, error: OSError | None, how: str = "") -> None:
        if self._over:
            return
        self._over = True
        self._by.pulse.forget(self._open)
        self._open.close()
        self._by.lose()
        outcome = SILENT if how == GIVEN_UP else _cut_by(error)
        for beat in self._under_way:
            beat.ended = True
            if not beat.waited:
                took = clock() - beat.began
                self._by.tell(beat.began, Reply(outcome, took, detail=f"kept to {self._pod}"))
        reset = "reset" if outcome == CUT_OFF else str(outcome)
        self._by.listener.closed(self._by.key, self._pod, how or (reset if error else "closed"))


def _cut_by(error: OSError | None) -> Outcome:
    try:
        return outcome_of(error) if error else CUT_OFF
    except ProbeBrokenError:
        return CUT_OFF


def _first_of(received: bytes) -> tuple[bytes, bytes]:
    """Part the first reply from what follows it."""
    promised = CONTENT_LENGTH.search(received.partition(END_OF_HEAD)[0])
    if not promised:
        return received, b""
    end = received.index(END_OF_HEAD) + len(END_OF_HEAD) + int(promised[1])
    return received[:end], received[end:]
