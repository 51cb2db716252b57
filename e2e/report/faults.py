"""Reads the faults, each a file in e2e/faults, and checks the rules that bind them."""

import re
import tomllib
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from e2e.errors import UsageError
from e2e.provider.lane import FAMILIES, PROXIES, Lane
from e2e.report.clauses import contract
from e2e.report.shard import Shard
from e2e.report.verdict import Part

FAULTS = Path(__file__).parents[1] / "faults"
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
# Quick clauses that no fault of the other side should touch: of the API, and of traffic.
OF_API = ("range.outside-is-refused", "allocation.across-protocols", "objects.sent-again")
OF_TRAFFIC = ("reach.pods-on-one-node", "vantages.hosts", "balance.per-connection")
NO_BUG = "no known bug"
ISSUE = re.compile(r"https://github\.com/[\w.-]+/([\w.-]+)/(?:issues|pull)/(\d+)\b")
# Scripts know two workers, the usual range and IPv4.
SHAPES_BROKEN, WITH_IPV4 = ("two-workers", "three-workers"), ("ipv4", "dual")


Where = Literal["worker", "first-worker", "control-plane", "every-node", "cluster"]
LOCAL = ("worker", "first-worker", "control-plane")


class Refusal(Part):
    """What the API server refuses though it should not, or in other words than it should.

    Attributes:
        resource: of what, such as services.
        operations: in which requests.
        unless: it is taken if this expression of CEL holds.
        says: the message.
        reason: and with it the code, of the few that admission can give.
    """

    resource: Literal["services", "endpointslices", "pods"]
    operations: tuple[Literal["CREATE", "UPDATE", "DELETE"], ...] = ("CREATE", "UPDATE")
    unless: str
    says: str
    reason: Literal["Invalid", "Forbidden", "Unauthorized"] = "Invalid"


class Change(Part):
    """What the API server stores otherwise than it was asked to.

    Attributes:
        resource: of what, such as services.
        operations: in which requests.
        when: an expression of CEL that holds for what is changed.
        patch: an expression of CEL that gives a list of patches.
    """

    resource: Literal["services", "endpointslices", "pods"]
    operations: tuple[Literal["CREATE", "UPDATE"], ...] = ("CREATE", "UPDATE")
    when: str = "true"
    patch: str


class Altered(Part):
    """What somebody between the callers of the API server and it alters on the way.

    Attributes:
        asked: a regular expression for requests that are meant: the method, a space, and the path
            with its query.
        sent: a regular expression in that; what it matches is left out of what is sent on.
        code: only answers with this one, if it is given.
        becomes: the code instead.
        find: a regular expression in the answer; in each line of a watch.
        put: what takes the place of each match.
    """

    asked: str
    sent: str = ""
    code: int | None = None
    becomes: int | None = None
    find: str = ""
    put: str = ""


class Way(Part):
    """How a fault is made, and undone, where kube-proxy has one mode.

    What is given is done in the order of the attributes, and undone in the other order.

    Attributes:
        settings: what kube-proxy's configuration says instead, in the shape of that.
        refuses: what the API server refuses.
        changes: what it stores otherwise.
        rewrite: a script of sed, with extended expressions, for all that kube-proxy hands to
            iptables-restore or nft; written for good it would be a bug of kube-proxy.
        on: whether scripts run on each node that is meant, or on a control plane for it.
        inject: a script of the shell; see `Here.known` for what it finds in its environment.
        repair: likewise; whatever has happened meanwhile, it has to end well.
        in_force: likewise; ends with 0 if the fault is there, and is asked before and after the
            clauses.
        altered: what is altered between clauses and API server, for the clauses alone.
    """

    settings: Mapping[str, Any] = Field(default_factory=dict)
    refuses: Refusal | None = None
    changes: Change | None = None
    rewrite: str = ""
    on: Literal["node", "control-plane"] = "node"
    inject: str = ""
    repair: str = ""
    in_force: str = ""
    altered: Altered | None = None

    @property
    def for_clauses_alone(self) -> str:
        """How it is made if nobody but clauses can meet it; nothing if others can."""
        if self.refuses or self.changes:
            return "by a policy, which binds the namespaces of runs alone"
        if self.altered:
            return "between clauses and the API server, to which specs speak directly"
        return ""


