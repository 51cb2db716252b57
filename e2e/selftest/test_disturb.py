"""Disturbances: what is asked for is checked first, each step waits for facts, all is undone."""

from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import pytest

from e2e.cluster.api import ApiRefusedError
from e2e.cluster.undo import FOLDER, Undo
from e2e.errors import CannotRunError, RefusedError, UsageError
from e2e.provider.command import CommandFailedError
from e2e.provider.node_image import DEFAULT, NodeImage
from e2e.provider.steps import Steps
from e2e.selftest.clusters import NODES
from e2e.upgrade.disturb import components, facts, kubeadm, nodes
from e2e.upgrade.disturb.command import DISTURBANCES, Wishes, completed, described
from e2e.upgrade.disturb.ours import Ours, ours
from e2e.upgrade.site import Site
from e2e.wait import WaitedInVainError

READY = [{"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-11-28T05:00:01Z"}]


class FakeEngine:
    """Notes what is run in which node, and fails where some word is in it."""

    command = "docker"

    def __init__(self, failing="no such word"):
        self.ran, self._failing = [], failing

    def run(self, *argv, timeout=0.0):
        self.ran.append(" ".join(argv))
        if self._failing in self.ran[-1]:
            raise CommandFailedError(list(argv), 1, "")
        return "Kubernetes v1.37.2" if "--version" in self.ran[-1] else "same"


class FakeApi:
    """Lists what it was given, by kind."""

    server = "https://127.0.0.1:1"

    def __init__(self, **lists):
        self.lists = lists

    def find_all(self, kind, namespace=None, **_):
        return self.lists.get(kind, [])

    def get(self, kind, name, namespace=None):
        return next(item for item in self.lists[kind] if item["metadata"]["name"] == name)

    def delete(self, kind, name, namespace=None):
        self.deleted = name

    def change(self, kind, name, change, namespace=None):
        self.get(kind, name)["data"] |= change["data"]


@pytest.fixture
def waited(monkeypatch):
    """What was waited for, in order; nothing is really asked."""
    what = []
    monkeypatch.setattr(facts, "await_fact", lambda missing, *, what: waits(what))
    monkeypatch.setattr(facts, "await_api", lambda _: waits("a ready API server"))
    monkeypatch.setattr(facts, "renewals", lambda _: {})
    waits = what.append
    return what


@pytest.fixture
def here(tmp_path):
    node = {"metadata": {"name": "worker"}, "status": {"conditions": READY}}
    others = [
        {"metadata": {"name": name}, "status": {"conditions": READY}}
        for name in ("control-plane", "worker-2")
    ]
    engine = FakeEngine()
    api = FakeApi(Node=[node, *others])
    return Ours(api, engine, "x", NODES, Undo(engine, tmp_path), tmp_path, Steps(quiet=True))


@pytest.mark.parametrize(
    ("before", "to", "by"),
    [
        ("v1.36.3", "v1.37.2", ["v1.37.2"]),
        ("v1.37.1", "v1.37.2", ["v1.37.2"]),
        ("v1.35.4", "v1.37.2", ["v1.36.3", "v1.37.2"]),
        ("v1.34.4", "v1.37.9", ["v1.35.4", "v1.36.3", "v1.37.9"]),
    ],
)
def test_kubeadm_goes_up_by_one_minor_version(before, to, by):
    assert kubeadm.way(before, to) == by


@pytest.mark.parametrize(
    ("before", "to"),
    [("v1.37.2", "v1.37.2"), ("v1.37.2", "v1.36.3"), ("v1.31.0", "v1.37.2"), ("v1.36.3", "1.37")],
)
def test_a_way_that_there_is_not(before, to):
    with pytest.raises(UsageError):
        kubeadm.way(before, to)


def test_an_upgrade_begins_one_minor_version_below():
    assert kubeadm.below("v1.37.2") == "v1.36.3"
    with pytest.raises(UsageError, match=r"no version of Kubernetes v1\.29"):
        kubeadm.below("v1.30.0")


@pytest.mark.parametrize("name", DISTURBANCES)
def test_what_means_nothing_to_a_disturbance_is_refused(name):
    before = "iptables" if name == "migrate-proxy" else "v1.36.3"
    words = {"to": "v9", "node": "worker", "drain": True, "roll_back": True, "hasty": True}
    for wish in words.keys() - DISTURBANCES[name].takes:
        with pytest.raises(UsageError, match="means nothing"):
            completed(name, Wishes(**{wish: words[wish]}), before)


