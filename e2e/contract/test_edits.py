"""A Service is edited while it is in use."""

import pytest

from e2e.check import (
    answered_by,
    assert_serves,
    assert_settles,
    assert_unnoticed,
    note_handovers,
    note_outages,
)
from e2e.probe import CLOSED, UNSERVED, watching


@pytest.mark.clause("edits.ports-come-and-go", covers=["LIF-09", "EPS-10"])
@pytest.mark.needs("own-sockets")
def test_adding_and_removing_a_port_disturbs_no_other(standing, expose, ports, nodes, outside):
    """Adding a port to a Service and removing it again disturbs no other port of it.

    Not one new connection fails meanwhile and no kept connection breaks; the added port serves on
    every node, and closes on every node when it is removed.
    """
    stays = {"name": "stays", "port": 80, "targetPort": 8080}
    comes = {"name": "comes", "port": 81, "targetPort": 8080, "nodePort": ports.free()}
    service = expose(standing, ports=[stays])
    flows = service.flows(outside, via=nodes)
    served = answered_by(*standing.pods)
    assert_serves(dict.fromkeys(flows, served))
    stays["nodePort"] = service.node_port

    with watching(flows, kept=flows) as watch:
        service.change(ports=[stays, comes])
        added = service.flows(outside, via=nodes, port=service.node_ports["comes"])
        assert_settles(dict.fromkeys(added, served))
        service.change(ports=[stays])
        assert_settles(dict.fromkeys(added, CLOSED) | dict.fromkeys(flows[:1], served))

    assert_unnoticed(watch)


@pytest.mark.clause("edits.another-node-port", covers=["LIF-07"])
@pytest.mark.needs("own-sockets")
def test_a_node_port_is_edited(standing, expose, ports, nodes, outside):
    """When a node port is edited, the new number serves on every node and the old one closes.

    The old one is free: another Service that takes it is served there, and not the first one.
    """
    old, new = ports.free(), ports.free()
    service = expose(standing, ports=[web(80, nodePort=old)])
    before, served = service.flows(outside, via=nodes), answered_by(*standing.pods)
    after = [flow.at(new) for flow in before]
    assert_serves(dict.fromkeys(before, served))

    with watching(before + after) as watch:
        service.change(ports=[web(80, nodePort=new)])
        assert_settles(dict.fromkeys(after, served) | dict.fromkeys(before, CLOSED))

    note_handovers(watch, dict(zip(before, after, strict=True)))
    other = expose(standing.seat(0), ports=[web(80, nodePort=old)], at_once=True)
    others = dict.fromkeys(other.flows(outside, via=nodes), answered_by(*standing.seat(0).pods))
    assert_serves(others | dict.fromkeys(after, served))


@pytest.mark.clause("edits.another-port", covers=["LIF-08"])
@pytest.mark.needs("own-sockets")
def test_a_port_is_edited(standing, expose, nodes, outside, in_pods):
    """When `port` is edited the node port stays, and no caller of it notices.

    The ClusterIP answers on the new port, and on the old one no more.
    """
    service = expose(standing, ports=[web(80)])
    flows, served = service.flows(outside, via=nodes), answered_by(*standing.pods)
    before, number = service.cluster_flows(in_pods[0]), service.node_port
    assert_serves(dict.fromkeys(flows + before, served))

    with watching(flows, kept=flows) as watch:
        service.change(ports=[web(81)])
        after = dict.fromkeys(service.cluster_flows(in_pods[0]), served)
        assert_settles(after)

    assert_unnoticed(watch)
    # A pod takes 5 s to call silence by its name, so one look has to do.
    assert_settles(after | dict.fromkeys(before, UNSERVED), times=1)
    assert service.node_port == number


@pytest.mark.clause("edits.another-target-port", covers=["LIF-08"])
@pytest.mark.needs("own-sockets")
def test_a_target_port_is_edited(place_echo, expose, workers, nodes, outside):
    """When `targetPort` is edited the node port leads to the new port of the pods, without a gap.

    Meanwhile each connection is answered on the old or on the new one.
    """
    echo = place_echo((workers or nodes)[0], http_ports=(8081, 8082))
    service = expose(echo, ports=[web(80, targetPort=8081)])
    flows, number = service.flows(outside, via=nodes), service.node_port
    old, new = (answered_by(*echo.pods, port=port) for port in (8081, 8082))
    assert_serves(dict.fromkeys(flows, old))

    with watching(flows) as watch:
        service.change(ports=[web(80, targetPort=8082)])
        assert_settles(dict.fromkeys(flows, new))

    assert_unnoticed(watch)
    assert_serves(dict.fromkeys(flows, new))
    assert service.node_port == number


@pytest.mark.clause("edits.renamed-port", covers=["LIF-10"])
@pytest.mark.needs("own-sockets")
def test_a_port_is_renamed(standing, expose, later, ports, nodes, outside):
    """A port that is renamed with its number keeps its node port, without it gets a new one.

    The new one serves and the old one closes. How long callers of the kept one wait until the
    Service and its endpoints agree about the name is recorded.
    """
    number = ports.free()
    service = expose(standing, ports=[web(80, name="first", nodePort=number)])
    flows, served = service.flows(outside, via=nodes), answered_by(*standing.pods)
    assert_serves(dict.fromkeys(flows, served))

    with watching(flows) as watch:
        service.change(ports=[web(80, name="second", nodePort=number)])
        assert_settles(dict.fromkeys(flows, served) | later())
    note_outages(watch)
    assert service.node_ports == {"second": number}

    service.change(ports=[web(80, name="third")])
    assert service.node_port != number
    after = dict.fromkeys(service.flows(outside, via=nodes), served)
    assert_serves(after | dict.fromkeys(flows, CLOSED))


@pytest.mark.clause("edits.given-up-numbers", covers=["ALC-09"])
def test_a_given_up_number_serves_who_takes_it_at_once(standing, expose, ports, nodes, outside):
    """A node port that a Service gives up is free at once, and leads to who takes it alone.

    It is given up by a change to ClusterIP, to ExternalName, to another number, and by removing
    its port.
    """
    blue, green = standing.seat(0), standing.seat(1)
    stays, taken = web(80, name="stays"), {}
    edits = (
        {"type": "ClusterIP"},
        {"type": "ExternalName", "externalName": "example.com"},
        {"ports": [stays, web(81, name="moves", nodePort=ports.free())]},
        {"ports": [stays]},
    )
    services = [
        expose(blue, ports=[web(81, name="moves", nodePort=ports.free()), stays]) for _ in edits
    ]
    before = [flow for service in services for flow in service.flows(outside, via=nodes)]
    assert_settles(dict.fromkeys(before, answered_by(*blue.pods)))

    for service, edit in zip(services, edits, strict=True):
        number = service.node_ports["moves"]
        service.change(**edit)
        other = expose(green, ports=[web(80, nodePort=number)], at_once=True)
        taken |= dict.fromkeys(other.flows(outside, via=nodes), answered_by(*green.pods))
    assert_settles(taken)


def web(port, *, targetPort=8080, **more):  # noqa: N803  # as in a manifest
    """An entry of `ports` that leads to an echo."""
    return {"port": port, "targetPort": targetPort, **more}
