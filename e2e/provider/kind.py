"""kind clusters through pytest-kind: made by the first who needs one, removed by the last."""

import fcntl
import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pykube
import requests
from pytest_kind import KindCluster

from e2e import timing
from e2e.errors import CannotRunError, UsageError
from e2e.provider.cache import cache_folder, only_one
from e2e.provider.command import CommandFailedError, run
from e2e.provider.engine import Engine
from e2e.provider.interrupts import shielded
from e2e.provider.lane import Lane
from e2e.provider.steps import Step, Steps
from e2e.provider.streaming import stream
from e2e.wait import WaitedInVainError, wait_until

NETWORK = "kind"
# Addresses for documentation (RFC 5737, RFC 3849). Nothing lives there, so a packet that a node
# does not redirect must end at the node instead of leaving the machine.
DOCUMENTATION_NETWORKS = ("192.0.2.0/24", "2001:db8::/32")

# What stands in the logs of nodes that do not come up, what it means, and what to do.
KNOWN_CAUSES = (
    (
        "inotify: too many open files",
        "the machine has no inotify instances left for another node",
        "remove other clusters, or allow more: sysctl -w fs.inotify.max_user_instances=1024",
    ),
    (
        "no space left on device",
        "the disk is full",
        "free some space where the engine keeps its data (docker system df)",
    ),
    (
        "port is already allocated",
        "a port that the kind config maps to this machine is taken",
        "free it, or choose another hostPort in the shape",
    ),
    (
        "address already in use",
        "a port that the kind config maps to this machine is taken",
        "free it, or choose another hostPort in the shape",
    ),
)


@dataclass(frozen=True)
class Tools:
    """What it takes to make a cluster.

    Attributes:
        engine: runs the nodes.
        kind: absolute path of the program.
        image: the node image.
    """

    engine: Engine
    kind: Path
    image: str


class Cluster(KindCluster):  # type: ignore[misc]  # pytest-kind carries no types
    """pytest-kind's cluster, with a kind config, a log, and evidence when it does not come up."""

    def __init__(self, name: str, tools: Tools) -> None:
        """Keep the kubeconfig in a file of our own; the user's is never written."""
        super().__init__(name, image=tools.image, kind_path=tools.kind)
        self.path: Path = Path(self.path).absolute()
        self.kubeconfig_path = self.path / "kubeconfig"
        self.engine = tools.engine

    def exists(self) -> bool:
        """Whether the engine has nodes of this cluster."""
        return self.name in self._kind("get", "clusters").split()

    def nodes(self) -> list[str]:
        """The containers that are its nodes."""
        return self._kind("get", "nodes", f"--name={self.name}").split()

    def create_from(self, config: str, step: Step, evidence: Path) -> None:
        """Create it from a kind config.

        Raises:
            CannotRunError: it does not come up; its logs are in `evidence`.
        """
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write(config)
            file.flush()
            argv = [
                *(str(self.kind_path), "create", "cluster", f"--name={self.name}", "--retain"),
                *(f"--kubeconfig={self.kubeconfig_path}", f"--image={self.image}"),
                f"--config={file.name}",
            ]
            try:
                stream(
                    argv,
                    lambda line: _report(step, line),
                    timeout=timing.CLUSTER_CREATE_WITHIN,
                    env=self.engine.kind_env,
                )
            except CommandFailedError as error:
                self._save_logs(evidence)
                raise _does_not_come_up(self.name, error.said, evidence) from error
        self.attach(fresh=False)
        step.progress("waiting for every node to be Ready")
        try:
            wait_until(
                lambda: not self.unready(),
                what="every node to be Ready",
                within=timing.NODES_READY_WITHIN,
                seen=lambda: ", ".join(self.unready()),
            )
        except WaitedInVainError as error:
            self._save_logs(evidence)
            raise _does_not_come_up(self.name, str(error), evidence) from error
        for node in self.nodes():
            for network in DOCUMENTATION_NETWORKS:
                family = "-6" if ":" in network else "-4"
                route = ("ip", family, "route", "replace", "unreachable", network)
                self.engine.run("exec", node, *route)

    def unready(self) -> list[str]:
        """The nodes that are not Ready, each with its own word why."""
        words = []
        try:
            found = list(pykube.Node.objects(self.api))
        except requests.RequestException as error:
            return [f"the API server does not answer: {error}"]
        for node in found:
            conditions = {c["type"]: c for c in node.obj.get("status", {}).get("conditions", [])}
            ready = conditions.get("Ready", {"status": "Unknown", "message": "says nothing"})
            if ready["status"] != "True":
                words.append(f"{node.name}: {ready.get('message', '')}")
        return words

    def attach(self, *, fresh: bool) -> None:
        """Make `api` ready; `fresh` takes the kubeconfig from the running cluster first."""
        if fresh:
            self.path.mkdir(parents=True, exist_ok=True)
            file = f"--kubeconfig={self.kubeconfig_path}"
            self._kind("export", "kubeconfig", f"--name={self.name}", file)
        self.api = pykube.HTTPClient(pykube.KubeConfig.from_file(self.kubeconfig_path))

    def delete(self) -> None:
        """Remove the nodes, and the folder with the kubeconfig."""
        self._kind(
            "delete",
            "cluster",
            f"--name={self.name}",
            f"--kubeconfig={self.kubeconfig_path}",
            timeout=timing.CLUSTER_DELETE_WITHIN,
        )
        shutil.rmtree(self.path, ignore_errors=True)
        if self.path.parent.exists() and not any(self.path.parent.iterdir()):
            self.path.parent.rmdir()

    def _save_logs(self, evidence: Path) -> None:
        try:
            evidence.mkdir(parents=True, exist_ok=True)
            self._kind(
                "export",
                "logs",
                str(evidence),
                f"--name={self.name}",
                timeout=timing.CLUSTER_DELETE_WITHIN,
            )
        except (CommandFailedError, OSError) as error:
            (evidence / "no-logs.txt").write_text(f"the logs could not be exported: {error}\n")

    def _kind(self, *args: str, timeout: float = timing.COMMAND) -> str:
        return run([str(self.kind_path), *args], env=self.engine.kind_env, timeout=timeout)


