"""Which nodes were away while a clause was asked, by what the API server knows."""

from datetime import UTC, datetime, timedelta

import pytest

from e2e import timing
from e2e.cluster import absence
from e2e.cluster.absence import await_back, moved, went_away
from e2e.cluster.api import ApiRefusedError
from e2e.cluster.node import Node
from e2e.errors import CannotRunError, NodeAwayError

BEGAN = datetime(2026, 11, 29, 12, 0, 0, tzinfo=UTC)
NODES = ("control-plane", "worker", "worker2")


def at(seconds: float) -> str:
    return (BEGAN + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def node(name: str, *, ready: str = "True", changed: float = -3600, says: str = "") -> dict:
    condition = {"type": "Ready", "status": ready, "message": says}
    condition["lastTransitionTime"] = at(changed)
    pressure = {"type": "MemoryPressure", "status": "False", "lastTransitionTime": at(5)}
    return {"metadata": {"name": name}, "status": {"conditions": [pressure, condition]}}


def event(reason: str, when: float, *, by: str = "kubelet", name: str = "worker") -> dict:
    return {
        "reason": reason,
        "lastTimestamp": at(when),
        "source": {"component": by},
        "involvedObject": {"kind": "Node", "name": name},
    }


def pod(name: str, *, ready: str = "True", phase: str = "Running", **metadata: str) -> dict:
    return {
        "metadata": {"name": name, **metadata},
        "spec": {"nodeName": "worker"},
        "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready}]},
    }


class Told:
    """An API server that knows these objects; kubelets of `silent` nodes renew nothing."""

    def __init__(
        self, *, nodes=None, events=(), silent=(), late=(), soon=(), pods=(), refuses=(), ahead=0.0
    ):
        self.ahead = ahead
        self.nodes = [node(name) for name in NODES] if nodes is None else nodes
        self.events, self.silent, self.pods, self.refuses = events, silent, pods, refuses
        self.late, self.soon, self.asked = late, soon, 0

    def clock_ahead(self):
        return self.ahead

    def find_all(self, kind, namespace=None, *, where=""):
        if kind in self.refuses:
            raise ApiRefusedError(f"list {kind}", {"message": "forbidden"})
        if kind == "Lease":
            self.asked += 1
            names = [each["metadata"]["name"] for each in self.nodes]
            renewed = {n: at(0 if n in self.silent else self.asked * 0.001) for n in names}
            renewed |= {n: at(0 if self.asked < 4 else 54) for n in self.late}
            return [{"metadata": {"name": n}, "spec": {"renewTime": t}} for n, t in renewed.items()]
        if kind == "Event":
            assert where == absence.OF_NODES
            return [*self.events, *(self.soon if self.asked else ())]
        return {"Node": self.nodes, "Pod": self.pods}[kind]


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(timing, "HEARD_WITHIN", 0.2)
    monkeypatch.setattr(timing, "HEARD_EVERY", 0.01)
    monkeypatch.setattr(timing, "NODES_BACK_EVERY", 0.01)


def others(*changed: dict) -> list[dict]:
    names = [each["metadata"]["name"] for each in changed]
    return [*(node(name) for name in NODES if name not in names), *changed]


def test_a_node_that_came_back_elsewhere_is_told():
    """One that is gone is not; nor is anything told by an API server that does not say."""
    stored = node("worker")
    stored["metadata"]["labels"] = {}
    stored["status"]["addresses"] = [{"type": "InternalIP", "address": "10.0.0.9"}]
    was = [Node("worker", {"IPv4": "10.0.0.2"}, False), Node("gone", {"IPv4": "10.0.0.3"}, False)]

    (said,) = moved(Told(nodes=[stored]), was)

    assert said == "worker is at 10.0.0.9 now, and was at 10.0.0.2 when the run began"
    assert not moved(Told(nodes=[stored]), [Node("worker", {"IPv4": "10.0.0.9"}, False)])
    assert not moved(Told(nodes=[stored], refuses=("Node",)), was)


SILENT = node("worker", ready="Unknown", changed=20, says="Kubelet stopped posting node status.")


@pytest.mark.parametrize(
    ("told", "words"),
    [
        pytest.param(Told(), [], id="all are well"),
        pytest.param(
            Told(nodes=others(SILENT)),
            ["worker is not Ready: Kubelet stopped posting node status."],
            id="lost",
        ),
        pytest.param(
            Told(nodes=others(node("worker", changed=9))),
            [f"worker was not Ready until {at(9)}"],
            id="back",
        ),
        pytest.param(
            Told(nodes=others(node("worker", changed=1800)), ahead=3600.0),
            [],
            id="back before, by a clock that is ahead",
        ),
        pytest.param(
            Told(nodes=others(node("worker", changed=-1791)), ahead=-1800.0),
            [f"worker was not Ready until {at(-1791)}"],
            id="back since, by a clock that is behind",
        ),
        pytest.param(
            Told(nodes=[node("control-plane"), node("worker")]), ["worker2 is gone"], id="removed"
        ),
        pytest.param(
            Told(events=[event("Starting", 3)]),
            [f"worker was away: Starting at {at(3)}"],
            id="a kubelet that started",
        ),
        pytest.param(Told(events=[event("Starting", -1)]), [], id="one that started before"),
        pytest.param(
            Told(events=[event("Starting", 3, by="kube-proxy")]), [], id="a kube-proxy that started"
        ),
        pytest.param(
            Told(events=[event("NodeHasSufficientMemory", 3)]), [], id="what else a kubelet says"
        ),
        pytest.param(
            Told(silent=["worker2"]),
            ["worker2 is away: its kubelet has been silent for 0 s"],
            id="dead, and not missed yet",
        ),
        pytest.param(
            Told(late=["worker2"]),
            ["worker2 was away: its kubelet was silent for 54 s"],
            id="dead, not missed, and back meanwhile",
        ),
        pytest.param(
            Told(soon=[event("Starting", 3)]),
            [f"worker was away: Starting at {at(3)}"],
            id="a kubelet that started meanwhile",
        ),
        pytest.param(
            Told(silent=["new"], nodes=others(node("new", changed=9))), [], id="one that joined"
        ),
        pytest.param(
            Told(events=[event("Starting", 3, name="new")]), [], id="the kubelet of one that joined"
        ),
        pytest.param(
            Told(nodes=others(SILENT), refuses=["Event"]),
            ["worker is not Ready: Kubelet stopped posting node status."],
            id="events that are secret",
        ),
        pytest.param(Told(silent=["worker"], refuses=["Lease"]), [], id="Leases that are secret"),
        pytest.param(Told(refuses=["Node"]), [], id="an API server that says nothing"),
    ],
)
def test_who_was_away(told, words):
    """Each is told once, with what is known of it."""
    assert went_away(told, NODES, BEGAN.timestamp()) == words


def test_an_api_server_that_is_away_says_nothing():
    """It is then no node that is missed."""

    class Away:
        def clock_ahead(self):
            raise CannotRunError("the API server does not answer")

        def find_all(self, *_, **__):
            raise CannotRunError("the API server does not answer")

    assert went_away(Away(), NODES, BEGAN.timestamp()) == []


def test_nodes_are_waited_for_with_their_pods():
    """A node is back when what kube-system has on it is Ready; pods that went do not count."""
    told = Told(
        nodes=others(node("worker", ready="False")),
        pods=[
            pod("kube-proxy-a", ready="False"),
            pod("old", ready="False", deletionTimestamp=at(0)),
            pod("done", ready="False", phase="Succeeded"),
        ],
    )
    with pytest.raises(NodeAwayError, match=r"^worker is not Ready: waited"):
        await_back(told, NODES, 0.1)

    told.nodes = others()
    with pytest.raises(NodeAwayError, match=r"^kube-proxy-a on worker is not Ready: waited"):
        await_back(told, NODES, 0.0)

    told.pods[0] = pod("kube-proxy-a")
    await_back(told, NODES, 0.0)
    await_back(told, NODES, 5.0)


def test_a_node_that_is_gone_is_not_back():
    """Though all that are there are well."""
    with pytest.raises(NodeAwayError, match=r"^worker2 is gone"):
        await_back(Told(nodes=[node("control-plane"), node("worker")]), NODES, 0.0)
