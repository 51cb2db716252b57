"""externalIPs give a Service further addresses."""

import pytest

from e2e.check import answered_by, assert_serves, assert_settles
from e2e.probe import CLOSED


@pytest.mark.clause("external.answers-through-every-node", covers=["EXT-01", "EXT-04", "N-19"])
@pytest.mark.needs("outside-caller", "own-cluster")
def test_an_external_address_answers_until_it_is_removed(
    standing, expose, nodes, caller, outside, listed, documentation_addresses
):
    """An external address answers on the Service's own port, through any node it is routed to.

    `kubectl get services` shows it. Once it is removed it stops, and the node port goes on.
    """
    service = expose(standing, ports=[{"port": 8088, "targetPort": 8080}])
    families = service.stored["spec"]["ipFamilies"]
    addresses = [documentation_addresses[family] for family in families]
    service.change(externalIPs=addresses)
    external = [
        service.external_flow(caller.routing(address, via=node), address=address, via=node)
        for address in addresses
        for node in nodes
    ]
    node_ports = service.flows(outside, via=nodes)
    served = answered_by(*standing.pods)

    assert_serves(dict.fromkeys(external + node_ports, served))
    assert listed(service.name, service.namespace)["External-IP"] == ",".join(addresses)

    service.change(externalIPs=None)

    # Silence is 3.5 s in which three SYNs go unanswered, so one look has to do.
    gone = dict.fromkeys(external, CLOSED)
    assert_settles(gone | dict.fromkeys(node_ports, served), times=1)
    assert listed(service.name, service.namespace)["External-IP"] == "<none>"
