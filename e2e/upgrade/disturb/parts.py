"""Programs and component images of another version, taken out of its node image: no registry."""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from e2e import timing
from e2e.provider.command import CommandFailedError, run
from e2e.provider.node_image import NodeImage
from e2e.upgrade.disturb.ours import Ours
from e2e.wait import wait_until

PROGRAMS = ("kubeadm", "kubelet", "kubectl")
# Of the component images those that a worker runs.
ON_WORKERS = ("kube-proxy", "coredns", "pause")
# Beside the program that runs, so that it can take its place in one step.
NEXT = "next"
# Only what it takes to read images; nothing of what a node does by itself.
CONFIGURATION = """version = 3
disabled_plugins = ["io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime",
  "io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri"]
"""
SERVE = f"echo '{CONFIGURATION}' > /tmp/only-images.toml; exec containerd -c /tmp/only-images.toml"
CTR = ("ctr", "--namespace=k8s.io", "images")


@dataclass(frozen=True)
class Parts:
    """An opened node image.

    Attributes:
        ours: to whose nodes its parts are given.
        version: of Kubernetes.
        container: in which it is open.
    """

    ours: Ours
    version: str
    container: str

    def give(self, node: str) -> None:
        """Give a node the programs, beside its own, and the images that it will run.

        Raises:
            CommandFailedError: one of both containers refuses.
        """
        place = f"tar -C /usr/bin -xf - --transform 's/$/.{NEXT}/'"
        self._pipe(
            ["tar", "-C", "/usr/bin", "-cf", "-", *PROGRAMS],
            [node, "sh", "-c", place],
        )
        images = self._images(worker=node not in self.ours.control_planes)
        # They are unpacked when they are started: not all of them will be.
        pinned = ("--no-unpack", "--digests", "--label=io.cri-containerd.pinned=pinned", "-")
        self._pipe([*CTR, "export", "-", *images], [node, *CTR, "import", *pinned])

    def _images(self, *, worker: bool) -> Sequence[str]:
        said = self.ours.engine.run(
            *("exec", self.container, "kubeadm", "config", "images", "list"),
            f"--kubernetes-version={self.version}",
        )
        names = said.split()
        return [n for n in names if not worker or n.rpartition("/")[2].startswith(ON_WORKERS)]

    def _pipe(self, give: Sequence[str], take: Sequence[str]) -> None:
        engine = self.ours.engine.command
        there = shlex.join([engine, "exec", self.container, *give])
        here = shlex.join([engine, "exec", "--interactive", *take])
        line = f"set -o pipefail; {there} | {here}"
        run(["bash", "-c", line], timeout=timing.IMAGE_IMPORT_WITHIN)


@contextmanager
def opened(ours: Ours, image: NodeImage) -> Iterator[Parts]:
    """Open a node image in a container beside the nodes, which goes with the context.

    Raises:
        CommandFailedError: the engine cannot run it.
        WaitedInVainError: what hands out its images does not start.
    """
    name = f"{ours.name}-parts-{image.version.replace('.', '-')}"
    with ours.undo.afterwards("rm", "--force", "--volumes", name):
        ours.engine.run(
            *("run", "--detach", "--privileged", "--network=none", f"--name={name}"),
            *("--entrypoint=sh", image.reference, "-c", SERVE),
        )

        def answers() -> bool:
            try:
                ours.engine.run("exec", name, *CTR, "list", "--quiet")
            except CommandFailedError:
                return False
            return True

        what = f"the images in {image.reference}"
        wait_until(answers, what=what, within=timing.ENGINE_START_WITHIN)
        yield Parts(ours, image.version, name)
