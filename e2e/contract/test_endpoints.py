"""Endpoints: which pods are used, and what becomes of connections when that changes."""

import pytest

from e2e.check import (
    Want,
    answered_by,
    assert_all_met,
    assert_comes_to,
    assert_follows,
    assert_only,
    assert_serves,
    assert_settles,
    assert_unnoticed,
    note_first,
    note_outages,
)
from e2e.probe import ANSWERED, BLOCKED, CLOSED, REFUSED, watching

TCP = {"name": "tcp", "port": 80, "targetPort": 8080}
UDP = {"name": "udp", "port": 53, "targetPort": 8081, "protocol": "UDP"}
# Longer than a clause takes on a starved machine; it ends with the clause.
LINGER = 120
READY = {"ready": True, "serving": True, "terminating": False}
GOING = {"ready": False, "serving": False, "terminating": True}


@pytest.mark.clause("endpoints.only-while-ready", covers=["EPS-02", "EPS-16"])
@pytest.mark.needs("own-sockets")
def test_a_pod_is_used_only_while_ready(place_echo, expose, workers, nodes, outside):
    """A pod enters when it gets ready and leaves when it is not, and no connection fails.

    Whether it is ready is said by its probe, and by a readiness gate that it may have. The times
    that a change takes are recorded.
    """
    gate = "nodeport-e2e/lit"
    echo = place_echo(*(workers or nodes)[:1] * 2, gated=True, condition=gate)
    blue, green = echo.pods
    flows = expose(echo).flows(outside, via=nodes)
    echo.meet(blue, gate)
    assert_serves(dict.fromkeys(flows, answered_by(blue)), times=10)

    with watching(flows) as watch:
        lit = watch.seconds
        echo.meet(green, gate)
        assert_comes_to(assert_all_met, flows, over=echo.pods)
        echo.close_gate(green)
        assert_settles(dict.fromkeys(flows, answered_by(blue)), times=10)
        echo.open_gate(green)
        assert_comes_to(assert_all_met, flows, over=echo.pods)
        echo.meet(blue, gate, met=False)
        assert_settles(dict.fromkeys(flows, answered_by(green)), times=10)
    assert_unnoticed(watch)
    note_first(watch, green, since=lit)


@pytest.mark.clause("endpoints.nobody-listens", covers=["EPS-03"])
@pytest.mark.needs("outside-caller")
def test_a_port_without_anybody_is_refused_alone(standing, expose, nodes, outside, own_callers):
    """A target port that no pod names or listens on is refused; the Service's other port serves."""
    unknown = {"name": "unknown", "port": 81, "targetPort": "no-such-name"}
    unheard = {"name": "unheard", "port": 82, "targetPort": 8099}
    service = expose(standing, ports=[TCP, unknown, unheard])

    table = dict.fromkeys(service.flows(outside, via=nodes), answered_by(*standing.pods))
    for family in service.families:
        for node, caller in zip(nodes, own_callers(len(nodes), family), strict=True):
            for name in ("unknown", "unheard"):
                port = service.node_ports[name]
                table[service.seen_from(caller, via=node, family=family, port=port)] = REFUSED
    assert_settles(table)


@pytest.mark.clause("endpoints.scaled-to-zero", covers=["EPS-04", "L4-05"])
@pytest.mark.needs("outside-caller", "own-sockets")
def test_scaled_to_zero_refuses(place_scaled, standing, expose, nodes, outside, own_callers):
    """Scaled to zero, a node port refuses TCP and UDP on every node; scaled up again, it serves.

    So it does a UDP flow that went on sending all the time.
    """
    echo = place_scaled(1)
    service, other = expose(echo, ports=[TCP, UDP]), expose(standing)
    new = [
        service.seen_from(caller, via=node, family=family, port=service.node_ports[name])
        for family in service.families
        for name in ("tcp", "udp")
        for node, caller in zip(nodes, own_callers(len(nodes), family), strict=True)
    ]
    others = dict.fromkeys(other.flows(outside, via=nodes), answered_by(*standing.pods))
    assert_settles(dict.fromkeys(new, answered_by(*echo.pods)))

    with watching(service.flows(outside, via=nodes, port=service.node_ports["udp"])) as watch:
        echo.scale(0)
        assert_settles(dict.fromkeys(new, REFUSED) | others)
        assert_follows(watch, Want(CLOSED))
        echo.scale(1)
        assert_settles(dict.fromkeys(new, answered_by(*echo.pods)))
        assert_follows(watch, answered_by(*echo.pods))


@pytest.mark.clause("endpoints.published-unready", covers=["EPS-05"])
def test_unready_pods_can_be_published(place_echoes, expose, workers, nodes, outside):
    """With publishNotReadyAddresses also unready and terminating pods serve; without, they stop."""
    label = {"labels": {"app": "published"}}
    ready, unready, leaving = place_echoes(
        (workers or nodes)[0], label, label | {"ready": False}, label | {"linger": LINGER}
    )
    service = expose(ready | unready | leaving, publishNotReadyAddresses=True)
    flows = service.flows(outside, via=nodes)
    every = service.owner.pods
    (terminating,) = leaving.pods
    leaving.remove(terminating)
    assert_comes_to(assert_all_met, flows, over=every)

    service.change(publishNotReadyAddresses=False)
    assert_serves(dict.fromkeys(flows, answered_by(*ready.pods)), times=10)

    service.change(publishNotReadyAddresses=True)
    assert_comes_to(assert_all_met, flows, over=every)


