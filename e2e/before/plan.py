"""What a run would ask, and why not the rest; reads, and changes nothing."""

import json
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from e2e.before.facts import of_cluster, of_lane
from e2e.cluster.api import Api, ApiRefusedError
from e2e.cluster.beside import BESIDE, why_beside
from e2e.cluster.capabilities import Facts, capabilities
from e2e.cluster.consent import admit
from e2e.cluster.node import describe
from e2e.errors import CannotRunError, RefusedError
from e2e.plain import count_of
from e2e.provider import existing, kind
from e2e.provider.engine import find_engine
from e2e.provider.kubeconfig import default_kubeconfig
from e2e.provider.lane import Lane
from e2e.report.clauses import Clause, choose, contract

READ_ONLY = "this plan only read: it made, changed and removed nothing"
# Why clauses may be skipped all the same.
SHOWS_LATER = (
    "only asking shows whether a node port is taken, a network policy is enforced, and what nodes "
    "let pass of a connection's strays"
)


@dataclass(frozen=True)
class Place:
    """Where a run would ask.

    Attributes:
        name: of the lane or the context.
        found: what is there now.
        facts: by which clauses are skipped.
        notes: what is not known as surely as it will be.
        refused: why a run would be refused for safety, if it would.
    """

    name: str
    found: str
    facts: Facts
    notes: tuple[str, ...] = ()
    refused: RefusedError | None = None


@dataclass(frozen=True)
class Planned:
    """What would become of a clause.

    Attributes:
        clause: its id.
        families: its own.
        ends: asked, skipped, or left out as nobody asks for it.
        why: the reason of a skip.
    """

    clause: str
    families: tuple[str, ...]
    ends: str
    why: str = ""


@dataclass(frozen=True)
class Plan:
    """What a run would do: where, and what with each clause."""

    place: Place
    clauses: tuple[Planned, ...]

    @property
    def exit_code(self) -> int:
        """0, or 3 if a run would be refused."""
        return self.place.refused.exit_code if self.place.refused else 0

    def ending(self, ends: str) -> list[Planned]:
        """The clauses of which this would become."""
        return [each for each in self.clauses if each.ends == ends]


def plan(asked: Mapping[str, Any]) -> Plan:
    """Find out what a run with these options would ask.

    Raises:
        UsageError: an option means nothing, or the cluster of that name is of another lane.
        RefusedError: a cluster that exists is meant, and no context is named.
        CannotRunError: it does not answer, or does not let its nodes be read.
    """
    ours = asked["provider"] == "kind"
    chosen = {clause.id for clause in choose(asked["only"], asked["families"], ours=ours)}
    with tempfile.TemporaryDirectory() as secrets:
        place = _of_kind(asked, Path(secrets)) if ours else _existing(asked, Path(secrets))
    have = capabilities(place.facts)
    return Plan(place, tuple(_planned(each, chosen, have, place.facts) for each in contract()))


def _of_kind(asked: Mapping[str, Any], secrets: Path) -> Place:
    lane = Lane(asked["k8s"], asked["proxy"], asked["family"], asked["shape"])
    name = asked["cluster_name"] or lane.cluster_name
    record = kind.Record.read(name)
    # Whether this machine will reach the nodes of a lane shows when they are there.
    wish = asked["outside"]
    beside = why_beside(wish, (), has_callers=True) if wish == BESIDE else ""
    facts = replace(of_lane(lane), why_beside=beside)
    if record is None:
        return Place(f"lane: {lane}", f"the cluster {name} would be made", facts)
    record.demand_lane(name, str(lane))
    try:
        if not (record.complete and (file := record.kubeconfig())):
            raise CannotRunError(f"the cluster {name} is not complete")
        api = Api(file, secrets=secrets)
        refused = _refusal(api)
        found, notes = _read(api, asked["outside"], has_callers=True, is_ours=True)
    except CannotRunError as error:
        # A run starts it again, or makes it anew.
        why = error.what.partition("\n")[0]
        return Place(f"lane: {lane}", f"the cluster {name} would be mended: {why}", facts)
    says = f"the cluster {name} is there: {describe(api, found.nodes)['cluster']}"
    return Place(f"lane: {lane}", says, found, tuple(notes), refused)


