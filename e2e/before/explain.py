"""What a clause says, what it proves, where it held, and how to ask it alone."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import product

from e2e.before.facts import of_lane
from e2e.before.plan import reasons
from e2e.cluster.capabilities import Facts, capabilities
from e2e.provider.lane import FAMILIES, PROXIES, SHAPES, Lane
from e2e.provider.node_image import DEFAULT
from e2e.report.clauses import Catalogue, Clause, catalogue, choose
from e2e.report.contract_document import MEANS
from e2e.report.faults import of_clause
from e2e.report.lanes import seen
from e2e.report.proofs import proved

LABEL = 10


def explain(name: str) -> str:
    """Every clause of this id, topic, or id of the catalogue, as text.

    Raises:
        UsageError: nothing is called so; names what comes near.
    """
    known = catalogue()
    said = (known.notes | known.behaviours).get(name)
    head = [f"{name}  {said}"] if said else []
    if said and (why := known.reasons.get(name)):
        head += [f"no clause covers it: {why}"]
    return "\n\n".join([*head, *(_entry(each, known) for each in choose(name, None, ours=True))])


def _entry(clause: Clause, known: Catalogue) -> str:
    return "\n".join([clause.id, f"  {clause.claim}", "", *_facts(clause, known)])


def _facts(clause: Clause, known: Catalogue) -> Iterator[str]:
    says = known.notes | known.behaviours
    held = [lane for lane, clauses in seen().items() if clause.id in clauses]
    for label, lines in (
        ("topic", [clause.topic]),
        ("proves", [f"{i}  {says[i]}" for i in clause.covers]),
        ("upstream", [f"{i}  {known.upstream[i]}" for i in clause.covers if i in known.upstream]),
        ("called", [f"from {', '.join(clause.vantages)}" if clause.vantages else "the API alone"]),
        ("needs", [f"{need}: {known.needs[need]}" for need in clause.needs] or ["nothing special"]),
        ("family", [f"{family}: {MEANS[family].replace('`', '')}" for family in clause.families]),
        ("pins", [clause.known_bug] if clause.known_bug else []),
        ("faults", _faults(clause) or ["none that it must notice"]),
        ("held on", held or ["no lane that was noted"]),
        ("source", [f"e2e/contract/{clause.where}"]),
        ("alone", _commands(clause)),
    ):
        for n, line in enumerate(lines):
            yield f"  {'' if n else label:<{LABEL}}{line}"


def _faults(clause: Clause) -> list[str]:
    """The faults that it must or may notice, and those that it was seen to notice."""
    known = of_clause(clause.id)
    said = {f.name: f"{'must' if clause.id in f.clauses else 'may'} be noticed" for f in known}
    said |= dict.fromkeys(proved().get(clause.id, []), "seen to be noticed")
    return [f"{name}  {words}" for name, words in said.items()]


def _commands(clause: Clause) -> list[str]:
    """How to ask it alone, of the first lane of kind that has all it needs, the usual one first."""
    lanes = (lane for lane, facts, have in _lanes() if not any(reasons(clause, have, facts)))
    lane = next(lanes, None)
    if lane is None:
        return [f"make e2e-here CONTEXT=name ONLY={clause.id}", "no lane of kind has what it needs"]
    usual = Lane(DEFAULT)
    words = [
        (part, getattr(lane, part))
        for part in ("proxy", "family", "shape")
        if getattr(lane, part) != getattr(usual, part)
    ]
    made = [f"{option.upper()}={value}" for option, value in words]
    given = [f"--{option}={value}" for option, value in words]
    return [
        " ".join(["make e2e", f"ONLY={clause.id}", *made]),
        " ".join(["nodeport-e2e run", f"--only={clause.id}", *given]),
    ]


@cache
def _lanes() -> list[tuple[Lane, Facts, dict[str, str]]]:
    """Every lane of the default version, by how much about it is unusual, with what it has."""
    usual = Lane(DEFAULT)
    shapes = sorted(path.stem for path in SHAPES.glob("*.yaml"))
    lanes = [
        replace(usual, proxy=proxy, family=family, shape=shape)
        for proxy, family, shape in product(PROXIES, FAMILIES, shapes)
    ]

    def unusual(lane: Lane) -> int:
        return sum(getattr(lane, part) != getattr(usual, part) for part in vars(lane))

    known = ((lane, of_lane(lane)) for lane in sorted(lanes, key=unusual))
    return [(lane, facts, capabilities(facts)) for lane, facts in known]
