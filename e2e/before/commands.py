"""The commands `nodeport-e2e plan`, `explain` and `doctor`; thin."""

from typing import Any

import click

from e2e.before import plan as planning
from e2e.before.doctor import examine
from e2e.before.explain import explain as explained
from e2e.before.rows import exit_code, rows_json, rows_text
from e2e.options import complete_clause, of_choice, of_cluster, option
from e2e.provider.in_cluster import as_existing


@click.command()
@of_cluster
@of_choice
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def plan(**asked: Any) -> int:
    """Say what a run would ask, and why not the rest; touches nothing.

    Exit codes: 0 a run may begin, 2 the cluster does not answer, 3 a run would be refused, 4 usage.
    """
    found = planning.plan(as_existing(asked))
    click.echo(planning.plan_json(found) if asked["as_json"] else planning.plan_text(found))
    return found.exit_code


@click.command()
@click.argument("clause", shell_complete=complete_clause)
def explain(clause: str) -> None:
    """Say what a clause is: its statement, what it proves, where it held, how to ask it alone.

    CLAUSE is an id such as reach.control-plane, a topic such as reach, or an id of the catalogue
    such as N-04 or DP-06.
    """
    click.echo(explained(clause))


@click.command()
@of_cluster
@option("--out", "OUT", default="out", help="The folder of the results.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def doctor(**asked: Any) -> int:
    """Say whether a run can begin here, and what to do if not; changes nothing.

    Looks at this machine and the kept cluster of the lane, or at a cluster that exists.

    Exit codes: 0 a run may begin, 2 it cannot run, 3 it would be refused for safety, 4 usage.
    """
    found = examine(as_existing(asked))
    click.echo(rows_json(found) if asked["as_json"] else rows_text(found))
    return exit_code(found)
