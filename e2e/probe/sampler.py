"""The continuous sampler: new connections, kept connections and UDP flows, all on a fixed beat."""

import os
import socket
import sys
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from e2e import timing
from e2e.errors import ProbeBrokenError
from e2e.probe.asking import Asker
from e2e.probe.connections import GIVEN_UP, NewConnections, OneConnection
from e2e.probe.datagrams import OneSourcePort
from e2e.probe.flow import UDP, Flow
from e2e.probe.outcome import CUT_OFF
from e2e.probe.outside import OUTSIDE, Outside, own_caller
from e2e.probe.pulse import Beaten, Pulse, allow_many_sockets, clock
from e2e.probe.reply import Reply
from e2e.probe.wire import family_for
from e2e.wait import WaitedInVainError, wait_until

NEW, KEPT, DATAGRAMS, CALLS = "new connections", "one connection", "UDP", "calls"
# Beats a second. A little more than what is promised, so that a late beat does not break it.
RATES = {NEW: 110.0, KEPT: 20.0, DATAGRAMS: 20.0}
WAYS: dict[str, type[Asker]] = {
    NEW: NewConnections,
    KEPT: OneConnection,
    DATAGRAMS: OneSourcePort,
}
# Seconds of one round, in which everybody is asked as often as the rates want.
ROUND = 0.5
# Seconds for which another thread may keep the interpreter's lock.
SWITCH_INTERVAL = 0.0002
# As Linux knows it.
NICE = -15
# So many watches at once leave a machine that nodes share with them the time to serve them: one of
# three nodes takes a third of a core here, and as much on the nodes.
AT_ONCE = (os.cpu_count() or 1) + 1
# A name that goes with the process that has it, and is no file.
PLACE = "\0nodeport-e2e-watch-{}"


@dataclass(frozen=True)
class Sample:
    """One attempt of a track.

    Attributes:
        at: seconds from the beginning of the watch to its start.
        reply: how it ended.
    """

    at: float
    reply: Reply


@dataclass(eq=False)
class Track:
    """What one flow brought in one way of asking while it was watched.

    Attributes:
        flow: who called whom.
        kind: the way: new connections, one connection that is kept, UDP from one source port, or
            calls from a vantage that is not this process.
        samples: every attempt, by the time at which it began.
        rate: beats a second that are wanted; none where it is as often as the vantage can.
        under_way: when each attempt began of which is not known yet how it ends, in order.
    """

    flow: Flow
    kind: str
    samples: list[Sample] = field(default_factory=list)
    rate: float = 0.0
    under_way: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.flow} ({self.kind})"

    def add(self, at: float, reply: Reply) -> None:
        """Note an attempt."""
        self.samples.append(Sample(at, self.flow.checked(reply)))


@dataclass(eq=False)
class Watch:
    """What was seen of some flows between two moments.

    Attributes:
        tracks: one for each flow and way of asking.
        began: the moment of `clock` at which it began.
        seconds: how long it was watched; what has passed so far while it goes on.
    """

    tracks: list[Track]
    began: float = field(default_factory=clock)
    _seconds: float | None = None

    @property
    def seconds(self) -> float:
        """How long it was watched, or has been so far."""
        return self.second_of(clock()) if self._seconds is None else self._seconds

    def second_of(self, moment: float) -> float:
        """The second of the watch at a moment of `clock`."""
        return moment - self.began

    def begin(self) -> None:
        """Let the clock begin."""
        self.began = clock()

    def await_attempts(self, count: int) -> None:
        """Go on until so many attempts have been made, all tracks together."""
        wait_until(
            lambda: sum(len(track.samples) for track in self.tracks) >= count,
            what=f"{count} attempts of a watch",
            within=timing.ATTEMPTS_WITHIN,
        )

    def end(self) -> None:
        """Stop the clock."""
        self._seconds = self.seconds


@contextmanager
def watching(flows: Iterable[Flow], *, kept: Iterable[Flow] = ()) -> Iterator[Watch]:
    """Ask all flows again and again for as long as the context lasts, and keep every reply.

    From outside each node gets 110 new connections a second, shared by the IP families over which
    it is called, and each UDP flow 20 datagrams a second from one source port. A flow from any
    other vantage is called as often as that vantage can. What is under way at the end is awaited.

    Args:
        flows: what to ask.
        kept: flows that are asked 20 times a second over one connection that is never closed; if
            it ends, another one is opened.

    Raises:
        ProbeBrokenError: an attempt itself went wrong, so it says nothing about the cluster.
        TypeError: a caller that is not this process has to keep a connection or a source port, or
            stands outside, from where the rate is promised.
    """
    tracks = [Track(flow, _kind(flow)) for flow in flows] + [Track(flow, KEPT) for flow in kept]
    for track in tracks:
        # Be it this process or a container that stands in for it.
        is_outside = track.flow.caller.name == OUTSIDE
        if is_outside or track.kind == KEPT or track.flow.target.protocol == UDP:
            own_caller(track.flow)
    families = len({family_for(track.flow.target.address) for track in tracks})
    for track in tracks:
        wanted = RATES.get(track.kind, 0.0) / (families if track.kind == NEW else 1)
        track.rate = round(wanted * ROUND) / ROUND
    watch = Watch(tracks)
    sampler = _Sampler(watch)
    with _a_place():
        sampler.start()
        try:
            wait_until(
                lambda: sampler.broken or all(track.samples for track in tracks),
                what="the sampler's first replies",
                within=timing.SAMPLER_START_WITHIN,
            )
            yield watch
        finally:
            sampler.stop()
    if sampler.broken:
        raise ProbeBrokenError(f"the sampler went wrong: {sampler.broken[0]!r}")


