"""sessionAffinity keeps a client on one pod."""

import pytest

from e2e.check import answered_by, assert_one_each, assert_settles, assert_spread
from e2e.probe import draw

CONNECTIONS = 200
# Three pods by chance give all twenty clients one pod once in a thousand million runs.
CLIENTS = 20


@pytest.mark.clause("affinity.one-client-one-pod", covers=["AFF-01", "N-10"])
def test_one_client_stays_on_one_pod(standing, expose, nodes, outside):
    """With ClientIP a client stays on one pod for 200 connections through a node.

    Through another node it may be another pod.
    """
    service = expose(standing, sessionAffinity="ClientIP")
    flows = service.flows(outside, via=nodes)
    assert_settles(dict.fromkeys(flows, answered_by(*standing.pods)))

    replies = draw(flows, CONNECTIONS)

    assert_one_each(replies, over=standing.pods)


@pytest.mark.clause("affinity.clients-are-spread", covers=["AFF-05", "N-10"])
@pytest.mark.needs("outside-caller")
def test_several_clients_are_spread(standing, expose, nodes, caller):
    """With ClientIP twenty client addresses do not all get the same pod, and each keeps its own."""
    service = expose(standing, sessionAffinity="ClientIP")
    for family in service.stored["spec"]["ipFamilies"]:
        flows = [
            service.seen_from(client, via=nodes[number % len(nodes)], family=family)
            for number, client in enumerate(caller.vantages(CLIENTS, family))
        ]
        assert_settles(dict.fromkeys(flows[: len(nodes)], answered_by(*standing.pods)))

        replies = draw(flows, 5)

        assert_one_each(replies, over=standing.pods)
        assert_spread(replies, over=standing.pods)


@pytest.mark.clause("affinity.none-spreads", covers=["AFF-02", "N-09", "N-10"])
def test_without_affinity_a_client_is_spread(standing, expose, nodes, outside):
    """Affinity can be switched on and off live: with None one client reaches several pods again."""
    service = expose(standing, sessionAffinity="ClientIP")
    flows = service.flows(outside, via=nodes)
    assert_settles(dict.fromkeys(flows, answered_by(*standing.pods)))
    assert_one_each(draw(flows, CONNECTIONS), over=standing.pods)

    service.change(sessionAffinity="None", sessionAffinityConfig=None)

    assert_settles_spread(flows, standing)


def assert_settles_spread(flows, echo):
    """Each flow reaches every pod."""
    for flow in flows:
        for pod in echo.pods:
            assert_settles({flow: answered_by(pod)}, times=1)
