"""The table of a clause: who may call whom, and how it may end."""

from collections import Counter, deque
from collections.abc import Mapping, Set
from dataclasses import dataclass

from e2e import timing
from e2e.check import journal
from e2e.probe import ANSWERED, REFUSED, Flow, Outcome, Reply, look
from e2e.wait import Settled, settle


@dataclass(frozen=True)
class Want:
    """What a flow is allowed to bring.

    Attributes:
        outcomes: the ways in which it may end.
        echoes: if given, the only pods that may answer.
        port: if given, the only port of the pod that may be asked.
    """

    outcomes: frozenset[Outcome]
    echoes: frozenset[str] | None = None
    port: int | None = None

    def allows(self, reply: Reply) -> bool:
        """Whether a reply is one of those wanted."""
        if reply.outcome not in self.outcomes:
            return False
        if reply.outcome != ANSWERED:
            return True
        right_echo = self.echoes is None or reply.echo in self.echoes
        return right_echo and self.port in (None, reply.port)

    def __str__(self) -> str:
        words = " or ".join(sorted(self.outcomes))
        if self.echoes is not None:
            names = sorted(self.echoes)
            words += (
                f" by {' or '.join(names)}" if len(names) < 3 else f" by one of {len(names)} pods"
            )
        return words + (f" on port {self.port}" if self.port else "")


def answered_by(*echoes: str, port: int | None = None) -> Want:
    """Want an answer from one of these pods; without names, from any pod of the service."""
    return Want(frozenset({ANSWERED}), frozenset(echoes) or None, port)


class NotSettledError(AssertionError):
    """A table did not hold; the message is the table with its wrong lines marked."""


def assert_settles(
    table: Mapping[Flow, Outcome | frozenset[Outcome] | Want],
    *,
    within: float = timing.SETTLE_WITHIN,
    times: int = timing.LOOKS_IN_A_ROW,
) -> Settled[dict[Flow, Reply]]:
    """Look at all flows of a table until it holds `times` times in a row.

    Args:
        table: what each flow is allowed to bring.
        within: seconds.
        times: looks in a row.

    Raises:
        NotSettledError: time ran out; shows every flow, the wrong ones marked.
        ValueError: the table wants no answer from anybody, so a dead cluster would pass.
    """
    wants = {flow: _as_want(want) for flow, want in table.items()}
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

    refusals = any(REFUSED in want.outcomes for want in wants.values())
    every, again = timing.LOOK_EVERY, timing.LOOK_AGAIN
    if refusals:
        every = again = timing.LOOK_FOR_REFUSAL_EVERY
    result = settle(
        lambda: look(wants), agrees, within=within, times=times, every=every, again=again
    )
    book = journal.current.get()
    if result.settled:
        if book:
            book.settled.append((result.took, len(wants), result.looks))
        return result
    # A flow that flickers may have been right in the very last look.
    marked = {flow for bad in lately for flow in bad}
    text = _describe(result, wants, wrong, marked, within=within, times=times)
    if book:
        book.tables.append(text)
    raise NotSettledError(text)


def _as_want(want: Outcome | frozenset[Outcome] | Want) -> Want:
    if isinstance(want, Want):
        return want
    return Want(frozenset({want}) if isinstance(want, Outcome) else want)


def _describe(
    result: Settled[dict[Flow, Reply]],
    wants: Mapping[Flow, Want],
    wrong: Mapping[Flow, Counter[str]],
    marked: Set[Flow],
    *,
    within: float,
    times: int,
) -> str:
    lines = [
        (
            f"not settled in {within:g} s: {result.agreed} of {result.looks} looks agreed, "
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
