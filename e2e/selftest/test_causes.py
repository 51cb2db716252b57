"""Why there was an outage: each rule fits what it is for, and nothing else."""

from dataclasses import dataclass

import pytest

from e2e.check.causes import Names, cause_of, rules, why_of_all
from e2e.check.outages import Outage
from e2e.cluster.happenings import KINDS
from e2e.probe import FOREIGN, REFUSED
from e2e.selftest.told import NAMESPACE

OUTAGE = Outage(100.0, 101.0, 0.05, {REFUSED: 20})


@dataclass(frozen=True)
class Told:
    """An event that is made up."""

    kind: str
    at: float = 100.0
    node: str = ""
    name: str = ""
    said: str = ""
    since: float | None = None


def why(*events: Told, way: str = "new connections") -> str:
    return cause_of(OUTAGE, events, node="worker-1", way=way, namespace=NAMESPACE).rule


def test_rules_name_kinds_that_there_are():
    """A rule waits for nothing that is never told."""
    assert {need.kind for rule in rules() for need in rule.needs} <= set(KINDS)
    assert len({rule.id for rule in rules()}) == len(rules())


@pytest.mark.parametrize("node", ["worker-1", "worker-2"])
def test_a_mode_switch_is_that_of_the_same_node(node):
    """kube-proxy that starts with another mode explains the outage of its own node alone."""
    mode = Told("proxy-mode", 60.0, name="kube-system/kube-proxy", said="iptables -> nftables")
    start = Told("pod-started", 100.3, node, "kube-system/kube-proxy-abcde")

    assert why(mode, start) == ("proxy-mode" if node == "worker-1" else "")
    assert why(start) == ("proxy-restarted" if node == "worker-1" else "")


def test_a_drain_without_a_controller_manager():
    """Pods that went while nobody held the lease are told with how long that was."""
    pod = Told("pod-terminating", 99.0, "worker-2", f"{NAMESPACE}/echo-a-0")
    lease = Told("lease-held", 108.0, name="kube-controller-manager", since=91.0)

    cause = cause_of(
        OUTAGE, [pod, lease], node="worker-1", way="new connections", namespace=NAMESPACE
    )

    assert cause.rule == "no-controller-manager"
    assert "for 17 s" in cause.why
    assert "echo-a-0" in cause.why
    assert why(lease) == ""
    assert why(pod) == "pod-went"


@pytest.mark.parametrize("way", ["new connections", "UDP"])
def test_a_drained_node_is_called_drained_though_its_kubelet_restarts(way):
    """Only a node of which nothing is heard is lost, whatever was done to it before."""
    drained = (
        Told("cordoned", 97.0, "worker-1", "worker-1"),
        Told("pod-terminating", 98.0, "worker-1", f"{NAMESPACE}/echo-a-0"),
    )
    restarted = Told("node-not-ready", 100.5, "worker-1", said="Ready is False")
    lost = Told("node-not-ready", 100.5, "worker-1", said="Ready is Unknown")

    assert why(*drained, restarted, way=way).startswith("drained")
    assert why(*drained, lost, way=way) == "node-lost"
    assert why(restarted, way=way) == "node-not-ready"


def test_what_the_command_said_explains_what_nothing_else_does():
    """A node that it switched off was switched off; any other step only comes last."""
    off = Told("step", 98.0, "worker-1", said="switched off and on again")
    gone = Told("pod-terminating", 99.0, "worker-1", f"{NAMESPACE}/echo-a-0")
    other = Told("step", 60.0, "worker-1", said="kubeadm upgrade node")

    assert why(off, gone) == "switched-off"
    assert why(other, gone) == "pod-went"
    assert why(other) == "step"
    assert why(Told("step", 99.0, "worker-2", said="drain")) == ""


@pytest.mark.parametrize(
    ("gone", "rule"),
    [
        (Told("node-removed", 80.0, "worker-2", "worker-2"), "other-node-removed"),
        (Told("step", 97.0, "worker-2", said="switched off and on again"), "other-node-off"),
        (Told("node-not-ready", 148.0, "worker-2", said="Ready is Unknown"), "other-node-lost"),
    ],
)
def test_pods_of_a_node_that_is_gone_are_called_through_the_others(gone, rule):
    """Unless a pod that was told to end explains it by itself."""
    assert why(gone) == rule
    assert why(gone, Told("pod-terminating", 99.0, "worker-1", f"{NAMESPACE}/echo-a-0")) == (
        "pod-went"
    )


