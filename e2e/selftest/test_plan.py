"""A plan: it only reads, and what it says would be skipped is what a run would skip."""

import json
from pathlib import Path

import pytest

from e2e.before.facts import of_lane
from e2e.before.plan import READ_ONLY, plan, plan_text
from e2e.cluster.capabilities import capabilities
from e2e.errors import RefusedError, UsageError
from e2e.provider.kind import Record
from e2e.provider.lane import Lane
from e2e.report.clauses import catalogue
from e2e.selftest.api_server import CONTEXT, NODES, api_server, api_server_pod, kube_proxy
from e2e.selftest.programs import environment, only_path, python

PODS = "/api/v1/namespaces/kube-system/pods"
PROXY = "/api/v1/namespaces/kube-system/configmaps/kube-proxy"
ASKED = dict.fromkeys(("cluster_name", "kubeconfig", "kube_context", "only", "families"), None) | {
    "k8s": "v1.37.2",
    "proxy": "iptables",
    "family": "ipv4",
    "shape": "two-workers",
    "provider": "kind",
    "outside": "auto",
}


@pytest.fixture(autouse=True)
def _no_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this machine have no engine and no kept cluster."""
    monkeypatch.setenv("E2E_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(only_path(tmp_path / "bin")))
    monkeypatch.setenv("E2E_ALLOW_CONTEXT", CONTEXT)


def of_server(server, **more):
    return plan({**ASKED, "provider": "existing", "kubeconfig": server.kubeconfig,
                 "kube_context": CONTEXT, **more})  # fmt: skip


def why(found, clause):
    (planned,) = [each for each in found.clauses if each.clause == clause]
    return planned.ends, planned.why


def test_a_plan_of_a_cluster_sends_no_write(tmp_path):
    """Whatever a plan asks of an API server is a GET, and it says that it changed nothing."""
    with api_server(tmp_path) as server:
        found = of_server(server, families="all disruptive")

    assert server.methods == {"GET"}
    assert {path for _, path in server.requests} >= {"/api/v1/nodes", PODS, PROXY, "/version"}
    assert READ_ONLY in plan_text(found).splitlines()


def test_a_plan_of_a_lane_makes_nothing(tmp_path):
    """Of a cluster that is not there its kind config is read, and no file is written."""
    env = environment(tmp_path, tmp_path / "bin")

    done = python("e2e.cli", "plan", "--proxy=nftables", env=env)

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("lane: v1.37.2 nftables ipv4 two-workers\n")
    assert "the cluster nodeport-e2e-nftables would be made" in done.stdout
    assert not Path(env["E2E_CACHE"]).exists()
    assert not Path(env["E2E_OUT"]).exists()
    assert list(Path(env["TMPDIR"]).iterdir()) == []


def test_needs_are_judged_by_what_the_cluster_says(tmp_path):
    """Nodes, flags, kube-proxy's settings and whether it is ours each decide what is skipped."""
    answers = {
        "/api/v1/nodes": {"kind": "NodeList", "items": list(NODES[:2])},
        PODS: {
            "kind": "PodList",
            "items": [
                api_server_pod(
                    "--service-node-port-range=31000-31099",
                    "--enable-admission-plugins=NodeRestriction,DenyServiceExternalIPs",
                )
            ],
        },
        PROXY: kube_proxy(mode="", nodePortAddresses=["10.0.0.0/8"]),
    }
    with api_server(tmp_path, answers) as server:
        found = of_server(server, families="all disruptive")

    assert "v1.37.2, kube-proxy iptables, IPv4, control-plane, worker" in found.place.found
    have = {need: not reason for need, reason in capabilities(found.place.facts).items()}
    assert [need for need, there in have.items() if there] == [
        *("small-range", "control-plane", "own-sockets", "ipv4", "kube-proxy", "iptables"),
        *("external-ips-denied", "localhost-node-ports", "nodeport-addresses"),
    ]
    assert why(found, "allocation.exhausted") == ("asked", "")
    assert why(found, "range.picked-are-inside")[0] in ("asked", "skipped")
    assert why(found, "policy.local-keeps-the-source") == (
        "skipped", "needs two-workers: this cluster has 1 worker",
    )  # fmt: skip
    assert found.place.notes == ()


