"""How long a change takes to reach the traffic, on every node."""

from collections.abc import Mapping, Sequence
from math import ceil

from e2e import timing
from e2e.check.journal import measured
from e2e.check.table import NotSettledError, Table, as_want
from e2e.check.wrong import Wrong
from e2e.probe import ANSWERED, Flow, arrivals, draw


def assert_reaches(table: Table, *, since: Mapping[Flow, float], what: str) -> None:
    """Every flow comes to be right, and how long each node takes at most and mostly is recorded.

    Args:
        table: what the change brings each flow to.
        since: when the change was asked for.
        what: the change, for the record.

    Raises:
        NotSettledError: some flows did not become right in time; names them.
        ValueError: there is nothing to look at.
    """
    if not table:
        raise ValueError("there is no flow, so nothing can be reached")
    wants = {flow: as_want(want) for flow, want in table.items()}
    came = arrivals(
        {flow: since[flow] for flow in wants},
        lambda flow, reply: wants[flow].allows(reply),
        within=timing.SETTLE_WITHIN,
    )
    by_place: dict[str, list[float]] = {}
    for flow, took in came.items():
        by_place.setdefault(flow.target.name, []).append(took)
    for place, times in sorted(by_place.items()):
        measured(f"{what}, {place}: {describe(times)}")
    if late := [flow for flow in wants if flow not in came]:
        head = f"not reached in {timing.SETTLE_WITHIN:g} s: {len(late)} of {len(wants)} flows"
        now = draw(late, 1)
        lines = [f"x {flow}: want {wants[flow]}, saw {seen[0]}" for flow, seen in now.items()]
        wrong = [
            Wrong.of(flow, seen, wants_answer=ANSWERED in wants[flow].outcomes)
            for flow, seen in now.items()
        ]
        raise NotSettledError("\n".join([head, *lines]), wrong)


def describe(times: Sequence[float]) -> str:
    """Percentiles of some times; each is a time that was measured, so none is made up."""
    ranked = sorted(times)
    p50, p95 = (ranked[ceil(len(ranked) * part) - 1] for part in (0.5, 0.95))
    return f"p50 {p50:.2f} s, p95 {p95:.2f} s, max {ranked[-1]:.2f} s of {len(ranked)}"
