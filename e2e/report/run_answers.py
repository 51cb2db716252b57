"""The first screen of a run's report: whether the contract is kept, and what to do."""

import shlex
from collections.abc import Iterable
from dataclasses import dataclass

from e2e.plain import count_of
from e2e.report.result import ClauseResult, Result, percentiles
from e2e.report.summary import WHY

# What is told of many failures; the rest is below.
REASONS = 4


@dataclass(frozen=True)
class RunAnswers:
    """What a person wants to know first.

    Attributes:
        verdict: one sentence.
        good: True if the contract is kept, False if not, None if that is not known.
        why: what was concluded from failures, the most frequent first, with how often.
        todo: what to do, in order.
        command: the one that asks the first wrong clause again; nothing if none is wrong.
        converged: how long flows took; nothing if none was timed.
    """

    verdict: str
    good: bool | None
    why: tuple[str, ...]
    todo: tuple[str, ...]
    command: str
    converged: str


def run_answers(result: Result) -> RunAnswers:
    """Answer them."""
    good = {0: True, 1: False}.get(result.exit_code)
    if not result.whole and good:
        good = None
    return RunAnswers(
        _sentence(result),
        good,
        why=tuple(_why(result)),
        todo=tuple(_todo(result)),
        command=again(result, result.wrong[0]) if result.wrong else "",
        converged=_converged(result),
    )


def _sentence(result: Result) -> str:
    counts = result.counts
    asked = counts.held + counts.failed
    ended = "" if result.whole else f" {_incomplete(result)}"
    if result.shard:
        ended += f" This is shard {result.shard} alone."
    if counts.failed:
        of = count_of(asked, "clause")
        said = f"The NodePort contract is broken: {counts.failed} of {of} did not hold."
    elif counts.broken:
        said = f"Not known in full: {count_of(counts.broken, 'clause')} could not be judged."
    elif not counts.held:
        said = "Nothing was proved: no clause could be asked."
    elif not result.whole:
        said = f"Not known in full: {count_of(counts.held, 'clause')} held."
    else:
        asked_of = f"all {counts.held} clauses" if counts.held > 1 else "the one clause"
        said = f"The NodePort contract is kept: {asked_of} that could be asked held."
    return said + ended


def _incomplete(result: Result) -> str:
    """Why not all is known that was asked for."""
    if not result.merged:
        return "The run was ended before all clauses were asked."
    if result.missing:
        return f"Nobody asked {count_of(len(result.missing), 'clause')} of {len(result.asked_for)}."
    return "A part of it is missing."


def duration(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def _why(result: Result) -> Iterable[str]:
    told: dict[str, int] = {}
    for clause in result.wrong:
        for line in clause.why or (f"{clause.clause}: {first_wrong(clause)}",):
            said = line.removeprefix(WHY)
            told[said] = told.get(said, 0) + 1
    ranked = sorted(told.items(), key=lambda each: -each[1])
    for line, times in ranked[:REASONS]:
        yield line + (f" (in {count_of(times, 'clause')})" if times > 1 else "")
    if ranked[REASONS:]:
        yield f"and {len(ranked) - REASONS} more, below"


def first_wrong(clause: ClauseResult) -> str:
    """The first wrong line of a failure, or its first line."""
    lines = clause.said.splitlines() or ["it did not say why"]
    return next((line.removeprefix("x ") for line in lines if line.startswith("x ")), lines[0])


def _todo(result: Result) -> Iterable[str]:
    if not result.whole:
        yield (
            "Merge the missing shards too, or run all again; what was not asked is not known."
            if result.merged
            else "Run it again to its end; what was not asked is not known."
        )
    if result.counts.failed:
        yield "Look at the reasons, and then at the evidence of the clauses below."
    elif result.counts.broken:
        yield "Look at what the harness could not do, below, put it right, and run it again."
    elif not result.counts.held:
        yield "See below why each clause was skipped, and run it where they can be asked."
    elif result.whole:
        skipped = result.counts.skipped
        yield (
            "Nothing."
            if not skipped
            else (
                f"Nothing. {count_of(skipped, 'clause')} {'was' if skipped == 1 else 'were'} "
                "skipped here: see why below, and whether another lane asks them."
            )
        )


def again(result: Result, clause: ClauseResult) -> str:
    """The command that asks one clause again of such a cluster."""
    words = without(result.reproduce, "ONLY", "FAMILIES", "SHARD")
    keep = ["KEEP=1"] if result.provider == "kind" else []
    return shlex.join([*words, *keep, f"ONLY={clause.clause}"])


def without(command: str, *options: str) -> list[str]:
    """The words of a command without some of its options."""
    left_out = tuple(f"{name}=" for name in options)
    return [each for each in shlex.split(command) if not each.startswith(left_out)]


def _converged(result: Result) -> str:
    if not (times := result.times):
        return ""
    p50, p95, slowest = percentiles(times)
    return f"{len(times)} flows: p50 {p50:.1f} s, p95 {p95:.1f} s, max {slowest:.1f} s"
