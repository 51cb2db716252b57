"""Nodes that went away while something was asked of a cluster: no clause is about that."""

import time
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import suppress
from datetime import datetime

from e2e import timing
from e2e.cluster.api import Api, ApiRefusedError, Object
from e2e.cluster.node import OF_NODES, Node, conditions, is_ready, node_of_object
from e2e.errors import NodeAwayError, StopError
from e2e.wait import WaitedInVainError, settle, wait_until

# What the kubelet and the controller for nodes say of a node that went, or came again.
GONE_OR_BACK = ("NodeNotReady", "Rebooted", "Starting")
# Kubelets renew a Lease each as long as they live.
LEASES = "kube-node-lease"
SYSTEM = "kube-system"
UNKNOWN = (ApiRefusedError, StopError)


def went_away(api: Api, nodes: Iterable[str], since: float) -> list[str]:
    """The nodes that were away after a time, each in words.

    A node is away if it is not there, or is not Ready, or its kubelet does not renew its Lease,
    which takes up to `timing.HEARD_WITHIN` to find out. Who may not read Leases, or to whom the
    API server does not answer, learns less.

    Args:
        api: of the cluster.
        nodes: the names of those that were there.
        since: seconds, as time.time() has them on this machine.
    """
    names = set(nodes)
    with suppress(*UNKNOWN):
        since += api.clock_ahead()
    if found := _told(api, names, since):
        return found
    with suppress(*UNKNOWN):
        if unheard := list(_unheard(api, names)):
            return unheard
    # One that came back meanwhile has said so since.
    return _told(api, names, since)


def moved(api: Api, nodes: Iterable[Node]) -> list[str]:
    """The nodes that have other addresses now than when they were looked at, each in words."""
    stored: dict[str, Node] = {}
    with suppress(*UNKNOWN):
        stored = {node.name: node for node in map(node_of_object, api.find_all("Node"))}
    return [
        f"{node} is at {_at(stored[node.name])} now, and was at {_at(node)} when the run began"
        for node in nodes
        if node.name in stored and stored[node.name].addresses != node.addresses
    ]


def _at(node: Node) -> str:
    return " and ".join(node.addresses.values())


def await_back(api: Api, nodes: Iterable[str], within: float) -> None:
    """Wait until all of these nodes are Ready, and what kube-system has on them.

    Args:
        api: of the cluster.
        nodes: their names.
        within: seconds; without any it is looked at once.

    Raises:
        NodeAwayError: they are not within so many seconds.
    """
    names = set(nodes)

    def missing() -> list[str]:
        stored = {each["metadata"]["name"]: each for each in api.find_all("Node")}
        gone = [f"{name} is gone" for name in names if name not in stored]
        unready = [name for name in names & stored.keys() if not is_ready(stored[name])]
        if gone or unready:
            return sorted([*gone, *(f"{name} is not Ready" for name in unready)])
        return sorted(
            f"{pod['metadata']['name']} on {pod['spec']['nodeName']} is not Ready"
            for pod in api.find_all("Pod", SYSTEM)
            if pod["spec"].get("nodeName") in names
            and "deletionTimestamp" not in pod["metadata"]
            and pod["status"].get("phase") != "Succeeded"
            and not is_ready(pod)
        )

    # What a kubelet says of its pods when it has just come back is what it knew before.
    looked = settle(
        missing,
        lambda seen: not seen,
        within=within,
        times=timing.LOOKS_IN_A_ROW if within else 1,
        every=timing.NODES_BACK_EVERY,
        what=lambda seen: f"nodes that were away: {', '.join(seen)}",
    )
    if not looked.settled:
        raise NodeAwayError(f"{', '.join(looked.last)}: waited {looked.took:.0f} s for it")


def _told(api: Api, names: Set[str], since: float) -> list[str]:
    """What the API server knows; each is asked though another may not be."""
    found: dict[str, str] = {}
    with suppress(*UNKNOWN):
        stored = {each["metadata"]["name"]: each for each in api.find_all("Node")}
        found |= {name: f"{name} is gone" for name in sorted(names - stored.keys())}
        found |= dict(_unready([stored[name] for name in stored if name in names], since))
    with suppress(*UNKNOWN):
        said = dict(_said(api.find_all("Event", "default", where=OF_NODES), since))
        found |= {name: said[name] for name in said if name in names - found.keys()}
    return [*found.values()]


def _unready(nodes: Iterable[Object], since: float) -> Iterator[tuple[str, str]]:
    for node in nodes:
        name = str(node["metadata"]["name"])
        for each in conditions(node):
            if each["type"] != "Ready":
                continue
            if each["status"] != "True":
                yield name, f"{name} is not Ready: {each.get('message', '')}".rstrip(": ")
            elif _moment(each.get("lastTransitionTime")) >= since:
                yield name, f"{name} was not Ready until {each['lastTransitionTime']}"


def _said(events: Sequence[Object], since: float) -> Iterator[tuple[str, str]]:
    for event in events:
        at = event.get("lastTimestamp") or event.get("eventTime")
        by = event.get("reportingComponent") or event.get("source", {}).get("component")
        of_node = by in ("kubelet", "node-controller")
        if of_node and event.get("reason") in GONE_OR_BACK and _moment(at) >= since:
            name = str(event["involvedObject"]["name"])
            yield name, f"{name} was away: {event['reason']} at {at}"


def _unheard(api: Api, nodes: Set[str]) -> Iterator[str]:
    """Each node whose kubelet renews nothing from now on, or had not for long when it did."""

    def renewed() -> dict[str, float]:
        leases = {each["metadata"]["name"]: each["spec"] for each in api.find_all("Lease", LEASES)}
        return {name: _moment(leases[name].get("renewTime")) for name in nodes & leases.keys()}

    before, began = renewed(), time.monotonic()
    with suppress(WaitedInVainError):
        wait_until(
            lambda: not before.items() & renewed().items(),
            what="a sign of life of every kubelet",
            within=timing.HEARD_WITHIN,
            every=timing.HEARD_EVERY,
        )
    took, now = time.monotonic() - began, renewed()
    for name in sorted(before.keys() & now.keys()):
        gap = now[name] - before[name]
        if not gap:
            yield f"{name} is away: its kubelet has been silent for {took:.0f} s"
        elif gap > timing.NODE_MISSED_AFTER:
            yield f"{name} was away: its kubelet was silent for {gap:.0f} s"


def _moment(said: str | None) -> float:
    return datetime.fromisoformat(said).timestamp() if said else 0.0
