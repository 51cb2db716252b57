"""The first screen of an upgrade's report: did users notice, where, how long, why."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from e2e.plain import count_of
from e2e.report.summary import WHY
from e2e.report.verdict import EndedConversation, MovedNode, Outage, Reason, Verdict

# Names in a line; verdict.json has them all.
NAMES = 4
# Seconds between the first path that answers and the last, where nobody wants to know which it was.
AT_ONCE = 1.0


@dataclass(frozen=True)
class Answers:
    """What a person wants to know first.

    Attributes:
        verdict: one sentence.
        noticed: whether users noticed.
        where: through which nodes, and on which paths.
        how_long: the longest outage, and all that was lost.
        why: what happened in the cluster then, each reason once.
        moved: which nodes joined or left meanwhile.
        since: what is otherwise now, whether anybody noticed it yet or not.
    """

    verdict: str
    noticed: str
    where: str
    how_long: str
    why: tuple[str, ...]
    moved: tuple[str, ...]
    since: tuple[str, ...]


def answers(verdict: Verdict) -> Answers:
    """Answer the four questions, and say what changed for good."""
    return Answers(
        _sentence(verdict),
        *_of_users(verdict),
        moved=tuple(map(moved, verdict.watched.moved if verdict.watched else ())),
        since=tuple(_since(verdict)),
    )


def _sentence(verdict: Verdict) -> str:
    code = verdict.exit_code
    if code == 0:
        budgets = ", every budget is kept" if verdict.watched else ""
        if verdict.watched and verdict.watched.unreached:
            budgets += " as far as was watched"
        if verdict.contract or any(step.ended == "held" for step in verdict.churn):
            how = " as far as this machine has a way to it" if verdict.unreached else ""
            return f"The cluster serves node ports as it did before{how}{budgets}."
        return f"What the cluster says of itself is as before{budgets}; no node port was asked now."
    if code == 2:
        if verdict.watched and verdict.watched.killed and not verdict.is_unjudged:
            return "Not known: as before as far as was watched, and the watch was killed."
        return "Whether the cluster serves node ports as before could not be judged in full."
    wrong = []
    if _noticed_too_much(verdict):
        wrong.append("users noticed more than the budgets allow")
    if verdict.failed_steps:
        wrong.append(f"{count_of(len(verdict.failed_steps), 'change')} afterwards went wrong")
    if verdict.changes.counting:
        wrong.append(f"{count_of(verdict.changes.counting, 'thing')} that may not change did")
    if not all(each.of_users for each in verdict.beyond):
        unseen = "nobody looked for longer than the budgets allow"
        if not wrong:
            return f"Not known to be as before: {unseen}."
        wrong.append(unseen)
    return f"Not as before: {', '.join(wrong)}."


def _noticed_too_much(verdict: Verdict) -> bool:
    return any(each.of_users for each in verdict.beyond)


def _of_users(verdict: Verdict) -> tuple[str, str, str, tuple[str, ...]]:
    watched = verdict.watched
    if watched is None:
        nobody = "not known, as nobody watched"
        return "Not known: there is no record of a watch.", nobody, nobody, (nobody,)
    if not watched.attempts:
        nothing = "not known, as the watch saw nothing"
        return "Not known: the watch ended before it saw anything.", nothing, nothing, (nothing,)
    seen = f"{watched.attempts:,} attempts over {_minutes(watched.seconds)}"
    unknown = f" For {watched.blind:.1f} s nobody looked." if watched.blind else ""
    if watched.killed:
        unknown += " The watch was killed, and what came after is not known."
    unknown += "".join(f" {each}" for each in not_watched(watched.unreached))
    if not watched.outages:
        if watched.ended:
            return _of_conversations(watched.ended, f"{seen}.{unknown}")
        nowhere = "nowhere, never"
        return f"No: not one of {seen} was lost.{unknown}", nowhere, "0 s", ("nothing to explain",)
    outages = watched.outages
    lost = sum(each.lost for each in outages)
    within = "beyond the budgets" if _noticed_too_much(verdict) else "within the budgets"
    noticed = f"Yes, {within}: {lost:,} of {seen} were lost.{unknown}"
    return noticed, _where(outages), _how_long(outages), _why(watched.reasons)


def _of_conversations(
    ended: Sequence[EndedConversation], seen: str
) -> tuple[str, str, str, tuple[str, ...]]:
    """Where nothing was lost but kept connections, each of which could be opened again at once."""
    nodes = Counter(each.node for each in ended)
    reasons = Counter(each.why or "nothing is known that happened then" for each in ended)
    return (
        f"Hardly: {count_of(len(ended), 'kept connection')} ended, and nothing else of {seen}",
        "through " + ", ".join(f"{name} ({number})" for name, number in nodes.most_common(NAMES)),
        "they could be opened again at once",
        tuple(f"{why} ({number})" for why, number in reasons.most_common(NAMES)),
    )


def _where(outages: Sequence[Outage]) -> str:
    nodes = Counter[str]()
    paths = Counter[str]()
    for each in outages:
        nodes[each.node] += each.lost
        paths[each.path] += each.lost
    return f"through {_most(nodes)}; on {_most(paths)}"


def _most(counts: Counter[str]) -> str:
    names = [f"{name} ({lost:,} lost)" for name, lost in counts.most_common(NAMES)]
    more = len(counts) - len(names)
    return ", ".join(names) + (f" and {more} more" if more > 0 else "")


def _how_long(outages: Sequence[Outage]) -> str:
    longest = max(outages, key=lambda each: each.seconds)
    still = sum(not each.over for each in outages)
    end = f"; {count_of(still, 'flow')} never came back" if still else ""
    return (
        f"at most {longest.seconds:.2f} s (±{longest.give_or_take:.2f}) at a time "
        f"({longest.kind}, {longest.flow}), "
        f"in {count_of(len(outages), 'outage')} of a node on a path{end}"
    )


def _why(reasons: Sequence[Reason]) -> tuple[str, ...]:
    told = [f"{each.why} ({each.lost:,} lost)" for each in reasons[:NAMES]]
    more = [f"and {len(reasons) - NAMES} more, below"] if len(reasons) > NAMES else []
    return (*told, *more)


def not_watched(unreached: Mapping[str, str]) -> list[str]:
    """Which IP families were not watched, each in a sentence."""
    return [
        f"{family} was not watched, as the watching machine has no way to it: {why}."
        for family, why in unreached.items()
    ]


def moved(each: MovedNode) -> str:
    """What became of a node that joined or left."""
    said = []
    if each.joined is not None:
        said.append(f"joined at {_clock(each.joined)}")
        said += _served(each)
    if each.gone is not None:
        said.append(f"left at {_clock(each.gone)} and did not come back")
    lost = f" (not counted: {count_of(each.unpromised, 'attempt')} without an answer then)"
    node = f"{each.node} ({' and '.join(each.addresses)})"
    return f"{node} {', '.join(said)}" + (lost if each.unpromised else "")


def _served(each: MovedNode) -> Iterable[str]:
    """When a node that joined was answered, first and on all paths."""
    if each.first is None or each.served is None:
        yield "never answered"
        return
    all_but = "all other paths" if each.never else "every path"
    if each.served - each.first < AT_ONCE:
        yield f"answered on {all_but} {each.served:.1f} s later"
    else:
        yield f"answered {each.first:.1f} s later"
        yield f"on {all_but} {each.served:.1f} s later (the last: {each.last})"
    if each.never:
        paths, more = ", ".join(each.never[:NAMES]), len(each.never) - NAMES
        yield f"never on {paths}" + (f" and {more} more" if more > 0 else "")


def _clock(at: datetime) -> str:
    return at.astimezone().strftime("%H:%M:%S")


def _since(verdict: Verdict) -> Iterable[str]:
    changes = verdict.changes
    for family, why in verdict.unreached.items():
        yield (
            f"{family} is not known, and no behaviour of the contract, as the verifying machine "
            f"has no way to it: {why}"
        )
    for step in verdict.failed_steps:
        yield f"{step.name}: {_gist(step.said)}"
    for step in verdict.broken_steps:
        yield f"{step.name} could not be judged: {_gist(step.said)}"
    for behaviour in changes.behaviours:
        if behaviour.counts:
            yield f"{behaviour.clause} {behaviour.before}, and now it {_now(behaviour.after)}"
    for part in (changes.allocations, changes.objects, changes.defaults, changes.setup):
        for each in part:
            if each.counts:
                field = f", {each.field}" if each.field else ""
                yield f"{each.about}{field}: {each.before}, and now {each.after}"
    if changes.unknown:
        yield f"{count_of(changes.unknown, 'clause')} could not be judged"


def _gist(said: str) -> str:
    """Of a failure its reason, else the first line that is wrong, which names a node."""
    lines = said.splitlines() or [""]
    for sign in (WHY, "x "):
        for line in lines:
            if line.startswith(sign):
                return line.removeprefix(sign)
    return lines[0]


def _now(ended: str) -> str:
    return {"failed": "does not", "skipped": "is skipped", "broken": "cannot be judged"}.get(
        ended, f"is {ended}"
    )


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds >= 120 else f"{seconds:.0f} s"
