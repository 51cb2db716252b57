"""The caller outside where this machine does not reach nodes: a container on their network."""

from collections.abc import Sequence
from dataclasses import dataclass

from e2e import timing
from e2e.cluster.caller import CallerVantage
from e2e.cluster.node import KUBELET, Node, is_heard
from e2e.errors import CannotRunError
from e2e.probe import NO_ROUTE, SILENT, Outside

AUTO, HOST, BESIDE = "auto", "host", "beside"
OUTSIDES = (AUTO, HOST, BESIDE)
THERE = "run this where the nodes' network is, or open a firewall for node ports"


@dataclass(frozen=True)
class Beside(CallerVantage):
    """A container's own address as the caller outside, by curl and bash.

    It keeps no connection and no source port, and does not scan; see `own-sockets`.
    """

    name: str = "outside"
    source: str = ""

    def udp_command(self, address: str, port: int) -> Sequence[str]:
        """By bash, which can have no address of its choice, and does not wait after the answer."""
        ask = f"exec 3<>/dev/udp/{address}/{port} && printf hostname >&3"
        return "bash", "-c", f"{ask} && timeout {timing.ATTEMPT} dd bs=4096 count=1 <&3"

    def source_towards(self, address: str) -> str:
        """The address that the container calls another one from."""
        said = self.container.execute("ip", "-o", "route", "get", address).split()
        return said[said.index("src") + 1]

    def demand_heard(self, nodes: Sequence[Node]) -> None:
        """Go on only if a node answers anything.

        Raises:
            CannotRunError: none does.
        """
        deaf = (SILENT, NO_ROUTE)
        if all(self.call(at, KUBELET).outcome in deaf for at in _addresses(nodes)):
            raise CannotRunError(
                "neither this machine nor a container beside the nodes hears from them: "
                f"{', '.join(_addresses(nodes))}",
                "see whether the nodes run, and look for a firewall between containers",
            )


def why_beside(asked: str, nodes: Sequence[Node], *, has_callers: bool) -> str:
    """Why callers outside have to stand in a container; nothing if they are this process.

    Args:
        asked: one of OUTSIDES.
        nodes: all of them.
        has_callers: whether containers can be put beside the nodes.

    Raises:
        CannotRunError: nodes are out of reach of who was asked for.
    """
    if asked == BESIDE:
        if not has_callers:
            raise CannotRunError(
                "E2E_OUTSIDE=beside, and no container can be put beside these nodes",
                "leave it out: only nodes of kind on this machine's engine have such neighbours",
            )
        return f"E2E_OUTSIDE={BESIDE} says so"
    # Nodes that are no containers may hide all but their node ports.
    if not has_callers or reaches(nodes):
        return ""
    if asked == HOST:
        demand_reach(nodes)
    return "this machine does not reach the addresses of the nodes"


def reaches(nodes: Sequence[Node]) -> bool:
    """Whether this machine hears anything from any node."""
    return any(map(is_heard, _addresses(nodes)))


def demand_reach(nodes: Sequence[Node]) -> None:
    """Go on only where this machine hears a node, as for all that only its own sockets can do.

    Raises:
        CannotRunError: it hears none.
    """
    if not reaches(nodes):
        raise CannotRunError(
            f"this machine does not reach the addresses of the nodes: "
            f"{', '.join(_addresses(nodes))}",
            f"{THERE}; see docs/decisions/outside-beside.md",
        )


def demand_host_network(node: Node, others: Sequence[Node]) -> None:
    """Go on only if this process calls other nodes from an address of the node that it stands on.

    From the pod network it would be a caller inside the cluster, which policies treat otherwise.

    Raises:
        CannotRunError: it does not.
    """
    for address in _addresses(others):
        source = Outside.source_towards(address)
        if source not in (*node.addresses.values(), *node.external_addresses.values()):
            raise CannotRunError(
                f"callers outside stand on {node}, and call {address} from {source}, which is no "
                "address of it",
                "run the pod with hostNetwork: true, as manifests/job does",
            )


def _addresses(nodes: Sequence[Node]) -> list[str]:
    return [address for node in nodes for address in node.addresses.values()]
