"""What an API server's repair of allocations found, read from its metrics and events."""

import pytest

from e2e.cluster.repair import Findings, read

QUIET = "apiserver_nodeport_repair_reconcile_errors_total 0\n"
LOUD = QUIET + (
    'apiserver_nodeport_repair_port_errors_total{type="duplicate"} 3\n'
    'apiserver_nodeport_repair_port_errors_total{type="leak"} 1\n'
)


def event(reason: str, service: str = "web"):
    """An event as the API lists it."""
    return {"reason": reason, "message": "Port 30040", "involvedObject": {"name": service}}


def test_only_warnings_of_repair_are_read():
    """Of events only those of repair about our Services count, and errors count by type."""
    others = [event("Killing"), event("PortOutOfRange", "somebody-else")]

    found = read(LOUD, [event("PortNotAllocated"), *others], {"web"})

    assert found.events == {"PortNotAllocated: Port 30040"}
    assert found.errors == {"duplicate": 3, "leak": 1}
    assert read(QUIET, [], {"web"}) == Findings(frozenset(), {})


def test_what_was_there_before_is_left_out():
    """Only events that are new and counts that grew are told."""
    before = read(LOUD, [event("PortNotAllocated")], {"web"})
    more = LOUD.replace("} 3", "} 5").replace("leak", "full")

    after = read(more, [event("PortNotAllocated"), event("PortOutOfRange")], {"web"})

    assert after.since(before).events == {"PortOutOfRange: Port 30040"}
    assert after.since(before).errors == {"duplicate": 2, "full": 1}
    assert before.since(before) == Findings(frozenset(), {})


def test_a_server_without_repair_is_an_error():
    """Where the metrics know of no repair, nothing wrong would prove nothing."""
    with pytest.raises(ValueError, match="lack apiserver_nodeport_repair"):
        read("up 1\n", [], {"web"})
