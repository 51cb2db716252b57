"""The command `nodeport-e2e merge`: the results of shards, from anywhere, as one report."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click

from e2e.errors import CannotRunError, UsageError
from e2e.options import option
from e2e.plain import count_of
from e2e.report import merge as merging
from e2e.report import outputs
from e2e.report.clauses import read_clauses
from e2e.report.junit import write_cases
from e2e.report.result import Result
from e2e.report.summary import Ending, summary, summary_data
from e2e.screen import say


@click.command()
@option("--out", "OUT", default="out", help="The folder of the merged results.")
@click.option("--json", "as_json", is_flag=True, help="Print the last screen as JSON, no more.")
@click.argument("places", nargs=-1, required=True, metavar="DIR...")
def merge(out: str, places: Sequence[str], *, as_json: bool) -> int:
    """Make one report of the results of several runs, such as shards of one.

    Each DIR is a folder of results, a folder of such folders, a result.json, or the log of a pod of
    manifests/job. What several asked counts by its worst end. Where a part is missing the verdict
    is at best that it is not known.

    Exit codes: 0 all held, 1 a clause did not, 2 not all is known, 4 they do not belong together.
    """
    with tempfile.TemporaryDirectory(prefix="nodeport-e2e-") as scratch:
        given, lost = merging.find(map(Path, places), Path(scratch))
        result = merge_into(Path(out).absolute(), given, lost)
    click.echo(last_screen(result, Path(out).absolute(), as_json=as_json))
    return result.exit_code


def merge_into(
    out: Path, given: Sequence[merging.Given], lost: Sequence[str], **called: str
) -> Result:
    """Write the report of results that were found; gives its result.

    Args:
        out: the folder of the report.
        given: the results.
        lost: why others are missing.
        called: fields of the result that are known better here.

    Raises:
        UsageError: they do not belong together, or one of them is in the folder of the report.
        CannotRunError: the folder cannot be written to.
    """
    if any(each.file.parent.resolve() == out.resolve() for each in given):
        raise UsageError(f"{out} has one of the results", "name another folder: --out=DIR")
    contract = read_clauses()
    result = merging.merge(given, lost, contract).model_copy(update=called)
    try:
        out.mkdir(parents=True, exist_ok=True)
        # What pods of a Job brought is merged into the folder that it is in.
        brought = (out / outputs.SHARDS).resolve()
        is_theirs = any(brought in each.file.resolve().parents for each in given)
        but = outputs.SHARDS if is_theirs else ""
        outputs.demand_ours(out, but=but)
        outputs.remove(out, but=but)
        result = merging.bring_evidence(result, given, out)
        write_cases(result, out / outputs.JUNIT)
        _, problem = outputs.write(result, out, contract)
    except OSError as error:
        raise CannotRunError(
            f"the results could not be written to {out}: {error.strerror}", "see --out"
        ) from error
    if problem:
        say(f"x this run is not in the history: {problem}")
    return result


def _evidence(said: str, out: Path) -> str:
    """Where evidence is, or why it is not there."""
    return str(out / said) if said.startswith(f"{outputs.EVIDENCE}/") else said


def last_screen(result: Result, out: Path, *, as_json: bool) -> str:
    """The last screen of a merged result, as text or as JSON."""
    endings = [
        Ending(
            *(clause.clause, clause.ended, clause.said),
            evidence=_evidence(clause.evidence, out),
            seconds=clause.seconds,
            known_bug=clause.known_bug,
            converged=tuple(took for _, took in clause.converged),
        )
        for clause in result.clauses
    ]
    count = count_of(len(result.merged), "result")
    where = [result.where, f"merged: {count}" + ("" if result.whole else ", and not all is known")]
    where += [f"found: {result.found}, {', '.join(result.found.nodes)}"] if result.found else []
    where += [*result.gaps, *result.told]
    page = str(out / outputs.PAGE)
    # What is missing is among what is told, and no run was ended.
    text = summary(endings, "\n".join(where), result.seconds, page, exit_status=0)
    if as_json:
        said = summary_data(endings, "\n".join(where), result.seconds, text)
        return json.dumps(said | {"exit_code": result.exit_code}, indent=1)
    return text
