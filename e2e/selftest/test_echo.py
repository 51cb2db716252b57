"""Echoes: which pods are hurried when nobody needs them any more, and why some do not come."""

import pytest

from e2e import timing
from e2e.cluster.echo import Echo
from e2e.errors import HinderedError, ProbeBrokenError
from e2e.wait import WaitedInVainError

OWNED = {"ownerReferences": [{"kind": "ReplicaSet"}]}


class Pods:
    """A cluster with pods; notes who is deleted, and how fast."""

    def __init__(self, *pods):
        self.pods, self.deleted = pods, {}

    def find_all(self, kind, namespace, **labels):
        return self.pods

    def find(self, kind, name):
        says = {"type": "Ready", "status": "True"}
        if name == "lost":
            says = {**says, "status": "Unknown", "message": "Kubelet stopped posting node status."}
        return {"kind": kind, "metadata": {"name": name}, "status": {"conditions": [says]}}

    def delete(self, kind, name, namespace, *, grace):
        self.deleted[name] = grace


def pod(name, grace, **of_metadata):
    return {
        "metadata": {"name": name, **of_metadata},
        "spec": {"terminationGracePeriodSeconds": grace},
    }


def test_who_lingers_is_hurried_unless_another_would_follow():
    """A namespace is not gone before its last pod, and one may have two minutes."""
    api = Pods(
        pod("ends-by-itself", 1),
        pod("lingers", 125),
        pod("told-to-end", 1, deletionTimestamp="2026-01-01T00:00:00Z"),
        pod("of-a-deployment", 17, **OWNED),
        pod("of-a-deployment-told-to-end", 17, deletionTimestamp="2026-01-01T00:00:00Z", **OWNED),
    )

    Echo(api, "echo", "here", {}, {}).hurry()

    assert api.deleted == {"lingers": 1, "told-to-end": 1, "of-a-deployment-told-to-end": 1}


def test_pods_have_other_addresses_when_their_node_was_started_again():
    """Those that it still has, or that are none of the group's, change nothing."""
    there = {"echo-0": "10.0.0.9", "echo-1": "", "echo-of-others-0": "10.0.0.7"}
    found = [pod(name, 1) for name in there]
    for each, ip in zip(found, there.values(), strict=True):
        each["status"] = {"podIPs": [{"ip": ip}]} if ip else {"phase": "Pending"}
    before = {"echo-0": {"IPv4": "10.0.0.2"}, "echo-1": {"IPv4": "10.0.0.3"}}
    echo = Echo(Pods(*found), "echo", "here", {}, dict.fromkeys(before, "n"), before)

    echo.look()

    assert echo.addresses == {"echo-0": {"IPv4": "10.0.0.9"}, "echo-1": {"IPv4": "10.0.0.3"}}


def test_an_image_that_cannot_be_had_hinders_more_than_this_pod(monkeypatch):
    """Which is told with the words of the node, and ends a run."""
    monkeypatch.setattr(timing, "PODS_READY_WITHIN", 0.1)
    found = pod("echo-0", 1)
    found["spec"]["nodeName"] = "well"
    waits = {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
    found["status"] = {"phase": "Pending", "containerStatuses": [waits]}

    with pytest.raises(HinderedError, match=r"echo-0 on well: .*ImagePullBackOff no such image"):
        Echo(Pods(found), "echo", "here", {}).await_ready(1)


def test_a_node_that_is_lost_is_named_beside_the_pod_that_waits_for_it(monkeypatch):
    monkeypatch.setattr(timing, "PODS_READY_WITHIN", 0.1)
    pending = [pod("echo-0", 1), pod("echo-1", 1)]
    for each, node in zip(pending, ("lost", "well"), strict=True):
        each["spec"]["nodeName"] = node
        each["status"] = {"phase": "Pending"}

    with pytest.raises(WaitedInVainError) as waited:
        Echo(Pods(*pending), "echo", "here", {}).await_ready(2)

    assert str(waited.value).endswith(
        "last seen: echo-0 on lost: not Ready, Pending; echo-1 on well: not Ready, Pending; "
        "lost is not Ready: Kubelet stopped posting node status."
    )


def test_a_pod_that_ends_may_owe_its_answer(monkeypatch):
    """On a busy machine it is gone before it has said that it will go."""
    asked = []

    def run(self, command):
        asked.append(command)
        raise ProbeBrokenError("error trying to reach service: EOF")

    monkeypatch.setattr("e2e.cluster.vantage.PodVantage.run", run)
    Echo(Pods(), "echo", "here", {}, {"a": "worker"}).exit("a", 3)

    assert ["code=3" in each for each in asked] == [True]
