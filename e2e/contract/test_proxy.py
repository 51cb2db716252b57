"""kube-proxy tells the truth about itself, and keeps up with what happens."""

import pytest

from e2e.check import (
    answered_by,
    assert_all_met,
    assert_becomes,
    assert_comes_to,
    assert_only,
    assert_serves,
    assert_settles,
)
from e2e.probe import CLOSED, draw
from e2e.timing import HEALTHY_WITHIN, UNHEALTHY_WITHIN

SERVICES, REPLACED = 100, 20
# Another pod that gets every other connection of a Service is missed on no node once in 32,768.
PICKS = 5
BOTH = [
    {"name": "web", "port": 80, "targetPort": 8080},
    {"name": "dns", "port": 53, "targetPort": 8081, "protocol": "UDP"},
]


@pytest.mark.clause("proxy.nodes-agree", covers=["KP-09"])
def test_all_nodes_agree(standing, expose, nodes, outside):
    """After many changes in a row every node passes connections on to exactly the same pods.

    Those are the pods of the last change.
    """
    service = expose(standing, selector=standing.seat(0).labels)
    flows = service.flows(outside, via=nodes)
    assert_serves(dict.fromkeys(flows, answered_by(*standing.seat(0).pods)))

    for seat in (1, 2, 0, 2, 1):
        service.change(selector=standing.seat(seat).labels)
    service.change(selector=standing.labels | {"seat": None})

    assert_comes_to(assert_all_met, flows, over=standing.pods)


@pytest.mark.clause("proxy.burst", covers=["KP-10"])
@pytest.mark.needs("wide-range")
def test_a_burst_of_services_is_right_on_every_node(standing, expose, nodes, outside):
    """Of a hundred Services created one right after another each leads to its own pods everywhere.

    So does each of those that replace twenty of them, with the same numbers.
    """
    seats = [standing.seat(number) for number in range(len(standing.pods))]
    services = [expose(seats[n % len(seats)]) for n in range(SERVICES)]
    assert_each_its_own(services, nodes, outside)

    for n, old in enumerate(services[:REPLACED]):
        ports = old.stored["spec"]["ports"]
        old.remove()
        services[n] = expose(seats[(n + 1) % len(seats)], ports=ports)

    assert_each_its_own(services, nodes, outside)


@pytest.mark.clause("proxy.health", covers=["KP-05"])
@pytest.mark.family("extended")
@pytest.mark.needs("kube-proxy")
def test_it_says_that_it_is_well_and_which_mode_it_has(kube_proxy, implementation, nodes):
    """On every node kube-proxy calls itself healthy and alive, and names the mode it is set to."""
    modes = {str(node): kube_proxy.mode(node) for node in nodes}
    assert modes == dict.fromkeys(modes, implementation.proxy)
    for node in nodes:
        for path in ("/healthz", "/livez"):
            said = kube_proxy.says(node, path)
            assert said.status == 200, f"{node}{path}: {said}"
            assert "lastUpdated" in said.facts
        assert kube_proxy.says(node, "/healthz").facts.get("nodeEligible", True) is True


@pytest.mark.clause("proxy.no-failed-sync", covers=["KP-06"])
@pytest.mark.family("extended")
@pytest.mark.needs("kube-proxy")
def test_no_sync_fails(standing, everywhere, expose, kube_proxy, nodes, outside):
    """While Services of all kinds come, change and go, not one sync fails on any node."""
    before = {node: kube_proxy.counts(node) for node in nodes}

    for way in ({}, {"sessionAffinity": "ClientIP"}, {"externalTrafficPolicy": "Local"}):
        service = expose(everywhere, ports=BOTH, **way)
        assert_settles(dict.fromkeys(service.flows(outside, via=nodes), answered_by()))
        service.change(selector=standing.seat(0).labels)
        service.change(selector=everywhere.labels, ports=service.stored["spec"]["ports"][:1])
        service.remove()
    last = expose(standing)
    assert_settles(dict.fromkeys(last.flows(outside, via=nodes), answered_by()))

    for node in nodes:
        after = kube_proxy.counts(node)
        assert after.syncs > before[node].syncs, f"{node}: {after}, before {before[node]}"
        assert after.failures == before[node].failures, f"{node}: {after}, before {before[node]}"


@pytest.mark.clause("proxy.frozen", covers=["KP-05"])
@pytest.mark.family("disruptive")
@pytest.mark.needs("kube-proxy", "own-cluster")
def test_a_frozen_one_is_not_called_healthy(kube_proxy, nodes):
    """A kube-proxy that does nothing answers no health check, and is healthy when it goes on."""
    with kube_proxy.frozen(nodes[-1]):
        says = {str(node): kube_proxy.says(node, "/healthz").status for node in nodes}
        assert says == {str(node): 0 if node == nodes[-1] else 200 for node in nodes}
    assert_becomes(lambda: kube_proxy.says(nodes[-1], "/healthz").status, 200)


@pytest.mark.clause("proxy.unhealthy", covers=["KP-05", "ETP-11"])
@pytest.mark.family("disruptive", "slow")
@pytest.mark.needs("kube-proxy", "own-cluster", "two-workers")
def test_it_is_unhealthy_when_it_cannot_write_rules(
    standing, expose, kube_proxy, workers, nodes, outside
):
    """A kube-proxy whose syncs fail for a minute is unhealthy, and healthy when they succeed.

    So are its health-check node ports. What it had written before serves all the time.
    """
    node, echo = workers[0], standing.on(workers[0])
    service = expose(echo, type="LoadBalancer", externalTrafficPolicy="Local")
    address = node.addresses[service.families[0]]
    port = service.stored["spec"]["healthCheckNodePort"]
    served = dict.fromkeys(service.flows(outside, via=[node]), answered_by(*echo.pods))
    assert_serves(served)

    def health():
        own = {path: kube_proxy.says(node, path).status for path in ("/healthz", "/livez")}
        of_service = kube_proxy.says(node, "/", port=port, address=address)
        return {f"{node}: {what}": status for what, status in own.items()} | {
            f"{node}: health-check node port": of_service.status
        }

    well, unwell = dict.fromkeys(health(), 200), dict.fromkeys(health(), 503)
    assert_becomes(health, well)
    with kube_proxy.unable_to_write(node):
        late = expose(echo)
        assert_becomes(health, unwell, within=UNHEALTHY_WITHIN)
        unwritten = dict.fromkeys(late.flows(outside, via=[node]), CLOSED)
        written = dict.fromkeys(late.flows(outside, via=nodes[:1]), answered_by(*echo.pods))
        assert_settles(served | unwritten | written)
    assert_becomes(health, well, within=HEALTHY_WITHIN)

    assert_serves(served | dict.fromkeys(late.flows(outside, via=nodes), answered_by(*echo.pods)))


def assert_each_its_own(services, nodes, outside):
    """Every node port of every Service comes to lead to the pod of that Service."""
    table = {
        flow: answered_by(*service.owner.pods)
        for service in services
        for flow in service.flows(outside, via=nodes)
    }
    assert_settles(table, times=1)
    assert_only(draw(table, PICKS), table)


@pytest.mark.clause("proxy.half-closed-kept", covers=["L4-12"])
@pytest.mark.family("extended")
@pytest.mark.needs("kube-proxy")
def test_half_closed_connections_are_kept_for_an_hour(in_hosts):
    """Every node keeps a half-closed TCP connection in connection tracking for an hour.

    Linux by itself would forget it after a minute.
    """
    file = "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close_wait"

    kept = {caller.name: int(caller.run(f"cat {file}")) for caller in in_hosts}

    assert kept == dict.fromkeys(kept, 3600)
