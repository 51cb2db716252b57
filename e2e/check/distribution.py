"""Is it uniform, and is it random? With a chosen sample size and a chosen rate of false alarms."""

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any

from e2e import timing
from e2e.check import journal
from e2e.check.wrong import Wrong, WrongFlowsError
from e2e.probe import ANSWERED, AT_ONCE, Flow, Reply, draw
from e2e.probe.reply import LATELY
from e2e.wait import settle

# The whole run may raise a false alarm once in a million runs. It makes fewer than a thousand
# statistical verdicts, so each of them gets a thousandth; see docs/decisions/statistics.md.
FALSE_ALARM = 1e-9
# A pod whose share is a quarter above or below even is seen with this probability.
UNEVENNESS = 0.25
POWER = 0.999

# A flow, what was drawn from it, and what is wrong with that, if anything.
Row = tuple[Flow, str, str]


class UnevenError(WrongFlowsError):
    """A distribution that chance does not explain; the message is a table of the counts."""


def connections_to_meet(pods: int, *, false_alarm: float = FALSE_ALARM) -> int:
    """How many connections meet every one of `pods` evenly chosen pods, but for false alarms.

    A pod is missed with probability (1 - 1/pods) to the power of the connections, and there are
    `pods` of them to be missed.
    """
    if pods == 1:
        return 1
    return math.ceil(math.log(false_alarm / pods) / math.log1p(-1 / pods))


@cache
def connections_needed(
    pods: int,
    *,
    unevenness: float = UNEVENNESS,
    power: float = POWER,
    false_alarm: float = FALSE_ALARM,
) -> int:
    """How many connections a chi-square test needs to see one pod whose share is off.

    Args:
        pods: number of pods that share the traffic evenly, at least 2.
        unevenness: by which fraction one pod's share is off, above or below, the others sharing
            the rest evenly.
        power: the probability that such a pod is seen.
        false_alarm: the probability that an even distribution is called uneven.
    """
    from scipy import special  # noqa: PLC0415  # scipy.stats would take three times as long

    limit = float(special.chdtri(pods - 1, false_alarm))
    shares = [(1 + off) / pods for off in (unevenness, -unevenness)]
    # With so many only about half of such pods are seen.
    enough = math.ceil(limit * (pods - 1) / unevenness**2)
    while min(_power(enough, pods, share, limit) for share in shares) < power:
        enough = math.ceil(enough * 1.01)
    return enough


def _power(connections: int, pods: int, share: float, limit: float) -> float:
    """The probability that chi-square exceeds `limit` if one pod has `share`, the rest being even.

    Given what that pod got, chi-square is its own part and that of the others, which is scaled
    and has a degree of freedom less. The noncentral distribution would be shorter, and takes too
    few: it overlooks that the counts of a pod with a larger share vary more.
    """
    import numpy as np  # noqa: PLC0415
    from scipy import special  # noqa: PLC0415

    mean, far = connections * share, 7 * math.sqrt(connections * share * (1 - share))
    got = np.arange(max(math.floor(mean - far), 0), min(math.ceil(mean + far), connections) + 1)
    chance = np.diff(special.bdtr(got, connections, share), prepend=0.0)
    own = (got - connections / pods) ** 2 * pods**2 / (connections * (pods - 1))
    missing = np.maximum(limit - own, 0.0)
    seen = np.where(missing > 0, 0.0, 1.0)
    if pods > 2:
        scale = pods * np.maximum(connections - got, 1) / (connections * (pods - 1))
        seen = special.chdtrc(pods - 2, missing / scale)
    return float(chance @ seen)


def is_even(counts: Sequence[int]) -> float:
    """The p-value of chi-square for even shares."""
    from scipy import special  # noqa: PLC0415

    mean = sum(counts) / len(counts)
    return float(special.chdtrc(len(counts) - 1, sum((n - mean) ** 2 for n in counts) / mean))


def is_chance(times: int, of: int, share: float) -> float:
    """The p-value, for both sides, of something that happens so many `times` `of` so many."""
    from scipy import special  # noqa: PLC0415

    at_most = special.bdtr(times, of, share)
    at_least = special.bdtrc(times - 1, of, share) if times else 1.0
    return float(min(2 * min(at_most, at_least), 1.0))


def chance_interval(of: int, share: float) -> tuple[int, int]:
    """The least and the most of so many that fall to a share, but for false alarms."""
    from scipy import special  # noqa: PLC0415

    tails = (FALSE_ALARM / 2, 1 - FALSE_ALARM / 2)
    low, high = (float(special.bdtrik(tail, of, share)) for tail in tails)
    # The smallest of these has no place where the distribution function is below the tail.
    return 0 if math.isnan(low) else math.ceil(low), math.ceil(high)


