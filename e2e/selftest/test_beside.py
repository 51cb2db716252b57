"""Where callers outside stand: this process, or a container where it reaches no node."""

import shutil
import socket
import time

import pytest

from e2e import timing
from e2e.cluster import beside
from e2e.cluster.beside import AUTO, BESIDE, HOST, Beside, demand_reach, why_beside
from e2e.cluster.caller import Caller
from e2e.cluster.node import Node
from e2e.errors import CannotRunError
from e2e.probe import ANSWERED, REFUSED, SILENT, Reply
from e2e.selftest.servers import http_reply, says, serving
from e2e.selftest.test_caller import Here
from e2e.selftest.test_sampler import speaking_udp

NODES = [Node("one", {"IPv4": "192.0.2.1", "IPv6": "2001:db8::1"}, True), Node("two", {}, False)]


@pytest.fixture
def hears(monkeypatch):
    """The addresses that this machine hears."""
    heard: set[str] = set()
    monkeypatch.setattr(beside, "is_heard", lambda address: address in heard)
    return heard


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
def test_it_calls_from_the_container_s_own_address():
    """It is the caller outside by name, and knows as whom it is seen."""
    outside = Beside(Caller(Here(), "c0ffee"))
    with serving(says(http_reply("echo-a"))) as at:
        assert outside.call(at.address, at.port).outcome == ANSWERED
        assert outside.draw(at.address, at.port, 2)[1].echo == "echo-a"

    assert outside.name == "outside"
    assert {address for address, _ in at.peers} == {outside.source_towards("127.0.0.1")}


def test_it_asks_over_udp_and_does_not_wait_after_the_answer(monkeypatch):
    """An answer, a refusal and a silence are told apart."""
    outside = Beside(Caller(Here(), "c0ffee"))
    with speaking_udp() as port:
        began = time.monotonic()
        assert outside.call_udp("127.0.0.1", port).outcome == ANSWERED
        assert time.monotonic() - began < timing.ATTEMPT
    assert outside.call_udp("127.0.0.1", port).outcome == REFUSED
    monkeypatch.setattr(timing, "ATTEMPT", 0.3)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))
        assert outside.call_udp("127.0.0.1", deaf.getsockname()[1]).outcome == SILENT


@pytest.mark.parametrize(
    ("asked", "heard", "has_callers", "why"),
    [
        (AUTO, "2001:db8::1", True, ""),
        (AUTO, "", True, "this machine does not reach the addresses of the nodes"),
        (AUTO, "", False, ""),
        (HOST, "192.0.2.1", True, ""),
        (HOST, "", False, ""),
        (BESIDE, "192.0.2.1", True, "E2E_OUTSIDE=beside says so"),
    ],
)
def test_who_reaches_a_node_calls_it(hears, asked, heard, has_callers, why):
    """A container calls only where this machine hears no node at all, or where that is asked."""
    hears.add(heard)

    assert why_beside(asked, NODES, has_callers=has_callers) == why


def test_what_was_asked_for_and_is_not_there_ends_the_run(hears):
    """Neither this machine nor a container is taken for the other where one was named."""
    with pytest.raises(CannotRunError, match=r"does not reach .*: 192.0.2.1, 2001:db8::1"):
        why_beside(HOST, NODES, has_callers=True)
    with pytest.raises(CannotRunError, match="no container can be put beside"):
        why_beside(BESIDE, NODES, has_callers=False)
    with pytest.raises(CannotRunError, match="does not reach"):
        demand_reach(NODES)


@pytest.mark.parametrize(("outcome", "ends"), [(REFUSED, False), (SILENT, True)])
def test_a_container_that_hears_nobody_ends_the_run(monkeypatch, outcome, ends):
    """Else every clause would call the cluster broken; a refusal is an answer."""
    monkeypatch.setattr(Beside, "call", lambda *_: Reply(outcome))
    outside = Beside(Caller(Here(), "c0ffee"))
    if ends:
        with pytest.raises(CannotRunError, match="neither this machine nor a container"):
            outside.demand_heard(NODES)
    else:
        outside.demand_heard(NODES)
