"""The commands `nodeport-e2e plan`, `explain` and `doctor`; thin."""

from typing import Any

import click

from e2e.before import plan as planning
from e2e.options import of_choice, of_cluster


@click.command()
@of_cluster
@of_choice
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def plan(**asked: Any) -> int:
    """Say what a run would ask, and why not the rest; touches nothing.

    Exit codes: 0 a run may begin, 2 the cluster does not answer, 3 a run would be refused, 4 usage.
    """
    found = planning.plan(asked)
    click.echo(planning.plan_json(found) if asked["as_json"] else planning.plan_text(found))
    return found.exit_code
