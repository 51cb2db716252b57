"""kind clusters through pytest-kind: made by the first who needs one, removed by the last."""

import fcntl
import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import pykube
from pytest_kind import KindCluster

from e2e import timing
from e2e.errors import CannotRunError, InUseError, RefusedError, StopError, UsageError
from e2e.provider.cache import cache_folder, holder_of, only_one
from e2e.provider.command import CommandFailedError, run
from e2e.provider.engine import Engine
from e2e.provider.interrupts import shielded
from e2e.provider.lane import Lane
from e2e.provider.steps import Step, Steps
from e2e.provider.streaming import stream
from e2e.provider.wellness import (
    FORBIDDEN,
    Container,
    ailments_of,
    containers_of,
    is_forbidden,
)
from e2e.wait import WaitedInVainError, wait_until

NETWORK = "kind"
# Addresses for documentation (RFC 5737, RFC 3849). Nothing lives there, so a packet that a node
# does not redirect must end at the node instead of leaving the machine.
DOCUMENTATION_NETWORKS = {"-4": "192.0.2.0/24", "-6": "2001:db8::/32"}
IP_FLAGS = {"ipv4": ("-4",), "ipv6": ("-6",), "dual": ("-4", "-6")}

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

    @property
    def context(self) -> str:
        """What kind calls its context; which one is current is somebody's choice."""
        return f"kind-{self.name}"

    @cached_property
    def api(self) -> Any:
        """The client of pykube, for those who use the fixture of pytest-kind.

        Nothing here uses it: it writes the client's key into files that stay behind.
        """
        return pykube.HTTPClient(pykube.KubeConfig.from_file(self.kubeconfig_path))

    def containers(self) -> list[Container]:
        """Its nodes, and the balancer before them if it has one; none if it is not there."""
        return containers_of(self.name, self.engine)

    def create_from(self, config: str, step: Step, evidence: Path) -> None:
        """Create it from a kind config.

        Raises:
            CannotRunError: it does not come up; its logs are in `evidence`.
        """
        # Beside the record, so that it goes with the cluster, also after a kill.
        file = _config_of(self.name)
        file.write_text(config)
        argv = [
            *(str(self.kind_path), "create", "cluster", f"--name={self.name}", "--retain"),
            *(f"--kubeconfig={self.kubeconfig_path}", f"--image={self.image}", f"--config={file}"),
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
        try:
            self.wait_until_well(timing.NODES_READY_WITHIN, step.progress)
        except WaitedInVainError as error:
            self._save_logs(evidence)
            raise _does_not_come_up(self.name, str(error), evidence) from error

    def wait_until_well(self, within: float, say: Callable[[str], None]) -> None:
        """Wait until it may be used; one look is enough if it is well, else `say` gets why not.

        Raises:
            WaitedInVainError: it was not within so many seconds; says what is not well.
        """
        last: list[str] = []

        def well() -> bool:
            first = not last
            last[:] = ailments_of(self.name, self.engine)
            if first and last:
                say(f"waiting for it to be well: {last[0]}")
            return not last

        wait_until(
            well,
            what=f"the cluster {self.name} to be well",
            within=within,
            seen=lambda: "; ".join(last),
        )

    def end_packets_to_documentation(self, family: str) -> None:
        """Let packets to addresses that nobody has end at its nodes; gone when a node restarts."""
        lines = [
            f"ip {flag} route replace unreachable {DOCUMENTATION_NETWORKS[flag]}"
            for flag in IP_FLAGS[family]
        ]
        for container in self.containers():
            if container.is_node:
                self.engine.run("exec", container.name, "sh", "-ec", "; ".join(lines))

    def image_id(self) -> str:
        """What its image's name means now; the name of a built image stays when that changes."""
        return self.engine.run("image", "inspect", "--format", "{{.Id}}", self.image).strip()

    def refresh_kubeconfig(self) -> None:
        """Take the kubeconfig from the cluster."""
        self.path.mkdir(parents=True, exist_ok=True)
        file = f"--kubeconfig={self.kubeconfig_path}"
        self._kind("export", "kubeconfig", f"--name={self.name}", file)

    def delete(self, folders: Iterable[str] = ()) -> None:
        """Remove the nodes, and the folders with its kubeconfig, here and in other checkouts."""
        self._kind(
            "delete",
            "cluster",
            f"--name={self.name}",
            f"--kubeconfig={self.kubeconfig_path}",
            timeout=timing.CLUSTER_DELETE_WITHIN,
        )
        for folder in {self.path, *map(Path, folders)}:
            shutil.rmtree(folder, ignore_errors=True)
            if folder.parent.exists() and not any(folder.parent.iterdir()):
                folder.parent.rmdir()

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
        folders: where its kubeconfig was put, in whichever checkout.
        image: the id of the image that it was made of.
        changed: what was done to it, if it may no longer be as it was made.
    """

    lane: str
    engine: str
    kind: str
    keep: bool = False
    complete: bool = False
    made_network: bool = False
    folders: list[str] = field(default_factory=list)
    image: str = ""
    changed: str = ""

    @staticmethod
    def file(name: str) -> Path:
        """Where the record of a cluster is."""
        return _states() / name / "made.json"

    @classmethod
    def read(cls, name: str) -> "Record | None":
        """The record of a cluster, or None if we did not make it."""
        try:
            return cls(**json.loads(cls.file(name).read_text()))
        except FileNotFoundError:
            return None

    def write(self, name: str) -> None:
        """Note it, in one piece even if this process is killed meanwhile."""
        draft = (_state(name) / "made.json").with_suffix(".new")
        draft.write_text(json.dumps(self.__dict__))
        draft.rename(self.file(name))

    def kubeconfig(self) -> Path | None:
        """Its kubeconfig, in whichever checkout it is still there."""
        files = (Path(folder) / "kubeconfig" for folder in self.folders)
        return next((file for file in files if file.exists()), None)

    def demand_lane(self, name: str, lane: str) -> None:
        """Go on only if the cluster is of this lane.

        Raises:
            UsageError: it is of another.
        """
        if self.lane != lane:
            raise UsageError(
                f"the cluster {name} is {self.lane}, and {lane} is asked for",
                f"choose another --cluster-name, or remove it: make clean E2E_CLUSTER_NAME={name}",
            )


@contextmanager
def hold(name: str, steps: Steps, *, breaks: str = "") -> Iterator[IO[str]]:
    """Count as a user of a cluster, whether it is there or not, for as long as the context lasts.

    The last user to leave removes the cluster, if it was made and not found, and nobody asked to
    keep it.

    Args:
        name: of the cluster.
        steps: tell what is done.
        breaks: what is done to it that nobody else may meet.

    Raises:
        InUseError: somebody else uses it, and would meet that.
    """
    with _users(name) as users, _breaking(name) as breaking:
        with _alone(name, steps.say):
            alone = _try_lock(users, fcntl.LOCK_EX)
            if breaks and not alone:
                raise InUseError(
                    f"the cluster {name} is in use by another run, which would meet that {breaks}",
                    "wait for the end of that run, or choose another --cluster-name",
                )
            if breaks:
                _try_lock(breaking, fcntl.LOCK_EX)
            record = Record.read(name)
            if alone:
                _seen_well(name).unlink(missing_ok=True)
            if alone and record and not (record.keep and record.complete):
                _demand_unmarked(name, record)
                with steps.step("clean-up", "an interrupted run had left it") as step:
                    _remove(name, record)
                    step.done(f"removed the cluster {name}")
            _try_lock(users, fcntl.LOCK_SH)
        try:
            yield users
        finally:
            with shielded(steps.console.print), _alone(name, steps.say):
                _leave(name, users, steps)


def demand_whole(name: str) -> None:
    """Go on with a cluster that one holds only if nobody breaks it meanwhile.

    A change that lasts, as of a kept cluster that was upgraded, is none of that.

    Raises:
        InUseError: somebody does.
    """
    with _breaking(name) as breaking:
        if not _try_lock(breaking, fcntl.LOCK_SH):
            raise InUseError(
                f"the cluster {name} is in use by another run: {changed(name) or 'it is broken'}",
                "wait for the end of that run, or choose another --cluster-name",
            )


@contextmanager
def lease(
    lane: Lane,
    tools: Tools,
    steps: Steps,
    *,
    name: str,
    keep: bool,
    evidence: Path,
    breaks: str = "",
) -> Iterator[Cluster]:
    """A cluster of this lane for as long as the context lasts.

    Several processes may hold a lease on one cluster. The first makes it, the others take it;
    who removes it is said at `hold`. One that breaks it has it for itself, and what does not note
    another change meanwhile leaves it as it was.

    Raises:
        CannotRunError: it does not come up, one that was found is not well, or somebody uses what
            would be broken.
        UsageError: a cluster of that name exists and is of another lane.
    """
    cluster = Cluster(name, tools)
    with hold(name, steps, breaks=breaks):
        with (
            steps.step("cluster", "the contract is asked of it") as step,
            _alone(name, step.progress),
        ):
            _enter(cluster, lane, tools, step, keep=keep, evidence=evidence)
            if breaks:
                note_change(name, breaks)
        try:
            yield cluster
        finally:
            if breaks and changed(name) == breaks:
                note_change(name, "")


def sweep(steps: Steps, only: str | None = None) -> list[StopError]:
    """Remove every cluster that we made and that nobody uses, kept ones too; returns failures.

    Args:
        steps: tell which.
        only: the name of the one that is meant.
    """
    failures: list[StopError] = []
    for name in [each for each in recorded() if only in (None, each)]:
        try:
            with (
                steps.step("cluster", "it was kept, or left by an interrupted run") as step,
                _users(name) as users,
                _alone(name, step.progress),
            ):
                record = Record.read(name)
                if record is None or not _try_lock(users, fcntl.LOCK_EX):
                    step.skip(f"{name} is in use by another run, and stays")
                    continue
                if stays := _why_it_stays(name, record):
                    step.skip(stays)
                    continue
                _remove(name, record)
                step.done(f"removed {name}")
        except StopError as error:
            failures.append(CannotRunError(f"the cluster {name} stays: {error.what}", error.do))
    return failures


def note_change(name: str, what: str) -> None:
    """Note what is done to a cluster of ours; whoever asks for it next gets it made anew.

    Args:
        name: of the cluster.
        what: nothing if it is as it was made after all.
    """
    if record := Record.read(name):
        record.changed = what
        record.write(name)


def changed(name: str) -> str:
    """What was done to a cluster of ours; nothing if it is as it was made."""
    record = Record.read(name)
    return record.changed if record else ""


def recorded() -> list[str]:
    """The names of the clusters that we made and that were not removed since."""
    return sorted(file.parent.name for file in _states().glob("*/made.json"))


def _enter(
    cluster: Cluster, lane: Lane, tools: Tools, step: Step, *, keep: bool, evidence: Path
) -> None:
    """Make the cluster, or take the one that is there if it is well."""
    name, words = cluster.name, str(lane)
    record, there = Record.read(name), cluster.containers()
    if record and not record.complete:
        raise CannotRunError(f"the cluster {name} did not come up in another process")
    instead = ""
    if there and record:
        record.demand_lane(name, words)
        problem = _problem(cluster, there, record, step, lane.family)
        if not problem:
            _take(cluster, record, keep=keep)
            if stopped := _stopped(there):
                step.done(f"started {', '.join(stopped)} again")
            else:
                step.skip(f"{name} is there already")
            return
        if _seen_well(name).exists():
            raise CannotRunError(
                f"the cluster {name} is in use by others, and {problem}",
                "wait for the end of what uses it, or choose another --cluster-name",
            )
        _demand_unmarked(name, record)
        step.progress(f"removing {name}, which {problem}")
        _remove(name, record)
        keep, instead = keep or record.keep, f", in place of one that {problem}"
    elif there:
        if problem := _problem(cluster, there, None, step, lane.family):
            raise CannotRunError(
                f"the cluster {name}, which was not made by us, {problem}",
                "mend it, or choose another --cluster-name",
            )
        cluster.refresh_kubeconfig()
        step.skip(f"{name} is there already; it was not made by us, so it stays")
        return
    made_network = not _has_network(cluster.engine)
    record = Record(words, tools.engine.command, str(tools.kind), keep, False, made_network)
    record.folders = [str(cluster.path)]
    record.write(name)
    cluster.create_from(lane.kind_config(), step, evidence)
    cluster.end_packets_to_documentation(lane.family)
    _note_well(cluster)
    record.complete, record.image = True, cluster.image_id()
    record.write(name)
    step.done(f"made {name} of {cluster.image} ({words}){instead}")


def _take(cluster: Cluster, record: Record, *, keep: bool) -> None:
    """Use a cluster of ours that is there and well."""
    file = Record.file(cluster.name)
    if _is_older(cluster.kubeconfig_path, file):
        cluster.refresh_kubeconfig()
    noted = (record.keep, list(record.folders))
    record.keep = record.keep or keep
    record.folders = sorted({*record.folders, str(cluster.path)})
    if (record.keep, record.folders) != noted:
        record.write(cluster.name)


def _problem(
    cluster: Cluster, there: list[Container], record: Record | None, step: Step, family: str
) -> str:
    """Why a cluster that is there cannot be used, as words that follow its name; "" if it can.

    What of one of ours is stopped is started. Others who use it have looked already.
    """
    if record and record.changed:
        return f"is no longer as it was made ({record.changed})"
    seen = _seen_well(cluster.name)
    if seen.exists() and json.loads(seen.read_text()) == _starts(there):
        return ""
    if record and record.image not in ("", cluster.image_id()):
        return f"was made of another image than the present {cluster.image}"
    stopped = _stopped(there)
    try:
        if record and stopped:
            step.progress(f"starting {', '.join(stopped)} again")
            cluster.engine.run("start", *stopped, timeout=timing.CLUSTER_CREATE_WITHIN)
        cluster.wait_until_well(timing.CLUSTER_RECOVER_WITHIN, step.progress)
    except CommandFailedError as error:
        return f"cannot be started: {' '.join(error.said.split())}"
    except WaitedInVainError as error:
        return f"is not well ({error})"
    if record:
        cluster.end_packets_to_documentation(family)
    _note_well(cluster)
    return ""


def _stopped(containers: list[Container]) -> list[str]:
    return [each.name for each in containers if each.state != "running"]


def _seen_well(name: str) -> Path:
    """Notes when the containers of a cluster that was seen well had been started."""
    return _state(name) / "well.json"


def _note_well(cluster: Cluster) -> None:
    _seen_well(cluster.name).write_text(json.dumps(_starts(cluster.containers())))


def _starts(containers: list[Container]) -> dict[str, str]:
    return {each.name: each.started.isoformat() for each in containers}


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
    with steps.step("clean-up", "nobody asked to keep it") as step:
        if stays := _why_it_stays(name, record):
            step.skip(stays)
            return
        _remove(name, record)
        step.done(f"removed the cluster {name}")


def _why_it_stays(name: str, record: Record) -> str:
    """Why nobody may remove a cluster, as far as it can be asked; nothing if somebody may."""
    forbidden = is_forbidden(name, Engine(record.engine, ""))
    return f"{name} carries the mark {FORBIDDEN}, and stays" if forbidden else ""


def _demand_unmarked(name: str, record: Record) -> None:
    """Go on only if the cluster may be removed.

    Raises:
        RefusedError: it says that it may not be written to.
    """
    if stays := _why_it_stays(name, record):
        raise RefusedError(
            f"the cluster {stays}",
            "choose another --cluster-name; whoever put the mark there may take it away",
        )


def _remove(name: str, record: Record) -> None:
    engine = Engine(record.engine, "")
    program = record.kind if Path(record.kind).exists() else shutil.which("kind") or record.kind
    Cluster(name, Tools(engine, Path(program), "")).delete(record.folders)
    if record.made_network and _has_network(engine) and not _network_users(engine):
        engine.run("network", "rm", NETWORK)
    Record.file(name).unlink(missing_ok=True)
    _config_of(name).unlink(missing_ok=True)
    _seen_well(name).unlink(missing_ok=True)


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


def _config_of(name: str) -> Path:
    return _state(name) / "config.yaml"


def _state(name: str) -> Path:
    folder = _states() / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def _alone(name: str, say: Callable[[str], None]) -> Iterator[None]:
    """Nobody else makes or removes the cluster meanwhile; `say` gets who is waited for."""
    lock = _state(name) / "lock"
    with only_one(
        lock,
        waiting=lambda: say(f"{holder_of(lock)} has {name} in hand; waiting for it"),
        within=timing.CLUSTER_LOCK_WITHIN,
    ):
        yield


@contextmanager
def _users(name: str) -> Iterator[IO[str]]:
    """The file on which every user of the cluster holds a shared lock."""
    with (_state(name) / "users").open("a") as file:
        yield file


@contextmanager
def _breaking(name: str) -> Iterator[IO[str]]:
    """The file on which whoever breaks the cluster holds a lock."""
    with (_state(name) / "breaking").open("a") as file:
        yield file


def _try_lock(file: IO[str], mode: int) -> bool:
    try:
        fcntl.flock(file.fileno(), mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
