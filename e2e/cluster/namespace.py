"""The namespaces of a run: all carry its id, and all go with it."""

import os
from collections.abc import Collection

from e2e import timing
from e2e.cluster.api import Api, names_by
from e2e.cluster.node import is_ready
from e2e.wait import wait_until

RUN_LABEL = "nodeport-e2e/run"
# On what a pod of a Job made, with the id of the run that made the Job, or with the namespace of
# one that was applied by hand; it says so by a variable.
PART_OF = "nodeport-e2e/part-of"
PART = "E2E_PART_OF"
# Where a run has its Job, and what that is called.
OF_JOB, JOB = "nodeport-e2e-job-", "nodeport-e2e"
# On what was prepared for later, and outlives the process that made it.
KEPT_LABEL = "nodeport-e2e/kept"
# Seconds that a pod has to end for which nobody waits.
SOON = 1
# Standards of pod security. Echoes keep the strictest one, but for those in the network of a node.
RESTRICTED, PRIVILEGED = "restricted", "privileged"


def make(api: Api, name: str, run: str, *, kept: bool = False, security: str = RESTRICTED) -> str:
    """Create a namespace of this run in which pods can start at once, and return its name.

    Args:
        api: the cluster.
        name: of the namespace.
        run: whose it is.
        kept: whether it stays when the run ends, until somebody asks for its end.
        security: the standard that it enforces of its pods.
    """
    labels = {RUN_LABEL: run, "pod-security.kubernetes.io/enforce": security}
    labels |= {KEPT_LABEL: "yes"} if kept else {}
    labels |= {PART_OF: os.environ[PART]} if os.environ.get(PART) else {}
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    # Whoever was cut off from the API server after that, and asks again, has it.
    if name not in of_run(api, run):
        api.create(body)
    # Pods are refused until the default account is there; its controller takes a moment.
    account = {"name": "default", "namespace": name}
    api.submit({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})
    return name


def of_run(api: Api, run: str) -> list[str]:
    """The namespaces that a run made itself."""
    return names_by(api.find_all("Namespace", **{RUN_LABEL: run}), "labels", RUN_LABEL).get(run, [])


def part_of(api: Api, run: str) -> list[str]:
    """The namespaces that the pods of a run's Job made."""
    return names_by(api.find_all("Namespace", **{PART_OF: run}), "labels", PART_OF).get(run, [])


def remove(api: Api, names: list[str], *, wait: bool) -> None:
    """Delete namespaces with all that is in them.

    Args:
        api: the cluster.
        names: the namespaces.
        wait: until they are gone; the cluster goes on with it by itself otherwise.
    """
    for name in names:
        if name.startswith(OF_JOB):
            # Else its pods wait to be counted by it, it for room for others, and both for ever.
            api.delete("Job", JOB, name)
        api.delete("Namespace", name)
    if wait:
        away = [node["metadata"]["name"] for node in api.find_all("Node") if not is_ready(node)]
        for name in names:
            _hurry(api, name, away)
        wait_until(
            lambda: all(api.find("Namespace", name).get("code") == 404 for name in names),
            what=f"the end of namespace {', '.join(names)}",
            within=timing.NAMESPACE_GONE_WITHIN,
        )


def _hurry(api: Api, name: str, away: Collection[str]) -> None:
    """End the pods that linger, and give up those on nodes that are away, of which nobody hears."""
    for pod in api.find_all("Pod", name):
        is_away = pod["spec"].get("nodeName") in away
        if is_away or pod["spec"].get("terminationGracePeriodSeconds", 0) > SOON:
            api.delete("Pod", pod["metadata"]["name"], name, grace=0 if is_away else SOON)
