"""Traffic policies: who passes connections on, and as whom the pod sees the caller."""

import pytest

from e2e.check import answered_by, assert_only, assert_serves, assert_settles
from e2e.probe import REFUSED, draw

TCP_AND_UDP = [
    {"name": "http", "port": 80, "targetPort": 8080},
    {"name": "dns", "port": 53, "targetPort": 8081, "protocol": "UDP"},
]


@pytest.mark.clause("policy.local-keeps-the-source", covers=["ETP-01", "ETP-03"])
@pytest.mark.needs("two-workers", "outside-caller")
def test_local_serves_own_pods_and_keeps_the_source(
    standing, expose, workers, nodes, outside, clients, own_addresses, chosen
):
    """With Local a node speaks for its own pods only, and they see the caller's own address.

    The caller is neither a node nor the gateway of the nodes' network.
    """
    echo, home = standing.on(workers[0]), workers[0].addresses.values()
    service = expose(echo, externalTrafficPolicy="Local")

    at_home, table = {}, {}
    for flow in service.flows_of_each(clients.first(2), via=nodes):
        if flow.target.address in home:
            at_home[flow.closely()] = answered_by(*echo.pods, seen_as=[flow.caller.source])
        else:
            table[flow.closely()] = chosen("local-without-a-pod")
    assert_strangers(at_home, outside, own_addresses)

    # Silence takes its time, so one look at it has to do.
    assert_settles(at_home | table, times=1)
    assert_only(draw(at_home, 20), at_home)


@pytest.mark.clause("policy.cluster-hides-the-source", covers=["ETP-02"])
@pytest.mark.family("extended")
@pytest.mark.needs("outside-caller", "kube-proxy")
def test_cluster_hides_the_source(standing, expose, nodes, outside, clients, own_addresses):
    """With Cluster the pod sees an address of the node that was called, and never the caller's.

    The caller is neither a node nor the gateway of the nodes' network.
    """
    service = expose(standing)
    table = {
        service.seen_from(caller, via=node, family=family).closely(): answered_by(
            *standing.pods, seen_as=own_addresses[node.name]
        )
        for family in service.families
        for caller in clients.first(2).vantages(family)
        for node in nodes
    }
    assert_strangers(table, outside, own_addresses)

    assert_settles(table)
    assert_only(draw(table, 40), table)


def assert_strangers(flows, outside, own_addresses):
    """No caller has an address of a node, or the one that this machine has beside the nodes."""
    nearby = {outside.source_towards(flow.target.address) for flow in flows}
    nearby |= frozenset().union(*own_addresses.values())
    assert nearby.isdisjoint(flow.caller.source for flow in flows)


@pytest.mark.clause("policy.no-pod-refuses", covers=["ETP-04"])
@pytest.mark.needs("outside-caller")
def test_without_any_pod_both_policies_refuse(standing, expose, nodes, outside, own_callers):
    """When the last pod is gone from a Service, every node refuses, over TCP and UDP.

    It does so under both policies, and under Local also where no pod had been.
    """
    services = [
        expose(standing, ports=TCP_AND_UDP, externalTrafficPolicy=policy)
        for policy in ("Cluster", "Local")
    ]
    homes = [node for node in nodes if node.name in standing.pods.values()]
    ports = [(service, number) for service in services for number in service.node_ports.values()]
    served = [flow for s, number in ports for flow in s.flows(outside, via=homes, port=number)]
    assert_serves(dict.fromkeys(served, answered_by(*standing.pods)))

    for service in services:
        service.change(selector={"nobody": "has-this"})

    others = expose(standing).flows(outside, via=nodes)
    table = dict.fromkeys(others, answered_by(*standing.pods))
    for family in services[0].families:
        # Each node sends each caller one refusal a look.
        for (service, number), caller in zip(ports, own_callers(len(ports), family), strict=True):
            for node in nodes:
                flow = service.seen_from(caller, via=node, port=number, family=family)
                table[flow] = REFUSED
    assert_settles(table)


@pytest.mark.clause("policy.local-from-inside", covers=["ETP-05", "ETP-06"])
@pytest.mark.family("extended")
@pytest.mark.needs("two-workers")
def test_local_from_inside(standing, expose, workers, inside, towards, chosen):
    """With Local a node serves callers of its own though it has no pod, and no other node's.

    Callers are pods and processes on every node; a node with a pod serves them all.
    """
    echo = standing.on(workers[0])
    service = expose(echo, externalTrafficPolicy="Local")
    at_home, from_elsewhere = chosen("local-on-its-own-node"), chosen("local-without-a-pod")
    table = {}
    for node, callers in towards(list(inside)).items():
        for caller in callers:
            empty = at_home if node.name == inside[caller] else from_elsewhere
            want = answered_by(*echo.pods) if node == workers[0] else empty
            table |= dict.fromkeys(service.flows(caller, via=[node]), want)
    served = {flow: want for flow, want in table.items() if want != from_elsewhere}

    assert_settles(served)
    # A pod takes 5 s to call silence by its name, so one look has to do.
    assert_settles(table, times=1)


@pytest.mark.clause("policy.each-its-own-traffic", covers=["ETP-12", "ETP-13"])
@pytest.mark.needs("two-workers")
def test_each_policy_is_about_its_own_traffic(
    standing, expose, workers, nodes, outside, inside, chosen
):
    """The external policy governs node ports from outside alone, the internal one ClusterIPs alone.

    All four combinations are asked through every node, and from pods and processes on every node.
    """
    echo = standing.on(workers[0])
    served, table = answered_by(*echo.pods), {}
    nothing, nothing_inside = chosen("local-without-a-pod"), chosen("internal-local-without-a-pod")
    for external in ("Cluster", "Local"):
        for internal in ("Cluster", "Local"):
            service = expose(echo, externalTrafficPolicy=external, internalTrafficPolicy=internal)
            for node in nodes:
                passes = external == "Cluster" or node == workers[0]
                flows = service.flows(outside, via=[node])
                table |= dict.fromkeys(flows, served if passes else nothing)
            for caller, its_node in inside.items():
                passes = internal == "Cluster" or its_node == workers[0].name
                flows = service.cluster_flows(caller)
                table |= dict.fromkeys(flows, served if passes else nothing_inside)

    assert_settles({flow: want for flow, want in table.items() if want is served})
    # A pod takes 5 s to call silence by its name, so one look has to do.
    assert_settles(table, times=1)
