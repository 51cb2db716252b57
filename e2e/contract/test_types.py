"""A Service changes its type: ClusterIP, NodePort, LoadBalancer and ExternalName."""

import pytest

from e2e.check import (
    answered_by,
    assert_accepted,
    assert_becomes,
    assert_keeps,
    assert_refused,
    assert_serves,
    assert_settles,
    assert_unnoticed,
)
from e2e.probe import CLOSED, watching

# What only a Service with an address of its own has.
OWN_ADDRESS = {"clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"}
OF_LOAD_BALANCERS = {"loadBalancerClass", "allocateLoadBalancerNodePorts"}
POLICIES = {"externalTrafficPolicy", "internalTrafficPolicy"}


@pytest.mark.clause("types.cluster-ip-to-node-port", covers=["LIF-01"])
def test_a_node_port_is_added(standing, expose, nodes, outside, in_pods, in_hosts, port_range):
    """A ClusterIP Service that becomes NodePort gets a node port, which serves on every node.

    Its ClusterIP stays, and no caller of it notices.
    """
    service = expose(standing, type="ClusterIP")
    addresses, served = service.stored["spec"]["clusterIPs"], answered_by(*standing.pods)
    inside = [flow for one in (in_pods[0], in_hosts[0]) for flow in service.cluster_flows(one)]
    assert_serves(dict.fromkeys(inside, served))

    with watching(inside) as watch:
        service.change(type="NodePort")
        assert_serves(dict.fromkeys(service.flows(outside, via=nodes), served))

    assert_unnoticed(watch)
    assert service.stored["spec"]["clusterIPs"] == addresses
    assert service.node_port in port_range


@pytest.mark.clause("types.node-port-to-cluster-ip", covers=["LIF-02"])
def test_a_node_port_is_taken_away(standing, expose, ports, nodes, outside, in_pods, in_hosts):
    """A NodePort Service that becomes ClusterIP loses its node port, which closes on every node.

    It stays closed, no field of node ports is left, the ClusterIP stays, and no caller of it
    notices.
    """
    # No Service of another clause gets this one once it is given up.
    chosen = [{"port": 80, "targetPort": 8080, "nodePort": ports.free()}]
    service = expose(standing, ports=chosen)
    flows, served = service.flows(outside, via=nodes), answered_by(*standing.pods)
    inside = [flow for one in (in_pods[0], in_hosts[0]) for flow in service.cluster_flows(one)]
    assert_serves(dict.fromkeys(flows + inside, served))
    addresses = service.stored["spec"]["clusterIPs"]

    with watching(inside) as watch:
        service.change(type="ClusterIP")
        closed = dict.fromkeys(flows, CLOSED) | dict.fromkeys(inside[:1], served)
        assert_settles(closed)

    assert_unnoticed(watch)
    assert_keeps(closed)
    spec = service.stored["spec"]
    assert spec["clusterIPs"] == addresses
    assert "externalTrafficPolicy" not in spec
    assert "nodePort" not in spec["ports"][0]


@pytest.mark.clause("types.node-port-to-external-name", covers=["LIF-03"])
def test_a_node_port_service_becomes_an_alias(
    standing, expose, ports, nodes, outside, in_pods, full_name, alias_of
):
    """A NodePort Service that becomes ExternalName is an alias, and its node port closes.

    It loses ClusterIP, IP families, policies and node port; pods that call its name reach what it
    is an alias of, and none of the pods that it selects.
    """
    blue, green = standing.seat(0), standing.seat(1)
    chosen = [{"port": 80, "targetPort": 8080, "nodePort": ports.free()}]
    other, service = expose(green), expose(blue | green, selector=blue.labels, ports=chosen)
    flows, name = service.flows(outside, via=nodes), service.name_flow(in_pods[0])
    others = dict.fromkeys(other.flows(outside, via=nodes), answered_by(*green.pods))
    assert_settles(dict.fromkeys([*flows, name], answered_by(*blue.pods)) | others)

    service.change(type="ExternalName", externalName=full_name(other))

    spec = service.stored["spec"]
    assert spec.keys().isdisjoint(OWN_ADDRESS | POLICIES)
    assert "nodePort" not in spec["ports"][0]
    assert_settles(dict.fromkeys(flows, CLOSED) | {name: answered_by(*green.pods)} | others)
    assert_becomes(lambda: alias_of(service), full_name(other))


@pytest.mark.clause("types.alias-with-a-node-port", covers=["LIF-03"])
def test_what_an_alias_may_have(standing, expose, change, ports, nodes, outside):
    """A change to ExternalName that sets a ClusterIP is refused; one that sets a node port is not.

    The number stays in the object, may be that of another Service, and leads to that one alone.
    """
    blue, green, number = standing.seat(0), standing.seat(1), ports.free()
    chosen = [{"port": 80, "targetPort": 8080, "nodePort": number}]
    alias = {"type": "ExternalName", "externalName": "example.com"}
    service = expose(blue)
    table = dict.fromkeys(service.flows(outside, via=nodes), answered_by(*blue.pods))

    refused = change(service.stored, **alias, clusterIPs=["None"], clusterIP="None")
    assert_refused(refused, code=422, reason="Invalid", field="spec.clusterIPs")
    assert_serves(table)

    other = expose(green, ports=chosen)
    service.change(**alias, ports=chosen)
    assert service.node_port == other.node_port == number
    assert_serves(dict.fromkeys(other.flows(outside, via=nodes), answered_by(*green.pods)))