def test_the_lease_of_the_scheduler_explains_nothing():
    """Endpoints are updated without a scheduler."""
    pod = Told("pod-terminating", 99.0, "worker-2", f"{NAMESPACE}/echo-a-0")

    assert why(pod, Told("lease-held", 108.0, name="kube-scheduler", since=91.0)) == "pod-went"


def test_what_is_far_away_explains_nothing():
    """What happened long before, or after, is no reason."""
    web = f"{NAMESPACE}/web"
    assert why(Told("endpoints", 90.0, name=web), Told("endpoints", 104.0, name=web)) == ""
    assert why(Told("endpoints", 98.0, name=web, said="-echo-a-0 (2 ready)")) == (
        "endpoints-changed"
    )


def test_a_strange_answer_has_other_reasons():
    """That pods went does not explain who answers in their place."""
    outage = Outage(100.0, 101.0, 0.05, {FOREIGN: 20})
    event = Told("pod-terminating", 99.0, "worker-1", f"{NAMESPACE}/echo-a-0")

    cause = cause_of(outage, [event], node="worker-1", way="UDP", namespace=NAMESPACE)

    assert cause.rule == ""


def test_a_pod_is_replaced_where_no_other_one_may_be_called():
    """Under the policy Local alone; behind others a rollout loses nothing if all is well."""
    events = [
        Told("pod-terminating", 94.0, "worker-1", f"{NAMESPACE}/echo-a-0"),
        Told("pod-not-ready", 100.2, "worker-1", f"{NAMESPACE}/echo-a-0"),
        Told("pod-ready", 101.2, "worker-1", f"{NAMESPACE}/echo-a-1"),
    ]

    def told(service: str, *seen: Told) -> str:
        return cause_of(
            OUTAGE,
            seen,
            node="worker-1",
            way="new connections",
            namespace=NAMESPACE,
            service=service,
        ).rule

    assert told("local", *events) == "replaced-under-local"
    assert told("cluster", *events) == "pod-went"
    assert told("local", *events[:2]) == "pod-went"


def test_pods_of_others_explain_nothing():
    """A pod that is not watched may go, and endpoints of Services that are not."""
    assert why(Told("pod-terminating", 99.0, "worker-1", "elsewhere/echo-a-0")) == ""
    assert why(Told("endpoints", 98.0, name="elsewhere/web", said="-a (0 ready)")) == ""


def test_hostile_words_are_only_words():
    """What the cluster says is put into the sentence, and never read as one."""
    said = "{0.__class__} {node} %s"
    event = Told("endpoints", name=f"{NAMESPACE}/{{1}}", said=said)

    cause = cause_of(OUTAGE, [event], node="{0}", way="UDP", namespace=NAMESPACE)

    assert said in cause.why


def causes(*found: tuple[str, Told], way: str = "new connections") -> list:
    return [
        cause_of(OUTAGE, told, node=node, way=way, namespace=NAMESPACE) for node, *told in found
    ]


def test_one_reason_is_told_once_with_all_of_its_nodes():
    """However many nodes there are, and with the words that go with several."""
    mode = Told("proxy-mode", 60.0, name="kube-system/kube-proxy", said="iptables -> nftables")
    nodes = [f"worker-{n}" for n in range(7)]
    every = [
        (node, mode, Told("pod-started", 100.3, node, f"kube-system/kube-proxy-{node}"))
        for node in nodes
    ]
    drains = [
        (
            node,
            Told("cordoned", 97.0, node, node),
            Told("pod-terminating", 98.0, node, f"{NAMESPACE}/echo-a-{node}"),
        )
        for node in nodes[:2]
    ]

    assert why_of_all(causes(*every)).startswith(
        "kube-proxy of worker-0, worker-1, worker-2, worker-3 and 3 more restarted with another "
        "mode (iptables -> nftables): it removes"
    )
    assert why_of_all(causes(*drains)) == "worker-0 and worker-1 were drained"
    assert why_of_all(causes(*drains[:1], *drains[:1])) == "worker-0 was drained"
    assert why_of_all(causes(("a",), ("b",))) == "nothing is known that happened then"
    (several,) = {why_of_all(causes(*drains, way="UDP"))}
    assert several.startswith("echo-a-worker-0 and echo-a-worker-1 went: ")
    assert "had spoken to them were still sent to them" in several


def test_what_is_said_of_one_and_what_of_several():
    one, several, nobody = Names.of(["a", "a", ""]), Names.of(["a", "b"]), Names.of([])

    assert [f"{each}" for each in (one, several, nobody)] == ["a", "a and b", ""]
    assert (one.was, one.has, one.it, one.its) == ("was", "has", "it", "its")
    assert (several.was, several.has, several.it, several.its) == ("were", "have", "them", "their")
