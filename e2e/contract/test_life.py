"""Services come and go, alone, together, and with their namespace."""

from functools import partial

import pytest

from e2e.check import (
    answered_by,
    assert_all_met,
    assert_comes_to,
    assert_keeps,
    assert_reaches,
    assert_serves,
    assert_settles,
    assert_unnoticed,
    note_outages,
)
from e2e.probe import CLOSED, UNSERVED, watching

# Of Services that are made, changed and deleted all at once.
TRIALS = 20
# The label that takes a Service away from kube-proxy and gives it to another one.
OTHER_PROXY = "service.kubernetes.io/service-proxy-name"
LONGEST = 63


def lent(ports):
    """One port with a number that no Service of another clause gets once it is given up."""
    return [{"port": 80, "targetPort": 8080, "nodePort": ports.free()}]


@pytest.mark.clause("life.deleted-alone", covers=["LIF-11", "LIF-15"])
@pytest.mark.needs("own-sockets")
def test_a_deleted_service_is_gone_and_no_other(
    standing, expose, ports, nodes, outside, in_pods, in_hosts
):
    """A deleted Service closes its node port and ClusterIP on every node and touches no other.

    New callers of another Service over the same pods do not notice, nor who holds a connection of
    one over a part of them.
    """
    service = expose(standing, ports=lent(ports))
    twin, cousin = expose(standing), expose(standing.seat(0))
    flows = service.flows(outside, via=nodes)
    inside = [flow for caller in [in_pods[0], *in_hosts] for flow in service.cluster_flows(caller)]
    new, kept = twin.flows(outside, via=nodes), cousin.flows(outside, via=nodes)
    assert_serves(dict.fromkeys(flows + inside + new + kept, answered_by(*standing.pods)))

    with watching(new, kept=kept) as watch:
        service.remove()
        served = dict.fromkeys(new[:1], answered_by(*standing.pods))
        assert_settles(dict.fromkeys(flows, CLOSED) | served)

    assert_unnoticed(watch)
    # A pod takes 5 s to call silence by its name, so one look has to do.
    assert_settles(dict.fromkeys(inside, UNSERVED) | served, times=1)


@pytest.mark.clause("life.deleted-is-refused", covers=["LIF-11", "N-02"])
@pytest.mark.family("extended")
def test_a_deleted_service_is_refused(standing, expose, ports, nodes, outside, chosen):
    """Once its Service is deleted, a node port ends calls as one that no Service ever had."""
    service, other = expose(standing, ports=lent(ports)), expose(standing)
    flows, ends = service.flows(outside, via=nodes), chosen("node-port-of-nobody")
    served = dict.fromkeys(other.flows(outside, via=nodes), answered_by(*standing.pods))
    assert_settles(served | dict.fromkeys(flows, answered_by(*standing.pods)))

    service.remove()

    assert_settles(served | dict.fromkeys(flows, ends))


@pytest.mark.clause("life.made-again", covers=["LIF-12", "ALC-08"])
@pytest.mark.needs("own-sockets")
def test_a_service_made_again_has_new_pods_only(standing, expose, ports, nodes, outside):
    """A Service that is made again with its name and node port and another selector serves these.

    From then on nobody is answered by the pods before and no call goes wrong. How long callers
    wait in between is recorded.
    """
    blue, green = standing.seat(0), standing.seat(1)
    chosen = lent(ports)
    first = expose(blue | green, selector=blue.labels, ports=chosen)
    flows, now = first.flows(outside, via=nodes), answered_by(*green.pods)
    assert_serves(dict.fromkeys(flows, answered_by(*blue.pods)))

    with watching(flows) as watch:
        first.remove()
        again = {"name": first.name, "selector": green.labels, "ports": chosen}
        expose(blue | green, **again, at_once=True)
        assert_settles(dict.fromkeys(flows, now))
        assert_keeps(dict.fromkeys(flows, now))

    note_outages(watch)
    assert_serves(dict.fromkeys(flows, now))


@pytest.mark.clause("life.endpoints-by-hand", covers=["LIF-14"])
def test_endpoints_are_written_by_hand(standing, expose, write_slices, nodes, outside):
    """A Service without selector serves the endpoints of all EndpointSlices written for it.

    Slices may differ in their ports: each port of the Service leads to the endpoints that have it.
    """
    one, two, three = (standing.seat(number) for number in range(3))
    both, rare = ({"name": name, "port": port} for name, port in (("both", 80), ("rare", 81)))
    service = expose(standing, selector={}, ports=[both, rare])

    write_slices(service, one, ports={"both": 8080})
    write_slices(service, two | three, ports={"both": 8080, "rare": 8080})

    to_both = service.flows(outside, via=nodes, port=service.node_ports["both"])
    to_rare = service.flows(outside, via=nodes, port=service.node_ports["rare"])
    table = dict.fromkeys(to_both, answered_by(*standing.pods))
    assert_serves(table | dict.fromkeys(to_rare, answered_by(*two.pods, *three.pods)))
    assert_comes_to(assert_all_met, to_both, over=standing.pods)
    assert_comes_to(assert_all_met, to_rare, over=[*two.pods, *three.pods])


