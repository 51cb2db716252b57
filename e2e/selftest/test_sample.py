"""Flows grow as nodes do: who looks through which node, and who calls which."""

import random
from collections import Counter

import pytest

from e2e.cluster.beside import demand_host_network
from e2e.cluster.capabilities import Facts, capabilities
from e2e.cluster.implementation import Implementation
from e2e.cluster.node import Node
from e2e.cluster.vantage import PodVantage
from e2e.errors import CannotRunError
from e2e.fixtures import vantages
from e2e.fixtures.sample import CALLERS, MEETING, at_most_through, few, looked_through, sampled
from e2e.probe import Flow, Outside, Target
from e2e.report.collect import FLOWS, MANY, bounded, spread
from e2e.report.result import percentiles
from e2e.report.shard import Shard
from e2e.selftest.runs import flow


def cluster(workers, planes=1):
    names = [*(f"plane-{n}" for n in range(planes)), *(f"worker-{n:04}" for n in range(workers))]
    return tuple(
        Node(name, {"IPv4": f"10.0.{n // 250}.{n % 250 + 1}"}, name.startswith("plane"))
        for n, name in enumerate(names)
    )


def hosts(nodes):
    return {PodVantage(None, f"host network of {n}", f"pod-{n}", "ns", 8080): n.name for n in nodes}


@pytest.mark.parametrize("count", [1, 3, CALLERS])
def test_where_nodes_are_few_all_call_all(count):
    nodes = cluster(count, planes=0)
    callers = hosts(nodes)

    found = sampled(callers, [node.name for node in nodes])
    assert all(set(of_node) == set(callers) for of_node in found.values())


def test_where_they_are_many_each_is_called_by_itself_and_some():
    nodes = cluster(300)
    callers = hosts(nodes)
    found = sampled(callers, [node.name for node in nodes])
    flows = {(caller.name, node) for node, of_node in found.items() for caller in of_node}

    assert len(flows) == CALLERS * len(nodes)
    assert {(f"host network of {n}", n.name) for n in nodes} <= flows
    # Everybody calls as much.
    calls = Counter(caller for caller, _ in flows)
    assert set(calls.values()) == {CALLERS}
    assert len(calls) == len(nodes)


def test_the_sample_is_the_same_in_every_process():
    nodes = cluster(40)
    callers, names = hosts(nodes), [node.name for node in nodes]
    found = sampled(callers, names)

    assert sampled(dict(reversed(callers.items())), names) == found
    assert found["worker-0001"][1:] != found["worker-0002"][1:]


def test_who_stands_on_no_node_that_calls_is_called_all_the_same():
    """As a node without an echo is by those on others."""
    nodes = cluster(40)
    callers = hosts(nodes[:20])
    found = sampled(callers, [node.name for node in nodes])

    assert all(len(set(of_node)) == CALLERS for of_node in found.values())


def test_of_many_flows_a_few_have_to_meet_all_pods():
    flows = [
        Flow(Outside(), Target(node.name, "192.0.2.1", 30000 + n, None))
        for n, node in enumerate(cluster(40))
    ]

    assert len(few(flows)) == MEETING
    assert set(few(flows[:3])) == set(flows[:3])
    # Whatever number their Service got.
    others = [flow.at(31000) for flow in flows]
    assert [f.target.name for f in few(others)] == [f.target.name for f in few(flows)]


def test_a_report_of_very_many_flows_stays_small():
    """What is wrong is told one by one all the same, and what is right by its kind."""
    flows = [
        flow(f"host network of w{n % 90}", f"w{n}", node=f"w{n}", vantage=f"nodes on w{n % 90}",
             saw=f"answered by echo-{n} (w1)", took=n / 1000).model_dump()
        for n in range(3000)
    ]  # fmt: skip
    flows[7] |= {"right": False, "saw": "refused"}
    told = bounded(flows)

    assert len(told) == 2
    assert (told[0]["target"], told[0]["right"]) == ("w7", False)
    assert (told[1]["node"], told[1]["times"], told[1]["took"]) == (MANY, 2999, 2.999)
    assert told[1]["saw"] == "answered"
    assert bounded(flows[:FLOWS]) == flows[:FLOWS]


