"""externalIPs give a Service further addresses."""

import pytest

from e2e.check import (
    answered_by,
    assert_accepted,
    assert_comes_to,
    assert_one_each,
    assert_refused,
    assert_serves,
    assert_settles,
    assert_spread_evenly,
    connections_needed,
)
from e2e.probe import CLOSED, FOREIGN, draw

# Its port on every node; whoever speaks plain HTTP there is told so.
KUBELET = 10250
# Rules that work at node ports could only leave out or starve a pod here.
STARVED = 0.75
CONNECTIONS = 100


@pytest.mark.clause("external.answers-through-every-node", covers=["EXT-01", "EXT-04", "N-19"])
@pytest.mark.needs("external-ips", "outside-caller", "own-cluster")
def test_an_external_address_answers_until_it_is_removed(
    standing, expose, nodes, caller, outside, listed, documentation_addresses
):
    """An external address answers on the Service's own port, through any node it is routed to.

    `kubectl get services` shows it. Once it is removed it stops, and the node port goes on.
    """
    service = expose(standing, ports=[{"port": 8088, "targetPort": 8080}])
    families = service.stored["spec"]["ipFamilies"]
    addresses = [documentation_addresses[family] for family in families]
    service.change(externalIPs=addresses)
    external = [
        service.external_flow(caller.routing(address, via=node), address=address, via=node)
        for address in addresses
        for node in nodes
    ]
    node_ports = service.flows(outside, via=nodes)
    served = answered_by(*standing.pods)

    assert_serves(dict.fromkeys(external + node_ports, served))
    assert listed(service.name, service.namespace)["External-IP"] == ",".join(addresses)

    service.change(externalIPs=None)

    # Silence is 3.5 s in which three SYNs go unanswered, so one look has to do.
    gone = dict.fromkeys(external, CLOSED)
    assert_settles(gone | dict.fromkeys(node_ports, served), times=1)
    assert listed(service.name, service.namespace)["External-IP"] == "<none>"


@pytest.mark.clause("external.own-address-takes-one-port", covers=["EXT-02"])
@pytest.mark.needs("external-ips", "own-cluster")
def test_a_nodes_own_address_loses_no_other_port(
    standing, expose, ports, nodes, workers, outside, in_pods
):
    """A node's own address as external address serves the Service's port, and takes no other.

    The kubelet there goes on answering to callers outside and in pods on every node, and so does
    the node port. Another node's address is not touched.
    """
    own, other = (workers or nodes)[0], nodes[0]
    port = 7000 + ports.free() % 1000
    service = expose(standing, ports=[{"port": port, "targetPort": 8080}])
    service.change(externalIPs=[own.addresses[family] for family in service.families])

    served, table = answered_by(*standing.pods), {}
    for flow in service.flows(outside, via=[own]):
        table |= {flow: served, flow.at(port): served, flow.at(KUBELET): FOREIGN}
    for caller in in_pods:
        for flow in service.flows(caller, via=[own]):
            table |= {flow.at(port): served, flow.at(KUBELET): FOREIGN}
    if other != own:
        for flow in service.flows(outside, via=[other]):
            table |= {flow: served, flow.at(port): CLOSED, flow.at(KUBELET): FOREIGN}
    assert_serves(table)


@pytest.mark.clause("external.local-keeps-the-source", covers=["EXT-03"])
@pytest.mark.needs("external-ips", "two-workers", "outside-caller", "own-cluster")
def test_local_holds_at_an_external_address(
    standing, expose, workers, nodes, caller, in_pods, documentation_addresses
):
    """With Local an external address serves through nodes with a pod, which sees the caller itself.

    A node without a pod hands nothing on. A pod reaches the address from every node all the same.
    """
    echo = standing.on(workers[0])
    port = [{"port": 8088, "targetPort": 8080}]
    service = expose(echo, ports=port, externalTrafficPolicy="Local")
    addresses = [documentation_addresses[family] for family in service.families]
    service.change(externalIPs=addresses)

    table = {}
    for address in addresses:
        for node in nodes:
            client = caller.routing(address, via=node)
            flow = service.external_flow(client, address=address, via=node)
            at_home = answered_by(*echo.pods, seen_as=[client.source])
            table[flow.closely()] = at_home if node == workers[0] else CLOSED
        for pod in in_pods:
            table[service.flow_to(pod, address, name=address, port=8088)] = answered_by(*echo.pods)
    assert_settles(table, times=1)


@pytest.mark.clause("external.spread-and-sticky", covers=["EXT-06"])
@pytest.mark.needs("external-ips", "outside-caller", "own-cluster")
def test_shares_and_affinity_hold_at_an_external_address(
    standing, expose, nodes, caller, documentation_addresses
):
    """An external address has equal shares too, and with ClientIP a client keeps its pod there.

    Through every node that the address is routed to.
    """
    service = expose(standing, ports=[{"port": 8088, "targetPort": 8080}])
    addresses = [documentation_addresses[family] for family in service.families]
    service.change(externalIPs=addresses)
    flows = [
        service.external_flow(caller.routing(address, via=node), address=address, via=node)
        for address in addresses
        for node in nodes
    ]
    assert_settles(dict.fromkeys(flows, answered_by(*standing.pods)))

    count = connections_needed(len(standing.pods), unevenness=STARVED)
    assert_spread_evenly(draw(flows, count), over=standing.pods, unevenness=STARVED)

    service.change(sessionAffinity="ClientIP")
    assert_comes_to(assert_one_each, flows, over=standing.pods)
    assert_one_each(draw(flows, CONNECTIONS), over=standing.pods)


@pytest.mark.clause("external.switched-off", covers=["EXT-05"])
@pytest.mark.needs("external-ips-off", "outside-caller", "own-cluster")
def test_external_addresses_that_are_switched_off_do_not_serve(
    standing, expose, nodes, caller, outside, documentation_addresses
):
    """Where kube-proxy serves no external addresses, they are closed, and the node port serves."""
    service = expose(standing, ports=[{"port": 8088, "targetPort": 8080}])
    addresses = [documentation_addresses[family] for family in service.families]
    service.change(externalIPs=addresses)

    table = dict.fromkeys(service.flows(outside, via=nodes), answered_by(*standing.pods))
    for address in addresses:
        for node in nodes:
            intended = caller.routing(address, via=node)
            table[service.external_flow(intended, address=address, via=node)] = CLOSED
    assert_settles(table)


@pytest.mark.clause("external.forbidden-takes-nothing", covers=["API-16", "EXT-05", "SEC-05"])
@pytest.mark.needs("external-ips-denied")
def test_where_they_are_forbidden_nobodys_traffic_is_taken(
    standing, expose, submit, change, nodes, in_pods, in_hosts
):
    """Where external addresses are forbidden, none can be made to take a node's own traffic.

    A Service that asks for a node's address and a port that somebody has there is refused, also by
    a change, and pods on every node go on reaching who has it (CVE-2020-8554).
    """
    service, port = expose(standing), in_hosts[0].port
    wanted = [address for node in nodes for address in node.addresses.values()]
    way = {"selector": standing.labels, "ports": [{"port": port, "targetPort": 8080}]}
    assert_refused(submit(externalIPs=wanted, **way), code=403, reason="Forbidden")
    existing = assert_accepted(submit(**way))
    assert_refused(change(existing, externalIPs=wanted), code=403, reason="Forbidden")

    table = {}
    for pod in in_pods:
        for flow in service.flows(pod, via=nodes):
            table |= {flow: answered_by(*standing.pods), flow.at(port): FOREIGN}
    assert_serves(table)
