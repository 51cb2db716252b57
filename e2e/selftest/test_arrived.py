"""Hundreds of flows that begin to be served."""

import time

import pytest

from e2e.check import journal
from e2e.check.arrived import MissingError, assert_all_arrive
from e2e.probe import Flow, Outside, Target

FIRST, SECOND = (Flow(Outside(), Target(f"node-{n}", f"192.0.2.{n}", 30001, None)) for n in (1, 2))


def test_all_arrive_and_their_times_are_kept():
    """Each flow's time counts from when it was expected, and the figures are noted."""
    token = journal.current.set(book := journal.Journal())
    expected = {FIRST: time.monotonic() - 5, SECOND: time.monotonic()}

    quick, slow = assert_all_arrive(lambda: expected, 2, scan=set)

    journal.current.reset(token)
    assert quick < 1
    assert 5 <= slow < 6
    assert "of 2" in book.measured[0]


def test_those_that_are_made_meanwhile_count():
    """Flows that are not there yet in the first look are looked at when they are."""
    since = dict.fromkeys([FIRST, SECOND], time.monotonic())
    told = iter([{}, {FIRST: since[FIRST]}])

    assert len(assert_all_arrive(lambda: next(told, since), 2, scan=set)) == 2


def test_who_never_arrives_is_named():
    """A flow that opens no connection is missing, and one that was never made too."""
    expected = dict.fromkeys([FIRST, SECOND], time.monotonic())

    with pytest.raises(MissingError, match=r"1 of 2 .*\nx outside -> node-2:30001"):
        assert_all_arrive(
            lambda: expected,
            2,
            scan=lambda places: {("192.0.2.1", 30001)} & set(places),
            within=0.2,
        )
    with pytest.raises(MissingError, match="1 of 3"):
        assert_all_arrive(lambda: expected, 3, scan=set, within=0.2)
