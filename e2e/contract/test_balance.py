"""With many pods all are used, and each connection's pod is picked at random."""

import pytest

from e2e import timing
from e2e.check import (
    answered_by,
    assert_all_met,
    assert_comes_to,
    assert_none_delayed,
    assert_one_each,
    assert_only,
    assert_serves,
    assert_settles,
    assert_spread,
    assert_spread_evenly,
    connections_needed,
    connections_to_meet,
)
from e2e.probe import AT_ONCE, draw, draw_kept

# What a change may bring is a pod that is left out or starved, and not one that is off by a little.
AFTER_CHANGE = 0.5
# Enough to see what befalls one connection of a thousand.
MANY = 5000
# By chance all connections of one node have one pod once in a thousand million times.
KEPT, REQUESTS = 20, 50
# Of one node that forgets them no more than one of three goes on by chance, as it picks anew.
IDLE = 5
# A slice may have one port alone where all endpoints of a pod differ by it.
PORTS = range(20000, 20050)


@pytest.mark.clause(
    "balance.uniform-and-random",
    covers=["LB-01", "LB-02", "LB-07", "DP-15", "DP-17", "N-08", "N-09"],
)
def test_every_pod_gets_its_share_from_every_node(standing, expose, nodes, outside):
    """Through every node every pod gets the same share, picked at random and not in turn.

    There are enough connections to see a pod whose share is off by a quarter with probability
    0.999, and one false alarm in a thousand million verdicts. None of them opens so late as after a
    lost first packet, and none is answered by anybody else.
    """
    service = expose(standing)
    flows = service.flows(outside, via=nodes)
    assert_settles(dict.fromkeys(flows, answered_by(*standing.pods)))

    replies = draw(flows, max(MANY, connections_needed(len(standing.pods))), AT_ONCE)

    assert_spread_evenly(replies, over=standing.pods)
    assert_none_delayed(replies)


@pytest.mark.clause("balance.per-connection", covers=["LB-06"])
@pytest.mark.needs("own-sockets")
def test_requests_of_one_connection_stay_on_one_pod(standing, expose, nodes, outside):
    """The pod is picked once a connection: all requests over one go to one pod.

    Twenty connections through a node do not all go to the same.
    """
    service = expose(standing)
    assert_settles(dict.fromkeys(service.flows(outside, via=nodes), answered_by(*standing.pods)))

    for node in nodes:
        connections = [f for _ in range(KEPT) for f in service.flows(outside, via=[node])]
        replies = draw_kept(connections, REQUESTS)

        assert_one_each(replies, over=standing.pods)
        assert_spread(replies, over=standing.pods)


@pytest.mark.clause("balance.idle-connection", covers=["LB-06"])
@pytest.mark.needs("own-sockets")
def test_an_idle_connection_leads_to_its_pod(standing, expose, nodes, outside):
    """A connection on which nothing was said for twelve seconds still leads to its pod.

    Five through each node are idle at the same time.
    """
    service = expose(standing)
    assert_settles(dict.fromkeys(service.flows(outside, via=nodes), answered_by(*standing.pods)))

    connections = [f for _ in range(IDLE) for f in service.flows(outside, via=nodes)]
    replies = draw_kept(connections, 2, idle=timing.IDLE_FOR)

    assert_one_each(replies, over=standing.pods)


@pytest.mark.clause("balance.local", covers=["LB-04"])
@pytest.mark.needs("two-workers")
def test_local_pods_share_evenly(standing, expose, nodes, outside, chosen):
    """With Local a node with several pods picks evenly among these, and never another node's.

    A node with one pod uses that one.
    """
    service = expose(standing, externalTrafficPolicy="Local")
    table, nothing = {}, chosen("local-without-a-pod")
    for node in nodes:
        own = standing.on(node).pods
        wanted = answered_by(*own) if own else nothing
        table |= dict.fromkeys(service.flows(outside, via=[node]), wanted)
    # Silence takes its time, so one look has to do.
    assert_settles(table, times=1)

    assert any(len(standing.on(node).pods) > 1 for node in nodes), "no node has to choose"
    for node in nodes:
        own, flows = standing.on(node).pods, service.flows(outside, via=[node])
        if len(own) > 1:
            assert_spread_evenly(draw(flows, connections_needed(len(own)), AT_ONCE), over=own)
        elif own:
            assert_comes_to(assert_all_met, flows, over=own)


@pytest.mark.clause("balance.same-node-preferred", covers=["LB-08"])
@pytest.mark.family("extended")
@pytest.mark.needs("two-workers", "kube-proxy")
def test_near_pods_are_preferred(standing, expose, nodes, outside):
    """With PreferSameNode a node uses its own pods alone, and all pods where it has none."""
    service = expose(standing, trafficDistribution="PreferSameNode")

    for node in nodes:
        near = standing.on(node).pods or standing.pods
        assert_comes_to(assert_all_met, service.flows(outside, via=[node]), over=near)


@pytest.mark.clause("balance.same-zone-preferred", covers=["LB-08"])
@pytest.mark.family("extended")
@pytest.mark.needs("two-workers", "control-plane", "kube-proxy", "own-cluster")
def test_pods_in_the_zone_are_preferred(
    standing, expose, zone, control_plane, workers, nodes, outside
):
    """With PreferClose a node uses the pods of its zone alone, and all pods where it has none.

    It need not have one of these pods itself.
    """
    one, other = workers[:2]
    for node in nodes:
        zone(node, "far" if node == other else "near")
    both = expose(standing, trafficDistribution="PreferClose")
    far = expose(standing.on(other), trafficDistribution="PreferClose")

    near = standing.on(one).pods
    for node in (control_plane, one):
        assert_comes_to(assert_all_met, both.flows(outside, via=[node]), over=near)
    for service in (both, far):
        flows = service.flows(outside, via=[other])
        assert_comes_to(assert_all_met, flows, over=standing.on(other).pods)
    assert_settles(dict.fromkeys(far.flows(outside, via=nodes), answered_by(*far.owner.pods)))


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


@pytest.mark.clause("balance.many-endpoints", covers=["LB-09"])
@pytest.mark.family("slow")
@pytest.mark.needs("ipv4")
def test_every_one_of_many_endpoints_is_met(
    place_echo, expose, write_slices, later, workers, nodes, outside
):
    """Of 150 endpoints in 50 slices every single one gets connections through every node.

    They are fifty ports of each of three pods.
    """
    places = workers or nodes
    crowd = place_echo(*(places[n % len(places)] for n in range(3)), many_ports=PORTS)
    service = expose(crowd, selector={}, ipFamilies=["IPv4"], ipFamilyPolicy="SingleStack")
    endpoints = {(pod, port) for pod in crowd.pods for port in PORTS}

    for port in PORTS:
        write_slices(service, crowd, ports={"": port})
    # Its own slice reaches a node after all of these.
    assert_serves(later())

    met = draw(service.flows(outside, via=nodes), connections_to_meet(len(endpoints)), AT_ONCE)
    assert_only(met, dict.fromkeys(met, answered_by(*crowd.pods)))
    for flow, replies in met.items():
        missed = endpoints - {(reply.echo, reply.port) for reply in replies}
        assert not missed, f"{flow} never led to {sorted(missed)}"


def assert_shared_evenly(flows, echo):
    """Each flow comes to reach exactly the pods that there are now, each as often as the others."""
    assert_comes_to(assert_all_met, flows, over=echo.pods)
    count = connections_needed(len(echo.pods), unevenness=AFTER_CHANGE)
    assert_spread_evenly(draw(flows, count, AT_ONCE), over=echo.pods, unevenness=AFTER_CHANGE)
