"""Kubernetes' own NodePort specs beside the clauses that cover what they check."""

import time
import tomllib
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from e2e.bench.ground import FAMILIES, Ground
from e2e.cluster.api import Api
from e2e.cluster.leftovers import without_specs
from e2e.errors import CannotRunError
from e2e.plain import count_of
from e2e.provider.pins import read_pins
from e2e.provider.specs import Result, compile_specs, run_specs
from e2e.report.clauses import Clause, read_clauses
from e2e.report.junit import Case
from e2e.report.summary import FAILED, HELD

NAME = "specs"
TITLE = "Kubernetes' own NodePort specs"
AIM = 8
TABLE = Path(__file__).parent / "upstream.toml"


@dataclass(frozen=True)
class Behaviour:
    """What one spec looks at.

    Attributes:
        spec: its name without marks.
        checks: ids of the catalogue.
        waits: whether it mostly waits for a time that it prescribes itself.
    """

    spec: str
    checks: tuple[str, ...]
    waits: bool = False


@dataclass(frozen=True)
class Comparison:
    """One spec beside the clauses that cover what it checks.

    Attributes:
        spec: its name without marks.
        checks: ids of the catalogue.
        waits: whether it mostly waits for a time that it prescribes itself.
        why_not: why they are not compared; nothing if they are.
        theirs: seconds of the spec, the median.
        clauses: the ids of the clauses.
        ours: seconds of all these clauses together, the median.
    """

    spec: str
    checks: tuple[str, ...]
    waits: bool
    why_not: str = ""
    theirs: float = 0.0
    clauses: tuple[str, ...] = ()
    ours: float = 0.0


def behaviours(file: Path = TABLE) -> list[Behaviour]:
    """The table of specs."""
    content = tomllib.loads(file.read_text())
    return [
        Behaviour(spec, tuple(row["checks"]), row.get("waits", False))
        for spec, row in content.items()
    ]


def uncovered(behaviour: Behaviour, covered: Iterable[str]) -> list[str]:
    """The ids of a behaviour that none of these covers."""
    return sorted(set(behaviour.checks) - set(covered))


def compare(
    behaviour: Behaviour, theirs: Sequence[Sequence[Result]], ours: Sequence[Sequence[Case]]
) -> Comparison:
    """Put the runs of one spec beside those of the clauses that cover the same.

    Args:
        behaviour: the spec and what it checks.
        theirs: the results of each run of the specs.
        ours: the clauses of each run of the contract.
    """
    row = Comparison(behaviour.spec, behaviour.checks, behaviour.waits)
    held = [{i for case in run if case.ended == HELD for i in case.covers} for run in ours]
    if missing := uncovered(behaviour, set.intersection(*held)):
        return replace(row, why_not=f"no clause that held each time covers {', '.join(missing)}")
    found = [result for run in theirs for result in run if result.plain_name == behaviour.spec]
    unlike = [result for result in found if result.status != "passed"]
    if not found:
        return replace(row, why_not="this version has no such spec")
    if unlike:
        why = f": {unlike[0].said}" if unlike[0].said else ""
        return replace(row, why_not=f"the spec was {unlike[0].status}{why}")
    runs = [[case for case in run if case.covers & set(behaviour.checks)] for run in ours]
    return replace(
        row,
        theirs=median(result.seconds for result in found),
        clauses=tuple(sorted({case.clause for case in runs[0]})),
        ours=median(sum(case.seconds for case in run) for run in runs),
    )


def measure(ground: Ground) -> dict[str, Any]:
    """Run both alternately."""
    release = read_pins().releases.get(ground.lane.version)
    if release is None:
        raise CannotRunError(
            f"the specs of Kubernetes {ground.lane.version} are unknown here", "choose another K8S"
        )
    table, clauses = behaviours(), read_clauses()
    covers = {i for clause in clauses for i in clause.covers}
    asked = [each for each in table if not uncovered(each, covers)]
    names = ",".join(covering({i for each in asked for i in each.checks}, clauses))
    if not asked:
        raise CannotRunError("no spec has clauses that cover what it checks")
    program = compile_specs(release.kubernetes, ground.steps)
    theirs, ours, their_seconds, our_seconds = [], [], [], []
    for number in range(1, ground.times + 1):
        results, took = _run_theirs(ground, program, [each.spec for each in asked], number)
        theirs.append(results)
        their_seconds.append(took)
        ground.quiet()
        with ground.steps.step("clauses", "they cover what the specs check") as step:
            run = ground.ask(f"{NAME}/clauses", f"--only={names}")
            failed = run.ended(FAILED)
            but = f", {', '.join(failed)} failed" if failed else ""
            step.done(f"run {number} of {ground.times}: {count_of(len(run.cases), 'clause')}{but}")
        ours.append(run.cases)
        our_seconds.append(run.seconds)
    return {
        "behaviours": [
            asdict(compare(each, theirs, ours) if each in asked else _left_out(each, covers))
            for each in table
        ],
        "specs_seconds": their_seconds,
        "clauses_seconds": our_seconds,
        "clauses_failed": sorted({c.clause for run in ours for c in run if c.is_wrong}),
    }


