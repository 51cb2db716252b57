"""The last screen of a run: what held, what did not and why, how long, and where the rest is."""

from dataclasses import dataclass
from typing import Any

# What a terminal shows that nobody has made larger.
SCREEN = 24
# So many failures are told of, and so many names are given in a line; junit.xml has them all.
FAILURES = 5
NAMES = 6


HELD, FAILED, BROKEN, SKIPPED = "held", "failed", "broken", "skipped"


@dataclass(frozen=True)
class Ending:
    """How one clause ended.

    Attributes:
        clause: its id.
        ended: held; failed, which is a verdict on the cluster; broken, which says that there is
            none; or skipped.
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
    def of(cls, report: Any) -> "Ending":
        """Read a pytest report."""
        noted = dict(report.user_properties)
        said = noted.get("said", "")
        if report.passed:
            ended = HELD
        elif report.skipped:
            ended = SKIPPED
            if isinstance(report.longrepr, tuple):
                said = str(report.longrepr[2]).removeprefix("Skipped: ")
        else:
            # A process that crashed notes nothing.
            ended = noted.get("ended", BROKEN)
            said = said or str(report.longrepr).strip().rpartition("\n")[2]
        name = noted.get("clause", report.nodeid.partition("::")[2])
        return cls(name, ended, said, noted.get("evidence", ""), report.duration)


def exit_code(endings: list[Ending]) -> int:
    """0 if something held and nothing was wrong, 1 if a clause failed, 2 if there is no verdict."""
    ended = {ending.ended for ending in endings}
    if FAILED in ended:
        return 1
    return 2 if BROKEN in ended or HELD not in ended else 0


def summary(
    endings: list[Ending], where: str, took: float, junit: str | None, exit_status: int
) -> str:
    """The text of the last screen."""
    held, failed, broken, skipped = (
        [e for e in endings if e.ended == ended] for ended in (HELD, FAILED, BROKEN, SKIPPED)
    )
    count = f"{len(held)} clause{'s' if len(held) != 1 else ''} held, {len(failed)} did not"
    count += f", {len(broken)} could not be judged" if broken else ""
    were = "was" if len(skipped) == 1 else "were"
    count += f", {len(skipped)} {were} skipped" if skipped else ""
    head = [f"{count}; {took:.0f} s", *where.splitlines()]
    if exit_status not in (0, 1):
        head.append("the run was ended before all clauses were asked")
    elif not held and not failed:
        head.append("nothing was proved")
    wrong = failed + broken
    shown, others = wrong[:FAILURES], wrong[FAILURES:]
    tail = [f"x and {len(others)} more: {_names(others)}"] if others else []
    reasons: dict[str, list[Ending]] = {}
    for ending in skipped:
        reasons.setdefault(ending.said, []).append(ending)
    tail += [f"- skipped: {_names(who)}: {why}" for why, who in reasons.items()]
    if held:
        slow = sorted(held, key=lambda ending: -ending.seconds)[:3]
        tail.append("slowest: " + ", ".join(f"{e.clause} {e.seconds:.1f} s" for e in slow))
    if junit:
        tail.append(f"every clause with its figures: {junit}")
    room = SCREEN - len(head) - len(tail)
    told = [line for ending in shown for line in _failure(ending, room // len(shown))]
    return "\n".join([*head, *told, *tail])


def _failure(ending: Ending, room: int) -> list[str]:
    """What is told of a failure in so many lines: the clause, what it said, the evidence."""
    first, *table = ending.said.splitlines() or [""]
    wrong = [line for line in table if line.startswith("x")]
    said = [first, *(wrong or table)]
    around = 2 if ending.evidence else 1
    fits = max(room - around, 1)
    if fits == 1:
        # The first wrong line names a node, which the first line does not.
        said = (wrong or said)[:1]
    elif len(said) > fits:
        # The count of what is left takes a line too, and the first line is always told.
        said = [*said[: fits - 1], f"… and {len(said) - fits + 1} more"]
    name = f"x {ending.clause}" + (" (could not be judged)" if ending.ended == BROKEN else "")
    evidence = [f"    evidence: {ending.evidence}"] if ending.evidence else []
    return [name, *(f"    {line}" for line in said), *evidence]


def _names(endings: list[Ending]) -> str:
    names = [ending.clause for ending in endings]
    return ", ".join(names[:NAMES]) + (f" and {len(names) - NAMES} more" if names[NAMES:] else "")