@pytest.mark.clause("types.alias-takes-a-taken-number", covers=["LIF-04", "ALC-04"])
@pytest.mark.family("extended")
@pytest.mark.known_bug(
    "https://github.com/kubernetes/kubernetes/blob/v1.37.2/"
    "pkg/registry/core/service/storage/alloc.go#L820"
)
def test_an_alias_takes_a_number_of_another(standing, expose, change, ports, nodes, outside):
    """An alias may name a node port that is another's, and becomes a NodePort Service with it.

    Both have the number, and a caller of it reaches a pod of one or of the other.
    """
    blue, green, number = standing.seat(0), standing.seat(1), ports.free()
    chosen = [{"port": 80, "targetPort": 8080, "nodePort": number}]
    other = expose(blue | green, selector=green.labels, ports=chosen)
    service = expose(blue)
    service.change(type="ExternalName", externalName="example.com", ports=chosen)
    flows = other.flows(outside, via=nodes)
    assert_settles(dict.fromkeys(flows, answered_by(*green.pods)))

    twin = assert_accepted(change(service.stored, type="NodePort", externalName=None))

    assert twin["spec"]["ports"][0]["nodePort"] == other.node_port == number
    assert_settles(dict.fromkeys(flows, answered_by(*blue.pods, *green.pods)))


@pytest.mark.clause("types.external-name-to-node-port", covers=["LIF-04"])
def test_an_alias_becomes_a_node_port_service(
    standing, expose, nodes, outside, in_pods, full_name, alias_of, endpoints_of
):
    """An ExternalName Service that becomes NodePort gets a ClusterIP and a node port, which serve.

    Its name is no alias any more, and nothing is left of a life before, in which it had a node
    port over other pods and maybe over two IP families: no answer, no endpoint, no second family.
    """
    blue, green = standing.seat(0), standing.seat(1)
    service, other = expose(blue | green, selector=blue.labels), expose(blue)
    name = service.name_flow(in_pods[0])
    assert_settles(
        dict.fromkeys([*service.flows(outside, via=nodes), name], answered_by(*blue.pods))
    )
    # Without a selector, its endpoints are copied for good into a slice of somebody else's.
    service.change(type="ExternalName", externalName=full_name(other), selector=None)
    assert_becomes(lambda: alias_of(service), full_name(other))

    service.change(type="NodePort", externalName=None, selector=green.labels)

    assert service.stored["spec"]["ipFamilyPolicy"] == "SingleStack"
    flows = service.flows(outside, via=nodes) + service.cluster_flows(in_pods[0])
    assert_serves(dict.fromkeys([*flows, name], answered_by(*green.pods)))
    assert_becomes(lambda: alias_of(service), "")
    addresses = [of_pod[f] for of_pod in green.addresses.values() for f in service.families]
    assert_becomes(lambda: endpoints_of(service), sorted(addresses))


@pytest.mark.clause("types.cluster-ip-and-external-name", covers=["LIF-05"])
def test_between_cluster_ip_and_alias(standing, expose, in_pods, full_name, alias_of):
    """A Service becomes ExternalName and ClusterIP again, and works as what it has become.

    As an alias it leads where it says, as ClusterIP to its own pods at an address of its own.
    """
    blue, green = standing.seat(0), standing.seat(1)
    other = expose(green, type="ClusterIP")
    service = expose(blue | green, selector=blue.labels, type="ClusterIP")
    name = service.name_flow(in_pods[0])
    assert_settles({name: answered_by(*blue.pods)})

    service.change(type="ExternalName", externalName=full_name(other))
    assert service.stored["spec"].keys().isdisjoint(OWN_ADDRESS)
    assert_settles({name: answered_by(*green.pods)})
    assert_becomes(lambda: alias_of(service), full_name(other))

    service.change(type="ClusterIP", externalName=None)
    flows = service.cluster_flows(in_pods[0])
    assert_settles(dict.fromkeys([*flows, name], answered_by(*blue.pods)))
    assert_becomes(lambda: alias_of(service), "")


@pytest.mark.clause("types.node-port-and-load-balancer", covers=["LIF-06"])
@pytest.mark.needs("own-sockets")
def test_to_load_balancer_and_back(standing, expose, later, nodes, outside):
    """A NodePort Service that becomes LoadBalancer and NodePort again keeps its node port.

    That holds also where nothing provides load balancers; no caller of the node port notices.
    """
    service = expose(standing)
    flows, number = service.flows(outside, via=nodes), service.node_port
    table = dict.fromkeys(flows, answered_by(*standing.pods))
    assert_serves(table)

    with watching(flows, kept=flows) as watch:
        # A class that nobody serves, as it would cost money on some clusters.
        service.change(type="LoadBalancer", loadBalancerClass="example.com/nobody")
        assert service.stored["spec"]["type"] == "LoadBalancer"
        assert (service.node_port, service.stored["status"]) == (number, {"loadBalancer": {}})
        assert_settles(table | later())
        service.change(type="NodePort")
        assert_settles(table | later())

    assert_unnoticed(watch)
    assert service.node_port == number
    assert service.stored["spec"].keys().isdisjoint(OF_LOAD_BALANCERS)
