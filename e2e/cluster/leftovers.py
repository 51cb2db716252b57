"""Finds what runs left behind that can no longer clean up, and removes that and nothing else."""

import fcntl
import hashlib
import os
import re
import secrets
import shutil
import socket
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from e2e.cluster import namespace, node
from e2e.cluster.api import Api, ApiRefusedError
from e2e.cluster.caller import LABEL
from e2e.cluster.undo import is_left, undo_left
from e2e.errors import CannotRunError
from e2e.provider.cache import cache_folder
from e2e.provider.engine import Engine
from e2e.provider.interrupts import shielded

ALIVE = "alive"
# The framework of Kubernetes' own specs puts it on every namespace that it makes.
LABEL_OF_SPECS = "e2e-run"
MACHINE_IDS = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))
MACHINE_ID = re.compile("[0-9a-f]{32}")
RUN = re.compile(r"[0-9a-f]{8}-(\d+)-[0-9a-f]{6}")


def new_run() -> str:
    """An id that no other run has; it begins with the machine and process it belongs to."""
    return f"{host()}-{os.getpid()}-{secrets.token_hex(3)}"


def host() -> str:
    """What stands for this machine at the beginning of its runs' ids; host names alone repeat.

    A container without an id of its own is as many machines as it has caches. Pods in a node's own
    network have its name, and know of none but their own processes.
    """
    if pod := os.environ.get("E2E_POD"):
        return hashlib.sha256(pod.encode()).hexdigest()[:8]
    ids = (file.read_text() for file in MACHINE_IDS if file.exists())
    known = next((each for each in ids if MACHINE_ID.fullmatch(each.strip())), None) or _own_id()
    return hashlib.sha256(f"{known}\n{socket.gethostname()}".encode()).hexdigest()[:8]


def _own_id() -> str:
    file = cache_folder() / "machine-id"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_suffix(f".{os.getpid()}")
        draft.write_text(secrets.token_hex(16))
        with suppress(FileExistsError):
            file.hardlink_to(draft)
        draft.unlink()
    return file.read_text()


def folder_of(run: str) -> Path:
    """The folder that all processes of a run share."""
    return _folders() / run


def _folders() -> Path:
    return cache_folder() / "runs"


@contextmanager
def alive(run: str) -> Iterator[Path]:
    """Be seen as alive by other runs on this machine, and remove the run's folder at the end.

    Notes of what was changed on nodes, and could not be changed back, stay there.
    """
    folder = folder_of(run)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ALIVE).open("w") as file:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            if is_left(folder):
                for each in folder.iterdir():
                    if each.is_file() and each.name != ALIVE:
                        each.unlink()  # a kubeconfig is among them
            else:
                shutil.rmtree(folder, ignore_errors=True)


def is_alive(run: str) -> bool:
    """Whether a process of this machine still holds the run.

    A run with another E2E_CACHE has its folder elsewhere, so one without a folder is dead only
    when its process is gone as well.
    """
    try:
        with (folder_of(run) / ALIVE).open() as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return _runs_here(run)
    except BlockingIOError:
        return True
    return False


