"""The one place that waits."""

import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from threading import Event
from typing import Generic, TypeVar

import tenacity  # noqa: TID251  # this module is the one that may

from e2e import timing

T = TypeVar("T")

patience: ContextVar[float] = ContextVar("patience", default=float("inf"))
"""Seconds after which `settle` gives up, unless its own limit is longer than the usual one."""

watcher: ContextVar[Callable[[str, float], None] | None] = ContextVar("watcher", default=None)
"""Who shows what is waited for, and since when (as time.time() has it); called after each look in
vain, and with nothing when it is waited for no longer."""


class WaitedInVainError(AssertionError):
    """Something did not come true within its limit; says what was seen last."""


@dataclass(frozen=True)
class Settled(Generic[T]):
    """How looking ended.

    Attributes:
        settled: whether `times` looks in a row agreed before time ran out.
        took: seconds from the start to the first look of the last agreeing row; if it never
            settled, the seconds spent.
        agreed: how many looks agreed.
        seen: what each look saw, from the first to the last.
        at: seconds from the start to each of them.
        within: seconds that it had, which may be fewer than were asked for.
    """

    settled: bool
    took: float
    agreed: int
    seen: list[T]
    at: list[float] = field(default_factory=list)
    within: float = timing.SETTLE_WITHIN

    @property
    def looks(self) -> int:
        """How many looks were made."""
        return len(self.seen)

    @property
    def last(self) -> T:
        """What the last look saw."""
        return self.seen[-1]


def settle(
    look: Callable[[], T],
    agrees: Callable[[T], bool],
    *,
    within: float = timing.SETTLE_WITHIN,
    times: int = timing.LOOKS_IN_A_ROW,
    every: float = timing.LOOK_EVERY,
    again: float | None = None,
    what: Callable[[T], str] = lambda _: "looks that agree",
) -> Settled[T]:
    """Look until `times` looks in a row agree, or `within` seconds have passed.

    Where the last look agrees by then, those that are missing have as long again: on a busy
    machine three looks may take longer than what they look at.
    The next look comes `again` seconds after one that agrees, `every` seconds by default, and
    `every` seconds after one that does not.
    An error raised by `look` is no answer: it passes straight through.
    After a look that does not agree, `what` says what is waited for.

    Raises:
        ValueError: no look at all would be enough, so anything would be settled.
    """
    if times < 1:
        raise ValueError(f"{times} looks in a row settle nothing: ask for one at least")
    began = time.monotonic()
    agreed = row = 0
    row_began = 0.0
    seen: list[T] = []
    times_of: list[float] = []

    def look_once() -> None:
        nonlocal agreed, row, row_began
        at = time.monotonic() - began
        times_of.append(at)
        seen.append(look())
        if agrees(seen[-1]):
            agreed += 1
            row_began = at if row == 0 else row_began
            row += 1
        else:
            row = 0
            _show(lambda: what(seen[-1]), began)

    # What is known to take long takes as long for those who are in a hurry.
    limit = within if within > timing.SETTLE_WITHIN else min(within, patience.get())
    is_over, is_long_over = (tenacity.stop_after_delay(limit * n) for n in (1, 2))
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_result(lambda _: row < times),
        stop=lambda state: is_long_over(state) or (row == 0 and is_over(state)),
        wait=lambda _: every if row == 0 or again is None else again,
        retry_error_callback=lambda _: None,
    )
    retrying(look_once)
    _show(lambda: "", began)
    settled = row >= times
    took = row_began if settled else time.monotonic() - began
    return Settled(settled, took, agreed, seen, times_of, limit)


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
    began = time.monotonic()

    def check_once() -> T:
        value = check()
        if not value:
            _show(lambda: what, began)
        return value

    value = retrying(check_once)
    _show(lambda: "", began)
    if not value:
        state = f"; last seen: {seen()}" if seen else ""
        raise WaitedInVainError(f"waited {within:g} s in vain for {what}{state}")
    return value


def _show(what: Callable[[], str], began: float) -> None:
    if show := watcher.get():
        show(what(), time.time() - (time.monotonic() - began))


def pause(stop: Event, seconds: float) -> bool:
    """Let others go on for so many seconds, or until `stop` is set; whether it is."""
    return stop.wait(seconds)