def assert_spread_evenly(
    draws: Mapping[Flow, Sequence[Reply]],
    *,
    over: Collection[str],
    unevenness: float = UNEVENNESS,
) -> None:
    """Each flow's connections go to the pods `over` uniformly at random, independently.

    Enough were drawn to see one pod whose share is off by the fraction `unevenness`.

    Two verdicts a flow: chi-square goodness of fit to even shares, and a binomial test of how
    often the same pod is picked twice in a row (never by round robin, too often by stickiness).

    Raises:
        UnevenError: a connection was not answered by one of the pods, or chance does not explain
            the counts; shows every flow, the wrong ones marked.
        ValueError: nothing was drawn, or fewer than two pods make any distribution even, or all
            was answered and is too little to judge.
    """
    pods = sorted(over)
    _demand_something(draws, pods)
    needed = connections_needed(len(pods), unevenness=unevenness, false_alarm=FALSE_ALARM)
    rows: list[Row] = []
    for flow, replies in draws.items():
        problem = _not_answered(replies, pods) or _cut_short(replies, needed)
        counts = Counter(reply.echo for reply in replies if reply.outcome == ANSWERED)
        observed = [counts[pod] for pod in pods]
        if not problem:
            _demand_enough(replies, needed)
            even = is_even(observed)
            repeats = sum(a.echo == b.echo for a, b in pairwise(replies))
            random = is_chance(repeats, len(replies) - 1, 1 / len(pods))
            verdict = f"p={even:.2g} for even, p={random:.2g} for random"
            _note(f"{flow}: {len(replies)} connections, {verdict}")
            if even < FALSE_ALARM:
                problem = f"not even: p={even:.2g}"
            elif random < FALSE_ALARM:
                problem = (
                    f"not random: the same pod twice in a row {repeats} times, "
                    f"chance gives about {(len(replies) - 1) / len(pods):.0f}"
                )
            _keep(flow, pods, replies, even=even, random=random, problem=problem)
        rows.append((flow, ", ".join(f"{pod} {counts[pod]}" for pod in pods), problem))
    expected = len(next(iter(draws.values()))) / len(pods)
    _demand_no_problem(
        f"want {expected:.0f} connections to each pod, give or take", rows, draws, over
    )


def assert_spread(draws: Mapping[Flow, Sequence[Reply]], *, over: Collection[str]) -> None:
    """Together the flows reach at least two of the pods `over`, and nobody else answers.

    Raises:
        UnevenError: one pod got everything, or a connection was not answered by one of the pods.
        ValueError: nothing was drawn, or fewer than two pods leave no choice.
    """
    _demand_something(draws, over)
    rows = [
        (flow, _shares(replies), _not_answered(replies, over)) for flow, replies in draws.items()
    ]
    reached = {reply.echo for replies in draws.values() for reply in replies}
    head = f"want at least two of {len(over)} pods"
    _demand_no_problem(head, rows, draws, over, together=len(reached) >= 2)


def assert_one_each(draws: Mapping[Flow, Sequence[Reply]], *, over: Collection[str]) -> None:
    """Each flow stays on one pod for all its connections, though there are several to choose from.

    Raises:
        UnevenError: a flow reached a second pod, or was not answered; shows after how many.
        ValueError: nothing was drawn, or fewer than two pods leave no choice.
    """
    _demand_something(draws, over)
    rows: list[Row] = []
    for flow, replies in draws.items():
        problem = _not_answered(replies, over)
        first = replies[0].echo
        moved = next((n for n, reply in enumerate(replies) if reply.echo != first), None)
        if not problem and moved is not None:
            problem = f"left {first} after {moved} connections"
        rows.append((flow, _shares(replies), problem))
    _demand_no_problem("want one pod for all connections of a flow", rows, draws, over)


def assert_some_move(draws: Mapping[Flow, Sequence[Reply]], *, over: Collection[str]) -> None:
    """At each target some flow leaves the pod that it had, and only the pods `over` answer.

    Raises:
        UnevenError: at one target every flow kept its pod, or somebody was not answered.
        ValueError: nothing was drawn, or fewer than two pods leave no choice.
    """
    _demand_something(draws, over)
    moved = {str(flow.target): False for flow in draws}
    for flow, replies in draws.items():
        moved[str(flow.target)] |= len({reply.echo for reply in replies}) > 1
    rows: list[Row] = []
    for flow, replies in draws.items():
        stuck = "" if moved[str(flow.target)] else "nobody left a pod here"
        rows.append((flow, _shares(replies), _not_answered(replies, over) or stuck))
    _demand_no_problem("want somebody to leave the pod at each target", rows, draws, over)


def assert_all_met(draws: Mapping[Flow, Sequence[Reply]], *, over: Collection[str]) -> None:
    """Each flow reaches every one of the pods `over`, and nobody else answers.

    Raises:
        UnevenError: a flow missed a pod, or a connection was not answered by one of the pods.
        ValueError: nothing was drawn, or all was answered and is too little to meet every pod.
    """
    _demand_something(draws, over, choice=1)
    needed = connections_to_meet(len(over), false_alarm=FALSE_ALARM)
    rows: list[Row] = []
    for flow, replies in draws.items():
        problem = _not_answered(replies, over) or _cut_short(replies, needed)
        if not problem:
            _demand_enough(replies, needed)
            if missed := set(over) - {reply.echo for reply in replies}:
                problem = f"never {' nor '.join(sorted(missed))}"
        rows.append((flow, _shares(replies), problem))
    _demand_no_problem(f"want every one of {len(over)} pods", rows, draws, over)


