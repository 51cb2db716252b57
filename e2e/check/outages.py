"""From single attempts to outages: when each began, how long it lasted, and how well that is known.

An outage began between the last attempt before it that was answered and the first that was not,
and ended likewise; the middle of both is told, and half of what lies between as give or take.
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import inf

from e2e import timing
from e2e.probe import CUT_OFF, FOREIGN, SILENT, Outcome

Span = tuple[float, float]
"""From one moment to another."""


@dataclass(frozen=True)
class Mark:
    """One attempt, or a row of them that ended alike.

    Attributes:
        at: when the first began.
        outcome: how they ended.
        expected: whether that is how they should end.
        to: when the last began; the same as `at` for one.
        count: how many.
        pod: who answered.
        said: what else is known.
    """

    at: float
    outcome: Outcome
    expected: bool
    to: float = 0.0
    count: int = 1
    pod: str = ""
    said: str = ""

    @property
    def last(self) -> float:
        """When the last of them began."""
        return max(self.at, self.to)


@dataclass(frozen=True)
class Seen:
    """What was recorded of one flow.

    Attributes:
        marks: all attempts that did not end as expected, and their nearest neighbours.
        expected: how many attempts ended as expected.
        looked: when it was asked.
        held: when it could not be asked, though it was its time.
        late: when silent attempts began that were answered later, and were not lost.
        closed: when its kept connection ended, and whose pod was at the other end.
        rate: attempts a second.
        serves: from when on it is promised anything: its first answer, of a node that joined.
        gone: from when on nothing is promised any more, as its node is there no more.
    """

    marks: Sequence[Mark] = ()
    expected: int = 0
    looked: Sequence[Span] = ()
    held: Sequence[Span] = ()
    late: Sequence[float] = ()
    closed: Sequence[tuple[float, str]] = ()
    rate: float = 20.0
    serves: float = -inf
    gone: float = inf


@dataclass(frozen=True)
class Outage:
    """A time in which a flow was not answered as expected.

    Attributes:
        start: Unix time; the middle of what is possible.
        end: likewise.
        give_or_take: seconds by which the length may be wrong, either way.
        kinds: how many attempts ended in which way.
        between: attempts among them that were answered.
        blind: seconds of it in which nobody asked.
        goes_on: whether it had not ended when the record did.
        said: what else an attempt brought, such as who answered who should not.
    """

    start: float
    end: float
    give_or_take: float
    kinds: dict[Outcome, int]
    between: int = 0
    blind: float = 0.0
    goes_on: bool = False
    said: str = ""

    @property
    def length(self) -> float:
        """Seconds."""
        return self.end - self.start

    @property
    def lost(self) -> int:
        """Attempts that did not end as expected."""
        return sum(self.kinds.values())

    @property
    def kind(self) -> Outcome:
        """How most attempts ended."""
        return max(self.kinds, key=lambda kind: self.kinds[kind])

    @property
    def is_single(self) -> bool:
        """Whether one attempt was lost, and its neighbours were not."""
        return self.lost == 1


@dataclass(frozen=True)
class Ending:
    """The end of a kept connection, after which the next one opened at once.

    Attributes:
        at: when.
        pod: who was at its other end.
        lost: attempts that were under way.
    """

    at: float
    pod: str
    lost: int = 0


@dataclass(frozen=True)
class Judged:
    """What became of a flow.

    Attributes:
        outages: in their order.
        endings: of its kept connection.
        answered: attempts that ended as expected.
        lost: attempts that did not, in outages and at endings.
        unpromised: attempts that did not either, before it served first or when its node was gone.
        late: attempts that were answered after patience was over.
        looked: seconds in which it was asked.
        not_looked: when nobody asked, between the beginning and the end.
    """

    outages: list[Outage] = field(default_factory=list)
    endings: list[Ending] = field(default_factory=list)
    answered: int = 0
    lost: int = 0
    unpromised: int = 0
    late: int = 0
    looked: float = 0.0
    not_looked: list[Span] = field(default_factory=list)


def judge(seen: Seen) -> Judged:
    """Find the outages of one flow."""
    late = set(seen.late)
    marks = [kept for mark in seen.marks if (kept := _without(mark, late))]
    seen, unpromised = _promised(replace(seen, marks=marks))
    blind = not_looked(seen)
    # A neighbour may have been written down twice.
    unique = {(m.at, m.expected): m for m in seen.marks}
    marks = sorted(unique.values(), key=lambda m: (m.at, m.last))
    answered = [m.at for m in marks if m.expected]
    outages, endings = [], []
    for group in _groups(marks, blind):
        outage = _outage(group, answered, blind, seen)
        closed, pod = _ended_by(outage, seen)
        # What was lost was under way then; who is cut off again and again has lost more.
        at_once = max(outage.end - group[-1].last, group[-1].last - closed)
        reopened = not outage.goes_on and at_once <= timing.REOPENED_WITHIN
        if set(outage.kinds) == {CUT_OFF} and pod and reopened:
            endings.append(Ending(outage.start, pod, outage.lost))
        else:
            outages.append(outage)
    taken = [ending.at for ending in endings] + [o.start for o in outages]
    endings += [
        Ending(at, pod)
        for at, pod in seen.closed
        if not any(abs(at - one) <= timing.ONE_OUTAGE_WITHIN for one in taken)
        and not any(o.start <= at <= o.end for o in outages)
    ]
    whole = sum(to - at for at, to in _union(seen.looked))
    return Judged(
        outages,
        sorted(endings, key=lambda ending: ending.at),
        answered=seen.expected + len(late),
        lost=sum(o.lost for o in outages) + sum(ending.lost for ending in endings),
        unpromised=unpromised,
        late=len(late),
        looked=max(whole - _overlap(_union(seen.looked), _union(seen.held)), 0.0),
        not_looked=blind,
    )


def _without(mark: Mark, late: Set[float]) -> Mark | None:
    """A mark without the silent attempts of it that were answered late; None if none is left."""
    if mark.outcome != SILENT or mark.expected:
        return mark
    if mark.count == 1:
        return None if mark.at in late else mark
    count = mark.count - sum(mark.at <= at <= mark.last for at in late)
    return replace(mark, count=count) if count > 0 else None


def _promised(seen: Seen) -> tuple[Seen, int]:
    """Only what was seen while something was promised, and how many lost attempts were not so.

    Somebody who answers and should not does so at any time before the node is gone.
    """
    marks, left_out = [], 0
    for mark in seen.marks:
        if mark.at >= seen.gone or (
            mark.at < seen.serves and not mark.expected and mark.outcome != FOREIGN
        ):
            left_out += 0 if mark.expected else mark.count
        elif mark.last >= seen.gone:
            count = min(round((seen.gone - mark.at) * seen.rate) + 1, mark.count)
            marks.append(replace(mark, to=seen.gone, count=count))
            left_out += mark.count - count
        else:
            marks.append(mark)
    promised = replace(
        seen,
        marks=marks,
        looked=_until(seen.looked, seen.gone),
        held=_until(seen.held, seen.gone),
        closed=[one for one in seen.closed if seen.serves <= one[0] < seen.gone],
    )
    return promised, left_out


def _until(spans: Iterable[Span], end: float) -> list[Span]:
    return [(at, min(to, end)) for at, to in spans if at < end]


def not_looked(seen: Seen) -> list[Span]:
    """When a flow was not asked, from the first time that it was to the last."""
    looked = _union(seen.looked)
    gaps = [(a[1], b[0]) for a, b in pairwise(looked) if b[0] - a[1] > timing.RECORD_FLUSHED_EVERY]
    return _union([*gaps, *seen.held])


def _groups(marks: Sequence[Mark], blind: Sequence[Span]) -> Iterable[list[Mark]]:
    """Unexpected attempts that belong together: nothing much was answered between them."""
    group: list[Mark] = []
    answered = False
    for mark in marks:
        if mark.expected:
            answered = True
            continue
        if group:
            gap = mark.at - group[-1].last
            gap -= _overlap([(group[-1].last, mark.at)], blind)
            if answered and gap > timing.ONE_OUTAGE_WITHIN:
                yield group
                group = []
        group.append(mark)
        answered = False
    if group:
        yield group


def _outage(
    group: Sequence[Mark], answered: Sequence[float], blind: Sequence[Span], seen: Seen
) -> Outage:
    first, last = group[0].at, group[-1].last
    left, right = bisect_left(answered, first), bisect_right(answered, last)
    before = answered[left - 1] if left else None
    after = answered[right] if right < len(answered) else None
    if after is None and seen.gone < inf:
        after = seen.gone
    # Time in which nobody asked belongs to no outage.
    earliest = max(
        [first - 1 / seen.rate if before is None else before]
        + [to for _, to in blind if (before or 0.0) < to <= first]
    )
    latest = min(
        [last + 1 / seen.rate if after is None else after]
        + [at for at, _ in blind if last <= at < (after or float("inf"))]
    )
    start, end = (earliest + first) / 2, (last + latest) / 2
    kinds: Counter[Outcome] = Counter()
    for mark in group:
        kinds[mark.outcome] += mark.count
    inside = _overlap([(start, end)], blind)
    beats = round((last - first - _overlap([(first, last)], blind)) * seen.rate) + 1
    said = next((f"{m.pod} {m.said}".strip() for m in group if m.pod or m.said), "")
    return Outage(
        start=start,
        end=end,
        give_or_take=(first - earliest + latest - last) / 2,
        kinds=dict(kinds),
        between=max(beats - sum(kinds.values()), 0) if right > left else 0,
        blind=inside,
        goes_on=after is None,
        said=said,
    )


def _ended_by(outage: Outage, seen: Seen) -> tuple[float, str]:
    """When a connection ended with an outage, and whose pod was at its end, if one did."""
    near = timing.ONE_OUTAGE_WITHIN
    for at, pod in seen.closed:
        if outage.start - near <= at <= outage.end + near:
            return at, pod
    return inf, ""


def _union(spans: Iterable[Span]) -> list[Span]:
    whole: list[Span] = []
    for at, to in sorted(spans):
        if whole and at <= whole[-1][1]:
            whole[-1] = whole[-1][0], max(whole[-1][1], to)
        elif to > at:
            whole.append((at, to))
    return whole


def _overlap(these: Iterable[Span], those: Sequence[Span]) -> float:
    return sum(
        max(min(to, until) - max(at, since), 0.0) for at, to in these for since, until in those
    )