def _left_out(behaviour: Behaviour, covered: Iterable[str]) -> Comparison:
    why = f"no clause covers {', '.join(uncovered(behaviour, covered))}"
    return Comparison(behaviour.spec, behaviour.checks, behaviour.waits, why)


def covering(ids: Set[str], clauses: Iterable[Clause]) -> list[str]:
    """Few clauses that cover these ids: always the one that covers most of what is left.

    One that is slow, disturbs the cluster, or pins a bug is taken only where no other is left.
    """

    def use(clause: Clause) -> tuple[bool, bool, int]:
        is_usual = set(clause.families) <= set(FAMILIES)
        found = len(left & set(clause.covers))
        return (found > 0, is_usual and not clause.known_bug, found)

    known, chosen, left = list(clauses), [], set(ids)
    while left:
        best = max(known, key=use, default=None)
        if best is None or left.isdisjoint(best.covers):
            break
        chosen.append(best.id)
        left.difference_update(best.covers)
    return chosen


def _run_theirs(
    ground: Ground, program: Path, names: list[str], number: int
) -> tuple[list[Result], float]:
    ground.quiet()
    with (
        without_specs(Api(ground.kubeconfig)),
        ground.steps.step("specs", "they are what the clauses are compared with") as step,
    ):
        began = time.monotonic()
        results = run_specs(
            program,
            ground.kubeconfig,
            ground.out / NAME / "specs",
            progress=step.progress,
            names=names,
        )
        took = time.monotonic() - began
        passed = sum(result.status == "passed" for result in results)
        step.done(f"run {number} of {ground.times}: {passed} of {len(results)} specs passed")
    return results, took


def written(figures: dict[str, Any]) -> str:
    """The figures as a part of a page."""
    rows = figures["behaviours"]
    compared = [row for row in rows if not row["why_not"]]
    quick = [row for row in compared if not row["waits"]]
    theirs, ours = median(figures["specs_seconds"]), median(figures["clauses_seconds"])
    times = len(figures["specs_seconds"])
    parts = [
        PAGE,
        f"Run alternately {_times(times)}; seconds are medians.",
        f"In all, {len(compared)} of {len(rows)} specs are compared: their command took",
        f"{theirs:.1f} s and ours {ours:.1f} s, so ours was {_faster(theirs, ours)} times as fast",
        f"(the aim is {AIM}).",
        *_without_waiting(quick, compared, ours),
        "",
        "| spec of Kubernetes | seconds | checks | clauses | seconds | times as fast |",
        "| --- | --- | --- | --- | --- | --- |",
        *map(_row, compared),
    ]
    if left := [row for row in rows if row["why_not"]]:
        parts += ["", "Not compared:", ""]
        parts += [f"- {row['spec']}: {row['why_not']}." for row in left]
    if failed := figures["clauses_failed"]:
        parts += ["", f"Clauses that failed in one of these runs: {', '.join(failed)}."]
    return "\n".join(parts)


PAGE = """\
What a person gets to know in which time, on the same cluster, in the same invocation.
`e2e/bench/upstream.toml` says what each spec checks, as ids of the catalogue; asked are clauses
that cover all these ids, chosen so that they are few, not so that they are quick, and beside a spec
stand those of them that cover one of its own.
The specs look from inside, from one pod, through one or two nodes; the clauses look from outside,
through every node.
The specs run one after another, as in a conformance run; the clauses run eight at a time, so a
clause's own time has the others' load in it. The time of a spec or clause is that of its JUnit
file, with set-up and tear-down; the first clauses also place the echoes that all of them share.
A spec that needs three workers skips itself on two, so it is not compared.
"""


def _without_waiting(
    quick: Sequence[Mapping[str, Any]], compared: Sequence[Mapping[str, Any]], ours: float
) -> list[str]:
    if len(quick) == len(compared):
        return []
    seconds = sum(row["theirs"] for row in quick)
    return [
        f"Without the {len(compared) - len(quick)} that mostly wait for a time that they prescribe",
        f"themselves, the specs alone took {seconds:.1f} s, {_faster(seconds, ours)} times as long",
        "as our whole command.",
    ]


def _row(row: Mapping[str, Any]) -> str:
    clauses = ", ".join(f"`{clause}`" for clause in row["clauses"])
    return (
        f"| {row['spec']} | {row['theirs']:.1f} | {', '.join(row['checks'])} "
        f"| {clauses} | {row['ours']:.1f} | {_faster(row['theirs'], row['ours'])} |"
    )


def _faster(theirs: float, ours: float) -> str:
    return f"{theirs / ours:.1f}" if ours else "-"


def _times(number: int) -> str:
    return {1: "once", 2: "twice"}.get(number, f"{number} times")
