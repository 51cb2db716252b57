"""Finds what runs left behind that can no longer clean up, and removes that and nothing else."""

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from e2e.cluster import namespace
from e2e.cluster.api import Api
from e2e.cluster.caller import LABEL
from e2e.provider.engine import Engine

PREFIX = "nodeport-e2e-"
ALIVE = "alive"


def folder_of(run: str) -> Path:
    """The folder that all processes of a run share."""
    return Path(tempfile.gettempdir()) / f"{PREFIX}{run}"


@contextmanager
def alive(run: str) -> Iterator[Path]:
    """Be seen as alive by other runs on this machine, and remove the run's folder at the end."""
    folder = folder_of(run)
    folder.mkdir(exist_ok=True)
    with (folder / ALIVE).open("w") as file:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def is_alive(run: str) -> bool:
    """Whether a process of this machine still holds the run."""
    try:
        with (folder_of(run) / ALIVE).open() as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def remove_folders() -> list[str]:
    """Remove the folders of runs that are no longer alive; returns their ids."""
    # A folder without this file is none of a run, whatever it is called.
    files = folder_of("").parent.glob(f"{PREFIX}*/{ALIVE}")
    runs = [file.parent.name.removeprefix(PREFIX) for file in files]
    dead = [run for run in runs if not is_alive(run)]
    for run in dead:
        shutil.rmtree(folder_of(run), ignore_errors=True)
    return dead


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


def remove_namespaces(api: Api, host: str) -> tuple[list[str], list[str]]:
    """Remove the namespaces of this machine's dead runs; returns what went, and what is not ours.

    A run of another machine cannot be asked whether it is alive, so its namespaces stay.
    """
    gone, foreign = [], []
    for run, names in namespace.runs(api).items():
        if not run.startswith(f"{host}-"):
            foreign += names
        elif not is_alive(run):
            namespace.remove(api, names, wait=False)
            gone += names
    return gone, foreign
