"""The table of a clause: who may call whom, and how it may end."""

from collections import Counter, deque
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from e2e import timing
from e2e.check import journal
from e2e.check.wrong import Wrong, WrongFlowsError
from e2e.probe import ANSWERED, AT_ONCE, REFUSED, SILENT, Flow, Outcome, Reply, draw, look
from e2e.wait import Settled, settle

# Of each flow that has settled. Where one connection of twenty goes wrong, three flows miss it
# once in two thousand times.
SAMPLE = 50


@dataclass(frozen=True)
class Want:
    """What a flow is allowed to bring.

    Attributes:
        outcomes: the ways in which it may end.
        echoes: if given, the only pods that may answer.
        port: if given, the only port of the pod that may be asked.
        seen_as: if given, the only addresses as which the pod may see the caller.
    """

    outcomes: frozenset[Outcome]
    echoes: frozenset[str] | None = None
    port: int | None = None
    seen_as: frozenset[str] | None = None

    def allows(self, reply: Reply) -> bool:
        """Whether a reply is one of those wanted."""
        if reply.outcome not in self.outcomes:
            return False
        if reply.outcome != ANSWERED:
            return True
        right_echo = self.echoes is None or reply.echo in self.echoes
        right_client = self.seen_as is None or reply.seen_as in self.seen_as
        return right_echo and right_client and self.port in (None, reply.port)

    def __str__(self) -> str:
        words = " or ".join(sorted(self.outcomes))
        if self.echoes is not None:
            names = sorted(self.echoes)
            words += (
                f" by {' or '.join(names)}" if len(names) < 3 else f" by one of {len(names)} pods"
            )
        words += f" on port {self.port}" if self.port else ""
        return words + (f" seen as {' or '.join(sorted(self.seen_as))}" if self.seen_as else "")


Table = Mapping[Flow, Outcome | frozenset[Outcome] | Want]
"""What each flow is allowed to bring."""


def answered_by(
    *echoes: str, port: int | None = None, seen_as: Collection[str] | None = None
) -> Want:
    """Want an answer from one of these pods; without names, from any pod of the service.

    Args:
        echoes: names of pods.
        port: the port of the pod that has to be asked.
        seen_as: addresses as one of which the pod has to see the caller; for a flow that asks
            `closely`.
    """
    clients = None if seen_as is None else frozenset(seen_as)
    return Want(frozenset({ANSWERED}), frozenset(echoes) or None, port, clients)


class NotSettledError(WrongFlowsError):
    """A table did not hold; the message is the table with its wrong lines marked."""


class FlickerError(NotSettledError):
    """A table did not go on to hold; the message is the table with its wrong lines marked."""


def assert_serves(
    table: Table,
    *,
    times: int = timing.LOOKS_IN_A_ROW,
    within: float = timing.SETTLE_WITHIN,
) -> None:
    """Let a table settle, and from then on let not one connection of a sample go wrong.

    The sample is drawn from the flows that have to be answered; the others were looked at.

    Raises:
        NotSettledError: it did not settle, or not for good; shows every flow, the wrong marked.
        ValueError: the table wants no answer from anybody, so a dead cluster would pass.
    """
    assert_settles(table, times=times, within=within)
    answering = {flow: want for flow, want in table.items() if as_want(want).outcomes == {ANSWERED}}
    assert_only(draw(answering, SAMPLE, AT_ONCE), answering)


def assert_keeps(table: Table, *, during: float = timing.WATCH_FOR) -> None:
    """Look at all flows of a table again and again for some seconds, in which it always holds.

    Raises:
        FlickerError: it did not hold in one of the looks; shows every flow, the wrong ones marked.
    """
    looked = settle(lambda: look(table), lambda _: False, within=during, every=timing.LOOK_EVERY)
    assert_only(replies_in(looked), table)


def assert_only(draws: Mapping[Flow, Sequence[Reply]], table: Table) -> None:
    """Every reply that was drawn from a flow is one that the table allows.

    Raises:
        FlickerError: one is not; shows every flow with the count of its wrong replies.
        ValueError: nothing was drawn.
    """
    if not draws or not all(draws.values()):
        raise ValueError("nothing was drawn, so there is nothing to judge")
    lines: list[str] = []
    flickers: list[Wrong] = []
    for flow, replies in draws.items():
        want = as_want(table[flow])
        wrong = Counter(str(reply) for reply in replies if not want.allows(reply))
        line = f"{flow}: want {want}, saw "
        line += f"{wrong.total()} of {len(replies)} wrong" if wrong else f"it {len(replies)} times"
        if wrong:
            bad = [reply for reply in replies if not want.allows(reply)]
            wants_answer = ANSWERED in want.outcomes
            flickers.append(Wrong.of(flow, bad, wants_answer=wants_answer, asked=len(replies)))
            line += ": " + ", ".join(f"{n} {kind}" for kind, n in wrong.most_common(3))
        lines.append(f"{'x' if wrong else ' '} {line}")
    if flickers:
        message = "\n".join(["not always: some connections went wrong", *lines])
        raise FlickerError(message, flickers)


def replies_in(looked: Settled[dict[Flow, Reply]]) -> dict[Flow, list[Reply]]:
    """What each flow brought in all looks of a table, from the first to the last."""
    return {flow: [seen[flow] for seen in looked.seen] for flow in looked.last}


