"""The last screen of a run: what held, what did not and why, how long, and where the rest is."""

from dataclasses import dataclass
from typing import Any

# What a terminal shows that nobody has made larger.
SCREEN = 24
# So many failures are told of, and so many names are given in a line; junit.xml has them all.
FAILURES = 5
NAMES = 6


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
    count = f"{len(held)} clauses held, {len(broken)} did not, {len(skipped)} were skipped"
    head = [f"{count}; {took:.0f} s", where]
    if exit_status not in (0, 1):
        head.append("the run was ended before all clauses were asked")
    shown, others = broken[:FAILURES], broken[FAILURES:]
    tail = [f"x and {len(others)} more: {_names(others)}"] if others else []
    reasons: dict[str, list[Outcome]] = {}
    for outcome in skipped:
        reasons.setdefault(outcome.said, []).append(outcome)
    tail += [f"- skipped: {_names(who)}: {why}" for why, who in reasons.items()]
    if held:
        slow = sorted(held, key=lambda outcome: -outcome.seconds)[:3]
        tail.append("slowest: " + ", ".join(f"{o.clause} {o.seconds:.1f} s" for o in slow))
    if junit:
        tail.append(f"every clause with its figures: {junit}")
    room = SCREEN - len(head) - len(tail)
    told = [line for outcome in shown for line in _failure(outcome, room // len(shown))]
    return "\n".join([*head, *told, *tail])


def _failure(outcome: Outcome, room: int) -> list[str]:
    """What is told of a failure in so many lines: the clause, what it said, the evidence."""
    first, *table = outcome.said.splitlines() or [""]
    said = [first, *([line for line in table if line.startswith("x")] or table)]
    around = 2 if outcome.evidence else 1
    if len(said) > max(room - around, 1):
        # The count of what is left takes a line too, and the first line is always told.
        fits = max(room - around - 1, 1)
        more = len(said) - fits
        said = [*said[:fits], f"… and {more} more"] if room - around > 1 else said[:1]
    name = f"x {outcome.clause}" + (" (broken probe)" if outcome.ended == "error" else "")
    evidence = [f"    evidence: {outcome.evidence}"] if outcome.evidence else []
    return [name, *(f"    {line}" for line in said), *evidence]


def _names(outcomes: list[Outcome]) -> str:
    names = [outcome.clause for outcome in outcomes]
    return ", ".join(names[:NAMES]) + (f" and {len(names) - NAMES} more" if names[NAMES:] else "")
