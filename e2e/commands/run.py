"""The command `nodeport-e2e run`: the contract of a cluster, by pytest in a process of its own."""

import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import IO, Any

import click

from e2e.cluster import leftovers
from e2e.cluster.api import Api, ApiRefusedError
from e2e.cluster.consent import admit
from e2e.errors import CannotRunError, StoppedError, UsageError
from e2e.fixtures.settings import HOW_TO_ASK, ROOM
from e2e.options import PROCESSES, of_choice, of_cluster, of_limits, of_making, of_shard, option
from e2e.provider import existing, in_cluster, kind
from e2e.provider.cache import ensure_room
from e2e.provider.command import begin, own_program
from e2e.provider.engine import ensure_engine, find_engine
from e2e.provider.kubeconfig import default_kubeconfig
from e2e.provider.lane import Lane
from e2e.provider.ready import ready
from e2e.provider.steps import Steps
from e2e.report import outputs
from e2e.report.clauses import CONTRACT, choose, part_of
from e2e.screen import Screen, say


@click.command()
@of_cluster
@of_making
@of_choice
@of_shard
@option("--processes", "PROCESSES", default=PROCESSES, help="0 for one after another.")
@option("--out", "OUT", default="out", help="The folder of the results.")
@of_limits
@option("--quiet", "QUIET", is_flag=True, help="Tell what went wrong, and the last screen alone.")
@click.option("--json", "as_json", is_flag=True, help="Print the last screen as JSON, no more.")
@option("--in-cluster", "IN_CLUSTER", is_flag=True, help="Let pods of the cluster ask.")
@option("--shards", "SHARDS", default="2", help="With --in-cluster: so many, or nodes:4.")
@option("--image", "IMAGE", default=None, help="With --in-cluster: what the pods run.")
@click.argument("more", nargs=-1, type=click.UNPROCESSED, metavar="[-- PYTEST OPTIONS]")
def run(**asked: Any) -> int:
    """Ask the whole contract of a cluster, which is made if need be."""
    asked = in_cluster.as_existing(asked)
    out = Path(asked["out"]).absolute()
    if asked["in_cluster"]:
        _demand_no_shard(asked)
    ours = asked["provider"] == "kind"
    part_of(choose(asked["only"], asked["families"], ours=ours), asked["shard"], ours=ours)
    arguments = [
        str(CONTRACT),
        *HOW_TO_ASK,
        *("-p", "no:cacheprovider", "--tb=short", "--no-header", "-rN", f"--out={out}"),
        f"--junitxml={out / 'junit.xml'}",
        f"--provider={asked['provider']}",
        *(f"--outside={asked['outside']}", f"--wait={asked['wait']}"),
        *(f"--{name}={asked[name]}" for name in ("families", "only", "shard") if asked[name]),
        *([f"--numprocesses={asked['processes']}", "--dist=worksteal", "--max-worker-restart=0"]
          if asked["processes"] else []),
        *asked["more"],
    ]  # fmt: skip
    ensure_room(out, gigabytes=ROOM, what="a run", variable="E2E_OUT")
    screen = Screen(quiet=asked["quiet"], as_json=asked["as_json"])
    if asked["provider"] == "existing":
        context = asked["kube_context"]
        file = Path(asked["kubeconfig"] or default_kubeconfig())
        consent = existing.check_allowed(file, context, find_engine())
        with outputs.alone(out):
            if asked["in_cluster"]:
                return _in_cluster(asked, file, context)
            _demand_admission(file, context, consent)
            outputs.remove(out)
            arguments += [f"--kubeconfig={file}", f"--kube-context={context}"]
            return _pytest(arguments, screen)
    lane = Lane(asked["k8s"], asked["proxy"], asked["family"], asked["shape"])
    name = asked["cluster_name"] or lane.cluster_name
    steps = Steps(quiet=asked["quiet"])
    with outputs.alone(out), _told_what_is_left(name, steps), ExitStack() as leased:
        with outputs.replaced(out):
            engine = ensure_engine(steps)
            # Before it is missed, and the cluster taken for one that is broken.
            if undone := leftovers.undo_on_nodes(engine):
                steps.say(f"undid what an interrupted run had changed on nodes (in all: {undone})")
            lane, tools = ready(lane, engine, steps, asked["node_image"])
            evidence = outputs.of_cluster(out)
            cluster = leased.enter_context(
                kind.lease(lane, tools, steps, name=name, keep=asked["keep"], evidence=evidence)
            )
            if not asked["in_cluster"]:
                _demand_admission(cluster.kubeconfig_path, cluster.context)
        if asked["in_cluster"]:
            return _in_cluster(asked, cluster.kubeconfig_path, cluster.context, lane)
        arguments += [
            *(f"--k8s={lane.version}", f"--proxy={lane.proxy}", f"--family={lane.family}"),
            *(f"--shape={lane.shape}", f"--kind-bin={tools.kind}", f"--kind-image={tools.image}"),
            f"--cluster-name={name}",
            "--leased",
            *(["--keep-cluster"] if asked["keep"] else []),
        ]
        return _pytest(arguments, screen)


def _in_cluster(
    asked: Mapping[str, Any], kubeconfig: Path, context: str, lane: Lane | None = None
) -> int:
    # What it needs is not needed by any other run.
    from e2e.commands.in_cluster import run_in_cluster  # noqa: PLC0415

    try:
        return run_in_cluster(asked, kubeconfig, context, find_engine(), lane=lane)
    except ApiRefusedError as error:
        raise CannotRunError(str(error)) from error


def _demand_no_shard(asked: Mapping[str, Any]) -> None:
    from e2e.commands.in_cluster import of_shards  # noqa: PLC0415

    if asked["shard"] or asked["more"]:
        raise UsageError(
            "--in-cluster goes with neither --shard nor options for pytest",
            "say how many shards there are by --shards=4",
        )
    of_shards(asked)


def _demand_admission(file: Path, context: str, consent: existing.Consent | None = None) -> None:
    """Ask the cluster whether it may be written to.

    pytest asks again, by the copy of the context with which it goes on, but its own exit code 3 is
    an internal error.
    """
    with tempfile.TemporaryDirectory() as secrets:
        admit(Api(file, context, secrets=Path(secrets)), consent)


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
        process = begin([*own_program("pytest"), *arguments], output)
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
