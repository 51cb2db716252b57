"""Waiting: several looks in a row settle a thing, and nothing else does."""

import itertools
import time
from collections.abc import Callable, Iterable

import pytest

from e2e.errors import ProbeBrokenError
from e2e.wait import WaitedInVainError, settle, wait_until

YES, NO = "answered", "silent"


def replay(replies: Iterable[str]) -> Callable[[], str]:
    """Give a look that brings these replies, one after the other."""
    return iter(replies).__next__


def is_yes(reply: str) -> bool:
    return reply == YES


def test_it_settles_with_the_last_of_n_agreeing_looks_in_a_row():
    """Three agreeing looks in a row settle, and no look is made after the third."""
    ended = settle(replay([NO, YES, NO, YES, YES, YES]), is_yes, times=3, every=0.001)

    assert ended.settled
    assert (ended.looks, ended.agreed) == (6, 4)
    assert ended.seen == [NO, YES, NO, YES, YES, YES]
    assert ended.last == YES


def test_one_look_settles_when_one_is_enough():
    """With `times=1` the first agreeing look ends the wait at once."""
    ended = settle(replay([YES]), is_yes, times=1, every=30)

    assert ended.settled
    assert ended.looks == ended.agreed == 1
    assert ended.took < 20


@pytest.mark.parametrize("times", [0, -1])
def test_no_look_in_a_row_is_a_mistake(times):
    """Asked for less than one look in a row, anything would be settled; nobody looks."""
    with pytest.raises(ValueError, match="settle nothing"):
        settle(replay([]), is_yes, times=times)


@pytest.mark.parametrize("pattern", [[YES, NO], [YES, YES, NO], [NO, YES, YES]])
def test_a_flicker_never_settles(pattern):
    """Rows that always break before the third look do not add up to one."""
    ended = settle(replay(itertools.cycle(pattern)), is_yes, within=2.0, times=3, every=0.05)

    assert not ended.settled
    assert ended.agreed > 3


def test_a_row_that_time_cuts_short_is_not_settled():
    """Looks that all agree do not settle as long as they are fewer than asked for."""
    ended = settle(lambda: YES, is_yes, within=0.1, times=1_000_000, every=0.01)

    assert not ended.settled
    assert ended.looks == ended.agreed > 0


@pytest.mark.parametrize(
    ("pattern", "is_settled", "looks"),
    [
        ((NO, NO, YES, YES, YES), True, 5),
        ((YES, NO, YES, YES, YES), True, 5),
        ((NO, YES, YES, NO, YES), False, 4),
        ((NO, NO, NO, YES, YES), False, 3),
        ((YES, YES, NO, YES, YES), False, 3),
    ],
)
def test_a_row_that_began_in_time_has_as_long_again(monkeypatch, pattern, is_settled, looks):
    """Looks of ten seconds each: who agrees after thirty goes on, until one does not."""
    now, seen = [0.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def look():
        now[0] += 10.0
        seen.append(pattern[len(seen)])
        return seen[-1]

    ended = settle(look, is_yes, within=30, times=3, every=0)

    assert (ended.settled, len(seen)) == (is_settled, looks)


def test_took_is_the_start_of_the_last_agreeing_row():
    """The time it took ends where the row that settled begins; an earlier, broken row is not it."""
    replies = replay([NO, YES, YES, NO, YES, YES, YES])
    looked_at = []

    def look() -> str:
        looked_at.append(time.monotonic())
        return replies()

    began = time.monotonic()
    ended = settle(look, is_yes, times=3, every=0.05)

    assert ended.settled
    assert looked_at[3] < began + ended.took <= looked_at[4]


def test_took_is_the_time_spent_if_it_never_settled():
    """Without a settled row, the time it took is all the time that was spent."""
    began = time.monotonic()
    ended = settle(lambda: NO, is_yes, within=0.2, every=0.01)
    spent = time.monotonic() - began

    assert not ended.settled
    assert 0.2 <= ended.took <= spent


def test_a_look_is_made_even_without_time():
    """A limit of 0 s still allows one look, so that there is something to report."""
    ended = settle(replay([NO]), is_yes, within=0)

    assert not ended.settled
    assert (ended.looks, ended.last) == (1, NO)


def test_an_error_in_a_look_passes_straight_through():
    """A broken probe is no answer: its own error comes out, and no second look is made."""
    broken = ProbeBrokenError("curl is missing")
    looks = []

    def look() -> str:
        looks.append(1)
        raise broken

    with pytest.raises(ProbeBrokenError) as caught:
        settle(look, is_yes, within=5)

    assert caught.value is broken
    assert len(looks) == 1


def test_an_error_in_judging_passes_straight_through():
    """An error of the judge is no disagreement."""

    def judge(reply: str) -> bool:
        raise KeyError(reply)

    with pytest.raises(KeyError, match=NO):
        settle(replay([NO]), judge, within=5)


def test_waiting_returns_what_was_waited_for():
    """The first true value ends the wait and is returned; values before it are not."""
    pods = replay(["", "", "echo-7c9f"])

    assert wait_until(pods, what="a pod", within=5, every=0.001) == "echo-7c9f"


def test_nothing_is_waited_for_when_it_is_there():
    """A fact that holds at once costs one call and no time."""
    began = time.monotonic()

    assert wait_until(replay(["there"]), what="it", within=60, every=30) == "there"
    assert time.monotonic() - began < 20


def test_waiting_in_vain_says_for_what_how_long_and_what_was_seen():
    """The message of a wait in vain has the fact, the limit and the last state."""
    ready = itertools.count(1)
    seen = []

    def check() -> bool:
        seen.append(next(ready))
        return False

    with pytest.raises(WaitedInVainError) as caught:
        wait_until(
            check,
            what="5 of 5 pods to be ready",
            within=0.1,
            every=0.02,
            seen=lambda: f"pod {seen[-1]} is Pending",
        )

    last = f"pod {len(seen)} is Pending"
    assert str(caught.value) == (
        f"waited 0.1 s in vain for 5 of 5 pods to be ready; last seen: {last}"
    )


def test_the_last_state_is_asked_for_only_in_vain():
    """A wait that succeeds never asks for the last state, and one without it names none."""
    asked = []

    wait_until(lambda: True, what="it", within=1, seen=lambda: asked.append(1) or "")
    with pytest.raises(WaitedInVainError, match=r"^waited 0\.05 s in vain for it$"):
        wait_until(lambda: False, what="it", within=0.05, every=0.01)

    assert asked == []


def test_an_error_while_waiting_passes_straight_through():
    """A check that breaks ends the wait with its own error, at once."""
    calls = []

    def check() -> bool:
        calls.append(1)
        raise ConnectionRefusedError("the API server")

    with pytest.raises(ConnectionRefusedError, match="the API server"):
        wait_until(check, what="it", within=5)

    assert len(calls) == 1
