"""The ways in which a flow is asked on a beat: each beat is an attempt of its own, late or not."""

import errno
import os
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Protocol

from e2e import timing
from e2e.errors import ProbeBrokenError
from e2e.probe.flow import Flow
from e2e.probe.outcome import CUT_OFF, FOREIGN, SILENT, Outcome, outcome_of
from e2e.probe.outside import (
    CONTENT_LENGTH,
    END_OF_HEAD,
    IDENTITY_WORD,
    KEPT_REQUEST,
    REQUEST,
    WITHOUT_LINGERING,
    family_for,
    is_cut,
    reply_of,
    waited_for,
)
from e2e.probe.pulse import Pulse, clock
from e2e.probe.reply import Reply, reply_from

LARGEST = 4096
PENDING = (0, errno.EINPROGRESS)


class Listener(Protocol):
    """Who is told what the attempts of a flow brought."""

    def ended(self, key: int, began: float, reply: Reply) -> None:
        """An attempt ended; one that is silent ends when patience does."""
        ...

    def came_late(self, key: int, began: float, reply: Reply, *, lost: bool) -> None:
        """One that was called silent was answered; `lost` if only what was sent again was."""
        ...

    def closed(self, key: int, pod: str, how: str) -> None:
        """The connection that is kept has ended, whether or not an answer was awaited."""
        ...

    def unasked(self, key: int, why: str) -> None:
        """This machine could not make an attempt, so nothing is known."""
        ...


class Asker:
    """One flow that is asked in one way.

    Attributes:
        key: what the listener knows the flow by.
        flow: who calls whom.
        patience: seconds after which an attempt is called silent.
        hears_late: whether it is listened for longer, as a late answer is no lost one.
    """

    def __init__(
        self,
        key: int,
        flow: Flow,
        pulse: Pulse,
        listener: Listener,
        *,
        patience: float = timing.SYN_AGAIN,
        hears_late: bool = True,
    ) -> None:
        self.key, self.flow, self.pulse, self.listener = key, flow, pulse, listener
        self.patience, self.hears_late = patience, hears_late
        self.address = (flow.target.address, flow.target.port)
        self.family = family_for(flow.target.address)
        self._stale: dict[int, float] = {}

    def beat(self) -> None:
        """Make an attempt."""
        try:
            self.ask()
        except OSError as error:
            self.failed(clock(), error)
        except ProbeBrokenError as error:
            self.listener.unasked(self.key, str(error))

    def ask(self) -> None:
        """Begin an attempt, and leave its end to the pulse."""
        raise NotImplementedError

    def failed(self, began: float, error: OSError, opened: float = 0.0) -> None:
        """Tell how an attempt ended that brought an error."""
        try:
            outcome = outcome_of(error)
        except ProbeBrokenError:
            said = os.strerror(error.errno) if error.errno else str(error)
            self.listener.unasked(self.key, said)
            return
        self.tell(began, Reply(outcome, clock() - began, opened=opened))

    def tell(self, began: float, reply: Reply) -> None:
        """Tell how an attempt ended."""
        self.listener.ended(self.key, began, self.flow.checked(reply))

    def tell_late(self, began: float, reply: Reply, *, lost: bool = False) -> None:
        """Tell that a silent one was answered after all."""
        self.listener.came_late(self.key, began, self.flow.checked(reply), lost=lost)

    def fresh(self, kind: socket.SocketKind) -> socket.socket:
        """Open a socket at a port from which nothing was lost lately.

        A node sends what comes from such a port to the same pod again for two minutes, though it
        be gone (nf_conntrack_tcp_timeout_syn_sent), so it would not be a new client.
        """
        while True:
            try:
                new = socket.socket(self.family, kind)
                new.setblocking(False)
            except OSError as error:
                raise ProbeBrokenError(f"no socket: {error.strerror}") from error
            if not self._stale:
                return new
            now = clock()
            self._stale = {port: until for port, until in self._stale.items() if until > now}
            try:
                new.bind(("", 0))
            except OSError as error:
                new.close()
                raise ProbeBrokenError(f"no port to call from: {error.strerror}") from error
            if new.getsockname()[1] not in self._stale:
                return new
            new.close()

    def avoid(self, used: socket.socket) -> None:
        """Do not call from this socket's port again until nodes have forgotten it."""
        self._stale[used.getsockname()[1]] = clock() + timing.NODES_FORGET_CALLER


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

    __slots__ = ("_began", "_by", "_keep", "_open", "_opened", "_received", "_request", "_waited")

    def __init__(
        self,
        by: Asker,
        request: bytes,
        keep: Callable[[socket.socket, str], bool] | None = None,
    ) -> None:
        self._by, self._request, self._keep = by, request, keep
        self._received, self._opened = b"", 0.0
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
        by.pulse.heed(new, self._connected, write=True)
        by.pulse.later(by.patience, self._impatient)

    def _connected(self) -> None:
        assert self._open is not None
        self._opened = clock() - self._began
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
        reply = None if error else reply_of(self._received, took, self._opened)
        if self._waited:
            if reply and reply.outcome != CUT_OFF:
                by.tell_late(self._began, reply, lost=bool(waited_for(used, self._opened)))
        elif reply is None:
            assert error is not None
            by.failed(self._began, error, self._opened)
        else:
            by.tell(self._began, reply)
        self._open = None
        if not (reply and reply.echo and self._keep and self._keep(used, reply.echo)):
            used.close()

    def _impatient(self) -> None:
        if self._open is None:
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


class _Beat:
    """One attempt among several that share a socket."""

    __slots__ = ("began", "ended", "waited")

    def __init__(self) -> None:
        self.began = clock()
        self.ended = self.waited = False


