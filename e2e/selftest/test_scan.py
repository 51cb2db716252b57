"""The port scan, and what is made of it."""

import socket

import pytest

from e2e.check.owned import UnownedError, assert_all_owned
from e2e.probe import open_among

HERE, THERE = ("node-1", 30001), ("node-2", 30002)


def test_only_listening_ports_are_open():
    """Of many ports those are found on which somebody listens, over both IP families."""
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("::1", 0), family=socket.AF_INET6) as other,
        socket.socket() as closed,
    ):
        closed.bind(("127.0.0.1", 0))
        places = [("127.0.0.1", one.getsockname()[1]), ("::1", other.getsockname()[1])]
        many = [("127.0.0.1", closed.getsockname()[1])] * 1000

        assert open_among([*many, *places, *many]) == set(places)


def test_silence_is_not_open():
    """A place that says nothing is given up after the time that was allowed."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        place = full.getsockname()
        with socket.create_connection(place), socket.create_server(("127.0.0.1", 0)) as other:
            assert open_among([place] * 3 + [other.getsockname()], patience=0.2) == {
                other.getsockname()
            }


def test_what_belongs_to_somebody_may_be_open():
    """Open places whose numbers are owned pass, and are given back."""
    assert assert_all_owned(set, [HERE, THERE], owned=lambda: {30001, 30002}) == {HERE, THERE}


@pytest.mark.parametrize("ages", [[{30001}, set()], [set(), {30001}]])
def test_who_came_or_went_during_the_scan_owned_it(ages):
    """A number that was owned either before or after the scan is no leak."""
    told = iter(ages)

    assert assert_all_owned(set, [HERE], owned=lambda: next(told)) == {HERE}


def test_what_closes_soon_is_no_leak():
    """A place whose owner is gone may be open a moment longer; only that one is asked again."""
    asked = []

    def scan(places):
        asked.append(set(places))
        return {HERE, THERE} if len(asked) == 1 else set()

    assert_all_owned(scan, [HERE, THERE], owned=lambda: {30002})

    assert asked == [{HERE, THERE}, {HERE}]


def test_what_stays_open_is_a_leak():
    """A place that stays open and belongs to nobody is named."""
    with pytest.raises(UnownedError, match="x node-1:30001 takes connections"):
        assert_all_owned(set, [HERE, THERE], owned=lambda: {30002}, within=0.5)


def test_nothing_to_look_at_is_no_proof():
    """A scan of nothing does not pass."""
    with pytest.raises(ValueError, match="nothing to judge"):
        assert_all_owned(set, [], owned=set)