def _runs_here(run: str) -> bool:
    made_of = RUN.fullmatch(run)
    if made_of is None:
        return False
    try:
        os.kill(int(made_of[1]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def undo_on_nodes(engine: Engine) -> int:
    """Change back what runs that are no longer alive had changed on nodes; returns how much."""
    return sum(undo_left(engine, folder_of(run)) for run in _dead_runs())


def remove_folders(engine: Engine | None = None) -> list[str]:
    """Remove the folders of runs that are no longer alive; returns their ids.

    What such a run had changed on nodes that are containers of the engine is changed back before;
    without an engine folders that say how stay.
    """
    gone = []
    for run in _dead_runs():
        folder = folder_of(run)
        if engine:
            undo_left(engine, folder)
        elif is_left(folder):
            continue
        shutil.rmtree(folder, ignore_errors=True)
        gone.append(run)
    return gone


def _dead_runs() -> list[str]:
    # A folder without this file is none of a run, whatever it is called.
    runs = [file.parent.name for file in _folders().glob(f"*/{ALIVE}")]
    return [run for run in runs if not is_alive(run)]


def remove_callers(engine: Engine, *, run: str | None = None) -> list[str]:
    """Remove the callers of one run, or of all runs that are no longer alive; returns their ids."""
    listed = engine.run("ps", "-a", "--filter", f"label={LABEL}", "--format",
                        f'{{{{.ID}}}} {{{{.Label "{LABEL}"}}}}')  # fmt: skip
    removed = []
    for line in listed.splitlines():
        container, _, owner = line.partition(" ")
        if owner and (owner == run or (run is None and not is_alive(owner))):
            engine.run("rm", "--force", "--volumes", container)
            removed.append(container)
    return removed


@dataclass(frozen=True, order=True)
class Left:
    """Something in a cluster that a run left there.

    Attributes:
        kind: Namespace, or Node for the mark that no new pods go there.
        name: of the object.
        run: whose it is.
        kept: whether it was to outlive its run.
        stays: why it is not removed, if it is not.
    """

    kind: str
    name: str
    run: str
    kept: bool = False
    stays: str = ""

    def __str__(self) -> str:
        what = "the mark on the node" if self.kind == "Node" else "namespace"
        kept = ", prepared for an upgrade" if self.kept else ""
        why = f": {self.stays}" if self.stays else ""
        return f"{what} {self.name} of the run {self.run}{kept}{why}"


@contextmanager
def without_specs(api: Api) -> Iterator[None]:
    """Remove the namespaces of Kubernetes' own specs that were stopped while the context lasted.

    Otherwise they remove what they made themselves.
    """
    before = _of_specs(api)
    try:
        yield
    except BaseException:
        with shielded(print):
            for name in _of_specs(api) - before:
                api.delete("Namespace", name)
        raise


def _of_specs(api: Api) -> set[str]:
    found = [each["metadata"] for each in api.find_all("Namespace")]
    return {each["name"] for each in found if LABEL_OF_SPECS in each.get("labels", {})}


def in_cluster(api: Api, *, kept: bool = False, alone: bool = False) -> list[Left]:
    """What runs left in a cluster, found by the labels and annotations of their owners.

    A run of another machine cannot be asked whether it is alive. It is not while this machine has
    the cluster `alone`, by the lease in it. What a pod of a Job made is of the run that made the
    Job: pods end and cannot be asked.

    Args:
        api: the cluster.
        kept: also what was prepared for an upgrade, if it was by this machine.
        alone: whether this machine has the lease.
    """
    found = [Left("Node", name, run) for run, names in node.cordoned(api).items() for name in names]
    namespaces = api.find_all("Namespace")
    for each in namespaces:
        labels = each["metadata"].get("labels") or {}
        if run := labels.get(namespace.PART_OF) or labels.get(namespace.RUN_LABEL):
            name, is_kept = each["metadata"]["name"], namespace.KEPT_LABEL in labels
            found.append(Left("Namespace", name, run, is_kept))
    there = {each["metadata"]["name"] for each in namespaces}
    return sorted(replace(each, stays=_why_it_stays(each, kept, alone, there)) for each in found)


def _why_it_stays(left: Left, kept: bool, alone: bool, there: Collection[str]) -> str:
    if left.run in there:
        return f"the Job in {left.run} may use it, until kubectl delete -f manifests/job"
    if not left.run.startswith(f"{host()}-"):
        if left.kept:
            return "by another machine; it is removed by prepare --remove, with its folder"
        return "" if alone else "it is of another machine, and may be in use"
    if is_alive(left.run):
        return "it is in use"
    return "it is kept" if left.kept and not kept else ""


def remove_in_cluster(api: Api, left: Iterable[Left]) -> list[Left]:
    """Remove what does not stay; returns that. The cluster goes on with it by itself.

    Raises:
        ApiRefusedError: some of it may not be removed; the others were.
    """
    refused: ApiRefusedError | None = None
    gone = [each for each in left if not each.stays]
    for each in gone:
        try:
            if each.kind == "Node":
                node.uncordon(api, each.name)
            else:
                namespace.remove(api, [each.name], wait=False)
        except ApiRefusedError as error:
            refused = error
    if refused:
        raise refused
    return gone


def demand_no_job(left: Iterable[Left]) -> None:
    """Go on only if no Job is left that a run of another machine made.

    Raises:
        CannotRunError: its pods may still ask, though nobody waits for them.
    """
    jobs = [each for each in left if each.name.startswith(namespace.OF_JOB) and each.stays]
    if others := [each.name for each in jobs if not each.run.startswith(f"{host()}-")]:
        raise CannotRunError(
            f"pods of {', '.join(others)} may still ask this cluster, and the run of another "
            "machine that made them is over",
            "remove them: nodeport-e2e clean --kube-context=...",
        )
