"""A run that is stopped or killed, at whichever moment, leaves nothing in a cluster that exists."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e.selftest.programs import CHECKOUT, environment, only_path, put
from e2e.selftest.storing_server import CONTEXT, StoringServer, storing_server
from e2e.wait import wait_until

# By what the API server is asked for at that moment.
PHASES: dict[str, Callable[[str, str], bool]] = {
    "who it is": lambda method, path: path == "/api/v1/namespaces/kube-system",
    "the lease": lambda method, path: method == "POST" and path.endswith("/leases"),
    "the nodes": lambda method, path: path == "/api/v1/nodes",
    "its namespace": lambda method, path: method == "POST" and path == "/api/v1/namespaces",
    "a clause": lambda method, path: method == "POST" and path.endswith("/services"),
    "the end": lambda method, path: method == "DELETE" and path.startswith("/api/v1/namespaces/n"),
}
# On a machine that is busy with other things.
LONG = 180
SIGNALS = {"INT": signal.SIGINT, "TERM": signal.SIGTERM, "KILL": signal.SIGKILL}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StoringServer]:
    with storing_server(tmp_path / "api") as running:
        yield running


@pytest.fixture
def reached(server: StoringServer) -> Callable[[str], tuple[threading.Event, threading.Event]]:
    """Hold back the first request of a phase; gives when it came, and what lets it go on."""

    def hold(phase: str) -> tuple[threading.Event, threading.Event]:
        came, may_go_on = threading.Event(), threading.Event()

        def before(method: str, path: str) -> None:
            if PHASES[phase](method, path) and not came.is_set():
                came.set()
                may_go_on.wait(LONG)

        server.before = before
        return came, may_go_on

    return hold


def start(
    server: StoringServer,
    tmp_path: Path,
    processes: int = 0,
    only: str = "objects.rehearsed",
    **more: str,
) -> "subprocess.Popen[str]":
    folder = only_path(tmp_path / "bin")
    put(folder, "docker", "#!/bin/sh\nexit 1\n")
    variables = environment(tmp_path, folder) | {"E2E_ALLOW_CONTEXT": CONTEXT} | more
    argv = [sys.executable, "-m", "e2e.cli", "run", "--provider=existing"]
    argv += [f"--kubeconfig={server.kubeconfig}", f"--kube-context={CONTEXT}"]
    argv += [f"--only={only}", f"--processes={processes}"]
    return subprocess.Popen(
        argv,
        cwd=CHECKOUT,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def left(server: StoringServer, tmp_path: Path) -> list[str]:
    """Namespaces of a run, Leases, and folders with keys."""
    stored = [
        n for n in server.of("namespaces") if n["metadata"]["name"].startswith("nodeport-e2e")
    ]
    folders = (tmp_path / "cache" / "runs").glob("*/kubeconfig")
    return [*(str(item) for item in [*stored, *server.of("leases")]), *map(str, folders)]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells pytest that it is orphaned")
@pytest.mark.parametrize(
    ("phase", "name", "processes"),
    [*((phase, name, 0) for phase in PHASES for name in SIGNALS),
     ("a clause", "INT", 1), ("a clause", "KILL", 1)],
)  # fmt: skip
def test_nothing_is_left(server, reached, tmp_path, phase, name, processes):
    """It ends with 2, or as it was killed; whoever is left removes what was made."""
    came, may_go_on = reached(phase)
    process = start(server, tmp_path, processes)
    try:
        assert came.wait(LONG), f"it never asked for {phase}"
        os.kill(process.pid, SIGNALS[name])
        if name == "KILL":
            # Only then has pytest been told, and not in the middle of what it says of the clause.
            process.wait(LONG)
        may_go_on.set()
        said, _ = process.communicate(timeout=LONG)
    finally:
        may_go_on.set()
        process.kill()
    assert process.returncode == (-9 if name == "KILL" else 2), said
    assert "Traceback" not in said, said
    wait_until(
        lambda: not left(server, tmp_path), what="an end without traces", within=LONG,
        seen=lambda: f"{left(server, tmp_path)}, and {said}",
    )  # fmt: skip


def test_two_runs_into_one_folder(server, reached, tmp_path):
    """The second one ends with 2 and says why; what the first one writes is its own."""
    came, may_go_on = reached("a clause")
    first = start(server, tmp_path)
    try:
        assert came.wait(LONG)
        (tmp_path / "bin").rename(tmp_path / "bin-of-first")
        second = start(server, tmp_path)
        said, _ = second.communicate(timeout=LONG)
        assert second.returncode == 2, said
        assert f"another run writes its results to {tmp_path / 'out'}" in said
        assert "E2E_OUT" in said
    finally:
        may_go_on.set()
        said, _ = first.communicate(timeout=LONG)
        first.kill()
    assert (tmp_path / "out" / "junit.xml").exists(), said
    assert not left(server, tmp_path)


def test_a_node_that_is_not_ready_ends_it_before_processes_begin(server, tmp_path):
    """Each of them would say so."""
    (worker,) = (n for n in server.of("nodes") if n["metadata"]["name"] == "worker")
    worker["status"]["conditions"] = [{"type": "Ready", "status": "Unknown"}]

    process = start(server, tmp_path, processes=2)
    said, _ = process.communicate(timeout=LONG)

    assert process.returncode == 2, said
    assert said.count("nodes that are not Ready: worker") == 1, said
    assert "workers" not in said, said
    assert "stopped by you" not in said
    assert not left(server, tmp_path)


def test_more_nodes_than_pods_allow_for_end_it_before_anything_is_made(server, tmp_path):
    """Half of the echoes would be there, and clause after clause would fail."""
    process = start(server, tmp_path, 2, "reach.control-plane", E2E_MAX_PODS="20")
    said, _ = process.communicate(timeout=LONG)

    assert process.returncode == 2, said
    assert said.count("on 2 nodes the clauses want 21 pods at once") == 1, said
    assert "--max-pods=21 (E2E_MAX_PODS)" in said
    assert not left(server, tmp_path)
    assert not any(method == "POST" and "leases" not in path for method, path in server.requests), (
        server.requests
    )


def test_two_runs_of_one_machine_share_the_cluster(server, reached, tmp_path):
    """With folders of their own both come to their end, and the last one leaves nothing."""
    came, may_go_on = reached("a clause")
    first = start(server, tmp_path)
    try:
        assert came.wait(LONG)
        (tmp_path / "bin").rename(tmp_path / "bin-of-first")
        second_folder = tmp_path / "second"
        second_folder.mkdir()
        second = start(server, second_folder_of(tmp_path, second_folder))
        said, _ = second.communicate(timeout=LONG)
        assert "another run" not in said
        assert (second_folder / "out" / "junit.xml").exists(), said
        assert server.of("leases"), "the first one still has the cluster"
    finally:
        may_go_on.set()
        first.communicate(timeout=LONG)
        first.kill()
    assert not left(server, tmp_path)


def second_folder_of(first: Path, folder: Path) -> Path:
    """A folder with an `out` of its own, and the cache of the first."""
    (first / "cache").mkdir(exist_ok=True)
    (folder / "cache").symlink_to(first / "cache")
    return folder
