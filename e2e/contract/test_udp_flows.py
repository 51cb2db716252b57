"""UDP flows: one source port that goes on sending while what is behind the node port changes."""

import pytest

from e2e.check import (
    Want,
    answered_by,
    assert_follows,
    assert_settles,
    note_outages,
)
from e2e.probe import BLOCKED, watching

DNS = {"name": "dns", "port": 53, "targetPort": 8081, "protocol": "UDP"}
NOBODY = {"seat": "none"}


@pytest.mark.clause("udp-flows.begun-before", covers=["L4-02"])
@pytest.mark.needs("own-sockets")
def test_a_flow_from_before_any_pod_is_served(standing, expose, nodes, outside):
    """A flow that began before any pod was there is served once one is; the time is recorded."""
    service = expose(standing, ports=[DNS], selector=standing.labels | NOBODY)
    flows = service.flows(outside, via=nodes)

    with watching(flows) as watch:
        assert_follows(watch, Want(BLOCKED))
        service.change(selector={"seat": None})
        assert_follows(watch, answered_by(*standing.pods))


@pytest.mark.clause("udp-flows.target-port", covers=["L4-04"])
@pytest.mark.needs("own-sockets")
def test_a_flow_follows_the_target_port(standing, expose, nodes, outside):
    """A changed target port moves the flows that exist, to one where nobody listens and back."""
    service = expose(standing, ports=[DNS])
    flows = service.flows(outside, via=nodes)
    here = DNS | {"nodePort": service.node_port}
    assert_settles(dict.fromkeys(flows, answered_by(*standing.pods)))

    with watching(flows) as watch:
        service.change(ports=[here | {"targetPort": 8099}])
        assert_follows(watch, Want(BLOCKED))
        service.change(ports=[here])
        assert_follows(watch, answered_by(*standing.pods))


@pytest.mark.clause("udp-flows.last-pod-kept", covers=["L4-05"])
@pytest.mark.family("extended")
@pytest.mark.needs("kube-proxy", "own-sockets")
@pytest.mark.known_bug("https://github.com/kubernetes/kubernetes/issues/139628")
def test_a_flow_stays_with_the_last_pod(standing, expose, nodes, outside):
    """A flow under way goes on to a pod that left its Service, if that has no other pod.

    New flows are refused meanwhile.
    """
    service = expose(standing, ports=[DNS], selector=standing.seat(0).labels)
    flows, others = service.flows(outside, via=nodes), expose(standing).flows(outside, via=nodes)
    assert_settles(dict.fromkeys(flows, answered_by(*standing.seat(0).pods)))

    with watching(flows) as watch:
        service.change(selector=NOBODY)
        new = dict.fromkeys(flows, BLOCKED)
        assert_settles(new | dict.fromkeys(others, answered_by(*standing.pods)), times=1)
        assert_follows(watch, answered_by(*standing.seat(0).pods))


@pytest.mark.clause("udp-flows.local", covers=["L4-06"])
@pytest.mark.needs("two-workers", "own-sockets")
def test_a_flow_follows_under_local(standing, expose, nodes, outside):
    """With Local, a flow is served whenever its node has a pod, and so again after it had none.

    It began while there was no pod at all.
    """
    here, there = standing.seat(0), standing.seat(1)
    service = expose(
        standing, ports=[DNS], selector=standing.labels | NOBODY, externalTrafficPolicy="Local"
    )

    def through(echo):
        via = [node for node in nodes if node.name in echo.pods.values()]
        return service.flows(outside, via=via)

    with watching(through(here)) as at_home, watching(through(there)) as away:
        for echo, watch in (here, at_home), (there, away), (here, at_home):
            service.change(selector=echo.labels)
            assert_follows(watch, answered_by(*echo.pods))


@pytest.mark.clause("udp-flows.port-taken-over", covers=["L4-07"])
@pytest.mark.needs("own-sockets")
def test_a_flow_follows_the_node_port(standing, expose, ports, nodes, outside):
    """A flow goes to the new pods when its Service is deleted and another takes the node port."""
    old, new = standing.seat(0), standing.seat(1)
    port = DNS | {"nodePort": ports.free()}
    service = expose(standing, ports=[port], selector=old.labels)
    flows = service.flows(outside, via=nodes)
    assert_settles(dict.fromkeys(flows, answered_by(*old.pods)))

    with watching(flows) as watch:
        service.remove()
        expose(standing, ports=[port], selector=new.labels)
        assert_follows(watch, answered_by(*new.pods))
    note_outages(watch)


@pytest.mark.clause("udp-flows.foreign", covers=["L4-09"])
@pytest.mark.family("extended")
@pytest.mark.needs("outside-caller", "kube-proxy")
@pytest.mark.known_bug("https://github.com/kubernetes/kubernetes/issues/49881")
def test_a_foreign_stream_is_cut(standing, expose, stream_to_pod, ports, nodes, outside):
    """A UDP stream from another host is cut if its port is a node port whose pods change.

    One from a port that is no node port goes on.
    """
    service = expose(standing, ports=[DNS])
    flows = service.flows(outside, via=nodes)
    # Until every node has it, as its creation is such a change too.
    assert_settles(dict.fromkeys(flows, answered_by(*standing.pods)), times=10)
    same, beside = stream_to_pod(service.node_port), stream_to_pod(ports.allowed[0] - 1)

    service.change(selector=standing.seat(0).labels)
    assert_settles(dict.fromkeys(flows, answered_by(*standing.seat(0).pods)), times=10)

    assert beside.goes_on()
    assert not same.goes_on()