def test_percentiles_of_very_many_times_stay_what_they_are():
    times = [(f"flow {n}", (n * 7919 % 4001) / 1000) for n in range(4001)]
    kept = spread(times)

    assert len(kept) == FLOWS
    assert percentiles([took for _, took in kept]) == pytest.approx((2.0, 3.8, 4.0), abs=0.01)


@pytest.mark.parametrize("of", [1, 2, 5])
def test_every_node_is_looked_through_by_some_shard(of):
    nodes = cluster(20, planes=3)
    parts = [looked_through(nodes, shard=Shard(of, n, "nodes")) for n in range(1, of + 1)]

    assert {node for part in parts for node in part} == set(nodes)
    # Where the echoes of every clause stand.
    in_all = {nodes[0], nodes[3], nodes[4]}
    assert all(in_all <= set(part) for part in parts)
    assert all(len(part) <= len(nodes) // of + 1 + 3 for part in parts)
    assert all(list(part) == [n for n in nodes if n in part] for part in parts)


@pytest.mark.parametrize("of", [2, 3, 7])
def test_wherever_shards_stand_some_shard_looks_through_every_node(of):
    nodes = cluster(20)
    chance = random.Random(of)  # noqa: S311
    for _ in range(50):
        stand = chance.sample([node.name for node in nodes], of)
        parts = [
            looked_through(nodes, stands_on=on, shard=Shard(of, number, "nodes"))
            for number, on in enumerate(stand, 1)
        ]
        assert {node for part in parts for node in part} == set(nodes)


@pytest.mark.parametrize(("by", "of"), [
    ("clauses", 2), ("nodes", 1), ("nodes", 2), ("nodes", 5), ("nodes", 30),
])  # fmt: skip
def test_wherever_a_pod_stands_it_looks_through_no_more_than_is_reckoned(by, of):
    for nodes in (cluster(workers, planes=3) for workers in (1, 4, 20)):
        for number in range(1, of + 1):
            shard = Shard(of, number, by)
            through = [len(looked_through(nodes, stands_on=n.name, shard=shard)) for n in nodes]
            reckoned = at_most_through(len(nodes), shard)

            assert max(through) <= reckoned <= max(through) + 4


def test_a_shard_of_clauses_looks_through_all():
    assert looked_through(cluster(3), shard=Shard(2, 1)) == cluster(3)


def test_the_node_that_callers_outside_stand_on_is_left_to_others():
    nodes = cluster(3)
    left = looked_through(nodes, stands_on="worker-0001")

    assert [node.name for node in left] == ["plane-0", "worker-0000", "worker-0002"]
    with pytest.raises(CannotRunError, match="there is no such node"):
        looked_through(nodes, stands_on="worker-9")
    with pytest.raises(CannotRunError, match="is the only node"):
        looked_through(nodes[:1], stands_on="plane-0")


def test_what_is_missing_without_that_node_is_said():
    nodes = cluster(1)
    facts = Facts(nodes[1:], range(30000, 32768), Implementation((1, 37), "iptables", {}),
                  denies_external_ips=False, has_callers=False, is_ours=False,
                  stands_on="plane-0")  # fmt: skip
    have = capabilities(facts)

    on = "beside plane-0, on which callers outside stand"
    assert have["two-workers"] == f"this cluster has 1 worker {on}"
    assert have["control-plane"] == f"no node is a control plane {on}"
    assert have["own-sockets"] == ""
    assert have["outside-caller"] == "no container can be put beside the nodes"


def test_who_shares_callers_that_cannot_be_is_skipped():
    """They are a whole run's, so they are asked for before a clause's needs are looked at."""
    with pytest.raises(pytest.skip.Exception, match="needs outside-caller: no container can be"):
        vantages._start_caller(None, (), None)


def test_a_pod_on_the_pod_network_is_no_caller_outside(monkeypatch):
    """Nodes would treat it as what it is: a pod."""
    on, *others = cluster(2)
    monkeypatch.setattr(Outside, "source_towards", staticmethod(lambda address: "10.244.1.7"))
    with pytest.raises(CannotRunError, match=r"from 10\.244\.1\.7, which is no address of it"):
        demand_host_network(on, others)

    monkeypatch.setattr(
        Outside, "source_towards", staticmethod(lambda address: on.addresses["IPv4"])
    )
    demand_host_network(on, others)
