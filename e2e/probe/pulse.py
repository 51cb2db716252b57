"""A loop that never waits for one socket alone: beats on time, and its own lateness is known."""

import resource
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from selectors import EVENT_READ, EVENT_WRITE
from typing import Protocol, Self

from e2e.errors import ProbeBrokenError

Do = Callable[[], None]

# Files that a process may open, where the system lets it.
FILES = 65536

_SUSPEND_COUNTS = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def clock() -> float:
    """Seconds of a clock that never jumps, is the same in every process, and counts suspension."""
    return time.clock_gettime(_SUSPEND_COUNTS)


def allow_many_sockets() -> None:
    """Let this process open as many as it may: each to a silent target stays open for seconds."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = FILES if most == resource.RLIM_INFINITY else min(FILES, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))


class Beaten(Protocol):
    """Who does something on every beat."""

    def beat(self) -> None:
        """Do it now, and do not wait for anything."""
        ...


class Pulse:
    """Calls everybody once a beat, and those whose sockets are ready or whose time is over.

    Everybody has a place of their own within the beat, so that the work is spread evenly.
    A beat that comes too late is left out: the loop was held (a starved or stopped process, a
    suspended machine), nobody was asked meanwhile, and the time does not count for anybody's
    patience.

    Attributes:
        every: seconds from one beat to the next.
        missed: is told of each stretch in which the loop was held, by its two ends.
        late: seconds by which a beat may be late, and all that were missed are made up for.
    """

    def __init__(
        self,
        every: float,
        missed: Callable[[float, float], None] = lambda _, __: None,
        late: float | None = None,
    ) -> None:
        """Prepare; a beat may be late by a whole one if `late` does not say otherwise.

        Raises:
            ProbeBrokenError: this process may open no more files.
        """
        self.every = every
        self.missed = missed
        self.late = every if late is None else late
        try:
            self._selector = selectors.DefaultSelector()
        except OSError as error:
            raise ProbeBrokenError(f"nothing to wait with: {error.strerror}") from error
        self._held = 0.0
        # By how long they wait, so that each queue is in the order in which time is over.
        self._later: dict[float, deque[tuple[float, Do]]] = {}

    def heed(self, ready: socket.socket, do: Do, *, write: bool = False) -> None:
        """Call `do` whenever there is something to read, or when it can be written to."""
        self._selector.register(ready, EVENT_WRITE if write else EVENT_READ, do)

    def heed_reply(self, ready: socket.socket, do: Do) -> None:
        """From now on call `do` when there is something to read."""
        self._selector.modify(ready, EVENT_READ, do)

    def forget(self, ready: socket.socket) -> None:
        """Call nobody any more for this socket."""
        self._selector.unregister(ready)

    def later(self, seconds: float, do: Do) -> None:
        """Call `do` after so many seconds in which the loop was not held."""
        due = clock() - self._held + seconds
        self._later.setdefault(seconds, deque()).append((due, do))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close what is still heeded."""
        for key in tuple(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]  # all of them are sockets
        self._selector.close()

    def hear(self) -> None:
        """Wait for the first socket that is ready, or the first whose time is over."""
        due = min((queue[0][0] for queue in self._later.values() if queue), default=0.0)
        self._ready(due - (clock() - self._held))
        self._expire()

    def run(
        self,
        everybody: Sequence[Beaten],
        over: Callable[[], bool],
        *,
        drain: float,
        idle: Callable[[], bool] = lambda: False,
        began: float | None = None,
    ) -> None:
        """Beat until it is over, then only hear what is still under way.

        Args:
            everybody: who has a turn within each beat, in this order.
            over: whether it is.
            drain: seconds for which to hear at most.
            idle: whether nothing is under way any more.
            began: the moment of the first beat, as `clock` has it; now if it is not given.
        """
        step = self.every / max(len(everybody), 1)
        first, turn = clock() if began is None else began, 0
        ends = False
        while not ends:
            due = first + turn * step
            self._ready(due - clock() if everybody else self.every)
            # What is due by then is still asked, or short watches would lack what came late.
            ends = over()
            now = clock()
            if everybody and now - due > self.late:
                self._held += now - due
                self.missed(due, now)
                turn += int((now - due) / step)
            while everybody and first + turn * step <= now:
                everybody[turn % len(everybody)].beat()
                turn += 1
            self._expire()
        end = clock() + drain
        while (now := clock()) < end and not idle():
            self._ready(min(end - now, self.every))
            self._expire()

    def _ready(self, wait: float) -> None:
        for key, _ in self._selector.select(max(wait, 0.0)):
            key.data()

    def _expire(self) -> None:
        now = clock() - self._held
        for queue in tuple(self._later.values()):
            while queue and queue[0][0] <= now:
                queue.popleft()[1]()
