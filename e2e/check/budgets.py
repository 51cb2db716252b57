"""What users may notice of an upgrade, and whether they noticed more. Pure, but for one file."""

import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from e2e.check.fingerprint import in_one_line
from e2e.errors import UsageError

DEFAULT = Path(__file__).with_suffix(".toml")
# Ways of asking in which one conversation goes on; all others begin anew each time.
KEPT_WAYS = ("one connection", "UDP")
DATAGRAMS = "UDP from new ports"

Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Table(BaseModel):
    """A table of the file; a word that it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class NewFlows(Table):
    """What flows may lose that begin anew each time.

    Attributes:
        lost_on_other_nodes: attempts, in the whole upgrade, through nodes on which nobody worked.
        single_datagrams_while_pods_go: those of them that do not count, each alone and under way to
            a pod that went.
        longest_on_worked_node: seconds of each outage of a node that was being worked on, of
            conversations too.
    """

    lost_on_other_nodes: Count
    single_datagrams_while_pods_go: Count
    longest_on_worked_node: Seconds


class KeptFlows(Table):
    """What conversations may lose.

    Attributes:
        only_where_pod_or_node_went: whether they may do so nowhere else.
        longest: seconds of each gap through a node that was not being worked on.
    """

    only_where_pod_or_node_went: bool
    longest: Seconds


class OfTheWatch(Table):
    """How much a watch may have missed.

    Attributes:
        not_looked: seconds in which nobody asked, in all.
    """

    not_looked: Seconds


class Behaviours(Table):
    """What may be otherwise afterwards.

    Attributes:
        may_change: ids and topics of clauses.
    """

    may_change: list[str]

    def allow(self, clause: str) -> bool:
        """Whether a clause may change."""
        return clause in self.may_change or clause.partition(".")[0] in self.may_change


class Budgets(Table):
    """The whole file."""

    new: NewFlows
    kept: KeptFlows
    watch: OfTheWatch
    behaviours: Behaviours


@dataclass(frozen=True)
class Lost:
    """One outage of one watched flow, as far as budgets depend on it.

    Attributes:
        node: through which was called.
        way: how it was asked.
        lost: attempts that were not answered.
        seconds: how long it lasted.
        worked_on: whether the node was being worked on then.
        went: whether the pod of the conversation went then, or any pod where each attempt may meet
            another.
        flow: its name.
    """

    node: str
    way: str
    lost: int
    seconds: float
    worked_on: bool
    went: bool
    flow: str

    @property
    def is_datagram(self) -> bool:
        """Whether it is one datagram that was under way to a pod that went."""
        return self.way == DATAGRAMS and self.lost == 1 and self.went

    @property
    def is_kept(self) -> bool:
        """Whether it is one conversation."""
        return self.way in KEPT_WAYS


@dataclass(frozen=True)
class Budget:
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


def read_budgets(file: Path | None = None) -> Budgets:
    """Read a file of budgets; tables and words that it leaves out are as in the default.

    Raises:
        UsageError: it cannot be read, is no TOML, or has a word or value that means nothing.
    """
    default = tomllib.loads(DEFAULT.read_text())
    name = str(file or DEFAULT)
    try:
        asked = tomllib.loads(file.read_text()) if file else {}
    except OSError as error:
        raise UsageError(
            f"no budgets at {name}: {error.strerror}", "name a file, or none"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{name} is no TOML: {error}", f"begin with a copy of {DEFAULT.name}"
        ) from error
    merged = {
        key: {**default.get(key, {}), **asked[key]} if isinstance(asked.get(key), dict)
        else asked.get(key, default.get(key))
        for key in (*default, *(key for key in asked if key not in default))
    }  # fmt: skip
    try:
        return Budgets.model_validate(merged)
    except ValidationError as error:
        known = "; ".join(f"[{table}] {', '.join(words)}" for table, words in default.items())
        raise UsageError(f"{name}: {in_one_line(error)}", f"it may have: {known}") from error


def judge(outages: Iterable[Lost], budgets: Budgets, *, not_looked: float = 0.0) -> list[Budget]:
    """Hold outages, and the seconds in which nobody looked, against each budget."""
    every = list(outages)
    new = [each for each in every if not each.is_kept]
    kept = [each for each in every if each.is_kept]
    elsewhere = [each for each in new if not each.worked_on and not each.is_datagram]
    datagrams = [each for each in new if not each.worked_on and each.is_datagram]
    lost = sum(each.lost for each in elsewhere)
    strict = budgets.kept.only_where_pod_or_node_went
    found = [
        Budget(
            "new connections lost on nodes on which nobody worked",
            f"{budgets.new.lost_on_other_nodes}",
            f"{lost}",
            lost <= budgets.new.lost_on_other_nodes,
            _where(elsewhere, lambda each: each.lost)
            if lost > budgets.new.lost_on_other_nodes
            else (),
        ),
        Budget(
            "single datagrams that were under way to a pod that went",
            f"{budgets.new.single_datagrams_while_pods_go}",
            f"{len(datagrams)}",
            len(datagrams) <= budgets.new.single_datagrams_while_pods_go,
        ),
        _longest(
            "longest outage of a node that was being worked on",
            [each for each in every if each.worked_on],
            budgets.new.longest_on_worked_node,
        ),
        _longest(
            f"longest gap of a conversation{' whose pod or node went' if strict else ''}",
            [each for each in kept if not each.worked_on and (each.went or not strict)],
            budgets.kept.longest,
        ),
    ]
    if strict:
        stray = [each for each in kept if not each.went and not each.worked_on]
        found.append(
            Budget(
                "conversations that ended though their pod and node stayed",
                "0",
                f"{len(stray)}",
                not stray,
                _where(stray, lambda each: each.lost),
            )
        )
    limit = budgets.watch.not_looked
    found.append(
        Budget(
            "seconds in which nobody looked",
            f"{limit:g} s",
            f"{not_looked:.2f} s",
            not_looked <= limit,
            of_users=False,
        )
    )
    return found


def _longest(name: str, outages: Sequence[Lost], allowed: float) -> Budget:
    longest = max((each.seconds for each in outages), default=0.0)
    beyond = [each for each in outages if each.seconds > allowed]
    where = _where(beyond, lambda each: each.seconds)
    return Budget(name, f"{allowed:g} s", f"{longest:.2f} s", not beyond, where)


def _where(outages: Iterable[Lost], worst: Callable[[Lost], float]) -> tuple[str, ...]:
    ranked = sorted(outages, key=lambda each: -worst(each))
    return tuple(f"{each.flow}: {each.lost} lost, {each.seconds:.2f} s" for each in ranked)