@dataclass
class Record:
    """What is noted of a cluster that we made, beside its lock.

    Attributes:
        lane: the configuration that it was made with, as words.
        engine: the command of the engine that runs its nodes.
        kind: the program that made it.
        keep: whether somebody asked to keep it.
        complete: whether it came up.
        made_network: whether the engine's network of kind was made with it.
    """

    lane: str
    engine: str
    kind: str
    keep: bool = False
    complete: bool = False
    made_network: bool = False

    @staticmethod
    def file(name: str) -> Path:
        """Where the record of a cluster is."""
        return _state(name) / "made.json"

    @classmethod
    def read(cls, name: str) -> "Record | None":
        """The record of a cluster, or None if we did not make it."""
        try:
            return cls(**json.loads(cls.file(name).read_text()))
        except FileNotFoundError:
            return None

    def write(self, name: str) -> None:
        """Note it, in one piece even if this process is killed meanwhile."""
        draft = self.file(name).with_suffix(".new")
        draft.write_text(json.dumps(self.__dict__))
        draft.rename(self.file(name))


@contextmanager
def hold(name: str, steps: Steps) -> Iterator[IO[str]]:
    """Count as a user of a cluster, whether it is there or not, for as long as the context lasts.

    The last user to leave removes the cluster, if it was made and not found, and nobody asked to
    keep it.
    """
    with _users(name) as users:
        with _alone(name):
            alone = _try_lock(users, fcntl.LOCK_EX)
            record = Record.read(name)
            if alone and record and not (record.keep and record.complete):
                with steps.step("clean-up", f"an interrupted run left {name}") as step:
                    _remove(name, record)
                    step.done(f"removed {name}, which an interrupted run had left")
            _try_lock(users, fcntl.LOCK_SH)
        try:
            yield users
        finally:
            with shielded(steps.console.print), _alone(name):
                _leave(name, users, steps)


@contextmanager
def lease(
    lane: Lane, tools: Tools, steps: Steps, *, name: str, keep: bool, evidence: Path
) -> Iterator[Cluster]:
    """A cluster of this lane for as long as the context lasts.

    Several processes may hold a lease on one cluster. The first makes it, the others take it;
    who removes it is said at `hold`.

    Raises:
        CannotRunError: it does not come up.
        UsageError: a cluster of that name exists and is of another lane.
    """
    cluster = Cluster(name, tools)
    with hold(name, steps):
        with _alone(name), steps.step("cluster", f"{name}, in containers") as step:
            _enter(cluster, lane, tools, step, keep=keep, evidence=evidence)
        yield cluster


def sweep(steps: Steps) -> None:
    """Remove every cluster that we made and that nobody uses, kept ones too."""
    for file in sorted(_states().glob("*/made.json")):
        name = file.parent.name
        with _users(name) as users, _alone(name), steps.step("cluster", name) as step:
            record = Record.read(name)
            if record is None or not _try_lock(users, fcntl.LOCK_EX):
                step.skip(f"{name} is in use by another run, and stays")
                continue
            _remove(name, record)
            step.done(f"removed {name}")


