"""What is known of a cluster before a run: of one that is read, or of one that is to be made."""

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from e2e.cluster import inventory
from e2e.cluster.api import Api
from e2e.cluster.capabilities import USUAL_RANGE, Facts
from e2e.cluster.implementation import Implementation, find, version_of
from e2e.cluster.node import Node, all_nodes
from e2e.provider.lane import Lane

RANGE, PLUGINS = "service-node-port-range", "enable-admission-plugins"
# What every API server is told, so that flags were read where it was.
ALWAYS = "etcd-servers"
DENIES = "DenyServiceExternalIPs"
# Addresses that a lane's nodes would have; which ones is not known yet, nor asked.
ADDRESSES = {
    "ipv4": {"IPv4": "0.0.0.0"},  # noqa: S104  # stands for any
    "ipv6": {"IPv6": "::"},
    "dual": {"IPv4": "0.0.0.0", "IPv6": "::"},  # noqa: S104
}


def of_cluster(api: Api, *, has_callers: bool, is_ours: bool) -> tuple[Facts, list[str]]:
    """What a cluster says of itself when it is only read, and what had to be guessed, as words.

    Raises:
        CannotRunError: it does not answer, or one of its nodes is not Ready.
        ApiRefusedError: nodes may not be listed.
    """
    said = inventory.flags(api, (RANGE, PLUGINS, ALWAYS))
    flags = {name: next(iter(of_nodes.values())) for name, of_nodes in said.items()}
    usual = f"{USUAL_RANGE[0]} to {USUAL_RANGE[-1]}, and externalIPs to be allowed"
    guess = f"the API server's flags cannot be read here; node ports are taken to be {usual}"
    guessed = [] if ALWAYS in said else [guess]
    return _facts(all_nodes(api), find(api), flags, has_callers, is_ours), guessed


def of_lane(lane: Lane) -> Facts:
    """What a cluster of this lane will be like, as its kind config says."""
    config = yaml.safe_load(lane.kind_config())
    patches = [
        patch
        for said in config.get("kubeadmConfigPatches") or []
        for patch in yaml.safe_load_all(said)
        if isinstance(patch, dict)
    ]
    settings: dict[str, Any] = {"featureGates": config.get("featureGates") or {}}
    flags: dict[str, str] = {}
    for patch in patches:
        if patch.get("kind") == "KubeProxyConfiguration":
            settings |= patch
        flags |= dict(_arguments(patch))
    roles = [node.get("role", "control-plane") for node in config.get("nodes") or [{}]]
    nodes = [
        Node(f"{role}-{n}", ADDRESSES[lane.family], role == "control-plane")
        for n, role in enumerate(sorted(roles))
    ]
    implementation = Implementation(version_of(lane.version), lane.proxy, settings)
    return _facts(nodes, implementation, flags, has_callers=True, is_ours=True)


def _arguments(patch: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The flags of the API server in a patch, which kubeadm takes as a list or as a mapping."""
    said = (patch.get("apiServer") or {}).get("extraArgs") or []
    for each in said if isinstance(said, list) else []:
        yield each["name"], str(each["value"])
    for name, value in said.items() if isinstance(said, dict) else []:
        yield name, str(value)


def _facts(
    nodes: tuple[Node, ...] | list[Node],
    implementation: Implementation,
    flags: Mapping[str, str],
    has_callers: bool,
    is_ours: bool,
) -> Facts:
    return Facts(
        *(nodes, _range(flags.get(RANGE, "")), implementation),
        denies_external_ips=DENIES in flags.get(PLUGINS, "").split(","),
        has_callers=has_callers,
        is_ours=is_ours,
    )


def _range(said: str) -> range:
    """A range in the words of the API server's flag, such as 30000-32767 or 30000+99."""
    if not said:
        return USUAL_RANGE
    first, _, more = said.replace("+", "-").partition("-")
    last = int(first) + int(more) if "+" in said else int(more or first)
    return range(int(first), last + 1)
