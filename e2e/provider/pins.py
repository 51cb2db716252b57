"""Reads pins.toml: every version and checksum of what this project brings to a machine."""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

PINS = Path(__file__).parent / "pins.toml"


@dataclass(frozen=True)
class Module:
    """A Go module at one version, with the hash that it must have."""

    path: str
    version: str
    sum: str

    def __str__(self) -> str:
        return f"{self.path}@{self.version}"


@dataclass(frozen=True)
class Release:
    """One version of Kubernetes and what kubeadm of that version asks for."""

    kubernetes: Module
    etcd: Module
    etcd_tag: str
    coredns: Module
    coredns_tag: str
    pause_tag: str

    @property
    def version(self) -> str:
        """As in `v1.37.2`."""
        return self.kubernetes.version


@dataclass(frozen=True)
class Pins:
    """What pins.toml says.

    Attributes:
        kind: its Go module.
        kind_address: where the released program is, with {version} and {platform}.
        kind_released: SHA-256 of the released program by platform.
        kind_published_image: the node image that this version of kind would use by itself.
        agnhost_image: the name under which agnhost is published.
        agnhost_from: the Kubernetes module whose source has it.
        releases: by version, newest first.
        default: the version that is meant when none is named.
        suites: distribution releases that a node may be made of.
        packages: their packages that a node needs.
    """

    kind: Module
    kind_address: str
    kind_released: dict[str, str]
    kind_published_image: str
    containerd: Module
    cni_plugins: Module
    crictl: Module
    agnhost_image: str
    agnhost_from: Module
    releases: dict[str, Release]
    default: str
    suites: tuple[str, ...]
    packages: tuple[str, ...]


@cache
def read_pins(file: Path = PINS) -> Pins:
    """Read the pins; a missing entry is a KeyError, as the file is part of this program."""
    data = tomllib.loads(file.read_text())
    kubernetes = data["kubernetes"]

    def release(version: str, said: dict[str, Any]) -> Release:
        etcd, coredns = said["etcd"], said["coredns"]
        return Release(
            Module(kubernetes["module"], version, said["sum"]),
            _summed(data["etcd"], etcd["version"]),
            etcd["tag"],
            _summed(data["coredns"], coredns["version"]),
            coredns["tag"],
            said["pause"],
        )

    releases = {version: release(version, said) for version, said in kubernetes["releases"].items()}
    released = dict(data["kind"]["released"])
    return Pins(
        kind=_module(data["kind"]),
        kind_address=released.pop("address"),
        kind_released=released,
        kind_published_image=data["kind"]["published-image"],
        containerd=_module(data["containerd"]),
        cni_plugins=_module(data["cni-plugins"]),
        crictl=_module(data["crictl"]),
        agnhost_image=data["agnhost"]["image"],
        agnhost_from=releases[data["agnhost"]["kubernetes"]].kubernetes,
        releases=releases,
        default=kubernetes["default"],
        suites=tuple(data["base"]["suites"]),
        packages=tuple(data["base"]["packages"]),
    )


def _module(said: dict[str, Any]) -> Module:
    return Module(said["module"], said["version"], said["sum"])


def _summed(said: dict[str, Any], version: str) -> Module:
    return Module(said["module"], version, said["sums"][version])
