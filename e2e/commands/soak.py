"""The command `nodeport-e2e soak`: the same lane again and again, and how often it failed."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from e2e.check.distribution import FALSE_ALARM
from e2e.errors import CannotRunError, UsageError
from e2e.options import of_choice, of_lane, of_making, of_version, option
from e2e.plain import count_of
from e2e.provider import kind
from e2e.provider.clusters import CLUSTERS, named, none_came, run_on_clusters
from e2e.provider.command import own_program, run_to_its_end
from e2e.provider.engine import ensure_engine
from e2e.provider.lane import Lane
from e2e.provider.ready import ready
from e2e.provider.steps import Steps
from e2e.report.outputs import alone, of_cluster, remove_folder
from e2e.report.result import RESULT, Result

# What can fail by chance in a run of three nodes, for each IP family; docs/decisions/statistics.md.
VERDICTS = 87
# The shape that has three nodes.
USUAL = "two-workers"
# Of each run, beside its results.
LOG = "run.log"
# What each of several clusters is told too.
VALUES = ("k8s", "proxy", "family", "shape", "node_image", "only", "families")


@dataclass(frozen=True)
class Ended:
    """How one run ended.

    Attributes:
        code: its exit code.
        held: how many clauses held.
        failed: the ids of those that did not.
        broken: of those that could not be judged.
    """

    code: int
    held: int = 0
    failed: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [f"{self.held} held"]
        for what, ids in (("failed", self.failed), ("not judged", self.broken)):
            parts.append(f"{len(ids)} {what}" + (f" ({', '.join(ids)})" if ids else ""))
        odd = f", though it ended with {self.code}" if self.is_odd else ""
        return ", ".join(parts) + odd

    @property
    def is_odd(self) -> bool:
        """Whether it ended otherwise than its clauses say, as one that did not get so far."""
        return self.code not in (0, 1) and not self.broken


@click.command()
@option("--times", "TIMES", type=click.IntRange(1), default=50, help="So many runs.")
@option("--clusters", "CLUSTERS", type=click.IntRange(1), default=1,
        help="On so many clusters at once.")  # fmt: skip
@of_version
@of_lane
@of_making
@of_choice
@option("--out", "OUT", default="out/soak", help="The folder of the results, one each.")
def soak(**asked: Any) -> int:
    """Ask the contract of a cluster again and again, whatever comes, and count what failed.

    Exit codes: 0 all held each time, 1 a clause failed once, 2 a run came to no verdict; with
    several clusters 3 and 4 too, if one was refused.
    """
    lane = Lane(asked["k8s"], asked["proxy"], asked["family"], asked["shape"])
    out, steps = Path(asked["out"]).absolute(), Steps()
    name, parts = asked["cluster_name"] or lane.cluster_name, _parts(asked)
    ended: list[Ended] = []
    worst = 0
    with alone(out):
        try:
            if len(parts) == 1:
                for each in _soaked(asked, lane, name, out, steps):
                    ended.append(each)  # noqa: PERF402  # of those before it is stopped
            else:
                commands = dict(zip(named(name, len(parts)), parts, strict=True))
                _remove_earlier(out)
                worst = max(run_on_clusters(commands, out, steps.say))
        finally:
            if len(parts) > 1:
                ended += map(_ended, sorted((out / CLUSTERS).glob("*/[0-9]*")))
            # Also of hours that somebody ends with Ctrl-C.
            if ended:
                counted = (asked["only"], asked["families"], lane.shape) == (None, None, USUAL)
                families = 2 if lane.family == "dual" else 1
                click.echo(told(ended, families if counted else 0))
    if not ended:
        raise none_came("no run began", worst)
    return worst if worst > CannotRunError.exit_code else exit_code(ended, asked["times"])


def _remove_earlier(out: Path) -> None:
    """Remove the runs of an earlier soak, of which there may have been more."""
    remove_folder(out, CLUSTERS)
    for log in out.glob(f"[0-9]*/{LOG}"):
        shutil.rmtree(log.parent)


def _parts(asked: Mapping[str, Any]) -> list[list[str]]:
    """What is asked of each cluster, with its share of the runs."""
    count, times = min(asked["clusters"], asked["times"]), asked["times"]
    shares = [times // count + (number < times % count) for number in range(count)]
    words = [
        *(f"--{key.replace('_', '-')}={asked[key]}" for key in VALUES if asked[key] is not None),
        *(["--keep"] if asked["keep"] else []),
    ]
    return [["soak", f"--times={share}", *words] for share in shares]


def _soaked(
    asked: Mapping[str, Any], lane: Lane, name: str, out: Path, steps: Steps
) -> Iterator[Ended]:
    """How each run of one cluster ended, as soon as it did."""
    lane, tools = ready(lane, ensure_engine(steps), steps, asked["node_image"])
    argv = [
        *own_program("e2e.cli"),
        *("run", "--quiet", f"--cluster-name={name}", f"--node-image={tools.image}"),
        *(f"--{part}={getattr(lane, part)}" for part in ("proxy", "family", "shape")),
        f"--k8s={lane.version}",
        *(f"--{part}={asked[part]}" for part in ("only", "families") if asked[part]),
    ]
    evidence = of_cluster(out)
    # Runs take the cluster that this lease holds, and leave it there.
    with kind.lease(lane, tools, steps, name=name, keep=asked["keep"], evidence=evidence):
        _remove_earlier(out)
        for number in range(1, asked["times"] + 1):
            with steps.step("run", f"{number} of {asked['times']} on {lane}") as step:
                ended = _run(argv, out / f"{number:03}", steps)
                step.done(str(ended))
            yield ended


def _run(argv: list[str], out: Path, steps: Steps) -> Ended:
    out.mkdir(parents=True, exist_ok=True)
    (out / RESULT).unlink(missing_ok=True)
    with (out / LOG).open("wb") as log:
        code = run_to_its_end([*argv, f"--out={out}"], steps.say, log)
    return _ended(out, code)


def _ended(out: Path, code: int | None = None) -> Ended:
    """How the run ended whose results these are; by its own exit code, if it is not known."""
    try:
        result = Result.load(out / RESULT)
    except UsageError:
        # There is none, or half of one, of a run that was killed.
        return Ended(code or CannotRunError.exit_code)
    clauses, code = result.clauses, result.exit_code if code is None else code
    ids = {
        end: tuple(clause.clause for clause in clauses if clause.ended == end)
        for end in ("failed", "broken")
    }
    held = sum(clause.ended == "held" for clause in clauses)
    return Ended(code, held, ids["failed"], ids["broken"])


def exit_code(ended: list[Ended], times: int) -> int:
    """1 if a clause failed in any of so many runs, 2 if one came to no verdict, else 0."""
    if any(each.failed for each in ended):
        return 1
    missing = len(ended) < times or any(each.code for each in ended)
    return CannotRunError.exit_code if missing else 0


def told(ended: list[Ended], families: int = 0) -> str:
    """How many runs failed, beside how many would by chance, and what follows from that.

    Args:
        ended: how each ended.
        families: IP families of runs whose verdicts are counted in docs/decisions/statistics.md.
    """
    from scipy import special  # noqa: PLC0415

    # One that came to no verdict says nothing of how often runs fail.
    unknown = sum(bool(each.code) and not each.failed for each in ended)
    runs, failed = len(ended) - unknown, sum(bool(each.failed) for each in ended)
    # Clopper and Pearson: the rate at which so few failures still come once in twenty times.
    rate = float(special.betaincinv(failed + 1, runs - failed, 0.95)) if failed < runs else 1.0
    clauses = sorted({clause for each in ended for clause in each.failed})
    failures = f"{failed} of {count_of(runs, 'run')} failed"
    computed = []
    if families and runs:
        by_chance = 1 - (1 - FALSE_ALARM) ** (VERDICTS * families * runs)
        each = f"{VERDICTS * families} verdicts a run, each wrong once in {1 / FALSE_ALARM:,.0f}"
        computed = [f"computed: a false alarm once in {1 / by_chance:,.0f} times as many ({each})"]
    return "\n".join(
        [
            f"{failures}{': ' if clauses else ''}{', '.join(clauses)}",
            *([f"{unknown} came to no verdict"] if unknown else []),
            *computed,
            f"seen: at most {rate:.1%} of such runs fail, which is sure to 95 %",
        ]
    )
