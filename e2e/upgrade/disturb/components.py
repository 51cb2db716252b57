"""What is done to components of a cluster: kube-proxy, API servers, CoreDNS, and to the echoes."""

from functools import partial
from threading import Event

from e2e import timing
from e2e.cluster import workload
from e2e.cluster.api_server import ApiServers
from e2e.cluster.echo import EVENLY
from e2e.cluster.kube_proxy import MODE, NAME, NAMESPACE
from e2e.errors import CannotRunError
from e2e.upgrade.disturb import facts
from e2e.upgrade.disturb.nodes import await_settled
from e2e.upgrade.disturb.ours import ADMIN, Ours
from e2e.wait import pause


def roll_out_proxy(ours: Ours) -> None:
    """Let the DaemonSet of kube-proxy replace its pods, node after node.

    Raises:
        WaitedInVainError: a node does not get another one.
    """
    old = {pod["metadata"]["uid"] for pod in facts.proxies(ours.api)}
    with ours.step("kube-proxy rolls out"):
        ours.kubectl(f"rollout restart daemonset/{NAME} --namespace={NAMESPACE}")
        missing = partial(facts.of_proxies, ours.api, old)
        facts.await_fact(missing, what="another kube-proxy on every node")
    await_settled(ours)


def mode_of(ours: Ours) -> str:
    """The mode that kube-proxy was told.

    Raises:
        CannotRunError: it was told none.
    """
    found = MODE.search(_told(ours))
    if not found:
        raise CannotRunError("kube-proxy's configuration names no mode", "see its ConfigMap")
    return found[0].partition(":")[2].strip(" '\"")


def migrate_proxy(ours: Ours, mode: str) -> None:
    """Tell kube-proxy another mode, and let all of them start with it.

    Raises:
        WaitedInVainError: a node does not get another one.
    """
    new = MODE.sub(f"mode: {mode}", _told(ours))
    with ours.step(f"kube-proxy is told the mode {mode}"):
        ours.api.change("ConfigMap", NAME, {"data": {"config.conf": new}}, NAMESPACE)
    roll_out_proxy(ours)


def _told(ours: Ours) -> str:
    return str(ours.api.get("ConfigMap", NAME, NAMESPACE)["data"]["config.conf"])


def restart_api(ours: Ours) -> None:
    """Kill every API server, and wait until the kubelets have started others.

    Raises:
        WaitedInVainError: one does not come back.
    """
    with ours.step("API servers are killed"):
        control_planes = [node for node in ours.nodes if node.is_control_plane]
        ApiServers(control_planes, ours.undo).restart()
    await_settled(ours)


def remove_dns(ours: Ours) -> None:
    """Let the cluster be without CoreDNS for a while.

    Raises:
        WaitedInVainError: it does not go, or does not come back.
    """
    where = "deployment/coredns --namespace=kube-system"
    count = ours.api.get("Deployment", "coredns", facts.SYSTEM)["spec"]["replicas"]
    back = ("kubectl", f"--kubeconfig={ADMIN}", "scale", *where.split(), f"--replicas={count}")
    with (
        ours.undo.afterwards("exec", ours.control_planes[0], *back),
        ours.step("CoreDNS is gone"),
    ):
        ours.kubectl(f"scale {where} --replicas=0")
        facts.await_fact(partial(facts.of_deployments, ours.api), what="the end of CoreDNS")
        pause(Event(), timing.DNS_GONE_FOR)
    await_settled(ours)


def roll_out_echoes(ours: Ours, namespace: str) -> None:
    """Replace the watched pods by rolling updates: first those behind the policy Cluster.

    Raises:
        WaitedInVainError: there are not only new ones in the end.
    """
    for spread, group in workload.find(ours.api, namespace).groups.items():
        policy = "Cluster" if spread == EVENLY else "Local"
        with ours.step(f"the pods behind the policy {policy} roll out"):
            group.roll_out()
        await_settled(ours)
