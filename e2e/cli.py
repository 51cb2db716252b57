"""The command `nodeport-e2e`."""

import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import IO, Any

import click
from click.shell_completion import get_completion_class
from rich.console import Console

from e2e.before.commands import doctor, explain, plan
from e2e.cluster import leftovers
from e2e.cluster.api import Api
from e2e.errors import CannotRunError, StopError, StoppedError, UsageError
from e2e.fixtures.settings import ROOM
from e2e.history import history
from e2e.options import PROCESSES, of_choice, of_cluster, option
from e2e.provider import existing, kind, node_image
from e2e.provider.cache import ensure_room
from e2e.provider.engine import ensure_engine, find_engine, stop_engine
from e2e.provider.kind_binary import ensure_kind
from e2e.provider.lane import Lane
from e2e.provider.steps import Steps
from e2e.report import contract_document
from e2e.report.clauses import CONTRACT, choose
from e2e.report.outputs import MADE
from e2e.screen import Screen
from e2e.upgrade import schemas
from e2e.upgrade.command import watch
from e2e.upgrade.commands import compare, prepare, verify
from e2e.upgrade.disturb.command import disturb
from e2e.upgrade.scenario import scenario

COULD_NOT_RUN = 2
PROGRAM = "nodeport-e2e"


@click.group(context_settings={"auto_envvar_prefix": "E2E", "help_option_names": ["-h", "--help"]})
def group() -> None:
    """Proves with real requests from outside that a cluster keeps the NodePort contract.

    Exit codes: 0 all held, 1 a clause did not, 2 could not run, 3 refused for safety, 4 usage.
    """


for command in (
    plan,
    explain,
    doctor,
    prepare,
    watch,
    verify,
    compare,
    disturb,
    scenario,
    history,
):
    group.add_command(command)


def main() -> None:
    """Run the command; a known situation ends with its message and its exit code."""
    try:
        signal.signal(signal.SIGTERM, _as_interrupt)
        # A script that starts this in the background lets it ignore Ctrl-C, and pytest with it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        code = group.main(standalone_mode=False)
    except StopError as error:
        _say(str(error))
        code = error.exit_code
    except click.ClickException as error:
        error.show()
        code = UsageError.exit_code
    except (click.Abort, KeyboardInterrupt):
        _say(str(StoppedError()))
        code = StoppedError.exit_code
    except Exception:  # noqa: BLE001  # whatever it is, it is no verdict, as Python's own 1 would be
        traceback.print_exc()
        code = COULD_NOT_RUN
    sys.exit(code or 0)


@group.command()
@of_cluster
@option("--node-image", "NODE_IMAGE", default=None, help="Take this node image.")
@option("--keep", "KEEP", is_flag=True, help="Keep the cluster; the next run takes it.")
@of_choice
@option("--processes", "PROCESSES", default=PROCESSES, help="0 for one after another.")
@option("--out", "OUT", default="out", help="The folder of the results.")
@option("--quiet", "QUIET", is_flag=True, help="Tell what went wrong, and the last screen alone.")
@click.option("--json", "as_json", is_flag=True, help="Print the last screen as JSON, no more.")
@click.argument("more", nargs=-1, type=click.UNPROCESSED, metavar="[-- PYTEST OPTIONS]")
def run(**asked: Any) -> int:
    """Ask the whole contract of a cluster, which is made if need be."""
    out = Path(asked["out"]).absolute()
    choose(asked["only"], asked["families"], ours=asked["provider"] == "kind")
    arguments = [
        str(CONTRACT),
        *("-p", "no:cacheprovider", "--tb=short", "--no-header", "-rN", f"--out={out}"),
        f"--junitxml={out / 'junit.xml'}",
        f"--provider={asked['provider']}",
        *(f"--{name}={asked[name]}" for name in ("families", "only") if asked[name]),
        *([f"--numprocesses={asked['processes']}", "--dist=worksteal", "--max-worker-restart=0"]
          if asked["processes"] else []),
        *asked["more"],
    ]  # fmt: skip
    screen = Screen(quiet=asked["quiet"], as_json=asked["as_json"])
    if asked["provider"] == "existing":
        file = Path(asked["kubeconfig"] or existing.default_kubeconfig())
        existing.check_allowed(file, asked["kube_context"], find_engine())
        _remove_results(out)
        arguments += [f"--kubeconfig={file}", f"--kube-context={asked['kube_context']}"]
        return _pytest(arguments, screen)
    lane = Lane(asked["k8s"], asked["proxy"], asked["family"], asked["shape"])
    ensure_room(out, gigabytes=ROOM, what="a run", variable="E2E_OUT")
    _remove_results(out)
    name = asked["cluster_name"] or lane.cluster_name
    steps = Steps(quiet=asked["quiet"])
    with _told_what_is_left(name, steps):
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
        with kind.lease(lane, tools, steps, name=name, keep=asked["keep"], evidence=evidence):
            return _pytest(arguments, screen)


