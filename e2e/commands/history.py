"""The command `nodeport-e2e history`: what changed over many runs, and what is flaky."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import click

from e2e.check.trends import ALWAYS, BETTER, BROKE, FLAKY, MENDED, WORSE, Trend, trends
from e2e.errors import UsageError
from e2e.options import option
from e2e.plain import count_of
from e2e.report.history import HISTORY, History, Run
from e2e.report.past import told

# Runs of which each has a line of its own.
LINES = 10
BLOCKS = "▁▂▃▄▅▆▇█"
MARKS = {0: "✓", 1: "x"}
KINDS = {
    WORSE: "x {} fails more often",
    ALWAYS: "x {} never held",
    BROKE: "x {} failed in every run",
    FLAKY: "~ {} is flaky",
    BETTER: "✓ {} fails less often",
    MENDED: "✓ {} held in every run",
}


@click.command()
@option("--out", "OUT", default="out", help="The folder of the results.")
@click.option("--lane", help="Only lanes and contexts with this in their names.")
@click.option("--last", default=100, show_default=True, help="So many runs of each lane.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def history(out: str, lane: str | None, last: int, *, as_json: bool) -> None:
    """Show trends over the runs of a folder, flaky clauses, and since when.

    Exit code: 0 whatever it shows, 4 if there is no history.
    """
    if not (Path(out) / HISTORY).exists():
        raise UsageError(f"{out} has no {HISTORY}", "run the contract, which keeps one there")
    kept = History(Path(out))
    lanes = [each for each in kept.lanes() if (lane or "") in each]
    if not lanes:
        raise UsageError(f"no lane has {lane} in its name", f"use one of {', '.join(kept.lanes())}")
    parts = {each: kept.runs(each, last=last) for each in lanes}
    found = {each: (runs, _trends(kept, runs)) for each, runs in parts.items()}
    if as_json:
        data = {
            each: {"runs": [asdict(run) for run in runs], "trends": [asdict(t) for t in changed]}
            for each, (runs, changed) in found.items()
        }
        click.echo(json.dumps(data, default=str, indent=1))
    else:
        texts = (history_text(each, *of_lane) for each, of_lane in found.items())
        click.echo("\n\n".join(texts))


def _trends(kept: History, runs: Sequence[Run]) -> list[Trend]:
    judged = {
        clause: [(number, ended == "held") for number, ended in seen if ended in ("held", "failed")]
        for clause, seen in kept.endings(runs).items()
    }
    return trends({clause: seen for clause, seen in judged.items() if seen})


def history_text(lane: str, runs: Sequence[Run], found: Sequence[Trend]) -> str:
    """What the history of one lane says, its last runs first."""
    lines = [f"{lane}: {count_of(len(runs), 'run')} since {_when(runs[0])}"]
    for run in runs[-LINES:]:
        mark = MARKS.get(run.exit_code, "?") if run.whole else "?"
        lines.append(f"  {mark} {_when(run)}  {told(run)}; {run.seconds:.0f} s")
    # A run of a few clauses takes and shows less, and is no trend of the others.
    alike = [run for run in runs if run.asked == runs[-1].asked]
    lines += _line("how long it took", [run.seconds for run in alike])
    lines += _line("converged, p95", [run.p95 for run in alike if run.p95 is not None])
    when = {run.number: _when(run) for run in runs}
    lines += [f"  {line}" for trend in found for line in _told(trend, when[trend.since])]
    if not found:
        lines.append("  no clause ever failed")
    return "\n".join(lines)


def _line(what: str, values: Sequence[float]) -> Iterable[str]:
    if len(values) > 1:
        top = max(values) or 1.0
        bars = "".join(BLOCKS[round(value / top * (len(BLOCKS) - 1))] for value in values)
        yield f"  {what}: {bars} {values[0]:.1f} s -> {values[-1]:.1f} s"


def _told(trend: Trend, since: str) -> Iterable[str]:
    yield f"{KINDS[trend.kind].format(trend.clause)} since {since}"
    rate = f"failed {trend.after} from then on ({trend.low:.0%} to {trend.high:.0%})"
    before = f", {trend.before} before" if trend.before.of else ""
    chance = {
        WORSE: f"; chance gives that with p={trend.p:.1g}",
        BETTER: f"; chance gives that with p={trend.p:.1g}",
        FLAKY: "; no moment at which that changed beyond chance",
        ALWAYS: "",
    }.get(trend.kind, f"; too few runs to tell that from chance (p={trend.p:.2g})")
    yield f"    {rate}{before}{chance}"


def _when(run: Run) -> str:
    return run.began.strftime("%Y-%m-%d %H:%M")
