"""IP families: one Service, one node port number, over IPv4 and IPv6."""

import pytest

from e2e.check import (
    answered_by,
    assert_accepted,
    assert_all_met,
    assert_comes_to,
    assert_one_each,
    assert_serves,
    assert_settles,
    assert_spread_evenly,
    assert_unnoticed,
    connections_needed,
)
from e2e.probe import CLOSED, REFUSED, draw, watching

pytestmark = pytest.mark.needs("dual-stack")

BOTH = {"IPv4", "IPv6"}
# What a family may get wrong is a whole pod; small differences are the topic of `balance`.
STARVED = 0.75
CONNECTIONS = 100


@pytest.mark.clause("families.one-number-for-both", covers=["DS-01", "DS-02"])
def test_both_families_share_one_node_port(standing, submit, expose, nodes, outside):
    """A Service gets the families that its policy asks for, and one node port for all of them.

    Without a policy it is the cluster's first family alone. With PreferDualStack and with
    RequireDualStack, and in either order of the families, it answers over both on every node.
    """
    alone = assert_accepted(submit())["spec"]
    assert (alone["ipFamilyPolicy"], len(alone["ipFamilies"])) == ("SingleStack", 1)
    first = alone["ipFamilies"]

    table = {}
    for asked, families in (
        ({"ipFamilyPolicy": "PreferDualStack"}, first + sorted(BOTH - set(first))),
        ({"ipFamilyPolicy": "RequireDualStack"}, first + sorted(BOTH - set(first))),
        *(
            ({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": order}, order)
            for order in (["IPv4", "IPv6"], ["IPv6", "IPv4"])
        ),
    ):
        service = expose(standing, **asked)

        assert service.families == families
        assert [":" in ip for ip in service.stored["spec"]["clusterIPs"]] == [
            family == "IPv6" for family in families
        ]
        table |= dict.fromkeys(service.flows(outside, via=nodes), answered_by(*standing.pods))
    assert_serves(table)


@pytest.mark.clause("families.other-one-refuses", covers=["DS-03"])
def test_the_family_that_a_service_lacks_is_refused(standing, expose, nodes, outside):
    """A Service of one family refuses at once at the nodes' addresses of the other one."""
    table = {}
    for mine, other in (("IPv4", "IPv6"), ("IPv6", "IPv4")):
        service = expose(standing, ipFamilyPolicy="SingleStack", ipFamilies=[mine])
        for node in nodes:
            table[service.seen_from(outside, via=node)] = answered_by(*standing.pods)
            table[service.seen_from(outside, via=node, family=other)] = REFUSED
    assert_settles(table, every=0.1)


@pytest.mark.clause("families.second-comes-and-goes", covers=["DS-04"])
@pytest.mark.needs("own-sockets")
def test_a_second_family_comes_and_goes_unnoticed(standing, expose, submit, nodes, outside):
    """A second family is added to a Service and taken away, and the first one notices nothing.

    While it is there every node answers over it at the same node port. Afterwards its addresses
    are closed, and its ClusterIP is free for another Service.
    """
    service = expose(standing, ipFamilyPolicy="SingleStack")
    first, served = service.flows(outside, via=nodes), answered_by(*standing.pods)
    assert_serves(dict.fromkeys(first, served))
    number, (family,) = service.node_port, BOTH - set(service.families)
    second = [service.seen_from(outside, via=node, family=family) for node in nodes]

    with watching(first, kept=first) as watch:
        service.change(ipFamilyPolicy="PreferDualStack")
        addresses = service.stored["spec"]["clusterIPs"]
        assert len(addresses) == 2, addresses
        assert_settles(dict.fromkeys(second, served))
        service.change(ipFamilyPolicy="SingleStack")
        assert_settles(dict.fromkeys(second, CLOSED) | dict.fromkeys(first, served))

    assert_unnoticed(watch)
    assert service.node_port == number
    assert len(service.stored["spec"]["clusterIPs"]) == 1
    given = addresses[1:]
    assert_accepted(submit(clusterIP=given[0], clusterIPs=given, ipFamilies=[family]))


@pytest.mark.clause("families.second-family-alone", covers=["DS-05"])
@pytest.mark.needs("outside-caller")
def test_a_service_of_the_second_family_is_a_full_one(standing, expose, nodes, outside, clients):
    """A Service of the second family alone has equal shares, affinity and the caller's address.

    They are the promises that are most easily kept in the first family only.
    """
    (*_, second) = expose(standing).families
    way = {"ipFamilyPolicy": "SingleStack", "ipFamilies": [second]}
    service, local = expose(standing, **way), expose(standing, externalTrafficPolicy="Local", **way)
    flows, seen = service.flows(outside, via=nodes), {}
    for node in (node for node in nodes if node.name in standing.pods.values()):
        for flow in local.flows_of_each(clients.first(1), via=[node]):
            own = answered_by(*standing.on(node).pods, seen_as=[flow.caller.source])
            seen[flow.closely()] = own
    assert_settles(dict.fromkeys(flows, answered_by(*standing.pods)) | seen)

    count = connections_needed(len(standing.pods), unevenness=STARVED)
    assert_spread_evenly(draw(flows, count), over=standing.pods, unevenness=STARVED)
    service.change(sessionAffinity="ClientIP")
    assert_comes_to(assert_one_each, flows, over=standing.pods)
    assert_one_each(draw(flows, CONNECTIONS), over=standing.pods)


@pytest.mark.clause("families.endpoints-of-one-family", covers=["DS-06"])
def test_a_pod_without_a_family_gets_none_of_it(standing, expose, write_slices, nodes, outside):
    """A pod that is an endpoint in one family alone gets connections of that family alone.

    The Service's slices are written by hand: every pod is in that of IPv4, one in that of IPv6.
    """
    service = expose(standing, selector={})
    both = standing.seat(0)
    write_slices(service, standing, families=["IPv4"])
    write_slices(service, both, families=["IPv6"])

    flows = {family: [service.seen_from(outside, via=node, family=family) for node in nodes]
             for family in BOTH}  # fmt: skip
    assert_serves(dict.fromkeys(flows["IPv6"], answered_by(*both.pods)), times=10)
    assert_comes_to(assert_all_met, flows["IPv4"], over=standing.pods)