@group.command(name="node-image")
@option("--k8s", "K8S", default=node_image.DEFAULT, help="Version of Kubernetes.")
@option("--node-image", "NODE_IMAGE", default=None, help="Take this node image.")
def make_node_image(k8s: str, node_image: str | None) -> None:
    """Find or make the node image alone, and print its name."""
    from e2e.provider.node_image import resolve  # noqa: PLC0415  # the option has its name

    steps = Steps()
    click.echo(resolve(k8s, ensure_engine(steps), steps, node_image).reference)


@group.command()
@option("--kube-context", "KUBE_CONTEXT", default=None, help="Clean up in this cluster too.")
@option("--kubeconfig", "KUBECONFIG", default=None, help="The file that has the context.")
def clean(kube_context: str | None, kubeconfig: str | None) -> None:
    """Remove every cluster, container, namespace and folder that interrupted runs left behind."""
    steps = Steps()
    engine = find_engine()
    file = Path(kubeconfig or existing.default_kubeconfig())
    if kube_context:
        existing.check_allowed(file, kube_context, engine)
    failures = kind.sweep(steps) if engine else _clusters_out_of_reach(steps)
    if engine:
        with _gathered(failures), steps.step("callers", "they stand beside the nodes") as step:
            removed = leftovers.remove_callers(engine)
            step.done(f"removed {len(removed)}") if removed else step.skip("none were left")
    if kube_context:
        why = f"interrupted runs left them and cordons in {kube_context}"
        with _gathered(failures), steps.step("namespaces", why) as step:
            gone, foreign = leftovers.undo_in_cluster(Api(file, kube_context), kept=True)
            stay = f"; {', '.join(foreign)} belong to runs of other machines" if foreign else ""
            step.done(f"removed {', '.join(gone) or 'none'}{stay}")
    with steps.step("folders", "interrupted runs shared them") as step:
        dead = leftovers.remove_folders(engine)
        step.done(f"removed {len(dead)}") if dead else step.skip("none were left")
    if failures:
        raise CannotRunError("\n".join(str(failure) for failure in failures))


def _clusters_out_of_reach(steps: Steps) -> list[StopError]:
    """Say which clusters cannot be looked for, as no engine answers."""
    names = kind.recorded()
    with steps.step("cluster", "no container engine answers") as step:
        step.skip(f"{', '.join(names)} could not be looked for" if names else "none is noted")
    do = "start the engine, and run this again"
    return [CannotRunError(f"no engine answers, so {', '.join(names)} stay", do)] if names else []


@contextmanager
def _gathered(failures: list[StopError]) -> Iterator[None]:
    """Go on after a failure, and keep it for the end."""
    try:
        yield
    except StopError as error:
        failures.append(error)


@group.command(name="stop-engine")
def stop_the_engine() -> None:
    """Stop the container engine, if a run started it."""
    click.echo(stop_engine())


@group.command()
@click.option("--check", is_flag=True, help="Write nothing; fail if it is stale.")
@click.option(
    "--seen",
    type=click.Path(exists=True, path_type=Path),
    multiple=True,
    help="Keep which clauses held in this junit.xml.",
)
def document(check: bool, seen: tuple[Path, ...]) -> None:
    """Write docs/contract.md from the clauses, and docs/schemas from what files hold."""
    for junit in seen:
        click.echo(f"kept what held on {contract_document.record(junit)}")
    made = {contract_document.DOCUMENT: contract_document.text()}
    made |= {schemas.SCHEMAS / name: text for name, text in schemas.documents().items()}
    for file, text in made.items():
        if check and (not file.exists() or file.read_text() != text):
            raise UsageError(f"{file.name} is stale", "make docs")
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)


@group.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what completes commands, options and clauses in a shell, to be read by it."""
    complete = get_completion_class(shell)
    assert complete is not None
    click.echo(
        complete(group, {}, PROGRAM, f"_{PROGRAM.replace('-', '_').upper()}_COMPLETE").source()
    )


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
    argv = [*tied, sys.executable, "-m", "pytest", *arguments]
    process: subprocess.Popen[bytes] | None = None
    asked = handed = 0

    def hand_on(_: int, __: FrameType | None) -> None:
        nonlocal asked, handed
        asked += 1
        if process and not handed:
            handed += 1
            process.send_signal(signal.SIGINT)
        _say("still stopping: pytest removes what it made" if asked > 1 else "stopping pytest")

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
    return code if code in (0, 1, UsageError.exit_code) else COULD_NOT_RUN


def _as_interrupt(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


def _say(text: str) -> None:
    Console(stderr=True, emoji=False).print(text, markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
