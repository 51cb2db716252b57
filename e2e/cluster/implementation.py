"""What the contract leaves to implementations and versions, and what those here are known to do."""

import re
import tomllib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import yaml

from e2e.cluster.api import Api
from e2e.probe import Outcome

CONTRACT = Path(__file__).parents[1] / "contract"
CHOICES, VERSIONS = CONTRACT / "choices.toml", CONTRACT / "versions.toml"
UNKNOWN = "unknown"
# Words that kube-proxy takes instead of networks, beside `primary`.
KEYWORDS = {"localhost": ["127.0.0.0/8", "::1/128"], "all": ["0.0.0.0/0", "::/0"]}


@dataclass(frozen=True)
class Implementation:
    """Who makes node ports work in this cluster.

    Attributes:
        version: of the API server, such as (1, 37).
        proxy: the mode of kube-proxy, or `UNKNOWN` where that is not what serves.
        settings: kube-proxy's configuration, as far as it can be read.
    """

    version: tuple[int, int]
    proxy: str
    settings: dict[str, Any]

    def __str__(self) -> str:
        return "an unknown service proxy" if self.proxy == UNKNOWN else f"kube-proxy {self.proxy}"

    @property
    def node_port_addresses(self) -> list[str]:
        """What kube-proxy was told of the addresses at which node ports answer, if anything."""
        return list(self.settings.get("nodePortAddresses") or [])

    @property
    def serves_external_ips(self) -> bool:
        """Whether externalIPs of Services are served, which kube-proxy can be told not to do."""
        gates: dict[str, bool] = self.settings.get("featureGates") or {}
        return gates.get("AllowServiceExternalIPs", True)

    @property
    def leaves_localhost(self) -> bool:
        """Whether 127.0.0.1 is left to the mode; iptables mode can be told not to answer there."""
        told = (self.settings.get("iptables") or {}).get("localhostNodePorts")
        return self.proxy != "iptables" or told is not False

    def answers_at(self, address: str, primary: Collection[str]) -> bool:
        """Whether what kube-proxy was told lets an address of a node answer.

        Where it names no network of a family, all addresses of that family do.

        Args:
            address: one of a node's.
            primary: the node's InternalIPs, which the keyword `primary` means.
        """
        words: list[str] = []
        for told in self.node_port_addresses:
            words += KEYWORDS.get(told, [told]) if told != "primary" else primary
        networks = [ip_network(word, strict=False) for word in words]
        mine = ip_address(address)
        of_family = [network for network in networks if network.version == mine.version]
        return not of_family or any(mine in network for network in of_family)

    def chooses(self, what: str) -> frozenset[Outcome] | None:
        """How calls end where the contract leaves it open; None if nobody knows it of this one.

        Raises:
            KeyError: `choices.toml` has no such choice.
        """
        rows = (row for row in _rows(CHOICES, what, self.version) if row["proxy"] == self.proxy)
        return next((frozenset(map(Outcome, row["ends"])) for row in rows), None)

    def answers(self, what: str) -> dict[str, Any] | None:
        """How an API server of this version answers; None if nobody knows it of this one.

        Raises:
            KeyError: `versions.toml` has no such request.
        """
        return next(_rows(VERSIONS, what, self.version), None)


def find(api: Api) -> Implementation:
    """Ask a cluster; kube-proxy's mode is where kubeadm keeps it, and empty means iptables."""
    found = api.find("ConfigMap", "kube-proxy", "kube-system")
    version = version_of(api.version())
    if found.get("kind") != "ConfigMap":
        return Implementation(version, UNKNOWN, {})
    settings = yaml.safe_load(found.get("data", {}).get("config.conf", "")) or {}
    return Implementation(version, settings.get("mode") or "iptables", settings)


def _rows(file: Path, what: str, version: tuple[int, int]) -> Iterator[dict[str, Any]]:
    for row in _read(file)[what]["rows"]:
        since, until = version_of(row.get("since", "0.0")), version_of(row.get("until", "9.99"))
        if since <= version <= until:
            yield row


@cache
def _read(file: Path) -> dict[str, Any]:
    return tomllib.loads(file.read_text())


def version_of(said: str) -> tuple[int, int]:
    """Major and minor of a version such as v1.37.2."""
    major, minor = re.findall(r"\d+", said)[:2]
    return int(major), int(minor)
