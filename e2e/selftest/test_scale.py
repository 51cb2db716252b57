"""How a run grows with nodes: what is counted, and what is reckoned from that."""

import pytest

from e2e.bench.scale import Cost, harness, reckon, table
from e2e.cluster.api import Api, Counting
from e2e.fixtures.sample import CALLERS
from e2e.selftest.api_server import api_server
from e2e.selftest.runs import held, run
from e2e.selftest.test_merge import found


def of(nodes, **clauses):
    """A run with so many nodes, of clauses with so many flows, which were looked at three times."""
    asked = (
        held(name.replace("_", "."), settled=((1.0, flows, 3),), requests=2 * flows, seconds=5.0)
        for name, flows in clauses.items()
    )
    names = tuple(f"node-{n}" for n in range(nodes))
    return run(*asked, found=found(nodes=names))


def test_what_grows_along_a_line_is_reckoned_along_it():
    few, many = {"a.b": Cost(6, 18, 20, 4.0)}, {"a.b": Cost(12, 36, 32, 4.5)}

    assert reckon(few, 3, many, 6, 12) == Cost(24, 72, 56, 5.5)
    assert reckon(few, 3, many, 6, 3) == Cost(6, 18, 20, 4.0)


def test_where_callers_are_sampled_they_are_reckoned_as_they_are():
    """All call all where they are few, which no line shows."""
    few, many = {"vantages.hosts": Cost(18, 54, 60)}, {"vantages.hosts": Cost(72, 216, 240)}

    assert reckon(few, 3, many, 6, 1000).flows == pytest.approx(2 * CALLERS * 1000)


def test_measured_sizes_come_before_those_that_are_reckoned():
    said = table([of(6, a_b=12, c_d=6), of(3, a_b=6, c_d=3, e_f=9)])

    assert "| 3 | measured | 9 | 27 | 18 | 10 |" in said
    assert "| 6 | measured | 18 | 54 | 36 | 10 |" in said
    assert "| 1,000 | reckoned from 3 and 6 | 3,000 | 9,000 | 6,000 | 10 |" in said
    assert said.endswith("Of 2 clauses that held in all: `a.b`, `c.d`")


def test_a_third_size_is_both_measured_and_reckoned():
    said = table([of(3, a_b=6), of(6, a_b=12), of(12, a_b=25)])

    assert "| 12 | measured | 25 |" in said
    assert "| 12 | reckoned from 3 and 6 | 24 |" in said


def test_shards_of_one_size_are_one():
    """By the nodes that they called through, which are fewer than there are."""
    first, second = of(4, a_b=6), of(4, c_d=3)
    shards = [
        each.model_copy(
            update={"found": found(nodes=("a", "b", "c", "d"), through=("a", "b", "c"))}
        )
        for each in (first, second)
    ]
    said = table([*shards, of(4, a_b=8, c_d=4)])

    assert "| 3 | measured | 9 |" in said
    assert "| 4 | measured | 12 |" in said


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
