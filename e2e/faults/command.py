"""The command `nodeport-e2e faults`: does the contract notice when a cluster is broken?"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from e2e.cluster import lease, leftovers, namespace
from e2e.cluster.api import Api
from e2e.cluster.consent import admit
from e2e.cluster.node import all_nodes
from e2e.cluster.undo import Undo
from e2e.errors import RefusedError
from e2e.faults.asking import Asking
from e2e.faults.making import Here
from e2e.faults.trying import BASELINE, NotWellError, Trials, spared_by
from e2e.options import PROCESSES, of_lane, of_making, of_version, option
from e2e.provider import kind, node_image
from e2e.provider.cache import ensure_room
from e2e.provider.engine import ensure_engine
from e2e.provider.interrupts import shielded
from e2e.provider.kind_binary import ensure_kind
from e2e.provider.lane import Lane
from e2e.provider.steps import Steps
from e2e.report.faults import Fault, choose_faults
from e2e.report.matrix import MATRIX, Matrix, Trial, counted

# Gigabytes of evidence.
ROOM = 0.5


@click.command()
@of_version
@of_lane
@of_making
@option("--fault", "FAULT", default=None, help="These alone; all by default.")
@option("--shard", "SHARD", default=None, help="A part of them, such as 1/4.")
@option("--processes", "PROCESSES", default=PROCESSES, help="So many clauses at once.")
@option("--out", "OUT", default="out", help="The folder of the results.")
def faults(**asked: Any) -> int:
    """Break a cluster of ours in one way after another, and see which clauses notice.

    Exit codes: 0 every fault was noticed by all that had to, 1 one was not, 2 that is not known.
    """
    lane = Lane(asked["k8s"], asked["proxy"], asked["family"], asked["shape"])
    chosen = choose_faults(asked["fault"], asked["shard"], lane.proxy)
    out = Path(asked["out"]).absolute()
    ensure_room(out, gigabytes=ROOM, what="faults", variable="E2E_OUT")
    name = asked["cluster_name"] or lane.cluster_name
    steps = Steps()
    engine = ensure_engine(steps)
    leftovers.undo_on_nodes(engine)
    program = ensure_kind(steps)
    image = node_image.resolve(lane.version, engine, steps, asked["node_image"])
    lane = replace(lane, version=image.version)
    tools = kind.Tools(engine, program, image.reference)
    evidence = out / "evidence" / "cluster"
    run = leftovers.new_run()
    with kind.lease(lane, tools, steps, name=name, keep=asked["keep"], evidence=evidence) as it:
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
                trials = Trials(here, it, asking, shared, out, steps.say)
                matrix = _try_all(trials, chosen, steps)
    click.echo(f"{counted(matrix.trials)}\n{out / MATRIX}")
    return matrix.exit_code


@contextmanager
def _cleaned(here: Here, run: str, steps: Steps) -> Iterator[None]:
    """Remove at the end what the run made in a cluster that may be kept."""
    try:
        yield
    finally:
        with shielded(steps.say):
            leftovers.remove_callers(here.undo.engine, run=run)
            namespace.remove(here.api, namespace.runs(here.api).get(run, []), wait=False)


def _try_all(trials: Trials, chosen: Sequence[Fault], steps: Steps) -> Matrix:
    """Try all of them, and keep what is known after each."""
    began, moment = time.monotonic(), datetime.now(UTC)
    asked = list(dict.fromkeys(c for fault in chosen for c in (*fault.clauses, *spared_by(fault))))
    with steps.step(BASELINE, f"{len(asked)} clauses while nothing is broken") as step:
        healthy = trials.asking.ask(asked, trials.out / "faults" / BASELINE)
        wrong = [name for name, clause in healthy.items() if clause.is_wrong]
        step.done(f"{', '.join(wrong)} did not hold" if wrong else "all held")
    done: list[Trial] = []
    for number, fault in enumerate(chosen, 1):
        with steps.step("fault", f"{number} of {len(chosen)}, {fault.name}") as step:
            try:
                trial = trials.try_out(fault, healthy)
            except NotWellError:
                step.done("the cluster is not well afterwards")
                raise
            step.done(told(trial))
        done.append(trial)
        matrix = Matrix(began=moment, seconds=time.monotonic() - began, trials=tuple(done))
        matrix.save(trials.out)
    return matrix


def told(trial: Trial) -> str:
    """What became of one fault, in a line."""
    return "; ".join(
        filter(
            None,
            (
                trial.ended,
                trial.said,
                f"not by {', '.join(trial.silent)}" if trial.ended in ("partly", "missed") else "",
                "the wrong node was named" if trial.named is False else "",
                f"the reason was another: {' | '.join(trial.why)}"
                if trial.explained is False
                else "",
                f"so did {', '.join(trial.fell)}" if trial.fell else "",
            ),
        )
    )