def assert_settles(
    table: Table,
    *,
    within: float = timing.SETTLE_WITHIN,
    times: int = timing.LOOKS_IN_A_ROW,
    every: float | None = None,
) -> Settled[dict[Flow, Reply]]:
    """Look at all flows of a table until it holds `times` times in a row.

    Args:
        table: what each flow is allowed to bring.
        within: seconds.
        times: looks in a row.
        every: seconds between two looks; by default few while they agree, and more before.

    Raises:
        NotSettledError: time ran out; shows every flow, the wrong ones marked.
        ValueError: the table wants no answer from anybody, so a dead cluster would pass.
    """
    wants = {flow: as_want(want) for flow, want in table.items()}
    if not any(ANSWERED in want.outcomes for want in wants.values()):
        raise ValueError("a table in which nobody has to answer proves nothing: add a flow that is")
    wrong: dict[Flow, Counter[str]] = {flow: Counter() for flow in wants}
    lately: deque[list[Flow]] = deque(maxlen=times)

    def agrees(seen: Mapping[Flow, Reply]) -> bool:
        bad = [flow for flow, want in wants.items() if not want.allows(seen[flow])]
        for flow in bad:
            wrong[flow][str(seen[flow])] += 1
        lately.append(bad)
        return not bad

    slow, soon = timing.LOOK_EVERY, timing.LOOK_AGAIN
    if any(REFUSED in want.outcomes and SILENT not in want.outcomes for want in wants.values()):
        slow = soon = timing.LOOK_FOR_REFUSAL_EVERY
    if every is not None:
        slow = soon = every

    def wrong_now(seen: Mapping[Flow, Reply]) -> str:
        flow = lately[-1][0]
        more = f", and {len(lately[-1]) - 1} more flows" if lately[-1][1:] else ""
        return f"{flow}: want {wants[flow]}, saw {seen[flow]}{more}"

    result = settle(
        lambda: look(wants),
        agrees,
        within=within,
        times=times,
        every=slow,
        again=soon,
        what=wrong_now,
    )
    if result.settled:
        if book := journal.current.get():
            book.settled.append((result.took, len(wants), result.looks))
            took = {flow: _right_since(result, flow, want) for flow, want in wants.items()}
            book.converged += [(str(flow), seconds) for flow, seconds in took.items()]
            book.flows += [
                journal.FlowEnd.of(
                    flow, want, result.last[flow].outcome, right=True, took=took[flow]
                )
                for flow, want in wants.items()
            ]
        return result
    marked = _marked(result.seen, wants, lately)
    if book := journal.current.get():
        book.flows += [
            journal.FlowEnd.of(
                *(flow, want, _saw(result, flow, want, wrong[flow], is_wrong=flow in marked)),
                right=flow not in marked,
            )
            for flow, want in wants.items()
        ]
    raise NotSettledError(
        _describe(result, wants, wrong, marked, times=times),
        [
            Wrong.of(
                flow,
                [seen[flow] for seen in result.seen if not wants[flow].allows(seen[flow])],
                wants_answer=ANSWERED in wants[flow].outcomes,
            )
            for flow in marked
        ],
    )


def _saw(
    result: Settled[dict[Flow, Reply]],
    flow: Flow,
    want: Want,
    wrong: Counter[str],
    *,
    is_wrong: bool,
) -> str:
    """What is told of a flow: of one that flickers not the last look, if that was right."""
    last = result.last[flow]
    if not is_wrong or not want.allows(last):
        return str(last)
    mostly = wrong.most_common(1)[0][0]
    return f"{mostly}; wrong in {wrong.total()} of {result.looks} looks"


def _marked(
    seen: Sequence[Mapping[Flow, Reply]], wants: Mapping[Flow, Want], lately: Iterable[list[Flow]]
) -> set[Flow]:
    """The flows that kept a table from settling.

    A flow that flickers may have been right in the very last look. One that only came late is not
    to blame, unless all did; nor is one that was mostly right beside others that were not: silence
    takes its time, so that looks are few, and those in which rules were still to come count for
    much.
    """
    late, steady = set[Flow](), set[Flow]()
    every = {flow for bad in lately for flow in bad}
    for flow in every:
        right = [wants[flow].allows(each[flow]) for each in seen]
        if right[-1] and right == sorted(right):
            late.add(flow)
        elif 2 * sum(right) <= len(right):
            steady.add(flow)
    return steady or every - late or every


def _right_since(result: Settled[dict[Flow, Reply]], flow: Flow, want: Want) -> float:
    """Seconds until the first look from which on a flow was right."""
    since = result.at[-1]
    for at, seen in zip(reversed(result.at), reversed(result.seen), strict=True):
        if not want.allows(seen[flow]):
            break
        since = at
    return since


def as_want(want: Outcome | frozenset[Outcome] | Want) -> Want:
    """A line of a table in full."""
    if isinstance(want, Want):
        return want
    return Want(frozenset({want}) if isinstance(want, Outcome) else want)


def _describe(
    result: Settled[dict[Flow, Reply]],
    wants: Mapping[Flow, Want],
    wrong: Mapping[Flow, Counter[str]],
    marked: Set[Flow],
    *,
    times: int,
) -> str:
    lines = [
        (
            f"not settled in {result.within:g} s: {result.agreed} of {result.looks} looks agreed, "
            f"never {times} in a row"
        )
    ]
    for flow, want in wants.items():
        reply, often = result.last[flow], wrong[flow]
        line = f"{'x' if flow in marked else ' '} {flow}: want {want}, saw {reply}"
        if often and often.total() < result.looks:
            line += f"; wrong in {often.total()} of {result.looks} looks"
            line += f", mostly {often.most_common(1)[0][0]}"
        lines.append(line)
    return "\n".join(lines)
