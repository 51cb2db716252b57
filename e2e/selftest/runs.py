"""Results of runs as large as real ones, for the proof of what is told of them."""

import random
from datetime import UTC, datetime

from e2e.report.clauses import BESIDE, HOSTS, OUTSIDE, PODS, read_clauses
from e2e.report.collect import described, node_of, vantage_of
from e2e.report.result import ClauseResult, Counts, FlowEnd, Found, Load, Outages, Result

BEGAN = datetime(2026, 11, 28, 1, 30, tzinfo=UTC)
NODES = ("control-plane", "worker", "worker2")
CALLERS = {
    OUTSIDE: ["outside"],
    BESIDE: ["caller 172.18.255.60", "caller 172.18.255.61"],
    HOSTS: [f"host network of {node}" for node in NODES],
    PODS: [f"pod on {node}" for node in NODES[1:]],
}
TABLE = """\
not settled in 30 s: 0 of 90 looks agreed, never 3 in a row
  outside -> control-plane:32530: want answered by one of 4 pods, saw answered by echo-0 (worker)
  outside -> worker:32530: want answered by one of 4 pods, saw answered by echo-2 (worker)
x outside -> worker2:32530: want answered by one of 4 pods, saw refused
why: worker2 answers the node port to itself and to nobody else: calls of others do not reach it"""


def flow(caller="outside", target="worker", **more) -> FlowEnd:
    """How a flow ended; right by default."""
    said = {"port": 32530, "protocol": "TCP", "family": "IPv4", "want": "answered",
            "saw": "answered", "right": True, "took": 0.4}  # fmt: skip
    said |= {"vantage": vantage_of(caller), "node": node_of(f"{caller} -> {target}", NODES)}
    return FlowEnd(caller=caller, target=target, **(said | more))


def load(node="worker", counts=(330, 341, 320), *, problem="", **more) -> Load:
    """How connections were shared among pods."""
    pods = {f"echo-kfrvbu-{n}": count for n, count in enumerate(counts)}
    said = {"flow": f"outside -> {node}:31105", "node": node, "least": 243, "most": 425,
            "even": 0.6, "random": 0.4}  # fmt: skip
    on = dict(zip(pods, ("worker", "worker2", "worker") * len(pods), strict=False))
    return Load(counts=pods, nodes=on, problem=problem, **(said | more))


def held(clause, **more) -> ClauseResult:
    """A clause that held."""
    return ClauseResult(**({"clause": clause, "ended": "held", "seconds": 1.5} | more))


def failed(clause, said=TABLE, **more) -> ClauseResult:
    """A clause that did not, with its reason and its evidence."""
    wrong = flow(target="worker2", saw="refused", right=False, took=None,
                 want="answered by one of 4 pods")  # fmt: skip
    why = tuple(line for line in said.splitlines() if line.startswith("why: "))
    told = {"ended": "failed", "said": said, "why": why, "evidence": f"evidence/{clause}",
            "flows": (flow(), wrong), "seconds": 31.0}  # fmt: skip
    return ClauseResult(**({"clause": clause} | told | more))


def skipped(clause, why="needs dual-stack: nodes have one IP family") -> ClauseResult:
    """A clause that was not asked, and why."""
    return ClauseResult(clause=clause, ended="skipped", said=why)


def run(*clauses: ClauseResult, **more) -> Result:
    """A run of these clauses."""
    families, counts = ("IPv4",), Counts.of(clauses)
    said = {
        "run": "1234-5-abc",
        "began": BEGAN,
        "seconds": 366.2,
        "where": "lane: v1.37.2 iptables ipv4 two-workers",
        "found": Found(version="v1.37.2", proxy="kube-proxy iptables", families=families,
                       nodes=NODES),
        "exit_code": 1 if counts.failed else 2 if counts.broken or not counts.held else 0,
        "environment": {"harness": "nodeport-e2e 0.1.0", "machine": "Linux 6.18 x86_64, 2 cores"},
        "reproduce": "make e2e K8S=v1.37.2 PROXY=iptables FAMILY=ipv4 SHAPE=two-workers",
    }  # fmt: skip
    return Result(**(said | more), counts=counts, clauses=tuple(clauses))


def whole_run(*wrong: ClauseResult, families=("IPv4", "IPv6"), seed=7) -> Result:
    """A run of the whole contract on two IP families; some of its clauses may be wrong."""
    chance, instead = random.Random(seed), {each.clause: each for each in wrong}  # noqa: S311
    found = [instead.get(clause.id) or _held(clause, families, chance) for clause in read_clauses()]
    lane = "lane: v1.37.2 nftables dual two-workers"
    return run(*described(found, read_clauses()), where=lane)


def _held(clause, families, chance):
    if "nodeport-addresses" in clause.needs or "small-range" in clause.needs:
        return skipped(clause.id, f"needs {clause.needs[0]}: it is not configured")
    flows = [
        flow(
            *(caller, node if family == "IPv4" else f"{node} (IPv6)"),
            family=family,
            port=chance.randint(30000, 32767),
            took=round(chance.choice((0.0, 0.7, 1.4)) + chance.expovariate(4), 3),
            **({"want": "refused or silent", "saw": "refused"} if part == 1 else {}),
        )
        for vantage in clause.vantages
        for caller in CALLERS[vantage]
        for family in families
        for node in NODES
        for part in range(chance.randint(1, 2))
    ]
    converged = tuple((str(each), each.took) for each in flows)
    loads, outages = (), ()
    if clause.id.startswith("balance.uniform"):
        loads = tuple(load(node, _shares(991, 3, chance)) for node in NODES)
    if "disruptive" in clause.families and clause.vantages:
        spans = ((10.2, 13.1, "refused", 290), (15.0, 15.4, "silent", 3))
        watched = {"seconds": 30.0, "attempts": 3300, "spans": spans}
        outages = tuple(
            Outages(track=f"outside -> {node}:30081 (new connections)", node=node, **watched)
            for node in NODES[:2]
        )
    return held(clause.id, seconds=round(chance.expovariate(0.2), 2), flows=tuple(flows),
                converged=converged, loads=loads, outages=outages)  # fmt: skip


def _shares(of, pods, chance):
    picked = [chance.randrange(pods) for _ in range(of)]
    return [picked.count(pod) for pod in range(pods)]
