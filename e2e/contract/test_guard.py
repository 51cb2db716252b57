"""What guards a node port, and what only seems to."""

import pytest

from e2e.check import answered_by, assert_settles
from e2e.probe import BLOCKED, CLOSED


@pytest.mark.clause("guard.source-ranges-do-not", covers=["SEC-02"])
@pytest.mark.needs("kube-proxy", "outside-caller", "own-cluster")
def test_source_ranges_do_not_guard_a_node_port(
    standing, expose, nodes, caller, documentation_addresses
):
    """Source ranges close a load balancer's address to others, and leave the node port open to all.

    Whoever is in the ranges is served there.
    """
    service = expose(
        standing,
        type="LoadBalancer",
        loadBalancerClass="nodeport-e2e/nobody",
        ports=[{"port": 8088, "targetPort": 8080}],
    )
    addresses = [documentation_addresses[family] for family in service.families]
    service.balance_at(addresses)

    table, ranges, served = {}, [], answered_by(*standing.pods)
    for family, address in zip(service.families, addresses, strict=True):
        friend = caller.routing(address, via=nodes[0])
        ranges.append(f"{friend.source}/{128 if family == 'IPv6' else 32}")
        table[service.external_flow(friend, address=address, via=nodes[0])] = served
        for node in nodes:
            stranger = caller.routing(address, via=node)
            table[service.external_flow(stranger, address=address, via=node)] = CLOSED
            table[service.seen_from(stranger, via=node, family=family)] = served
    service.change(loadBalancerSourceRanges=ranges)
    assert_settles(table, times=1)


@pytest.mark.clause("guard.policies-see-a-node-or-the-caller", covers=["SEC-04"])
@pytest.mark.family("extended")
@pytest.mark.needs("two-workers")
def test_a_network_policy_sees_who_the_traffic_policy_shows_it(
    guarded_echo, expose, admit_only, workers, outside, own_addresses
):
    """A network policy that admits the caller lets it in under Local, and not under Cluster.

    Under Cluster, through a node without the pod, it is that node whom the policy sees.
    """
    echo, (home, away) = guarded_echo, workers[:2]
    cluster, local = expose(echo), expose(echo, externalTrafficPolicy="Local")
    admit_only(echo, sorted(own_addresses[away.name]))
    table = dict.fromkeys(cluster.flows(outside, via=[away]), answered_by(*echo.pods))
    assert_settles(table | dict.fromkeys(local.flows(outside, via=[home]), BLOCKED))

    admit_only(echo, [outside.source_towards(address) for address in home.addresses.values()])

    table = dict.fromkeys(local.flows(outside, via=[home]), answered_by(*echo.pods))
    table |= dict.fromkeys(cluster.flows(outside, via=[away]), BLOCKED)
    assert_settles(table)
