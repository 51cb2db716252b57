"""`ports` is an array: one Service can hold many mappings."""

import pytest

from e2e.check import answered_by, assert_accepted, assert_invalid, assert_serves, assert_settles
from e2e.probe import draw


@pytest.mark.clause("ports.each-its-own", covers=["DP-10", "N-18"])
def test_each_node_port_leads_to_its_own_target_port(place_echo, expose, workers, nodes, outside):
    """Each node port of a Service leads to its own target port, and to no other."""
    listening = (8081, 8082, 8083)
    echo = place_echo((workers or nodes)[0], http_ports=listening)

    service = expose(
        echo,
        ports=[{"name": f"to-{p}", "port": p - 8000, "targetPort": p} for p in listening],
    )

    table = {}
    for target in listening:
        flows = service.flows(outside, via=nodes, port=service.node_ports[f"to-{target}"])
        table |= dict.fromkeys(flows, answered_by(*echo.pods, port=target))
    assert_serves(table)


@pytest.mark.clause("ports.names-required", covers=["API-06", "N-18"])
def test_several_ports_need_different_names(submit):
    """With more than one port, each needs a name of its own: a DNS label, 63 characters at most."""
    for names, wrong, says in (
        (("", ""), 0, "Required value"),
        (("a", "a"), 1, "Duplicate value"),
        (("a", "UPPER"), 1, "a lowercase RFC 1123 label must consist of"),
        (("a", "b" * 64), 1, "must be no more than 63"),
    ):
        assert_invalid(submit(ports=named(*names)), f"spec.ports[{wrong}].name", says)
    assert_accepted(submit(ports=named("a", "b" * 63)))


def named(*names):
    """Ports with these names."""
    return [{"name": name, "port": number} for number, name in enumerate(names, 80)]


@pytest.mark.clause("ports.named-target", covers=["DP-09", "N-06"])
def test_a_named_target_port_is_looked_up_in_each_pod(
    place_echoes, expose, workers, nodes, outside
):
    """A target port given as a name leads to each pod's own port of that name."""
    way = {"port_name": "web", "labels": {"app": "named-target"}}
    one, other = place_echoes(
        (workers or nodes)[0], way | {"http_ports": (9001,)}, way | {"http_ports": (9002,)}
    )

    for echo, port in ((one, 9001), (other, 9002)):
        service = expose(echo, ports=[{"port": 80, "targetPort": "web"}])
        flows = service.flows(outside, via=nodes)
        assert_serves(dict.fromkeys(flows, answered_by(*echo.pods, port=port)))

    both = expose(one | other, ports=[{"port": 80, "targetPort": "web"}])
    flows = both.flows(outside, via=nodes)
    assert_settles(dict.fromkeys(flows, answered_by(*both.owner.pods)))
    met = {(reply.echo, reply.port) for replies in draw(flows, 100).values() for reply in replies}
    assert met == {(pod, 9001) for pod in one.pods} | {(pod, 9002) for pod in other.pods}
