"""Payloads larger than a packet."""

import pytest

from e2e.check import answered_by, assert_only, assert_serves
from e2e.probe import carry

MEGABYTE = 1 << 20
# One that fits into a packet, one that does not, and one that takes several.
DATAGRAMS = (1400, 2000, 8000)


@pytest.mark.clause("payload.both-ways", covers=["DP-13"])
@pytest.mark.needs("two-workers", "own-sockets")
def test_large_payloads_pass_unharmed(standing, expose, nodes, outside):
    """A megabyte passes unharmed to a pod and back, through its own node and through any other.

    So do datagrams of 1400, 2000 and 8000 bytes, of which the pod gives back the first 2048.
    """
    ports = [
        {"name": "tcp", "port": 80, "targetPort": 8080},
        {"name": "udp", "port": 53, "targetPort": 8081, "protocol": "UDP"},
    ]
    echo = standing.seat(0)
    service = expose(echo, ports=ports)
    streams, datagrams = (
        dict.fromkeys(service.flows(outside, via=nodes, port=number), answered_by(*echo.pods))
        for number in service.node_ports.values()
    )
    assert_serves(streams | datagrams)

    assert_only(carry(streams, [MEGABYTE]), streams)
    assert_only(carry(datagrams, DATAGRAMS), datagrams)
