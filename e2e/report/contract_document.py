"""Writes docs/contract.md from the clauses."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from e2e.report.clauses import FAMILIES, Catalogue, Clause, catalogue, read_clauses
from e2e.report.faults import of_clause
from e2e.report.lanes import seen
from e2e.report.proofs import DOCS, proved

DOCUMENT = DOCS / "contract.md"
HEAD = """\
# The contract

Made by `make docs` from the tests in `e2e/contract/`; do not edit it by hand.

{clauses} clauses prove {notes} of {all_notes} promises and {behaviours} of {all_behaviours} \
behaviours of the catalogue: {families}.
They refute {refuted} more, as what they pin there is a known bug.
{held} of them have been seen to hold on a lane, and these prove {seen} of the behaviours.
"""
MEANS = {
    "core": "must hold on any conformant cluster",
    "extended": "depends on an implementation's choice, which `e2e/contract/choices.toml` has",
    "disruptive": "disturbs the cluster, or would be disturbed by others; alone with the cluster",
    "slow": "takes long by its nature; asked for with `FAMILIES=all`",
}


def text() -> str:
    """The whole document."""
    clauses, known, held_on = read_clauses(), catalogue(), seen()
    covered = {i for clause in clauses for i in clause.covers}
    parts = [head(clauses, known, held_on)]
    parts += _table("family", "what it asks", MEANS.items())
    for topic, members in groupby(clauses, key=lambda clause: clause.topic):
        parts.append(f"\n## {topic}\n")
        parts += [_entry(clause, held_on) for clause in members]
    parts.append("\n## The promises, and the clauses that prove them\n")
    parts.append("| id | promise | clauses |\n| --- | --- | --- |")
    parts += [f"| {i} | {says} | {_by(i, clauses)} |" for i, says in known.notes.items()]
    parts.append("\n## What a clause may need\n")
    parts += _table("need", "what it is", known.needs.items())
    parts.append("\n## Behaviours of the catalogue that a clause covers\n")
    parts.append("| id | behaviour | clauses | Kubernetes' own suite |\n| --- | --- | --- | --- |")
    parts += [
        f"| {i} | {says} | {_by(i, clauses)} | {known.upstream.get(i, '')} |"
        for i, says in known.behaviours.items()
        if i in covered
    ]
    parts.append("\n## Behaviours of the catalogue without a clause, and why\n")
    parts.append("| id | behaviour | why not |\n| --- | --- | --- |")
    parts += [
        f"| {i} | {says} | {known.reasons.get(i, 'not yet')} |"
        for i, says in known.behaviours.items()
        if i not in covered
    ]
    parts.append("\n## Clauses that were not seen to fail under a fault\n")
    unproven = [clause.id for clause in clauses if clause.id not in proved()]
    parts.append(
        f"{len(unproven)} of {len(clauses)}; [faults.md](faults.md) has the faults, and what "
        f"noticed each.\n\n{_listed(unproven)}\n\nFor these among them no fault is meant: "
        f"{_listed([name for name in unproven if not of_clause(name)])}"
    )
    parts.append("\n## Lanes\n")
    parts += _table(
        "lane", "held", ((lane, str(len(clauses_of))) for lane, clauses_of in held_on.items())
    )
    return "\n".join(parts) + "\n"


def _listed(ids: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in ids) or "none."


def head(clauses: Sequence[Clause], known: Catalogue, held_on: Mapping[str, Sequence[str]]) -> str:
    """How much is proved, how much of that was seen, and how much is refuted."""
    counts = {name: sum(name in clause.families for clause in clauses) for name in FAMILIES}
    ever = {i for held in held_on.values() for i in held}
    held = [clause for clause in clauses if clause.id in ever]
    proved, covered = _proved(clauses), {i for clause in clauses for i in clause.covers}
    return HEAD.format(
        clauses=len(clauses),
        notes=len(proved & known.notes.keys()),
        all_notes=len(known.notes),
        behaviours=len(proved & known.behaviours.keys()),
        all_behaviours=len(known.behaviours),
        families=", ".join(f"{count} {name}" for name, count in counts.items()),
        refuted=len(covered - proved),
        held=len(held),
        seen=len(_proved(held) & known.behaviours.keys()),
    )


def _proved(clauses: Iterable[Clause]) -> set[str]:
    """What clauses cover, except for those that pin the effect of a bug: they show the opposite."""
    return {i for clause in clauses if not clause.known_bug for i in clause.covers}


def _table(name: str, says: str, rows: Iterable[tuple[str, str]]) -> list[str]:
    body = [f"| {key} | {text} |" for key, text in rows]
    return [f"| {name} | {says} |\n| --- | --- |", *body]


def _entry(clause: Clause, held_on: Mapping[str, Sequence[str]]) -> str:
    lanes = [lane for lane, held in held_on.items() if clause.id in held]
    facts = [
        f"Covers {', '.join(clause.covers)}",
        *([", ".join(clause.families)] if clause.families != ("core",) else []),
        f"called from {', '.join(clause.vantages)}" if clause.vantages else "the API alone",
        *([f"needs {', '.join(clause.needs)}"] if clause.needs else []),
        *([f"pins {clause.known_bug}"] if clause.known_bug else []),
        f"`{clause.where}`",
    ]
    held = f"\nHeld on {'; '.join(lanes)}\n" if lanes else ""
    return f"### `{clause.id}`\n\n{clause.claim}\n\n{' · '.join(facts)}\n{held}"


def _by(covered: str, clauses: list[Clause]) -> str:
    return ", ".join(
        f"`{clause.id}`" + (" (pins a bug)" if clause.known_bug else "")
        for clause in clauses
        if covered in clause.covers
    )
