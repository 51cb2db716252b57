"""A lane: one cluster configuration, and the kind config that gives it."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from e2e.errors import UsageError
from e2e.provider.node_image import DEFAULT

SHAPES = Path(__file__).parents[1] / "manifests" / "kind"
PROXIES = ("iptables", "nftables")
FAMILIES = ("ipv4", "ipv6", "dual")
# Where a cluster comes from: kind makes one, or there is one.
PROVIDERS = ("kind", "existing")
# kind appends "-control-plane" to a name, and a host name has 63 characters.
NAME_LIMIT = 63 - len("-control-plane")


@dataclass(frozen=True)
class Lane:
    """One cluster configuration.

    Attributes:
        version: of Kubernetes, such as v1.37.2.
        proxy: kube-proxy's mode.
        family: the cluster's IP families: ipv4, ipv6 or dual.
        shape: the name of a file in manifests/kind, or a path to a kind config.
    """

    version: str
    proxy: str = "iptables"
    family: str = "ipv4"
    shape: str = "two-workers"

    def __post_init__(self) -> None:
        """Check the words.

        Raises:
            UsageError: one of them is unknown, or the shape's file is no kind config or says
                otherwise; names it and what is allowed.
        """
        for option, value, allowed in (
            ("PROXY", self.proxy, PROXIES),
            ("FAMILY", self.family, FAMILIES),
        ):
            if value not in allowed:
                raise UsageError(f"{option}={value} is unknown", f"use {', '.join(allowed)}")
        if not re.match(r"v\d+\.\d+", self.version):
            raise UsageError(f"{self.version!r} is no version of Kubernetes", f"use {DEFAULT}")
        self.kind_config()

    def __str__(self) -> str:
        return f"{self.version} {self.proxy} {self.family} {self.shape}"

    @property
    def cluster_name(self) -> str:
        """The name of this lane's cluster, the same in every run: what is unusual about it."""
        usual = Lane(DEFAULT)
        words = ["nodeport-e2e"]
        for mine, usually in (
            (self.version, usual.version),
            (self.proxy, usual.proxy),
            (self.family, usual.family),
            (Path(self.shape).stem, usual.shape),
        ):
            words += [mine] if mine != usually else []
        return re.sub(r"[^a-z0-9-]+", "-", "-".join(words).lower())[:NAME_LIMIT].strip("-")

    def shape_file(self) -> Path:
        """The kind config of the shape.

        Raises:
            UsageError: there is none of that name.
        """
        named = SHAPES / f"{self.shape}.yaml"
        if named.is_file():
            return named
        if Path(self.shape).is_file():
            return Path(self.shape)
        known = ", ".join(sorted(path.stem for path in SHAPES.glob("*.yaml")))
        raise UsageError(f"SHAPE={self.shape} is unknown", f"use {known}, or the path of a file")

    def kind_config(self) -> str:
        """The shape's kind config with this lane's proxy mode and IP family.

        Raises:
            UsageError: the shape's file is no kind config, or names another mode or family.
        """
        file = self.shape_file()
        try:
            config: Any = yaml.safe_load(file.read_text())
        except yaml.YAMLError as error:
            where = getattr(error, "problem_mark", None)
            line = f" line {where.line + 1}" if where else ""
            raise UsageError(f"{file}{line} is no YAML", "correct it") from error
        except UnicodeDecodeError as error:
            raise UsageError(f"{file} is no text", "name a kind config") from error
        if not isinstance(config, dict) or config.get("kind") != "Cluster":
            raise UsageError(f"{file} is no kind config", "it must say `kind: Cluster`")
        networking = config.get("networking") or {}
        if not isinstance(networking, dict):
            raise UsageError(f"{file} is no kind config", "its `networking` must be a mapping")
        for option, key, mine, allowed in (
            ("PROXY", "kubeProxyMode", self.proxy, PROXIES),
            ("FAMILY", "ipFamily", self.family, FAMILIES),
        ):
            said = networking.setdefault(key, mine)
            if said != mine:
                give = f"give {option}={said}, or " if said in allowed else ""
                raise UsageError(
                    f"{file} says {key}: {said}, and {option} is {mine}",
                    f"{give}take {key} out of the shape",
                )
        config["networking"] = networking
        if not Path("/sys/fs/cgroup/cgroup.controllers").exists():
            # Kubernetes 1.35 and later refuse cgroup v1 unless they are told not to.
            patch = "kind: KubeletConfiguration\nfailCgroupV1: false\n"
            config["kubeadmConfigPatches"] = [*(config.get("kubeadmConfigPatches") or []), patch]
        return yaml.safe_dump(config, sort_keys=False)