@pytest.mark.clause("life.endpoint-off-the-cluster", covers=["LIF-14"])
@pytest.mark.needs("outside-caller")
def test_an_endpoint_is_no_pod(standing, expose, write_slices, off_cluster, nodes, outside):
    """An endpoint written by hand may be a server off the cluster, beside one that is a pod."""
    pod, (server, port) = standing.seat(0), off_cluster
    service = expose(pod | server, selector={})

    write_slices(service, pod)
    write_slices(service, server, ports={"": port})

    flows = service.flows(outside, via=nodes)
    assert_comes_to(assert_all_met, flows, over=[*pod.pods, *server.pods])


@pytest.mark.clause("life.for-another-proxy", covers=["LIF-16"])
@pytest.mark.needs("kube-proxy")
def test_a_service_for_another_proxy(standing, expose, nodes, outside, in_pods):
    """A Service that is labelled for another proxy is closed on every node until the label goes."""
    service, other = expose(standing), expose(standing)
    flows, inside = service.flows(outside, via=nodes), service.cluster_flows(in_pods[0])
    served = dict.fromkeys(flows + inside, answered_by(*standing.pods))
    others = dict.fromkeys(other.flows(outside, via=nodes), answered_by(*standing.pods))
    assert_serves(served | others)

    service.label({OTHER_PROXY: "another"})
    assert_settles(dict.fromkeys(flows, CLOSED) | others)
    # A pod takes 5 s to call silence by its name, so one look has to do.
    assert_settles(dict.fromkeys(inside, UNSERVED) | others, times=1)

    service.label({OTHER_PROXY: None})
    assert_serves(served | others)


@pytest.mark.clause("life.ends-with-its-namespace", covers=["LIF-17"])
def test_a_namespace_is_deleted(
    standing, expose, write_slices, another_namespace, end_namespace, stored, ports, nodes, outside
):
    """With its namespace a Service is gone: its node port closes on every node and is free.

    Another Service that takes the number is served there.
    """
    chosen = [{"port": 80, "targetPort": 8080, "nodePort": ports.free()}]
    blue, green = standing.seat(0), standing.seat(1)
    service = expose(blue, selector={}, namespace=another_namespace(), ports=chosen)
    write_slices(service, blue)
    bystander = expose(green)
    flows = service.flows(outside, via=nodes)
    others = dict.fromkeys(bystander.flows(outside, via=nodes), answered_by(*green.pods))
    assert_serves(dict.fromkeys(flows, answered_by(*blue.pods)) | others)

    end_namespace(service.namespace)

    assert stored(service.name, service.namespace)["code"] == 404
    assert_settles(dict.fromkeys(flows, CLOSED) | others)
    heir = expose(green, ports=chosen, at_once=True)
    assert_serves(dict.fromkeys(heir.flows(outside, via=nodes), answered_by(*green.pods)))


@pytest.mark.clause("life.reaches-every-node", covers=["LIF-18"])
@pytest.mark.needs("wide-range")
def test_changes_reach_every_node(standing, expose, at_once, ports, nodes, outside):
    """Twenty Services that come, change their pods and go at once reach every node's traffic.

    How long each node takes from the request to the first call that shows it is recorded: until a
    new Service answers, until its new pods answer instead of the old ones, until it is closed.
    """
    blue, green, other = standing.seat(0), standing.seat(1), expose(standing)
    either, others = blue | green, other.flows(outside, via=nodes)

    def assert_all_reached(what, want):
        since = {flow: s.asked for s in services for flow in s.flows(outside, via=nodes)}
        assert_reaches(dict.fromkeys(since, want), since=since, what=what)

    ask = partial(expose, either, selector=blue.labels)
    services = at_once([partial(ask, ports=lent(ports)) for _ in range(TRIALS)])
    assert_all_reached("created to answered", answered_by(*blue.pods))

    at_once([partial(service.change, selector=green.labels) for service in services])
    assert_all_reached("other pods selected to answered by them", answered_by(*green.pods))

    at_once([service.remove for service in services])
    assert_all_reached("deleted to closed", CLOSED)
    assert_serves(dict.fromkeys(others, answered_by(*standing.pods)))


@pytest.mark.clause("life.longest-names", covers=["LIF-19"])
def test_the_longest_names_serve(
    place_echo, expose, another_namespace, workers, nodes, outside, in_pods
):
    """A Service whose name, namespace and port names are as long as they may be serves as any."""
    where = another_namespace(length=LONGEST)
    echo = place_echo((workers or nodes)[0], namespace=where, port_name="p" * 15)
    ports = [
        {"name": "a" * LONGEST, "port": 80, "targetPort": "p" * 15},
        {"name": "b" * LONGEST, "port": 81, "targetPort": 8080},
    ]

    service = expose(echo, name="s" * LONGEST, ports=ports)

    assert {len(service.name), len(service.namespace), *map(len, service.node_ports)} == {LONGEST}
    flows = service.cluster_flows(in_pods[0])
    for number in service.node_ports.values():
        flows += service.flows(outside, via=nodes, port=number)
    assert_serves(dict.fromkeys(flows, answered_by(*echo.pods)))
