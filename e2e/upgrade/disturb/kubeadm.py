"""Upgrades a cluster of ours in place with kubeadm, node by node, as its documentation says."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from e2e import timing
from e2e.errors import UsageError
from e2e.provider.node_image import SUPPORTED, NodeImage
from e2e.upgrade import said
from e2e.upgrade.disturb import facts
from e2e.upgrade.disturb.nodes import await_settled, drained, restart_kubelet
from e2e.upgrade.disturb.ours import Ours
from e2e.upgrade.disturb.parts import NEXT, Parts, opened

VERSION = re.compile(r"v(\d+)\.(\d+)\.(\d+)")
# What kubeadm says when it goes on to another component.
COMPONENT = re.compile(r'Preparing for "([\w-]+)" upgrade|Applied essential addon: ([\w-]+)')
# The only thing that its preflight checks have against nodes that are containers on cgroup v1.
IGNORED = """
ignored=; test -f /sys/fs/cgroup/cgroup.controllers ||
  ignored=--ignore-preflight-errors=SystemVerification
"""
TAKE = f"mv /usr/bin/{{name}}.{NEXT} /usr/bin/{{name}}"
# What `kubeadm upgrade node` writes anew, and the program: all that makes a kubelet.
KUBELET = "/usr/bin/kubelet /var/lib/kubelet/config.yaml /var/lib/kubelet/kubeadm-flags.env"
KEEP = f"tar -cPf /var/lib/kubelet.before.tar {KUBELET}"
BACK = "tar -xPf /var/lib/kubelet.before.tar"


@dataclass(frozen=True)
class Wishes:
    """How the upgrade is done.

    Attributes:
        drain: whether each node is drained before its kubelet is restarted.
        roll_back: whether the last worker gets its kubelet of before back at the end.
        control_plane_only: whether kubelets and kube-proxy are left behind.
    """

    drain: bool = False
    roll_back: bool = False
    control_plane_only: bool = False


def way(before: str, to: str) -> list[str]:
    """The versions to go by, one after another: kubeadm goes up by one minor version at most.

    Raises:
        UsageError: `to` is no version above `before`, or none is known between them.
    """
    old, new = _numbers(before), _numbers(to)
    if new <= old or new[0] != old[0]:
        raise UsageError(
            f"{to} is not above {before}", "kubeadm only upgrades: name a newer version"
        )
    return [*(newest(new[0], minor) for minor in range(old[1] + 1, new[1])), to]


def below(version: str) -> str:
    """The newest version that is known of the minor version before this one.

    Raises:
        UsageError: none is.
    """
    major, minor, _ = _numbers(version)
    return newest(major, minor - 1)


def newest(major: int, minor: int) -> str:
    """The newest version that is known of a minor version.

    Raises:
        UsageError: none is.
    """
    known = [each for each in SUPPORTED if _numbers(each)[:2] == (major, minor)]
    if not known:
        raise UsageError(
            f"no version of Kubernetes v{major}.{minor} is known here, which has to come before",
            f"known are {', '.join(SUPPORTED)}",
        )
    return max(known, key=_numbers)


def _numbers(version: str) -> tuple[int, ...]:
    found = VERSION.fullmatch(version)
    if not found:
        raise UsageError(f"{version!r} is no version of Kubernetes", "name one such as v1.37.2")
    return tuple(map(int, found.groups()))


def upgrade(ours: Ours, images: Sequence[NodeImage], wishes: Wishes) -> None:
    """Upgrade by the versions of these node images, one after another.

    Raises:
        CannotRunError: a step failed.
        WaitedInVainError: what a step waits for did not come true.
    """
    for image in images:
        with opened(ours, image) as parts:
            Upgrade(ours, parts, wishes).run()
    if wishes.roll_back:
        roll_back(ours, ours.workers[-1], wishes)


@dataclass(frozen=True)
class Upgrade:
    """The upgrade to one version."""

    ours: Ours
    parts: Parts
    wishes: Wishes

    def run(self) -> None:
        """Do it: the control planes, then the workers."""
        ours = self.ours
        for each in ours.nodes:
            with ours.step(f"is given what {self.parts.version} consists of", each.name):
                self.parts.give(each.name)
        first, *others = ours.control_planes
        skipped = "--skip-phases=addon/kube-proxy" if self.wishes.control_plane_only else ""
        proxies = {pod["metadata"]["uid"] for pod in facts.proxies(ours.api)}
        self._kubeadm(first, f"apply {self.parts.version} --yes {skipped}")
        for node in others:
            self._kubeadm(node, "node")
        if not self.wishes.control_plane_only:
            with ours.step("wait for the new kube-proxy everywhere"):
                missing = partial(facts.of_proxies, ours.api, proxies)
                facts.await_fact(missing, what="another kube-proxy on every node")
        await_settled(ours)
        if self.wishes.control_plane_only:
            return
        for name in (first, *others):
            self._kubelet(name)
        for name in ours.workers:
            self._kubelet(name, worker=True)

    def _kubeadm(self, node: str, words: str) -> None:
        with self.ours.step(f"kubeadm upgrade {words.strip()}", node) as step:

            def on_line(line: str) -> None:
                if found := COMPONENT.search(line):
                    component = found[1] or found[2]
                    step.progress(component)
                    said.say(f"kubeadm upgrades {component}", node)

            take = "; ".join(TAKE.format(name=name) for name in ("kubeadm", "kubectl"))
            script = f"{IGNORED}{take}; kubeadm upgrade {words} $ignored"
            self.ours.stream_on(node, script, on_line, timeout=timing.KUBEADM_WITHIN)
            facts.await_api(self.ours.api)

    def _kubelet(self, node: str, *, worker: bool = False) -> None:
        """Take a node out of service if asked to, and let its new kubelet run."""
        with drained(self.ours, node, self.wishes.drain):
            if worker:
                self.ours.on(node, KEEP)
                self._kubeadm(node, "node")
            restart_kubelet(self.ours, node, TAKE.format(name="kubelet"))
        await_settled(self.ours)


def roll_back(ours: Ours, node: str, wishes: Wishes) -> None:
    """Give a worker the kubelet back that it had before, with its configuration.

    Raises:
        WaitedInVainError: it does not come up.
    """
    with drained(ours, node, wishes.drain):
        restart_kubelet(ours, node, BACK, what="its kubelet of before takes over")
    await_settled(ours)
