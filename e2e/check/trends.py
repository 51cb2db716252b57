"""Which clauses changed over many runs, which are flaky, and since when. Pure.

A clause that held and then failed may have changed, or may fail at random and did so now. Fisher's
exact test of the runs before and after some moment tells which; why so: docs/decisions/history.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

# Of a whole history, whatever the number of its clauses and runs.
FALSE_ALARM = 0.01

WORSE, BETTER, BROKE, MENDED, FLAKY, ALWAYS = "worse", "better", "broke", "mended", "flaky", "fails"


@dataclass(frozen=True)
class Share:
    """How many of some runs failed."""

    failed: int
    of: int

    def __str__(self) -> str:
        return f"{self.failed} of {self.of}"


@dataclass(frozen=True)
class Trend:
    """A clause that did not always hold.

    Attributes:
        clause: its id.
        kind: WORSE or BETTER where chance does not explain the change; BROKE or MENDED where it
            changed once, and the runs are too few to tell that from chance; FLAKY where it went
            to and fro; ALWAYS where it never held.
        since: the place in the history of the first run after the change, or of the first failure.
        before: failures before that.
        after: failures from then on.
        p: the probability of such a difference, or a larger one, by chance, corrected for all
            moments and clauses that were looked at; 1 where there is no other side.
        low: of the rate of failures from then on, the lower end of its 95 % interval.
        high: likewise the upper.
    """

    clause: str
    kind: str
    since: int
    before: Share
    after: Share
    p: float
    low: float
    high: float


def trends(history: Mapping[str, Sequence[tuple[int, bool]]]) -> list[Trend]:
    """Every clause that failed at least once, those that became worse first.

    Args:
        history: for each clause the places of the runs that judged it, in order, and whether it
            held there.
    """
    judged = {clause: seen for clause, seen in history.items() if not all(h for _, h in seen)}
    looks = sum(len(seen) - 1 for seen in judged.values())
    order = (WORSE, ALWAYS, BROKE, FLAKY, BETTER, MENDED)
    found = [_trend(clause, seen, looks) for clause, seen in judged.items()]
    return sorted(found, key=lambda each: (order.index(each.kind), each.p, each.clause))


def _trend(clause: str, seen: Sequence[tuple[int, bool]], looks: int) -> Trend:
    held = [each for _, each in seen]
    first = held.index(False)
    if not any(held):
        return _told(clause, ALWAYS, seen, first, 1.0)
    changed: Trend | None = None
    while len(seen) > 1:
        at, p, rose = _change(held, looks)
        if p >= FALSE_ALARM:
            break
        changed = _told(clause, WORSE if rose else BETTER, seen, at, p)
        # What is mended since is no longer worse: the last change counts.
        seen, held, looks = seen[at:], held[at:], looks + len(seen)
    if changed:
        return changed
    if sum(a != b for a, b in pairwise(held)) == 1:
        return _told(clause, BROKE if rose else MENDED, seen, at, p)
    return _told(clause, FLAKY, seen, first, p)


def _change(held: Sequence[bool], looks: int) -> tuple[int, float, bool]:
    """Where the rate of failures changed most, by how little chance, and whether it rose."""
    splits = [(_fisher(*_counts(held[:at]), *_counts(held[at:])), at) for at in range(1, len(held))]
    least, at = min(splits)
    return at, min(least * looks, 1.0), _rate(held[at:]) > _rate(held[:at])


def _told(clause: str, kind: str, seen: Sequence[tuple[int, bool]], at: int, p: float) -> Trend:
    from scipy import stats  # noqa: PLC0415

    held = [each for _, each in seen]
    before, after = (Share(part.count(False), len(part)) for part in (held[:at], held[at:]))
    rate = stats.binomtest(after.failed, after.of).proportion_ci(method="exact")
    return Trend(clause, kind, seen[at][0], before, after, p, float(rate.low), float(rate.high))


@cache
def _fisher(held: int, failed: int, then_held: int, then_failed: int) -> float:
    import numpy as np  # noqa: PLC0415
    from scipy import stats  # noqa: PLC0415  # half a second that only this needs

    table = np.array([[held, failed], [then_held, then_failed]])
    return float(stats.fisher_exact(table).pvalue)


def _counts(held: Sequence[bool]) -> tuple[int, int]:
    return sum(held), len(held) - sum(held)


def _rate(held: Sequence[bool]) -> float:
    return 1 - sum(held) / len(held)
