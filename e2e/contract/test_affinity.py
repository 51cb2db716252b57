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
from e2e.probe import ANSWERED, Flow, Target, draw, watching

CONNECTIONS = 200
# Three pods by chance give all twenty clients one pod once in a thousand million times.
CLIENTS = 20
# Two pods do so to thirty-one.
CLIENTS_OF_TWO = 31


@pytest.mark.clause("affinity.one-client-one-pod", covers=["AFF-01", "N-10"])
def test_one_client_stays_on_one_pod(standing, expose, nodes, outside):
    """With ClientIP every connection of a client through one node goes to one pod.

    That holds from the very first connection on, and for 200 more. Through another node it may be
    another pod.
    """
    # So that all pods are alive and could be picked.
    spread = expose(standing).flows(outside, via=nodes)
    assert_comes_to(assert_all_met, spread, over=standing.pods)
    flows = expose(standing, sessionAffinity="ClientIP").flows(outside, via=nodes)

    first = replies_in(assert_settles(dict.fromkeys(flows, answered_by(*standing.pods))))
    then = draw(flows, CONNECTIONS)

    answers = {flow: [r for r in first[flow] if r.outcome == ANSWERED] for flow in flows}
    assert_one_each({flow: answers[flow] + then[flow] for flow in flows}, over=standing.pods)


@pytest.mark.clause("affinity.clients-are-spread", covers=["AFF-05", "N-10"])
@pytest.mark.needs("outside-caller")
def test_several_clients_are_spread(standing, expose, nodes, outside, clients):
    """With ClientIP each of twenty client addresses keeps its pod, and not all have the same one.

    Every node does so by itself.
    """
    service = expose(standing, sessionAffinity="ClientIP")
    assert_settles(dict.fromkeys(service.flows(outside, via=nodes), answered_by(*standing.pods)))

    replies = draw(service.flows_of_each(clients.first(CLIENTS), via=nodes), 5)

    assert_one_each(replies, over=standing.pods)
    for target in {str(flow.target) for flow in replies}:
        here = {flow: got for flow, got in replies.items() if str(flow.target) == target}
        assert_spread(here, over=standing.pods)


@pytest.mark.clause("affinity.each-node-and-port", covers=["AFF-06", "AFF-07"])
@pytest.mark.family("extended")
@pytest.mark.needs("outside-caller", "kube-proxy")
def test_each_node_and_port_pins_by_itself(standing, expose, nodes, clients):
    """A pin holds for one node and one port: through another, a client may have another pod.

    No two nodes, nor two ports of a Service, have all of 25 clients on the same pods.
    """
    ports = [{"name": n, "port": p, "targetPort": 8080} for n, p in (("a", 80), ("b", 81))]
    service = expose(standing, sessionAffinity="ClientIP", ports=ports)
    few = clients.first(25)
    flows = [
        flow
        for number in service.node_ports.values()
        for flow in service.flows_of_each(few, via=nodes, port=number)
    ]
    assert_settles(dict.fromkeys(flows, answered_by(*standing.pods)))

    replies = draw(flows, 2)

    assert_one_each(replies, over=standing.pods)
    pins, alike = {}, {}
    for flow, got in replies.items():
        pins.setdefault(str(flow.target), []).append(got[0].echo)
    for target, pods in pins.items():
        alike.setdefault(tuple(pods), []).append(target)
    same = [" and ".join(targets) for targets in alike.values() if len(targets) > 1]
    assert not same, f"all clients have the same pods through {'; '.join(same)}"


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


@pytest.mark.clause("affinity.local-policy", covers=["AFF-11"])
@pytest.mark.needs("outside-caller", "two-workers")
def test_affinity_holds_under_local(standing, expose, workers, clients):
    """With policy Local each client keeps one of the node's own pods, which sees its real address.

    The clients are spread over these pods.
    """
    own = standing.on(workers[0])
    service = expose(standing, sessionAffinity="ClientIP", externalTrafficPolicy="Local")
    flows = service.flows_of_each(clients.first(CLIENTS_OF_TWO), via=[workers[0]])
    seen = {f.closely(): answered_by(*own.pods, seen_as=[f.caller.source]) for f in flows[::10]}
    assert_settles(seen)

    replies = draw(flows, 5)

    assert_one_each(replies, over=own.pods)
    assert_spread(replies, over=own.pods)


@pytest.mark.clause("affinity.udp", covers=["AFF-13"])
@pytest.mark.needs("own-sockets")
def test_affinity_holds_for_udp(standing, expose, nodes, outside):
    """With ClientIP all datagrams of a client go to one pod, from one source port and from many.

    With None they are spread.
    """
    port = {"name": "dns", "port": 53, "targetPort": 8081, "protocol": "UDP"}
    # A flow that was there before keeps its pod, so affinity is there from the first datagram on.
    spread = expose(standing, ports=[port]).flows(outside, via=nodes)
    flows = expose(standing, ports=[port], sessionAffinity="ClientIP").flows(outside, via=nodes)
    assert_comes_to(assert_all_met, spread, over=standing.pods)
    assert_settles(dict.fromkeys(flows, answered_by(*standing.pods)))

    many = draw(flows, CONNECTIONS)
    with watching(flows) as watch:
        more = draw(flows, CONNECTIONS)
    one = {track.flow: [sample.reply for sample in track.samples] for track in watch.tracks}
    assert_one_each({f: many[f] + one[f] + more[f] for f in flows}, over=standing.pods)


@pytest.mark.clause("affinity.localhost", covers=["AFF-14"])
@pytest.mark.family("extended")
@pytest.mark.needs("ipv4", "iptables", "default-addresses", "localhost-node-ports")
def test_localhost_is_one_client(standing, expose, in_hosts):
    """Where a node port answers at 127.0.0.1, ClientIP keeps all of the node's callers on one pod.

    With None they are spread.
    """
    service = expose(standing, ipFamilies=["IPv4"], ipFamilyPolicy="SingleStack")
    local = Target("localhost", "127.0.0.1", service.node_port, standing)
    flows = [Flow(host, local) for host in in_hosts]
    assert_comes_to(assert_all_met, flows, over=standing.pods)

    service.change(sessionAffinity="ClientIP")

    assert_comes_to(assert_one_each, flows, over=standing.pods)
