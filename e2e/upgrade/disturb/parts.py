"""Programs and component images of another version, taken out of its node image: no registry."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from e2e import timing
from e2e.provider.cache import ensure_room
from e2e.provider.command import CommandFailedError
from e2e.provider.node_image import NodeImage
from e2e.upgrade.disturb.ours import Ours
from e2e.wait import wait_until

PROGRAMS = ("kubeadm", "kubelet", "kubectl")
ON_CONTROL_PLANES, ON_WORKERS = "control-plane.tar", "worker.tar"
# Of the component images those that a worker runs.
OF_WORKERS = ("kube-proxy", "coredns", "pause")
# Beside the program that runs, so that it can take its place in one step.
NEXT = "next"
# Gigabytes of the programs, and of the images of a control plane and a worker.
ROOM = 1.0
# Only what it takes to read images; nothing of what a node does by itself.
CONFIGURATION = """version = 3
disabled_plugins = ["io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime",
  "io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri"]
"""
SERVE = f"echo '{CONFIGURATION}' > /tmp/only-images.toml; exec containerd -c /tmp/only-images.toml"
CTR = "ctr --namespace=k8s.io images"
# They are unpacked when they are started: not all of them will be.
IMPORT = f"{CTR} import --no-unpack --digests --label=io.cri-containerd.pinned=pinned"


@dataclass(frozen=True)
class Parts:
    """What was taken out of a node image.

    Attributes:
        ours: to whose nodes it is given.
        version: of Kubernetes.
        folder: where it is.
    """

    ours: Ours
    version: str
    folder: Path

    def give(self, node: str) -> None:
        """Give a node the programs, beside its own, and the images that it will run.

        Raises:
            CommandFailedError: the node does not take them.
        """
        images = ON_CONTROL_PLANES if node in self.ours.control_planes else ON_WORKERS
        # By files, not by a pipe: `exec` of Docker 20.10 loses the end of what is said quickly.
        for name in PROGRAMS:
            self._copy(self.folder / name, f"{node}:/usr/bin/{name}.{NEXT}")
        self._copy(self.folder / images, f"{node}:/kind/{images}")
        take = f"{IMPORT} /kind/{images}; rm /kind/{images}"
        self.ours.on(node, take, timeout=timing.IMAGE_IMPORT_WITHIN)

    def _copy(self, file: Path, to: str) -> None:
        self.ours.engine.run("cp", str(file), to, timeout=timing.IMAGE_IMPORT_WITHIN)


@contextmanager
def opened(ours: Ours, image: NodeImage) -> Iterator[Parts]:
    """Take everything out of a node image, into a folder that goes with the context.

    Raises:
        CannotRunError: the engine cannot run it, or there is no room.
        WaitedInVainError: what hands out its images does not start.
    """
    ours.folder.mkdir(parents=True, exist_ok=True)
    ensure_room(ours.folder, gigabytes=ROOM, what="taking a node image apart")
    with TemporaryDirectory(dir=ours.folder) as folder:
        with ours.step(f"programs and images of {image.version}, out of its node image"):
            _take_apart(ours, image, Path(folder))
        yield Parts(ours, image.version, Path(folder))


def _take_apart(ours: Ours, image: NodeImage, folder: Path) -> None:
    name = f"{ours.name}-parts-{image.version.replace('.', '-')}"
    engine = ours.engine
    with ours.undo.afterwards("rm", "--force", "--volumes", name):
        engine.run(
            *("run", "--detach", "--privileged", "--network=none", f"--name={name}"),
            *("--entrypoint=sh", image.reference, "-c", SERVE),
        )

        def answers() -> bool:
            try:
                ours.on(name, f"{CTR} list --quiet")
            except CommandFailedError:
                return False
            return True

        what = f"the images in {image.reference}"
        wait_until(answers, what=what, within=timing.ENGINE_START_WITHIN)
        listed = ours.on(name, f"kubeadm config images list --kubernetes-version={image.version}")
        of_workers = [n for n in listed.split() if n.rpartition("/")[2].startswith(OF_WORKERS)]
        for file, names in ((ON_CONTROL_PLANES, listed.split()), (ON_WORKERS, of_workers)):
            _take_images(ours, name, names, folder / file)
        for program in PROGRAMS:
            _take(ours, name, f"/usr/bin/{program}", folder / program)


def _take_images(ours: Ours, container: str, names: Iterable[str], file: Path) -> None:
    there = f"/{file.name}"
    export = f"{CTR} export {there} {' '.join(names)}"
    ours.on(container, export, timeout=timing.IMAGE_IMPORT_WITHIN)
    _take(ours, container, there, file)


def _take(ours: Ours, container: str, there: str, file: Path) -> None:
    ours.engine.run("cp", f"{container}:{there}", str(file), timeout=timing.IMAGE_IMPORT_WITHIN)
