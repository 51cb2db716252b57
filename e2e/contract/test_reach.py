"""Reach: from outside, through any node, to a pod."""

import pytest

from e2e.check import answered_by, assert_settles
from e2e.probe import ANSWERED, REFUSED


@pytest.mark.clause("reach.nobody-before", covers=["DP-17", "N-02", "N-03"])
def test_nobody_answers_before_the_service_exists(standing, nodes, outside, expose, ports):
    """A node port answers only once its Service exists, and then only with a pod of its own."""
    echo, number, other = standing.seat(0), ports.free(), expose(standing)
    others = dict.fromkeys(other.flows(outside, via=nodes), ANSWERED)
    chosen = [{"port": 80, "targetPort": 8080, "nodePort": number}]
    early = [flow.at(number) for flow in other.flows(outside, via=nodes)]
    assert_settles(dict.fromkeys(early, REFUSED) | others)

    service = expose(echo, ports=chosen)

    late = dict.fromkeys(service.flows(outside, via=nodes), answered_by(*echo.pods))
    assert_settles(late | others)


@pytest.mark.clause("reach.three-hops", covers=["DP-04", "DP-08", "N-03", "N-04", "N-06"])
def test_three_ports_lead_to_the_same_pods(standing, expose, nodes, outside, in_pods, in_hosts):
    """Node port, ClusterIP with the Service's port, and pod with the target port reach one set.

    The three numbers differ; the node port is asked from outside, the other two from pods and from
    the nodes' own network.
    """
    service = expose(standing, ports=[{"port": 4321, "targetPort": 8080}])
    assert len({service.node_port, 4321, 8080}) == 3

    table = dict.fromkeys(service.flows(outside, via=nodes), answered_by(*standing.pods))
    for caller in in_pods + in_hosts:
        table |= dict.fromkeys(service.cluster_flows(caller), answered_by(*standing.pods))
        table |= {flow: answered_by(pod) for flow, pod in standing.pod_flows(caller).items()}
    assert_settles(table)


@pytest.mark.clause("reach.pods-on-one-node", covers=["DP-06", "N-11", "N-12"])
@pytest.mark.needs("two-workers")
def test_pods_on_one_node_are_reached_through_all(standing, expose, workers, nodes, outside):
    """With all pods on one node every node answers, also those without a pod."""
    echo = standing.on(workers[0])
    assert len(echo.pods) > 1

    service = expose(echo)

    assert_settles(dict.fromkeys(service.flows(outside, via=nodes), answered_by(*echo.pods)))


@pytest.mark.clause("reach.pods-on-every-node", covers=["DP-01", "N-11", "N-12"])
@pytest.mark.needs("two-workers")
def test_one_creation_spans_all_nodes(place_echo, expose, nodes, outside):
    """With a pod on every node one creation is enough for every node to answer."""
    echo = place_echo(*nodes)

    service = expose(echo)

    assert_settles(dict.fromkeys(service.flows(outside, via=nodes), answered_by(*echo.pods)))


@pytest.mark.clause("reach.control-plane", covers=["DP-07"])
def test_a_pod_on_the_control_plane_is_reached_through_all(
    place_echo, expose, control_plane, nodes, outside
):
    """A control plane serves node ports like any node, also for a pod of its own."""
    echo = place_echo(control_plane)

    service = expose(echo)

    assert_settles(dict.fromkeys(service.flows(outside, via=nodes), answered_by(*echo.pods)))


@pytest.mark.clause("reach.cordoned-node", covers=["DP-07"])
@pytest.mark.needs("two-workers")
def test_a_cordoned_node_still_serves(standing, expose, cordon, workers, nodes, outside):
    """A cordoned node goes on answering, and so do the pods on it."""
    echo = standing.on(workers[1])
    service = expose(echo)

    cordon(workers[1])

    assert_settles(dict.fromkeys(service.flows(outside, via=nodes), answered_by(*echo.pods)))
