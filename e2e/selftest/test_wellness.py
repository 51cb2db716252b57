"""Whether a cluster is well, judged by what its API server lists."""

from copy import deepcopy
from datetime import UTC, datetime, timedelta

import pytest

from e2e.provider.wellness import Container, ailments

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
STARTED = NOW - timedelta(minutes=5)
CONTAINERS = [
    Container("b", "external-load-balancer", "running", STARTED),
    Container("c", "control-plane", "running", STARTED),
    Container("w", "worker", "running", STARTED),
]


def ago(**how: float) -> str:
    return (NOW - timedelta(**how)).isoformat().replace("+00:00", "Z")


def node(name: str) -> dict:
    ready = {"type": "Ready", "status": "True", "lastHeartbeatTime": ago(minutes=4)}
    return {
        "kind": "Node",
        "metadata": {"name": name},
        "spec": {},
        "status": {"conditions": [ready]},
    }


def lease(name: str) -> dict:
    return {
        "kind": "Lease",
        "metadata": {"name": name, "namespace": "kube-node-lease"},
        "spec": {"renewTime": ago(seconds=9), "leaseDurationSeconds": 40},
    }


def pod(name: str, on: str, app: str = "kube-proxy") -> dict:
    return {
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "kube-system", "labels": {"k8s-app": app}},
        "spec": {"nodeName": on},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"state": {"running": {"startedAt": ago(minutes=4)}}}],
        },
    }


@pytest.fixture
def items() -> list[dict]:
    """What a cluster of one control plane and one worker lists that is well."""
    every = [node("c"), node("w"), lease("c"), lease("w"), pod("proxy-c", "c"), pod("proxy-w", "w")]
    return deepcopy([*every, pod("dns", "w", "kube-dns")])


def test_a_cluster_that_is_well_has_no_ailment(items):
    """Nodes that were heard since they were started, and pods that run since then, are enough."""
    assert list(ailments(CONTAINERS, items, NOW)) == []


def spoil(items: list[dict], how: str) -> None:
    node_w, lease_w, proxy_w, dns = items[1], items[3], items[5], items[6]
    ready = node_w["status"]["conditions"][0]
    match how:
        case "not ready":
            ready |= {"status": "False", "message": "no network"}
        case "ready before it was started":
            ready["lastHeartbeatTime"] = ago(minutes=6)
        case "silent":
            lease_w["spec"]["renewTime"] = ago(seconds=41)
        case "no lease":
            items.remove(lease_w)
        case "held for lost":
            node_w["spec"]["taints"] = [{"key": "node.kubernetes.io/unreachable"}]
        case "not joined":
            items.remove(node_w)
        case "without kube-proxy":
            items.remove(proxy_w)
        case "kube-proxy of before":
            proxy_w["status"]["containerStatuses"][0]["state"]["running"]["startedAt"] = ago(
                hours=1
            )
        case "kube-proxy waits":
            proxy_w["status"]["containerStatuses"][0]["state"] = {"waiting": {}}
        case "dns not ready":
            dns["status"]["conditions"][0]["status"] = "False"
        case "dns on no node":
            del dns["spec"]["nodeName"]
        case "a node too many":
            items.append(node("gone"))


SPOILT = {
    "not ready": "w: no network",
    "ready before it was started": "w: has said nothing of itself since it was started",
    "silent": "w: its kubelet is silent since 11:59:19",
    "no lease": "w: its kubelet has no lease",
    "held for lost": "w: is tainted node.kubernetes.io/unreachable",
    "not joined": "w has not joined",
    "without kube-proxy": "w has no kube-proxy",
    "kube-proxy of before": "the pod proxy-w on w was not started since its node was",
    "kube-proxy waits": "the pod proxy-w on w was not started since its node was",
    "dns not ready": "the pod dns on w is not Ready",
    "dns on no node": "the pod dns is on no node",
    "a node too many": "gone has no container",
}


@pytest.mark.parametrize("how", SPOILT)
def test_what_is_not_well_is_named(items, how):
    """Each ailment is told with the node or pod that has it."""
    spoil(items, how)

    assert list(ailments(CONTAINERS, items, NOW)) == [SPOILT[how]]


def test_what_comes_and_goes_is_no_ailment(items):
    """A pod that is being replaced, a job that is done and pods of others do not count."""
    leaving, done, other = (pod(name, "w", "x") for name in ("leaving", "done", "other"))
    leaving["metadata"]["deletionTimestamp"] = ago(seconds=1)
    done["status"] = {"phase": "Succeeded"}
    other["metadata"]["namespace"] = "default"
    other["status"] = {"phase": "Pending"}

    assert list(ailments(CONTAINERS, [*items, leaving, done, other], NOW)) == []
