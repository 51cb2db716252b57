"""Writes docs/contract.md from the clauses."""

from itertools import groupby
from pathlib import Path

from e2e.report.clauses import Clause, catalogue, read_clauses

DOCUMENT = Path(__file__).parents[2] / "docs" / "contract.md"
HEAD = """\
# The contract

Made by `make docs` from the tests in `e2e/contract/`; do not edit it by hand.

{clauses} clauses prove {notes} of {all_notes} promises and {behaviours} of {all_behaviours} \
behaviours of the catalogue.
"""


def text() -> str:
    """The whole document."""
    clauses = read_clauses()
    known = catalogue()
    covered = {i for clause in clauses for i in clause.covers}
    parts = [
        HEAD.format(
            clauses=len(clauses),
            notes=len(covered & known.notes.keys()),
            all_notes=len(known.notes),
            behaviours=len(covered & known.behaviours.keys()),
            all_behaviours=len(known.behaviours),
        )
    ]
    for topic, members in groupby(clauses, key=lambda clause: clause.topic):
        parts.append(f"\n## {topic}\n")
        parts += [_entry(clause) for clause in members]
    parts.append("\n## The promises, and the clauses that prove them\n")
    parts.append("| id | promise | clauses |\n| --- | --- | --- |")
    parts += [f"| {i} | {says} | {_by(i, clauses)} |" for i, says in known.notes.items()]
    parts.append("\n## What a clause may need\n")
    parts.append("| need | what it is |\n| --- | --- |")
    parts += [f"| {name} | {says} |" for name, says in known.needs.items()]
    parts.append("\n## Behaviours of the catalogue that a clause covers\n")
    parts.append("| id | behaviour | clauses | Kubernetes' own suite |\n| --- | --- | --- | --- |")
    parts += [
        f"| {i} | {says} | {_by(i, clauses)} | {known.upstream.get(i, '')} |"
        for i, says in known.behaviours.items()
        if i in covered
    ]
    parts.append("\n## Behaviours of the catalogue without a clause so far\n")
    parts.append("| id | behaviour |\n| --- | --- |")
    parts += [f"| {i} | {says} |" for i, says in known.behaviours.items() if i not in covered]
    return "\n".join(parts) + "\n"


def _entry(clause: Clause) -> str:
    needs = f" · needs {', '.join(clause.needs)}" if clause.needs else ""
    return (
        f"### `{clause.id}`\n\n{clause.claim}\n\n"
        f"Covers {', '.join(clause.covers)}{needs} · `{clause.where}`\n"
    )


def _by(covered: str, clauses: list[Clause]) -> str:
    return ", ".join(f"`{clause.id}`" for clause in clauses if covered in clause.covers)
