"""kube-proxy is restarted, frozen, cut off and hindered while its node ports are in use."""

import pytest

from e2e.check import (
    answered_by,
    assert_keeps,
    assert_one_each,
    assert_serves,
    assert_settles,
    assert_spread,
    assert_unnoticed,
    measured,
    note_outages,
)
from e2e.probe import CLOSED, draw, watching
from e2e.timing import RULES_BACK_WITHIN

BOTH = [
    {"name": "web", "port": 80, "targetPort": 8080},
    {"name": "dns", "port": 53, "targetPort": 8081, "protocol": "UDP"},
]
# Three pods by chance give all twenty clients one pod once in a thousand million times.
CLIENTS = 20


@pytest.mark.clause("disturbed.restart-unnoticed", covers=["KP-02", "L4-08"])
@pytest.mark.family("disruptive")
@pytest.mark.needs("kube-proxy", "own-cluster", "own-sockets")
def test_nobody_notices_a_restart_of_kube_proxy(standing, expose, kube_proxy, nodes, outside):
    """While kube-proxy is started anew on every node, what was served goes on unharmed.

    Not one new connection fails, no kept connection breaks, and no UDP flow loses a datagram. A
    Service that is created afterwards is served on every node.
    """
    service = expose(standing, ports=BOTH)
    flows = service.flows(outside, via=nodes)
    talks = service.flows(outside, via=nodes, port=service.node_ports["dns"])
    assert_serves(dict.fromkeys([*flows, *talks], answered_by(*standing.pods)))

    with watching([*flows, *talks], kept=flows) as watch:
        kube_proxy.restart(*nodes)
        later = expose(standing.seat(0))
        assert_serves(dict.fromkeys(later.flows(outside, via=nodes), answered_by()))

    assert_unnoticed(watch)


@pytest.mark.clause("disturbed.catches-up", covers=["KP-02"])
@pytest.mark.family("disruptive")
@pytest.mark.needs("kube-proxy", "own-cluster", "two-workers")
def test_what_changes_while_it_is_down_is_applied_on_return(
    standing, expose, kube_proxy, nodes, outside
):
    """A node whose kube-proxy does nothing serves on as before, and catches up with the next one.

    The other nodes follow a change meanwhile.
    """
    before, after = standing.seat(0), standing.seat(1)
    service = expose(standing, selector=before.labels)
    flows, late = service.flows(outside, via=nodes), service.flows(outside, via=nodes[-1:])
    assert_serves(dict.fromkeys(flows, answered_by(*before.pods)))
    behind = {str(flow): answered_by(*before.pods) for flow in late}

    with kube_proxy.frozen(nodes[-1]):
        service.change(selector=after.labels)
        assert_serves({f: behind.get(str(f), answered_by(*after.pods)) for f in flows})
        kube_proxy.restart(nodes[-1])

    assert_serves(dict.fromkeys(flows, answered_by(*after.pods)))


@pytest.mark.clause("disturbed.reconnected", covers=["KP-08"])
@pytest.mark.family("disruptive")
@pytest.mark.needs("kube-proxy", "own-cluster", "two-workers")
def test_nothing_deleted_is_brought_back_when_it_connects_again(
    standing, expose, kube_proxy, nodes, outside
):
    """A kube-proxy that missed that a pod has left gives it up when it connects again, for good."""
    gone, stays = standing.seat(0), standing.seat(1)
    service = expose(standing, selector=gone.labels)
    flows, late = service.flows(outside, via=nodes), service.flows(outside, via=nodes[-1:])
    assert_serves(dict.fromkeys(flows, answered_by(*gone.pods)))
    behind = {str(flow): answered_by(*gone.pods) for flow in late}

    with kube_proxy.frozen(nodes[-1]):
        service.change(selector=stays.labels)
        assert_serves({f: behind.get(str(f), answered_by(*stays.pods)) for f in flows})
        kube_proxy.cut_off(nodes[-1])

    assert_serves(dict.fromkeys(flows, answered_by(*stays.pods)))
    assert_keeps(dict.fromkeys(flows, answered_by(*stays.pods)))


@pytest.mark.clause("disturbed.pins-stay", covers=["AFF-10"])
@pytest.mark.family("disruptive")
@pytest.mark.needs("kube-proxy", "own-cluster", "outside-caller")
def test_a_restart_of_kube_proxy_moves_no_client(
    standing, expose, kube_proxy, nodes, outside, caller
):
    """With ClientIP each of twenty clients keeps its pod on each node when kube-proxy restarts."""
    service = expose(standing, sessionAffinity="ClientIP")
    open_to_all = dict.fromkeys(service.flows(outside, via=nodes), answered_by(*standing.pods))
    assert_settles(open_to_all)
    flows = [
        service.seen_from(client, via=node, family=family)
        for family in service.families
        for client in caller.vantages(CLIENTS, family)
        for node in nodes
    ]
    before = draw(flows, 1)
    assert_spread(before, over=standing.pods)

    kube_proxy.restart(*nodes)
    # What it writes at its start is written before it follows any change.
    later = expose(standing.seat(0))
    assert_settles(dict.fromkeys(later.flows(outside, via=nodes), answered_by()))

    after = draw(flows, 1)
    assert_one_each({flow: before[flow] + after[flow] for flow in flows}, over=standing.pods)


