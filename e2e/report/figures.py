"""What a report shows of a run in tables and plots, worked out from its result."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from e2e.report.clauses import BESIDE, HOSTS, OUTSIDE, PODS
from e2e.report.collect import node_of
from e2e.report.result import ClauseResult, FlowEnd, Result, percentiles

ELSEWHERE = "no node port"
BY_NAME = "by name"
# Of a plot of times.
BINS = 24


@dataclass
class Ends:
    """Flows of one clause that ended alike.

    Attributes:
        clause: its id.
        protocol: TCP or UDP.
        want: how they may end.
        saw: how they ended.
        right: whether they may.
        count: how many.
        slowest: seconds until the last of them was right for good; None if that is not known.
        flows: the names of those that are wrong.
    """

    clause: str
    protocol: str
    want: str
    saw: str
    right: bool
    count: int = 0
    slowest: float | None = None
    flows: list[str] = field(default_factory=list)


@dataclass
class Cell:
    """What one kind of caller saw through one node over one family.

    Attributes:
        id: its name in a page.
        vantage: where the callers stand.
        family: IPv4 or IPv6.
        node: through which they called.
        ends: flows that ended alike, the wrong ones first.
    """

    id: str
    vantage: str
    family: str
    node: str
    ends: list[Ends] = field(default_factory=list)

    @property
    def total(self) -> int:
        """How many flows there were."""
        return sum(each.count for each in self.ends)

    @property
    def wrong(self) -> int:
        """How many of them were wrong."""
        return sum(each.count for each in self.ends if not each.right)

    @property
    def answered(self) -> int:
        """How many were answered as they should be; the others that are right were kept out."""
        return sum(each.count for each in self.ends if each.right and each.saw == "answered")


@dataclass(frozen=True)
class TruthTable:
    """Every flow by node, vantage and family.

    Attributes:
        columns: nodes, and what was called by no node port.
        rows: vantage, family, and a cell for each column; None where nobody called.
    """

    columns: list[str]
    rows: list[tuple[str, str, list[Cell | None]]]

    @property
    def cells(self) -> list[Cell]:
        """All of them, by rows."""
        return [cell for *_, cells in self.rows for cell in cells if cell]


def truth_table(result: Result) -> TruthTable:
    """Sort every flow of every clause into its cell."""
    found: dict[tuple[str, str], dict[str, list[tuple[ClauseResult, FlowEnd]]]] = {}
    for clause in result.clauses:
        for each in clause.flows:
            row = found.setdefault((each.vantage, each.family or BY_NAME), {})
            row.setdefault(each.node or ELSEWHERE, []).append((clause, each))
    known = result.found.nodes if result.found else ()
    seen = {node for row in found.values() for node in row}
    columns = [node for node in (*known, ELSEWHERE) if node in seen]
    columns += sorted(seen - set(columns))
    rows = []
    for number, (vantage, family) in enumerate(sorted(found, key=_row_order)):
        cells: list[Cell | None] = []
        for place, column in enumerate(columns):
            flows = found[vantage, family].get(column)
            cell = Cell(f"cell-{number}-{place}", vantage, family, column)
            cell.ends = _alike(flows or ())
            cells.append(cell if flows else None)
        rows.append((vantage, family, cells))
    return TruthTable(columns, rows)


def _row_order(row: tuple[str, str]) -> tuple[int, str, str]:
    vantage, family = row
    order = (OUTSIDE, BESIDE, HOSTS, PODS)
    place = next(n for n, where in enumerate((*order, "")) if vantage.startswith(where))
    return place, vantage, family


def _alike(flows: Iterable[tuple[ClauseResult, FlowEnd]]) -> list[Ends]:
    found: dict[tuple[str, str, str, str, bool], Ends] = {}
    for clause, each in flows:
        key = (clause.clause, each.protocol, each.want, each.saw, each.right)
        ends = found.setdefault(key, Ends(*key))
        ends.count += each.times
        if each.took is not None:
            ends.slowest = max(each.took, ends.slowest or 0.0)
        if not each.right:
            ends.flows.append(str(each))
    return sorted(found.values(), key=lambda each: each.right)


@dataclass(frozen=True)
class Times:
    """How long flows through one node took to be right for good.

    Attributes:
        node: its name, or that it is all of them.
        count: how many flows.
        p50: the median, in seconds.
        p95: the 95th percentile, in seconds.
        slowest: in seconds.
        bars: the share of flows in each step of the plot, from 0 to 1, the fullest being 1.
    """

    node: str
    count: int
    p50: float
    p95: float
    slowest: float
    bars: list[float]


def times_of(result: Result) -> list[Times]:
    """Times of all flows of clauses that held, and of those through each node."""
    nodes = result.found.nodes if result.found else ()
    every: dict[str, list[float]] = {"all flows": result.times}
    known = frozenset(nodes)
    for clause in result.clauses:
        for name, took in clause.converged if clause.ended == "held" else ():
            if node := node_of(name, known):
                every.setdefault(node, []).append(took)
    end = max(result.times, default=0.0)
    names = [name for name in ("all flows", *nodes) if every.get(name)]
    return [_times(name, sorted(every[name]), end) for name in names]


def _times(name: str, times: list[float], end: float) -> Times:
    bins = [0] * BINS
    for took in times:
        bins[min(int(took / end * BINS) if end else 0, BINS - 1)] += 1
    return Times(name, len(times), *percentiles(times), [each / max(bins) for each in bins])


def by_topic(clauses: Sequence[ClauseResult]) -> dict[str, list[ClauseResult]]:
    """Clauses by the statement of their file, in order."""
    topics: dict[str, list[ClauseResult]] = {}
    for clause in clauses:
        topics.setdefault(clause.topic or "Other clauses", []).append(clause)
    return topics


def by_reason(clauses: Sequence[ClauseResult]) -> dict[str, list[str]]:
    """The ids of skipped clauses, by the reason."""
    reasons: dict[str, list[str]] = {}
    for clause in clauses:
        if clause.ended == "skipped":
            reasons.setdefault(clause.said or "it did not say why", []).append(clause.clause)
    return reasons
