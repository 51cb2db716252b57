"""How a run grows with nodes: measured from results, and reckoned for clusters that are not here.

python -m e2e.bench.scale 3-nodes/result.json 6-nodes/result.json 12-nodes/result.json
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from e2e.fixtures.sample import CALLERS
from e2e.report.result import ClauseResult, Result

RECKONED = (100, 1000, 5000)
# Clauses in which callers inside the cluster call through nodes: the callers of a node, by how many
# nodes there are, and how many flows each of them is. Pods are on two nodes.
SAMPLED = {
    "vantages.hosts": lambda nodes: 2 * nodes * min(nodes, CALLERS),
    "policy.local-from-inside": lambda nodes: 2 * nodes * min(nodes + 2, CALLERS),
}


@dataclass(frozen=True)
class Cost:
    """What some clauses took.

    Attributes:
        flows: how many there were in all tables.
        calls: flows, as often as they were looked at.
        requests: to the API server.
        seconds: of all clauses, one after another.
    """

    flows: float = 0
    calls: float = 0
    requests: float = 0
    seconds: float = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*(getattr(self, n) + getattr(other, n) for n in vars(self)))

    def at(self, here: int, other: "Cost", there: int, nodes: int) -> "Cost":
        """On the straight line through two costs, what it is at so many nodes; never less than 0.

        Args:
            here: the nodes of this cost.
            other: another one.
            there: the nodes of that.
            nodes: how many it is reckoned for.
        """
        part = (nodes - here) / (there - here)
        found = {n: value + part * (getattr(other, n) - value) for n, value in vars(self).items()}
        return Cost(**{name: max(0.0, value) for name, value in found.items()})


def cost_of(clause: ClauseResult) -> Cost:
    """What one clause took."""
    flows = sum(flows for _, flows, _ in clause.settled)
    calls = sum(flows * looks for _, flows, looks in clause.settled)
    return Cost(flows, calls, clause.requests, clause.seconds)


def costs(result: Result) -> dict[str, Cost]:
    """Of each clause that held."""
    return {each.clause: cost_of(each) for each in result.clauses if each.ended == "held"}


def reckon(small: Mapping[str, Cost], few: int, large: Mapping[str, Cost], many: int,
           nodes: int) -> Cost:  # fmt: skip
    """What clauses that two runs asked would take at so many nodes.

    A clause grows along a straight line; where callers are sampled, as their number does.
    """
    total = Cost()
    for name in small.keys() & large.keys():
        cost = small[name].at(few, large[name], many, nodes)
        if name in SAMPLED:
            grows = SAMPLED[name](nodes) / SAMPLED[name](many)
            known = large[name]
            cost = Cost(*(value * grows for value in vars(known).values()))
        total += cost
    return total


def table(results: Sequence[Result]) -> str:
    """A row of each cluster size, measured first, as Markdown."""
    by_size = sorted((len(r.found.nodes), costs(r)) for r in results if r.found)
    shared = set.intersection(*(set(of) for _, of in by_size))
    rows = [
        "| nodes | | flows | calls | API requests | seconds, one after another |",
        "| ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    for nodes, of in by_size:
        total = sum((of[name] for name in sorted(shared)), Cost())
        rows.append(_row(nodes, "measured", total))
    (few, small), (many, large) = by_size[0], by_size[1]
    for nodes in [nodes for nodes, _ in by_size[2:]] + [*RECKONED]:
        kept = {name: small[name] for name in shared}
        rows.append(_row(nodes, f"reckoned from {few} and {many}",
                         reckon(kept, few, large, many, nodes)))  # fmt: skip
    return (
        "\n".join(rows)
        + f"\n\nOf {len(shared)} clauses that held in all: "
        + ", ".join(f"`{name}`" for name in sorted(shared))
    )


def _row(nodes: int, how: str, cost: Cost) -> str:
    return (
        f"| {nodes:,} | {how} | {cost.flows:,.0f} | {cost.calls:,.0f} | {cost.requests:,.0f} "
        f"| {cost.seconds:,.0f} |"
    )


if __name__ == "__main__":
    sys.stdout.write(table([Result.load(Path(file)) for file in sys.argv[1:]]) + "\n")
