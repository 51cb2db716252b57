"""The commands `nodeport-e2e prepare`, `verify` and `compare`; thin."""

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from e2e.check.budgets import read_budgets
from e2e.cluster.api import ApiRefusedError
from e2e.errors import CannotRunError, ProbeBrokenError, StoppedError, UsageError
from e2e.options import PROCESSES, of_limits, option, together
from e2e.provider.steps import Steps
from e2e.report.clauses import choose, contract
from e2e.report.upgrade_junit import changes_junit
from e2e.report.upgrade_text import changes_text
from e2e.report.verdict import Comparison
from e2e.upgrade import compare as comparing
from e2e.upgrade import observe
from e2e.upgrade import prepare as preparing
from e2e.upgrade import verify as verifying
from e2e.upgrade.plan import load_complete, load_plan
from e2e.upgrade.site import Site, site
from e2e.upgrade.watch import alone
from e2e.wait import WaitedInVainError

FOLDER = "out/upgrade"
STILL_THERE = (
    "what was prepared is still there: verify again, or remove it: nodeport-e2e prepare --remove"
)


of_upgrades = together(
    option("--folder", "FOLDER", default=FOLDER, help="Of the plan and all that is written."),
    option("--cluster-name", "CLUSTER_NAME", default=None, help="A cluster kept by KEEP=1."),
    option("--kubeconfig", "KUBECONFIG", default=None, help="The file that has the context."),
    option("--kube-context", "KUBE_CONTEXT", default=None, help="The cluster's context."),
)
"""The options of all that wraps an upgrade: which cluster, which folder."""


of_contract = together(
    option(
        "--processes",
        "PROCESSES",
        default=PROCESSES,
        help="That ask side by side; 0 for one after another.",
    ),
    option("--only", "ONLY", default=None, help="Only these clauses, topics, catalogue ids."),
    click.option("--no-contract", is_flag=True, help="Do not ask the contract."),
)
"""The options of asking the contract before and after."""


of_budgets = option(
    "--budgets", "BUDGETS", default=None, help="What users may notice: a TOML file."
)


def judged_by(asked: Mapping[str, Any]) -> verifying.Wishes:
    """What is asked of a cluster before and afterwards, as the options say.

    Raises:
        UsageError: the budgets are none, or excuse a clause that there is not.
    """
    budgets = read_budgets(Path(asked["budgets"]) if asked["budgets"] else None)
    known = {name for clause in contract() for name in (clause.id, clause.id.partition(".")[0])}
    if unknown := [each for each in budgets.behaviours.may_change if each not in known]:
        raise UsageError(
            f"{asked['budgets']}: no clause and no topic is called {', '.join(unknown)}",
            "see docs/contract.md",
        )
    return verifying.Wishes(
        budgets=budgets,
        contract=not asked["no_contract"],
        only=asked["only"],
        processes=asked["processes"],
        churn=not asked["no_churn"],
    )


@contextmanager
def site_of(asked: Mapping[str, Any], steps: Steps) -> Iterator[Site]:
    """The cluster that the options name.

    Raises:
        StopError: there is none that may be used, or it stopped answering.
    """
    file = Path(asked["kubeconfig"]) if asked["kubeconfig"] else None
    try:
        context, name, wait = asked["kube_context"], asked["cluster_name"], asked.get("wait", 0.0)
        with site(file, context, name, steps, wait=wait) as here:
            yield here
    except (ApiRefusedError, WaitedInVainError, ProbeBrokenError) as error:
        raise CannotRunError(str(error)) from error


@click.command()
@of_upgrades
@of_contract
@of_limits
@option(
    "--families",
    "FAMILIES",
    default=observe.FAMILIES,
    help="Of clauses: core, extended, disruptive, slow, or all; verify asks them again.",
)
@click.option("--remove", is_flag=True, help="Remove what was prepared, and the plan.")
def prepare(**asked: Any) -> int:
    """Before an upgrade: place what is watched, and keep what the cluster is like.

    The folder can be carried to another machine; nothing in it depends on this one.
    """
    steps, folder = Steps(), Path(asked["folder"]).absolute()
    choose(asked["only"], asked["families"], ours=False)
    if asked["remove"]:
        load_plan(folder)
    else:
        preparing.demand_no_plan(folder)
    with site_of(asked, steps) as here:
        if asked["remove"]:
            preparing.remove(here, folder, steps)
            return 0
        preparing.prepare(
            here,
            folder,
            steps,
            contract=not asked["no_contract"],
            only=asked["only"],
            families=asked["families"],
            processes=asked["processes"],
        )
    click.echo(what_comes_next(here, asked["folder"]))
    return 0


def what_comes_next(here: Site, folder: str) -> str:
    """What is to be done after prepare, as it can be typed."""
    where = _where(here, folder)
    return "\n".join(
        (
            "what comes next, with an upgrade of yours:",
            f"  nodeport-e2e watch {where} -- ./upgrade.sh",
            f"  nodeport-e2e verify {where}",
        )
    )


def _where(here: Site, folder: str) -> str:
    """The options by which the next command finds the same."""
    return " ".join(
        [
            *([f"--folder={shlex.quote(folder)}"] if folder != FOLDER else []),
            f"--kubeconfig={shlex.quote(str(here.kubeconfig))}",
            f"--kube-context={shlex.quote(here.context)}",
        ]
    )


@click.command()
@of_upgrades
@of_contract
@of_limits
@of_budgets
@click.option("--other-cluster", is_flag=True, help="Compare another cluster than was prepared.")
@click.option(
    "--restart-kube-proxy", is_flag=True, help="Churn kube-proxy too, in a cluster not ours."
)
@click.option("--no-churn", is_flag=True, help="Change nothing of what was prepared.")
@click.option("--remove", is_flag=True, help="Remove what was prepared when all is written.")
def verify(**asked: Any) -> int:
    """After an upgrade: churn what was prepared, compare, and say what users noticed.

    Exit codes: 0 all is as before and budgets are kept, 1 it is not, 2 that is not known,
    3 another cluster, 4 usage.
    """
    steps, folder = Steps(), Path(asked["folder"]).absolute()
    choose(asked["only"], None, ours=False)
    wishes = replace(
        judged_by(asked),
        restart_proxy=asked["restart_kube_proxy"],
        other_cluster=asked["other_cluster"],
    )
    load_complete(folder)
    # A watch that goes on would tell the churn as outages.
    with site_of(asked, steps) as here, alone(folder):
        try:
            verdict = verifying.verify(here, folder, steps, wishes)
        except KeyboardInterrupt as error:
            raise StoppedError(STILL_THERE) from error
        if asked["remove"] and not verdict.other_cluster:
            preparing.remove(here, folder, steps)
    where = "" if asked["remove"] else _where(here, asked["folder"])
    click.echo(verifying.told(verdict, folder, where))
    return verdict.exit_code


@click.command()
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.option("--junit", type=click.Path(path_type=Path), help="Write it as JUnit XML too.")
def compare(a: Path, b: Path, as_json: bool, junit: Path | None) -> int:
    """Compare two runs: folders with a junit.xml, or fingerprints of prepare and verify.

    Exit codes: 0 they are the same, 1 something is otherwise, 2 a clause could not be judged.
    """
    found = comparing.compare(comparing.read_run(a), comparing.read_run(b))
    if junit:
        try:
            junit.write_text(changes_junit(found))
        except OSError as error:
            raise UsageError(f"{junit} cannot be written: {error.strerror}") from error
    as_data = Comparison(**vars(found))
    click.echo(as_data.model_dump_json(indent=1) if as_json else changes_text(found))
    return found.exit_code
