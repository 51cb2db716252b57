"""New connections a second from this process; run as a process of its own, so that CPU is its own.

python -m e2e.bench.rate WAY ADDRESS PORT SECONDS
"""

import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from e2e.probe import ANSWERED, Flow, Outside, Reply, Target, sampler
from e2e.wait import wait_until

# Few enough to end soon after time is up, and enough that the pauses between do not show.
AT_A_TIME = 200
# The sampler connects on a beat, so beats are tried, from what it promises up, until it falls
# behind: it brings less than nearly all connections of the beat.
FIRST_BEAT, FASTER, KEPT_UP = 100.0, 1.3, 0.9
# Something else that runs for a moment must not end it.
TRIES = 3
# Each beat gets this part of the time; about a dozen are tried.
BEATS = 4


@dataclass(frozen=True)
class Rate:
    """What a caller did.

    Attributes:
        connections: how many were made, each answered.
        seconds: how long that took.
        cpu: seconds of processor time that the caller itself used.
    """

    connections: int
    seconds: float
    cpu: float

    @property
    def per_second(self) -> float:
        """New connections a second."""
        return self.connections / self.seconds

    @property
    def cpu_each(self) -> float:
        """Microseconds of processor time for each connection."""
        return self.cpu / self.connections * 1e6


# A way gets an address, a port and how many seconds to take at most.
Measure = Callable[[str, int, float], Rate]


@dataclass(frozen=True)
class Way:
    """A way in which this project makes connections.

    Attributes:
        measure: makes connections to an address and a port for about so many seconds.
        beside: how many connections the native caller that stands beside it has at once.
        what: what it is, for a reader.
    """

    measure: Measure
    beside: int
    what: str


def timed(call: Callable[[], Sequence[Reply]]) -> Rate:
    """Measure a call that makes connections.

    Raises:
        ValueError: one was not answered, so the rate would mean nothing.
    """
    began, before = time.monotonic(), _cpu()
    replies = call()
    took, cpu = time.monotonic() - began, _cpu() - before
    if unlike := [reply for reply in replies if reply.outcome != ANSWERED]:
        raise ValueError(f"{len(unlike)} of {len(replies)} connections, such as: {unlike[0]}")
    return Rate(len(replies), took, cpu)


def draw(address: str, port: int, seconds: float) -> Rate:
    """Draw as clauses do that count answers."""
    outside, end = Outside(), time.monotonic() + seconds

    def replies() -> list[Reply]:
        found: list[Reply] = []
        while time.monotonic() < end:
            found += outside.draw(address, port, AT_A_TIME)
        return found

    return timed(replies)


def sample(address: str, port: int, seconds: float) -> Rate:
    """Sample as clauses do that watch a change, on the fastest beat that is kept."""
    return fastest(lambda beat: watched(address, port, beat, seconds / BEATS))


def watched(address: str, port: int, beat: float, seconds: float) -> Rate:
    """Sample on one beat, that is, so many connections a second."""
    # This process is nobody else's, so its sampler may have another beat.
    sampler.RATES[sampler.NEW] = beat
    flow = Flow(Outside(), Target("node", address, port, Anybody()))

    def replies() -> list[Reply]:
        with sampler.watching([flow]) as watch:
            wait_until(
                lambda: watch.seconds >= seconds,
                what="the end of a beat",
                within=2 * seconds,
                every=seconds / 50,
            )
        return [each.reply for track in watch.tracks for each in track.samples]

    return timed(replies)


def fastest(on_beat: Callable[[float], Rate]) -> Rate:
    """Try faster and faster beats until one is not kept; gives the best that was seen."""
    beat, seen = FIRST_BEAT, [on_beat(FIRST_BEAT)]  # which fails if nobody answers at all
    while any(_on_beat(on_beat, beat, seen) for _ in range(TRIES)):
        beat *= FASTER
    return max(seen, key=lambda found: found.per_second)


def _on_beat(on_beat: Callable[[float], Rate], beat: float, seen: list[Rate]) -> bool:
    """Whether a beat is kept; what was seen on it is added."""
    try:
        seen.append(on_beat(beat))
    except ValueError:  # calls that waited too long to be made went unanswered
        return False
    return seen[-1].per_second >= KEPT_UP * beat


class Anybody:
    """All pods there are, as only our own listen."""

    def owns(self, echo: str) -> bool:
        """Whether it may answer."""
        return bool(echo)

    def whereabouts(self, echo: str) -> str:
        """Nothing, as it is not known."""
        del echo
        return ""


WAYS = {
    "draw": Way(draw, 1, "`Outside.draw`, one after another, each answer read and checked"),
    "sampler": Way(sample, 8, "`e2e.probe.sampler`, the fastest beat that it keeps"),
}


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    way, address, port, seconds = sys.argv[1:]
    try:
        found = WAYS[way].measure(address, int(port), float(seconds))
    except ValueError as error:
        sys.exit(f"not every connection was answered: {error}")
    print(json.dumps(asdict(found)))  # noqa: T201
