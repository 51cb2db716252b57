"""With many pods all are used, and each connection's pod is picked at random."""

import pytest

from e2e.check import answered_by, assert_settles, assert_spread_evenly, connections_needed
from e2e.probe import draw


@pytest.mark.clause(
    "balance.uniform-and-random", covers=["LB-01", "LB-02", "LB-07", "N-08", "N-09"]
)
def test_every_pod_gets_its_share_from_every_node(standing, expose, nodes, outside):
    """Through every node every pod gets the same share, picked at random and not in turn.

    Enough connections to see a pod whose share is off by a quarter with probability 0.999, at a
    rate of false alarms of one in a thousand million a verdict.
    """
    service = expose(standing)
    flows = service.flows(outside, via=nodes)
    assert_settles(dict.fromkeys(flows, answered_by(*standing.pods)))

    replies = draw(flows, connections_needed(len(standing.pods)))

    assert_spread_evenly(replies, over=standing.pods)


@pytest.mark.clause("balance.scaled-up", covers=["LB-05", "N-08"])
def test_a_new_pod_gets_its_share(place_scaled, expose, nodes, outside):
    """After scaling up the new pod gets the same share as the others, through every node."""
    echo = place_scaled(1)
    service = expose(echo)
    flows = service.flows(outside, via=nodes)
    first = set(echo.pods)
    assert_settles(dict.fromkeys(flows, answered_by(*first)))

    echo.scale(2)

    new = set(echo.pods) - first
    for flow in flows:
        assert_settles({flow: answered_by(*new)}, times=1)
    replies = draw(flows, connections_needed(len(echo.pods)))
    assert_spread_evenly(replies, over=echo.pods)


@pytest.mark.clause("balance.scaled-down", covers=["LB-05", "N-08"])
def test_a_gone_pod_gets_nothing(place_scaled, expose, nodes, outside):
    """After scaling down the gone pod gets nothing through any node, and the rest share evenly."""
    echo = place_scaled(3)
    service = expose(echo)
    flows = service.flows(outside, via=nodes)
    assert_settles(dict.fromkeys(flows, answered_by(*echo.pods)))

    echo.scale(2)

    assert_settles(dict.fromkeys(flows, answered_by(*echo.pods)), times=10)
    replies = draw(flows, connections_needed(len(echo.pods)))
    assert_spread_evenly(replies, over=echo.pods)
