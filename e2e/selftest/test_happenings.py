"""What happens in a cluster is told once, as it happens or when it can be asked for again."""

import queue
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from e2e import timing
from e2e.cluster import happenings
from e2e.cluster.api import Api, ApiRefusedError
from e2e.cluster.happenings import (
    KINDS,
    Happenings,
    of_event,
    of_lease,
    of_node,
    of_pod,
    of_proxy_config,
    of_slice,
)
from e2e.errors import CannotRunError
from e2e.wait import wait_until

pytestmark = pytest.mark.timeout(60)
LONG = 30.0


def kinds(told) -> list[str]:
    every = list(told)
    assert {one.kind for one in every} <= set(KINDS)
    return [one.kind for one in every]


def ready(is_ready: bool = True) -> list[dict]:
    return [{"type": "Ready", "status": "True" if is_ready else "False"}]


def node(is_ready=True, shut=False, version="v1.36.3", boot="a", at="", name="worker-1") -> dict:
    return {
        "metadata": {"name": name},
        "spec": {"unschedulable": shut},
        "status": {
            "conditions": ready(is_ready),
            "nodeInfo": {"kubeletVersion": version, "bootID": boot},
            **({"addresses": [{"type": "InternalIP", "address": at}]} if at else {}),
        },
    }


def test_what_becomes_of_a_node():
    """Joining, leaving, Ready, cordons, versions and reboots are told, and nothing else."""
    assert kinds(of_node(node(), node())) == []
    assert kinds(of_node(None, node())) == ["node-added"]
    assert kinds(of_node(node(), None)) == ["node-removed"]
    assert kinds(of_node(node(), node(is_ready=False))) == ["node-not-ready"]
    assert kinds(of_node(node(is_ready=False), node())) == ["node-ready"]
    assert kinds(of_node(node(), node(shut=True))) == ["cordoned"]
    assert kinds(of_node(node(shut=True), node())) == ["uncordoned"]
    (version,) = of_node(node(), node(version="v1.37.2"))
    assert (version.kind, version.said) == ("kubelet-version", "v1.36.3 -> v1.37.2")
    assert kinds(of_node(node(), node(boot="b"))) == ["node-restarted"]
    (moved,) = of_node(node(at="10.0.0.1"), node(at="10.0.0.9"))
    assert (moved.kind, moved.said) == ("node-address", "10.0.0.1 -> 10.0.0.9")
    assert kinds(of_node(node(), node(at="10.0.0.9"))) == [], "a kubelet says its address later"


def pod(uid="1", is_ready=True, since="1", on="worker-1", ending=False) -> dict:
    return {
        "metadata": {
            "name": "echo-a-0", "namespace": "mine", "uid": uid,
            **({"deletionTimestamp": "now", "deletionGracePeriodSeconds": 5} if ending else {}),
        },
        "spec": {"nodeName": on} if on else {},
        "status": {
            "conditions": ready(is_ready),
            "containerStatuses": [{"name": "c", "state": {"running": {"startedAt": since}}}]
            if since else [],
        },
    }  # fmt: skip


def test_what_becomes_of_a_pod():
    """Placed, started, Ready, told to end and gone; a container that started again too."""
    assert kinds(of_pod(None, pod(on="", since="", is_ready=False))) == []
    assert kinds(of_pod(None, pod())) == ["pod-added", "pod-started", "pod-ready"]
    assert kinds(of_pod(pod(), pod())) == []
    assert kinds(of_pod(pod(), pod(since="2"))) == ["pod-started"]
    assert kinds(of_pod(pod(), pod(is_ready=False))) == ["pod-not-ready"]
    assert kinds(of_pod(pod(), pod(ending=True))) == ["pod-terminating"]
    assert kinds(of_pod(pod(), None)) == ["pod-gone"]
    assert kinds(of_pod(pod(), pod(uid="2")))[0] == "pod-gone"
    assert [one.name for one in of_pod(pod(), None)] == ["mine/echo-a-0"]


def of(*pods: str) -> dict:
    return {
        "metadata": {
            "name": "web-x", "namespace": "mine",
            "labels": {"kubernetes.io/service-name": "web"},
        },
        "endpoints": [
            {"addresses": ["10.0.0.1"], "conditions": {"ready": True}, "targetRef": {"name": name}}
            for name in pods
        ],
    }  # fmt: skip


