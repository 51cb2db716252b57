"""A flow that is asked on a beat: each is an attempt of its own, whatever became of the last."""

import os
import socket
from collections.abc import Callable
from typing import Protocol

from e2e import timing
from e2e.errors import ProbeBrokenError
from e2e.probe.outcome import outcome_of
from e2e.probe.pulse import Pulse, clock
from e2e.probe.reply import Reply
from e2e.probe.wire import family_for

# Of a reply, so much at once.
LARGEST = 4096
# Ports from which something was lost, and until when each is avoided.
Stale = dict[int, float]


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
    """An address and port that is asked in one way.

    Attributes:
        key: what the listener knows it by.
        address: the address and the port.
        patience: seconds after which an attempt is called silent.
        for_reply: seconds more for the answer, where a connection has opened.
        hears_late: whether it is listened for longer, as a late answer is no lost one.
    """

    def __init__(
        self,
        key: int,
        address: tuple[str, int],
        pulse: Pulse,
        listener: Listener,
        *,
        patience: float = timing.SYN_AGAIN,
        for_reply: float = 0.0,
        hears_late: bool = True,
        stale: Stale | None = None,
        checked: Callable[[Reply], Reply] = lambda reply: reply,
    ) -> None:
        """Ask on the beats of a pulse, and tell the listener.

        Args:
            key: what the listener knows it by.
            address: the address and the port.
            pulse: calls `beat`.
            listener: who is told.
            patience: seconds after which an attempt is called silent.
            for_reply: seconds more for the answer, where a connection has opened.
            hears_late: whether it is listened for longer.
            stale: ports that are avoided already; those that come to be are added.
            checked: whose answer it is.
        """
        self.key, self.address, self.pulse, self.listener = key, address, pulse, listener
        self.patience, self.for_reply, self.hears_late = patience, for_reply, hears_late
        self.family = family_for(address[0])
        self._stale = {} if stale is None else stale
        self._checked = checked
        self._beside, self._was_beside = 0, False

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
        self.listener.ended(self.key, began, self._checked(reply))

    def tell_late(self, began: float, reply: Reply, *, lost: bool = False) -> None:
        """Tell that a silent one was answered after all."""
        self.listener.came_late(self.key, began, self._checked(reply), lost=lost)

    def fresh(self, kind: socket.SocketKind) -> socket.socket:
        """Open a socket at a port from which nothing was lost lately.

        A node sends what comes from such a port to the same pod again for two minutes, though it
        be gone (nf_conntrack_tcp_timeout_syn_sent), so it would not be a new client.
        """
        beside, self._beside = 0 if self._stale else self._beside, 0
        while True:
            try:
                new = socket.socket(self.family, kind)
                new.setblocking(False)
            except OSError as error:
                raise ProbeBrokenError(f"no socket: {error.strerror}") from error
            if not self._stale and not beside:
                return new
            try:
                new.bind(("", beside))
            except OSError as error:
                new.close()
                if not beside:
                    raise ProbeBrokenError(f"no port to call from: {error.strerror}") from error
                beside = 0
                continue
            if self._stale.get(new.getsockname()[1], 0.0) < clock():
                self._was_beside = beside > 0
                return new
            new.close()

    def called_from(self, used: socket.socket) -> None:
        """Let every second connection come from the port beside that of the one before.

        By themselves they take every other port alone, as long as there are any, and what goes by
        ports would not be noticed (inet_csk_find_open_port).
        """
        was_beside, self._was_beside = self._was_beside, False
        self._beside = 0 if was_beside else used.getsockname()[1] ^ 1

    def avoid(self, used: socket.socket) -> None:
        """Do not call from this socket's port again until nodes have forgotten it."""
        self._stale[used.getsockname()[1]] = clock() + timing.NODES_FORGET_CALLER


class Beat:
    """One attempt among several that share a socket.

    Attributes:
        began: when.
        ended: whether it was told how it ended, but for silence.
        waited: whether patience is over.
        repeated: how often its connection had sent something again before.
    """

    __slots__ = ("began", "ended", "repeated", "waited")

    def __init__(self) -> None:
        self.began, self.repeated = clock(), 0
        self.ended = self.waited = False
