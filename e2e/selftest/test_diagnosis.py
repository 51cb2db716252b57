"""The ladder of reasons: each rung is reached by facts of its own, and by no sound scene."""

from dataclasses import replace

import pytest

from e2e.check.diagnosis import DUMB, ILL, LADDER, WELL, Facts, reason
from e2e.check.wrong import UNEVEN, Wrong
from e2e.probe import ANSWERED, SILENT, Flow, Outside, Reply, Target

SOUND = Facts(
    caller="outside",
    node="worker-2",
    port=30080,
    outcome="silent",
    exists=True,
    reachable=True,
    ready=["echo-a-0", "echo-a-1"],
    cluster_ip=True,
    itself=True,
    neighbour=True,
    elsewhere=True,
    proxy=WELL,
    synced_ago=2.0,
    changed_ago=30.0,
    rules=12,
    rules_elsewhere=[12, 12],
)
LOST = {"cluster_ip": False, "itself": False, "neighbour": False}
SCENES = {
    "no-name": (
        {"name": "echo.home.svc", "outcome": "no route"},
        "outside finds no address for the name echo.home.svc: the cluster's DNS",
    ),
    "node-blocked": (
        {"reachable": False} | LOST,
        "outside -> worker-2 is blocked on every port: not a NodePort matter",
    ),
    "stale-rules": (
        {
            "wants_answer": False,
            "outcome": "answered",
            "answered_by": "echo-old-0",
            "exists": False,
            "synced_ago": 41.0,
        },
        (
            "worker-2 still leads port 30080 to echo-old-0, though no Service has it: its "
            "kube-proxy last synced 41 s ago, before the Service changed"
        ),
    ),
    "held-up-by": (
        {"wants_answer": False, "outcome": "answered", "held_by": ["example.com/hook"]},
        "was deleted and is still there, as the finalizer example.com/hook holds it up",
    ),
    "listed": (
        {"outcome": "foreign", "answered_by": "echo-b-0", "listed": ["echo-a-0", "echo-b-0"]},
        "an EndpointSlice of the Service lists echo-b-0 as ready, which is none of the pods",
    ),
    "stale-flow": (
        {
            "protocol": "UDP",
            "outcome": "answered",
            "answered_by": "echo-old-0",
            "again_by": "echo-a-0",
        },
        "worker-2 goes on leading to echo-old-0 what came from a port before",
    ),
    "by-port": (
        {"wrong": 8, "asked": 8, "again_by": "echo-a-0"},
        "none of 8 calls through worker-2 was answered, and one more is: either it has healed, or",
    ),
    "some-lost": (
        {"wrong": 50, "asked": 1000, "again_by": "echo-a-0"},
        "50 of 1000 calls through worker-2 ended silent, and all others as they should",
    ),
    "foreign-pod": (
        {"outcome": "foreign", "answered_by": "echo-other-0"},
        "worker-2 leads port 30080 to echo-other-0, which is no pod of this Service",
    ),
    "service-gone": ({"exists": False} | LOST, "no Service has port 30080 now"),
    "no-pod": ({"ready": []} | LOST, "no pod of the Service is Ready"),
    "unlisted": ({"unlisted": ["echo-a-1"]}, "no EndpointSlice lists echo-a-1 as ready"),
    "strangers": ({"strangers": ["10.244.1.9"]}, "lists 10.244.1.9, which is no Ready pod of it"),
    "homeless": ({"homeless": ["echo-a-1"]}, "says on which node echo-a-1 is"),
    "pod-dead": ({"dead": ["echo-a-0 on worker-1"]}, "echo-a-0 on worker-1 is Ready and does not"),
    "pod-network": ({"unreached": ["echo-a-0"]}, "worker-2 does not reach echo-a-0"),
    "proxy-dumb": (
        {"proxy": DUMB, "rules": 0},
        (
            "kube-proxy on worker-2 does not answer: it is stopped or stuck, and the node has 0 "
            "rules for this Service"
        ),
    ),
    "lacks-rules": (
        {"rules": 0, "synced_ago": 41.0} | LOST,
        (
            "worker-2 lacks rules for this Service: its kube-proxy last synced 41 s ago, before "
            "the Service changed"
        ),
    ),
    "proxy-behind": ({"synced_ago": 41.0}, "worker-2 has old rules for this Service"),
    "proxy-ill": ({"proxy": ILL}, "kube-proxy on worker-2 says that it is not healthy"),
    "rules-differ": ({"rules": 9}, "worker-2 has 9 rules for this Service and every other node 12"),
    "leads-on": (
        {"wants_answer": False, "outcome": "answered", "answered_by": "echo-a-0"},
        "worker-2 leads port 30080 to echo-a-0, and should lead nobody",
    ),
    "ends-otherwise": ({"wants_answer": False}, "calls of port 30080 end silent"),
    "foreign-host": (
        {"outcome": "foreign"},
        "somebody who is no pod of any echo answers calls of worker-2:30080",
    ),
    "replies-elsewhere": (
        {"replier": "192.0.2.77"} | LOST,
        "worker-2 answers datagrams from 192.0.2.77, and not from the address that was called",
    ),
    "cluster-ip-too": (
        LOST | {"outcome": "refused"},
        "rules for this Service and reaches the pods: they lead to where nobody listens",
    ),
    "large-lost": ({"carried": 1 << 20}, "leads small questions on and not 1048576 bytes"),
    "picks-wrongly": (
        {"outcome": UNEVEN, "problem": "never echo-a-0"},
        (
            "worker-2 leads each connection alone to a pod that may have it; what is wrong is "
            "which one it picks (never echo-a-0): its kube-proxy"
        ),
    ),
    "cut-off": ({"outcome": "cut off"}, "are opened, and cut off before their end"),
    "idle-forgotten": (
        {"outcome": "cut off", "idle": 12.0},
        "not to the same pod what was silent for 12 s: connections are forgotten too early",
    ),
    "held-up": (
        {"outcome": "held up", "answered_by": "echo-a-0"},
        "lost on the way through worker-2 to echo-a-0, and to no other pod",
    ),
    "harmed": (
        {"outcome": "foreign", "answered_by": "echo-a-0", "carried": 8000},
        "of 8000 bytes that went through worker-2 others came back",
    ),
    "other-source": (
        {"outcome": "answered", "answered_by": "echo-a-0", "seen_as": "10.244.2.1"},
        "echo-a-0, called through worker-2, saw 10.244.2.1 as its caller",
    ),
    "not-from-anywhere": (
        {"itself": False, "neighbour": False, "again_by": ""},
        "worker-2 serves the ClusterIP and not the node port",
    ),
    "not-from-itself": (
        {"caller": "host network of worker-2", "itself": False, "neighbour": None},
        "not port 30080 of the address by which it calls itself",
    ),
    "not-from-inside": (
        {"caller": "pod p", "neighbour": False, "outside": True},
        "worker-2 answers the node port to callers outside and not to other nodes",
    ),
    "not-its-own": (
        {"outcome": "answered", "answered_by": "echo-a-1"},
        "worker-2 leads calls to echo-a-1, which is a pod of the Service and none that it may",
    ),
    "not-from-others": ({"neighbour": False}, "answers the node port to itself and to nobody else"),
    "not-from-outside": (
        {"elsewhere": False, "again_by": ""},
        "look between this machine and the nodes",
    ),
}