class Fault(Part):
    """One way of breaking a cluster.

    Attributes:
        name: that of its file.
        does: what it does.
        emulates: the link of a real bug, or why there is none.
        where: on which nodes it is made: the last worker, which has one of the standing echoes, or
            the first, which has two; in the `cluster`, from its first control plane.
        clauses: must notice it, each of them.
        also: may notice it, and are asked too: one that fails has been seen to be able to.
        why: a regular expression that matches what one of them prints, for this reason alone.
        spares: clauses that must not notice it.
        families: the IP families of lanes on which it makes sense.
        both: how it is made in either mode.
        iptables: how it is made in this mode.
        nftables: how it is made in this mode.
    """

    name: str
    does: str
    emulates: str
    where: Where = "worker"
    clauses: tuple[str, ...]
    also: tuple[str, ...] = ()
    why: str
    spares: tuple[str, ...] = ()
    families: tuple[str, ...] = WITH_IPV4
    both: Way | None = None
    iptables: Way | None = None
    nftables: Way | None = None

    def way(self, proxy: str) -> Way | None:
        """How it is made where kube-proxy has this mode; None if it makes no sense there."""
        mine: Way | None = getattr(self, proxy, None)
        return mine or self.both

    @property
    def like(self) -> tuple[str, str]:
        """The link of what it emulates, if there is one, and how that is called."""
        if issue := ISSUE.match(self.emulates):
            return issue[0], f"{issue[1]}#{issue[2]}"
        return "", self.emulates

    @property
    def is_local(self) -> bool:
        """Whether it is on one node, which is to be named."""
        return self.where in LOCAL

    def told(self, proxy: str) -> list[tuple[str, str]]:
        """How it is made, known to be in force, and repaired in a mode: what, and how in detail."""
        way = self.way(proxy)
        if way is None:
            return []
        policy = way.refuses or way.changes
        counted = "it is counted how often something was changed"
        made = {
            "kube-proxy is told": _pairs(way.settings),
            "the API server refuses": way.refuses
            and f"{way.refuses.resource} unless {way.refuses.unless}",
            "the API server stores": way.changes and way.changes.patch,
            "what kube-proxy writes is changed": way.rewrite.strip(),
            "run": way.inject.strip(),
            "between clauses and API server": way.altered
            and _pairs(way.altered.model_dump(exclude_defaults=True)),
            "in force": way.in_force
            or ("an object of its own shows whether the policy is heard" if policy else counted),
            "repaired": way.repair.strip() or "by taking it away",
        }
        return [(what, how) for what, how in made.items() if how]

    @property
    def modes(self) -> list[str]:
        """The modes of kube-proxy in which it makes sense."""
        return [proxy for proxy in PROXIES if self.way(proxy)]


def read_faults(folder: Path = FAULTS) -> list[Fault]:
    """Every fault, by name.

    Raises:
        UsageError: a file breaks a rule; names every one of them.
    """
    faults: list[Fault] = []
    problems: list[str] = []
    known = {clause.id for clause in contract()}
    for file in sorted(folder.glob("*.toml")):
        try:
            fault = Fault(name=file.stem, **tomllib.loads(file.read_text()))
        except (tomllib.TOMLDecodeError, ValidationError, TypeError) as error:
            problems.append(f"{file.name}: {_in_short(error)}")
            continue
        faults.append(fault)
        problems += [f"{file.name}: {each}" for each in _problems(fault, known)]
    if problems:
        raise UsageError("the faults break their own rules:\n  " + "\n  ".join(problems))
    return faults


@cache
def faults() -> tuple[Fault, ...]:
    """Every fault, whose files do not change while they are asked."""
    return tuple(read_faults())


def of_clause(clause: str) -> list[Fault]:
    """The faults that this clause must or may notice."""
    return [fault for fault in faults() if clause in (*fault.clauses, *fault.also)]


