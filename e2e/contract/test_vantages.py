"""Every caller inside the cluster reaches the Service, through whatever node it calls."""

import pytest

from e2e.check import answered_by, assert_settles

BOTH = [
    {"name": "tcp", "port": 80, "targetPort": 8080},
    {"name": "udp", "port": 53, "targetPort": 8081, "protocol": "UDP"},
]


@pytest.mark.clause("vantages.pods", covers=["DP-02", "DP-20"])
@pytest.mark.needs("two-workers")
def test_a_pod_calls_through_every_node(standing, expose, workers, nodes, in_pods):
    """A pod reaches the node port at its own node and at any other, with a pod of it and without.

    It does so over TCP and over UDP, and is answered from the address and port that it called.
    """
    echo = standing.on(workers[0])
    assert {standing.pods[caller.pod] for caller in in_pods} >= {w.name for w in workers[:2]}

    service = expose(echo, ports=BOTH)

    flows = [flow for caller in in_pods for flow in every_flow(service, caller, nodes)]
    assert_settles(dict.fromkeys(flows, answered_by(*echo.pods)))


@pytest.mark.clause("vantages.hosts", covers=["DP-03", "DP-20"])
@pytest.mark.needs("two-workers")
def test_a_host_calls_through_every_node(standing, expose, workers, nodes, in_hosts, towards):
    """Every node reaches the node port at its own address and at any other node's.

    It does so over TCP and over UDP, whether there is a pod of the Service on either or not.
    """
    echo = standing.on(workers[0])

    service = expose(echo, ports=BOTH)

    flows = [
        flow
        for node, callers in towards(in_hosts).items()
        for caller in callers
        for flow in every_flow(service, caller, [node])
    ]
    assert len(in_hosts) == len(nodes)
    assert_settles(dict.fromkeys(flows, answered_by(*echo.pods)))


@pytest.mark.clause("vantages.hairpin", covers=["DP-12"])
def test_a_pod_reaches_itself(standing, expose, nodes):
    """A pod that is its Service's only one reaches itself through it, whatever way it takes.

    Through the ClusterIP, the node port of its own node and those of others, over TCP and UDP.
    """
    echo = standing.seat(0)
    (itself,) = echo.pods
    caller = standing.vantage(itself)

    service = expose(echo, ports=BOTH)

    cluster = [flow for port in (80, 53) for flow in service.cluster_flows(caller, port=port)]
    flows = cluster + every_flow(service, caller, nodes)
    assert_settles(dict.fromkeys(flows, answered_by(itself)))


@pytest.mark.clause("vantages.pods-keep-their-address", covers=["DP-21"])
@pytest.mark.needs("two-workers")
def test_a_pod_keeps_its_address_towards_a_cluster_ip(standing, expose, workers, in_pods):
    """A pod on another node that is called through the ClusterIP sees the caller's own address."""
    table = {}
    for node in workers[:2]:
        echo = standing.on(node)
        service = expose(echo)
        for caller in in_pods:
            if standing.pods[caller.pod] != node.name:
                mine = standing.addresses[caller.pod].values()
                for flow in service.cluster_flows(caller):
                    table[flow.closely()] = answered_by(*echo.pods, seen_as=mine)
    assert len(table) > 1

    assert_settles(table)


def every_flow(service, caller, nodes):
    """The flows from a caller through each node to each port of the Service."""
    return [
        flow
        for port in service.node_ports.values()
        for flow in service.flows(caller, via=nodes, port=port)
    ]
