"""UDP through a node port."""

import pytest

from e2e.check import answered_by, assert_serves, assert_unnoticed
from e2e.probe import watching


@pytest.mark.clause("udp.every-node", covers=["L4-01", "DP-20"])
def test_udp_answers_on_every_node(standing, expose, nodes, outside):
    """A UDP node port answers on every node, from the address and port that were called.

    A flow from one source port loses no datagram.
    """
    port = {"name": "dns", "port": 53, "targetPort": 8081, "protocol": "UDP"}
    service = expose(standing, ports=[port])
    flows = service.flows(outside, via=nodes)

    assert_serves(dict.fromkeys(flows, answered_by(*standing.pods)))
    with watching(flows) as watch:
        assert_serves(dict.fromkeys(flows, answered_by(*standing.pods)))
    assert_unnoticed(watch)
