"""Draws with a pause between two attempts, for what depends on how long ago a caller came last."""

import time
from collections.abc import Iterable, Sequence

from e2e.errors import BusyError
from e2e.probe.flow import Flow, look
from e2e.probe.reply import Reply
from e2e.wait import settle

DRAWS = 3


def draw_slowly(
    flows: Iterable[Flow], times: int, *, pause: float, at_most: float
) -> dict[Flow, list[Reply]]:
    """Draw `times` replies from every flow, all flows at once and then a pause.

    What took too long is thrown away, unseen, and drawn again, twice at most.

    Args:
        flows: what to draw from.
        times: how often each of them is asked.
        pause: seconds in which nobody asks.
        at_most: seconds that may pass between two attempts of a flow.

    Raises:
        BusyError: a flow may have waited longer, so nothing is known.
    """
    every = list(flows)
    for _ in range(DRAWS):
        seen, longest = _draw(every, times, pause, within=times * at_most)
        if longest <= at_most:
            return {flow: [each[flow] for each in seen] for flow in every}
    raise BusyError(
        f"{longest:.1f} s may have passed between two attempts, and {at_most:g} s is too much; "
        f"so it was {DRAWS} times"
    )


def _draw(
    every: Sequence[Flow], times: int, pause: float, *, within: float
) -> tuple[list[dict[Flow, Reply]], float]:
    """What each look saw, and the longest time that a flow may have waited between two."""
    began, gaps = time.monotonic(), []

    def ask() -> dict[Flow, Reply]:
        nonlocal began
        now = time.monotonic()
        seen = look(every)
        gaps.append(time.monotonic() - began)
        began = now
        return seen

    looked = settle(ask, lambda _: True, times=times, again=pause, within=within)
    return looked.seen, max(gaps) if looked.settled else within
