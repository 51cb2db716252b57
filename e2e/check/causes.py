"""Why there was an outage: what happened in the cluster at that moment, by a table of rules."""

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from e2e import timing
from e2e.check.outages import Outage
from e2e.probe import ANSWERED, FOREIGN, Outcome

TABLE = Path(__file__).with_name("causes.toml")
# What a rule explains that names no outcomes: not that somebody answers who should not.
NOBODY = [one for one in Outcome if one not in (ANSWERED, FOREIGN)]
# In the table, the namespace of what is watched.
WATCHED = "watched"
NOTHING = "nothing is known that happened then"
# Names in a sentence.
NAMES = 4


class Event(Protocol):
    """Something that happened in the cluster; Unix times."""

    @property
    def at(self) -> float:
        """When it was seen."""
        ...

    @property
    def since(self) -> float | None:
        """When it began, where it is the end of something that lasted."""
        ...

    @property
    def kind(self) -> str:
        """What happened."""
        ...

    @property
    def node(self) -> str:
        """On which node, if on one."""
        ...

    @property
    def name(self) -> str:
        """To which object."""
        ...

    @property
    def said(self) -> str:
        """More, for the reader."""
        ...


@dataclass(frozen=True)
class Need:
    """Something that must have happened for a rule to fit."""

    kind: str
    name: str = ""
    said: str = ""
    here: bool = False
    during: bool = False
    before: float = timing.REASON_BEFORE
    after: float = timing.REASON_AFTER

    def fits(self, event: Event, outage: Outage, node: str, namespace: str) -> bool:
        """Whether an event is what is needed."""
        name = f"{namespace}/" if self.name == WATCHED else self.name
        began = event.at if event.since is None else event.since
        return (
            event.kind == self.kind
            and event.name.startswith(name)
            and self.said in event.said
            and (not self.here or event.node == node)
            and began <= (outage.end if self.during else outage.start) + self.after
            and event.at >= outage.start - self.before
        )


@dataclass(frozen=True)
class Rule:
    """One rule of thumb."""

    id: str
    say: str
    needs: list[Need]
    source: str = ""
    ways: list[str] = field(default_factory=list)
    services: list[str] = field(default_factory=list)
    outcomes: list[str] = field(default_factory=list)


class Names(str):
    """One name or several, with the words that go with them in a sentence."""

    __slots__ = ("many",)
    many: bool

    @classmethod
    def of(cls, names: Iterable[str]) -> "Names":
        """Each name once, the first of them if there are many."""
        each = list(filter(None, dict.fromkeys(names)))
        more = [f"{len(each) - NAMES} more"] if len(each) > NAMES else []
        *head, last = [*each[:NAMES], *more] or [""]
        made = cls(f"{', '.join(head)} and {last}" if head else last)
        made.many = len(each) > 1
        return made

    @property
    def was(self) -> str:
        """What follows them."""
        return "were" if self.many else "was"

    @property
    def has(self) -> str:
        """Likewise."""
        return "have" if self.many else "has"

    @property
    def it(self) -> str:
        """What stands for them."""
        return "them" if self.many else "it"

    @property
    def its(self) -> str:
        """Likewise."""
        return "their" if self.many else "its"


@dataclass(frozen=True)
class Told:
    """Events as the words of a rule may name them."""

    node: Names
    name: Names
    said: Names
    lasted: float


@dataclass(frozen=True)
class Cause:
    """Why there was an outage.

    Attributes:
        rule: the id of the rule that fits; empty if none does.
        why: in words.
        node: of the outage.
        told: the events that the words name.
    """

    rule: str
    why: str
    node: str = ""
    told: tuple[Told, ...] = ()


@cache
def rules() -> list[Rule]:
    """All rules, in the order in which they are tried."""
    table = tomllib.loads(TABLE.read_text())["cause"]
    return [_rule(entry) for entry in table]


def _rule(entry: dict[str, Any]) -> Rule:
    return Rule(**{**entry, "needs": [Need(**need) for need in entry["needs"]]})


def cause_of(
    outage: Outage,
    events: Sequence[Event],
    *,
    node: str,
    way: str,
    namespace: str,
    service: str = "",
) -> Cause:
    """Find the first rule that fits an outage.

    Args:
        outage: which.
        events: of the cluster.
        node: through which was asked.
        way: how it was asked.
        namespace: of the watched workloads.
        service: of them, the one that was asked.
    """
    for rule in rules():
        asked = way in (rule.ways or [way]) and service in (rule.services or [service])
        if not asked or outage.kind not in (rule.outcomes or NOBODY):
            continue
        met = [_met(need, outage, events, node, namespace) for need in rule.needs]
        if all(met):
            told = tuple(_told(event, namespace) for event in met if event)
            return Cause(rule.id, _say(rule, told, [node]), node, told)
    return Cause("", NOTHING, node)


def why_of_all(causes: Sequence[Cause]) -> str:
    """Why there were several outages that the same rule explains, in one sentence."""
    first = causes[0]
    rule = next((rule for rule in rules() if rule.id == first.rule), None)
    if rule is None or len(causes) == 1:
        return first.why
    told = [_together(each) for each in zip(*(cause.told for cause in causes), strict=True)]
    return _say(rule, told, [cause.node for cause in causes])


def _say(rule: Rule, told: Sequence[Told], nodes: Iterable[str]) -> str:
    return rule.say.format(*told, node=Names.of(nodes))


def _together(told: Sequence[Told]) -> Told:
    return Told(
        node=Names.of(each.node for each in told),
        name=Names.of(each.name for each in told),
        said=Names.of(each.said for each in told),
        lasted=max(each.lasted for each in told),
    )


def _met(
    need: Need, outage: Outage, events: Sequence[Event], node: str, namespace: str
) -> Event | None:
    """The event nearest to the beginning of an outage that is what is needed."""
    fitting = [event for event in events if need.fits(event, outage, node, namespace)]
    return min(fitting, key=lambda event: abs(event.at - outage.start), default=None)


def _told(event: Event, namespace: str) -> Told:
    lasted = event.at - (event.at if event.since is None else event.since)
    # All that is watched is there.
    name = event.name.removeprefix(f"{namespace}/")
    node, name, said = (Names.of([each]) for each in (event.node, name, event.said))
    return Told(node, name, said, lasted)


def around(outage: Outage, events: Sequence[Event]) -> list[Event]:
    """What happened from shortly before an outage to its end."""
    since, until = outage.start - timing.REASON_BEFORE, outage.end + timing.REASON_AFTER
    return [
        event
        for event in events
        if (event.at if event.since is None else event.since) <= until and event.at >= since
    ]
