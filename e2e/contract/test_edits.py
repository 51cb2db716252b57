"""A Service is edited while it is in use."""

import pytest

from e2e.check import answered_by, assert_serves, assert_settles, assert_unnoticed
from e2e.probe import CLOSED, watching


@pytest.mark.clause("edits.ports-come-and-go", covers=["LIF-09", "EPS-10"])
def test_adding_and_removing_a_port_disturbs_no_other(standing, expose, nodes, outside):
    """Adding a port to a Service and removing it again disturbs no other port of it.

    Not one new connection fails meanwhile and no kept connection breaks; the added port serves on
    every node, and closes on every node when it is removed.
    """
    stays = {"name": "stays", "port": 80, "targetPort": 8080}
    comes = {"name": "comes", "port": 81, "targetPort": 8080}
    service = expose(standing, ports=[stays])
    flows = service.flows(outside, via=nodes)
    served = answered_by(*standing.pods)
    assert_serves(dict.fromkeys(flows, served))
    stays["nodePort"] = service.node_port

    with watching(flows, kept=flows) as watch:
        service.change(ports=[stays, comes])
        added = service.flows(outside, via=nodes, port=service.node_ports["comes"])
        assert_settles(dict.fromkeys(added, served))
        service.change(ports=[stays])
        assert_settles(dict.fromkeys(added, CLOSED) | dict.fromkeys(flows[:1], served))

    assert_unnoticed(watch)