def test_what_becomes_of_endpoints():
    """The pods that came and went are named, and how many are left."""
    (told,) = of_slice(of("a", "b"), of("b", "c"))
    assert (told.name, told.said) == ("mine/web", "+c -a (2 ready)")
    (none,) = of_slice(of("a"), {**of(), "endpoints": None})
    assert none.said == "-a (0 ready)"
    assert kinds(of_slice(of("a"), of("a"))) == []


def lease(holder: str, renewed: str, name="kube-controller-manager") -> dict:
    return {
        "metadata": {"name": name},
        "spec": {"holderIdentity": holder, "renewTime": f"2026-11-23T10:00:{renewed}.000000Z"},
    }


def test_what_becomes_of_a_lease():
    """Another holder is told with how long there was none; renewals are not told."""
    assert kinds(of_lease(lease("a", "00"), lease("a", "02"))) == []
    (other,) = of_lease(lease("a", "00"), lease("b", "17"))
    assert (other.kind, other.lasted, other.said) == ("lease-held", 17.0, "held by b, after a")
    (again,) = of_lease(lease("a", "00"), lease("a", "14"))
    assert again.lasted == 14.0
    assert kinds(of_lease(lease("a", "00", "other"), lease("b", "17", "other"))) == []


def test_what_kube_proxy_was_told_and_who_starts():
    """A change of mode is told with both, and starts by what the nodes' Events say."""

    def config(text: str) -> dict:
        return {"metadata": {"name": "kube-proxy"}, "data": {"config.conf": text}}

    (told,) = of_proxy_config(config("mode: iptables"), config("mode: nftables"))
    assert told.said == "iptables -> nftables"
    assert kinds(of_proxy_config(config("mode: ''"), config("mode: ''\nx: 1"))) == []
    event = {"reason": "Starting", "involvedObject": {"name": "worker-1"},
             "reportingComponent": "kubelet"}  # fmt: skip
    assert kinds(of_event(None, event)) == ["kubelet-started"]
    assert kinds(of_event(event, event)) == []


class Cluster:
    """An API server that may be away, with one node."""

    server = "https://here"

    def __init__(self) -> None:
        self.away = False
        self.cut = threading.Event()
        self.uid = "0000"
        self.nodes = [node()]
        self.told: queue.Queue = queue.Queue()

    def find(self, kind, name):
        return {"metadata": {"uid": self.uid}}

    def is_ready(self) -> bool:
        return not self.away

    def snapshot(self, kind, namespace=None, *, where=""):
        if self.away:
            raise CannotRunError("away")
        return (list(self.nodes) if kind == "Node" else []), "1"

    def go_away(self) -> None:
        """Every watch ends, also of a thread that looks only when the server is back."""
        self.away = True
        self.cut.set()
        self.cut = threading.Event()

    def follow(self, kind, namespace=None, *, since, where=""):
        cut = self.cut
        while not (self.away or cut.is_set()):
            if kind == "Node":
                try:
                    yield self.told.get(timeout=0.02)
                except queue.Empty:
                    continue
            else:
                threading.Event().wait(0.02)
        raise CannotRunError("away")


@pytest.fixture
def cluster(monkeypatch, tmp_path):
    here = Cluster()
    monkeypatch.setattr(happenings, "Api", lambda *_: here)
    monkeypatch.setattr(timing, "FOLLOW_AGAIN", 0.02)
    monkeypatch.setattr(timing, "READY_EVERY", 0.02)
    here.seen, here.rolls = [], []
    follower = Happenings(tmp_path, None, "0000", "mine", here.seen.append, here.rolls.append)
    follower.start()
    yield here
    follower.stop()


def await_kinds(cluster, *want: str) -> None:
    wait_until(
        lambda: [one.kind for one in cluster.seen] == list(want),
        what=str(want), within=LONG, every=0.02, seen=lambda: str(cluster.seen),
    )  # fmt: skip


def test_what_happens_while_the_api_server_is_away_is_told_when_it_is_back(cluster):
    """What changed meanwhile is found by comparing, and what did not is not told again."""
    cluster.told.put({"type": "MODIFIED", "object": node(shut=True)})
    await_kinds(cluster, "cordoned")
    cluster.told.put({"type": "BOOKMARK", "object": {}})
    cluster.go_away()
    await_kinds(cluster, "cordoned", "api-away")
    cluster.nodes = [node(shut=True, version="v1.37.2")]
    cluster.away = False
    wait_until(lambda: len(cluster.seen) == 4, what="both", within=LONG, every=0.02)

    assert {one.kind for one in cluster.seen[2:]} == {"api-back", "kubelet-version"}
    back = next(one for one in cluster.seen if one.kind == "api-back")
    assert back.lasted > 0


