"""Comes back to what was prepared: churns it, compares it with before, and says what users saw."""

from dataclasses import dataclass
from pathlib import Path

from e2e.check.budgets import Budgets
from e2e.check.fingerprint import Fingerprint
from e2e.cluster import workload as workloads
from e2e.cluster.api import ApiRefusedError
from e2e.cluster.implementation import UNKNOWN
from e2e.errors import StopError, UsageError
from e2e.provider.steps import Steps
from e2e.report.clauses import choose
from e2e.report.upgrade_junit import JUNIT, verdict_junit
from e2e.report.upgrade_page import PAGE, upgrade_page
from e2e.report.upgrade_text import verdict_text
from e2e.report.verdict import Verdict
from e2e.upgrade import changes, noticed, observe
from e2e.upgrade.churn import churn
from e2e.upgrade.plan import Plan, load_complete
from e2e.upgrade.prepare import AFTER, BEFORE, CONTRACT_LEFT_OUT, SUMMARY, VERIFIED
from e2e.upgrade.reach import Unreached, in_words, unreached
from e2e.upgrade.site import Site, demand_same, is_same
from e2e.wait import WaitedInVainError


@dataclass(frozen=True)
class Wishes:
    """What is asked for beside the default.

    Attributes:
        budgets: what users may notice.
        contract: whether the contract is asked again, if it was before.
        only: of it only these clauses.
        processes: that ask it.
        churn: whether what was prepared is churned.
        restart_proxy: whether kube-proxy may be restarted in a cluster that is not ours.
        other_cluster: whether another cluster may be compared with the one that was prepared.
    """

    budgets: Budgets
    contract: bool = True
    only: str | None = None
    processes: int = 8
    churn: bool = True
    restart_proxy: bool = False
    other_cluster: bool = False


def verify(here: Site, folder: Path, steps: Steps, wishes: Wishes) -> Verdict:
    """Do all of it, and write after.json and the verdict: as data, as JUnit, page and summary.

    Raises:
        RefusedError: it is another cluster than the one that was prepared.
        UsageError: the folder has no plan, or a file in it means nothing.
    """
    plan = load_complete(folder)
    before = _asked_again(Fingerprint.load(folder / BEFORE), wishes.only)
    if before.cluster != plan.cluster:
        raise UsageError(
            f"{folder / BEFORE} is of another cluster than the plan beside it",
            "keep what one prepare wrote together, or prepare again",
        )
    if not wishes.other_cluster:
        demand_same(here, plan)
    same = is_same(here, plan)
    left_out = _unreached(plan, steps, wishes) if same else {}
    # Before anything that takes long: it may be of another plan.
    watched, timeline = noticed.read(folder, plan, wishes.budgets)
    for name in VERIFIED:
        (folder / name).unlink(missing_ok=True)
    if same and workloads.is_churned(here.api, plan.namespace):
        _recover(here, plan, before, steps)
    # Before the churn, which writes to the Services itself.
    with steps.step("fingerprint", "it is compared with the one of before") as step:
        after = observe.take(here.api, plan.namespace if same else None)
        step.done(f"{after.version}, {len(after.services)} Services")
    undergone = []
    if wishes.churn and same:
        undergone = churn(
            here,
            plan.namespace,
            steps,
            proxy_stays=_proxy_stays(here, after, wishes),
            leave_out=left_out,
        )
    if wishes.contract and before.behaviours is not None and not left_out:
        only = wishes.only or _those_of(before)
        seen = observe.ask_contract(
            here, folder / "after", steps, only=only, processes=wishes.processes
        )
        after = after.model_copy(update={"behaviours": {each.clause: each for each in seen}})
    after.save(folder / AFTER)
    found = changes.of_fingerprints(
        before,
        after,
        strict=False,
        namespace=plan.namespace,
        may=wishes.budgets.behaviours,
    )
    verdict = Verdict(
        run=plan.run,
        cluster=after.cluster,
        made=plan.made,
        taken=after.taken,
        changes=found,
        churn=tuple(undergone),
        watched=watched,
        contract=found.asked > 0,
        other_cluster=not same,
        unreached=dict(left_out),
    )
    verdict.save(folder)
    (folder / JUNIT).write_text(verdict_junit(verdict))
    (folder / PAGE).write_text(upgrade_page(verdict, timeline=timeline, allowed=noticed.allowed()))
    (folder / SUMMARY).write_text(f"```text\n{verdict_text(verdict)}\n```\n")
    return verdict


def told(verdict: Verdict, folder: Path, where: str = "") -> str:
    """The verdict for a terminal, and what can be done next.

    Args:
        verdict: what was found.
        folder: where the rest of it is.
        where: options by which a command finds what was prepared; nothing if it is removed.
    """
    lines = [verdict_text(verdict), f"the report: {folder / PAGE}, as JUnit: {folder / JUNIT}"]
    if where:
        lines.append(
            f"what was prepared is still there; remove it: nodeport-e2e prepare --remove {where}"
        )
    return "\n".join(lines)


def _those_of(before: Fingerprint) -> str | None:
    """The clauses that were asked before, if they are not just those of the default."""
    asked = set(before.behaviours or ())
    default = {clause.id for clause in choose(None, observe.FAMILIES, ours=False)}
    return None if asked == default else ",".join(sorted(asked))


def _asked_again(before: Fingerprint, only: str | None) -> Fingerprint:
    """Before, without the clauses that are no more or that somebody chose not to ask again."""
    if before.behaviours is None:
        return before
    # Where nobody chose, what was asked then is asked again, be it disruptive.
    chosen = {clause.id for clause in choose(only, "all", ours=only is None)}
    seen = {name: each for name, each in before.behaviours.items() if name in chosen}
    return before.model_copy(update={"behaviours": seen})


def _recover(here: Site, plan: Plan, before: Fingerprint, steps: Steps) -> None:
    """Put back what a verify had changed that was killed, so that nobody blames the upgrade."""
    with steps.step("clean-up", "an earlier verify did not put back what it had changed") as step:
        try:
            workloads.recover(here.api, plan.namespace, before.prepared)
        except (StopError, ApiRefusedError, WaitedInVainError) as error:
            step.ended, step.said = "failed", f"it stays as it is: {error}"


def _unreached(plan: Plan, steps: Steps, wishes: Wishes) -> Unreached:
    """The IP families that cannot be called from here, if anything is to be called."""
    if not wishes.churn and not wishes.contract:
        return {}
    found = unreached(plan.flows, "leave out what calls them: --no-churn --no-contract")
    if found:
        steps.say(f"not called from here: {in_words(found)}")
        if wishes.contract:
            steps.say(CONTRACT_LEFT_OUT)
    return found


def _proxy_stays(here: Site, after: Fingerprint, wishes: Wishes) -> str:
    if after.proxy_mode == UNKNOWN:
        return "node ports are not served by kube-proxy, as far as is known"
    if here.is_ours or wishes.restart_proxy:
        return ""
    return "this cluster is not ours; allow it with --restart-kube-proxy"