def test_what_comes_next_is_known_by_itself():
    assert completed("upgrade", Wishes(), "v1.36.3").to == DEFAULT
    assert completed("migrate-proxy", Wishes(), "nftables").to == "iptables"
    with pytest.raises(UsageError, match="cannot go from iptables to iptables"):
        completed("migrate-proxy", Wishes(to="iptables"), "iptables")
    said = described("upgrade", "v1.36.3", Wishes(to="v1.37.2", drain=True))
    assert said.endswith("node by node, v1.36.3 -> v1.37.2, nodes are drained")


@pytest.mark.parametrize("drain", [True, False])
def test_nodes_are_upgraded_one_after_another(monkeypatch, waited, here, drain):
    """A worker is worked on when all is settled after the one before."""
    done = []

    class FakeParts:
        version = "v1.37.2"

        def give(self, node):
            done.append(f"parts {node}")

    @contextmanager
    def opened(_, image):
        yield FakeParts()

    def stream(self, node, script, on_line, *, timeout):
        done.append(f"kubeadm {node} {script.rpartition('upgrade ')[2].split()[0]}")
        on_line('[upgrade/staticpods] Preparing for "etcd" upgrade')

    monkeypatch.setattr(kubeadm, "opened", opened)
    monkeypatch.setattr(Ours, "stream_on", stream)
    monkeypatch.setattr(kubeadm, "await_settled", lambda _: done.append("settled"))
    monkeypatch.setattr(kubeadm, "restart_kubelet", lambda _, node, *__, **___: done.append(node))

    image = NodeImage("node", "v1.37.2", "local", "")
    kubeadm.upgrade(here, [image], kubeadm.Wishes(drain=drain))

    names = [node.name for node in NODES]
    assert done == [
        *(f"parts {name}" for name in names),
        *("kubeadm control-plane apply", "settled", "control-plane", "settled"),
        *("kubeadm worker node", "worker", "settled"),
        *("kubeadm worker-2 node", "worker-2", "settled"),
    ]
    assert "another kube-proxy on every node" in waited
    cordons = [line for line in here.engine.ran if "drain" in line or "uncordon" in line]
    assert [name for name in names for line in cordons if line.endswith(f"uncordon {name}")] == (
        names if drain else []
    )


def test_with_kubelets_left_behind_nothing_else_is_touched(monkeypatch, waited, here):
    scripts = []
    monkeypatch.setattr(
        Ours, "stream_on", lambda _, __, script, *___, **____: scripts.append(script)
    )
    parts = type("Parts", (), {"version": "v1.37.2", "give": lambda *_: None})()

    kubeadm.Upgrade(here, parts, kubeadm.Wishes(control_plane_only=True)).run()

    (script,) = scripts
    assert "--skip-phases=addon/kube-proxy" in script
    assert "another kube-proxy on every node" not in waited
    assert not any("restart kubelet" in line for line in here.engine.ran)


def test_all_is_waited_for_before_it_goes_on(waited, here):
    nodes.await_settled(here)

    assert waited == [
        *("static pods that stay", "a ready API server", "leaders that work"),
        *("controllers that work", "all Deployments", "endpoints of all Services"),
    ]


def test_haste_waits_for_nothing(waited, here):
    hasty = replace(here, hasty=True)
    nodes.await_settled(hasty)
    with nodes.drained(hasty, "worker", wanted=True):
        pass

    assert waited == []


def test_a_drained_node_comes_back_whatever_happens(waited, here, tmp_path):
    def fail():
        with nodes.drained(here, "worker", wanted=True):
            assert list((tmp_path / FOLDER).iterdir()), "a later run would uncordon it"
            raise WaitedInVainError

    with pytest.raises(WaitedInVainError):
        fail()

    assert here.engine.ran[-1].endswith("uncordon worker")
    assert list((tmp_path / FOLDER).iterdir()) == []


