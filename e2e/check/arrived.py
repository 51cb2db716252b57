"""When did each of hundreds of flows begin to be served?"""

import time
from collections.abc import Callable, Collection, Mapping

from e2e import timing
from e2e.check import journal
from e2e.check.latency import describe
from e2e.check.wrong import Wrong, WrongFlowsError
from e2e.probe import Flow, look
from e2e.wait import settle

Place = tuple[str, int]
"""An address and a port."""
NAMED_AT_MOST = 10


class MissingError(WrongFlowsError):
    """Some flows were never served; the message names them."""


def assert_all_arrive(
    expected: Callable[[], Mapping[Flow, float]],
    count: int,
    *,
    scan: Callable[[Collection[Place]], set[Place]],
    within: float = timing.MANY_SERVED_WITHIN,
) -> list[float]:
    """Every one of so many flows opens a connection; gives the seconds that each took, sorted.

    Args:
        expected: tells the flows that there are so far, and since when each is expected.
        count: how many there will be.
        scan: tells which of some addresses and ports take a connection.
        within: seconds for all of it.

    Raises:
        MissingError: some never did.
        ValueError: none is expected.
    """
    if not count:
        raise ValueError("no flow is expected, so there is nothing to judge")
    took: dict[Flow, float] = {}
    missing: dict[Place, tuple[Flow, float]] = {}

    def count_open() -> int:
        for flow, since in expected().items():
            if flow not in took:
                missing[flow.target.address, flow.target.port] = flow, since
        opened = scan(list(missing))
        now = time.monotonic()
        for place in opened:
            flow, since = missing.pop(place)
            took[flow] = now - since
        return len(took)

    looked = settle(count_open, lambda seen: seen == count, within=within, times=1)
    if not looked.settled:
        head = f"{count - len(took)} of {count} flows were not served within {looked.within:g} s"
        now = look([flow for flow, _ in missing.values()][:NAMED_AT_MOST])
        lines = [f"x {flow}: want an open port, saw {reply}" for flow, reply in now.items()]
        wrong = [Wrong.of(flow, [reply]) for flow, reply in now.items()]
        raise MissingError("\n".join([head, *lines]), wrong)
    times = sorted(took.values())
    journal.measured(f"from creation to the first connection: {describe(times)}")
    return times
