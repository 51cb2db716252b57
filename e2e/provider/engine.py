"""The container engine: the one that works here, else the distribution's, installed and started."""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from e2e import timing
from e2e.errors import CannotRunError
from e2e.provider.cache import cache_folder, holder_of, only_one
from e2e.provider.command import CommandFailedError, run
from e2e.provider.packages import install
from e2e.provider.steps import Step, Steps
from e2e.wait import WaitedInVainError, wait_until

PACKAGES = ("docker.io", "iptables")
# What tells docker which engine to ask.
ELSEWHERE = ("DOCKER_HOST", "DOCKER_CONTEXT")
RUNTIME = Path(__file__).parent / "files" / "runc-bounded.sh"


@dataclass(frozen=True)
class Engine:
    """A container engine that answers.

    Attributes:
        command: "docker" or "podman".
        version: of the daemon.
    """

    command: str
    version: str

    def run(
        self,
        *args: str,
        timeout: float = timing.COMMAND,
        input: str | bytes | None = None,  # noqa: A002  # the name that subprocess uses
    ) -> str:
        """Run a command of the engine and return what it printed.

        Raises:
            CommandFailedError: it ended with an error, or took longer than `timeout` seconds.
        """
        return run([self.command, *args], timeout=timeout, input=input)

    def open_shell(self, container: str) -> "subprocess.Popen[str]":
        """Start a shell in a container that reads commands; it ends when its input does."""
        return subprocess.Popen(
            [self.command, "exec", "--interactive", container, "sh"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )

    @property
    def kind_env(self) -> dict[str, str]:
        """The variables that make kind use this engine; none where it would choose it anyway."""
        named = os.environ.get("KIND_EXPERIMENTAL_PROVIDER", "docker")
        return {} if named == self.command else {"KIND_EXPERIMENTAL_PROVIDER": self.command}


def find_engine() -> Engine | None:
    """Find an engine that answers now; install and start nothing."""
    return _ask_engines()[0]


def _ask_engines() -> tuple[Engine | None, list[str]]:
    """An engine that answers now, and what the programs said of those that do not."""
    asked = {
        "docker": ["docker", "version", "--format", "{{.Server.Version}}"],
        "podman": ["podman", "info", "--format", "{{.Version.Version}}"],
    }
    preferred = os.environ.get("KIND_EXPERIMENTAL_PROVIDER")
    said: list[str] = []
    for command in sorted(asked, key=lambda name: name != preferred):
        if shutil.which(command) is None:
            continue
        try:
            version = run(asked[command], timeout=timing.ENGINE_ANSWER).strip()
        except CommandFailedError as error:
            said.append(f"{command}: {(error.said.strip() or error.what).splitlines()[-1]}")
            continue
        if version:
            return Engine(command, version), said
    return None, said


def ensure_engine(steps: Steps) -> Engine:
    """Give an engine that works: the present one, else the distribution's Docker.

    Raises:
        CannotRunError: none works here and none may or can be installed or started.
    """
    with steps.step("engine", "nodes of kind are containers") as step:
        engine = find_engine()
        if engine:
            step.skip(f"{engine.command} {engine.version} works already")
            return engine
        refuse_to_install()
        lock = _folder() / "lock"
        waiting = lambda: step.progress(f"{holder_of(lock)} is starting one; waiting for it")  # noqa: E731
        with only_one(lock, waiting=waiting, within=timing.ENGINE_LOCK_WITHIN):
            engine = find_engine()
            if engine:
                step.skip(f"{engine.command} {engine.version} was started by another run")
                return engine
            installed = shutil.which("dockerd") is None
            if installed:
                _install(step)
            how = _start(step, fresh=installed)
            engine = find_engine()
        if engine is None:
            raise CannotRunError("Docker was started and does not answer", "try: docker version")
        step.done(f"{'installed and ' if installed else ''}started Docker {engine.version} {how}")
        return engine


def refuse_to_install() -> None:
    """Raise unless Docker may be installed and started here.

    Raises:
        CannotRunError: with the reason, and what to do instead.
    """
    start = "start Docker or Podman"
    for variable in ELSEWHERE:
        if there := os.environ.get(variable):
            # One that is started here would not be asked either.
            do = f"start that engine, or unset {variable} to use one of this machine"
            raise _none_works(f", and {variable} is {there}", do)
    if os.environ.get("E2E_INSTALL_ENGINE") == "0":
        raise _none_works(", and E2E_INSTALL_ENGINE=0 lets a run install none", start)
    if not _is_debian_like():
        raise _none_works("", f"{start}; only on Debian and Ubuntu a run installs one itself")
    if os.geteuid() != 0:
        do = f"{start}, or let this user use it, such as by: sudo usermod -aG docker $USER"
        raise _none_works(", and this is not root, who could install one", do)


def _none_works(why: str, do: str) -> CannotRunError:
    said = _ask_engines()[1] or ["neither docker nor podman is on the PATH"]
    return CannotRunError("\n  ".join([f"no container engine works here{why}", *said]), do)


def withheld_capabilities(status: Path = Path("/proc/self/status")) -> int:
    """The capabilities that the kernel knows and this machine never gives, as a bit mask."""
    found = re.search(r"^CapBnd:\s*([0-9a-f]+)", status.read_text(), re.MULTILINE)
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    everything = (1 << (last + 1)) - 1
    return everything & ~int(found.group(1), 16) if found else 0


def stop_engine() -> str:
    """Stop the daemon that `ensure_engine` started by hand, and no other; say what was done.

    Raises:
        CannotRunError: it does not end.
    """
    record = _record()
    if not record.exists():
        return "no engine was started from here"
    noted = json.loads(record.read_text())
    pid = int(noted["pid"])
    if _start_time(pid) != noted["started"]:
        record.unlink()
        return "the engine that was started from here has ended already"
    os.kill(pid, signal.SIGTERM)
    try:
        wait_until(
            lambda: _start_time(pid) != noted["started"],
            what=f"dockerd (process {pid}) to end",
            within=timing.ENGINE_STOP_WITHIN,
        )
    except WaitedInVainError as error:
        raise CannotRunError(str(error), f"see {_folder() / 'dockerd.log'}") from error
    record.unlink()
    return f"stopped dockerd (process {pid})"


def _folder() -> Path:
    return cache_folder() / "engine"


def _record() -> Path:
    return _folder() / "dockerd.json"


def _is_debian_like() -> bool:
    release = Path("/etc/os-release")
    if not release.exists() or shutil.which("apt-get") is None:
        return False
    names = re.findall(r"^ID(?:_LIKE)?=(.*)$", release.read_text(), re.MULTILINE)
    return bool({"debian", "ubuntu"} & set(" ".join(names).replace('"', "").split()))


def _has_systemd() -> bool:
    return Path("/run/systemd/system").is_dir()


def _install(step: Step) -> None:
    # As in single-user mode: the package's own init script must not start a daemon that
    # knows nothing of our flags.
    env = {} if _has_systemd() else {"RUNLEVEL": "1"}
    install(PACKAGES, log=_folder() / "install.log", progress=step.progress, env=env)


def _start(step: Step, *, fresh: bool) -> str:
    """Start Docker and return in which way."""
    limited = withheld_capabilities()
    if _has_systemd() and not limited:
        step.progress("starting Docker by systemd")
        run(["systemctl", "start", "docker"], timeout=timing.ENGINE_START_WITHIN)
        return "by systemd"
    if _has_systemd() and fresh:
        run(["systemctl", "stop", "docker.service", "docker.socket"])
    step.progress("starting dockerd")
    flags: list[str] = []
    how = f"by hand (its log is {_folder() / 'dockerd.log'})"
    if limited:
        runtime = _folder() / "runc-bounded"
        shutil.copy(RUNTIME, runtime)
        runtime.chmod(0o755)
        flags = ["--add-runtime", f"bounded={runtime}", "--default-runtime", "bounded"]
        how += f"; this machine withholds capabilities ({limited:#x}), so its runtime drops them"
    _forget_ended_daemon()
    _start_by_hand(["dockerd", "--pidfile", str(_folder() / "dockerd.pid"), *flags])
    return how


def _forget_ended_daemon() -> None:
    """Remove the note of a daemon that has ended: its number may be that of another process now.

    Raises:
        CannotRunError: it has not ended, and does not answer.
    """
    if _record().exists():
        noted = json.loads(_record().read_text())
        if _start_time(int(noted["pid"])) == noted["started"]:
            raise CannotRunError(
                f"dockerd (process {noted['pid']}), which was started from here, does not answer",
                f"see {_folder() / 'dockerd.log'}; to stop it: make stop-engine",
            )
        _record().unlink()
    (_folder() / "dockerd.pid").unlink(missing_ok=True)


def _start_by_hand(argv: Sequence[str]) -> None:
    """Start a daemon that outlives this process, and note which process it is."""
    log = _folder() / "dockerd.log"
    with log.open("ab") as sink:
        process = subprocess.Popen(
            argv,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
        )
    _record().write_text(
        json.dumps({"pid": process.pid, "started": _start_time(process.pid), "argv": list(argv)})
    )
    try:
        wait_until(
            lambda: process.poll() is not None or find_engine(),
            what="dockerd to answer",
            within=timing.ENGINE_START_WITHIN,
        )
    except WaitedInVainError as error:
        raise CannotRunError(str(error), f"see {log}") from error
    if process.poll() is not None:
        _record().unlink()
        last = "\n".join(f"    {line}" for line in log.read_text().splitlines()[-8:])
        raise CannotRunError(
            f"dockerd ended at once with code {process.returncode}\n{last}",
            f"see {log}; start a container engine yourself and run this again",
        )


def _start_time(pid: int) -> str | None:
    """When a process began, in clock ticks since boot; None if there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    # A zombie has ended; it only waits for its parent to look.
    return None if fields[0] == "Z" else fields[19]
