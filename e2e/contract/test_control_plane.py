"""The API server is away, starts again, and starts with another range of node ports."""

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
from e2e.probe import watching
from e2e.timing import API_AWAY_FOR, FOLLOWED_WITHIN

pytestmark = [
    pytest.mark.family("disruptive"),
    pytest.mark.needs("own-cluster", "control-plane"),
]


def both_on(number):
    """One number over TCP and over UDP."""
    return [
        {"name": "web", "port": 80, "targetPort": 8080, "nodePort": number},
        {"name": "dns", "port": 80, "targetPort": 8081, "nodePort": number, "protocol": "UDP"},
    ]


@pytest.mark.clause("control-plane.away", covers=["KP-07"])
@pytest.mark.needs("own-sockets")
def test_what_is_served_goes_on_without_an_api_server(
    place_echoes, expose, api_servers, close_gates, workers, nodes, outside
):
    """While no API server answers for a minute, every node serves on, and nobody notices anything.

    A pod that stopped being ready meanwhile is left out when one answers again, and nodes have
    heard of it, which may be late to ask.
    """
    where = (workers or nodes)[0]
    way = {"labels": {"app": "without-an-api-server"}, "gated": True}
    stops, stays = place_echoes(where, way, way)
    both = stops | stays
    flows = expose(both).flows(outside, via=nodes)
    assert_serves(dict.fromkeys(flows, answered_by(*both.pods)))

    with watching(flows, kept=flows) as watch:
        with api_servers.frozen():
            close_gates(stops)
            assert_keeps(dict.fromkeys(flows, answered_by(*both.pods)), during=API_AWAY_FOR)
        later = dict.fromkeys(flows, answered_by(*stays.pods))
        assert_settles(later, times=20, within=FOLLOWED_WITHIN)
    assert_unnoticed(watch)

    assert_serves(dict.fromkeys(flows, answered_by(*stays.pods)))


@pytest.mark.clause("control-plane.restart", covers=["ALC-19", "ALC-15", "KP-07"])
@pytest.mark.needs("own-sockets")
def test_node_ports_survive_a_restart_of_the_api_server(
    standing, expose, submit, stored, warnings_about, api_servers, ports, nodes, outside, home
):
    """An API server that was killed and starts again frees and repairs no node port.

    Nobody notices that it was gone. What is stored stays as it was, its numbers are refused to
    others, and the repair at the start has nothing to say about one number over TCP and UDP. Every
    node follows what changes afterwards.
    """
    number = ports.free()
    service = expose(standing, ports=both_on(number))
    flows = service.flows(outside, via=nodes)
    flows += service.flows(outside, via=nodes, protocol="UDP")
    assert_serves(dict.fromkeys(flows, answered_by(*standing.pods)))

    with watching(flows, kept=flows[: len(flows) // 2]) as watch:
        api_servers.restart()
    assert_unnoticed(watch)

    assert assert_accepted(stored(service.name, home))["spec"] == service.stored["spec"]
    assert_taken(submit(ports=both_on(number)[:1]), number)
    assert warnings_about(service.stored) == []
    later = dict.fromkeys(expose(standing).flows(outside, via=nodes), answered_by(*standing.pods))
    assert_settles(later, within=FOLLOWED_WITHIN)


@pytest.mark.clause("control-plane.smaller-range", covers=["ALC-14", "ALC-19"])
@pytest.mark.family("slow")
@pytest.mark.needs("own-sockets")
def test_existing_services_survive_a_smaller_range(
    standing, expose, submit, change, warnings_about, api_servers, ports, nodes, outside
):
    """With a range made smaller, a Service outside it serves on, and its event says so.

    New Services get numbers of the smaller range and no others. With the old range back, the
    number outside is still refused to others.
    """
    smaller = ports.allowed[: len(ports.allowed) // 2]
    number = ports.hold(ports.allowed[-1])
    service = expose(standing, ports=both_on(number))
    flows = service.flows(outside, via=nodes)
    assert_serves(dict.fromkeys(flows, answered_by(*standing.pods)))

    with watching(flows, kept=flows) as watch:
        with api_servers.told("service-node-port-range", f"{smaller[0]}-{smaller[-1]}"):
            says = f"The range of valid ports is {smaller[0]}-{smaller[-1]}"
            refused = submit(ports=both_on(number - 1)[:1])
            assert_refused(refused, code=422, reason="Invalid", says=says)
            picked = assert_accepted(submit())["spec"]["ports"][0]["nodePort"]
            assert picked in smaller
            assert_accepted(change(service.stored, sessionAffinity="ClientIP"))
            assert_becomes(
                lambda: {words.split(":")[0] for words in warnings_about(service.stored)},
                {"PortOutOfRange"},
            )
        assert_taken(submit(ports=both_on(number)[:1]), number)
    assert_unnoticed(watch)


def assert_taken(answer, number):
    """Refused as the number is another Service's."""
    says = [str(number), "provided port is already allocated"]
    assert_refused(answer, code=422, reason="Invalid", says=says)
