"""Which addresses of a node answer at a node port."""

import pytest

from e2e.check import answered_by, assert_serves, assert_settles, assert_unnoticed
from e2e.probe import BLOCKED, CLOSED, FOREIGN, watching

# The kubelet's health, which kubeadm lets listen at 127.0.0.1 alone.
KUBELET_HEALTH = 10248


# Alone with the cluster, as others change Services meanwhile, which would let it answer too.
@pytest.mark.clause("addresses.second-one", covers=["ADR-01", "ADR-05"])
@pytest.mark.family("extended", "disruptive")
@pytest.mark.needs("default-addresses", "outside-caller", "own-cluster", "own-sockets")
def test_a_second_address_answers_where_the_mode_covers_it(
    standing, expose, give_address, documentation_addresses, nodes, outside, caller, chosen
):
    """Whether a node's second address answers depends on the proxy mode: all do, or primary ones.

    Where it does, it comes to answer once the node has it, with no change of any Service, and it
    closes once it is taken away. Through the nodes' first addresses nobody notices.
    """
    node, service = nodes[-1], expose(standing)
    first = dict.fromkeys(service.flows(outside, via=nodes), answered_by(*standing.pods))
    assert_serves(first)

    second = {}
    with watching(first) as watch:
        for address in (documentation_addresses[family] for family in service.families):
            intended = caller.routing(address, via=node)
            flow = service.flow_to(intended, address, name=f"{address} on {node}")
            second[flow] = give_address(node, address)
        assert_settles(first | dict.fromkeys(second, chosen("second-address")), every=0.2)

        for take_away in second.values():
            take_away()
        assert_settles(first | dict.fromkeys(second, CLOSED), times=1)
    assert_unnoticed(watch)


@pytest.mark.clause("addresses.as-configured", covers=["ADR-02"])
@pytest.mark.family("disruptive")
@pytest.mark.needs("nodeport-addresses", "outside-caller", "own-cluster")
def test_configured_addresses_answer_and_no_others(
    standing, expose, further_addresses, give_address, kube_proxy, answers_at,
    nodes, outside, caller, in_hosts,
):  # fmt: skip
    """With node port addresses configured, those of a node that are among them answer, no others.

    What counts is which addresses the node has when its proxy starts.
    """
    node, service, table = nodes[-1], expose(standing), {}
    for flow in service.flows(outside, via=nodes):
        table[flow] = flow.target.address
    for host in in_hosts:
        table[service.flow_to(host, "127.0.0.1", name="localhost")] = "127.0.0.1"
    for address in (a for family in service.families for a in further_addresses[family]):
        intended = caller.routing(address, via=node)
        table[service.flow_to(intended, address, name=f"{address} on {node}")] = address
        give_address(node, address)
    kube_proxy.restart(node)

    verdicts = {flow: answers_at(address) for flow, address in table.items()}
    assert set(verdicts.values()) == {True, False}, "the configuration leaves nothing to tell apart"
    served = answered_by(*standing.pods)
    assert_settles({flow: served if yes else CLOSED for flow, yes in verdicts.items()}, every=0.2)


# Alone with the cluster, as a change of a node's zone lets nftables mode ask for addresses again.
@pytest.mark.clause("addresses.configured-and-late", covers=["ADR-05"])
@pytest.mark.family("extended", "disruptive")
@pytest.mark.needs("nodeport-addresses", "outside-caller", "own-cluster")
def test_a_configured_address_that_comes_late(
    standing, expose, further_addresses, give_address, answers_at,
    nodes, outside, caller, chosen,
):  # fmt: skip
    """Whether a configured address that a node gets later answers depends on the proxy mode.

    In iptables mode it does from the next change of any Service on; in nftables mode that is not
    enough. One that is not configured does not answer either way.
    """
    node, service, served = nodes[-1], expose(standing), answered_by(*standing.pods)
    table = dict.fromkeys(service.flows(outside, via=nodes), served)
    assert_settles(table)

    for address in (a for family in service.families for a in further_addresses[family]):
        intended = caller.routing(address, via=node)
        flow = service.flow_to(intended, address, name=f"{address} on {node}")
        table[flow] = chosen("late-address") if answers_at(address) else CLOSED
        give_address(node, address)
    # Once it serves, the nodes have acted on what they heard after they got the addresses.
    assert_settles(dict.fromkeys(expose(standing).flows(outside, via=nodes), served))
    assert_settles(table, every=0.2)


@pytest.mark.clause("addresses.localhost", covers=["ADR-03", "ADR-04"])
@pytest.mark.family("extended")
@pytest.mark.needs("default-addresses", "localhost-node-ports")
def test_localhost_answers_where_the_mode_covers_it(standing, expose, in_hosts, nodes, chosen):
    """On a node itself 127.0.0.1 answers in iptables mode and is refused in nftables mode.

    ::1 is refused in both. The node's own address answers there in any case.
    """
    service = expose(standing)
    by_family = {"IPv4": "127.0.0.1", "IPv6": "::1"}

    table = {}
    for host, node in zip(in_hosts, nodes, strict=True):
        for family in service.families:
            own = service.seen_from(host, via=node, family=family)
            table[own] = answered_by(*standing.pods)
            local = service.flow_to(host, by_family[family], name=f"localhost ({family})")
            table[local] = chosen(f"localhost-{family.lower()}")
    assert_settles(table, every=0.2)


@pytest.mark.clause("addresses.loopback-stays-inside", covers=["ADR-06", "SEC-03"])
@pytest.mark.needs("ipv4", "kube-proxy", "outside-caller", "own-cluster")
def test_a_neighbour_does_not_get_into_the_loopback(standing, expose, nodes, caller, in_hosts):
    """A neighbour that sends a node packets for 127.0.0.1 reaches nothing that listens only there.

    The kubelet's health does listen there, as a call on the node itself shows (CVE-2020-8558).
    """
    service, table = expose(standing), {}
    for node, host in zip(nodes, in_hosts, strict=True):
        neighbour = caller.routing_loopback(via=node)
        inside = service.flow_to(host, "127.0.0.1", name="localhost", port=KUBELET_HEALTH)
        across = service.flow_to(
            neighbour, "127.0.0.1", name=f"localhost of {node}", port=KUBELET_HEALTH
        )
        own = service.seen_from(neighbour, via=node, family="IPv4")
        table |= {inside: FOREIGN, across: BLOCKED, own: answered_by(*standing.pods)}
    assert_settles(table, times=1)


@pytest.mark.clause("addresses.external-ones", covers=["ADR-07"])
@pytest.mark.needs("external-addresses")
def test_a_nodes_external_address_answers(standing, expose, nodes, outside):
    """A node's external address answers like its internal one."""
    service = expose(standing)

    flows = [
        service.flow_to(outside, address, name=f"{node} (external)")
        for node in nodes
        for family, address in node.external_addresses.items()
        if family in service.families
    ]
    inside = service.flows(outside, via=nodes)
    assert_serves(dict.fromkeys(flows + inside, answered_by(*standing.pods)))
