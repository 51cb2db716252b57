"""What `verify` and `compare` found, as data: verdict.json, from which page and text are made."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from e2e.errors import UsageError

VERDICT = "verdict.json"


class Part(BaseModel):
    """Part of a verdict; what it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


P = TypeVar("P", bound=Part)


def read_part(kind: type[P], file: Path, *, is_not: str) -> P:
    """Read what a file holds.

    Args:
        kind: of what.
        file: JSON.
        is_not: what is said of a file that holds something else.

    Raises:
        UsageError: it cannot be read, or holds something else; says where.
    """
    try:
        return kind.model_validate_json(file.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        raise UsageError(f"{file} {is_not}: {place}: {first['msg']}") from error


class Changed(Part):
    """Something that is not what it was.

    Attributes:
        about: what changed.
        field: of it, if only a part.
        before: how it was.
        after: how it is.
        counts: whether that by itself makes the verdict.
    """

    about: str
    field: str
    before: str
    after: str
    counts: bool


class ChangedBehaviour(Part):
    """A clause of which two runs saw different things.

    Attributes:
        clause: its id.
        before: how it ended, or what was seen.
        after: likewise.
        said: why.
        counts: whether that by itself makes the verdict.
        unknown: whether one of the runs could not judge it.
        claim: the clause itself.
    """

    clause: str
    before: str
    after: str
    said: str
    counts: bool
    unknown: bool = False
    claim: str = ""


class ChangedTime(Part):
    """How long something took to converge, and whether chance explains the difference.

    Attributes:
        what: of all clauses or of one, at all nodes or at one.
        before: seconds.
        after: likewise.
        p: the probability of such a difference, or a larger one, by chance.
        counts: whether it is beyond noise, and by itself makes the verdict.
    """

    what: str
    before: float
    after: float
    p: float
    counts: bool


class ChangedSpread(Part):
    """The smallest p-values of a clause's statistical verdicts.

    Attributes:
        clause: its id.
        before: the p-value.
        after: likewise.
        verdicts: how many there were, before and after.
    """

    clause: str
    before: float
    after: float
    verdicts: tuple[int, int]


class Changes(Part):
    """All that differs between two runs.

    Attributes:
        before: what the older is called.
        after: what the newer is called.
        asked: how many clauses both runs asked.
        behaviours: clauses.
        times: those that matter first.
        spreads: distribution figures.
        allocations: numbers and addresses of Services.
        objects: what else changed of Services.
        defaults: what an API server makes of short Services.
        versions: of server, nodes and components.
        setup: of nodes and configuration.
    """

    before: str
    after: str
    asked: int = 0
    behaviours: tuple[ChangedBehaviour, ...] = ()
    times: tuple[ChangedTime, ...] = ()
    spreads: tuple[ChangedSpread, ...] = ()
    allocations: tuple[Changed, ...] = ()
    objects: tuple[Changed, ...] = ()
    defaults: tuple[Changed, ...] = ()
    versions: tuple[Changed, ...] = ()
    setup: tuple[Changed, ...] = ()

    @property
    def counting(self) -> int:
        """How many of them make the verdict."""
        parts: Sequence[Sequence[Changed | ChangedBehaviour | ChangedTime]] = (
            *(self.behaviours, self.times, self.allocations, self.objects),
            *(self.defaults, self.versions, self.setup),
        )
        return sum(each.counts for part in parts for each in part)

    @property
    def unknown(self) -> int:
        """How many clauses could not be judged in one of the runs."""
        return sum(each.unknown for each in self.behaviours)

    @property
    def exit_code(self) -> int:
        """0 if nothing counts, 1 if something does, 2 if that is not known."""
        return 1 if self.counting else 2 if self.unknown else 0


class Comparison(Changes):
    """What `compare --json` prints.

    Attributes:
        format: of this document.
    """

    format: Literal[1] = 1


class ChurnStep(Part):
    """One thing that was done to what was prepared, and whether it was served rightly afterwards.

    Attributes:
        name: what was done.
        ended: held, failed, broken, or left out.
        said: the table if it failed, or why it was left out.
        seconds: how long it took.
    """

    name: str
    ended: Literal["held", "failed", "broken", "left out"]
    said: str = ""
    seconds: float = 0.0


class Outage(Part):
    """One time for which one watched flow was not answered.

    Attributes:
        flow: its name.
        node: through which was called.
        path: what it has in common with that of other nodes.
        began: when.
        seconds: how long.
        give_or_take: seconds by which that may be wrong, either way.
        kind: how most of its attempts ended.
        lost: how many attempts that were.
        why: what happened in the cluster at that moment.
        worked_on: whether the node was being worked on then.
        over: whether it was answered again.
    """

    flow: str
    node: str
    path: str
    began: datetime
    seconds: float
    kind: str
    lost: int
    why: str
    worked_on: bool
    over: bool = True
    give_or_take: float = 0.0


class Reason(Part):
    """Why there were outages, once for all that have the same reason.

    Attributes:
        rule: the id of the rule that explains them; empty if none does.
        why: in words.
        nodes: through which was called, in the order of their first outages.
        outages: how many.
        lost: attempts.
    """

    rule: str
    why: str
    nodes: tuple[str, ...]
    outages: int
    lost: int


class EndedConversation(Part):
    """A kept connection that ended, after which another one was open at once.

    Attributes:
        flow: its name.
        node: through which was called.
        at: when.
        pod: who was at its other end.
        why: that it went, or that the node was being worked on; nothing if neither is known.
    """

    flow: str
    node: str
    at: datetime
    pod: str
    why: str


class KeptBudget(Part):
    """One budget, and what came of it.

    Attributes:
        name: what it limits.
        allowed: how much.
        used: how much it was.
        kept: whether that is within.
        where: the flows that went beyond, the worst first.
        of_users: whether it limits what they notice, or only what may not be known.
    """

    name: str
    allowed: str
    used: str
    kept: bool
    where: tuple[str, ...] = ()
    of_users: bool = True


class MovedNode(Part):
    """A node that was not there all the time.

    Attributes:
        node: its name.
        addresses: at which it was called.
        joined: when it was found to be Ready, if it was not there from the beginning.
        gone: since when it is there no more, if it is not.
        first: seconds from then until a path was answered; none if none was.
        served: seconds from then until every path was answered that ever was.
        last: the path that was answered last.
        never: the paths on which it never answered since it joined.
        unpromised: attempts without an answer before the first one, or since it is gone; they are
            neither lost nor part of an outage.
    """

    node: str
    addresses: tuple[str, ...]
    joined: datetime | None = None
    gone: datetime | None = None
    first: float | None = None
    served: float | None = None
    last: str = ""
    never: tuple[str, ...] = ()
    unpromised: int = 0


class Watched(Part):
    """What `watch` recorded.

    Attributes:
        began: when.
        seconds: for how long.
        attempts: how many there were.
        flows: how many flows were asked.
        outages: every one of them, in order.
        reasons: why, those first by which most was lost.
        ended: kept connections that ended and could be opened again at once.
        budgets: each with what came of it.
        blind: seconds in which nobody looked, as the watching machine was too busy, or between two
            watches.
        killed: whether the watch was, so that nothing is known of what came after it.
        command: what the upgrade was, and how it ended, if it ran under `watch`.
        moved: nodes that joined or left meanwhile.
        unreached: IP families that were not watched, each with why the watching machine has no way
            to it.
    """

    began: datetime
    seconds: float
    attempts: int
    flows: int
    outages: tuple[Outage, ...] = ()
    reasons: tuple[Reason, ...] = ()
    ended: tuple[EndedConversation, ...] = ()
    budgets: tuple[KeptBudget, ...] = ()
    blind: float = 0.0
    killed: bool = False
    command: str = ""
    moved: tuple[MovedNode, ...] = ()
    unreached: dict[str, str] = Field(default_factory=dict)


class Verdict(Part):
    """Everything that `verify` found.

    Attributes:
        format: of this file.
        run: the id of what was prepared.
        cluster: the UID of its namespace kube-system.
        made: when it was prepared.
        taken: when it was verified.
        changes: from the one to the other.
        churn: what was done to it then.
        watched: what was seen meanwhile; None if nobody watched.
        contract: whether the contract was asked both times.
        other_cluster: whether it is another cluster than the one that was prepared.
        unreached: IP families that could not be called afterwards, as the verifying machine has no
            way to them, and why; the contract is not asked then.
    """

    format: Literal[1] = 1
    run: str
    cluster: str
    made: datetime
    taken: datetime
    changes: Changes
    churn: tuple[ChurnStep, ...] = ()
    watched: Watched | None = None
    contract: bool = True
    other_cluster: bool = False
    unreached: dict[str, str] = Field(default_factory=dict)

    @property
    def beyond(self) -> tuple[KeptBudget, ...]:
        """The budgets that were not kept."""
        budgets = self.watched.budgets if self.watched else ()
        return tuple(each for each in budgets if not each.kept)

    @property
    def failed_steps(self) -> tuple[ChurnStep, ...]:
        """The churn after which something was served wrongly."""
        return tuple(step for step in self.churn if step.ended == "failed")

    @property
    def broken_steps(self) -> tuple[ChurnStep, ...]:
        """The churn that could not be judged."""
        return tuple(step for step in self.churn if step.ended == "broken")

    @property
    def is_unjudged(self) -> bool:
        """Whether some churn, or some behaviour, could not be judged."""
        return bool(self.broken_steps or self.changes.unknown)

    @property
    def exit_code(self) -> int:
        """0 if all is as it was, 1 if something is not, 2 if that is not known."""
        if self.beyond or self.failed_steps or self.changes.counting:
            return 1
        unseen = self.watched is not None and (self.watched.killed or not self.watched.attempts)
        return 2 if self.is_unjudged or unseen else 0

    def save(self, folder: Path) -> None:
        """Write it into a folder."""
        (folder / VERDICT).write_text(self.model_dump_json(indent=1) + "\n")