def test_what_cannot_be_read_is_said(tmp_path):
    """Where a cluster hides its API server and its proxy, the plan says what it guessed."""
    answers = {PODS: {"kind": "Status", "code": 403, "message": "forbidden"}, PROXY: {
        "kind": "Status", "code": 404, "message": "not found"}}  # fmt: skip
    with api_server(tmp_path, answers) as server:
        found = of_server(server)

    (note,) = found.place.notes
    assert "node ports are taken to be 30000 to 32767" in note
    assert why(found, "life.deleted-is-refused") == (
        "skipped",
        "choices.toml does not say what an unknown service proxy does: node-port-of-nobody",
    )


def test_a_cluster_that_may_not_be_written_to_is_planned_and_refused(tmp_path, monkeypatch):
    """A plan may be made of any cluster whose context is named; it ends as a run would, with 3."""
    monkeypatch.delenv("E2E_ALLOW_CONTEXT")
    with api_server(tmp_path) as server:
        found = of_server(server)
        with pytest.raises(RefusedError, match="no context was named"):
            of_server(server, kube_context=None)

    assert found.exit_code == 3
    assert f"what to do: if it may: E2E_ALLOW_CONTEXT={CONTEXT}" in plan_text(found)


def test_left_out_is_what_nobody_asks_for():
    """What is of no family that was asked for, or of another name, is counted and not listed."""
    found = plan({**ASKED, "only": "reach"})

    assert {each.clause.partition(".")[0] for each in found.ending("asked")} == {"reach"}
    assert "- left out by what was asked for: " in plan_text(found)
    assert "affinity" not in plan_text(found)


def test_a_plan_is_printed_for_programs(tmp_path):
    """With --json there is nothing but JSON, with every clause."""
    done = python("e2e.cli", "plan", "--json", env=environment(tmp_path, tmp_path / "bin"))

    said = json.loads(done.stdout)
    assert said["place"] == "lane: v1.37.2 iptables ipv4 two-workers"
    assert {"clause": "reach.control-plane", "families": ["core"], "ends": "asked", "why": ""} in (
        said["clauses"]
    )


def test_a_kept_cluster_of_another_lane_is_a_slip(tmp_path):
    """A plan says of a name that is taken what a run would say."""
    Record("v1.36.3 iptables ipv4 two-workers", "docker", "kind").write("mine")

    with pytest.raises(UsageError, match=r"the cluster mine is v1\.36\.3"):
        plan({**ASKED, "cluster_name": "mine"})


SHAPES = {
    "two-workers": {"default-range", "wide-range", "two-workers", "external-ips"},
    "five-workers": {"default-range", "wide-range", "two-workers", "external-ips"},
    "tainted-worker": {"default-range", "wide-range", "two-workers", "external-ips"},
    "one-node": {"default-range", "wide-range", "external-ips"},
    "small-range": {"small-range", "two-workers", "external-ips"},
    "other-range": {"wide-range", "two-workers", "external-ips"},
    "nodeport-addresses": {"nodeport-addresses", "default-range", "wide-range", "two-workers"},
    "external-ips-denied": {"external-ips-denied", "two-workers"},
    "external-ips-off": {"external-ips-off", "external-ips-taken", "two-workers"},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_says_what_its_cluster_will_have(shape):
    """What a kind config patches is known before there is a cluster of it."""
    have = capabilities(of_lane(Lane("v1.37.2", "nftables", "dual", shape)))

    assert have.keys() == catalogue().needs.keys()
    there = {need for need, reason in have.items() if not reason}
    assert there >= SHAPES[shape] | {"dual-stack", "ipv4", "nftables", "own-cluster"}
    other = set().union(*SHAPES.values()) - SHAPES[shape]
    assert ("two-workers" in other) == ("two-workers" not in there)
    assert ("external-ips-denied" in other) == ("external-ips-denied" not in there)
    assert ("nodeport-addresses" in other) == ("nodeport-addresses" not in there)
