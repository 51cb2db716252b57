"""Places what is watched during an upgrade, and keeps what the cluster is like before it."""

from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from kubernetes.dynamic.exceptions import DynamicApiError

from e2e.check.table import NotSettledError, assert_serves
from e2e.cluster import inventory, namespace, workload
from e2e.cluster.api import ApiRefusedError
from e2e.cluster.beside import demand_reach
from e2e.cluster.namespace import RUN_LABEL
from e2e.cluster.ports import PortBroker, find_range
from e2e.errors import CannotRunError, StopError, StoppedError, UsageError
from e2e.probe import Outside
from e2e.provider.cache import cache_folder, file_name
from e2e.provider.interrupts import shielded
from e2e.provider.steps import Steps
from e2e.report.upgrade_junit import JUNIT
from e2e.report.upgrade_page import PAGE
from e2e.report.verdict import VERDICT
from e2e.upgrade import expected, observe
from e2e.upgrade.plan import PLAN, Plan, load_plan
from e2e.upgrade.reach import in_words, unreached
from e2e.upgrade.record import RECORD
from e2e.upgrade.site import Site, demand_same

BEFORE, AFTER, SUMMARY = "before.json", "after.json", "summary.md"
# What verify and watch write beside the plan.
VERIFIED = (AFTER, VERDICT, JUNIT, PAGE, SUMMARY)
CONTRACT_LEFT_OUT = (
    "the contract is not asked: its clauses call nodes over every IP family that they have"
)
RESULTS = (BEFORE, *VERIFIED, RECORD, "timeline.html")


def prepare(
    here: Site,
    folder: Path,
    steps: Steps,
    *,
    contract: bool,
    only: str | None,
    families: str = observe.FAMILIES,
    processes: int,
) -> Plan:
    """Place the workloads, ask the contract, and write the plan and the fingerprint.

    Whatever ends it before it is done removes what it had placed; who kills it leaves a plan
    without flows, by which that can be removed.

    Raises:
        UsageError: the folder has a plan already.
        CannotRunError: what was placed is not served, or nodes are out of reach.
        StoppedError: somebody interrupted it.
    """
    demand_no_plan(folder)
    folder.mkdir(parents=True, exist_ok=True)
    name = f"nodeport-e2e-{here.run}"
    nodes = here.nodes()
    if here.engine:
        demand_reach(nodes)
    if left_out := unreached(nodes):
        steps.say(
            f"not called from here: {in_words(left_out)}; the plan has it all the same, for "
            "machines that have a way to it"
        )
        if contract:
            steps.say(CONTRACT_LEFT_OUT)
    # So that nobody takes what an earlier upgrade left for that of this one.
    for earlier in RESULTS:
        (folder / earlier).unlink(missing_ok=True)
    plan = Plan(
        run=here.run,
        made=datetime.now(UTC),
        cluster=inventory.identity(here.api),
        namespace=name,
        flows=(),
    )
    # Before anything is placed: if this is killed, it is all that knows what there is to remove.
    plan.save(folder)
    try:
        with steps.step("workloads", "they are watched while the cluster is upgraded") as step:
            placed = _place(here, name)
            served = expected.of_all(placed, nodes, Outside(), leave_out=left_out)
            assert_serves(served)
            step.done(f"{len(placed.services)} Services and their pods are in {name}")
        seen = None
        if contract and not left_out:
            seen = observe.ask_contract(
                here,
                folder / "before",
                steps,
                only=only,
                families=families,
                processes=processes,
            )
            observe.demand_whole(seen)
        with steps.step("fingerprint", "verify compares what there is then with it") as step:
            placed.read_again()
            taken = observe.take(here.api, name, seen)
            taken.save(folder / BEFORE)
            plan = plan.model_copy(
                update={"made": datetime.now(UTC), "flows": expected.watched(placed, nodes)}
            )
            plan.save(folder)
            step.done(f"{len(plan.flows)} flows, {len(taken.services)} Services, in {folder}")
    except BaseException as error:
        left = _take_back(here, folder, name, steps)
        if isinstance(error, KeyboardInterrupt):
            raise StoppedError(left) from error
        if isinstance(error, NotSettledError):
            raise CannotRunError(
                f"what was placed is not served, so there is nothing to watch:\n{error}",
                "mend the cluster first, and see how this machine reaches its nodes",
            ) from error
        raise
    return plan


def _take_back(here: Site, folder: Path, name: str, steps: Steps) -> str:
    """Remove what was placed, and the plan; gives what became of it."""
    with shielded(steps.say):
        try:
            namespace.remove(here.api, [name], wait=False)
        except (StopError, ApiRefusedError, DynamicApiError) as error:
            left = (
                f"the namespace {name} stays, as it could not be removed: "
                f"{str(error).partition(chr(10))[0]}; remove it: nodeport-e2e prepare --remove"
            )
            steps.say(left)
            return left
        for written in (PLAN, BEFORE):
            (folder / written).unlink(missing_ok=True)
    return f"removed the namespace {name}"


def demand_no_plan(folder: Path) -> None:
    """Go on only where nothing was prepared, as its folder would be all that knows of it.

    Raises:
        UsageError: the folder has a plan already.
    """
    if (folder / PLAN).exists():
        raise UsageError(
            f"{folder} has a plan already: what it says was placed is still there",
            "name another --folder, or remove it first: nodeport-e2e prepare --remove",
        )


def _place(here: Site, name: str) -> workload.Workload:
    """Place everything; the number that a Service asks for is lent by the broker meanwhile."""
    nodes = here.nodes()
    # As of clauses, so that none of them takes the same.
    locks = cache_folder() / "ports" / file_name(here.api.server)
    with ExitStack() as held:
        ports = PortBroker(here.api, find_range(here.api, "default"), locks, held)
        return workload.place(here.api, name, here.run, nodes, ports)


def remove(here: Site, folder: Path, steps: Steps) -> None:
    """Remove what a plan says was placed, and the plan itself; the reports stay.

    Raises:
        RefusedError: it is another cluster.
        UsageError: there is no plan.
    """
    plan = load_plan(folder)
    demand_same(here, plan)
    with steps.step("clean-up", "it was prepared for an upgrade") as step:
        found = here.api.find("Namespace", plan.namespace)
        if found.get("metadata", {}).get("labels", {}).get(RUN_LABEL) == plan.run:
            namespace.remove(here.api, [plan.namespace], wait=True)
            step.done(f"removed {plan.namespace}")
        else:
            step.skip(f"{plan.namespace} is gone already")
    (folder / PLAN).unlink()
