"""How a run grows with nodes: measured from results, and reckoned for clusters that are not here.

python -m e2e.bench.scale 3-nodes/result.json 6-nodes/result.json 12-nodes/result.json
python -m e2e.bench.scale 100 1000 5000    # the harness alone, of nodes that are not there
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

from e2e.bench.rate import Anybody
from e2e.check import answered_by, assert_settles, journal
from e2e.cluster.node import node_of_object
from e2e.fixtures.sample import CALLERS, sampled
from e2e.probe import ANSWERED, Flow, Outside, Reply, Target
from e2e.report.clauses import HOSTS
from e2e.report.collect import clause_of
from e2e.report.result import ClauseResult, Result

RECKONED = (6, 12, 100, 1000, 5000)
# Calls a second from outside on two cores, as docs/benchmarks.md has them of `draw`.
RATE = 598


@dataclass(frozen=True)
class Cost:
    """What some clauses took.

    Attributes:
        flows: how many there were in all tables.
        calls: flows, as often as they were looked at.
        requests: to the API server.
    """

    flows: float = 0
    calls: float = 0
    requests: float = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*(getattr(self, name) + getattr(other, name) for name in vars(self)))


def measured(clause: ClauseResult) -> Cost:
    """What a clause took."""
    flows = sum(flows for _, flows, _ in clause.settled)
    calls = sum(flows * looks for _, flows, looks in clause.settled)
    return Cost(flows, calls, clause.requests)


def at_most(clause: ClauseResult, here: int, nodes: int) -> Cost:
    """What a clause takes of more nodes, if it calls through all of them.

    Args:
        clause: what it took here.
        here: how many nodes it could call through.
        nodes: how many it is reckoned for.
    """
    grown = {
        False: nodes / here,
        # All call all where there are few.
        True: nodes * min(nodes, CALLERS) / (here * min(here, CALLERS)),
    }
    flows = now = 0.0
    for each in clause.flows:
        on_node = each.vantage.startswith(HOSTS)
        more = grown[on_node and bool(each.node)] if on_node or each.node else 1.0
        flows, now = flows + more * each.times, now + each.times
    cost, factor = measured(clause), flows / now if now else 1.0
    return Cost(cost.flows * factor, cost.calls * factor, cost.requests * factor)


def table(results: Sequence[Result]) -> str:
    """A row of each number of nodes that were called through, measured first, as Markdown."""
    sizes: dict[int, dict[str, ClauseResult]] = {}
    for each in results:
        if each.found:
            # Of shards each has some of the clauses.
            held = {clause.clause: clause for clause in each.clauses if clause.ended == "held"}
            sizes.setdefault(len(each.found.through or each.found.nodes), {}).update(held)
    shared = sorted(set.intersection(*(set(of) for of in sizes.values())))
    here = min(sizes)
    rows = [
        "| nodes | | flows | calls | API requests | calls alone, from one machine |",
        "| ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    for nodes in sorted(sizes):
        total = sum((measured(sizes[nodes][name]) for name in shared), Cost())
        rows.append(_row(nodes, "measured", total))
    for nodes in RECKONED:
        total = sum((at_most(sizes[here][name], here, nodes) for name in shared), Cost())
        rows.append(_row(nodes, f"at most, by {here}", total))
    names = ", ".join(f"`{name}`" for name in shared)
    return "\n".join(rows) + f"\n\nOf {len(shared)} clauses that held: {names}"


def _row(nodes: int, how: str, cost: Cost) -> str:
    return (
        f"| {nodes:,} | {how} | {cost.flows:,.0f} | {cost.calls:,.0f} | {cost.requests:,.0f} "
        f"| {cost.calls / RATE:,.0f} s |"
    )


class Answered(Outside):
    """A caller that asks nobody, and is answered at once."""

    def call(self, address: str, port: int) -> Reply:
        """The answer, whoever is asked."""
        return Reply(ANSWERED, 0.0, f"echo-{address}-{port}")


def harness(count: int) -> dict[str, float]:
    """What the largest clause costs the harness itself with so many nodes, all of which answer.

    Returns:
        megabytes of a list of nodes as the API server sends it, flows, seconds of processor time
        and the most memory in MB of one process, and kilobytes of the clause in the result.
    """
    nodes = [_node(number) for number in range(count)]
    listed = json.dumps({"items": nodes})
    names = [node_of_object(each).name for each in json.loads(listed)["items"]]
    hosts = {Answered(f"host network of {name}"): name for name in names}
    owner = Anybody()
    began, book = time.process_time(), journal.Journal()
    token = journal.current.set(book)
    flows = [
        Flow(caller, Target(name, f"10.0.{n // 250}.{n % 250}", port, owner))
        for n, (name, callers) in enumerate(sampled(hosts, names).items())
        for caller in callers
        for port in (30080, 30053)
    ]
    assert_settles(dict.fromkeys(flows, answered_by()), every=0.0)
    journal.current.reset(token)
    report = SimpleNamespace(
        failed=False, skipped=False, when="teardown", duration=1.0, nodeid="x::y",
        user_properties=[("clause", "vantages.hosts")], figures=book.as_data(),
    )  # fmt: skip
    told = clause_of([report], names, Path("out")).model_dump_json()
    return {
        "list": len(listed) / 1e6,
        "flows": len(flows),
        "seconds": time.process_time() - began,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
        "result": len(told) / 1000,
    }


def _node(number: int) -> dict[str, object]:
    """A node as large as those of a busy cluster: fifty images with two names each."""
    images = [
        {"names": [f"registry.example/team/app-{n}@sha256:{n:064x}", f"registry.example/app:{n}"],
         "sizeBytes": 123456789} for n in range(50)
    ]  # fmt: skip
    address = f"10.0.{number // 250}.{number % 250}"
    return {
        "metadata": {"name": f"worker-{number:05}", "labels": {f"label-{n}": "x" for n in range(9)},
                     "annotations": {f"note-{n}": "x" * 40 for n in range(9)}},
        "status": {
            "addresses": [{"type": "InternalIP", "address": address}],
            "conditions": [{"type": "Ready", "status": "True"}],
            "images": images,
        },
    }  # fmt: skip


def _of_harness(counts: Sequence[str]) -> str:
    rows = [
        "| nodes | list of nodes | flows | processor time | memory of a process | in the result |",
        "| ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for count in counts:
        # Each in a process of its own, as the most memory of one never goes down.
        said = subprocess.run(
            [sys.executable, "-m", "e2e.bench.scale", "--one", count],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        found = json.loads(said.stdout)
        rows.append(
            f"| {int(count):,} | {found['list']:.1f} MB | {found['flows']:,} "
            f"| {found['seconds']:.1f} s | {found['memory']:.0f} MB | {found['result']:.0f} kB |"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    if sys.argv[1] == "--one":
        text = json.dumps(harness(int(sys.argv[2])))
    elif sys.argv[1].isdecimal():
        text = _of_harness(sys.argv[1:])
    else:
        text = table([Result.load(Path(file)) for file in sys.argv[1:]])
    sys.stdout.write(text + "\n")
