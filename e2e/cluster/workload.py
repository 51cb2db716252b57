"""What is watched during an upgrade: echoes that bear drains, and a Service of every kind."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from e2e import timing
from e2e.cluster import echo as echoes
from e2e.cluster import namespace as namespaces
from e2e.cluster.api import Api, Object
from e2e.cluster.echo import EVENLY, HTTP_PORT, ONE_A_NODE, UDP_PORT, ScaledEcho
from e2e.cluster.node import CONTROL_PLANE, Node
from e2e.cluster.ports import PortBroker
from e2e.cluster.service import Service, manifest
from e2e.errors import CannotRunError, UsageError
from e2e.probe import UDP

# Over which of the two groups a Service is, and what it says beside that.
CLUSTER, LOCAL, AFFINITY, DATAGRAMS, MULTI_PORT, FIXED = (
    *("cluster", "local", "affinity", "udp"),
    *("multi-port", "fixed"),
)
SPECS: Mapping[str, Mapping[str, Any]] = {
    CLUSTER: {},
    LOCAL: {"externalTrafficPolicy": "Local"},
    AFFINITY: {"sessionAffinity": "ClientIP"},
    DATAGRAMS: {"ports": [{"port": 80, "targetPort": UDP_PORT, "protocol": UDP}]},
    MULTI_PORT: {
        "ports": [
            {"name": "http", "port": 80, "targetPort": HTTP_PORT},
            {"name": "admin", "port": 8080, "targetPort": "http"},
            {"name": "udp", "port": 80, "targetPort": UDP_PORT, "protocol": UDP},
        ]
    },
    FIXED: {},
}
# Enough that a drain leaves some, and that every Service has a choice.
PODS_A_NODE, FEWEST_PODS = 2, 3
ECHO_LABEL, GROUP_LABEL = "echo", "nodeport-e2e/group"
# On a Service that was deleted and made again by us.
MADE_AGAIN = "nodeport-e2e/made-again"
# How many pods a group was placed with, whatever was done to it since.
COUNT = "nodeport-e2e/count"
# On a group while what was prepared is churned; who finds it later finds what a killed one left.
CHURNED = "nodeport-e2e/churned"
AGAIN = "nodeport-e2e prepare --remove, and then prepare again"
UNSCHEDULED = ("NoSchedule", "NoExecute")
CONTROL_PLANE_TOO = ({"key": CONTROL_PLANE, "operator": "Exists", "effect": "NoSchedule"},)


@dataclass
class Workload:
    """What was placed, as it is now.

    Attributes:
        evenly: echoes that go where there is room.
        one_a_node: echoes of which each node has one, which a drain cannot move elsewhere.
        services: by name.
    """

    api: Api
    namespace: str
    evenly: ScaledEcho
    one_a_node: ScaledEcho
    services: dict[str, Service]

    @property
    def groups(self) -> dict[str, ScaledEcho]:
        """Both groups, by how they are spread."""
        return {EVENLY: self.evenly, ONE_A_NODE: self.one_a_node}

    def read_again(self) -> None:
        """Take each Service as it is stored now."""
        for name, service in self.services.items():
            service.stored = self.api.get("Service", name, self.namespace)


def place(api: Api, namespace: str, run: str, nodes: Sequence[Node], ports: PortBroker) -> Workload:
    """Place everything into a namespace of its own, which stays, and wait until it is Ready.

    Args:
        api: the cluster.
        namespace: its name; it must not be there.
        run: whose it is.
        nodes: of the cluster.
        ports: from which the number is that a Service asks for.
    """
    namespaces.make(api, namespace, run, kept=True)
    takes, tolerations = places(api)
    many = max(PODS_A_NODE * len(takes), FEWEST_PODS)
    groups = {}
    for spread, count in ((EVENLY, many), (ONE_A_NODE, len(takes))):
        group = echoes.place_scaled(
            *(api, namespace, count),
            linger=timing.WATCHED_LINGER,
            spread=spread,
            tolerations=tolerations,
        )
        group.limit_disruptions()
        notes = {
            "labels": {GROUP_LABEL: spread.replace(" ", "-")},
            "annotations": {COUNT: str(count)},
        }
        api.change("Deployment", group.name, {"metadata": notes}, namespace)
        groups[spread] = group
    workload = Workload(api, namespace, groups[EVENLY], groups[ONE_A_NODE], {})
    dual = all(len(node.addresses) > 1 for node in nodes)
    for name in SPECS:
        number = ports.free() if name == FIXED else None
        workload.services[name] = make_service(workload, name, dual=dual, number=number)
    return workload


def make_service(
    workload: Workload,
    name: str,
    *,
    dual: bool,
    number: int | None = None,
    like: str = "",
    again: bool = False,
) -> Service:
    """Create one of the Services.

    Args:
        workload: what it is over.
        name: of the Service.
        dual: whether the cluster has two IP families.
        number: the node port to ask for.
        like: of whose kind it is; of its own by default.
        again: whether it takes the place of one that was prepared.
    """
    kind = like or name
    group = workload.one_a_node if kind == LOCAL else workload.evenly
    spec: dict[str, Any] = {"ipFamilyPolicy": "PreferDualStack"} if dual else {}
    spec |= SPECS[kind]
    if number:
        spec["ports"] = [{"port": 80, "targetPort": HTTP_PORT, "nodePort": number}]
    asked = manifest(name, workload.namespace, group.labels, spec)
    if again:
        asked["metadata"]["annotations"] = {MADE_AGAIN: "yes"}
    return Service(workload.api, group, workload.api.create(asked))


def find(api: Api, namespace: str) -> Workload:
    """Find what was placed, and wait until all of it is Ready.

    Raises:
        UsageError: the namespace is not there.
        CannotRunError: one of the Deployments is gone.
    """
    if api.find("Namespace", namespace).get("kind") != "Namespace":
        raise UsageError(
            f"there is no namespace {namespace}: what was prepared is not in this cluster any more",
            AGAIN,
        )
    groups = {}
    for spread in (EVENLY, ONE_A_NODE):
        label = {GROUP_LABEL: spread.replace(" ", "-")}
        deployments = api.find_all("Deployment", namespace, **label)
        if not deployments:
            raise CannotRunError(
                f"the Deployment of the echoes that are {spread} is gone from {namespace}",
                AGAIN,
            )
        name = deployments[0]["metadata"]["name"]
        groups[spread] = ScaledEcho(api, name, namespace, {ECHO_LABEL: name})
        groups[spread].scale(_count(api, deployments[0]))
    found = {item["metadata"]["name"]: item for item in api.find_all("Service", namespace)}
    services = {
        name: Service(api, groups[ONE_A_NODE if name == LOCAL else EVENLY], item)
        for name, item in found.items()
        if name in SPECS
    }
    return Workload(api, namespace, groups[EVENLY], groups[ONE_A_NODE], services)


def note_churn(workload: Workload, *, goes_on: bool) -> None:
    """Note that what was prepared is about to be changed, or that it is as it was placed."""
    note = {"metadata": {"annotations": {CHURNED: "yes" if goes_on else None}}}
    workload.api.change("Deployment", workload.evenly.name, note, workload.namespace)


def is_churned(api: Api, namespace: str) -> bool:
    """Whether somebody changed what was prepared and did not come to the end of it."""
    found = api.find_all("Deployment", namespace)
    return any(CHURNED in item["metadata"].get("annotations", {}) for item in found)


def recover(api: Api, namespace: str, prepared: Mapping[str, Object]) -> None:
    """Put back what somebody who was killed had changed, by what was there before.

    Args:
        api: the cluster.
        namespace: where it was placed.
        prepared: every Service in full as it was then, by name.

    Raises:
        CannotRunError: a Deployment is gone.
    """
    workload = find(api, namespace)
    if FIXED not in workload.services and FIXED in prepared:
        workload.services[FIXED] = Service(api, workload.evenly, prepared[FIXED])
    put_back(workload)


def put_back(workload: Workload) -> None:
    """Undo what somebody who was stopped had changed, and wait for nothing."""
    api, namespace = workload.api, workload.namespace
    found = {item["metadata"]["name"]: item for item in api.find_all("Service", namespace)}
    for name in found.keys() - SPECS.keys():
        api.delete("Service", name, namespace)
    as_placed = {"externalTrafficPolicy": "Cluster", "sessionAffinity": "None"}
    if CLUSTER in found:
        api.change("Service", CLUSTER, {"spec": as_placed}, namespace)
    fixed = workload.services[FIXED]
    if FIXED not in found:
        spec = fixed.stored["spec"]
        dual = spec.get("ipFamilyPolicy") == "PreferDualStack"
        make_service(workload, FIXED, dual=dual, number=fixed.node_port, again=True)
    for group in workload.groups.values():
        count = {"replicas": _count(api, api.get("Deployment", group.name, namespace))}
        api.change("Deployment", group.name, {"spec": count}, namespace)
    note_churn(workload, goes_on=False)


def _count(api: Api, deployment: Object) -> int:
    """With how many pods it was placed; of those of which each node has one, no more than fit."""
    where, template = deployment["metadata"], deployment["spec"]["template"]["spec"]
    placed = int(where["annotations"][COUNT])
    if where["labels"][GROUP_LABEL] != ONE_A_NODE.replace(" ", "-"):
        return placed
    tolerated = [each.get("key", "") for each in template.get("tolerations") or []]
    fit = sum(not _repels(node, tolerated) for node in api.find_all("Node"))
    return min(placed, fit)


def stored(api: Api, namespace: str) -> dict[str, Object]:
    """Every prepared Service in full, by name."""
    found = {item["metadata"]["name"]: item for item in api.find_all("Service", namespace)}
    return {name: found[name] for name in SPECS if name in found}


def places(api: Api) -> tuple[list[str], Sequence[Mapping[str, str]]]:
    """The nodes on which such echoes can be, and what they have to tolerate for that.

    They tolerate no cordon, as a drain could not get rid of them, and a control plane only where
    there is nothing else.

    Raises:
        CannotRunError: every node keeps them away.
    """
    found = api.find_all("Node")
    free = [n["metadata"]["name"] for n in found if not _repels(n, ())]
    if free:
        return free, ()
    with_control_planes = [n["metadata"]["name"] for n in found if not _repels(n, (CONTROL_PLANE,))]
    if not with_control_planes:
        raise CannotRunError(
            "every node is cordoned or has a taint that keeps pods away", "uncordon one of them"
        )
    return with_control_planes, CONTROL_PLANE_TOO


def _repels(node: Object, tolerated: Collection[str]) -> bool:
    taints = node["spec"].get("taints", [])
    return bool(node["spec"].get("unschedulable")) or any(
        taint["effect"] in UNSCHEDULED and taint["key"] not in tolerated for taint in taints
    )
