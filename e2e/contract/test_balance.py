"""With many pods all are used, and each connection's pod is picked at random."""

import pytest

from e2e.check import (
    answered_by,
    assert_all_met,
    assert_comes_to,
    assert_settles,
    assert_spread_evenly,
    connections_needed,
)
from e2e.probe import draw

# What a change may bring is a pod that is left out or starved, and not one that is off by a little.
AFTER_CHANGE = 0.5


@pytest.mark.clause(
    "balance.uniform-and-random", covers=["LB-01", "LB-02", "LB-07", "N-08", "N-09"]
)
def test_every_pod_gets_its_share_from_every_node(standing, expose, nodes, outside):
    """Through every node every pod gets the same share, picked at random and not in turn.

    There are enough connections to see a pod whose share is off by a quarter with probability
    0.999, and one false alarm in a thousand million verdicts.
    """
    service = expose(standing)
    flows = service.flows(outside, via=nodes)
    assert_settles(dict.fromkeys(flows, answered_by(*standing.pods)))

    replies = draw(flows, connections_needed(len(standing.pods)))

    assert_spread_evenly(replies, over=standing.pods)


@pytest.mark.clause("balance.scaled-up", covers=["LB-05", "N-08"])
def test_a_new_pod_gets_its_share(place_scaled, expose, nodes, outside):
    """After scaling up, a new pod gets the same share as the others, through every node."""
    echo = place_scaled(1)
    flows = expose(echo).flows(outside, via=nodes)
    assert_settles(dict.fromkeys(flows, answered_by(*echo.pods)))

    echo.scale(2)

    assert_shared_evenly(flows, echo)


@pytest.mark.clause("balance.scaled-down", covers=["LB-05", "N-08"])
def test_a_gone_pod_gets_nothing(place_scaled, expose, nodes, outside):
    """After scaling down, a gone pod gets nothing through any node, and the rest share evenly."""
    echo = place_scaled(3)
    flows = expose(echo).flows(outside, via=nodes)
    assert_comes_to(assert_all_met, flows, over=echo.pods)

    echo.scale(2)

    assert_shared_evenly(flows, echo)


@pytest.mark.clause("balance.rolled-out", covers=["LB-05", "N-08"])
def test_pods_that_replace_others_share_evenly(place_scaled, expose, nodes, outside):
    """After a rollout, the new pods share evenly and the old ones get nothing, on every node."""
    echo = place_scaled(2)
    flows = expose(echo).flows(outside, via=nodes)
    assert_comes_to(assert_all_met, flows, over=echo.pods)

    echo.roll_out()

    assert_shared_evenly(flows, echo)


def assert_shared_evenly(flows, echo):
    """Each flow comes to reach exactly the pods that there are now, each as often as the others."""
    assert_comes_to(assert_all_met, flows, over=echo.pods)
    count = connections_needed(len(echo.pods), unevenness=AFTER_CHANGE)
    assert_spread_evenly(draw(flows, count), over=echo.pods, unevenness=AFTER_CHANGE)