def test_a_mode_is_told_and_then_rolled_out(waited, here):
    config = {"config.conf": "kind: KubeProxyConfiguration\nmode: iptables\nudp: 1\n"}
    here.api.lists["ConfigMap"] = [{"metadata": {"name": "kube-proxy"}, "data": config}]

    assert components.mode_of(here) == "iptables"
    components.migrate_proxy(here, "nftables")

    assert components.mode_of(here) == "nftables"
    assert config["config.conf"].endswith("mode: nftables\nudp: 1\n")
    assert any("rollout restart daemonset/kube-proxy" in line for line in here.engine.ran)


def pod(name, *, ready=True, going=False, image="echo:1", **labels):
    gone = {"deletionTimestamp": "now"} if going else {}
    status = "True" if ready else "False"
    return {
        "metadata": {"name": name, "namespace": "n", "labels": labels or {"app": "a"}, **gone},
        "spec": {"containers": [{"image": image}], "nodeName": "worker"},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": status}]},
    }


def workloads(*pods, listed=("a-1", "a-2")):
    where = {"name": "a", "namespace": "n"}
    template = {"spec": {"containers": [{"image": "echo:1"}]}}
    labels = {"app": "a"}
    deployment = {
        "metadata": where,
        "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": template},
    }
    endpoints = [{"targetRef": {"name": n}, "conditions": {"ready": True}} for n in listed]
    of_service = {**where, "labels": {"kubernetes.io/service-name": "a"}}
    return FakeApi(
        Pod=list(pods),
        Deployment=[deployment],
        Service=[
            {"metadata": where, "spec": {"selector": labels}},
            {"metadata": where, "spec": {}},
        ],
        EndpointSlice=[{"metadata": of_service, "endpoints": endpoints}],
    )


@pytest.mark.parametrize(
    ("second", "deployed", "served"),
    [
        (pod("a-2"), True, True),
        (pod("a-2", ready=False), False, False),
        (pod("a-2", going=True), False, False),
        (pod("a-2", image="echo:0"), False, True),
        (pod("b-2", app="b"), False, False),
    ],
)
def test_pods_are_asked_and_no_status(second, deployed, served):
    """What a Deployment and the endpoints say was written by somebody who may be dead."""
    api = workloads(pod("a-1"), second)

    assert (not list(facts.of_deployments(api))) == deployed
    assert (not list(facts.of_endpoints(api))) == served


def test_one_pod_too_many_is_not_what_is_wanted():
    assert list(facts.of_deployments(workloads(pod("a-1"), pod("a-2"), pod("a-3", going=True))))


def test_a_kubelet_that_has_said_nothing_since_is_not_there():
    node = {
        "metadata": {"name": "worker"},
        "status": {"conditions": READY, "nodeInfo": {"kubeletVersion": "v1.37.2"}},
    }
    asked = partial(facts.of_kubelet, FakeApi(Node=[node]), "worker")

    assert list(asked("v1.37.2", "2026-11-28T05:00:00Z")) == []
    assert list(asked("v1.37.2", "2026-11-28T05:00:01Z"))
    assert list(asked("v1.36.3", "2026-11-28T05:00:00Z"))


def test_an_old_proxy_that_is_still_there_is_named():
    new = {**pod("kube-proxy-b"), "spec": {"nodeName": "worker"}}
    new["metadata"]["uid"] = "b"
    api = FakeApi(Node=[{"metadata": {"name": "worker"}}], Pod=[new])

    assert list(facts.of_proxies(api, {"a"})) == []
    assert list(facts.of_proxies(api, {"b"})) == ["worker still has its old kube-proxy"]
    assert list(facts.of_proxies(FakeApi(), set())) == ["there is no kube-proxy"]


def test_while_the_api_server_is_away_nothing_is_known(monkeypatch):
    """It is waited for, and what it said last is told if it does not come back."""
    said = [CannotRunError("it does not answer"), ApiRefusedError("x", {"code": 503}), []]

    def missing():
        state = said.pop(0) if len(said) > 1 else said[0]
        if isinstance(state, Exception):
            raise state
        return state

    facts.await_fact(missing, what="a fact", within=10)

    said[:] = [CannotRunError("it does not answer")]
    with pytest.raises(WaitedInVainError, match="for a fact; last seen: it does not answer"):
        facts.await_fact(missing, what="a fact", within=0)


def test_only_clusters_of_ours_are_disturbed():
    site = Site(FakeApi(), "", "staging", None, is_ours=False, run="r")

    with pytest.raises(RefusedError, match="staging was not made by this harness"):
        ours(site, Steps(quiet=True))
