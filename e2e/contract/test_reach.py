"""Reach: from outside, through any node, to a pod."""

import pytest

from e2e.check import (
    answered_by,
    assert_all_met,
    assert_keeps,
    assert_serves,
    assert_settles,
    connections_to_meet,
)
from e2e.probe import CLOSED, UNSERVED, draw


@pytest.mark.clause("reach.nobody-before", covers=["DP-17", "N-02", "N-03"])
def test_nobody_answers_before_the_service_exists(standing, nodes, outside, expose, ports):
    """A node port answers only once its Service exists, and then only with a pod of its own."""
    echo, number, other = standing.seat(0), ports.free(), expose(standing)
    others = dict.fromkeys(other.flows(outside, via=nodes), answered_by(*standing.pods))
    chosen = [{"port": 80, "targetPort": 8080, "nodePort": number}]
    early = [flow.at(number) for flow in other.flows(outside, via=nodes)]
    assert_settles(dict.fromkeys(early, CLOSED) | others)

    service = expose(echo, ports=chosen)

    late = dict.fromkeys(service.flows(outside, via=nodes), answered_by(*echo.pods))
    assert_serves(late | others)


@pytest.mark.clause("reach.pods-only-through-nodes", covers=["N-04"])
@pytest.mark.needs("own-cluster")
def test_pods_have_no_address_outside(standing, expose, nodes, outside):
    """From outside no pod is reached at its own address; a node's address and port lead to them."""
    service = expose(standing)
    served = dict.fromkeys(service.flows(outside, via=nodes), answered_by(*standing.pods))

    assert_settles(dict.fromkeys(standing.pod_flows(outside), UNSERVED) | served)


@pytest.mark.clause("reach.three-hops", covers=["DP-04", "DP-08", "N-03", "N-04", "N-06"])
def test_three_ports_lead_to_the_same_pods(standing, expose, nodes, outside, in_pods, in_hosts):
    """Node port, ClusterIP with the Service's port, and pods with the target port are one set.

    The three numbers differ. The node port is asked from outside, the other two from pods and from
    every node's own network; each reaches every pod, and the ClusterIP answers on no other port.
    """
    service = expose(standing, ports=[{"port": 4321, "targetPort": 8080}])
    assert len({service.node_port, 4321, 8080}) == 3
    inside = in_pods + in_hosts
    cluster = [flow for caller in inside for flow in service.cluster_flows(caller)]
    hops = service.flows(outside, via=nodes) + cluster
    table = dict.fromkeys(hops, answered_by(*standing.pods))
    for caller in inside:
        table |= {flow: answered_by(pod) for flow, pod in standing.pod_flows(caller).items()}

    assert_settles(table)
    assert_all_met(draw(hops, connections_to_meet(len(standing.pods))), over=standing.pods)
    # A pod takes 5 s to call silence by its name, so one look has to do.
    others = dict.fromkeys([flow.at(8080) for flow in cluster], UNSERVED)
    assert_settles(others | dict.fromkeys(hops, answered_by(*standing.pods)), times=1)


@pytest.mark.clause("reach.pods-on-one-node", covers=["DP-06", "N-11", "N-12"])
@pytest.mark.needs("two-workers")
def test_pods_on_one_node_are_reached_through_all(standing, expose, workers, nodes, outside):
    """With all pods on one node every node answers, also those without a pod."""
    echo = standing.on(workers[0])
    assert len(echo.pods) > 1

    service = expose(echo)

    assert_serves(dict.fromkeys(service.flows(outside, via=nodes), answered_by(*echo.pods)))


@pytest.mark.clause("reach.pods-on-every-node", covers=["DP-01", "N-11", "N-12"])
@pytest.mark.needs("two-workers")
def test_one_creation_spans_all_nodes(everywhere, expose, nodes, outside, some):
    """With a pod on every node, one creation is enough for every node to lead to all of them."""
    assert set(everywhere.pods.values()) == {node.name for node in nodes}

    service = expose(everywhere)

    flows = service.flows(outside, via=nodes)
    assert_settles(dict.fromkeys(flows, answered_by(*everywhere.pods)))
    count = connections_to_meet(len(everywhere.pods))
    assert_all_met(draw(some(flows), count), over=everywhere.pods)


@pytest.mark.clause("reach.control-plane", covers=["DP-07"])
@pytest.mark.needs("control-plane")
def test_a_pod_on_the_control_plane_is_reached_through_all(
    everywhere, expose, control_plane, nodes, outside
):
    """A control plane serves node ports like any node, also for a pod of its own."""
    echo = everywhere.on(control_plane)

    service = expose(echo)

    assert_serves(dict.fromkeys(service.flows(outside, via=nodes), answered_by(*echo.pods)))


@pytest.mark.clause("reach.cordoned-node", covers=["DP-07"])
@pytest.mark.needs("two-workers", "own-cluster")
def test_a_cordoned_node_still_serves(standing, expose, cordon, workers, nodes, outside):
    """A node that is cordoned goes on answering without a break, and so do the pods on it."""
    echo = standing.on(workers[1])
    service = expose(echo)
    table = dict.fromkeys(service.flows(outside, via=nodes), answered_by(*echo.pods))
    assert_serves(table)

    cordon(workers[1])

    assert_keeps(table)


@pytest.mark.clause("reach.tainted-node", covers=["DP-07"])
@pytest.mark.needs("two-workers", "control-plane", "own-cluster")
def test_a_tainted_node_still_serves(standing, expose, taint, workers, nodes, outside):
    """A node that is tainted goes on answering without a break, and so do the pods on it."""
    echo = standing.on(workers[0])
    service = expose(echo)
    table = dict.fromkeys(service.flows(outside, via=nodes), answered_by(*echo.pods))
    assert_serves(table)

    taint(workers[0])

    assert_keeps(table)


@pytest.mark.clause("reach.pods-on-host-network", covers=["DP-11"])
def test_pods_on_host_networks_are_reached(host_echoes, expose, nodes, outside, some):
    """Pods on the host network serve behind a node port, and every node leads to each of them."""
    assert set(host_echoes.pods.values()) == {node.name for node in nodes}

    service = expose(host_echoes, ports=[{"port": 80, "targetPort": "http"}])

    flows = service.flows(outside, via=nodes)
    assert_settles(dict.fromkeys(flows, answered_by(*host_echoes.pods)))
    count = connections_to_meet(len(host_echoes.pods))
    assert_all_met(draw(some(flows), count), over=host_echoes.pods)