@pytest.mark.clause("endpoints.terminating", covers=["EPS-06", "EPS-07", "EPS-10"])
@pytest.mark.needs("own-sockets")
def test_terminating_pods_are_the_last_resort(place_echo, expose, workers, nodes, outside, in_pods):
    """A terminating pod gets nothing new while another is ready, and is used when none is.

    It serves all the time. No new connection fails and no kept one breaks.
    """
    echo = place_echo((workers or nodes)[0], (workers or nodes)[-1], linger=LINGER)
    first, last = echo.pods
    flows = expose(echo).flows(outside, via=nodes)
    assert_comes_to(assert_all_met, flows, over=echo.pods)

    with watching(flows, kept=flows) as watch:
        echo.remove(first)
        assert_settles(dict.fromkeys(flows, answered_by(last)), times=10)
        own = echo.pod_flows(in_pods[0])
        assert_settles({flow: answered_by(pod) for flow, pod in own.items()}, times=1)
        echo.remove(last)
        assert_comes_to(assert_all_met, flows, over=echo.pods)
    assert_unnoticed(watch)


@pytest.mark.clause("endpoints.terminating-local", covers=["EPS-08"])
@pytest.mark.needs("two-workers", "own-sockets")
def test_local_uses_its_own_terminating_pods(place_echo, expose, workers, nodes, outside, chosen):
    """With Local, a node whose only pod terminates goes on using it, whatever other nodes have.

    No connection through it fails meanwhile, and a node without any pod stays as it is.
    """
    echo = place_echo(*workers[:2], linger=LINGER)
    service = expose(echo, externalTrafficPolicy="Local")
    served, table = {}, {}
    for node in nodes:
        flows = service.flows(outside, via=[node])
        own = [pod for pod, where in echo.pods.items() if where == node.name]
        served |= dict.fromkeys(flows if own else (), answered_by(*own))
        table |= dict.fromkeys(() if own else flows, chosen("local-without-a-pod"))
    assert_settles(served | table, times=1)

    with watching(served) as watch:
        for pod in echo.pods:
            echo.remove(pod)
            assert_serves(served, times=10)
    assert_unnoticed(watch)
    assert_settles(served | table, times=1)


@pytest.mark.clause("endpoints.kept-connections", covers=["EPS-10"])
@pytest.mark.needs("own-sockets")
def test_kept_connections_survive_changes(standing, expose, nodes, outside, later):
    """A connection that is open stays with its pod, whatever is changed about the Service.

    Other pods come, its own is selected no more, the policy becomes Local on nodes without a pod,
    affinity is switched on, and in the end the target port is one on which nobody listens.
    """
    service = expose(standing, selector=standing.seat(0).labels)
    other = standing.seat(1)
    flows = service.flows(outside, via=nodes)
    assert_settles(dict.fromkeys(flows, answered_by(*standing.seat(0).pods)))

    with watching([], kept=flows) as watch:
        service.change(selector={"seat": None})
        assert_comes_to(assert_all_met, flows, over=standing.pods)
        service.change(selector=other.labels, sessionAffinity="ClientIP")
        assert_settles(dict.fromkeys(flows, answered_by(*other.pods)))
        service.change(externalTrafficPolicy="Local")
        home = [a for n in nodes if n.name in other.pods.values() for a in n.addresses.values()]
        at_home = [flow for flow in flows if flow.target.address in home]
        local = dict.fromkeys(flows, BLOCKED) | dict.fromkeys(at_home, answered_by(*other.pods))
        assert_settles(local, times=1)
        service.change(ports=[{"port": 80, "targetPort": 8099, "nodePort": service.node_port}])
        assert_settles(later() | dict.fromkeys(flows, BLOCKED), times=1)
    assert_unnoticed(watch)
    stayed = {track.flow: [sample.reply for sample in track.samples] for track in watch.tracks}
    assert_only(stayed, dict.fromkeys(flows, answered_by(*standing.seat(0).pods)))


@pytest.mark.clause("endpoints.killed", covers=["EPS-11", "L4-03"])
@pytest.mark.needs("own-sockets")
def test_a_killed_pod_is_avoided(place_echo, expose, workers, nodes, outside):
    """A pod that is killed by force cuts its connections; new ones and UDP flows come to avoid it.

    They did not leave it before, and how long each had no answer is recorded.
    """
    echo = place_echo((workers or nodes)[0], (workers or nodes)[-1])
    victim, survivor = echo.pods
    service = expose(echo, ports=[TCP, UDP], selector=echo.seat(0).labels)
    flows = service.flows(outside, via=nodes)
    datagrams = service.flows(outside, via=nodes, port=service.node_ports["udp"])
    assert_settles(dict.fromkeys(flows + datagrams, answered_by(victim)))

    with watching(datagrams, kept=flows) as watch:
        service.change(selector={"seat": None})
        assert_comes_to(assert_all_met, flows, over=echo.pods)
        assert_follows(watch, answered_by(victim))
        echo.remove(victim, grace=0)
        assert_follows(watch, answered_by(survivor))
    note_outages(watch)
    for track in watch.tracks[len(datagrams) :]:
        assert any(sample.reply.outcome != ANSWERED for sample in track.samples), track
    assert_serves(dict.fromkeys(flows, answered_by(survivor)))


