"""sessionAffinity keeps a client on one pod."""

import pytest

from e2e.check import (
    answered_by,
    assert_all_met,
    assert_comes_to,
    assert_one_each,
    assert_settles,
    assert_spread,
    replies_in,
)
from e2e.probe import ANSWERED, draw

CONNECTIONS = 200
# Three pods by chance give all twenty clients one pod once in a thousand million times.
CLIENTS = 20


@pytest.mark.clause("affinity.one-client-one-pod", covers=["AFF-01", "N-10"])
def test_one_client_stays_on_one_pod(standing, expose, nodes, outside):
    """With ClientIP every connection of a client through one node goes to one pod.

    That holds from the very first connection on, and for 200 more. Through another node it may be
    another pod.
    """
    service = expose(standing, sessionAffinity="ClientIP")
    flows = service.flows(outside, via=nodes)

    first = replies_in(assert_settles(dict.fromkeys(flows, answered_by(*standing.pods))))
    then = draw(flows, CONNECTIONS)

    answers = {flow: [r for r in first[flow] if r.outcome == ANSWERED] for flow in flows}
    assert_one_each({flow: answers[flow] + then[flow] for flow in flows}, over=standing.pods)


@pytest.mark.clause("affinity.clients-are-spread", covers=["AFF-05", "N-10"])
@pytest.mark.needs("outside-caller")
def test_several_clients_are_spread(standing, expose, nodes, outside, caller):
    """With ClientIP each of twenty client addresses keeps its pod, and not all have the same one.

    Every node does so by itself.
    """
    service = expose(standing, sessionAffinity="ClientIP")
    flows = service.flows(outside, via=nodes)
    assert_settles(dict.fromkeys(flows, answered_by(*standing.pods)))

    for family in service.stored["spec"]["ipFamilies"]:
        clients = caller.vantages(CLIENTS, family)
        for node in nodes:
            replies = draw([service.seen_from(c, via=node, family=family) for c in clients], 5)

            assert_one_each(replies, over=standing.pods)
            assert_spread(replies, over=standing.pods)


@pytest.mark.clause("affinity.none-spreads", covers=["AFF-02", "N-09", "N-10"])
def test_without_affinity_a_client_is_spread(standing, expose, nodes, outside):
    """Affinity can be switched on and off while the Service is in use.

    With None one client reaches every pod, with ClientIP it stays on one for 200 connections, and
    with None again it reaches every pod.
    """
    service = expose(standing)
    flows = service.flows(outside, via=nodes)
    assert_comes_to(assert_all_met, flows, over=standing.pods)

    service.change(sessionAffinity="ClientIP")
    assert_comes_to(assert_one_each, flows, over=standing.pods)
    assert_one_each(draw(flows, CONNECTIONS), over=standing.pods)

    service.change(sessionAffinity="None", sessionAffinityConfig=None)
    assert_comes_to(assert_all_met, flows, over=standing.pods)
