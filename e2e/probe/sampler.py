"""The continuous sampler: new connections, kept connections and UDP flows, all on a fixed beat."""

import asyncio
import os
import resource
import socket
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from math import inf
from typing import Any

from e2e import timing
from e2e.errors import ProbeBrokenError
from e2e.probe.flow import UDP, Flow
from e2e.probe.outcome import CUT_OFF, SILENT, outcome_of
from e2e.probe.outside import (
    IDENTITY_WORD,
    KEPT_REQUEST,
    REQUEST,
    Outside,
    family_for,
    is_cut,
    reply_of,
)
from e2e.probe.reply import Reply, reply_from
from e2e.wait import beats, wait_until

NEW, KEPT, DATAGRAMS, CALLS = "new connections", "one connection", "UDP", "calls"
# Beats a second. A little more than what is promised, so that a late beat does not break it.
RATES = {NEW: 110.0, KEPT: 20.0, DATAGRAMS: 20.0}
FILES = 65536
# Seconds for which another thread may keep the interpreter's lock.
SWITCH_INTERVAL = 0.0002
# As Linux knows it.
NICE = -15


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
        under_way: when each attempt began of which is not known yet how it ends.
    """

    flow: Flow
    kind: str
    samples: list[Sample] = field(default_factory=list)
    rate: float = 0.0
    under_way: dict[str, float] = field(default_factory=dict)

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
        seconds: how long it was watched; what has passed so far while it goes on.
    """

    tracks: list[Track]
    _began: float = field(default_factory=time.monotonic)
    _seconds: float | None = None

    @property
    def seconds(self) -> float:
        """How long it was watched, or has been so far."""
        return time.monotonic() - self._began if self._seconds is None else self._seconds

    def begin(self) -> None:
        """Let the clock begin."""
        self._began = time.monotonic()

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
    """
    tracks = [Track(flow, _kind(flow)) for flow in flows] + [Track(flow, KEPT) for flow in kept]
    families = len({family_for(track.flow.target.address) for track in tracks})
    for track in tracks:
        track.rate = RATES.get(track.kind, 0.0) / (families if track.kind == NEW else 1)
    watch = Watch(tracks)
    sampler = _Sampler(watch)
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


def _kind(flow: Flow) -> str:
    if not isinstance(flow.caller, Outside):
        return CALLS
    return DATAGRAMS if flow.target.protocol == UDP else NEW


class _Sampler:
    """Runs one event loop in a thread, and a thread for each flow that this process cannot call."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.broken: list[BaseException] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._guarded, args=(self._loop,), daemon=True)]
        self._threads += [
            threading.Thread(target=self._guarded, args=(self._call, track), daemon=True)
            for track in watch.tracks
            if track.kind == CALLS
        ]

    def start(self) -> None:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        files = FILES if most == resource.RLIM_INFINITY else min(FILES, most)
        # Each connection to a silent target stays open for seconds.
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))
        _prefer(NICE)
        self._patience = sys.getswitchinterval()
        # The loop asks for the interpreter's lock a thousand times a second.
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

    def _loop(self) -> None:
        asyncio.run(self._sample())

    async def _sample(self) -> None:
        ways = {NEW: self._connect, KEPT: self._keep, DATAGRAMS: self._send}
        async with asyncio.TaskGroup() as group:
            for track in self.watch.tracks:
                if track.kind in ways:
                    group.create_task(ways[track.kind](track))

    async def _connect(self, track: Track) -> None:
        async with asyncio.TaskGroup() as group:
            async for beat in beats(1 / track.rate, self._stop):
                group.create_task(self._noted(track, str(beat), self._ask_once(track)))

    async def _noted(self, track: Track, beat: str, asking: Coroutine[Any, Any, Reply]) -> None:
        at = track.under_way[beat] = self.watch.seconds
        reply = await asking
        track.add(at, reply)
        del track.under_way[beat]

    async def _ask_once(self, track: Track) -> Reply:
        loop, target = asyncio.get_running_loop(), track.flow.target
        began, received, opened = loop.time(), b"", 0.0
        try:
            with _socket(target.address, socket.SOCK_STREAM) as connection:
                async with asyncio.timeout(timing.ATTEMPT):
                    await loop.sock_connect(connection, (target.address, target.port))
                    opened = loop.time() - began
                    await loop.sock_sendall(connection, REQUEST)
                    while chunk := await loop.sock_recv(connection, 4096):
                        received += chunk
        except OSError as error:
            if is_cut(received, closed=False):
                return Reply(outcome_of(error), loop.time() - began, opened=opened)
        return reply_of(received, loop.time() - began, opened)

    async def _keep(self, track: Track) -> None:
        """Open another connection only when one has ended."""
        loop, target = asyncio.get_running_loop(), track.flow.target
        connection: socket.socket | None = None
        try:
            async for _ in beats(1 / track.rate, self._stop):
                at, began = self.watch.seconds, loop.time()
                received = b""
                try:
                    async with asyncio.timeout(timing.ATTEMPT):
                        if connection is None:
                            connection = _socket(target.address, socket.SOCK_STREAM)
                            await loop.sock_connect(connection, (target.address, target.port))
                        await loop.sock_sendall(connection, KEPT_REQUEST)
                        while is_cut(received, closed=False):
                            chunk = await loop.sock_recv(connection, 4096)
                            if not chunk:
                                break
                            received += chunk
                    reply = reply_of(received, loop.time() - began)
                except OSError as error:
                    reply = Reply(outcome_of(error), loop.time() - began)
                track.add(at, reply)
                if reply.outcome in (CUT_OFF, SILENT) or reply.echo is None:
                    if connection:
                        connection.close()
                    connection = None
        finally:
            if connection:
                connection.close()

    async def _send(self, track: Track) -> None:
        """Number the datagrams, so that each one's answer is known, and ask for the name too."""
        loop, target = asyncio.get_running_loop(), track.flow.target
        flight = _Flight(track, lambda: self.watch.seconds)
        with _socket(target.address, socket.SOCK_DGRAM) as talking:
            talking.connect((target.address, target.port))
            listening = loop.create_task(flight.listen(talking))
            try:
                async for beat in beats(1 / track.rate, self._stop):
                    # An error is that of an earlier datagram.
                    for word in (IDENTITY_WORD, f"echo {beat}".encode()):
                        try:
                            talking.send(word)
                        except OSError as error:
                            flight.refused(error)
                            with suppress(OSError):
                                talking.send(word)
                    flight.under_way[str(beat)] = self.watch.seconds
                    flight.give_up(begun_before=self.watch.seconds - timing.ATTEMPT)
                with suppress(TimeoutError):
                    async with asyncio.timeout(timing.ATTEMPT):
                        await flight.landed()
            finally:
                listening.cancel()
                # The loop would take another socket of the same number for the one that is closed.
                await asyncio.wait([listening])
        flight.give_up()


