"""Hundreds of Services, a whole range of numbers, more than a thousand endpoints."""

from math import ceil

import pytest

from e2e.check import (
    answered_by,
    assert_all_arrive,
    assert_all_owned,
    assert_only,
    assert_serves,
    assert_settles,
)
from e2e.probe import CLOSED, draw

SERVICES = 500
# Of three pods; kube-proxy has another way of working above a thousand endpoints.
PORTS = range(20000, 20350)
# Of 1050 endpoints, so many connections over all flows overlook fifty less than once in 10^9 times.
CONNECTIONS = 9000


@pytest.mark.clause("scale.five-hundred-services", covers=["SCL-01"])
@pytest.mark.family("slow")
@pytest.mark.needs("own-sockets")
def test_five_hundred_services_are_all_served(
    standing, expose_many, remove_many, nodes, scan, owned
):
    """Five hundred Services, created as fast as they are taken, are all served by every node.

    From the creation of each to its first connection through each node it is less than a minute
    and a half, and the report says how long. When they are deleted all their numbers close.
    """
    echo = standing.seat(0)
    batch = expose_many(echo, SERVICES)
    families = len(nodes[0].addresses)

    assert_all_arrive(batch.expected, SERVICES * len(nodes) * families, scan=scan)

    flows = list(batch.flows)
    assert_only(draw(flows, 1), dict.fromkeys(flows, answered_by(*echo.pods)))
    remove_many(batch.made)
    assert_all_owned(scan, [(flow.target.address, flow.target.port) for flow in flows], owned=owned)


@pytest.mark.clause("scale.whole-range", covers=["SCL-02"])
@pytest.mark.family("disruptive")
@pytest.mark.needs("small-range", "own-sockets")
def test_the_whole_range_is_filled_and_emptied(
    standing, expose_many, remove_many, nodes, ports, scan, owned
):
    """As many Services as there are numbers are served by every node, each at a number of its own.

    When they are deleted all of them close and can be had again.
    """
    echo, free, families = standing.seat(0), len(ports.free_numbers()), len(nodes[0].addresses)
    batch = expose_many(echo, free)
    assert_all_arrive(batch.expected, free * len(nodes) * families, scan=scan)
    flows = list(batch.flows)
    assert not ports.free_numbers()
    assert_only(draw(flows, 3), dict.fromkeys(flows, answered_by(*echo.pods)))

    remove_many(batch.made)

    places = [(flow.target.address, flow.target.port) for flow in flows]
    assert_all_owned(scan, places, owned=owned)
    assert len(ports.free_numbers()) == free


@pytest.mark.clause("scale.thousand-endpoints", covers=["SCL-03"])
@pytest.mark.family("slow")
@pytest.mark.needs("ipv4")
def test_changes_arrive_beside_a_thousand_endpoints(
    standing, place_echo, expose, write_many_slices, workers, nodes, outside
):
    """With more than a thousand endpoints all are used, and changes of other Services arrive.

    The endpoints are three pods with 350 ports each, in as many slices: it is about the number of
    rules, and not about that of pods.
    """
    places = workers or nodes
    crowd = place_echo(*(places[n % len(places)] for n in range(3)), many_ports=PORTS)
    service = expose(crowd, selector={}, ipFamilies=["IPv4"], ipFamilyPolicy="SingleStack")
    write_many_slices(service, crowd, PORTS)
    flows = service.flows(outside, via=nodes)
    assert_serves(dict.fromkeys(flows, answered_by(*crowd.pods)))

    one, other = standing.seat(0), standing.seat(1)
    late = expose(one | other, selector=one.labels)
    late_flows = late.flows(outside, via=nodes)
    assert_serves(dict.fromkeys(late_flows, answered_by(*one.pods)))
    late.change(selector=other.labels)
    assert_serves(dict.fromkeys(late_flows, answered_by(*other.pods)))

    met = draw(flows, ceil(CONNECTIONS / len(flows)))
    assert_only(met, dict.fromkeys(flows, answered_by(*crowd.pods)))
    endpoints = {(reply.echo, reply.port) for replies in met.values() for reply in replies}
    assert 1000 < len(endpoints) <= len(crowd.pods) * len(PORTS)

    late.remove()
    assert_settles(dict.fromkeys(late_flows, CLOSED) | dict.fromkeys(flows, answered_by()))
