"""Flows that went wrong, as every failing check hands them on to whoever looks for the reason."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from e2e.probe import Flow, Reply

UNEVEN, HELD_UP = "uneven", "held up"
# Of three pods that lose as many, one answers so many in a row once in seven hundred times.
TELLING = 7


@dataclass(frozen=True)
class Wrong:
    """One flow that went wrong.

    Attributes:
        flow: who called whom.
        outcome: how most of its wrong attempts ended; UNEVEN or HELD_UP where each was right by
            itself.
        echo: the pod that answered most of them, if one did; of those held up, all.
        wants_answer: whether an answer was wanted.
        seen_as: the address that this pod saw as the caller's, if it was asked.
        carried: bytes of each payload, if they were more than a question has.
        idle: seconds for which nothing had been said on it, if that was meant.
        problem: what is wrong with all attempts together, where each was right by itself.
        wrong: how many attempts were wrong, where `asked` is known.
        asked: of how many; 0 where they were looks, of which the last ones count.
    """

    flow: Flow
    outcome: str
    echo: str | None = None
    wants_answer: bool = True
    seen_as: str | None = None
    carried: int = 0
    idle: float = 0.0
    problem: str = ""
    wrong: int = 0
    asked: int = 0

    @classmethod
    def of(
        cls, flow: Flow, replies: Iterable[Reply], *, wants_answer: bool = True, asked: int = 0
    ) -> "Wrong":
        """Sum up the wrong replies of a flow, of so many that it was asked for."""
        ended = Counter((str(r.outcome), r.echo, r.seen_as, r.carried) for r in replies)
        if not ended:
            return cls(flow, UNEVEN, wants_answer=wants_answer)
        ((outcome, echo, seen_as, carried), _), *_ = ended.most_common(1)
        return cls(
            *(flow, outcome, echo, wants_answer, seen_as, carried),
            wrong=ended.total(),
            asked=asked,
        )

    @classmethod
    def held_up(cls, flow: Flow, replies: Sequence[Reply]) -> "Wrong":
        """Sum up replies some of which were late; names the pod that gave all of these.

        Only if there are enough of them, and another pod answered in time.
        """
        late = Counter(reply.echo for reply in replies if reply.is_delayed)
        ((pod, count), *others) = late.most_common()
        is_choice = len({reply.echo for reply in replies}) > 1
        return cls(flow, HELD_UP, pod if is_choice and not others and count >= TELLING else None)


class WrongFlowsError(AssertionError):
    """Flows went wrong; the message is their table.

    Attributes:
        wrong: the flows.
    """

    def __init__(self, message: str, wrong: Sequence[Wrong] = ()) -> None:
        super().__init__(message)
        self.wrong = tuple(wrong)
