"""`nodeport-e2e clean` in a cluster that exists: lists first, and removes what dead runs left."""

import fcntl
import json
import os
import re
from pathlib import Path

import pytest

from e2e.cluster import leftovers, namespace
from e2e.cluster.lease import NAME, NAMESPACE
from e2e.cluster.node import CORDONED_BY
from e2e.provider import kind
from e2e.selftest.programs import environment, only_path, put, python
from e2e.selftest.storing_server import CONTEXT, UID, StoringServer, storing_server

ELSEWHERE = "deadbeef-17-abcdef"


@pytest.fixture
def server(tmp_path):
    with storing_server(tmp_path / "api") as running:
        yield running


@pytest.fixture
def variables(tmp_path, monkeypatch) -> dict[str, str]:
    folder = only_path(tmp_path / "bin")
    put(folder, "docker", "#!/bin/sh\nexit 1\n")
    monkeypatch.setenv("E2E_CACHE", str(tmp_path / "cache"))
    return environment(tmp_path, folder) | {"E2E_ALLOW_CONTEXT": CONTEXT}


def dead() -> str:
    return f"{leftovers.host()}-999999999-abcdef"


def add(server: StoringServer, name: str, run: str | None = None, *, kept: bool = False) -> None:
    labels = {namespace.RUN_LABEL: run} if run else {}
    labels |= {namespace.KEPT_LABEL: "yes"} if kept else {}
    server.put("/api/v1", "namespaces", {"metadata": {"name": name, "labels": labels}})


def there(server: StoringServer) -> set[str]:
    return {item["metadata"]["name"] for item in server.of("namespaces")} - {"kube-system"}


def clean(server: StoringServer, variables: dict[str, str], *more: str):
    where = [f"--kubeconfig={server.kubeconfig}", f"--kube-context={CONTEXT}"]
    return python("e2e.cli", "clean", *where, *more, env=variables)


@pytest.fixture
def left(server, variables, tmp_path):
    """What is left by whom: dead and living runs, of this machine and another, and of users."""
    add(server, "nodeport-e2e-dead", dead())
    add(server, "nodeport-e2e-kept", dead(), kept=True)
    add(server, "nodeport-e2e-elsewhere", ELSEWHERE)
    add(server, "nodeport-e2e-kept-elsewhere", ELSEWHERE, kept=True)
    add(server, "nodeport-e2e-looks-like-ours")
    add(server, "payments")
    cordoned = server.objects["/api/v1", "nodes", "", "worker"]
    cordoned["metadata"]["annotations"] = {CORDONED_BY: dead()}
    cordoned["spec"]["unschedulable"] = True
    return server


STAYS = {"nodeport-e2e-kept-elsewhere", "nodeport-e2e-looks-like-ours", "payments"}
GOES = {"nodeport-e2e-dead", "nodeport-e2e-kept", "nodeport-e2e-elsewhere"}


def test_without_a_yes_it_only_lists(left, variables):
    """What would go and what stays is told by kind, name and run; nothing is touched."""
    ended = clean(left, variables)

    assert ended.returncode == 0, ended.stderr
    for name in GOES:
        assert re.search(rf"would be removed: namespace {name} of the run \S+", ended.stdout)
    assert "would be removed: the mark on the node worker" in ended.stdout
    assert "stays: namespace nodeport-e2e-kept-elsewhere" in ended.stdout
    assert "prepare --remove" in ended.stdout
    assert "payments" not in ended.stdout
    assert "nothing of it was removed; it is with --yes" in ended.stdout
    assert there(left) == GOES | STAYS
    assert {method for method, path in left.requests if "leases" not in path} == {"GET"}


def test_with_a_yes_it_removes_just_that(left, variables):
    ended = clean(left, variables, "--yes")

    assert ended.returncode == 0, ended.stderr
    assert "removed 4" in ended.stderr + ended.stdout
    assert there(left) == STAYS
    worker = left.objects["/api/v1", "nodes", "", "worker"]
    assert not worker["spec"].get("unschedulable")
    assert CORDONED_BY not in worker["metadata"]["annotations"]
    assert left.of("leases") == []


def test_a_run_that_lives_keeps_what_is_its(server, variables, tmp_path):
    """Of this machine it is asked; of another one it would hold the cluster's lease."""
    with leftovers.alive(leftovers.new_run()) as folder:
        add(server, "nodeport-e2e-alive", folder.name)
        ended = clean(server, variables, "--yes")

    assert "stays: namespace nodeport-e2e-alive" in ended.stdout
    assert "it is in use" in ended.stdout
    assert there(server) == {"nodeport-e2e-alive"}


def test_a_run_of_another_machine_that_lives_ends_it(server, variables):
    """While another machine has the cluster nothing of it is taken for left."""
    add(server, "nodeport-e2e-elsewhere", ELSEWHERE)
    renewed = iter(range(1000))

    def renew(method, path):
        if method == "GET" and path.endswith(f"/leases/{NAME}"):
            spec = {"holderIdentity": "other", "renewTime": f"t{next(renewed)}"}
            where = {"name": NAME, "namespace": NAMESPACE}
            item = {"metadata": where, "spec": {**spec, "leaseDurationSeconds": 30}}
            server.put("/apis/coordination.k8s.io/v1", "leases", item)

    server.before = renew

    ended = clean(server, variables, "--yes")

    assert ended.returncode == 2
    assert "a run of another machine has this cluster: other" in ended.stderr
    assert there(server) == {"nodeport-e2e-elsewhere"}