@contextmanager
def _a_place() -> Iterator[None]:
    """Be one of so many that watch at once on this machine, over all processes.

    Who ends, however that is, frees its place, and who waits for too long goes without.
    """
    place = None
    if sys.platform == "linux":
        with suppress(WaitedInVainError):
            place = wait_until(
                _take_place, what="a place among those that watch", within=timing.PLACE_WITHIN
            )
    try:
        yield
    finally:
        if place:
            place.close()


def _take_place() -> socket.socket | None:
    for number in range(AT_ONCE):
        place = socket.socket(socket.AF_UNIX)
        try:
            place.bind(PLACE.format(number))
        except OSError:
            place.close()
        else:
            return place
    return None


def _kind(flow: Flow) -> str:
    if not isinstance(flow.caller, Outside):
        return CALLS
    return DATAGRAMS if flow.target.protocol == UDP else NEW


class _Sampler:
    """Runs one pulse in a thread, and a thread for each flow that this process cannot call."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.broken: list[BaseException] = []
        self._stop = threading.Event()
        here = [track for track in watch.tracks if track.kind in WAYS]
        work: list[tuple[Callable[..., None], Any]] = [(self._beat, here)] if here else []
        work += [(self._call, track) for track in watch.tracks if track.kind == CALLS]
        self._threads = [
            threading.Thread(target=self._guarded, args=each, daemon=True) for each in work
        ]

    def start(self) -> None:
        allow_many_sockets()
        _prefer(NICE)
        self._patience = sys.getswitchinterval()
        # The pulse asks for the interpreter's lock a thousand times a second.
        sys.setswitchinterval(SWITCH_INTERVAL)
        self.watch.begin()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self.watch.end()
        self._stop.set()
        for thread in self._threads:
            thread.join()
        sys.setswitchinterval(self._patience)
        _prefer(0)
        for track in self.watch.tracks:
            track.samples.sort(key=lambda sample: sample.at)

    def _guarded(self, work: Any, *args: Any) -> None:
        try:
            work(*args)
        except BaseException as error:  # noqa: BLE001  # told to who watches, in its own thread
            self.broken.append(error)

    def _call(self, track: Track) -> None:
        while not self._stop.is_set():
            at = self.watch.seconds
            for reply in track.flow.draw(timing.CALLS_AT_ONCE):
                track.add(at, reply)

    def _beat(self, tracks: Sequence[Track]) -> None:
        heard = _Heard(self.watch, tracks, self.broken)
        with Pulse(ROUND, late=timing.BLIND_FOR_AT_MOST) as pulse:
            turns = [
                (_Turn(heard, key, _asker(key, track, pulse, heard)), round(track.rate * ROUND))
                for key, track in enumerate(tracks)
            ]
            pulse.run(
                _spread(turns),
                lambda: self._stop.is_set() or bool(self.broken),
                drain=timing.ATTEMPT + timing.REPLY,
                idle=lambda: not any(track.under_way for track in tracks),
                began=self.watch.began,
            )


def _asker(key: int, track: Track, pulse: Pulse, heard: "_Heard") -> Asker:
    address = track.flow.target.address, track.flow.target.port
    return WAYS[track.kind](
        *(key, address, pulse, heard),
        patience=timing.ATTEMPT if track.kind == NEW else timing.ATTEMPT + timing.REPLY,
        for_reply=timing.REPLY,
        hears_late=False,
        # Whoever calls there after the watch must be no caller whom it lost.
        stale=own_caller(track.flow).stale_towards(*address),
    )


def _spread(turns: Iterable[tuple[Beaten, int]]) -> Sequence[Beaten]:
    """Everybody as often as it has turns in a round, each at even distances."""
    places = [((n + 0.5) / count, who) for who, count in turns for n in range(count)]
    return [who for _, who in sorted(places, key=lambda place: place[0])]


class _Turn:
    """Notes that an attempt begins, and makes it."""

    def __init__(self, heard: "_Heard", key: int, asker: Asker) -> None:
        self._heard, self._key, self._asker = heard, key, asker

    def beat(self) -> None:
        self._heard.begins(self._key)
        self._asker.beat()


class _Heard:
    """Writes down what the askers of a watch bring."""

    def __init__(self, watch: Watch, tracks: Sequence[Track], broken: list[BaseException]) -> None:
        self._watch, self._tracks, self._broken = watch, tracks, broken

    def begins(self, key: int) -> None:
        self._tracks[key].under_way.append(self._watch.second_of(clock()))

    def ended(self, key: int, began: float, reply: Reply) -> None:
        track, at = self._tracks[key], self._watch.second_of(began)
        track.add(at, reply)
        # It was noted just before it began.
        if place := bisect_right(track.under_way, at):
            del track.under_way[place - 1]

    def closed(self, key: int, pod: str, how: str) -> None:
        # One that is given up was silent before, and all its attempts say so.
        if how != GIVEN_UP:
            track = self._tracks[key]
            track.samples.append(
                Sample(self._watch.second_of(clock()), Reply(CUT_OFF, detail=f"kept to {pod}"))
            )

    def came_late(self, key: int, began: float, reply: Reply, *, lost: bool) -> None:
        """Never called, as nobody listens for longer than it takes to be called silent."""

    def unasked(self, key: int, why: str) -> None:
        self._broken.append(ProbeBrokenError(f"{self._tracks[key].flow}: {why}"))


def _prefer(niceness: int) -> None:
    """Let a busy machine make others wait, and not the beat; only root may.

    All threads of the process, as one that waits for its turn may hold the interpreter's lock.
    """
    with suppress(OSError):
        for thread in os.listdir("/proc/self/task"):  # noqa: PTH208  # no files of anybody
            os.setpriority(os.PRIO_PROCESS, int(thread), niceness)
