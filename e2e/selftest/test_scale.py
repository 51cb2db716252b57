"""How a run grows with nodes: what is counted, and what is reckoned from that."""

import pytest

from e2e.bench.scale import Cost, at_most, harness, measured, table
from e2e.cluster.api import Api, Counting
from e2e.cluster.manifest import load
from e2e.errors import CannotRunError
from e2e.fixtures import actors
from e2e.fixtures.sample import CALLERS
from e2e.report.clauses import contract
from e2e.selftest.api_server import api_server
from e2e.selftest.runs import flow, held, run
from e2e.selftest.test_merge import found


def of(nodes, *clauses):
    """A run of so many nodes."""
    return run(*clauses, found=found(nodes=tuple(f"node-{n}" for n in range(nodes))))


def asked(name, *flows, looks=3):
    """A clause whose flows were looked at three times."""
    settled = ((1.0, len(flows), looks),)
    return held(name, settled=settled, flows=flows, requests=2 * len(flows))


OUT = flow(target="worker")
HOST = flow("host network of worker", "worker2")
TO_POD = flow("host network of worker", "pod echo-0")
ALONE = flow("pod on worker", "ClusterIP 10.0.0.1")


@pytest.mark.parametrize(("each", "nodes", "flows"), [
    (OUT, 30, 10), (TO_POD, 30, 10), (ALONE, 30, 1),
    # All call all, and then as many call each as may.
    (HOST, 6, 4), (HOST, 3000, 1000 * CALLERS / 3),
])  # fmt: skip
def test_flows_grow_as_nodes_do(each, nodes, flows):
    cost = at_most(asked("a.b", each), 3, nodes)

    assert (cost.flows, cost.calls, cost.requests) == pytest.approx((flows, 3 * flows, 2 * flows))


def test_as_many_pods_as_clauses_want_on_so_many_nodes_are_demanded(monkeypatch):
    """By default the whole contract has room for 221 nodes in eight processes."""
    every = contract()
    actors.demand_pods(every, 221, 8)
    with pytest.raises(CannotRunError, match=r"want 501 pods at once, of which .* may have 500"):
        actors.demand_pods(every, 223, 8)
    with pytest.raises(CannotRunError, match="want 2055 pods") as said:
        actors.demand_pods(every, 1000, 8)
    assert "--max-pods=2055 (E2E_MAX_PODS)" in said.value.do
    monkeypatch.setenv("E2E_MAX_PODS", "2055")
    actors.demand_pods(every, 1000, 8)


def test_clauses_without_pods_on_each_node_demand_none():
    few = [each for each in contract() if each.id.startswith("defaults.")]

    assert few
    actors.demand_pods(few, 5000, 8)


def test_pods_of_clauses_go_before_there_are_more_than_may_be(monkeypatch):
    """Those of the example and on the hosts are elsewhere, and count too."""
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "8")
    assert actors._room(3) == 3 * actors.PODS_A_NODE
    assert actors._room(200) == 500 - 200 - actors.OF_EXAMPLE - 8 * actors.OF_A_CLAUSE
    assert load("myapp.yaml")["spec"]["replicas"] == actors.OF_EXAMPLE


def test_a_clause_that_only_asks_the_api_does_not_grow():
    clause = held("a.b", requests=7)

    assert at_most(clause, 3, 5000) == measured(clause) == Cost(0, 0, 7)


def test_measured_sizes_come_before_those_that_are_reckoned():
    small = of(3, asked("a.b", OUT, OUT, OUT), asked("e.f", OUT))
    said = table([of(6, asked("a.b", *[OUT] * 6)), small])

    assert "| 3 | measured | 3 | 9 | 6 | 0 s |" in said
    assert "| 6 | measured | 6 | 18 | 12 | 0 s |" in said
    assert "| 1,000 | at most, by 3 | 1,000 | 3,000 | 2,000 | 5 s |" in said
    assert said.endswith("Of 1 clauses that held: `a.b`")


def test_shards_of_one_size_are_one():
    """By the nodes that they called through, which are fewer than there are."""
    known = found(nodes=("a", "b", "c", "d"), through=("a", "b", "c"))
    shards = [run(asked(name, OUT), found=known) for name in ("a.b", "c.d")]
    said = table([*shards, of(4, asked("a.b", OUT), asked("c.d", OUT))])

    assert "| 3 | measured | 2 |" in said
    assert "| 4 | measured | 2 |" in said


def test_the_harness_itself_is_measured_without_a_cluster():
    said = harness(40)

    assert said["flows"] == 2 * CALLERS * 40
    # Whatever it is of, it fits into a log.
    assert said["result"] < 300


def test_every_request_to_an_api_server_is_counted(tmp_path):
    with api_server(tmp_path) as server:
        before = Counting.sent
        api = Api(server.kubeconfig, "fake")
        api.find_all("Node")
        api.find("Node", "nobody")

        assert Counting.sent - before == len(server.requests)