@pytest.mark.parametrize("name", [rung.name for rung in LADDER])
def test_each_rung_is_reached_by_its_facts(name):
    """Every rung has a scene, and that scene reaches this rung and prints its line."""
    change, words = SCENES[name]

    found, line = reason(replace(SOUND, **change))

    assert found == name
    assert words in line


@pytest.mark.parametrize("lost", [{"neighbour": False}, {"itself": False, "neighbour": False}])
def test_what_answers_its_caller_by_now_is_cut_off_from_nobody(lost):
    """First packets of others may get lost too, where it is first packets that get lost."""
    again = replace(SOUND, **lost, again_by="echo-a-0")

    assert reason(again)[0] == "unexplained"
    assert reason(replace(again, idle=20.0))[0] == "idle-forgotten"


def test_what_is_wrong_of_a_flow_is_what_most_of_its_replies_were():
    """How an attempt ended, whom it met, as whom and with how much go together."""
    replies = [
        Reply(ANSWERED, echo="echo-a-0", seen_as="10.244.0.1"),
        *[Reply(ANSWERED, echo="echo-a-1", seen_as="10.244.2.1")] * 2,
        Reply(SILENT, carried=1 << 20),
    ]
    flow = Flow(Outside(), Target("worker-2", "192.0.2.1", 30080, None))

    most = Wrong.of(flow, replies)
    large = Wrong.of(flow, replies[-1:])

    assert (most.outcome, most.echo, most.seen_as) == ("answered", "echo-a-1", "10.244.2.1")
    assert (large.outcome, large.echo, large.carried) == ("silent", None, 1 << 20)
    assert Wrong.of(flow, []).outcome == UNEVEN


def test_a_sound_scene_is_called_right_by_now():
    """Where every step answers, the ladder blames nobody."""
    assert reason(SOUND)[0] == "right-now"


def test_one_node_alone_is_kept_from_who_calls_from_outside():
    """Where other nodes answer the caller outside, what lies before this one is blamed."""
    name, line = reason(replace(SOUND, again_by=""))

    assert name == "not-from-outside"
    assert "to whom other nodes answer: what lies between this machine and worker-2" in line


def test_what_is_not_known_is_not_blamed():
    """Without a single fact nothing is explained, and nothing is made up."""
    name, line = reason(Facts(caller="outside", node="worker-2", port=30080, outcome="silent"))

    assert name == "unexplained"
    assert line.startswith("outside -> worker-2:30080")


def test_a_policy_local_explains_different_rules():
    """Where nothing is known of other nodes' rules, a difference is none."""
    assert reason(replace(SOUND, rules=3, rules_elsewhere=[]))[0] == "right-now"
    assert reason(replace(SOUND, rules=3, rules_elsewhere=[12, 9]))[0] == "right-now"