def assert_comes_to(
    judge: Callable[..., None],
    flows: Iterable[Flow],
    *,
    over: Collection[str],
    within: float = timing.SETTLE_WITHIN,
) -> None:
    """Draw from the flows again and again, until a judge has nothing against what was drawn.

    Args:
        judge: one of this module that is content with enough connections to meet every pod.
        flows: what to draw from.
        over: the pods, as the judge wants them.
        within: seconds.

    Raises:
        UnevenError: time ran out; what the judge said last.
    """
    every, said = list(flows), ""
    wrong: tuple[Wrong, ...] = ()

    def agrees(draws: Mapping[Flow, Sequence[Reply]]) -> bool:
        nonlocal said, wrong
        try:
            judge(draws, over=over)
        except UnevenError as error:
            said, wrong = str(error), error.wrong
            return False
        return True

    # Where one pod is wanted, another one that gets half of all has to be met.
    count = connections_to_meet(max(len(over), 2))
    # A pick that affinity makes depends on the one before.
    at_once = 1 if judge is assert_one_each else AT_ONCE
    looked = settle(lambda: draw(every, count, at_once), agrees, within=within, times=1)
    if looked.settled:
        return
    # A draw that waits for silence may begin before what came in time, and end after it.
    late = [flow for flow, replies in looked.last.items() if not _strange(replies[-1:], over)]
    if not late or not agrees({**looked.last, **draw(late, count, at_once)}):
        raise UnevenError(f"not within {looked.within:g} s: {said}", wrong)


def _demand_something(
    draws: Mapping[Flow, Sequence[Reply]], over: Collection[str], *, choice: int = 2
) -> None:
    if not draws or not all(draws.values()):
        raise ValueError("nothing was drawn, so there is nothing to judge")
    if len(over) < choice:
        raise ValueError("fewer than two pods leave no choice, so there is nothing to judge")


def _cut_short(replies: Sequence[Reply], needed: int) -> str:
    """Why there are too few, where a draw ended as it would have taken for ever."""
    late = _late(replies)
    if len(replies) >= needed or not late:
        return ""
    return f"{late} of {len(replies)} waited for a lost first packet, so no more were made"


def _demand_enough(replies: Sequence[Reply], needed: int) -> None:
    if len(replies) < needed:
        raise ValueError(f"{len(replies)} connections are too few: {needed} are needed")


def _demand_no_problem(
    head: str,
    rows: Sequence[Row],
    draws: Mapping[Flow, Sequence[Reply]],
    over: Collection[str],
    *,
    together: bool = True,
) -> None:
    """Raise with every row, those with a problem marked, if there is one or they fail together."""
    if together and not any(problem for _, _, problem in rows):
        return
    lines = [
        f"{'x' if problem else ' '} {flow}: {said}" + (f"; {problem}" if problem else "")
        for flow, said, problem in rows
    ]
    wrong = [_wrong(flow, draws[flow], over, problem) for flow, _, problem in rows if problem]
    raise UnevenError("\n".join([head, *lines]), wrong)


def _wrong(flow: Flow, replies: Sequence[Reply], pods: Collection[str], problem: str) -> Wrong:
    strange = _strange(replies, pods)
    if not strange and _late(replies):
        return Wrong.held_up(flow, replies)
    idle = max((reply.idle for reply in replies), default=0.0)
    summed = Wrong.of(flow, strange, asked=len(replies))
    return replace(summed, idle=idle, problem="" if strange else problem)


def _late(replies: Sequence[Reply]) -> int:
    """How many waited for a lost first packet, if they are so many that a draw may end for it."""
    late = sum(reply.is_delayed for reply in replies)
    return late if late > LATELY // 2 else 0


def _strange(replies: Sequence[Reply], pods: Collection[str]) -> list[Reply]:
    return [r for r in replies if r.outcome != ANSWERED or r.echo not in pods]


def _not_answered(replies: Sequence[Reply], pods: Collection[str]) -> str:
    wrong = _strange(replies, pods)
    if not wrong:
        return ""
    kinds = Counter(str(reply) for reply in wrong).most_common(3)
    return f"{len(wrong)} of {len(replies)} wrong: " + ", ".join(f"{n} {k}" for k, n in kinds)


def _shares(replies: Sequence[Reply]) -> str:
    counts = Counter(str(reply.echo or reply.outcome) for reply in replies)
    return ", ".join(f"{who} {count}" for who, count in sorted(counts.items()))


def _keep(flow: Flow, pods: Sequence[str], replies: Sequence[Reply], **found: Any) -> None:
    if book := journal.current.get():
        counts = Counter(reply.echo for reply in replies)
        nodes = {reply.echo: reply.detail for reply in replies if reply.echo}
        least, most = chance_interval(len(replies), 1 / len(pods))
        load = (str(flow), {pod: counts[pod] for pod in pods}, nodes, least, most)
        book.loads.append(journal.Load(*load, **found))


def _note(text: str) -> None:
    if book := journal.current.get():
        book.judged.append(text)