def test_a_thousand_namespaces(server, variables):
    """They are listed, removed, and do not keep a run from beginning."""
    for n in range(1000):
        add(server, f"nodeport-e2e-{n}", dead())

    ended = clean(server, variables, "--yes")

    assert ended.returncode == 0, ended.stderr
    assert "left 1000" in ended.stdout
    assert there(server) == set()


def test_nothing_left_is_said(server, variables):
    ended = clean(server, variables)

    assert ended.returncode == 0
    assert "interrupted runs left nothing" in ended.stdout


ENGINE = "#!/bin/sh\ncase $1 in version) echo 28.0;; esac\n"


@pytest.fixture
def kept(tmp_path, variables):
    """A kind cluster that was kept, its record, and an engine that answers."""
    put(tmp_path / "bin", "docker", ENGINE)
    put(tmp_path / "bin", "kind", f'#!/bin/sh\necho "$@" >> {tmp_path}/kind\n')
    noted = Path(variables["E2E_CACHE"]) / "clusters" / "mine" / "made.json"
    noted.parent.mkdir(parents=True)
    record = kind.Record("a lane", "docker", str(tmp_path / "bin" / "kind"), keep=True)
    noted.write_text(json.dumps(record.__dict__))
    return noted


def test_kept_clusters_of_this_machine_stay(server, variables, kept, tmp_path):
    """It is about the cluster of the context, which may be one of them; nothing says they go."""
    ended = clean(server, variables, "--yes")

    assert ended.returncode == 0, ended.stderr
    assert "interrupted runs left nothing" in ended.stdout
    assert kept.exists()
    assert not (tmp_path / "kind").exists()


def test_of_kept_clusters_one_that_is_named_goes_too(server, variables, kept, tmp_path):
    assert clean(server, variables, "--cluster-name=another").returncode == 0
    assert kept.exists()

    ended = clean(server, variables, "--cluster-name=mine")

    assert ended.returncode == 0, ended.stderr
    assert "delete cluster --name=mine" in (tmp_path / "kind").read_text()
    assert not kept.exists()


def test_an_engine_that_is_away_is_not_missed(server, variables, kept, tmp_path):
    """Of its clusters nothing was asked."""
    put(tmp_path / "bin", "docker", "#!/bin/sh\nexit 1\n")

    assert clean(server, variables).returncode == 0
    assert clean(server, variables, "--cluster-name=mine").returncode == 2


@pytest.mark.parametrize("name", ["x\x1b[31mred", "näme", "a b", "-rf", "x" * 63])
def test_hostile_names_are_only_names(server, variables, name):
    """Whatever a namespace is called that carries our label, it is named and removed as such."""
    add(server, name, dead())

    ended = clean(server, variables)

    assert ended.returncode == 0, ended.stderr
    assert name.replace("\x1b", r"\x1b") in ended.stdout


def test_another_cluster_of_the_same_name_is_not_cleaned(server, variables, tmp_path):
    """Consent goes with the cluster that it was given for."""
    known = Path(variables["E2E_CACHE"]) / "allowed" / f"{CONTEXT}.json"
    known.parent.mkdir(parents=True)
    was = {"cluster": "another", "server": "https://old", "since": "2026-01-01"}
    known.write_text(json.dumps({CONTEXT: was}))
    add(server, "nodeport-e2e-dead", dead())

    ended = clean(server, variables, "--yes")

    assert "leads to another cluster than when it was allowed" in ended.stderr
    assert f"E2E_ALLOW_CONTEXT={CONTEXT}@{UID}" in ended.stderr
    assert there(server) == {"nodeport-e2e-dead"}

    allowed = variables | {"E2E_ALLOW_CONTEXT": f"{CONTEXT}@{UID}"}
    assert clean(server, allowed, "--yes").returncode == 0
    assert there(server) == set()


@pytest.mark.parametrize("used", ["", "soak/001", "upgrade/watch.lock"])
def test_results_go_where_nobody_writes(variables, tmp_path, used):
    """A soak locks a folder in it, and a watch a file."""
    out = tmp_path / "out"
    (out / "soak" / "001").mkdir(parents=True)
    (out / "upgrade").mkdir()
    (out / "upgrade" / "watch.lock").touch()
    (out / "nowhere").symlink_to("gone")
    argv = ("e2e.cli", "clean", f"--results={out}")

    descriptor = os.open(out / used, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    ended = python(*argv, env=variables)
    assert ended.returncode == 0
    assert "another run writes to" in ended.stdout + ended.stderr
    assert (out / "upgrade" / "watch.lock").exists()

    os.close(descriptor)
    assert python(*argv, env=variables).returncode == 0
    assert not out.exists()
