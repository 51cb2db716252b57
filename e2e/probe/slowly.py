"""Draws with a pause between two attempts, for what depends on how long ago a caller came last."""

import time
from collections.abc import Iterable

from e2e import timing
from e2e.errors import ProbeBrokenError
from e2e.probe.flow import Flow, look
from e2e.probe.reply import Reply
from e2e.wait import settle


def draw_slowly(
    flows: Iterable[Flow], times: int, *, pause: float, at_most: float
) -> dict[Flow, list[Reply]]:
    """Draw `times` replies from every flow, all flows at once and then a pause.

    Args:
        flows: what to draw from.
        times: how often each of them is asked.
        pause: seconds in which nobody asks.
        at_most: seconds that may pass between two attempts of a flow.

    Raises:
        ProbeBrokenError: a flow may have waited longer, so nothing is known.
    """
    every, began, gaps = list(flows), time.monotonic(), []

    def ask() -> dict[Flow, Reply]:
        nonlocal began
        now = time.monotonic()
        seen = look(every)
        gaps.append(time.monotonic() - began)
        began = now
        return seen

    looked = settle(
        ask, lambda _: True, times=times, again=pause, within=times * (pause + timing.ATTEMPT)
    )
    if (longest := max(gaps)) > at_most:
        raise ProbeBrokenError(
            f"{longest:.1f} s may have passed between two attempts, and {at_most:g} s is too much; "
            "this machine is too busy"
        )
    return {flow: [seen[flow] for seen in looked.seen] for flow in every}
