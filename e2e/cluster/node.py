"""The nodes of a cluster and the addresses at which they answer."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from e2e import timing
from e2e.cluster.api import Api, Object, names_by
from e2e.cluster.implementation import find
from e2e.errors import CannotRunError
from e2e.probe import NO_ROUTE, SILENT, Outside
from e2e.wait import settle

CORDONED_BY = "nodeport-e2e/cordoned-by"
CONTROL_PLANE = "node-role.kubernetes.io/control-plane"
# Its port on every node.
KUBELET = 10250
# Which events are about nodes.
OF_NODES = "involvedObject.kind=Node"
# Why a pod does not begin, in the words of Kubernetes.
HINDERED = ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName",
            "CreateContainerConfigError", "CreateContainerError")  # fmt: skip


def family_of(address: str) -> str:
    """The IP family of an address, in Kubernetes' words: IPv4 or IPv6."""
    return "IPv6" if ":" in address else "IPv4"


@dataclass(frozen=True)
class Node:
    """One node.

    Attributes:
        name: as Kubernetes calls it.
        addresses: its InternalIPs by IP family.
        is_control_plane: whether it runs a control plane.
        external_addresses: its ExternalIPs by IP family.
    """

    name: str
    addresses: dict[str, str]
    is_control_plane: bool
    external_addresses: dict[str, str] = field(default_factory=dict)

    def __hash__(self) -> int:
        return hash(self.name)

    def __str__(self) -> str:
        return self.name


def all_nodes(api: Api, *, within: float = 0.0) -> tuple[Node, ...]:
    """Every node, control planes first.

    Args:
        api: of the cluster.
        within: seconds in which all of them have to be Ready; without any, now.

    Raises:
        CannotRunError: there is none, or one of them is not Ready.
    """
    looked = settle(
        lambda: api.find_all("Node"),
        lambda found: bool(found) and all(map(is_ready, found)),
        within=within,
        times=1,
        every=timing.NODES_BACK_EVERY,
        what=lambda found: f"nodes that are not Ready: {', '.join(_unready(found))}",
    )
    found = looked.last
    unready = _unready(found)
    if unready or not found:
        raise CannotRunError(
            f"nodes that are not Ready: {', '.join(unready)}" if found else "no node at all",
            "look at `kubectl describe node`; the contract is about a cluster that is well",
        )
    nodes = [node_of_object(item) for item in found]
    return tuple(sorted(nodes, key=lambda node: (not node.is_control_plane, node.name)))


def _unready(nodes: Iterable[Object]) -> list[str]:
    return [node["metadata"]["name"] for node in nodes if not is_ready(node)]


def is_heard(address: str) -> bool:
    """Whether anything is heard here from an address of a node, be it a refusal.

    Its kubelet is asked, which listens at all addresses of every node.
    """
    return Outside().call(address, KUBELET).outcome not in (SILENT, NO_ROUTE)


def cordon(api: Api, name: str, run: str) -> bool:
    """Mark a node as unschedulable and note for whom; False if somebody else had done so."""
    found = api.get("Node", name)
    if found["spec"].get("unschedulable"):
        return False
    api.change("Node", name, _cordoned(run))
    return True


def uncordon(api: Api, name: str) -> None:
    """Take the mark and the note away."""
    api.change("Node", name, _cordoned(None))


def cordoned(api: Api) -> dict[str, list[str]]:
    """Every run that has cordoned nodes of this cluster, with their names."""
    return names_by(api.find_all("Node"), "annotations", CORDONED_BY)


def _cordoned(run: str | None) -> Object:
    return {
        "metadata": {"annotations": {CORDONED_BY: run}},
        "spec": {"unschedulable": True if run else None},
    }


def describe(api: Api, nodes: Sequence[Node]) -> dict[str, str]:
    """What a cluster says of itself: version, kube-proxy's mode, IP families, nodes.

    Returns:
        each by itself, several names with spaces between; and `cluster`, all of it in words.
    """
    families = sorted({family for node in nodes for family in node.addresses})
    names = [node.name for node in nodes]
    found = {"version": api.version(), "proxy": str(find(api))}
    words = [*found.values(), " and ".join(families), *names]
    found |= {"families": " ".join(families), "nodes": " ".join(names)}
    return {**found, "cluster": ", ".join(words)}


def conditions(item: Object) -> list[Object]:
    """What an object says of itself; nothing if it is the Status that says why there is none."""
    return [] if item.get("kind") == "Status" else item.get("status", {}).get("conditions") or []


def is_ready(item: Object) -> bool:
    """Whether a Node or a Pod says Ready of itself."""
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions(item))


def hindered(pod: Object) -> str:
    """Why a container of a pod does not begin, where that will stay so; else nothing."""
    states = [each.get("state", {}) for each in pod.get("status", {}).get("containerStatuses", [])]
    waits = [state["waiting"] for state in states if "waiting" in state]
    why = [each for each in waits if each.get("reason") in HINDERED]
    return f"{why[0]['reason']}: {why[0].get('message', '')}" if why else ""


def addresses_of(item: Object, kind: str = "InternalIP") -> dict[str, str]:
    """The first address of a kind that a Node says it has, by IP family."""
    found: dict[str, str] = {}
    for entry in item["status"].get("addresses") or []:
        if entry["type"] == kind:
            found.setdefault(family_of(entry["address"]), entry["address"])
    return found


def node_of_object(item: Object) -> Node:
    """A node as the API server describes it."""
    return Node(
        name=item["metadata"]["name"],
        addresses=addresses_of(item),
        is_control_plane=CONTROL_PLANE in item["metadata"].get("labels", {}),
        external_addresses=addresses_of(item, "ExternalIP"),
    )
