"""The nodes of a cluster and the addresses at which they answer."""

from dataclasses import dataclass

from e2e.cluster.api import Api, Object
from e2e.errors import CannotRunError

FAMILIES = ("IPv4", "IPv6")


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
        version: of its kubelet.
    """

    name: str
    addresses: dict[str, str]
    is_control_plane: bool
    version: str

    def __hash__(self) -> int:
        return hash(self.name)

    def __str__(self) -> str:
        return self.name


def all_nodes(api: Api) -> tuple[Node, ...]:
    """Every node, control planes first.

    Raises:
        CannotRunError: there is none, or one of them is not Ready.
    """
    found = api.find_all("Node")
    unready = [node["metadata"]["name"] for node in found if not is_ready(node)]
    if unready or not found:
        raise CannotRunError(
            f"nodes that are not Ready: {', '.join(unready)}" if found else "no node at all",
            "look at `kubectl describe node`; the contract is about a cluster that is well",
        )
    nodes = [_node(item) for item in found]
    return tuple(sorted(nodes, key=lambda node: (not node.is_control_plane, node.name)))


def is_ready(node: Object) -> bool:
    """Whether the Node object says Ready."""
    conditions = {c["type"]: c["status"] for c in node.get("status", {}).get("conditions", [])}
    return conditions.get("Ready") == "True"


def _node(item: Object) -> Node:
    addresses: dict[str, str] = {}
    for entry in item["status"]["addresses"]:
        if entry["type"] == "InternalIP":
            addresses.setdefault(family_of(entry["address"]), entry["address"])
    return Node(
        name=item["metadata"]["name"],
        addresses=addresses,
        is_control_plane="node-role.kubernetes.io/control-plane" in item["metadata"]["labels"],
        version=item["status"]["nodeInfo"]["kubeletVersion"],
    )
