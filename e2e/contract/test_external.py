"""externalIPs give a Service further addresses."""

import pytest

from e2e.check import answered_by, assert_settles
from e2e.probe import BLOCKED, NO_ROUTE

ADDRESSES = {"IPv4": "192.0.2.110", "IPv6": "2001:db8::110"}
GONE = BLOCKED | {NO_ROUTE}


@pytest.mark.clause("external.answers-through-every-node", covers=["EXT-01", "EXT-04", "N-19"])
@pytest.mark.needs("outside-caller", "own-cluster")
def test_an_external_address_answers_until_it_is_removed(standing, expose, nodes, caller, listed):
    """An external address answers on the Service's own port, routed through any node.

    `kubectl get services` shows it, and when it is removed it stops while the node port goes on.
    """
    kept = expose(standing, ports=[{"port": 8088, "targetPort": 8080}])
    families = kept.stored["spec"]["ipFamilies"]
    addresses = [ADDRESSES[family] for family in families]
    kept.change(externalIPs=addresses)
    external = [
        kept.external_flow(
            caller.vantage(family, via=node, to=ADDRESSES[family]),
            address=ADDRESSES[family],
            via=node,
        )
        for family in families
        for node in nodes
    ]
    node_ports = [
        kept.seen_from(caller.vantage(family), via=node, family=family)
        for family in families
        for node in nodes
    ]
    served = answered_by(*standing.pods)

    assert_settles(dict.fromkeys(external + node_ports, served))
    assert listed(kept.name, kept.namespace)["External-IP"] == ",".join(addresses)

    kept.change(externalIPs=None)

    assert_settles(dict.fromkeys(external, GONE) | dict.fromkeys(node_ports, served))
    assert listed(kept.name, kept.namespace)["External-IP"] == "<none>"
