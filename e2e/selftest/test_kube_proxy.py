"""What kube-proxy says of itself is read, and what it does not say is not made up."""

import pytest

from e2e.cluster.kube_proxy import Counts, KubeProxy, count
from e2e.cluster.node import Node
from e2e.errors import ProbeBrokenError

METRICS = """\
# HELP kubeproxy_sync_proxy_rules_duration_seconds [ALPHA] SyncProxyRules latency in seconds
# TYPE kubeproxy_sync_proxy_rules_duration_seconds histogram
kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family="IPv4",le="0.001"} 90
kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family="IPv4"} 7
kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family="IPv6"} 5
kubeproxy_sync_proxy_rules_nftables_sync_failures_total{ip_family="IPv4"} 1
kubeproxy_sync_proxy_rules_nftables_cleanup_failures_total{ip_family="IPv6"} 2
apiserver_storage_data_key_generation_failures_total 4
"""
# Before it told families apart.
OLDER = """\
kubeproxy_sync_proxy_rules_duration_seconds_count 9
kubeproxy_sync_proxy_rules_iptables_restore_failures_total 1e+00
kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total 0
"""
NODE = Node("worker-1", {"IPv4": "10.0.0.1"}, is_control_plane=False)


class FakeHost:
    """Prints what curl would."""

    def __init__(self, said: str) -> None:
        self.said = said

    def run(self, command: str) -> str:
        self.command = command
        return self.said


def proxy(said: str) -> KubeProxy:
    return KubeProxy(api=None, hosts={"worker-1": FakeHost(said)}, undo=None)


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        (METRICS, Counts(syncs=12, failures=3)),
        (OLDER, Counts(syncs=9, failures=1)),
        ("kubeproxy_sync_proxy_rules_duration_seconds_count 9", Counts(syncs=9, failures=0)),
    ],
)
def test_all_kinds_of_failures_of_all_families_are_counted(text, counts):
    """Failures of every kind are added up; one that never came may be missing."""
    assert count(text) == counts


def test_metrics_of_somebody_else_are_no_zero():
    """Without a single sync it is not kube-proxy that was asked."""
    with pytest.raises(ProbeBrokenError, match="no metrics of kube-proxy"):
        count("go_goroutines 7")


def test_an_answer_has_a_status_and_facts():
    """The status is told from the body, which may have several lines."""
    said = proxy('{\n"healthy": true}\n\n200').says(NODE, "/healthz")

    assert said.status == 200
    assert said.facts == {"healthy": True}


def test_no_answer_has_no_status():
    """One that does not answer has the status 0 and no body."""
    said = proxy("\n000").says(NODE, "/healthz")

    assert (said.status, said.text) == (0, "")


def test_a_broken_caller_is_no_answer():
    """What is not of curl says nothing about kube-proxy."""
    with pytest.raises(ProbeBrokenError, match="sh: curl: not found"):
        proxy("sh: curl: not found").says(NODE, "/healthz")
