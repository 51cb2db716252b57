"""Nodes that join, leave or move while they are watched: which flows they get, and until when."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from e2e.cluster.happenings import Roll
from e2e.upgrade.lines import EventLine, Placed
from e2e.upgrade.plan import WatchedFlow

Addresses = Mapping[str, str]
"""By IP family."""


def placed_anew(
    roll: Roll, placed: Mapping[str, Addresses], families: Collection[str]
) -> dict[str, dict[str, str]]:
    """The nodes that are Ready at addresses which are not known of them, each with these.

    Args:
        roll: of all nodes, as they are now.
        placed: the addresses that are known.
        families: that matter.
    """
    now = {
        node: {family: at for family, at in addresses.items() if family in families}
        for node, addresses in sorted(roll.ready.items())
    }
    return {node: at for node, at in now.items() if at and at != placed.get(node)}


def flows_of(
    node: str, addresses: Addresses, watched: Sequence[WatchedFlow]
) -> tuple[WatchedFlow, ...]:
    """What is to be watched of a node as of all others, and is not yet.

    Whether it has a pod of the policy Local is not known: from its first answer on one is expected.
    """
    likes: dict[tuple[str, str, str], WatchedFlow] = {}
    for flow in watched:
        likes.setdefault((flow.service, flow.family, flow.way), flow)
    there = {flow.where for flow in watched}
    found = (
        like.model_copy(
            update={"node": node, "address": addresses[like.family], "expects": "answered"}
        )
        for like in likes.values()
        if like.family in addresses
    )
    return tuple(flow for flow in found if flow.where not in there)


def gone_since(
    flow: WatchedFlow, events: Iterable[EventLine], placed: Iterable[Placed]
) -> float | None:
    """Since when there is no such node at this address for good; None where there is one.

    Args:
        flow: of which node, at which address.
        events: of the cluster.
        placed: where nodes were found to be.
    """
    moments: list[tuple[float, EventLine | Placed]] = [
        (each.at, each) for each in placed if each.node == flow.node
    ]
    moments += [
        (each.at if each.since is None else each.since, each)
        for each in events
        if each.node == flow.node and each.kind in ("node-removed", "node-added")
    ]
    is_at, gone = True, None
    for moment, each in sorted(moments, key=lambda one: one[0]):
        if isinstance(each, Placed):
            is_there = is_at = each.addresses.get(flow.family) == flow.address
        else:
            is_there = is_at and each.kind == "node-added"
        if is_there:
            gone = None
        elif gone is None:
            gone = moment
    return gone
