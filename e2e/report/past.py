"""The last runs of a lane as sparklines of a page."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from e2e.report.history import History, Run
from e2e.report.result import Result

# Bars that still stand beside one another on a narrow screen.
RUNS = 30
LOWEST, HIGHEST = 3.0, 22.0
LOOKS = {"held": "good", "failed": "bad", "broken": "unsure"}
# Who sees no colours sees what stands out.
HEIGHTS = {"held": LOWEST, "broken": (LOWEST + HIGHEST) / 2, "failed": HIGHEST}


@dataclass(frozen=True)
class Bar:
    """One run in a sparkline.

    Attributes:
        said: when it was and what became of it.
        look: good, bad or unsure.
        height: from 3 to 22.
    """

    said: str
    look: str
    height: float


@dataclass(frozen=True)
class Past:
    """What came before, this run being the last.

    Attributes:
        runs: those that asked the same of the same lane.
        clauses: of each clause that is wrong now, all runs of the lane that judged it.
    """

    runs: tuple[Bar, ...] = ()
    clauses: Mapping[str, tuple[Bar, ...]] = field(default_factory=dict)


def past_of(history: History, result: Result) -> Past:
    """The last runs of the lane of a run that is in the history."""
    alike = history.runs(result.where, last=RUNS, asked=result.reproduce)
    every = history.runs(result.where, last=RUNS)
    when = {run.number: _when(run) for run in every}
    endings = history.endings(every)
    wrong = {
        clause.clause: tuple(
            Bar(f"{when[number]}: {ended}", LOOKS[ended], HEIGHTS[ended])
            for number, ended in endings.get(clause.clause, ())
            if ended in LOOKS
        )
        for clause in result.wrong
    }
    return Past(tuple(_bars(alike)), wrong)


def _bars(runs: list[Run]) -> Iterable[Bar]:
    most = max((run.p95 or 0.0 for run in runs), default=0.0)
    for run in runs:
        share = (run.p95 or 0.0) / most if most else 0.0
        look = {0: "good", 1: "bad"}.get(run.exit_code, "unsure") if run.whole else "unsure"
        yield Bar(f"{_when(run)}: {told(run)}", look, LOWEST + share * (HIGHEST - LOWEST))


def told(run: Run) -> str:
    """What became of a run, in a few words."""
    words = [f"{run.held} held", f"{run.failed} did not"]
    words += [f"{run.broken} could not be judged"] if run.broken else []
    words += [f"{run.skipped} skipped"] if run.skipped else []
    words += ["ended early"] if not run.whole else []
    words += [f"p95 {run.p95:.1f} s"] if run.p95 is not None else []
    return ", ".join(words)


def _when(run: Run) -> str:
    return run.began.strftime("%Y-%m-%d %H:%M")
