"""Delays: which connections waited for a lost packet, and which were only slow."""

import socket
from dataclasses import replace

import pytest

from e2e.check import assert_none_delayed, journal
from e2e.check.delay import DelayedError
from e2e.check.wrong import HELD_UP
from e2e.probe import ANSWERED, SILENT, Reply
from e2e.probe.reply import is_enough
from e2e.probe.wire import waited_for
from e2e.selftest.servers import full_backlog, says, serving

QUICK = Reply(ANSWERED, 0.002, "echo-0", opened=0.001, waited=0.0)
SILENCE = Reply(SILENT, 3.5)
LOST = Reply(ANSWERED, 1.03, "echo-0", opened=1.02, waited=1.01)


@pytest.mark.parametrize(
    ("opened", "waited", "delayed"),
    [
        (0.001, 0.0, False),
        (1.4, 0.0, False),
        (0.02, 0.01, False),
        (1.4, 0.01, False),
        (1.02, 1.01, True),
        (3.1, 3.1, True),
        (1.02, None, True),
        (0.3, None, False),
    ],
)
def test_a_delay_is_to_have_waited(opened, waited, delayed):
    """Late alone is a slow machine, and a packet that is sent again at once delays nobody."""
    reply = Reply(ANSWERED, opened, "echo-0", opened=opened, waited=waited)

    assert reply.is_delayed is delayed


def test_a_delay_marks_its_flow_and_no_other():
    """The message has the times of every flow, and says of which one connections waited."""
    with pytest.raises(DelayedError) as caught:
        assert_none_delayed({"one": [QUICK] * 3, "other": [QUICK, LOST, QUICK]})

    head, one, other = str(caught.value).splitlines()
    assert head == "want every connection to open at the first attempt"
    assert one.startswith("  one: 3 connections, open after 1.0 ms, 99.9 % 1.0 ms, slowest 1.0 ms")
    assert other.startswith("x other: 3 connections")
    assert other.endswith("slowest 1020.0 ms, 1 with a second first packet; "
                          "1 waited for a lost first packet")  # fmt: skip


def late(*counts: int) -> list[Reply]:
    """So many late replies of each pod, and one of each that is in time."""
    replies = [replace(LOST, echo=f"echo-{pod}") for pod, n in enumerate(counts) for _ in range(n)]
    return replies + [replace(QUICK, echo=f"echo-{pod}") for pod, _ in enumerate(counts)]


@pytest.mark.parametrize(
    ("counts", "echo"), [((7, 0), "echo-0"), ((6, 0), None), ((40, 1), None), ((9,), None)]
)
def test_the_pod_that_answered_all_that_was_late_is_named(counts, echo):
    """Only where others answered in time, and often enough for chance not to have done it."""
    with pytest.raises(DelayedError) as caught:
        assert_none_delayed({"one": late(*counts)})

    (wrong,) = caught.value.wrong
    assert (wrong.outcome, wrong.echo) == (HELD_UP, echo)


def test_who_was_not_answered_did_not_open_in_time_either():
    """A connection that never opened is worse than a delayed one."""
    with pytest.raises(DelayedError, match="1 not answered"):
        assert_none_delayed({"one": [QUICK, Reply(SILENT, 3.5)]})


def test_what_opened_in_time_is_recorded():
    """The times are kept where nothing is wrong, too."""
    book = journal.Journal()
    token = journal.current.set(book)

    assert_none_delayed({"one": [QUICK] * 1000})

    journal.current.reset(token)
    assert book.measured == [
        "one: 1000 connections, open after 1.0 ms, 99.9 % 1.0 ms, slowest 1.0 ms"
    ]


@pytest.mark.parametrize("nothing", [{}, {"one": []}])
def test_nothing_drawn_proves_nothing(nothing):
    """No connection is no proof that none was delayed."""
    with pytest.raises(ValueError, match="nothing was drawn"):
        assert_none_delayed(nothing)


@pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="only Linux tells")
def test_the_system_tells_what_it_sent_again():
    """A SYN without an answer is sent again after a second, and one that is answered is not."""
    with serving(says("")) as server, socket.create_connection((server.address, server.port)) as it:
        assert waited_for(it, 1.2) == 0.0
    with full_backlog() as server, socket.socket() as it:
        it.settimeout(1.5)
        with pytest.raises(TimeoutError):
            it.connect((server.address, server.port))
        assert waited_for(it, 1.2) == 1.2


@pytest.mark.parametrize(
    ("pattern", "ends"),
    [
        ([QUICK] * 1000, False),
        ([QUICK, LOST] * 50, False),
        ([QUICK, LOST, LOST] * 34, True),
        ([QUICK, LOST, SILENCE] * 34, True),
        ([QUICK] * 50 + [LOST] * 50, False),
        ([QUICK] * 1000 + [LOST] * 51, True),
        ([LOST] * 50, False),
        ([QUICK, SILENCE, SILENCE, SILENCE], True),
        ([], False),
    ],
)
def test_a_draw_does_not_wait_for_ever(pattern, ends):
    """It ends where most of a hundred waited: thousands of them would take a quarter of an hour."""
    assert is_enough(pattern) is ends
