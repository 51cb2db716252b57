"""Echoes keep the strictest standard of pod security; what cannot is kept apart, or skipped."""

from collections.abc import Iterator
from typing import Any

import pytest

from e2e.cluster import echo as echoes
from e2e.cluster import namespace
from e2e.cluster.api import ApiRefusedError
from e2e.cluster.cap import FullError
from e2e.cluster.manifest import load
from e2e.errors import CannotRunError
from e2e.fixtures import actors
from e2e.selftest.clusters import HOME, NODES, RUN, FakeApi
from e2e.wait import WaitedInVainError

WAYS = {
    "plain": {},
    "ports": {"http_ports": (8081, 8082)},
    "many ports": {"many_ports": range(20000, 20003)},
    "not ready": {"ready": False},
    "gated": {"gated": True},
    "condition": {"condition": "nodeport-e2e/said"},
    "once": {"once": True},
    "lingers": {"linger": 5},
    "named port": {"port_name": "web"},
}
# What `restricted` lets a pod set besides (pod-security-standards).
SYSCTLS = {"net.ipv4.ip_unprivileged_port_start"}


def breaches(spec: dict[str, Any]) -> Iterator[str]:
    """What of a pod the standard `restricted` would refuse."""
    of_pod = spec.get("securityContext", {})
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(key):
            yield key
    for volume in spec.get("volumes", ()):
        if "hostPath" in volume:
            yield "hostPath"
    for each in of_pod.get("sysctls", ()):
        if each["name"] not in SYSCTLS:
            yield f"sysctl {each['name']}"
    for container in spec["containers"]:
        of_one = {**of_pod, **container.get("securityContext", {})}
        if of_one.get("allowPrivilegeEscalation") is not False:
            yield "allowPrivilegeEscalation"
        if of_one.get("capabilities", {}) != {"drop": ["ALL"]}:
            yield "capabilities"
        if of_one.get("runAsNonRoot") is not True or of_one.get("runAsUser") == 0:
            yield "runAsNonRoot"
        if of_one.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
            yield "seccompProfile"
        if any("hostPort" in port for port in container.get("ports", ())):
            yield "hostPort"


def placed(**way: Any) -> dict[str, Any]:
    api = FakeApi()
    made = echoes.place(api, HOME, NODES[:1], **way)
    (name,) = made.pods
    return dict(api.objects["Pod", HOME, name]["spec"])


@pytest.mark.parametrize("way", WAYS)
def test_every_echo_keeps_the_standard(way):
    assert list(breaches(placed(**WAYS[way]))) == []


def test_so_does_the_app_of_the_example_at_its_port():
    """Its port 80 stays, and who is not root may listen there."""
    spec = load("myapp.yaml")["spec"]["template"]["spec"]

    assert list(breaches(spec)) == []
    assert spec["containers"][0]["ports"] == [{"containerPort": 80}]
    assert spec["securityContext"]["sysctls"][0]["value"] == "0"


def test_so_do_those_that_a_deployment_makes():
    api = FakeApi()
    made = echoes.place_scaled(api, HOME, 2)

    spec = api.objects["Deployment", HOME, made.name]["spec"]["template"]["spec"]
    assert list(breaches(spec)) == []


def test_who_is_in_the_network_of_a_node_cannot():
    """The check itself finds something; such pods are placed in a namespace of their own."""
    assert set(breaches(placed(host_network_port=20000))) > {"hostNetwork", "runAsNonRoot"}
    assert list(breaches(placed(udp_host_port=53))) == ["hostPort"]


def test_namespaces_enforce_it():
    api = FakeApi()
    namespace.make(api, "a", RUN)
    namespace.make(api, "b", RUN, security=namespace.PRIVILEGED)

    said = {
        name: api.objects["Namespace", "", name]["metadata"]["labels"][
            "pod-security.kubernetes.io/enforce"
        ]
        for name in ("a", "b")
    }
    assert said == {"a": "restricted", "b": "privileged"}


def refusal(message: str) -> ApiRefusedError:
    return ApiRefusedError("create Pod echo", {"code": 403, "message": message})


def test_what_the_clusters_rules_forbid_is_skipped_with_the_reason():
    says = 'admission webhook "validate.kyverno.svc" denied the request: no host network here'

    skipped = pytest.raises(pytest.skip.Exception, match="no host network here")
    with skipped, actors.unless_denied("pods"):
        raise refusal(says)
    with pytest.raises(ApiRefusedError), actors.unless_denied("pods"):
        raise refusal("etcdserver: leader changed")


def test_all_processes_of_a_run_skip_it(tmp_path, monkeypatch):
    """The first one learns it and notes it; nobody takes it for echoes that are there."""
    monkeypatch.setattr(actors, "Settings", object)
    settings = type("S", (), {"shared": tmp_path, "run": RUN})()
    asked = []

    def place():
        asked.append(1)
        raise refusal('pods "e" is forbidden: violates PodSecurity "baseline:latest": hostNetwork')

    for _ in range(2):
        with pytest.raises(pytest.skip.Exception, match="violates PodSecurity"):
            actors._shared(FakeApi(), settings, "standing-in-hosts", place)

    assert asked == [1]
    assert actors.placed_before(FakeApi(), tmp_path, "standing-in-hosts") is None
    actors.await_shared(FakeApi(), tmp_path)


@pytest.mark.parametrize(("error", "asks"), [
    (FullError("501 pods would be in use at once"), 1),
    # That may be over when the next clause wants them.
    (CannotRunError("the API server does not answer"), 2),
])  # fmt: skip
def test_what_is_full_is_noted_for_all_of_the_run(tmp_path, error, asks):
    """Each clause would place half of them again."""
    settings = type("S", (), {"shared": tmp_path, "run": RUN})()
    asked = []

    def place():
        asked.append(1)
        raise error

    for _ in range(2):
        with pytest.raises((WaitedInVainError, CannotRunError), match=error.what):
            actors._shared(FakeApi(), settings, "elsewhere", place)

    assert len(asked) == asks


def test_why_a_deployment_makes_no_pods_is_told():
    """A quota or an admission rule refuses pods where nobody sees it but the Deployment."""
    api = FakeApi()
    made = echoes.place_scaled(api, HOME, 2)
    says = 'pods "echo-x" is forbidden: exceeded quota: few, requested: pods=1'
    failure = {"type": "ReplicaFailure", "status": "True", "message": says}
    api.objects["Deployment", HOME, made.name]["status"] = {"conditions": [failure]}

    assert "exceeded quota: few" in made._why_none()
