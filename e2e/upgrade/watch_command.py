"""The command `nodeport-e2e watch`."""

from functools import partial
from pathlib import Path

import click
from rich.console import Console

from e2e.cluster.happenings import Happenings
from e2e.cluster.leftovers import alive, new_run
from e2e.errors import CannotRunError, StoppedError, UsageError
from e2e.provider.kubeconfig import current_context, default_kubeconfig, pin
from e2e.upgrade.live import Screen
from e2e.upgrade.plan import load_complete
from e2e.upgrade.record import RECORD, load
from e2e.upgrade.story import as_text, story_of
from e2e.upgrade.timeline import timeline_page
from e2e.upgrade.watch import Until, Watcher

FOLDER = Path("out/upgrade")
TIMELINE = "timeline.html"
# Of a flow, attempts a second. A port from which one was lost is not used again for two minutes; of
# the 14,116 that are for who binds 12,500 would be lost meanwhile.
SLOWEST, FASTEST = 1.0, 100.0


@click.command()
@click.option(
    "--folder", type=click.Path(path_type=Path), default=FOLDER, show_default=True,
    envvar="E2E_FOLDER", show_envvar=True, help="What `prepare` wrote, and where the record goes.",
)  # fmt: skip
@click.option(
    "--rate", type=float, default=20.0, show_default=True, envvar="E2E_RATE", show_envvar=True,
    help="Attempts a second for every node, path and family.",
)  # fmt: skip
@click.option("--until", type=click.Path(path_type=Path), help="End when this file is there.")
@click.option(
    "--ready", type=click.Path(path_type=Path), help="Make this file when all flows are asked."
)
@click.option("--for", "seconds", type=click.FloatRange(min=0), help="End after so many seconds.")
@click.option(
    "--kube-context", envvar="E2E_KUBE_CONTEXT", show_envvar=True, help="The cluster's context."
)
@click.option(
    "--kubeconfig", type=click.Path(path_type=Path), envvar="E2E_KUBECONFIG", show_envvar=True,
    help="The file that has the context.",
)  # fmt: skip
@click.option("--no-cluster", is_flag=True, help="Ask only; note nothing of the cluster's own.")
@click.option("--plain", is_flag=True, help="A line for each change, also on a terminal.")
@click.option("--called", default="", help="What the command is called in reports.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND...]")
def watch(
    *,
    folder: Path,
    rate: float,
    until: Path | None,
    ready: Path | None,
    seconds: float | None,
    kube_context: str | None,
    kubeconfig: Path | None,
    no_cluster: bool,
    plain: bool,
    called: str,
    command: tuple[str, ...],
) -> int:
    """Ask all that was prepared again and again, until told to stop, and note what happens.

    Ends with Ctrl-C or SIGTERM, when a file is there, after a time, or with the command, whose
    exit code it passes on: nodeport-e2e watch -- ./upgrade.sh. Lines that the command appends to
    the file $NODEPORT_E2E_STEPS, such as "worker-1: drain", are told beside the cluster's events.

    Everything is appended to watch.jsonl in the folder as it happens; the same folder again
    appends to it. timeline.html shows it.
    """
    if not SLOWEST <= rate <= FASTEST:
        raise UsageError(f"--rate is {rate:g}", f"give {SLOWEST:g} to {FASTEST:g} a second")
    if command and (until or seconds is not None):
        raise UsageError(
            "a command is given, and another end too",
            "leave out --until and --for: the watch ends with the command",
        )
    for file in filter(None, (until, ready)):
        if file.exists():
            raise UsageError(f"{file} is there already", "remove it, or name another file")
    plan = load_complete(folder)
    console = Console(stderr=True, emoji=False, highlight=False)
    # Beside what a command writes to the same terminal, a table would be torn.
    live = console.is_terminal and not plain and not command
    screen = Screen(console, live=live)
    ends = Until(until, seconds, command, called)
    try:
        with alive(new_run()) as copies:
            happenings = None
            if not no_cluster:
                file = Path(kubeconfig or default_kubeconfig())
                try:
                    context = kube_context or current_context(file)
                    copy = pin(file, context, copies)
                    happenings = partial(Happenings, copy, context, plan.cluster, plan.namespace)
                except UsageError as error:
                    screen.say(
                        f"{error.what}, so nothing is noted of what happens in the cluster, and no "
                        "outage gets a reason; name the file with --kubeconfig"
                    )
            code = Watcher(folder, plan, rate, screen).watch(ends, happenings, ready)
    finally:
        screen.close()
    story = story_of(load(folder))
    (folder / TIMELINE).write_text(timeline_page(story))
    click.echo(as_text(story), nl=False)
    click.echo(f"record: {folder / RECORD}, time line: {folder / TIMELINE}")
    if code is not None:
        return code
    if command:
        raise StoppedError(f"{command[0]} was not begun")
    return 0 if any(one.judged.answered for one in story.flows) else CannotRunError.exit_code