def test_the_roll_of_nodes_is_called_whenever_one_changes(cluster):
    """Who is there, and where those are that are Ready; also what is found by comparing."""
    new = node(name="worker-2", at="10.0.0.2", is_ready=False)
    wait_until(lambda: cluster.rolls, what="a roll", within=LONG, every=0.02)
    cluster.told.put({"type": "ADDED", "object": new})
    cluster.told.put({"type": "MODIFIED", "object": node(name="worker-2", at="10.0.0.2")})
    wait_until(lambda: len(cluster.rolls) == 3, what="three", within=LONG, every=0.02)

    assert [sorted(roll.there) for roll in cluster.rolls] == [
        ["worker-1"], ["worker-1", "worker-2"], ["worker-1", "worker-2"],
    ]  # fmt: skip
    assert [roll.ready.get("worker-2") for roll in cluster.rolls] == [
        *(None, None, {"IPv4": "10.0.0.2"})
    ]
    cluster.nodes = [node(name="worker-2")]
    cluster.go_away()
    await_kinds(cluster, "node-added", "node-not-ready", "node-ready", "api-away")
    cluster.away = False
    wait_until(lambda: len(cluster.rolls) == 4, what="four", within=LONG, every=0.02)
    assert cluster.rolls[-1].there == {"worker-2"}


def test_nonsense_is_survived(cluster):
    """An answer that means nothing is not told, and what follows is."""
    cluster.told.put({"type": "MODIFIED", "object": {"metadata": {"name": "worker-1"}}})
    cluster.nodes = [node(shut=True)]
    await_kinds(cluster, "cordoned")


def test_another_cluster_is_not_followed(monkeypatch, tmp_path):
    """Where the context means another cluster than was prepared, nothing of it is told."""
    here = Cluster()
    here.uid, here.nodes = "1111", [node(is_ready=False)]
    monkeypatch.setattr(happenings, "Api", lambda *_: here)
    seen: list = []
    follower = Happenings(tmp_path, None, "0000", "mine", seen.append)
    follower.start()
    wait_until(lambda: seen, what="a word", within=LONG)
    follower.stop()

    assert [one.kind for one in seen] == ["api-other"]
    assert "not the cluster that was prepared" in seen[0].said


# --- the API server over HTTP ----------------------------------------------------------------

NODES = b'{"kind":"NodeList","apiVersion":"v1","metadata":{"resourceVersion":"7"},"items":[]}'
RESOURCES = b"""{"kind":"APIResourceList","groupVersion":"v1","resources":[{"name":"nodes",
"singularName":"node","namespaced":false,"kind":"Node","verbs":["list","watch"]}]}"""
ADDED = b'{"type":"ADDED","object":{"metadata":{"name":"worker-1"}}}\n'
GONE = b'{"type":"ERROR","object":{"kind":"Status","code":410,"message":"too old"}}\n'


@pytest.fixture
def api(tmp_path):
    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name that http.server calls
            said = {
                "/version": b'{"major":"1","minor":"37","gitVersion":"v1.37.2"}',
                "/api/v1": RESOURCES,
                "/api": b'{"kind":"APIVersions","versions":["v1"]}',
                "/apis": b'{"kind":"APIGroupList","groups":[]}',
                "/readyz": b"ok",
                "/api/v1/nodes": NODES,
            }.get(self.path, ADDED + ADDED + GONE if "watch=true" in self.path else b"{}")
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        file = tmp_path / "kubeconfig"
        file.write_text(
            "{apiVersion: v1, kind: Config, current-context: it, users: [],\n"
            "contexts: [{name: it, context: {cluster: it, user: ''}}],\n"
            f"clusters: [{{name: it, cluster: {{server: 'http://127.0.0.1:{server.server_port}'}}}}]}}"
        )
        yield Api(file)
        server.shutdown()


def test_a_watch_is_told_line_by_line(api):
    """Objects come as they are told, and an error in the middle is raised."""
    assert api.is_ready()
    assert api.snapshot("Node") == ([], "7")
    told = api.follow("Node", since="7")

    assert next(told)["object"]["metadata"]["name"] == "worker-1"
    assert next(told)["type"] == "ADDED"
    with pytest.raises(ApiRefusedError, match="too old"):
        next(told)
