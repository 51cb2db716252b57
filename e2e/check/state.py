"""What something other than a flow has to become: a list of the API server, a name in DNS."""

from collections.abc import Callable
from typing import TypeVar

from e2e import timing
from e2e.wait import settle

T = TypeVar("T")


class NotBecomeError(AssertionError):
    """Something did not become what it has to be; says what it was last."""


def assert_becomes(look: Callable[[], T], want: T, *, within: float = timing.SETTLE_WITHIN) -> None:
    """Look until what is seen is what is wanted, several times in a row.

    Raises:
        NotBecomeError: time ran out; says what was seen last.
    """
    looked = settle(look, lambda seen: seen == want, within=within)
    if not looked.settled:
        raise NotBecomeError(f"not within {looked.within:g} s: want {want!r}, saw {looked.last!r}")
