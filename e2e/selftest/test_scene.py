"""The scene of a wrong flow: each step of its way is asked where it can be, and told as it is."""

import re
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from e2e.check.diagnosis import Facts, reason
from e2e.check.wrong import Wrong
from e2e.cluster import scene as scenes
from e2e.cluster.node import Node
from e2e.cluster.scene import Scene
from e2e.fixtures.reasons import reasons_of
from e2e.probe import ANSWERED, REFUSED, SILENT, UDP, Flow, Outside, Reply, Target

ONE = Node("worker-1", {"IPv4": "10.0.0.1"}, False)
TWO = Node("worker-2", {"IPv4": "10.0.0.2"}, False)
CHANGED_AGO = timedelta(seconds=30)


class FakeApi:
    """A cluster with one Service over two pods."""

    def __init__(self, **lacks: bool) -> None:
        self.lacks = lacks

    def find_all(self, kind, namespace=None, **labels):
        return [] if self.lacks.get(kind) else getattr(self, f"_{kind.lower()}")()

    def _service(self):
        spec = {
            "clusterIPs": ["10.96.0.9"],
            "selector": {"app": "a"},
            "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}],
        }
        return [{"metadata": self._named("svc"), "spec": spec}]

    def _pod(self):
        return [self._a_pod("echo-a-0", "10.244.1.5"), self._a_pod("echo-a-1", "10.244.2.5")]

    def _endpointslice(self):
        ends = [("echo-a-0", "10.244.1.5", "worker-1"), ("echo-a-1", "10.244.2.5", "worker-2")]
        endpoints = [
            {
                "addresses": [address],
                "nodeName": node,
                "targetRef": {"name": pod},
                "conditions": {"ready": True},
            }
            for pod, address, node in ends
        ]
        return [
            {"metadata": self._named("svc-x"), "endpoints": endpoints, "ports": [{"port": 8080}]}
        ]

    @staticmethod
    def _named(name):
        stamp = (datetime.now(UTC) - CHANGED_AGO).isoformat().replace("+00:00", "Z")
        return {"name": name, "namespace": "home", "creationTimestamp": stamp}

    @staticmethod
    def _a_pod(name, address):
        return {
            "metadata": {"name": name},
            "status": {
                "podIPs": [{"ip": address}],
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        }


def node_that(*, dead: str = "", code: str = "200", synced: float = 5.0, rules: int = 12):
    """A shell of a node from which calls to addresses and ports that match `dead` go wrong."""

    def run(command: str) -> str:
        if "healthz" in command:
            now = int(datetime.now(UTC).timestamp())
            stamp = f'{scenes.LAST_SYNC}{{ip_family="IPv4"}} {now - synced:.1f}\n'
            return f"{code}\n{now}\n" + ("" if code == "000" else stamp)
        if "iptables-save" in command:
            return f"{rules}\n"
        asked = re.findall(r"http://(\S+)/hostname.*? echo yes ('[^']+'|\S+)", command)
        return "".join(
            f"{'no' if dead and re.search(dead, url) else 'yes'} {key.strip(chr(39))}\n"
            for url, key in asked
        )

    return run


@pytest.fixture
def outside(monkeypatch):
    """What this machine hears, by address and port; answered unless a test says otherwise."""
    hears: dict[tuple[str, int], object] = {}
    monkeypatch.setattr(
        Outside,
        "call",
        lambda _, address, port: Reply(hears.get((address, port), ANSWERED), echo="echo-a-0"),
    )
    return hears


def why(api=None, *, two=None, one=None, outcome=SILENT, sees_rules=True) -> tuple[str, str]:
    """The reason that is found for outside -> worker-2:30080."""
    shells = {"worker-1": one or node_that(), "worker-2": two or node_that()}
    flow = Flow(Outside(), Target("worker-2", "10.0.0.2", 30080, object()))
    found = Scene(api or FakeApi(), [ONE, TWO], shells, sees_rules).facts(flow)
    return reason(Facts(caller="outside", port=30080, outcome=outcome, **found))


def test_a_sound_scene_is_right_by_now(outside):
    """Where every step answers, no node and no pod is blamed."""
    assert why()[0] == "right-now"


@pytest.mark.parametrize("outcome", [SILENT, REFUSED])
def test_a_node_without_rules_is_told_with_its_last_sync(outside, outcome):
    """A node that has no rule for the Service is named, and when its kube-proxy last synced."""
    two = node_that(dead="10.96.0.9|10.0.0.2", synced=41, rules=0)
    one = node_that(dead="10.0.0.2")

    name, line = why(two=two, one=one, outcome=outcome)

    assert name == "lacks-rules"
    assert line == (
        "worker-2 lacks rules for this Service: its kube-proxy last synced 41 s ago, before the "
        "Service changed"
    )


@pytest.mark.parametrize(("lost", "again"), [(1, "echo-a-0"), (2, "")])
def test_who_asks_again_with_a_datagram_asks_twice(monkeypatch, lost, again):
    """A first one may be what is lost, and then the second one tells that it is that."""

    class OverUdp(FakeApi):
        def _service(self):
            (service,) = super()._service()
            service["spec"]["ports"][0]["protocol"] = UDP
            return [service]

    heard = {"10.0.0.1": [ANSWERED], "10.0.0.2": [SILENT] * lost + [ANSWERED]}

    def call_udp(_, address: str, port: int) -> Reply:
        return Reply(heard[address].pop(0), echo="echo-a-0")

    monkeypatch.setattr(Outside, "call", lambda *_: Reply(ANSWERED, echo="echo-a-0"))
    monkeypatch.setattr(Outside, "call_udp", call_udp)
    monkeypatch.setattr(Outside, "replier", lambda *_: "")
    flow = Flow(Outside(), Target("worker-2", "10.0.0.2", 30080, object(), UDP))

    shells = dict.fromkeys(("worker-1", "worker-2"), node_that())
    facts = Scene(OverUdp(), [ONE, TWO], shells, False).facts(flow)

    assert facts["again_by"] == again


def test_a_node_that_says_nothing_at_all(outside):
    """A node that is silent at its kubelet's port too is no matter of node ports."""
    outside |= dict.fromkeys([("10.0.0.2", scenes.KUBELET), ("10.0.0.2", 30080)], SILENT)

    assert why()[0] == "node-blocked"


def test_nodes_that_hide_what_is_no_node_port_are_not_called_blocked(outside):
    """Where no node is heard at its kubelet's port, that says nothing, and the ladder goes on."""
    outside |= {(at, scenes.KUBELET): SILENT for at in ("10.0.0.1", "10.0.0.2")}
    assert why(two=node_that(dead="10.96.0.9|10.0.0.2", rules=0))[0] == "lacks-rules"

    outside["10.0.0.1", scenes.KUBELET] = ANSWERED
    assert why()[0] == "right-now"


def test_a_shell_that_is_ended_early_says_nothing(outside):
    """A busy pod may end what it was asked to run, and the rest is told all the same."""

    def hasty(command: str) -> str:
        return "" if "healthz" in command or "iptables-save" in command else node_that()(command)

    assert why(two=hasty, one=hasty)[0] == "right-now"


def test_a_pod_that_is_dead_and_a_network_that_is_broken(outside):
    """A pod that its own node does not reach is dead; one that only others miss is not."""
    name, line = why(two=node_that(dead="10.244.2.5"))
    assert name == "pod-dead"
    assert re.match(r"echo-a-\d on worker-2 is Ready and does not answer", line)
    name, line = why(two=node_that(dead="10.244.1.5"))

    assert name == "pod-network"
    assert "echo-a-0" in line


def test_what_endpoint_slices_list(outside):
    """A ready pod that no slice lists, and a Service without pods, are told apart."""
    name, line = why(FakeApi(EndpointSlice=True))

    assert (name, "echo-a-0, echo-a-1" in line) == ("unlisted", True)


def test_a_service_that_is_held_up_is_told_with_its_finalizer(outside):
    """A Service that was deleted and is still there is led on by everybody, and rightly so."""

    class HeldUp(FakeApi):
        def _service(self):
            (service,) = super()._service()
            service["metadata"] |= {"deletionTimestamp": "now", "finalizers": ["hook"]}
            return [service]

    shells = {"worker-1": node_that(), "worker-2": node_that()}
    flow = Flow(Outside(), Target("worker-2", "10.0.0.2", 30080, object()))
    found = Scene(HeldUp(), [ONE, TWO], shells, True).facts(flow)
    assert (found["exists"], found["held_by"]) == (True, ["hook"])


@pytest.mark.parametrize(
    ("policy", "name"), [({"externalTrafficPolicy": "Local"}, "homeless"), ({}, "right-now")]
)
def test_a_pod_without_a_node_is_told_where_that_matters(outside, policy, name):
    """Under a policy Local a node has to know which pods are its own."""

    class Homeless(FakeApi):
        def _service(self):
            (service,) = super()._service()
            return [service | {"spec": service["spec"] | policy}]

        def _endpointslice(self):
            (each,) = super()._endpointslice()
            for endpoint in each["endpoints"]:
                del endpoint["nodeName"]
            return [each]

    assert why(Homeless())[0] == name
    assert why(FakeApi(EndpointSlice=True, Pod=True))[0] == "no-pod"
    assert why(FakeApi(Pod=True))[0] == "no-pod"
    assert why(FakeApi(Service=True))[0] == "service-gone"


def test_a_kube_proxy_that_does_not_answer(outside):
    """A kube-proxy that is stopped says nothing at its health port."""
    assert why(two=node_that(code="000"))[0] == "proxy-dumb"
    assert why(two=node_that(code="503"))[0] == "proxy-ill"


def test_a_node_port_that_others_do_not_reach(outside):
    """A node port that answers on the node itself and neither from a neighbour nor from outside."""
    outside["10.0.0.2", 30080] = SILENT
    assert why(one=node_that(dead="10.0.0.2"))[0] == "not-from-others"
    assert why(two=node_that(dead="10.0.0.2"), one=node_that(dead="10.0.0.2"))[0] == (
        "not-from-anywhere"
    )


def test_without_rules_to_see_nothing_is_said_of_them(outside):
    """Where a node's rules cannot be read, a ClusterIP that does not answer is the reason."""
    two, one = node_that(dead="10.96.0.9|10.0.0.2"), node_that(dead="10.0.0.2")

    assert why(two=two, one=one, sees_rules=False)[0] == "cluster-ip-too"


def test_an_address_of_no_node_has_no_scene(outside):
    """A flow that leads to no node of the cluster is not looked into."""
    flow = Flow(Outside(), Target("elsewhere", "192.0.2.1", 80, object()))

    assert Scene(FakeApi(), [ONE, TWO], {}, sees_rules=False).facts(flow) == {}


def test_a_name_is_looked_into_on_the_node_of_who_called_it(outside):
    """Only the name is known of it: no Service has such an address, which says nothing."""
    caller = SimpleNamespace(name="pod on worker-2")
    flow = Flow(caller, Target("echo.home.svc", "echo.home.svc", 80, object()))

    found = Scene(FakeApi(), [ONE, TWO], {}, sees_rules=False).facts(flow)

    assert found == {"node": "worker-2", "name": "echo.home.svc"}


def test_localhost_is_a_node_port_of_nobody_else(outside):
    """What is called there has a Service, and no other node calls it so."""
    asked = []

    def shell(command):
        asked.append(command)
        return node_that()(command)

    caller = Outside()
    caller.name = "host network of worker-2"
    flow = Flow(caller, Target("localhost", "127.0.0.1", 30080, object()))
    shells = {"worker-1": shell, "worker-2": node_that()}

    found = Scene(FakeApi(), [ONE, TWO], shells, sees_rules=True).facts(flow)

    assert (found["node"], found["exists"], found["itself"]) == ("worker-2", True, True)
    assert found["neighbour"] is None
    assert not any("127.0.0.1" in command for command in asked)


def test_a_pod_that_is_called_itself_has_no_service(outside):
    """Nothing is said of a Service where its pod's own address is called."""
    caller = Outside()
    caller.name = "pod on worker-2"
    flow = Flow(caller, Target("echo-a-0", "10.244.1.5", 8080, object()))
    gone = Flow(caller, Target("svc", "10.96.0.77", 8080, object()))
    scene = Scene(FakeApi(), [ONE, TWO], {}, sees_rules=False)

    assert "exists" not in scene.facts(flow)
    assert scene.facts(gone)["exists"] is False


def test_each_node_is_looked_at_once(outside, monkeypatch):
    """However many flows went wrong through it, as a look takes seconds."""
    looked = []
    facts = Scene.facts
    monkeypatch.setattr(Scene, "facts", lambda self, flow: looked.append(1) or facts(self, flow))
    scene = Scene(FakeApi(), [ONE, TWO], {}, sees_rules=False)
    ways = [("worker-1", "10.0.0.1"), ("worker-2", "10.0.0.2")] * 50
    flows = [Flow(Outside(), Target(*way, 30080, object())) for way in ways]
    wrong = [Wrong(flow, SILENT) for flow in flows]

    names, lines = reasons_of(scene, wrong)

    assert len(looked) == len(names) == len(lines) == 2
