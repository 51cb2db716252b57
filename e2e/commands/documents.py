"""The commands `nodeport-e2e document` and `schemas`: what is written from the code."""

from pathlib import Path

import click

from e2e.commands import schemas
from e2e.errors import UsageError
from e2e.report import contract_document, faults_document, lanes, proofs


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; fail if it is stale.")
@click.option(
    "--faults",
    type=click.Path(exists=True, path_type=Path),
    multiple=True,
    help="Keep what became of faults in this faults.json.",
)
@click.option(
    "--seen",
    type=click.Path(exists=True, path_type=Path),
    multiple=True,
    help="Keep which clauses held in this junit.xml.",
)
def document(check: bool, seen: tuple[Path, ...], faults: tuple[Path, ...]) -> None:
    """Write docs/contract.md, docs/faults.md, and docs/schemas from what files hold."""
    if not proofs.DOCS.exists():
        raise UsageError("there is no docs/ beside this installation", "run this in a checkout")
    for matrix in faults:
        click.echo(f"kept what was found: {proofs.record(matrix)}")
    for junit in seen:
        click.echo(f"kept what held on {lanes.record(junit)}")
    made = {each.DOCUMENT: each.text() for each in (contract_document, faults_document)}
    made |= {schemas.SCHEMAS / name: text for name, text in schemas.documents().items()}
    for file, text in made.items():
        if check and (not file.exists() or file.read_text() != text):
            raise UsageError(f"{file.name} is stale", "make docs")
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)


@click.command(name="schemas")
@click.argument("name", required=False, type=click.Choice(list(schemas.FILES)))
def print_schemas(name: str | None) -> None:
    """Print the JSON Schema of a file that programs may read; the names, where none is given."""
    click.echo(schemas.text(schemas.FILES[name]) if name else "\n".join(schemas.FILES), nl=not name)
