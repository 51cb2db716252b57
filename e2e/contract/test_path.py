"""What lies on the way: nobody else is disturbed, and nobody else gets in between."""

import pytest

from e2e import timing
from e2e.check import (
    answered_by,
    assert_none_delayed,
    assert_one_each,
    assert_only,
    assert_serves,
    assert_settles,
)
from e2e.probe import AT_ONCE, CUT_OFF, draw, draw_half_closed, draw_kept

# Requests over one connection, the answer to each of which is followed by a stray packet.
STRAYS = 20
# Of one address.
SHORT_ONES = 20_000
# Connections through each node of which one half is closed.
HALF_CLOSED = 5


@pytest.mark.clause("path.foreign-hosts-left-alone", covers=["DP-18"])
@pytest.mark.needs("outside-caller")
def test_a_node_port_number_elsewhere_is_left_alone(
    standing, expose, nodes, outside, foreign_host, in_pods, in_hosts
):
    """A host outside that listens on a node port's number is reached by pods and nodes as before.

    Only connections to a node's own addresses are redirected.
    """
    service = expose(standing)
    host = foreign_host(service.node_port)

    table = dict.fromkeys(service.flows(outside, via=nodes), answered_by(*standing.pods))
    for caller in in_pods + in_hosts:
        flows = host.flows(caller, families=service.families)
        table |= dict.fromkeys(flows, answered_by(host.name))
    assert_settles(table)


@pytest.mark.clause("path.half-closed", covers=["L4-12"])
@pytest.mark.needs("own-sockets")
def test_a_half_closed_connection_brings_its_answer(standing, expose, nodes, outside):
    """A caller that has closed its half of a connection is answered on it twelve seconds later.

    Five through each node wait at the same time.
    """
    service = expose(standing)
    assert_settles(dict.fromkeys(service.flows(outside, via=nodes), answered_by(*standing.pods)))

    connections = [f for _ in range(HALF_CLOSED) for f in service.flows(outside, via=nodes)]
    replies = draw_half_closed(connections, idle=timing.IDLE_FOR)

    assert_one_each(replies, over=standing.pods)


@pytest.mark.clause("path.process-on-the-node", covers=["DP-19"])
def test_a_process_on_the_node_does_not_get_the_connections(
    standing, expose, nodes, outside, host_process, ports
):
    """A process that listens on a node port's number does not get the Service's connections.

    It gets them before the Service is there, and again when it has gone.
    """
    number, other = ports.free(), expose(standing)
    others = dict.fromkeys(other.flows(outside, via=nodes), answered_by(*standing.pods))
    process = host_process(number)
    flows = [flow.at(number) for flow in others]
    alone = dict.fromkeys([f.owned_by(process) for f in flows], answered_by(process.name))
    assert_settles(alone | others)

    service = expose(standing, ports=[{"port": 80, "targetPort": 8080, "nodePort": number}])
    assert_serves(dict.fromkeys(flows, answered_by(*standing.pods)) | others)

    service.remove()
    assert_settles(alone | others)


@pytest.mark.clause("path.host-port-beside", covers=["DP-22"])
@pytest.mark.family("extended")
def test_a_host_port_of_another_protocol_is_independent(
    standing, hold_host_port, expose, workers, nodes, outside, ports
):
    """A UDP host port of a pod and a TCP node port of the same number leave each other alone.

    That holds before the Service is there, while it is, and after it has gone.
    """
    number, home = ports.free(), (workers or nodes)[0]
    holder = hold_host_port(home, number)
    other = expose(standing)
    to_holder = other.flows(outside, via=[home], port=number, protocol="UDP")
    beside = dict.fromkeys([f.owned_by(holder) for f in to_holder], answered_by(*holder.pods))
    others = dict.fromkeys(other.flows(outside, via=nodes), answered_by(*standing.pods))
    assert_settles(beside | others)

    service = expose(standing, ports=[{"port": 80, "targetPort": 8080, "nodePort": number}])
    served = dict.fromkeys(service.flows(outside, via=nodes), answered_by(*standing.pods))
    assert_serves(served | beside)

    service.remove()
    assert_settles(beside | others)


