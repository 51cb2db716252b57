"""Which behaviours changed between two runs, and which times did beyond noise. Pure.

How the times are judged, and why not clause by clause: docs/decisions/comparing.md.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from e2e import timing
from e2e.check.fingerprint import Behaviour

HELD, FAILED, BROKEN, SKIPPED = "held", "failed", "broken", "skipped"
# Of a whole comparison, whatever the number of its verdicts.
FALSE_ALARM = 0.01
# Clauses that are needed to know what noise is, and to speak of all of them together.
ENOUGH_CLAUSES = 10
# Noise has heavier tails than the normal distribution: a busy machine delays one clause by seconds.
DEGREES = 5
# Of the standard deviation of a normal distribution in its median absolute deviation.
OF_MAD = 1.4826

# How a change is to be taken.
WORSE, UNLIKE, UNKNOWN, TOLD = "worse", "unlike", "unknown", "told"


@dataclass(frozen=True)
class BehaviourChange:
    """A clause of which two runs saw different things.

    Attributes:
        clause: its id.
        before: how it ended, or what was seen.
        after: likewise.
        weight: WORSE where it held and no longer does; UNLIKE where it is otherwise and nobody
            promised anything; UNKNOWN where one of the runs could not judge it; TOLD where only
            the reason is another.
        said: why, in the words of the run that knows.
    """

    clause: str
    before: str
    after: str
    weight: str
    said: str = ""

    def __str__(self) -> str:
        why = f": {self.said}" if self.said else ""
        return f"{self.clause}: {self.before} -> {self.after}{why}"


def changed_behaviours(
    before: Mapping[str, Behaviour], after: Mapping[str, Behaviour]
) -> list[BehaviourChange]:
    """Every clause whose verdict, or what it saw of choices and versions, is another."""
    found = []
    for clause in sorted(before.keys() | after.keys()):
        was, now = before.get(clause), after.get(clause)
        if was is None:
            assert now is not None
            found.append(BehaviourChange(clause, "not asked", now.ended, UNLIKE, _why(now)))
        elif now is None:
            weight = WORSE if was.ended == HELD else UNLIKE
            found.append(BehaviourChange(clause, was.ended, "not asked", weight))
        else:
            found += _changed(was, now)
    return found


def _changed(was: Behaviour, now: Behaviour) -> Iterable[BehaviourChange]:
    if BROKEN in (was.ended, now.ended):
        broken = now if now.ended == BROKEN else was
        yield BehaviourChange(was.clause, was.ended, now.ended, UNKNOWN, _why(broken))
    elif was.ended != now.ended:
        weight = WORSE if was.ended == HELD else UNLIKE
        told = now if now.ended != HELD else was
        yield BehaviourChange(was.clause, was.ended, now.ended, weight, _why(told))
    elif was.ended == SKIPPED and was.said != now.said:
        yield BehaviourChange(was.clause, SKIPPED, SKIPPED, TOLD, f"{was.said}; now {now.said}")
    elif was.ended == HELD:
        old, new = dict(map(_choice, was.chosen)), dict(map(_choice, now.chosen))
        for what in sorted(old.keys() | new.keys()):
            # A clause that found nothing to ask of a choice this time saw nothing else of it.
            if what in old and what in new and old[what] != new[what]:
                yield BehaviourChange(was.clause, old[what], new[what], UNLIKE, what)


def _choice(line: str) -> tuple[str, str]:
    what, _, how = line.partition(": ")
    return what, how


def _why(behaviour: Behaviour) -> str:
    """The first line of what a run said, and those that are marked or give the reason."""
    first, *lines = behaviour.said.splitlines() or [""]
    marked = [line for line in lines if line.startswith(("x ", "why: "))]
    return "\n".join([first, *marked])


@dataclass(frozen=True)
class TimeChange:
    """How long something took to converge in two runs, and whether chance explains the difference.

    Attributes:
        what: a clause, or all clauses at a node, or all clauses.
        before: the median, in seconds.
        after: likewise.
        p: the probability of a difference as large by chance.
        counts: whether it is beyond noise: with all other verdicts, a false alarm in a hundred
            comparisons.
        pairs: how many pairs of medians it was judged from.
    """

    what: str
    before: float
    after: float
    p: float
    counts: bool
    pairs: int

    def __str__(self) -> str:
        return f"{self.what}: {self.before:.2f} s -> {self.after:.2f} s, p={self.p:.1g}"


def compared_times(
    before: Mapping[str, Behaviour], after: Mapping[str, Behaviour]
) -> list[TimeChange]:
    """How long clauses took to converge, those beyond noise first; none where too few are known.

    All flows of a clause at one node wait for the same sync of its proxy, so they are one
    observation: their median. Two families of verdicts share the rate of false alarms:
    all clauses together, and at each node, by Wilcoxon's signed-rank test of the pairs of medians;
    and each clause, by how far its difference lies from those of all others.
    """
    both = [c for c in sorted(before.keys() & after.keys())
            if before[c].ended == after[c].ended == HELD]  # fmt: skip
    pairs: dict[str, dict[str, tuple[float, float]]] = {}
    for clause in both:
        was, now = before[clause].converged, after[clause].converged
        if of_nodes := {n: (median(was[n]), median(now[n])) for n in was.keys() & now.keys()}:
            pairs[clause] = of_nodes
    if len(pairs) < ENOUGH_CLAUSES:
        return []
    of_clauses = {clause: _middle(each.values()) for clause, each in pairs.items()}
    found = [_together("all clauses", list(of_clauses.values()))]
    for node in sorted({node for each in pairs.values() for node in each}):
        at_node = [each[node] for each in pairs.values() if node in each]
        if len(at_node) >= ENOUGH_CLAUSES:
            found.append(_together(f"all clauses at {node}", at_node))
    found += _each_alone(of_clauses)
    return sorted(_corrected(found), key=lambda each: (not each.counts, each.p))


def _middle(pairs: Iterable[tuple[float, float]]) -> tuple[float, float]:
    every = list(pairs)
    return median(a for a, _ in every), median(b for _, b in every)


def _together(what: str, pairs: Sequence[tuple[float, float]]) -> TimeChange:
    from scipy import stats  # noqa: PLC0415  # half a second that only this needs

    steps = [b - a for a, b in pairs]
    p = float(stats.wilcoxon(steps).pvalue) if any(steps) else 1.0
    before, after = _middle(pairs)
    return TimeChange(what, before, after, p, False, len(pairs))


def _each_alone(pairs: Mapping[str, tuple[float, float]]) -> list[TimeChange]:
    """How far each difference is from the middle of all, in units of how far they usually are."""
    from scipy import stats  # noqa: PLC0415

    steps = {clause: b - a for clause, (a, b) in pairs.items()}
    middle = median(steps.values())
    usual = OF_MAD * median(abs(step - middle) for step in steps.values())
    # Looks are so far apart, so nothing is known more closely.
    usual = max(usual, timing.LOOK_EVERY)
    return [
        TimeChange(
            *(clause, *pairs[clause], 2 * float(stats.t.sf(abs(step - middle) / usual, DEGREES))),
            counts=False,
            pairs=1,
        )
        for clause, step in steps.items()
    ]


def _corrected(found: Sequence[TimeChange]) -> list[TimeChange]:
    """Say which count, by Holm's method, if they differ by as much as anybody notices."""
    ranked = sorted(found, key=lambda each: each.p)
    result, rejecting = [], True
    for rank, each in enumerate(ranked):
        rejecting = rejecting and each.p <= FALSE_ALARM / (len(ranked) - rank)
        noticeable = abs(each.after - each.before) >= timing.NOTICED_IN_CONVERGING
        result.append(TimeChange(**{**vars(each), "counts": rejecting and noticeable}))
    return result


@dataclass(frozen=True)
class Spread:
    """How the statistical verdicts of a clause came out in two runs.

    Attributes:
        clause: its id.
        before: the smallest p-value of all its verdicts.
        after: likewise.
        verdicts: how many there were.
    """

    clause: str
    before: float
    after: float
    verdicts: tuple[int, int]


def spreads(before: Mapping[str, Behaviour], after: Mapping[str, Behaviour]) -> list[Spread]:
    """The distribution figures that both runs have."""
    found = []
    for clause in sorted(before.keys() & after.keys()):
        was, now = (list(_p_values(each[clause].judged)) for each in (before, after))
        if was and now:
            found.append(Spread(clause, min(was), min(now), (len(was), len(now))))
    return found


def _p_values(judged: Iterable[str]) -> Iterable[float]:
    for line in judged:
        for word in line.replace(",", " ").split():
            if word.startswith("p="):
                value = float(word.removeprefix("p="))
                if not math.isnan(value):
                    yield value
