"""The command `nodeport-e2e document`: what is written from the code."""

from pathlib import Path

import click

from e2e.commands import schemas
from e2e.errors import UsageError
from e2e.report import contract_document


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; fail if it is stale.")
@click.option(
    "--seen",
    type=click.Path(exists=True, path_type=Path),
    multiple=True,
    help="Keep which clauses held in this junit.xml.",
)
def document(check: bool, seen: tuple[Path, ...]) -> None:
    """Write docs/contract.md from the clauses, and docs/schemas from what files hold."""
    for junit in seen:
        click.echo(f"kept what held on {contract_document.record(junit)}")
    made = {contract_document.DOCUMENT: contract_document.text()}
    made |= {schemas.SCHEMAS / name: text for name, text in schemas.documents().items()}
    for file, text in made.items():
        if check and (not file.exists() or file.read_text() != text):
            raise UsageError(f"{file.name} is stale", "make docs")
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
