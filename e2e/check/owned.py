"""Does every open port of a node belong to somebody?"""

from collections.abc import Callable, Collection, Set

from e2e import timing
from e2e.check import journal
from e2e.wait import settle

Place = tuple[str, int]
"""An address and a port."""


class UnownedError(AssertionError):
    """Ports stayed open that belong to nobody; the message has a line for each."""


def assert_all_owned(
    scan: Callable[[Collection[Place]], Set[Place]],
    places: Collection[Place],
    *,
    owned: Callable[[], Set[int]],
    within: float = timing.SETTLE_WITHIN,
) -> set[Place]:
    """Every one of the places that is open has a number that belongs to somebody; gives the open.

    Others come and go meanwhile. One may be open that nobody is known to own, as its owner came
    and went between two questions, or a node has not heard that it went. So these are asked
    again, and one that is open in vain for as long as nodes take to hear of anything is a leak.

    Args:
        scan: tells which of some places are open.
        places: which are to be looked at.
        owned: tells which numbers belong to somebody.
        within: seconds.

    Raises:
        UnownedError: some are; names them.
        ValueError: there is nothing to look at.
    """
    if not places:
        raise ValueError("no place was named, so there is nothing to judge")
    opened: set[Place] = set()
    suspects = set(places)

    def look() -> set[Place]:
        before = owned()
        seen = scan(suspects)
        opened.update(seen)
        allowed = before | owned()
        suspects.intersection_update(place for place in seen if place[1] not in allowed)
        return set(suspects)

    looked = settle(look, lambda strays: not strays, within=within, times=1)
    if not looked.settled:
        lines = [f"x {address}:{port} takes connections" for address, port in sorted(looked.last)]
        head = f"open for {within:g} s and of no Service, in {looked.looks} looks"
        raise UnownedError("\n".join([head, *lines]))
    journal.measured(f"{len(places)} places, {len(opened)} open, {looked.looks} looks")
    return opened
