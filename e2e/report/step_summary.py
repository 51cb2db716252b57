"""The summary of a run in Markdown, as GitHub shows it of a step."""

import html
import re
from collections.abc import Iterable

from e2e.plain import count_of
from e2e.report.figures import by_reason, times_of
from e2e.report.result import ClauseResult, Result
from e2e.report.run_answers import again, duration, run_answers
from e2e.report.summary import WHY

# GitHub takes a megabyte; so many failures are told in full, and their tables so far.
FAILURES, LINES = 20, 60
COUNTS = """\
| held | did not hold | could not be judged | skipped |
| ---: | ---: | ---: | ---: |"""
TIMES = """\
| converged through | flows | p50 | p95 | max |
| --- | ---: | ---: | ---: | ---: |"""
MARKS = {True: "✅", False: "❌", None: "⚠️"}
SPECIAL = re.compile(r"([\\`*_\[\]|~])")


def step_summary(result: Result) -> str:
    """The whole text; names that clusters gave are no Markdown in it."""
    said, counts = run_answers(result), result.counts
    found = f" · found {result.found}" if result.found else ""
    parts = [
        f"### {MARKS[said.good]} {plain(said.verdict)}",
        f"{plain(result.where + found)} · {duration(result.seconds)}",
        f"{COUNTS}\n| {counts.held} | {counts.failed} | {counts.broken} | {counts.skipped} |",
        *_merged(result),
        *(_failure(result, clause) for clause in result.wrong[:FAILURES]),
    ]
    if more := result.wrong[FAILURES:]:
        parts.append(f"And {len(more)} more: {', '.join(code(each.clause) for each in more)}")
    parts += [*_times(result), *_bugs(result), *_skipped(result)]
    parts.append(f"The same again: {code(result.reproduce)}")
    return "\n\n".join(parts) + "\n"


def _merged(result: Result) -> Iterable[str]:
    if result.merged:
        lines = [f"Merged of {count_of(len(result.merged), 'result')}."]
        yield "\n".join([*lines, *(f"- {plain(line)}" for line in (*result.gaps, *result.told))])


def _failure(result: Result, clause: ClauseResult) -> str:
    broken = " could not be judged" if clause.ended == "broken" else ""
    lines = [f"#### {'❓' if broken else '❌'} {code(clause.clause)}{broken}"]
    lines += [plain(clause.claim)] if clause.claim else []
    lines += [f"> **why**: {plain(line.removeprefix(WHY))}" for line in clause.why]
    said = clause.said.splitlines()
    said = [*said[:LINES], *([f"… and {len(said) - LINES} lines more"] if said[LINES:] else [])]
    lines.append(block("\n".join(said)))
    lines.append(f"Again: {code(again(result, clause))}")
    return "\n\n".join(lines)


def _times(result: Result) -> Iterable[str]:
    if times := times_of(result):
        rows = [
            f"| {plain(each.node)} | {each.count} | {each.p50:.1f} s | {each.p95:.1f} s "
            f"| {each.slowest:.1f} s |"
            for each in times
        ]
        yield "\n".join([TIMES, *rows])


def _bugs(result: Result) -> Iterable[str]:
    pinned = [clause for clause in result.clauses if clause.known_bug and clause.ended == "held"]
    if pinned:
        lines = [f"- {code(each.clause)} {plain(each.known_bug)}" for each in pinned]
        yield _folded(f"{len(pinned)} pin a bug of Kubernetes", lines)


def _skipped(result: Result) -> Iterable[str]:
    if reasons := by_reason(result.clauses):
        lines = [
            f"- {plain(why)}: {', '.join(code(each) for each in ids)}"
            for why, ids in reasons.items()
        ]
        yield _folded(f"{result.counts.skipped} skipped, and why", lines)


def _folded(title: str, lines: Iterable[str]) -> str:
    text = "\n".join(lines)
    return f"<details><summary>{title}</summary>\n\n{text}\n\n</details>"


def plain(text: str) -> str:
    """Text that stays as it is: no HTML, no Markdown, no line of its own."""
    return SPECIAL.sub(r"\\\1", html.escape(" ".join(text.split()), quote=False))


def code(text: str) -> str:
    """A short text in the type of code, whatever is in it."""
    ticks = "`" * (_longest(text) + 1)
    gap = " " if "`" in text else ""
    return f"{ticks}{gap}{' '.join(text.split())}{gap}{ticks}"


def block(text: str) -> str:
    """Lines in the type of code, whatever is in them."""
    ticks = "`" * max(_longest(text) + 1, 3)
    return f"{ticks}text\n{text}\n{ticks}"


def _longest(text: str) -> int:
    return max(map(len, re.findall(r"`+", text)), default=0)