@pytest.mark.clause("endpoints.restarted-in-place", covers=["EPS-17"])
@pytest.mark.needs("own-sockets")
def test_a_pod_that_restarts_serves_again(place_echo, expose, workers, nodes, outside):
    """A pod whose container crashed serves again on every node once the next one is ready.

    It has the same address, UDP flows come back as well, and the outage is recorded.
    """
    echo = place_echo((workers or nodes)[0])
    (pod,) = echo.pods
    service = expose(echo, ports=[TCP, UDP])
    flows = service.flows(outside, via=nodes)
    datagrams = service.flows(outside, via=nodes, port=service.node_ports["udp"])
    before = dict(echo.addresses)
    assert_settles(dict.fromkeys(flows + datagrams, answered_by(pod)))

    with watching(datagrams, kept=flows) as watch:
        echo.restart(pod)
        assert_follows(watch, answered_by(pod))
    note_outages(watch)
    echo.await_ready(1)
    assert echo.addresses == before
    assert_serves(dict.fromkeys(flows, answered_by(pod)))


@pytest.mark.clause("endpoints.ended-pods", covers=["EPS-13"])
@pytest.mark.needs("outside-caller")
def test_pods_that_ended_are_no_endpoints(
    place_echo, standing, expose, workers, nodes, outside, own_callers
):
    """Pods that succeeded, failed or were evicted get nothing, though they are listed with address.

    A Service that has only such pods is refused on every node.
    """
    echo = place_echo(*(workers or nodes)[:1] * 3, once=True)
    succeeds, fails, evicted = echo.pods
    service = expose(echo)
    assert_comes_to(assert_all_met, service.flows(outside, via=nodes), over=echo.pods)

    echo.overfill(evicted)
    echo.exit(succeeds, 0)
    echo.exit(fails, 1)

    ends = echo.await_ended()
    assert (ends[succeeds], ends[fails]) == ("Succeeded", "Failed")
    # Its app ends well when it is told to, which may be all that is remembered.
    assert ends[evicted] in ("Evicted", "Succeeded")
    table = dict.fromkeys(expose(standing).flows(outside, via=nodes), answered_by(*standing.pods))
    for family in service.families:
        for node, caller in zip(nodes, own_callers(len(nodes), family), strict=True):
            table[service.seen_from(caller, via=node, family=family)] = REFUSED
    assert_settles(table)


@pytest.mark.clause("endpoints.ready-beside-terminating", covers=["EPS-14"])
@pytest.mark.family("extended")
def test_an_address_listed_twice_counts_as_ready(
    standing, expose, write_slices, nodes, outside, chosen
):
    """An address that is listed as ready and as terminating is used like any that is ready.

    That holds whichever record comes first, and in one slice as in two.
    """
    assert chosen("ready-beside-terminating") == {ANSWERED}
    twice, other = list(standing.pods)[:2]
    ready, going, plain = (twice, READY), (twice, GOING), (other, READY)
    flows = []
    for slices in ([[ready, going, plain]], [[going, ready, plain]], [[going], [ready, plain]]):
        service = expose(standing, selector={})
        write_slices(service, standing, *slices)
        flows += service.flows(outside, via=nodes)

    assert_comes_to(assert_all_met, flows, over=[twice, other])


@pytest.mark.clause("endpoints.nothing-left-over", covers=["EPS-15"])
def test_toggles_leave_no_endpoint_behind(standing, expose, list_the_old_way, nodes, outside):
    """After its selector and type were changed, exactly the selected pods answer for a Service.

    From endpoints written by hand to a selector, by way of none to another one, and from NodePort
    to ExternalName and back.
    """
    blue, green = standing.seat(0), standing.seat(1)
    service = expose(standing, selector={})
    list_the_old_way(service, blue)
    flows = service.flows(outside, via=nodes)
    assert_serves(dict.fromkeys(flows, answered_by(*blue.pods)))

    service.change(selector=green.labels)
    assert_serves(dict.fromkeys(flows, answered_by(*green.pods)), times=10)
    service.change(selector=None)
    service.change(selector=blue.labels)
    assert_serves(dict.fromkeys(flows, answered_by(*blue.pods)), times=10)

    service.change(
        type="ExternalName",
        externalName="example.org",
        clusterIP=None,
        clusterIPs=None,
        ipFamilies=None,
        ipFamilyPolicy=None,
    )
    service.change(
        type="NodePort", externalName=None, selector=green.labels, ipFamilyPolicy="PreferDualStack"
    )
    flows = service.flows(outside, via=nodes)
    assert_serves(dict.fromkeys(flows, answered_by(*green.pods)), times=10)
