"""The report of a run: one page that needs no network."""

from e2e.report.clauses import BESIDE
from e2e.report.figures import by_reason, by_topic, times_of, truth_table
from e2e.report.pages import render
from e2e.report.past import Past
from e2e.report.result import Result
from e2e.report.run_answers import again, duration, first_wrong, run_answers


def run_page(result: Result, past: Past | None = None) -> str:
    """The page as HTML.

    Args:
        result: the run.
        past: the last runs of its lane, this one among them.
    """
    outside = result.environment.get("callers outside", "")
    return render(
        "run.html.j2",
        styles=("page.css", "run.css"),
        script="run.js",
        result=result,
        said=run_answers(result),
        truth=truth_table(result),
        times=times_of(result),
        loads=[clause for clause in result.clauses if clause.loads],
        outages=[clause for clause in result.clauses if clause.outages],
        topics=by_topic(result.clauses),
        skipped=by_reason(result.clauses),
        families=sorted({family for clause in result.clauses for family in clause.families}),
        past=past or Past(),
        again=again,
        duration=duration,
        first_wrong=first_wrong,
        # What is as usual is told below.
        beside=outside if outside.startswith(BESIDE) else "",
    )
