"""What the contract leaves to implementations and versions, and what those here are known to do."""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from e2e.cluster.api import Api
from e2e.probe import Outcome

CONTRACT = Path(__file__).parents[1] / "contract"
CHOICES, VERSIONS = CONTRACT / "choices.toml", CONTRACT / "versions.toml"
UNKNOWN = "unknown"


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
    version = _version(api.version())
    if found.get("kind") != "ConfigMap":
        return Implementation(version, UNKNOWN, {})
    settings = yaml.safe_load(found.get("data", {}).get("config.conf", "")) or {}
    return Implementation(version, settings.get("mode") or "iptables", settings)


def _rows(file: Path, what: str, version: tuple[int, int]) -> Iterator[dict[str, Any]]:
    for row in _read(file)[what]["rows"]:
        since, until = _version(row.get("since", "0.0")), _version(row.get("until", "9.99"))
        if since <= version <= until:
            yield row


@cache
def _read(file: Path) -> dict[str, Any]:
    return tomllib.loads(file.read_text())


def _version(said: str) -> tuple[int, int]:
    major, minor = re.findall(r"\d+", said)[:2]
    return int(major), int(minor)