def _enter(
    cluster: Cluster, lane: Lane, tools: Tools, step: Step, *, keep: bool, evidence: Path
) -> None:
    """Make the cluster, or take the one that is there."""
    name, words = cluster.name, str(lane)
    record, there = Record.read(name), cluster.exists()
    if record and not record.complete:
        raise CannotRunError(f"the cluster {name} did not come up in another process")
    if record and there:
        if record.lane != words:
            raise UsageError(
                f"the cluster {name} is {record.lane}, and {words} is asked for",
                "choose another --cluster-name, or remove it: make clean",
            )
        if keep and not record.keep:
            record.keep = True
            record.write(name)
        cluster.attach(fresh=_is_older(cluster.kubeconfig_path, Record.file(name)))
        step.skip(f"{name} is there already")
    elif there:
        cluster.attach(fresh=True)
        step.skip(f"{name} is there already; it was not made by us, so it stays")
    else:
        made_network = not _has_network(cluster.engine)
        record = Record(words, tools.engine.command, str(tools.kind), keep, False, made_network)
        record.write(name)
        cluster.create_from(lane.kind_config(), step, evidence)
        record.complete = True
        record.write(name)
        step.done(f"{name} made of {cluster.image}: {words}")


def _is_older(kubeconfig: Path, record: Path) -> bool:
    """Whether a kubeconfig may be that of an earlier cluster, made in another folder since."""
    return not kubeconfig.exists() or kubeconfig.stat().st_mtime < record.stat().st_mtime


def _leave(name: str, users: IO[str], steps: Steps) -> None:
    record = Record.read(name)
    last = _try_lock(users, fcntl.LOCK_EX)
    # Let go while still alone, so that of two that leave together the second is the last.
    fcntl.flock(users.fileno(), fcntl.LOCK_UN)
    if record is None or not last or (record.keep and record.complete):
        return
    with steps.step("clean-up", f"removing {name}") as step:
        _remove(name, record)
        step.done(f"removed the cluster {name}")


def _remove(name: str, record: Record) -> None:
    engine = Engine(record.engine, "")
    program = record.kind if Path(record.kind).exists() else shutil.which("kind") or record.kind
    Cluster(name, Tools(engine, Path(program), "")).delete()
    if record.made_network and _has_network(engine) and not _network_users(engine):
        engine.run("network", "rm", NETWORK)
    Record.file(name).unlink(missing_ok=True)


def _does_not_come_up(name: str, said: str, evidence: Path) -> CannotRunError:
    """Name the cause if the logs show a known one; else kind's own last words."""
    logs = [said, *(file.read_text(errors="replace") for file in evidence.rglob("*.log"))]
    for sign, cause, do in KNOWN_CAUSES:
        if any(sign in log for log in logs):
            return CannotRunError(f"the cluster {name} does not come up: {cause}", do)
    # kind and kubeadm end with a stack trace, which is for their developers.
    words = [
        line for line in said.splitlines() if re.match(r"(ERROR|error|\[|E\d{4}|waited)", line)
    ]
    return CannotRunError(
        "\n    ".join([f"the cluster {name} does not come up", *words[-8:]]),
        f"see the nodes' logs in {evidence}",
    )


def _report(step: Step, line: str) -> None:
    """Pass on the phases that kind names, without its decoration."""
    if line.startswith(" •"):
        step.progress(re.sub(r"[^\w\s():/.-]|[\s.]+$", "", line).strip())


def _has_network(engine: Engine) -> bool:
    return NETWORK in engine.run("network", "ls", "--format", "{{.Name}}").split()


def _network_users(engine: Engine) -> list[str]:
    return engine.run("ps", "-aq", "--filter", f"network={NETWORK}").split()


def _states() -> Path:
    return cache_folder() / "clusters"


def _state(name: str) -> Path:
    folder = _states() / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def _alone(name: str) -> Iterator[None]:
    """Nobody else makes or removes the cluster meanwhile."""
    lock = _state(name) / "lock"
    with only_one(lock, waiting=lambda: None, within=timing.CLUSTER_LOCK_WITHIN):
        yield


@contextmanager
def _users(name: str) -> Iterator[IO[str]]:
    """The file on which every user of the cluster holds a shared lock."""
    with (_state(name) / "users").open("a") as file:
        yield file


def _try_lock(file: IO[str], mode: int) -> bool:
    try:
        fcntl.flock(file.fileno(), mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
