"""Whether a kind cluster is well, as its own control plane sees it: no key and no port leave it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from e2e import timing
from e2e.provider.command import CommandFailedError
from e2e.provider.engine import Engine

CLUSTER_LABEL = "io.x-k8s.kind.cluster"
ROLE_LABEL = "io.x-k8s.kind.role"
CONTROL_PLANE = "control-plane"
# By which a cluster says that nobody may write to it: a label or an annotation of its namespace
# kube-system, with any value.
FORBIDDEN = "e2e.nodeport/forbidden"
BALANCER = "external-load-balancer"
# What the controllers put on a node that they hold for lost; pods do not go there.
LOST = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
# The admin is allowed by RBAC rules, so an answer proves that these are loaded. The clock is
# asked where the containers run, whose clock may be another than ours.
QUESTION = """
set -e
kubectl="kubectl --kubeconfig=/etc/kubernetes/admin.conf --request-timeout=5s"
date -u +%Y-%m-%dT%H:%M:%SZ
$kubectl get --raw /readyz >/dev/null
$kubectl get nodes,leases,pods --all-namespaces --output=json
"""


@dataclass(frozen=True)
class Container:
    """A container of a cluster.

    Attributes:
        name: the node's name too.
        role: control-plane, worker or external-load-balancer.
        state: as the engine says, such as running, exited or paused.
        started: when it was started last.
    """

    name: str
    role: str
    state: str
    started: datetime

    @property
    def is_node(self) -> bool:
        """Whether it is a node; a balancer before several control planes is none."""
        return self.role != BALANCER


def containers_of(cluster: str, engine: Engine) -> list[Container]:
    """The containers of a kind cluster, stopped ones too; none if there is no such cluster."""
    named = f"label={CLUSTER_LABEL}={cluster}"
    ids = engine.run("ps", "--all", "--quiet", "--filter", named).split()
    found = json.loads(engine.run("inspect", *ids)) if ids else []
    containers = [
        Container(
            name=each["Name"].removeprefix("/"),
            role=each["Config"]["Labels"].get(ROLE_LABEL, ""),
            state=each["State"]["Status"],
            started=datetime.fromisoformat(each["State"]["StartedAt"]),
        )
        for each in found
    ]
    return sorted(containers, key=lambda container: container.name)


def ailments_of(cluster: str, engine: Engine) -> list[str]:
    """What is not well, as words; nothing if the cluster may be used."""
    containers = containers_of(cluster, engine)
    stopped = [f"{each.name} is {each.state}" for each in containers if each.state != "running"]
    control_planes = [each for each in containers if each.role == CONTROL_PLANE]
    if stopped or not control_planes:
        return stopped or [f"{cluster} has no control plane"]
    ask = ("exec", control_planes[0].name, "sh", "-c", QUESTION)
    try:
        now, _, listed = engine.run(*ask, timeout=timing.WELLNESS_ANSWER).partition("\n")
        items = json.loads(listed)["items"]
    except (CommandFailedError, ValueError) as error:
        said = getattr(error, "said", "").strip().splitlines() or [str(error)]
        return [f"the API server does not answer: {said[-1]}"]
    return list(ailments(containers, items, datetime.fromisoformat(now)))


def is_forbidden(cluster: str, engine: Engine) -> bool:
    """Whether a kind cluster says that nobody may write to it; one that is dead says nothing."""
    show = "kubectl --kubeconfig=/etc/kubernetes/admin.conf --request-timeout=5s get namespace"
    try:
        running = [each for each in containers_of(cluster, engine) if each.state == "running"]
        control = next((each.name for each in running if each.role == CONTROL_PLANE), "")
        said = engine.run("exec", control, *show.split(), "kube-system", "--output=json",
                          timeout=timing.WELLNESS_ANSWER)  # fmt: skip
        metadata = json.loads(said)["metadata"]
    except (CommandFailedError, ValueError, LookupError):
        return False
    return any(FORBIDDEN in (metadata.get(of) or {}) for of in ("labels", "annotations"))


def ailments(
    containers: list[Container], items: list[dict[str, Any]], now: datetime
) -> Iterator[str]:
    """What is not well, judged by a list of nodes, leases and pods.

    What the API server says of a time before a container was started last is worth nothing.
    """
    nodes = {each["metadata"]["name"]: each for each in items if each["kind"] == "Node"}
    leases = {
        each["metadata"]["name"]: each
        for each in items
        if each["kind"] == "Lease" and each["metadata"]["namespace"] == "kube-node-lease"
    }
    system = [
        each
        for each in items
        if each["kind"] == "Pod"
        and each["metadata"]["namespace"] == "kube-system"
        and "deletionTimestamp" not in each["metadata"]
    ]
    proxied = {pod["spec"].get("nodeName") for pod in system if _app(pod) == "kube-proxy"}
    started = {each.name: each.started for each in containers if each.is_node}
    for name, since in started.items():
        if name not in nodes:
            yield f"{name} has not joined"
        elif ailment := _node_ailment(nodes[name], leases.get(name), since, now):
            yield f"{name}: {ailment}"
        elif proxied and name not in proxied:
            yield f"{name} has no kube-proxy"
    for name in nodes.keys() - started.keys():
        yield f"{name} has no container"
    for pod in system:
        if ailment := _pod_ailment(pod, started):
            yield f"the pod {pod['metadata']['name']} {ailment}"


def _node_ailment(
    node: dict[str, Any], lease: dict[str, Any] | None, since: datetime, now: datetime
) -> str | None:
    ready = _condition(node, "Ready")
    if ready.get("status") != "True":
        return str(ready.get("message", "says nothing of itself"))
    if datetime.fromisoformat(ready["lastHeartbeatTime"]) < since:
        return "has said nothing of itself since it was started"
    if lease is None:
        return "its kubelet has no lease"
    renewed = datetime.fromisoformat(lease["spec"]["renewTime"])
    if now - renewed > timedelta(seconds=lease["spec"]["leaseDurationSeconds"]):
        return f"its kubelet is silent since {renewed:%H:%M:%S}"
    taints = [taint["key"] for taint in node["spec"].get("taints", [])]
    lost = [key for key in taints if key in LOST]
    return f"is tainted {lost[0]}" if lost else None


def _pod_ailment(pod: dict[str, Any], started: dict[str, datetime]) -> str | None:
    if pod["status"].get("phase") == "Succeeded":
        return None
    node = pod["spec"].get("nodeName")
    if node not in started:
        return "is on no node"
    if _condition(pod, "Ready").get("status") != "True":
        return f"on {node} is not Ready"
    for container in pod["status"].get("containerStatuses", []):
        running = container["state"].get("running")
        if not running or datetime.fromisoformat(running["startedAt"]) < started[node]:
            return f"on {node} was not started since its node was"
    return None


def _condition(item: dict[str, Any], kind: str) -> dict[str, Any]:
    conditions = item.get("status", {}).get("conditions", [])
    return next((each for each in conditions if each["type"] == kind), {})


def _app(pod: dict[str, Any]) -> str:
    return str(pod["metadata"].get("labels", {}).get("k8s-app", ""))
