"""The command `nodeport-e2e faults`: does the contract notice when a cluster is broken?"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from e2e.cluster import lease, leftovers, namespace
from e2e.cluster.api import Api
from e2e.cluster.consent import admit
from e2e.cluster.node import all_nodes
from e2e.cluster.undo import Undo
from e2e.errors import CannotRunError, InUseError, RefusedError, UsageError
from e2e.faults.asking import Asking
from e2e.faults.making import Here
from e2e.faults.specs import Specs
from e2e.faults.spread import brought, dealt, how_many, try_on_clusters
from e2e.faults.trying import BASELINE, BREAKS, NotWellError, Trials
from e2e.options import PROCESSES, of_lane, of_making, of_shard, of_version, option
from e2e.plain import count_of
from e2e.provider import kind
from e2e.provider.cache import ensure_room
from e2e.provider.clusters import CLUSTERS, none_came
from e2e.provider.engine import ensure_engine
from e2e.provider.interrupts import shielded
from e2e.provider.lane import Lane
from e2e.provider.ready import ready
from e2e.provider.steps import Steps
from e2e.report import lanes
from e2e.report.faults import OF_TRAFFIC, Fault, choose_faults
from e2e.report.faults_page import PAGE, faults_page
from e2e.report.matrix import MATRIX, Matrix, Trial
from e2e.report.outputs import alone, of_cluster, remove_folder

# Whoever asks this places the echoes that scripts of faults are about.
PLACES = OF_TRAFFIC[0]
# Gigabytes of evidence.
ROOM = 0.5
# So many faults that were not tried are named on the screen.
NAMED = 10
# A run that ends so has touched nothing, nor what an earlier one left.
REFUSALS = (RefusedError, UsageError)


@dataclass
class Kept:
    """What is known by then of the faults of this run, in files.

    Attributes:
        out: the folder of the results.
        matrix: what they say; nothing before the first fault was tried.
    """

    out: Path
    matrix: Matrix | None = None

    def keep(self, matrix: Matrix) -> None:
        """Write them."""
        matrix.save(self.out)
        (self.out / PAGE).write_text(faults_page(matrix))
        self.matrix = matrix

    def remove(self) -> None:
        """Remove what an earlier run found, so that nobody takes it for that of this one."""
        for name in (MATRIX, PAGE):
            (self.out / name).unlink(missing_ok=True)

    def tell(self) -> None:
        """Tell a person what they say, if there are any."""
        if self.matrix is None:
            return
        click.echo(f"{self.matrix.counted}; {count_of(round(self.matrix.seconds / 60), 'minute')}")
        if names := self.matrix.untried:
            more = f" and {len(names) - NAMED} more" if names[NAMED:] else ""
            click.echo(f"not tried: {', '.join(names[:NAMED])}{more}")
        click.echo(f"{self.out / MATRIX}\n{self.out / PAGE}")


@click.command()
@of_version
@of_lane
@of_making
@option("--fault", "FAULT", default=None, help="These alone; all by default.")
@of_shard
@option("--quick", "QUICK", is_flag=True, help="Leave out clauses that may notice, and need not.")
@option("--trust", "TRUST", is_flag=True, help="Do not ask before what held on this lane.")
@option("--specs", "SPECS", is_flag=True, help="Ask Kubernetes' own NodePort specs too.")
@option("--processes", "PROCESSES", default=PROCESSES, help="So many clauses at once.")
@option("--clusters", "CLUSTERS", type=click.IntRange(1), default=None,
        help="Try faults on so many at once; on two where there are many faults.")  # fmt: skip
@option("--out", "OUT", default="out", help="The folder of the results.")
def faults(**asked: Any) -> int:
    """Break a cluster of ours in one way after another, and see which clauses notice.

    Exit codes: 0 every fault was noticed by all that had to, 1 one was not, 2 that is not known.
    """
    lane = Lane(asked["k8s"], asked["proxy"], asked["family"], asked["shape"])
    chosen = choose_faults(asked["fault"], asked["shard"], lane)
    out = Path(asked["out"]).absolute()
    ensure_room(out, gigabytes=ROOM, what="faults", variable="E2E_OUT")
    asked["cluster_name"] = asked["cluster_name"] or lane.cluster_name
    steps = Steps()
    parts = dealt(chosen, asked["clusters"] or how_many(chosen), lane)
    kept = Kept(out)
    with alone(out):
        try:
            if len(parts) == 1:
                matrix, code = _try_here(asked, lane, chosen, kept, steps), 0
            else:
                matrix, code = _try_there(asked, chosen, parts, kept, steps)
        finally:
            # Also if somebody ends it with Ctrl-C, or a cluster is lost.
            kept.tell()
    return code or matrix.exit_code


def _try_here(
    asked: Mapping[str, Any], lane: Lane, chosen: Sequence[Fault], kept: Kept, steps: Steps
) -> Matrix:
    """Try all of them on one cluster."""
    with ExitStack() as needed:
        try:
            trials = needed.enter_context(_trials(asked, lane, kept.out, steps))
        except (*REFUSALS, InUseError):
            raise
        except BaseException:
            kept.remove()
            raise
        kept.remove()
        remove_folder(kept.out, CLUSTERS)
        return _try_all(trials, chosen, kept, steps)


def _try_there(
    asked: Mapping[str, Any],
    chosen: Sequence[Fault],
    parts: Sequence[Sequence[Fault]],
    kept: Kept,
    steps: Steps,
) -> tuple[Matrix, int]:
    """Try each part on a cluster of its own; gives the exit code of the worst too.

    Raises:
        CannotRunError, RefusedError, UsageError: no fault was tried; the worst of the reasons.
    """
    began, moment = time.monotonic(), datetime.now(UTC)
    remove_folder(kept.out, CLUSTERS)
    code = CannotRunError.exit_code
    try:
        code = try_on_clusters(asked, parts, kept.out, steps)
    finally:
        trials, took = brought(kept.out, chosen), time.monotonic() - began
        left = untried(chosen, trials)
        matrix = Matrix(began=moment, seconds=took, trials=trials, untried=left)
        if trials:
            kept.keep(matrix)
        elif code not in [error.exit_code for error in REFUSALS]:
            kept.remove()
    if not trials:
        raise none_came("no fault was tried", code)
    return matrix, code


@contextmanager
def _trials(asked: Mapping[str, Any], lane: Lane, out: Path, steps: Steps) -> Iterator[Trials]:
    """What tries faults on a cluster of ours, for as long as the context lasts."""
    name = asked["cluster_name"]
    engine = ensure_engine(steps)
    leftovers.undo_on_nodes(engine)
    lane, tools = ready(lane, engine, steps, asked["node_image"])
    evidence = of_cluster(out)
    run = leftovers.new_run()
    with kind.lease(
        lane, tools, steps, name=name, keep=asked["keep"], evidence=evidence, breaks=BREAKS
    ) as it:
        if name not in kind.recorded():
            raise RefusedError(
                f"the cluster {name} was not made by us, so it is not broken",
                "choose another --cluster-name",
            )
        with leftovers.alive(run) as shared:
            api = Api(it.kubeconfig_path, it.context, secrets=shared)
            cluster = admit(api)
            here = Here(api, all_nodes(api), Undo(engine, shared), shared)
            asking = Asking(lane, name, tools, run, asked["processes"], steps)
            with lease.held(api, cluster, say=steps.say), _cleaned(here, run, steps):
                known = frozenset(lanes.seen().get(str(lane), []))
                specs = (
                    Specs.of(lane.version, api, asked["processes"], steps)
                    if asked["specs"]
                    else None
                )
                yield Trials(
                    here,
                    it,
                    asking,
                    shared,
                    out,
                    known,
                    asked["trust"],
                    asked["quick"],
                    specs,
                    steps.say,
                )


@contextmanager
def _cleaned(here: Here, run: str, steps: Steps) -> Iterator[None]:
    """Remove at the end what the run made in a cluster that may be kept."""
    try:
        yield
    finally:
        with shielded(steps.say):
            leftovers.remove_callers(here.undo.engine, run=run)
            namespace.remove(here.api, namespace.of_run(here.api, run), wait=False)


def _try_all(trials: Trials, chosen: Sequence[Fault], kept: Kept, steps: Steps) -> Matrix:
    """Try all of them, and keep what is known after each."""
    began, moment = time.monotonic(), datetime.now(UTC)
    asked = list(
        dict.fromkeys([PLACES, *(c for fault in chosen for c in trials.baseline_of(fault))])
    )
    with steps.step(BASELINE, f"{count_of(len(asked), 'clause')} while nothing is broken") as step:
        healthy = trials.asking.ask(asked, trials.out / "faults" / BASELINE)
        wrong = [name for name, clause in healthy.items() if clause.is_wrong]
        step.done(f"{', '.join(wrong)} did not hold" if wrong else "all held")
    passed = _specs_that_pass(trials, steps)
    done: list[Trial] = []
    for number, fault in enumerate(chosen, 1):
        with steps.step("fault", f"{number} of {len(chosen)}, {fault.name}") as step:
            broken: NotWellError | None = None
            try:
                trial = trials.try_out(fault, healthy, passed)
            except NotWellError as error:
                broken, trial = error, error.trial
            step.done(told(trial))
        done.append(trial)
        matrix = Matrix(
            began=moment,
            seconds=time.monotonic() - began,
            trials=tuple(done),
            untried=untried(chosen, done),
        )
        kept.keep(matrix)
        if broken:
            raise broken
    return matrix


def untried(chosen: Sequence[Fault], trials: Iterable[Trial]) -> tuple[str, ...]:
    """The names of the faults of which nothing is said."""
    tried = {trial.fault for trial in trials}
    return tuple(fault.name for fault in chosen if fault.name not in tried)


def _specs_that_pass(trials: Trials, steps: Steps) -> list[str]:
    """Kubernetes' own specs that pass while nothing is broken."""
    if trials.specs is None:
        return []
    with steps.step("specs", "they are asked beside the clauses") as step:
        ended = trials.specs.run(trials.out / "faults" / BASELINE / "specs")
        passed = [name for name, how in ended.items() if how == "passed"]
        step.done(f"{len(passed)} of {len(ended)} pass while nothing is broken")
    return passed


def told(trial: Trial) -> str:
    """What became of one fault, in a line."""
    return "; ".join(
        filter(
            None,
            (
                trial.ended,
                trial.said,
                f"not by {', '.join(trial.silent)}" if trial.silent else "",
                f"not judged: {', '.join(trial.unjudged)}" if trial.unjudged else "",
                "the wrong node was named" if trial.named is False else "",
                f"the reason was another: {' | '.join(trial.why)}"
                if trial.explained is False
                else "",
                f"so did {', '.join(trial.fell)}" if trial.fell else "",
                f"{count_of(len(trial.proved), 'clause')} failed" if trial.also else "",
                f"{len(trial.noticed_by_specs)} of {len(trial.specs)} specs failed"
                if trial.specs
                else "",
            ),
        )
    )
