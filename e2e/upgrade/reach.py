"""Which IP families of a cluster this machine can call at all."""

from collections.abc import Collection, Iterable, Mapping

from e2e.cluster.node import Node
from e2e.errors import CannotRunError
from e2e.probe import Outside
from e2e.upgrade.plan import WatchedFlow

Unreached = Mapping[str, str]
"""IP families to none of whose addresses this machine has a way, each with the reason."""


def unreached(places: Collection[Node | WatchedFlow], otherwise: str = "") -> Unreached:
    """The families to whose addresses, of nodes or in flows, this machine has no way.

    Args:
        places: nodes, or flows through them.
        otherwise: what else can be done where it has a way to none.

    Raises:
        CannotRunError: it has a way to none.
    """
    whys: dict[str, list[str]] = {}
    for family, address in dict.fromkeys(_addresses(places)):
        whys.setdefault(family, []).append(Outside.why_no_way(address))
    found = {family: each[0] for family, each in whys.items() if all(each)}
    if found and len(found) == len(whys):
        raise CannotRunError(
            f"this machine has no way to the nodes: {in_words(found)}",
            "run this where the nodes' network is" + (f", or {otherwise}" if otherwise else ""),
        )
    return found


def _addresses(places: Iterable[Node | WatchedFlow]) -> Iterable[tuple[str, str]]:
    for each in places:
        if isinstance(each, Node):
            yield from each.addresses.items()
        else:
            yield each.family, each.address


def in_words(families: Unreached) -> str:
    """Which families, and why."""
    return ", ".join(f"{family} ({why})" for family, why in families.items())