class _Kept:
    """A connection that is kept, and its requests that are under way, the oldest first."""

    def __init__(self, by: OneConnection, open_one: socket.socket, pod: str) -> None:
        self._by, self._open, self._pod = by, open_one, pod
        self._under_way: deque[_Beat] = deque()
        self._received = b""
        self._over = False
        by.pulse.heed(open_one, self._readable)

    def ask(self) -> None:
        beat = _Beat()
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

    def _land(self, beat: _Beat, said: bytes) -> None:
        reply = reply_of(said, clock() - beat.began)
        self._pod = reply.echo or self._pod
        beat.ended = True
        if beat.waited:
            self._by.tell_late(beat.began, reply)
        else:
            self._by.tell(beat.began, reply)

    def _impatient(self, beat: _Beat) -> None:
        if beat.ended:
            return
        beat.waited = True
        took = clock() - beat.began
        self._by.tell(beat.began, Reply(SILENT, took, detail=f"kept to {self._pod}"))
        self._by.pulse.later(timing.ATTEMPT - self._by.patience, partial(self._give_up, beat))

    def _give_up(self, beat: _Beat) -> None:
        if not beat.ended:
            self._end(None, how="given up")

    def _end(self, error: OSError | None, how: str = "") -> None:
        if self._over:
            return
        self._over = True
        self._by.pulse.forget(self._open)
        self._open.close()
        self._by.lose()
        outcome = _cut_by(error)
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


class NewSourcePorts(Asker):
    """Every attempt is a datagram from a port of its own."""

    def ask(self) -> None:
        """Send one."""
        _Datagram(self)


class _Datagram:
    """An attempt over UDP from a new port."""

    __slots__ = ("_began", "_by", "_open", "_waited")

    def __init__(self, by: Asker) -> None:
        self._by, self._waited = by, False
        new = by.fresh(socket.SOCK_DGRAM)
        self._open: socket.socket | None = new
        self._began = clock()
        try:
            new.connect(by.address)
            new.send(IDENTITY_WORD)
        except OSError:
            new.close()
            raise
        by.pulse.heed(new, self._readable)
        by.pulse.later(by.patience, self._impatient)

    def _readable(self) -> None:
        assert self._open is not None
        began, by = self._began, self._by
        try:
            said = self._open.recv(LARGEST)
        except OSError as error:
            if not self._waited:
                by.failed(began, error)
        else:
            reply = reply_from(said.decode(errors="replace"), clock() - began)
            by.tell_late(began, reply) if self._waited else by.tell(began, reply)
        self._close()

    def _impatient(self) -> None:
        if self._open is None:
            return
        self._waited = True
        self._by.avoid(self._open)
        self._by.tell(self._began, Reply(SILENT, clock() - self._began))
        if self._by.hears_late:
            self._by.pulse.later(timing.ATTEMPT - self._by.patience, self._close)
        else:
            self._close()

    def _close(self) -> None:
        if self._open is not None:
            self._by.pulse.forget(self._open)
            self._open.close()
            self._open = None


class OneSourcePort(Asker):
    """All attempts come from one port: numbered datagrams, each after a question for the name."""

    _talking: socket.socket | None = None
    _name = ""
    _number = 0

    def ask(self) -> None:
        """Send both."""
        if self._talking is None:
            self._under_way: dict[int, _Beat] = {}
            self._nameless: list[int] = []
            self._talking = self.fresh(socket.SOCK_DGRAM)
            try:
                self._talking.connect(self.address)
            except OSError:
                self._talking.close()
                self._talking = None
                raise
            self.pulse.heed(self._talking, self._readable)
        self._number += 1
        beat = self._under_way[self._number] = _Beat()
        self.pulse.later(self.patience, partial(self._impatient, self._number, beat))
        for word in (IDENTITY_WORD, b"echo %d" % self._number):
            try:
                self._talking.send(word)
            except OSError as error:
                # It speaks of an earlier datagram, unless there is no way at all.
                self._refused(error)
                try:
                    self._talking.send(word)
                except OSError as again:
                    self._refused(again)

    def _readable(self) -> None:
        assert self._talking is not None
        while True:
            try:
                said = self._talking.recv(LARGEST)
            except BlockingIOError:
                return
            except OSError as error:
                self._refused(error)
                return
            if said.isdigit() and int(said[:18]) in self._under_way:
                self._nameless.append(int(said[:18]))
            elif not said.isdigit():
                self._name = said.decode(errors="replace")
            if self._name:
                self._land()

    def _land(self) -> None:
        for number in self._nameless:
            beat = self._under_way.pop(number, None)
            if beat:
                beat.ended = True
                reply = reply_from(self._name, clock() - beat.began)
                tell = self.tell_late if beat.waited else self.tell
                tell(beat.began, reply)
        self._nameless.clear()

    def _refused(self, error: OSError) -> None:
        """Take an ICMP error as that of the last datagram that is under way."""
        number = next(reversed(self._under_way), None)
        if number is not None and not self._under_way[number].waited:
            beat = self._under_way.pop(number)
            beat.ended = True
            self.failed(beat.began, error)

    def _impatient(self, number: int, beat: _Beat) -> None:
        if beat.ended:
            return
        beat.waited = True
        reply = Reply(SILENT, clock() - beat.began)
        if number in self._nameless:
            reply = replace(reply, outcome=FOREIGN, detail="echoed, and said no name")
        self.tell(beat.began, reply)
        self.pulse.later(timing.ATTEMPT - self.patience, partial(self._forget, number))

    def _forget(self, number: int) -> None:
        self._under_way.pop(number, None)
