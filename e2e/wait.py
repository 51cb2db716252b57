"""The one place that waits."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import tenacity  # noqa: TID251  # this module is the one that may

from e2e import timing

T = TypeVar("T")


class WaitedInVainError(AssertionError):
    """Something did not come true within its limit; says what was seen last."""


@dataclass(frozen=True)
class Settled(Generic[T]):
    """How looking ended.

    Attributes:
        settled: whether `times` looks in a row agreed before time ran out.
        took: seconds from the start to the first look of the last agreeing row; if it never
            settled, the seconds spent.
        looks: how many looks were made.
        agreed: how many of them agreed.
        longest_row: the longest row of agreeing looks.
        last: what the last look saw.
    """

    settled: bool
    took: float
    looks: int
    agreed: int
    longest_row: int
    last: T


def settle(
    look: Callable[[], T],
    agrees: Callable[[T], bool],
    *,
    within: float = timing.SETTLE_WITHIN,
    times: int = timing.LOOKS_IN_A_ROW,
    every: float = timing.LOOK_EVERY,
    again: float | None = None,
) -> Settled[T]:
    """Look until `times` looks in a row agree, or `within` seconds have passed.

    The next look comes `again` seconds after one that agrees, `every` seconds by default, and
    `every` seconds after one that does not.
    An error raised by `look` is no answer: it passes straight through.
    """
    began = time.monotonic()
    looks = agreed = row = longest = 0
    row_began = 0.0

    def look_once() -> T:
        nonlocal looks, agreed, row, longest, row_began
        at = time.monotonic() - began
        seen = look()
        looks += 1
        if agrees(seen):
            agreed += 1
            row_began = at if row == 0 else row_began
            row += 1
            longest = max(longest, row)
        else:
            row = 0
        return seen

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_result(lambda _: row < times),
        stop=tenacity.stop_after_delay(within),
        wait=lambda _: every if row == 0 or again is None else again,
        retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
    )
    last = retrying(look_once)
    settled = row >= times
    took = row_began if settled else time.monotonic() - began
    return Settled(settled, took, looks, agreed, longest, last)


def wait_until(
    check: Callable[[], T],
    *,
    what: str,
    within: float,
    every: float = timing.POLL_EVERY,
    seen: Callable[[], str] | None = None,
) -> T:
    """Call `check` until it gives something true, and return that.

    Args:
        check: gives a true value when the fact is there; an error passes straight through.
        what: the fact, as words that end "waited in vain for ...".
        within: seconds.
        every: seconds between two calls.
        seen: describes the last state; asked only when time ran out.

    Raises:
        WaitedInVainError: with `what`, the limit and the last state.
    """
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_result(lambda value: not value),
        stop=tenacity.stop_after_delay(within),
        wait=tenacity.wait_fixed(every),
        retry_error_callback=lambda _: None,
    )
    value = retrying(check)
    if not value:
        state = f"; last seen: {seen()}" if seen else ""
        raise WaitedInVainError(f"waited {within:g} s in vain for {what}{state}")
    return value
