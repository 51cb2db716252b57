"""A node fails: it is off and comes back, or it stands still."""

from contextlib import ExitStack

import pytest

from e2e.check import (
    answered_by,
    assert_all_met,
    assert_comes_to,
    assert_only,
    assert_serves,
    assert_settles,
    assert_unnoticed,
    measured,
    note_failing,
)
from e2e.probe import NO_ROUTE, SILENT, draw, watching
from e2e.timing import NODE_BACK_WITHIN, NODE_LOST_WITHIN

pytestmark = [
    pytest.mark.family("disruptive", "slow"),
    pytest.mark.needs("own-cluster", "two-workers"),
]

# Of 550 connections in 5 s, where a third or a half fails, 15 % more of all do by chance less than
# once in 10^11 times.
CHANCE = 0.15
UNREACHABLE = frozenset({SILENT, NO_ROUTE})


@pytest.mark.clause("node-failure.comes-back", covers=["KP-11"])
@pytest.mark.needs("own-sockets")
def test_a_node_that_starts_again_serves_all_node_ports(
    standing, expose, power, workers, nodes, outside
):
    """A node that was off and starts again serves every node port that there is.

    Through all others nobody has noticed anything, as their pods are elsewhere.
    """
    echo, node = standing.on(workers[0]), workers[1]
    services = [expose(echo) for _ in range(3)]
    flows = [flow for service in services for flow in service.flows(outside, via=nodes)]
    assert_serves(dict.fromkeys(flows, answered_by(*echo.pods)))
    others = services[0].flows(outside, via=[each for each in nodes if each != node])

    with watching(others, kept=others) as watch:
        with power.off(node):
            gone = dict.fromkeys(services[0].flows(outside, via=[node]), UNREACHABLE)
            assert_settles(gone | dict.fromkeys(others, answered_by(*echo.pods)), times=1)
        back = assert_settles(
            dict.fromkeys(flows, answered_by(*echo.pods)), within=NODE_BACK_WITHIN
        )
        measured(f"{node} served all its node ports {back.took:.1f} s after it was started")
    assert_unnoticed(watch)


@pytest.mark.clause("node-failure.stands-still", covers=["EPS-12"])
@pytest.mark.needs("own-sockets")
def test_pods_of_a_lost_node_are_left_out(standing, expose, power, workers, nodes, outside):
    """When a node stands still, its pods are left out after a grace time, and the rest serve fully.

    Until then, through each of the other nodes, no more connections fail than its pods have a share
    of, and none to pods elsewhere. It serves again when it goes on.
    """
    lives, dies = standing.on(workers[0]), standing.on(workers[1])
    survivors = [node for node in nodes if node != workers[1]]
    service, unharmed = expose(lives | dies), expose(lives)
    flows = service.flows(outside, via=survivors)
    assert_serves(
        dict.fromkeys(service.flows(outside, via=nodes), answered_by(*standing.pods))
        | dict.fromkeys(unharmed.flows(outside, via=survivors), answered_by(*lives.pods))
    )
    share = len(dies.pods) / len(standing.pods)

    with power.paused(workers[1]):
        with ExitStack() as watches:
            watch = watches.enter_context(watching(unharmed.flows(outside, via=survivors)))
            harmed = [
                watches.enter_context(watching(service.flows(outside, via=[node])))
                for node in survivors
            ]
            assert_comes_to(assert_all_met, flows, over=lives.pods, within=NODE_LOST_WITHIN)
        assert_unnoticed(watch)
        for through_one in harmed:
            assert max(note_failing(through_one)) < share + CHANCE
        assert_only(draw(flows, 100), dict.fromkeys(flows, answered_by(*lives.pods)))

    assert_serves(dict.fromkeys(service.flows(outside, via=nodes), answered_by(*standing.pods)))
