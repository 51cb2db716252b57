"""New connections a second from this process; run as a process of its own, so that CPU is its own.

python -m e2e.bench.rate WAY ADDRESS PORT SECONDS
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from e2e.probe import ANSWERED, Outside, Reply

# Few enough to end soon after time is up, and enough that the pauses between do not show.
AT_A_TIME = 200


@dataclass(frozen=True)
class Way:
    """A way in which this project makes connections.

    Attributes:
        call: makes connections to an address and a port for some seconds; gives the replies.
        at_once: how many connections it has open at the same time.
        what: what it is, for a reader.
    """

    call: Callable[[str, int, float], list[Reply]]
    at_once: int
    what: str


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


def draw(address: str, port: int, seconds: float) -> list[Reply]:
    """Draw as clauses do that count answers: one connection after another."""
    outside, replies, end = Outside(), list[Reply](), time.monotonic() + seconds
    while time.monotonic() < end:
        replies += outside.draw(address, port, AT_A_TIME)
    return replies


WAYS = {"draw": Way(draw, 1, "`Outside.draw`, one thread of Python, each answer read and checked")}


def rate(way: Way, address: str, port: int, seconds: float) -> Rate:
    """Measure one way.

    Raises:
        ValueError: a connection was not answered, so the rate would mean nothing.
    """
    began, before = time.monotonic(), _cpu()
    replies = way.call(address, port, seconds)
    took, cpu = time.monotonic() - began, _cpu() - before
    if unlike := [reply for reply in replies if reply.outcome != ANSWERED]:
        raise ValueError(f"{len(unlike)} of {len(replies)} connections, such as: {unlike[0]}")
    return Rate(len(replies), took, cpu)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    way, address, port, seconds = sys.argv[1:]
    print(json.dumps(asdict(rate(WAYS[way], address, int(port), float(seconds)))))  # noqa: T201
