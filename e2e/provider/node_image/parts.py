"""The compiled parts of a node image, and the recipe of each."""

from dataclasses import dataclass
from pathlib import Path

from e2e.provider.go_modules import Programs
from e2e.provider.pins import Module, Pins, Release

FILES = Path(__file__).parent / "files"


@dataclass(frozen=True)
class Part:
    """Programs of one component, kept under one name."""

    name: str
    programs: Programs

    def recipe(self, arch: str) -> dict[str, object]:
        """Everything that decides what comes out."""
        return {"arch": arch, **self.programs.recipe()}


def compiled_parts(pins: Pins, release: Release) -> list[Part]:
    """All compiled parts of an image; those of one Kubernetes version first.

    The order saves time: what comes later finds dependencies compiled already.
    """
    return [
        kubernetes(release),
        agnhost(pins.agnhost_from),
        etcd(release.etcd),
        crictl(pins.crictl, pins.agnhost_from),
        coredns(release.coredns),
        containerd(pins.containerd),
        cni_plugins(pins.cni_plugins),
        pause(),
    ]


def kubernetes(release: Release) -> Part:
    """Everything of Kubernetes that runs on a node, and its two command-line tools."""
    commands = (
        "kubeadm",
        "kubelet",
        "kubectl",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "kube-proxy",
    )
    packages = {name: f"{release.kubernetes.path}/cmd/{name}" for name in commands}
    title = f"Kubernetes {release.version}"
    variables = kubernetes_version(release.version)
    return Part("kubernetes", Programs(title, release.kubernetes, packages, variables))


def agnhost(module: Module) -> Part:
    """The echo server and caller of the tests."""
    packages = {"agnhost": f"{module.path}/test/images/agnhost"}
    programs = Programs("agnhost", module, packages, kubernetes_version(module.version))
    return Part("agnhost", programs)


def etcd(module: Module) -> Part:
    """The store of the API server."""
    return Part("etcd", Programs(f"etcd {module.version}", module, {"etcd": module.path}))


def crictl(module: Module, kubernetes: Module) -> Part:
    """What `kind load` and `kind export logs` call in a node; it uses Kubernetes' libraries."""
    packages = {"crictl": f"{module.path}/cmd/crictl"}
    variables = {f"{module.path}/pkg/version.Version": module.version}
    programs = Programs(f"crictl {module.version}", kubernetes, packages, variables, guest=module)
    return Part("crictl", programs)


def coredns(module: Module) -> Part:
    """CoreDNS with the plugins of kubeadm's Corefile; all of them would take four times as long."""
    main = FILES / "coredns_main.go"
    programs = Programs(f"CoreDNS {module.version}", module, {"coredns": "."}, main=main)
    return Part("coredns", programs)


def containerd(module: Module) -> Part:
    """The container runtime, without the snapshotters that kind never uses."""
    commands = ("containerd", "ctr", "containerd-shim-runc-v2")
    packages = {name: f"{module.path}/cmd/{name}" for name in commands}
    variables = {f"{module.path}/version.Version": module.version}
    tags = ("no_aufs", "no_zfs", "no_btrfs", "no_devmapper")
    programs = Programs(f"containerd {module.version}", module, packages, variables, tags)
    return Part("containerd", programs)


def cni_plugins(module: Module) -> Part:
    """What gives a pod its interface and address."""
    kinds = {
        "host-local": "ipam",
        "loopback": "main",
        "ptp": "main",
        "bridge": "main",
        "portmap": "meta",
    }
    packages = {name: f"{module.path}/plugins/{kind}/{name}" for name, kind in kinds.items()}
    return Part("cni-plugins", Programs(f"CNI plugins {module.version}", module, packages))


def pause() -> Part:
    """The program that holds a pod's namespaces; the original needs a C compiler."""
    return Part("pause", Programs("pause", None, {"pause": "."}, main=FILES / "pause_main.go"))


def kubernetes_version(version: str) -> dict[str, str]:
    """The linker variables by which Kubernetes knows its version; kubeadm needs them."""
    major, minor, _ = version.removeprefix("v").split(".")
    values = {"gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    return {
        f"{package}.{name}": value
        for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
        for name, value in values.items()
    }