@pytest.mark.clause("disturbed.rules-return", covers=["KP-03"])
@pytest.mark.family("disruptive", "slow")
@pytest.mark.needs("kube-proxy", "own-cluster", "two-workers", "iptables")
def test_deleted_rules_return_by_themselves(standing, expose, kube_proxy, nodes, outside):
    """When all its rules on a node are deleted, kube-proxy writes them again by itself.

    Until then the node serves nobody, while all others go on.
    """
    service = expose(standing)
    served = dict.fromkeys(service.flows(outside, via=nodes), answered_by(*standing.pods))
    assert_serves(served)

    with kube_proxy.forgetting_rules(nodes[-1]):
        without = dict.fromkeys(service.flows(outside, via=nodes[-1:]), CLOSED)
        others = dict.fromkeys(service.flows(outside, via=nodes[:-1]), answered_by(*standing.pods))
        assert_settles(without | others, times=1)
        healed = assert_settles(served, within=RULES_BACK_WITHIN)
        measured(f"rules were back {healed.took:.1f} s after they were seen to be gone")
    assert_serves(served)


@pytest.mark.clause("disturbed.table-returns", covers=["KP-03"])
@pytest.mark.family("disruptive", "slow")
@pytest.mark.needs("kube-proxy", "own-cluster", "two-workers", "nftables")
def test_a_deleted_table_returns_with_a_change(standing, expose, kube_proxy, nodes, outside):
    """When its tables on a node are deleted, kube-proxy writes them again after the next change.

    Until then the node serves nobody, while all others go on.
    """
    service = expose(standing)
    served = dict.fromkeys(service.flows(outside, via=nodes), answered_by(*standing.pods))
    assert_serves(served)

    with kube_proxy.forgetting_rules(nodes[-1]):
        without = dict.fromkeys(service.flows(outside, via=nodes[-1:]), CLOSED)
        others = dict.fromkeys(service.flows(outside, via=nodes[:-1]), answered_by(*standing.pods))
        assert_settles(without | others)
        expose(standing.seat(0))
        healed = assert_settles(served, within=RULES_BACK_WITHIN)
        measured(f"the tables were back {healed.took:.1f} s after the next change")
    assert_serves(served)


@pytest.mark.clause("disturbed.other-mode", covers=["KP-04"])
@pytest.mark.family("disruptive", "slow")
@pytest.mark.needs("kube-proxy", "own-cluster", "two-workers", "control-plane", "own-sockets")
def test_another_mode_leaves_nothing_of_the_first(
    standing, expose, kube_proxy, implementation, nodes, outside
):
    """A node whose kube-proxy starts in another mode keeps no rule of the first, without a reboot.

    It follows changes as all others do: a pod that has left gets nothing, in the other mode and
    back in the first.
    """
    first, node = implementation.proxy, nodes[-1]
    (other,) = {"iptables", "nftables"} - {first}
    seats = [standing.seat(number) for number in range(3)]
    service = expose(standing, selector=seats[0].labels)
    flows = service.flows(outside, via=nodes)
    assert_serves(dict.fromkeys(flows, answered_by(*seats[0].pods)))

    with watching(flows, kept=flows) as watch:
        with kube_proxy.in_mode(other, node, told_on=nodes[0]):
            service.change(selector=seats[1].labels)
            assert_serves(dict.fromkeys(flows, answered_by(*seats[1].pods)))
            assert (kube_proxy.mode(node), kube_proxy.modes_with_rules(node)) == (other, [other])
        service.change(selector=seats[2].labels)
        assert_serves(dict.fromkeys(flows, answered_by(*seats[2].pods)))
        assert (kube_proxy.mode(node), kube_proxy.modes_with_rules(node)) == (first, [first])
    note_outages(watch)


@pytest.mark.clause("disturbed.udp-and-changes-elsewhere", covers=["L4-08"])
@pytest.mark.needs("own-sockets")
def test_changes_elsewhere_do_not_disturb_udp(standing, expose, nodes, outside):
    """A UDP flow loses no datagram while other UDP Services come, change and go."""
    service = expose(standing, ports=BOTH[1:])
    flows = service.flows(outside, via=nodes)
    assert_serves(dict.fromkeys(flows, answered_by(*standing.pods)))

    with watching(flows) as watch:
        other = expose(standing.seat(0), ports=BOTH[1:])
        others = dict.fromkeys(other.flows(outside, via=nodes), answered_by())
        assert_settles(others)
        other.change(selector=standing.seat(1).labels)
        other.owner = standing.seat(1)
        assert_settles(dict.fromkeys(other.flows(outside, via=nodes), answered_by()))
        other.remove()
        expose(standing.seat(0), ports=BOTH[1:])
        assert_keeps(dict.fromkeys(flows, answered_by(*standing.pods)))

    assert_unnoticed(watch)
