"""The last screen of a run: what held, what did not and why, how long, and where the rest is."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from e2e.errors import BUSY
from e2e.plain import count_of, plain

# What a terminal shows that nobody has made larger.
SCREEN = 24
# So many failures are told of, and so many names are given in a line; junit.xml has them all.
FAILURES = 5
NAMES = 6


# How the line begins that gives the reason of a failure.
WHY = "why: "
ENDS = HELD, FAILED, BROKEN, SKIPPED = "held", "failed", "broken", "skipped"


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
        known_bug: the issue of the upstream bug that it pins, if it does.
        converged: seconds until each of its flows was right for good.
        again: why it was asked once more, if it was.
    """

    clause: str
    ended: str
    said: str
    evidence: str
    seconds: float
    known_bug: str = ""
    converged: tuple[float, ...] = ()
    again: str = ""

    @classmethod
    def of(cls, report: Any, figures: Iterable[tuple[str, Any]] | None = None) -> "Ending":
        """Read a pytest report.

        Args:
            report: how the clause ended.
            figures: what it noted; by default what that report has, which for a clause that held
                is what was noted before its tear-down.
        """
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
        figures = report.user_properties if figures is None else figures
        took = (said for key, said in figures if key == "converged")
        return cls(
            *(name, ended, said, noted.get("evidence", ""), report.duration),
            known_bug=noted.get("known_bug", ""),
            converged=tuple(float(each.split()[0]) for each in took),
            again=noted.get("again", ""),
        )


class Ended(Protocol):
    """Anything that is known to have ended."""

    @property
    def ended(self) -> str:
        """How: held, failed, broken or skipped."""
        ...


def exit_code(endings: Iterable[Ended]) -> int:
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
    count = f"{count_of(len(held), 'clause')} held, {len(failed)} did not"
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
    tail += [f"- {e.clause} pins a bug of Kubernetes: {e.known_bug}" for e in held if e.known_bug]
    whys: dict[str, list[Ending]] = {}
    for ending in endings:
        if ending.again:
            # What there was too little of differs from clause to clause, and is in the report.
            why = BUSY if ending.again.endswith(BUSY) else ending.again
            whys.setdefault(why, []).append(ending)
    tail += [f"- asked again alone: {_names(who)}: {why}" for why, who in whys.items()]
    if times := sorted(took for ending in held for took in ending.converged):
        tail.append(_percentiles(times))
    if held:
        slow = sorted(held, key=lambda ending: -ending.seconds)[:3]
        tail.append("slowest: " + ", ".join(f"{e.clause} {e.seconds:.1f} s" for e in slow))
    if junit:
        tail.append(f"every clause with its figures: {junit}")
    room = SCREEN - len(head) - len(tail)
    told = [line for ending in shown for line in _failure(ending, room // len(shown))]
    return plain("\n".join([*head, *told, *tail]))


def summary_data(endings: list[Ending], where: str, took: float, screen: str) -> dict[str, Any]:
    """The last screen for programs.

    Args:
        endings: of all clauses.
        where: the lane or the cluster, and what was found there.
        took: seconds of the whole run.
        screen: the same for people.
    """
    counts = {kind: sum(e.ended == kind for e in endings) for kind in ENDS}
    wrong = [e for e in endings if e.ended in (FAILED, BROKEN)]
    return {
        "exit_code": exit_code(endings),
        "where": where.splitlines(),
        "seconds": round(took, 1),
        "counts": counts,
        "wrong": [
            {
                "clause": e.clause,
                "ended": e.ended,
                "said": e.said,
                "why": [line for line in e.said.splitlines() if line.startswith(WHY)],
                "evidence": e.evidence,
            }
            for e in wrong
        ],
        "skipped": {e.clause: e.said for e in endings if e.ended == SKIPPED},
        "known_bugs": {e.clause: e.known_bug for e in endings if e.ended == HELD and e.known_bug},
        "screen": screen.splitlines(),
    }


def _percentiles(times: Sequence[float]) -> str:
    """How long flows took to converge; `times` are in seconds, in order."""
    last = len(times) - 1
    p50, p95 = times[round(last * 0.5)], times[round(last * 0.95)]
    return f"converged: {len(times)} flows, p50 {p50:.1f} s, p95 {p95:.1f} s, max {times[-1]:.1f} s"


def _failure(ending: Ending, room: int) -> list[str]:
    """What is told of a failure in so many lines: the clause, what it said, the evidence."""
    first, *table = ending.said.splitlines() or [""]
    why = [line for line in table if line.startswith(WHY)]
    wrong = why + [line for line in table if line.startswith("x")]
    said = [first, *(wrong or table)]
    around = 2 if ending.evidence else 1
    fits = max(room - around, 1)
    if why and fits == 2:
        said.remove(first)
    if fits == 1:
        # The reason or the first wrong line names a node, which the first line does not.
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