def _refusal(api: Api, consent: existing.Consent | None = None) -> RefusedError | None:
    """Why a run would be refused by the cluster itself, if it would."""
    try:
        admit(api, consent, remember=False)
    except RefusedError as error:
        return error
    return None


def _existing(asked: Mapping[str, Any], secrets: Path) -> Place:
    context, engine = asked["kube_context"], find_engine()
    file = Path(asked["kubeconfig"] or default_kubeconfig())
    refused = consent = None
    try:
        consent = existing.check_allowed(file, context, engine)
    except RefusedError as error:
        if not context:
            raise
        refused = error
    api = Api(file, context, secrets=secrets)
    refused = refused or _refusal(api, consent)
    beside = engine is not None and existing.kind_cluster_at(api.server, engine) is not None
    facts, notes = _read(api, asked["outside"], has_callers=beside, is_ours=False)
    found = describe(api, facts.nodes)["cluster"]
    return Place(f"cluster: {context}", found, facts, tuple(notes), refused)


def _read(api: Api, outside: str, *, has_callers: bool, is_ours: bool) -> tuple[Facts, list[str]]:
    try:
        facts, notes = of_cluster(api, has_callers=has_callers, is_ours=is_ours)
    except ApiRefusedError as error:
        raise CannotRunError(str(error), "see nodeport-e2e doctor") from error
    why = why_beside(outside, facts.nodes, has_callers=has_callers)
    return replace(facts, why_beside=why), notes


def _planned(
    clause: Clause, chosen: Collection[str], have: Mapping[str, str], facts: Facts
) -> Planned:
    if clause.id not in chosen:
        return Planned(clause.id, clause.families, "left out")
    why = next(reasons(clause, have, facts), "")
    return Planned(clause.id, clause.families, "skipped" if why else "asked", why)


def reasons(clause: Clause, have: Mapping[str, str], facts: Facts) -> Iterator[str]:
    """Why a run would skip a clause there."""
    here = facts.implementation
    yield from (f"needs {need}: {have[need]}" for need in clause.needs if have[need])
    for what in clause.left_open:
        if here.chooses(what) is None:
            yield f"choices.toml does not say what {here} does: {what}"
    for what in clause.left_to_versions:
        if here.answers(what) is None:
            yield f"versions.toml does not say what this version answers: {what}"


def plan_text(plan: Plan) -> str:
    """The plan for people: where, what by topic, and the rest by reason."""
    asked, skipped, left = (plan.ending(ends) for ends in ("asked", "skipped", "left out"))
    would = count_of(len(asked), "clause")
    lines = [
        plan.place.name,
        plan.place.found,
        *plan.place.notes,
        f"{would} would be asked, {len(skipped)} skipped, {len(left)} left out",
    ]
    for topic, members in groupby(asked, key=lambda each: each.clause.partition(".")[0]):
        lines.append(f"  {topic}: {', '.join(each.clause.partition('.')[2] for each in members)}")
    reasons: dict[str, list[str]] = {}
    for each in skipped:
        reasons.setdefault(each.why, []).append(each.clause)
    lines += [f"- skipped: {', '.join(who)}: {why}" for why, who in reasons.items()]
    unasked = Counter(" and ".join(each.families) for each in left)
    counts = ", ".join(f"{count} {families}" for families, count in unasked.items())
    lines += [f"- left out by what was asked for: {counts}"] if left else []
    refused = [f"x a run would be refused: {plan.place.refused}"] if plan.place.refused else []
    return "\n".join([*lines, SHOWS_LATER, READ_ONLY, *refused])


def plan_json(plan: Plan) -> str:
    """The plan for programs."""
    place = plan.place
    return json.dumps(
        {
            "place": place.name,
            "found": place.found,
            "notes": place.notes,
            "refused": place.refused.what if place.refused else None,
            "clauses": [asdict(each) for each in plan.clauses],
        },
        indent=1,
    )
