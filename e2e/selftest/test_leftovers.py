"""What interrupted runs leave: told from what is in use, removed, and nothing else with it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from e2e.cluster import leftovers
from e2e.cluster.leftovers import (
    Left,
    alive,
    demand_no_job,
    folder_of,
    host,
    is_alive,
    new_run,
    remove_callers,
    remove_folders,
)
from e2e.cluster.undo import Undo
from e2e.errors import CannotRunError
from e2e.fixtures import cluster
from e2e.provider.engine import Engine
from e2e.selftest.programs import CHECKOUT, only_path, put

# A run that tells when it lives, has a child of its own, and lives until it is told to end.
RUN = """
import subprocess, sys
from e2e.cluster.leftovers import alive

with alive(sys.argv[1]):
    child = subprocess.Popen(["sleep", "600"])
    print(child.pid, flush=True)
    sys.stdin.read()
    child.kill()
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of this process and of those that it starts."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("E2E_CACHE", str(folder))
    return folder


@contextmanager
def another_process(run: str) -> Iterator["subprocess.Popen[str]"]:
    """Have a run in another process, which lives when the context begins."""
    with subprocess.Popen(
        [sys.executable, "-c", RUN, run],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        child = int(process.stdout.readline())
        try:
            yield process
        finally:
            process.kill()
            os.kill(child, signal.SIGKILL)


def test_containers_without_an_id_are_machines_of_their_own(tmp_path, monkeypatch):
    """As they may have one name, and know nothing of each other's processes."""
    empty = tmp_path / "machine-id"
    empty.write_text("")
    monkeypatch.setattr(leftovers, "MACHINE_IDS", (empty, tmp_path / "none"))
    one = host()
    assert host() == one
    monkeypatch.setenv("E2E_CACHE", str(tmp_path / "other"))

    assert host() != one


def test_a_job_of_another_machine_is_waited_for_by_nobody():
    """Its run is dead, as this one has the lease, and its pods may go on for two hours."""
    mine = Left("Namespace", f"nodeport-e2e-job-{host()}-1-abcdef", f"{host()}-1-abcdef", stays="x")
    theirs = Left("Namespace", "nodeport-e2e-job-1-1-abcdef", "00000000-1-abcdef", stays="x")
    demand_no_job([mine, replace(theirs, stays="")])

    with pytest.raises(CannotRunError, match="nodeport-e2e-job-1-1-abcdef may still ask"):
        demand_no_job([mine, theirs])


def test_what_could_not_be_changed_back_stays_noted_without_an_engine():
    """And nothing else of the run does; a later one with an engine changes it back."""
    run = f"{host()}-{2**22 + 1}-abcdef"
    with alive(run) as folder:
        (folder / "kubeconfig").write_text("secret")
        Undo(None, folder).note("worker", "pkill -CONT kube-proxy")

    assert remove_folders() == []
    assert {each.name for each in folder.iterdir()} == {"alive", "undo"}
    engine = Engines()
    assert remove_folders(engine) == [run]
    assert engine.ran == [("exec", "worker", "pkill", "-CONT", "kube-proxy")]
    assert not folder.exists()


class Engines:
    """An engine that notes what it is asked to run."""

    def __init__(self):
        self.ran = []

    def run(self, *argv):
        self.ran.append(argv)


def test_a_run_is_alive_as_long_as_it_lasts():
    """A run is alive from its beginning to its end, and its folder goes with it."""
    assert not is_alive("vm-1")

    with alive("vm-1") as folder:
        assert is_alive("vm-1")
        (folder / "home.json").write_text("{}")

    assert not is_alive("vm-1")
    assert not folder.exists()


def test_a_run_ends_with_an_error_too():
    """A run that breaks leaves no folder."""
    with pytest.raises(KeyboardInterrupt), alive("vm-1") as folder:
        raise KeyboardInterrupt

    assert not folder.exists()


def test_a_run_of_another_process_is_alive_until_it_is_killed():
    """After kill -9 a run is dead though its folder is left, and even if a child of it lives on."""
    with another_process("vm-2") as process:
        assert is_alive("vm-2")
        process.send_signal(signal.SIGSTOP)
        assert is_alive("vm-2"), "a process that is stopped may go on"

        process.kill()
        process.wait()

        assert folder_of("vm-2").exists()
        assert not is_alive("vm-2")


def test_asking_whether_a_run_is_alive_does_not_make_it_so():
    """A dead run stays dead however often one asks, and a living one is not disturbed."""
    folder_of("vm-3").mkdir(parents=True)
    (folder_of("vm-3") / "alive").touch()

    assert [is_alive("vm-3") for _ in range(3)] == [False] * 3
    with alive("vm-3"):
        assert [is_alive("vm-3") for _ in range(3)] == [True] * 3


def test_only_the_folders_of_dead_runs_are_removed(cache):
    """What a killed run left goes; living runs and other people's things stay."""
    with another_process("vm-dead") as killed, another_process("vm-alive"), alive("vm-mine"):
        (folder_of("vm-dead") / "evidence").mkdir()
        killed.kill()
        killed.wait()
        (cache / "runs" / "else").mkdir()
        (cache / "ports").mkdir()

        assert remove_folders() == ["vm-dead"]

        assert {path.name for path in (cache / "runs").iterdir()} == {"else", "vm-alive", "vm-mine"}
        assert (cache / "ports").exists()
        assert remove_folders() == []


def test_a_run_with_a_cache_of_its_own_lives_as_long_as_its_process():
    """A run whose folder is elsewhere is not dead while its process lives, and is afterwards."""
    with subprocess.Popen(["sleep", "60"]) as process:
        run = f"{host()}-{process.pid}-abcdef"
        assert is_alive(run)
        process.kill()
        process.wait()
        assert not is_alive(run)


def test_the_id_of_a_run_begins_with_its_machine_and_process():
    """No two ids are equal, and each says where it belongs."""
    assert new_run().startswith(f"{host()}-{os.getpid()}-")
    assert new_run() != new_run()
    assert len(f"nodeport-e2e-{new_run()}") < 60, "it is the name of a namespace"


# Containers are files, named by their id; each holds the value of our label, if it has one.
DOCKER = """\
#!/bin/sh
cd "$(dirname "$0")/../containers" || exit 1
case "$*" in
  "ps -a --filter label=nodeport-e2e/run --format {{.ID}} {{.Label \\"nodeport-e2e/run\\"}}")
    for id in *; do if [ -s "$id" ]; then echo "$id $(cat "$id")"; fi; done ;;
  "rm --force --volumes "*) rm "$4" ;;
  *) echo "what is $*?" >&2; exit 1 ;;
esac
"""


@pytest.fixture
def containers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Callers of two dead runs and of a living one, and two containers of somebody else."""
    put(only_path(tmp_path / "bin"), "docker", DOCKER)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    folder = tmp_path / "containers"
    folder.mkdir()
    for name, run in {"a1": "vm-dead", "a2": "vm-dead", "b1": "vm-alive", "c1": "vm-3"}.items():
        (folder / name).write_text(f"{run}\n")
    (folder / "d1").touch()
    (folder / "e1").write_text("\n")
    return folder


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_callers_of_dead_runs_are_removed(containers):
    """Callers whose run is no longer alive are removed, of however many runs; no others are."""
    with alive("vm-alive"):
        removed = remove_callers(Engine("docker", ""))

    assert sorted(removed) == ["a1", "a2", "c1"]
    assert left(containers) == ["b1", "d1", "e1"]


def test_a_run_removes_its_own_callers_and_no_others(containers):
    """At its end a run removes its own callers, though it still lives, and leaves other runs'."""
    with alive("vm-alive"):
        removed = remove_callers(Engine("docker", ""), run="vm-alive")

    assert removed == ["b1"]
    assert left(containers) == ["a1", "a2", "c1", "d1", "e1"]


def test_an_engine_that_is_too_busy_to_say_so_is_there(containers, monkeypatch):
    """What a run made beside a cluster goes by the engine that made it."""
    monkeypatch.setattr(cluster, "find_engine", lambda: None)
    with alive("vm-alive"):
        cluster._remove_callers(SimpleNamespace(run="vm-alive"), {"engine": "docker"})
        cluster._remove_callers(SimpleNamespace(run="vm-alive"), {"engine": ""})

    assert left(containers) == ["a1", "a2", "c1", "d1", "e1"]


def test_no_callers_are_no_problem(containers):
    """Where no container carries our label nothing is removed."""
    for name in ("a1", "a2", "b1", "c1"):
        (containers / name).unlink()

    assert remove_callers(Engine("docker", "")) == []
    assert left(containers) == ["d1", "e1"]
