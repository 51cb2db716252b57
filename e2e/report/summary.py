"""The last screen of a run: what held, what did not and why, how long, and where the rest is."""

from dataclasses import dataclass
from typing import Any

LINES_OF_A_FAILURE = 3
FAILURES = 5


@dataclass(frozen=True)
class Outcome:
    """How one clause ended.

    Attributes:
        clause: its id.
        ended: passed, failed, error or skipped.
        said: the message of a failure, or the reason of a skip.
        evidence: the folder of a failure.
        seconds: how long the clause took.
    """

    clause: str
    ended: str
    said: str
    evidence: str
    seconds: float

    @classmethod
    def of(cls, report: Any, ended: str) -> "Outcome":
        """Read a pytest report."""
        noted = dict(report.user_properties)
        said = noted.get("said", "")
        if ended == "skipped" and isinstance(report.longrepr, tuple):
            said = str(report.longrepr[2]).removeprefix("Skipped: ")
        elif ended in ("failed", "error") and not said:
            said = str(report.longrepr).strip().rpartition("\n")[2]
        name = report.nodeid.partition("::")[2]
        return cls(
            noted.get("clause", name), ended, said, noted.get("evidence", ""), report.duration
        )


def summary(
    outcomes: list[Outcome], where: str, took: float, junit: str | None, exit_status: int
) -> str:
    """The text of the last screen."""
    held = [o for o in outcomes if o.ended == "passed"]
    broken = [o for o in outcomes if o.ended in ("failed", "error")]
    skipped = [o for o in outcomes if o.ended == "skipped"]
    head = f"{len(held)} clauses held, {len(broken)} did not, {len(skipped)} were skipped"
    lines = [
        f"{head}; {took:.0f} s",
        where,
    ]
    if exit_status not in (0, 1):
        lines.append("the run was ended before all clauses were asked")
    for outcome in broken[:FAILURES]:
        lines += [
            "",
            f"x {outcome.clause}" + (" (broken probe)" if outcome.ended == "error" else ""),
        ]
        first, *table = outcome.said.splitlines() or [""]
        wrong = [line for line in table if line.startswith("x")] or table
        lines += [f"    {line}" for line in [first, *wrong[:LINES_OF_A_FAILURE]]]
        if len(wrong) > LINES_OF_A_FAILURE:
            lines.append(f"    … and {len(wrong) - LINES_OF_A_FAILURE} more")
        if outcome.evidence:
            lines.append(f"    evidence: {outcome.evidence}")
    if len(broken) > FAILURES:
        more = ", ".join(outcome.clause for outcome in broken[FAILURES:])
        lines += ["", f"x and {len(broken) - FAILURES} more: {more}"]
    reasons: dict[str, list[str]] = {}
    for outcome in skipped:
        reasons.setdefault(outcome.said, []).append(outcome.clause)
    lines += [f"- skipped: {', '.join(who)}: {why}" for why, who in reasons.items()]
    if held:
        slow = sorted(held, key=lambda outcome: -outcome.seconds)[:3]
        lines.append("slowest: " + ", ".join(f"{o.clause} {o.seconds:.1f} s" for o in slow))
    if junit:
        lines.append(f"every clause with its figures: {junit}")
    return "\n".join(lines)
