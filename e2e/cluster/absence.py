"""Nodes that went away while something was asked of a cluster: no clause is about that."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from e2e import timing
from e2e.cluster.api import Api, ApiRefusedError, Object
from e2e.cluster.node import OF_NODES, is_ready
from e2e.errors import NodeAwayError, StopError
from e2e.wait import WaitedInVainError, settle, wait_until

# What the kubelet and the controller for nodes say of a node that went, or came again.
GONE_OR_BACK = ("NodeNotReady", "Rebooted", "Starting")
# Kubelets renew a Lease each as long as they live.
LEASES = "kube-node-lease"
SYSTEM = "kube-system"


def went_away(api: Api, nodes: Iterable[str], since: float) -> list[str]:
    """The nodes that were away after a time, each in words.

    A node is away if it is not there, or is not Ready, or its kubelet does not renew its Lease,
    which takes up to `timing.HEARD_WITHIN` to find out. Who may not read Leases, or to whom the
    API server does not answer, learns less.

    Args:
        api: of the cluster.
        nodes: the names of those that were there.
        since: seconds, as time.time() has them.
    """
    try:
        stored = {item["metadata"]["name"]: item for item in api.find_all("Node")}
        found = {name: f"{name} is gone" for name in nodes if name not in stored}
        found |= dict(_unready(stored, since))
        found |= dict(_said(api.find_all("Event", "default", where=OF_NODES), since))
        return [*found.values()] or list(_unheard(api, stored))
    except (ApiRefusedError, StopError):
        return []


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
        stored = {item["metadata"]["name"]: item for item in api.find_all("Node")}
        away = [name for name in names if name not in stored or not is_ready(stored[name])]
        if away:
            return [f"{name} is not Ready" for name in sorted(away)]
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


def _unready(nodes: Mapping[str, Object], since: float) -> Iterator[tuple[str, str]]:
    for name, node in nodes.items():
        for each in node["status"].get("conditions", []):
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


def _unheard(api: Api, nodes: Mapping[str, Object]) -> Iterator[str]:
    """Each node whose kubelet renews nothing from now on."""
    before = _renewed(api)
    began = time.monotonic()
    try:
        wait_until(
            lambda: all(_renewed(api).get(name) != was for name, was in before.items()),
            what="a sign of life of every kubelet",
            within=timing.HEARD_WITHIN,
            every=timing.HEARD_EVERY,
        )
    except WaitedInVainError:
        now, took = _renewed(api), time.monotonic() - began
        for name, was in before.items():
            if name in nodes and now.get(name) == was:
                yield f"{name} is away: its kubelet has been silent for {took:.0f} s"


def _renewed(api: Api) -> dict[str, Any]:
    leases = api.find_all("Lease", LEASES)
    return {each["metadata"]["name"]: each["spec"].get("renewTime") for each in leases}


def _moment(said: str | None) -> float:
    return datetime.fromisoformat(said).timestamp() if said else 0.0
