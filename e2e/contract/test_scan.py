"""All numbers of the range at once: what nobody has is closed."""

import pytest

from e2e.check import answered_by, assert_all_owned, assert_settles


@pytest.mark.clause("scan.only-what-is-allocated", covers=["SEC-01"])
@pytest.mark.needs("own-cluster", "own-sockets")
def test_only_allocated_numbers_are_open(standing, expose, nodes, outside, ports, scan, owned):
    """Of the whole range only numbers that a Service has take TCP connections, on any node.

    A number may be open a little longer than its Service is there, and no longer.
    """
    service = expose(standing)
    flows = service.flows(outside, via=nodes)
    assert_settles(dict.fromkeys(flows, answered_by(*standing.pods)))
    addresses = [flow.target.address for flow in flows]

    opened = assert_all_owned(
        scan, [(address, port) for port in ports.allowed for address in addresses], owned=owned
    )

    assert {(address, service.node_port) for address in addresses} <= opened
