"""When a change reaches each flow."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from e2e import timing
from e2e.probe.flow import Flow
from e2e.probe.reply import Reply
from e2e.wait import settle


def arrivals(
    since: Mapping[Flow, float], is_right: Callable[[Flow, Reply], bool], *, within: float
) -> dict[Flow, float]:
    """Ask each flow again and again until it brings the right reply for the first time.

    Flows to different targets are asked at the same time, those to one address one after another.

    Args:
        since: when the change was asked for, by `time.monotonic`.
        is_right: whether a reply is the one that the change has to bring.
        within: seconds, after which it is given up.

    Returns:
        how many seconds later that was; a flow that was given up is missing.
    """
    by_address: dict[str, list[Flow]] = {}
    for flow in since:
        by_address.setdefault(flow.target.address, []).append(flow)
    came: dict[Flow, float] = {}

    def ask(waiting: list[Flow]) -> None:
        def look() -> int:
            for flow in list(waiting):
                if is_right(flow, flow.draw(1)[0]):
                    came[flow] = time.monotonic() - since[flow]
                    waiting.remove(flow)
            return len(waiting)

        settle(look, lambda left: not left, within=within, times=1, every=timing.ASK_FOR_ARRIVAL)

    with ThreadPoolExecutor(len(by_address) or 1) as pool:
        list(pool.map(ask, by_address.values()))
    return came