def choose_faults(only: str | None, shard: Shard | None, lane: Lane) -> list[Fault]:
    """The faults that are asked for and make sense on a lane.

    Args:
        only: names, in the order in which they are tried; all that make sense by default.
        shard: a part of them.
        lane: whose cluster is broken.

    Raises:
        UsageError: no fault is called so, or one makes no sense there, or nodes are to be parted.
    """
    if lane.shape not in SHAPES_BROKEN:
        raise UsageError(
            f"faults are made on nodes, numbers and addresses that SHAPE={lane.shape} may not have",
            f"use {' or '.join(SHAPES_BROKEN)}",
        )
    words = list(dict.fromkeys((only or "").replace(",", " ").split()))
    known = {fault.name: fault for fault in faults()}
    if unknown := [word for word in words if word not in known]:
        raise UsageError(f"no fault is called {', '.join(unknown)}", "see docs/faults.md")
    named = [known[word] for word in words or known]
    chosen = [fault for fault in named if fault.way(lane.proxy) and lane.family in fault.families]
    left = [fault.name for fault in named if fault not in chosen] if words else []
    if left or not chosen:
        what = ", ".join(left) or "no fault"
        raise UsageError(f"{what}: makes no sense on the lane {lane}", "see docs/faults.md")
    if shard and shard.by != "clauses":
        raise UsageError(f"SHARD={shard}: faults have no part by nodes", "say 1/4, for example")
    return shard.deal(chosen) if shard else chosen


def _problems(fault: Fault, known: Collection[str]) -> list[str]:
    unknown = set(fault.families) - {*FAMILIES}
    every = (*fault.clauses, *fault.also, *fault.spares)
    twice = sorted({clause for clause in every if every.count(clause) > 1})
    rules = {
        "the name is not in words with hyphens between": NAME.fullmatch(fault.name),
        f"emulates begins with neither a link to an issue at GitHub nor {NO_BUG!r}": (
            fault.emulates.startswith(NO_BUG) or ISSUE.match(fault.emulates)
        ),
        "no clause has to notice it": fault.clauses,
        f"{', '.join(twice)} is named twice": not twice,
        f"nobody knows the IP families {', '.join(sorted(unknown))}": not unknown,
        f"why is no regular expression: {fault.why}": _is_expression(fault.why),
        "why matches anything": len(fault.why) > 1,
        "it makes sense in no mode of kube-proxy": fault.modes,
    }
    return [
        *(problem for problem, is_kept in rules.items() if not is_kept),
        *(f"no clause is called {clause}" for clause in every if clause not in known),
        *(f"{each} in {proxy} mode" for proxy in fault.modes for each in _lacks(fault, proxy)),
    ]


def _lacks(fault: Fault, proxy: str) -> list[str]:
    way = fault.way(proxy)
    assert way
    # Whether any of these did anything is counted, or seen.
    counted = way.refuses or way.changes or way.rewrite or way.altered
    altered = way.altered or Altered(asked=".", put="x", find="x")
    disruptive = {clause.id for clause in contract() if clause.is_disruptive}
    lonely = disruptive.intersection((*fault.clauses, *fault.also, *fault.spares))
    rules = {
        "nothing is done": counted or way.inject or way.settings,
        "nothing repairs it": way.repair or not way.inject,
        "nobody can tell whether it is in force": counted or way.in_force,
        # It may begin anew, and with it the container in which its programs were wrapped.
        "clauses that disturb kube-proxy undo a rewriting": not way.rewrite or not lonely,
        "it both refuses and changes": not (way.refuses and way.changes),
        "nothing is altered": altered.sent or altered.becomes or altered.find,
        "what is altered is no regular expression": all(
            map(_is_expression, (altered.asked, altered.sent, altered.find))
        ),
    }
    return [problem for problem, is_kept in rules.items() if not is_kept]


def _pairs(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in settings.items())


def _is_expression(text: str) -> bool:
    try:
        re.compile(text)
    except re.error:
        return False
    return True


def _in_short(error: Exception) -> str:
    if isinstance(error, ValidationError):
        found = error.errors()[0]
        return f"{'.'.join(map(str, found['loc']))}: {found['msg']}"
    return str(error)
