"""What is done to single nodes: drained, their kubelet replaced, switched off, made anew."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

from e2e import timing
from e2e.cluster.api import Object
from e2e.cluster.endpoints import SERVICE_LABEL
from e2e.cluster.power import Power
from e2e.provider.wellness import ailments_of
from e2e.upgrade import said
from e2e.upgrade.disturb import facts
from e2e.upgrade.disturb.ours import ADMIN, Ours

DRAIN = f"--ignore-daemonsets --delete-emptydir-data --timeout={timing.DRAIN_WITHIN:.0f}s"
# kind writes this file for every node, with a token that lasts a day.
JOIN = "/kind/kubeadm.conf"
# All that a node has of its cluster: what kubeadm made, its kube-proxy's rules, what it remembers.
# Other rules stay: with the engine's own, a node finds its control plane by name.
WIPE = """
kubeadm reset --force >/dev/null
rm -rf /etc/cni/net.d/* /run/cni-ipam-state
for tables in iptables-legacy iptables-nft ip6tables-legacy ip6tables-nft; do
  for table in nat filter mangle; do
    rules=$($tables-save -t $table 2>/dev/null) || continue
    echo "$rules" | grep -v KUBE- | $tables-restore -T $table
  done
done
for family in ip ip6; do nft delete table $family kube-proxy 2>/dev/null || true; done
conntrack -F 2>/dev/null || true
"""
# A Service that nobody serves: the one who writes endpoints has to notice it.
NEWCOMER: Object = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "nodeport-e2e-newcomer", "namespace": "default"},
    "spec": {
        "clusterIP": "None",
        "selector": {"nodeport-e2e/newcomer": "nobody"},
        "ports": [{"port": 80}],
    },
}


@contextmanager
def drained(ours: Ours, node: str, wanted: bool) -> Iterator[None]:
    """Drain a node if that is wanted, and let pods come back to it when the context ends.

    Raises:
        CommandFailedError: its pods do not go.
        WaitedInVainError: endpoints do not follow.
    """
    if not wanted:
        yield
        return
    admin = ("kubectl", f"--kubeconfig={ADMIN}")
    with ours.undo.afterwards("exec", ours.control_planes[0], *admin, "uncordon", node):
        with ours.step("drain", node):
            ours.kubectl(f"drain {node} {DRAIN}", within=timing.DRAIN_WITHIN)
            if not ours.hasty:
                left = partial(facts.of_endpoints, ours.api)
                facts.await_fact(left, what="endpoints to be the pods that are left")
        yield
        said.say("uncordon", node)


def restart_kubelet(ours: Ours, node: str, take: str, what: str = "its new kubelet starts") -> None:
    """Let another kubelet take the place of a node's, and wait until it says that it is Ready.

    Args:
        ours: the cluster.
        node: of which.
        take: the command that puts it into its place.
        what: what that is called.

    Raises:
        WaitedInVainError: it does not come up.
    """
    with ours.step(what, node):
        before = facts.heartbeat(ours.api.get("Node", node))
        ours.on(node, f"{take}; systemctl restart kubelet")
        version = ours.on(node, "kubelet --version").split()[-1]
        missing = partial(facts.of_kubelet, ours.api, node, version, before)
        facts.await_fact(missing, what=f"the kubelet of {node}")


def switch_off_and_on(ours: Ours, node: str, *, drain: bool) -> None:
    """Let a node lose its power and get it back at once, with the addresses that it had.

    Raises:
        CannotRunError: it has others.
        WaitedInVainError: the cluster does not get well again.
    """
    with drained(ours, node, drain), ours.step("switched off and on again", node):
        (off,) = [each for each in ours.nodes if each.name == node]
        with Power(ours.undo).off(off):
            pass
        await_well(ours)
    await_settled(ours)


def replace(ours: Ours, node: str, *, drain: bool) -> None:
    """Let a worker leave the cluster, wipe it, and let it join as a new one of the same name.

    Raises:
        CommandFailedError: kubeadm does not let it leave or join.
        WaitedInVainError: the cluster does not get well again.
    """
    with drained(ours, node, drain):
        with ours.step("removed and wiped", node):
            ours.kubectl(f"delete node {node}")
            ours.on(node, WIPE, timeout=timing.KUBEADM_WITHIN)
        with ours.step("joins as a new node", node):
            token = ours.on(node, f"sed -n 's/^ *token: *//p' {JOIN} | tr -d '\"'").split()[0]
            renew = f"kubeadm token delete {token} || true; kubeadm token create {token} --ttl 30m"
            ours.on(ours.control_planes[0], renew)
            join = f"kubeadm join --config={JOIN} --skip-phases=preflight"
            ours.on(node, join, timeout=timing.KUBEADM_WITHIN)
            await_well(ours)
    await_settled(ours)


def await_well(ours: Ours) -> None:
    """Wait until the cluster is well, as its own control plane sees it.

    Raises:
        WaitedInVainError: it does not get well.
    """
    ill = partial(ailments_of, ours.name, ours.engine)
    facts.await_fact(ill, what=f"the cluster {ours.name} to be well")


def await_settled(ours: Ours) -> None:
    """Wait until the cluster really is as it says: what depends on it may be done then.

    Raises:
        WaitedInVainError: it is not; says what is not so yet.
    """
    if ours.hasty:
        return
    with ours.step("wait until all is as it should be"):
        facts.await_fact(partial(_of_static_pods, ours), what="static pods that stay")
        facts.await_api(ours.api)
        before = facts.renewals(ours.api)
        facts.await_fact(partial(facts.of_leases, ours.api, before), what="leaders that work")
        _await_controllers(ours)
        facts.await_fact(partial(facts.of_deployments, ours.api), what="all Deployments")
        facts.await_fact(partial(facts.of_endpoints, ours.api), what="endpoints of all Services")


def _of_static_pods(ours: Ours) -> Iterator[str]:
    for node in ours.control_planes:
        if not ours.on(node, facts.STATIC_PODS).strip():
            yield f"the static pods of {node} are not those that its kubelet wants"


def _await_controllers(ours: Ours) -> None:
    """Wait until a new Service has endpoints, and remove it."""
    name, namespace = NEWCOMER["metadata"]["name"], NEWCOMER["metadata"]["namespace"]

    def unnoticed() -> list[str]:
        ours.api.submit(NEWCOMER)
        found = ours.api.find_all("EndpointSlice", namespace, **{SERVICE_LABEL: name})
        return [] if found else ["a new Service has no EndpointSlice"]

    try:
        facts.await_fact(unnoticed, what="controllers that work")
    finally:
        with suppress(*facts.AWAY):
            ours.api.delete("Service", name, namespace)
