"""What a clause may need of a cluster, and the reason where it is not there."""

from collections.abc import Sequence
from dataclasses import dataclass

from e2e.cluster.implementation import UNKNOWN, Implementation
from e2e.cluster.node import Node
from e2e.plain import count_of

# Unless an API server is told otherwise.
USUAL_RANGE = range(30000, 32768)
# So many node ports a clause may take all of.
SMALL_RANGE = 128
NO_CALLERS = "no container can be put beside the nodes"


@dataclass(frozen=True)
class Facts:
    """What is known of a cluster, be it one that was looked at or one that is to be made.

    Attributes:
        nodes: control planes first.
        port_range: the node ports.
        implementation: who makes them work.
        denies_external_ips: whether the API server takes no Service with externalIPs.
        has_callers: whether containers can be put beside the nodes.
        is_ours: whether a run made it, so that its nodes may be changed.
        why_beside: why callers outside stand in a container; nothing if they are this process.
        stands_on: the node on which they stand, and which is none of `nodes`; nothing if on none.
    """

    nodes: Sequence[Node]
    port_range: range
    implementation: Implementation
    denies_external_ips: bool
    has_callers: bool
    is_ours: bool
    why_beside: str = ""
    stands_on: str = ""


def capabilities(facts: Facts) -> dict[str, str]:
    """What a clause may need: by name, nothing if it is there, else the reason why it is not."""
    nodes, port_range, implementation = facts.nodes, facts.port_range, facts.implementation
    workers = sum(not node.is_control_plane for node in nodes)
    missing = f"this cluster has {count_of(workers, 'worker')}"
    no_plane = "no node is a control plane"
    if facts.stands_on:
        without = f" beside {facts.stands_on}, on which callers outside stand"
        missing, no_plane = missing + without, no_plane + without
    numbers = f"node ports are {port_range[0]} to {port_range[-1]} here"
    return {
        "default-range": "" if port_range == USUAL_RANGE else numbers,
        "small-range": "" if len(port_range) <= SMALL_RANGE else numbers,
        "wide-range": "" if len(port_range) > SMALL_RANGE else numbers,
        "two-workers": "" if workers >= 2 else missing,
        "control-plane": "" if nodes[0].is_control_plane else no_plane,
        "outside-caller": "" if facts.has_callers else NO_CALLERS,
        "own-sockets": f"callers outside stand in a container, as {facts.why_beside}"
        if facts.why_beside
        else "",
        "ipv4": "" if "IPv4" in nodes[0].addresses else "nodes have no IPv4 address",
        "dual-stack": "" if len(nodes[0].addresses) > 1 else "nodes have one IP family",
        "kube-proxy": "" if implementation.proxy != UNKNOWN else "its ConfigMap is not there",
        "iptables": _mode("iptables", implementation),
        "nftables": _mode("nftables", implementation),
        **_external_ips(facts),
        "default-addresses": _default_addresses(implementation),
        "localhost-node-ports": ""
        if implementation.leaves_localhost
        else "kube-proxy is told not to serve node ports on localhost",
        "nodeport-addresses": ""
        if implementation.node_port_addresses
        else "node port addresses are not configured",
        "external-addresses": ""
        if any(node.external_addresses for node in nodes)
        else "no node has an address of the type ExternalIP",
        "own-cluster": "" if facts.is_ours else "it would change nodes that are not ours",
    }


def _external_ips(facts: Facts) -> dict[str, str]:
    denied, served = facts.denies_external_ips, facts.implementation.serves_external_ips
    taken = "the API server takes Services with externalIPs"
    why_not_taken = "the API server denies Services with externalIPs" if denied else ""
    return {
        "external-ips-taken": why_not_taken,
        "external-ips": why_not_taken or ("" if served else "kube-proxy is told not to serve them"),
        "external-ips-denied": "" if denied else taken,
        "external-ips-off": "" if not served and not denied else "kube-proxy serves externalIPs",
    }


def _default_addresses(implementation: Implementation) -> str:
    if implementation.proxy == UNKNOWN:
        return "it is not known how the service proxy is configured"
    told = implementation.node_port_addresses
    return f"node port addresses are configured: {', '.join(told)}" if told else ""


def _mode(wanted: str, implementation: Implementation) -> str:
    return "" if implementation.proxy == wanted else f"the service proxy is {implementation}"