class _Flight:
    """The datagrams of a track that are under way."""

    def __init__(self, track: Track, now: Callable[[], float]) -> None:
        self.track = track
        self._now = now
        self.under_way = track.under_way
        self._name = b""
        self._changed = asyncio.Event()

    async def listen(self, talking: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                said = await loop.sock_recv(talking, 4096)
            except OSError as error:
                self.refused(error)
                continue
            if not said.isdigit():
                self._name = said
            elif said.decode() in self.under_way and self._name:
                took = self._now() - self.under_way[said.decode()]
                self._land(said.decode(), reply_from(self._name.decode(errors="replace"), took))

    def refused(self, error: OSError) -> None:
        """Take an ICMP error as that of the last datagram."""
        outcome = outcome_of(error)
        if self.under_way:
            self._land(list(self.under_way)[-1], Reply(outcome))

    def _land(self, beat: str, reply: Reply) -> None:
        self.track.add(self.under_way[beat], reply)
        del self.under_way[beat]
        self._changed.set()

    async def landed(self) -> None:
        while self.under_way:
            self._changed.clear()
            await self._changed.wait()

    def give_up(self, begun_before: float = inf) -> None:
        for beat in [beat for beat, at in self.under_way.items() if at < begun_before]:
            self._land(beat, Reply(SILENT))


def _prefer(niceness: int) -> None:
    """Let a busy machine make others wait, and not the beat; only root may.

    All threads of the process, as one that waits for its turn may hold the interpreter's lock.
    """
    with suppress(OSError):
        for thread in os.listdir("/proc/self/task"):  # noqa: PTH208  # no files of anybody
            os.setpriority(os.PRIO_PROCESS, int(thread), niceness)


def _socket(address: str, kind: socket.SocketKind) -> socket.socket:
    try:
        new = socket.socket(family_for(address), kind)
    except OSError as error:
        raise ProbeBrokenError(f"no socket to call from: {error}") from error
    new.setblocking(False)
    return new
