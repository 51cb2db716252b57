"""The namespaces of a run: all carry its id, and all go with it."""

from e2e import timing
from e2e.cluster.api import Api, names_by
from e2e.wait import wait_until

RUN_LABEL = "nodeport-e2e/run"
# On what was prepared for later, and outlives the process that made it.
KEPT_LABEL = "nodeport-e2e/kept"
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
    api.create(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    )
    # Pods are refused until the default account is there; its controller takes a moment.
    account = {"name": "default", "namespace": name}
    api.submit({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})
    return name


def runs(api: Api, *, kept: bool = False) -> dict[str, list[str]]:
    """Every run that has namespaces in this cluster, with their names; kept ones if asked for."""
    every = api.find_all("Namespace")
    chosen = [n for n in every if kept or KEPT_LABEL not in n["metadata"].get("labels", {})]
    return names_by(chosen, "labels", RUN_LABEL)


def remove(api: Api, names: list[str], *, wait: bool) -> None:
    """Delete namespaces with all that is in them.

    Args:
        api: the cluster.
        names: the namespaces.
        wait: until they are gone; the cluster goes on with it by itself otherwise.
    """
    for name in names:
        api.delete("Namespace", name)
    if wait:
        wait_until(
            lambda: all(api.find("Namespace", name).get("code") == 404 for name in names),
            what=f"the end of namespace {', '.join(names)}",
            within=timing.NAMESPACE_GONE_WITHIN,
        )
