"""What has to be served of a workload, on every node, as it is now; and which of it is watched."""

from collections.abc import Collection, Mapping, Sequence

from e2e.check import Want, answered_by
from e2e.check.table import as_want
from e2e.cluster.node import Node
from e2e.cluster.service import Service
from e2e.cluster.workload import (
    AFFINITY,
    CLUSTER,
    DATAGRAMS,
    FIXED,
    LOCAL,
    MULTI_PORT,
    Workload,
)
from e2e.probe import BLOCKED, Flow, Outside
from e2e.upgrade.plan import WatchedFlow, Way

WAYS: Mapping[str, Sequence[Way]] = {
    CLUSTER: ("new connections", "one connection"),
    LOCAL: ("new connections",),
    AFFINITY: ("new connections",),
    DATAGRAMS: ("UDP", "UDP from new ports"),
    MULTI_PORT: ("new connections",),
    FIXED: ("new connections",),
}
# Of the one with several, the port that is not the first.
WATCHED_PORT = {MULTI_PORT: "admin"}


def of_service(
    service: Service, nodes: Sequence[Node], outside: Outside, *, leave_out: Collection[str] = ()
) -> dict[Flow, Want]:
    """Every port of a Service through every node, over every family that it has and is asked."""
    is_local = service.stored["spec"].get("externalTrafficPolicy") == "Local"
    table = {}
    for node in nodes:
        pods = _pods(service, node if is_local else None)
        for port in service.stored["spec"]["ports"]:
            for family in service.families:
                if family in leave_out or family not in node.addresses:
                    continue
                flow = service.seen_from(
                    outside,
                    via=node,
                    port=port["nodePort"],
                    family=family,
                    protocol=port["protocol"],
                )
                table[flow] = answered_by(*pods) if pods else as_want(BLOCKED)
    return table


def lacking(workload: Workload, nodes: Sequence[Node]) -> list[str]:
    """The nodes that have no address of an IP family that Services of a workload have, in words."""
    families = dict.fromkeys(f for each in workload.services.values() for f in each.families)
    return [
        f"{node} has no {family} address, and there are Services of that family"
        for node in nodes
        for family in families
        if family not in node.addresses
    ]


def of_all(
    workload: Workload, nodes: Sequence[Node], outside: Outside, *, leave_out: Collection[str] = ()
) -> dict[Flow, Want]:
    """The same of every Service of a workload."""
    table: dict[Flow, Want] = {}
    for service in workload.services.values():
        table |= of_service(service, nodes, outside, leave_out=leave_out)
    return table


def watched(workload: Workload, nodes: Sequence[Node]) -> tuple[WatchedFlow, ...]:
    """The flows that are worth watching: every kind of Service through every node and family."""
    found = []
    for name, ways in WAYS.items():
        service = workload.services[name]
        spec = service.stored["spec"]
        group = workload.one_a_node if name == LOCAL else workload.evenly
        port = next(
            (p for p in spec["ports"] if p.get("name") == WATCHED_PORT.get(name)), spec["ports"][0]
        )
        for node in nodes:
            blocked = name == LOCAL and node.name not in group.pods.values()
            found += [
                WatchedFlow(
                    service=name,
                    node=node.name,
                    family="IPv6" if family == "IPv6" else "IPv4",
                    address=node.addresses[family],
                    port=port["nodePort"],
                    way=way,
                    pods=f"{group.name}-",
                    expects="blocked" if blocked else "answered",
                )
                for family in service.families
                for way in ways
            ]
    return tuple(found)


def _pods(service: Service, node: Node | None) -> list[str]:
    """The pods of a Service, all of them or those on one node."""
    pods: Mapping[str, str] = getattr(service.owner, "pods", {})
    return [pod for pod, at in pods.items() if node is None or at == node.name]