@pytest.mark.clause("path.strays-of-pods", covers=["DP-14"])
@pytest.mark.family("extended")
@pytest.mark.needs("two-workers", "kube-proxy", "own-cluster", "own-sockets")
@pytest.mark.usefixtures("guarded_tracking")
def test_a_connection_survives_stray_packets_of_its_pod(
    place_echo, expose, let_stray, workers, nodes, outside
):
    """A connection goes on although its pod sends packets far outside of the window.

    It does so through other nodes, and under Local through the pod's own.
    """
    home = workers[0]
    echo = place_echo(home)
    (pod,) = echo.pods
    away = [node for node in nodes if node != home]
    flows = expose(echo).flows(outside, via=away)
    flows += expose(echo, externalTrafficPolicy="Local").flows(outside, via=[home])
    assert_serves(dict.fromkeys(flows, answered_by(pod)))

    wait_for_strays = let_stray(home, echo)
    replies = draw_kept(flows, STRAYS)

    assert_only(replies, dict.fromkeys(flows, answered_by(pod)))
    assert min(len(each) for each in replies.values()) == STRAYS
    wait_for_strays(STRAYS * len(flows))


@pytest.mark.clause("path.strays-of-callers", covers=["DP-14"])
@pytest.mark.family("extended")
@pytest.mark.needs("outside-caller")
@pytest.mark.usefixtures("liberal_tracking")
def test_a_connection_survives_stray_packets_of_its_caller(
    standing, expose, straying_caller, nodes, outside
):
    """A connection goes on although its caller sends packets far outside of the window."""
    service = expose(standing)

    straying = straying_flows(service, straying_caller, nodes)
    flows = straying + service.flows(outside, via=nodes)
    assert_settles(dict.fromkeys(flows, answered_by(*standing.pods)))


@pytest.mark.clause("path.strays-of-callers-reset", covers=["DP-14"])
@pytest.mark.family("extended")
@pytest.mark.needs("outside-caller")
@pytest.mark.known_bug("https://github.com/kubernetes/kubernetes/issues/117924")
@pytest.mark.usefixtures("strict_tracking")
def test_stray_packets_of_a_caller_reset_its_connection(
    standing, expose, straying_caller, nodes, outside
):
    """Where connection tracking is strict, a caller's packet far outside of the window resets.

    The node takes it for its own.
    """
    service = expose(standing)
    served = dict.fromkeys(service.flows(outside, via=nodes), answered_by(*standing.pods))

    straying = straying_flows(service, straying_caller, nodes)
    assert_settles(dict.fromkeys(straying, CUT_OFF) | served)


@pytest.mark.clause("path.many-short-connections", covers=["DP-15", "DP-16", "DP-17"])
@pytest.mark.family("slow")
@pytest.mark.needs("own-sockets")
def test_many_short_connections_lose_none(standing, expose, nodes, outside):
    """Of 20,000 short connections from one address to one pod none fails and none waits.

    The node gives each of them a source port of its own, though several open at the same time.
    """
    echo = standing.seat(0)
    away = [node for node in nodes if node.name not in echo.pods.values()][:1] or nodes
    service = expose(echo)
    assert_serves(dict.fromkeys(service.flows(outside, via=away), answered_by(*echo.pods)))

    flows = service.flows(outside, via=away)
    replies = draw(flows, SHORT_ONES, AT_ONCE)

    assert_only(replies, dict.fromkeys(flows, answered_by(*echo.pods)))
    assert_none_delayed(replies)


def straying_flows(service, straying_caller, nodes):
    """The flows through each node over each IP family, from a caller whose packets stray."""
    flows = []
    for family in service.families:
        caller = straying_caller(family)
        flows += [service.seen_from(caller, via=node, family=family) for node in nodes]
    return flows
