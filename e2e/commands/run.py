"""The command `nodeport-e2e run`: the contract of a cluster, by pytest in a process of its own."""

import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import IO, Any

import click

from e2e.cluster import leftovers
from e2e.cluster.api import Api
from e2e.cluster.consent import admit
from e2e.errors import CannotRunError, StoppedError, UsageError
from e2e.fixtures.settings import HOW_TO_ASK, ROOM
from e2e.options import PROCESSES, of_choice, of_cluster, of_limits, of_making, option
from e2e.provider import existing, kind, node_image
from e2e.provider.cache import ensure_room
from e2e.provider.command import own_program
from e2e.provider.engine import ensure_engine, find_engine
from e2e.provider.kind_binary import ensure_kind
from e2e.provider.kubeconfig import default_kubeconfig
from e2e.provider.lane import Lane
from e2e.provider.steps import Steps
from e2e.report.clauses import CONTRACT, choose
from e2e.report.outputs import MADE
from e2e.screen import Screen, say


@click.command()
@of_cluster
@of_making
@of_choice
@option("--processes", "PROCESSES", default=PROCESSES, help="0 for one after another.")
@option("--out", "OUT", default="out", help="The folder of the results.")
@of_limits
@option("--quiet", "QUIET", is_flag=True, help="Tell what went wrong, and the last screen alone.")
@click.option("--json", "as_json", is_flag=True, help="Print the last screen as JSON, no more.")
@click.argument("more", nargs=-1, type=click.UNPROCESSED, metavar="[-- PYTEST OPTIONS]")
def run(**asked: Any) -> int:
    """Ask the whole contract of a cluster, which is made if need be."""
    out = Path(asked["out"]).absolute()
    choose(asked["only"], asked["families"], ours=asked["provider"] == "kind")
    arguments = [
        str(CONTRACT),
        *HOW_TO_ASK,
        *("-p", "no:cacheprovider", "--tb=short", "--no-header", "-rN", f"--out={out}"),
        f"--junitxml={out / 'junit.xml'}",
        f"--provider={asked['provider']}",
        *(f"--outside={asked['outside']}", f"--wait={asked['wait']}"),
        *(f"--{name}={asked[name]}" for name in ("families", "only") if asked[name]),
        *([f"--numprocesses={asked['processes']}", "--dist=worksteal", "--max-worker-restart=0"]
          if asked["processes"] else []),
        *asked["more"],
    ]  # fmt: skip
    screen = Screen(quiet=asked["quiet"], as_json=asked["as_json"])
    if asked["provider"] == "existing":
        context = asked["kube_context"]
        file = Path(asked["kubeconfig"] or default_kubeconfig(context))
        consent = existing.check_allowed(file, context, find_engine())
        with alone(out):
            _demand_admission(file, context, consent)
            _remove_results(out)
            arguments += [f"--kubeconfig={file}", f"--kube-context={context}"]
            return _pytest(arguments, screen)
    lane = Lane(asked["k8s"], asked["proxy"], asked["family"], asked["shape"])
    ensure_room(out, gigabytes=ROOM, what="a run", variable="E2E_OUT")
    name = asked["cluster_name"] or lane.cluster_name
    steps = Steps(quiet=asked["quiet"])
    with alone(out), _told_what_is_left(name, steps):
        _remove_results(out)
        engine = ensure_engine(steps)
        # Before it is missed, and the cluster taken for one that is broken.
        if undone := leftovers.undo_on_nodes(engine):
            steps.say(f"undid what an interrupted run had changed on nodes (commands: {undone})")
        program = ensure_kind(steps)
        image = node_image.resolve(lane.version, engine, steps, asked["node_image"])
        lane = replace(lane, version=image.version)
        arguments += [
            *(f"--k8s={lane.version}", f"--proxy={lane.proxy}", f"--family={lane.family}"),
            *(f"--shape={lane.shape}", f"--kind-bin={program}", f"--kind-image={image.reference}"),
            f"--cluster-name={name}",
            "--leased",
            *(["--keep-cluster"] if asked["keep"] else []),
        ]
        tools = kind.Tools(engine, program, image.reference)
        evidence = out / "evidence" / "cluster"
        with kind.lease(
            lane, tools, steps, name=name, keep=asked["keep"], evidence=evidence
        ) as cluster:
            _demand_admission(cluster.kubeconfig_path, cluster.context)
            return _pytest(arguments, screen)


def _demand_admission(file: Path, context: str, consent: existing.Consent | None = None) -> None:
    """Ask the cluster whether it may be written to.

    pytest asks again, by the copy of the context with which it goes on, but its own exit code 3 is
    an internal error.
    """
    with tempfile.TemporaryDirectory() as secrets:
        admit(Api(file, context, secrets=Path(secrets)), consent)


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Have the folder of the results for this run, whose files those of another would replace.

    Raises:
        CannotRunError: another run writes there.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        # The lock is on the folder itself, so that nothing of it is left there.
        folder = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise UsageError(
            f"--out={out} is no folder for results: {error.strerror}", "name another, or E2E_OUT"
        ) from error
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CannotRunError(
                f"another run writes its results to {out}",
                "wait for its end, or name another folder: --out, or E2E_OUT",
            ) from error
        yield
    finally:
        os.close(folder)


def _remove_results(out: Path) -> None:
    """Remove what an earlier run wrote, so that nobody takes it for that of this one."""
    shutil.rmtree(out / "evidence", ignore_errors=True)
    for name in MADE:
        (out / name).unlink(missing_ok=True)


@contextmanager
def _told_what_is_left(name: str, steps: Steps) -> Iterator[None]:
    """Let a run that is interrupted end with what became of its cluster."""
    try:
        yield
    except KeyboardInterrupt:
        if name in kind.recorded():
            raise StoppedError(f"the cluster {name} stays") from None
        raise StoppedError(steps.results.get("clean-up", "no cluster had been made")) from None


def _pytest(arguments: list[str], screen: Screen) -> int:
    """Run pytest to its end as a process of its own, and hand Ctrl-C on to it once."""
    with screen.shown() as (more, output):
        return _run_pytest([*arguments, *more], output)


def _run_pytest(arguments: list[str], output: IO[bytes] | None) -> int:
    # Should this process be killed, the kernel interrupts pytest, which then cleans up.
    tied = ["setpriv", "--pdeathsig", "INT"] if shutil.which("setpriv") else []
    argv = [*tied, *own_program("pytest"), *arguments]
    process: subprocess.Popen[bytes] | None = None
    asked = handed = 0

    def hand_on(_: int, __: FrameType | None) -> None:
        nonlocal asked, handed
        asked += 1
        if process and not handed:
            handed += 1
            process.send_signal(signal.SIGINT)
        say("still stopping: pytest removes what it made" if asked > 1 else "stopping pytest")

    # Before it starts: what is ignored here, as in the background of a script, it would ignore.
    before = {number: signal.signal(number, hand_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if output else None,
            start_new_session=True,
        )
        if asked and not handed:
            handed += 1
            process.send_signal(signal.SIGINT)
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if asked:
        raise KeyboardInterrupt
    # pytest's own 3 is an internal error and 5 is "no tests"; neither is a verdict.
    return code if code in (0, 1, UsageError.exit_code) else CannotRunError.exit_code
