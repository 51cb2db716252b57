"""Takes the fingerprint of a cluster: what it says of itself, and what the contract sees of it."""

import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from e2e.check.fingerprint import Behaviour, Fingerprint
from e2e.cluster import inventory, workload
from e2e.cluster.api import Api
from e2e.errors import CannotRunError
from e2e.provider.command import own_program, run_to_its_end
from e2e.provider.steps import Steps
from e2e.report.clauses import choose
from e2e.report.history import HISTORY
from e2e.report.junit import Case, read_cases
from e2e.report.outputs import MADE
from e2e.upgrade.site import Site

FAMILIES = "core,extended"
# What is said of clauses to which a run did not come.
CUT_SHORT = "the run of the contract ended before it came to this clause"
# The node of a flow as messages write it; what has no node has pods of some name.
AT = re.compile(r"-> (?P<at>[^\s:]+)")
PODS, NOWHERE = "pods", "no node"


def take(
    api: Api, namespace: str | None = None, behaviours: Iterable[Behaviour] | None = None
) -> Fingerprint:
    """Ask a cluster for everything that is compared.

    Args:
        api: the cluster.
        namespace: where the watched Services are; without one nothing was prepared.
        behaviours: what the contract saw; None if it was not asked.
    """
    mode, settings = inventory.proxy(api)
    found = {
        "taken": datetime.now(UTC),
        "cluster": inventory.identity(api),
        "version": api.version(),
        "nodes": inventory.nodes(api),
        "components": inventory.components(api),
        "proxy_mode": mode,
        "proxy": settings,
        "flags": inventory.flags(api),
        "defaults": inventory.defaults(api, namespace or "default"),
        "services": inventory.services(api),
        "prepared": workload.stored(api, namespace) if namespace else {},
    }
    seen = None if behaviours is None else {each.clause: each for each in behaviours}
    return Fingerprint.model_validate(found | {"behaviours": seen})


def ask_contract(
    site: Site,
    out: Path,
    steps: Steps,
    *,
    only: str | None,
    families: str = FAMILIES,
    processes: int,
) -> list[Behaviour]:
    """Let the contract be run by a process of its own, and read what it saw of each clause.

    Clauses that it did not come to are broken, as nothing is known of them. What would name this
    machine is removed from `out` afterwards; evidence of failures stays.

    Raises:
        CannotRunError: it came to no end.
    """
    what = f"--only={only}" if only else f"--families={families}"
    steps.say("the contract is asked of the cluster")
    code = run_to_its_end(
        [
            *(*own_program("e2e.cli"), "run", "--provider=existing", what),
            *(f"--kubeconfig={site.api.kubeconfig}", f"--kube-context={site.context}"),
            *(f"--processes={processes}", f"--out={out}"),
        ],
        steps.say,
    )
    junit = out / "junit.xml"
    try:
        cases = read_cases(junit)
    except (OSError, ET.ParseError) as error:
        raise CannotRunError(
            f"the contract came to no end (exit code {code}): {error}",
            "see above, or leave it out: --no-contract",
        ) from error
    for name in (*MADE, HISTORY):
        (out / name).unlink(missing_ok=True)
    if not (out / "evidence").exists():
        shutil.rmtree(out, ignore_errors=True)
    if not cases:
        raise CannotRunError(
            "not one clause of the contract was asked",
            "see above why, or leave it out: --no-contract",
        )
    found = behaviours_of(cases)
    known = {each.clause for each in found}
    said = f"{CUT_SHORT} (exit code {code})"
    return found + [
        Behaviour(clause=clause.id, ended="broken", said=said)
        for clause in choose(only, families, ours=False)
        if clause.id not in known
    ]


def demand_whole(seen: Iterable[Behaviour]) -> None:
    """Go on only if the run of the contract came to every clause.

    Raises:
        CannotRunError: it did not; what was seen is no beginning for a comparison.
    """
    every = list(seen)
    if missed := [each for each in every if each.said.startswith(CUT_SHORT)]:
        raise CannotRunError(
            f"{missed[0].said}: {len(every) - len(missed)} of {len(every)} clauses were asked",
            "see above why; mend it and prepare again, or leave the contract out: --no-contract",
        )


def behaviours_of(cases: Iterable[Case]) -> list[Behaviour]:
    """What a run saw of each clause, its times by node."""
    found = []
    for case in cases:
        by_node: dict[str, list[float]] = {}
        for flow, seconds in case.converged:
            by_node.setdefault(_node_of(flow), []).append(seconds)
        found.append(
            Behaviour.model_validate(
                {
                    "clause": case.clause,
                    "ended": case.ended,
                    "said": case.said,
                    "chosen": case.chosen,
                    "judged": case.judged,
                    "converged": {node: sorted(times) for node, times in sorted(by_node.items())},
                }
            )
        )
    return found


def _node_of(flow: str) -> str:
    at = AT.search(flow)
    if at is None:
        return NOWHERE
    # Pods have other names in each run.
    return PODS if at["at"].startswith("echo-") else at["at"]
