"""Echo pods: placed on a node, or by a Deployment that can be scaled."""

import secrets
import string
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from e2e import timing
from e2e.cluster.api import STRATEGIC, Api, ApiRefusedError, Object
from e2e.cluster.manifest import load
from e2e.cluster.namespace import SOON
from e2e.cluster.node import Node, conditions, family_of, hindered, is_ready
from e2e.cluster.vantage import PodVantage
from e2e.errors import HinderedError, ProbeBrokenError, StopError
from e2e.probe import Flow, Target, Vantage
from e2e.wait import WaitedInVainError, wait_until

HTTP_PORT, UDP_PORT = 8080, 8081
# In a pod.
GATE = "/tmp/ready"  # noqa: S108  # of the pod
GATE_PORT = 8090
# All new pods of a rollout at once, and no old one goes before.
AT_ONCE = {"maxSurge": "100%", "maxUnavailable": 0}
# How the scheduler spreads a Deployment over the nodes, which a rollout has to leave room for.
EVENLY, ONE_A_NODE = "evenly", "one a node"
ROLLED_OUT = {
    EVENLY: AT_ONCE,
    # No node has room for a second one.
    ONE_A_NODE: {"maxSurge": 0, "maxUnavailable": "25%"},
}
HOST = "kubernetes.io/hostname"
ALWAYS = "requiredDuringSchedulingIgnoredDuringExecution"
# So that a part of a group can be selected.
SEAT_LABEL, NODE_LABEL = "seat", "node"
# What a pod that only runs once may write before its node evicts it, and what is more than that.
ROOM, TOO_MUCH = "1Mi", 16 << 20
ENDED = ("Succeeded", "Failed")


@dataclass
class Echo:
    """A group of echo pods with one set of labels.

    Attributes:
        name: the beginning of the names of all its pods, and of nobody else's; nothing for a
            part of a group.
        namespace: where it lives.
        labels: what a selector needs to find it.
        pods: the node of every pod, by pod name, as of the last time it was looked at.
        addresses: the addresses of every pod, by pod name and IP family, likewise.
    """

    api: Api
    name: str
    namespace: str
    labels: dict[str, str]
    pods: dict[str, str] = field(default_factory=dict)
    addresses: dict[str, dict[str, str]] = field(default_factory=dict)

    def owns(self, echo: str) -> bool:
        """Whether a pod name is one of this group's."""
        return echo in self.pods or (bool(self.name) and echo.startswith(f"{self.name}-"))

    def whereabouts(self, echo: str) -> str:
        """The node of a pod, if it is known."""
        return self.pods.get(echo, "")

    def on(self, node: Node) -> "Echo":
        """The part of the group on one node."""
        return self._part(
            NODE_LABEL, node.name, [p for p, n in self.pods.items() if n == node.name]
        )

    def seat(self, number: int) -> "Echo":
        """The part of the group that is its pod of this number."""
        return self._part(SEAT_LABEL, str(number), [list(self.pods)[number]])

    def _part(self, label: str, value: str, pods: Sequence[str]) -> "Echo":
        return Echo(
            self.api,
            "",
            self.namespace,
            {**self.labels, label: value},
            {pod: self.pods[pod] for pod in pods},
            {pod: self.addresses[pod] for pod in pods},
        )

    def __or__(self, other: "Echo") -> "Echo":
        """Both groups as one, found by the labels that they have in common."""
        return Echo(
            self.api,
            self.name,
            self.namespace,
            dict(self.labels.items() & other.labels.items()),
            self.pods | other.pods,
            self.addresses | other.addresses,
        )

    def pod_flows(self, caller: Vantage) -> dict[Flow, str]:
        """The flows from a caller to each pod's own addresses and target port, with the pod."""
        return {
            Flow(caller, Target(f"{pod} ({family})", address, HTTP_PORT, self)): pod
            for pod, addresses in self.addresses.items()
            for family, address in addresses.items()
        }

    def look(self) -> None:
        """Note the addresses of its pods, which are others when their node was started again."""
        for pod in self.api.find_all("Pod", self.namespace, **self.labels):
            addresses = _addresses(pod)
            if addresses and pod["metadata"]["name"] in self.addresses:
                self.addresses[pod["metadata"]["name"]] = addresses

    def await_ready(self, count: int, *, instead_of: Set[str] = frozenset()) -> None:
        """Wait until exactly `count` pods exist, all of them Ready, and note where they are.

        Args:
            count: how many.
            instead_of: pods of which none is to be among them.
        """
        self._await(count, is_ready, "Ready", instead_of=instead_of)

    def await_serving(self) -> None:
        """Wait until its pods, which never get Ready, run and are not, and note where they are."""
        self._await(len(self.pods), runs_unready, "running but not Ready")

    def _await(
        self,
        count: int,
        is_so: Callable[[Object], bool],
        how: str,
        *,
        instead_of: Set[str] = frozenset(),
    ) -> None:
        seen: list[Object] = []

        def all_so() -> bool:
            found = self.api.find_all("Pod", self.namespace, **self.labels)
            seen[:] = [pod for pod in found if self.owns(pod["metadata"]["name"])]
            right = [
                pod
                for pod in seen
                if is_so(pod)
                and "deletionTimestamp" not in pod["metadata"]
                and pod["metadata"]["name"] not in instead_of
            ]
            return len(right) == len(seen) == count

        try:
            wait_until(
                all_so,
                what=f"{count} {how} pods of {self.namespace}/{self.name}",
                within=timing.PODS_READY_WITHIN,
                seen=lambda: (
                    "; ".join([*map(describe, seen), *self._lost_nodes(seen)]) or self._why_none()
                ),
            )
        except WaitedInVainError as error:
            if any(map(hindered, seen)):
                raise HinderedError(
                    str(error), "let each node have the image that manifests/echo.yaml names"
                ) from error
            raise
        self.pods = {pod["metadata"]["name"]: pod["spec"]["nodeName"] for pod in seen}
        self.addresses = {pod["metadata"]["name"]: _addresses(pod) for pod in seen}

    def _lost_nodes(self, pods: Sequence[Object]) -> Iterator[str]:
        """Why pods that are not Ready may wait for ever: what their nodes say."""
        of_unready = {pod["spec"].get("nodeName", "") for pod in pods if not is_ready(pod)}
        for name in sorted(of_unready - {""}):
            for condition in conditions(self.api.find("Node", name)):
                if condition["type"] == "Ready" and condition["status"] != "True":
                    yield f"{name} is not Ready: {condition.get('message', 'it does not say why')}"

    def _why_none(self) -> str:
        return "no pod at all"

    def remove(self, pod: str, *, grace: int | None = None) -> None:
        """Delete one pod, without waiting until it is gone; `grace` as in `Api.delete`."""
        self.api.delete("Pod", pod, self.namespace, grace=grace)

    def hurry(self) -> None:
        """End its pods that linger, for which whoever removes the namespace would have to wait.

        Those of a Deployment would only be followed by others, and their namespace ends them soon.
        """
        for pod in self.api.find_all("Pod", self.namespace, **self.labels):
            where = pod["metadata"]
            lingers = pod["spec"].get("terminationGracePeriodSeconds", SOON) > SOON
            if "deletionTimestamp" in where or (lingers and "ownerReferences" not in where):
                self.remove(where["name"], grace=SOON)

    def vantage(self, pod: str) -> PodVantage:
        """One of its pods as a caller."""
        return PodVantage(self.api, f"pod on {self.pods[pod]}", pod, self.namespace, HTTP_PORT)

    def open_gate(self, pod: str) -> None:
        """Let a pod that was placed with a gate get Ready."""
        self.vantage(pod).run(f"touch {GATE}")

    def close_gate(self, pod: str) -> None:
        """Let a pod that was placed with a gate be Ready no more, though it goes on answering."""
        self.vantage(pod).run(f"rm {GATE}")

    def meet(self, pod: str, condition: str, *, met: bool = True) -> None:
        """Say of a pod that a condition for its being Ready is met, or that it is not."""
        state = {"type": condition, "status": str(met)}
        self.api.change(
            *("Pod", pod, {"status": {"conditions": [state]}}, self.namespace),
            how=STRATEGIC,
            part="status",
        )

    def exit(self, pod: str, code: int) -> None:
        """Let the app of a pod end with an exit code a moment from now."""
        url = f"http://localhost:{HTTP_PORT}/exit?code={code}&wait=200ms"
        # On a busy machine it has ended before it answers; whether it has, its pod says.
        with suppress(ProbeBrokenError):
            self.vantage(pod).run(f"curl -s '{url}' >/dev/null 2>&1 &")

    def overfill(self, pod: str) -> None:
        """Let a pod that runs once write more than it may, so that its node evicts it."""
        self.vantage(pod).run(f"head -c {TOO_MUCH} /dev/zero >/tmp/too-much")

    def restart(self, pod: str) -> None:
        """Let the app of a pod crash, and wait until the pod is Ready with a new container."""

        def restarts() -> int:
            found = self.api.get("Pod", pod, self.namespace)
            count = int(found["status"]["containerStatuses"][0]["restartCount"])
            return count if is_ready(found) else 0

        before = restarts()
        self.exit(pod, 1)
        wait_until(
            lambda: restarts() > before,
            what=f"a new container of {pod}",
            within=timing.PODS_READY_WITHIN,
        )

    def await_ended(self) -> dict[str, str]:
        """Wait until no container of its pods runs any more; gives the reason or phase of each."""

        def ends() -> dict[str, str]:
            found = [self.api.get("Pod", pod, self.namespace)["status"] for pod in self.pods]
            says = [status.get("reason", status["phase"]) for status in found]
            over = all(status["phase"] in ENDED for status in found)
            return dict(zip(self.pods, says, strict=True)) if over else {}

        what = f"the end of the pods of {self.namespace}/{self.name}"
        return wait_until(ends, what=what, within=timing.PODS_READY_WITHIN)

    def relabel(self, pod: str, labels: Mapping[str, str | None]) -> None:
        """Change labels of one pod; None takes a label away."""
        self.api.change("Pod", pod, {"metadata": {"labels": dict(labels)}}, self.namespace)


@dataclass
class ScaledEcho(Echo):
    """A group of echo pods that a Deployment keeps at a number."""

    def _why_none(self) -> str:
        """What the cluster says of why it makes none, such as a quota or an admission rule."""
        said = [
            str(each.get("message"))
            for each in conditions(self.api.find("Deployment", self.name, self.namespace))
            if each["type"] == "ReplicaFailure" and each["status"] == "True"
        ]
        return ": ".join(["no pod at all", *said])

    def scale(self, count: int) -> None:
        """Set the number of pods and wait until there are exactly so many, all Ready."""
        self.api.change("Deployment", self.name, {"spec": {"replicas": count}}, self.namespace)
        self.await_ready(count)

    def roll_out(self) -> None:
        """Replace every pod by a new one, and wait until there are only new ones, all Ready."""
        change = {"template": {"metadata": {"annotations": {"rolled-out": secrets.token_hex(4)}}}}
        old = frozenset(self.pods)
        self.api.change("Deployment", self.name, {"spec": change}, self.namespace)
        self.await_ready(len(old), instead_of=old)

    def limit_disruptions(self) -> None:
        """Let a drain take one pod after another, each when the one before has its successor."""
        self.api.create(
            {
                "apiVersion": "policy/v1",
                "kind": "PodDisruptionBudget",
                "metadata": {"name": self.name, "namespace": self.namespace},
                "spec": {"maxUnavailable": 1, "selector": {"matchLabels": self.labels}},
            }
        )

    def move(self, node: Node) -> None:
        """Replace every pod by one on this node, and wait until there are only those, all Ready."""
        old = frozenset(self.pods)
        change = {"template": {"spec": {"nodeName": node.name}}}
        self.api.change("Deployment", self.name, {"spec": change}, self.namespace)
        self.await_ready(len(old), instead_of=old)


def place(
    api: Api,
    namespace: str,
    nodes: Sequence[Node],
    *,
    labels: Mapping[str, str] | None = None,
    http_ports: Sequence[int] = (),
    many_ports: Sequence[int] = (),
    port_name: str | None = None,
    host_network_port: int | None = None,
    udp_host_port: int | None = None,
    ready: bool = True,
    gated: bool = False,
    condition: str | None = None,
    once: bool = False,
    linger: int | None = None,
) -> Echo:
    """Place one echo pod on each of `nodes` (a node may be named several times); does not wait.

    Where one of them cannot be, the others are removed.

    Args:
        api: the cluster.
        namespace: where to.
        nodes: one entry a pod; the scheduler is not asked, so a cordon does not matter.
        labels: further labels of every pod.
        http_ports: instead of 8080, listen on each of these and tell the port in every reply.
        many_ports: likewise, for hundreds of them, and over HTTP and IPv4 alone.
        port_name: the name of the first of these ports; the first is 8080 by default.
        host_network_port: use the node's own network, and listen on this port.
        udp_host_port: let this UDP port of the node lead to the pod's.
        ready: answer, but never get Ready, if False.
        gated: Ready only while the file `GATE` is there, which it is at first.
        condition: the name of a readiness gate, which is not met at first; see `Echo.meet`.
        once: no container that has ended is started again, and the node evicts who writes much.
        linger: go on serving so many seconds after being told to end, as a graceful app does.
    """
    echo = Echo(api, _name(), namespace, {})
    echo.labels = {"echo": echo.name, **(labels or {})}
    for number, node in enumerate(nodes):
        pod = load("echo.yaml")
        pod["metadata"] = {
            "name": f"{echo.name}-{number}",
            "namespace": namespace,
            "labels": {**echo.labels, SEAT_LABEL: str(number), NODE_LABEL: node.name},
        }
        pod["spec"]["nodeName"] = node.name
        if host_network_port:
            _use_host_network(pod["spec"], host_network_port)
        if http_ports:
            _listen_on(pod["spec"], pod["metadata"]["name"], http_ports)
        if many_ports:
            _listen_on_many(pod["spec"], pod["metadata"]["name"], many_ports)
        if port_name:
            pod["spec"]["containers"][0]["ports"][0]["name"] = port_name
        if udp_host_port:
            pod["spec"]["containers"][0]["ports"][1]["hostPort"] = udp_host_port
        if not ready:
            # Nobody listens there.
            pod["spec"]["containers"][0]["readinessProbe"]["httpGet"]["port"] = 1
        if gated:
            _gate(pod["spec"])
        if condition:
            pod["spec"]["readinessGates"] = [{"conditionType": condition}]
        if once:
            pod["spec"]["restartPolicy"] = "Never"
            limits = {"limits": {"ephemeral-storage": ROOM}}
            pod["spec"]["containers"][0]["resources"] = limits
        if linger:
            _linger(pod["spec"], linger)
        try:
            api.create(pod)
        except (StopError, ApiRefusedError):
            with suppress(StopError, ApiRefusedError):
                api.delete_all("Pod", namespace, echo=echo.name)
            raise
        echo.pods[pod["metadata"]["name"]] = node.name
    return echo


def place_scaled(
    api: Api,
    namespace: str,
    count: int,
    *,
    on: Node | None = None,
    linger: int | None = None,
    strategy: Mapping[str, Any] | None = None,
    spread: str = "",
    tolerations: Sequence[Mapping[str, str]] | None = None,
) -> ScaledEcho:
    """Create a Deployment of echo pods and wait until `count` of them are Ready.

    Args:
        api: the cluster.
        namespace: where to.
        count: how many.
        on: the node of all of them; the scheduler is not asked.
        linger: as in `place`.
        strategy: of a rollout; all new pods at once, and no old one less, by default.
        spread: EVENLY over the nodes as far as they have room, or ONE_A_NODE and no more.
        tolerations: instead of those that let a pod go everywhere, cordoned nodes included.
    """
    name = _name()
    echo = ScaledEcho(api, name, namespace, {"echo": name})
    pod = load("echo.yaml")
    if on:
        pod["spec"]["nodeName"] = on.name
    if linger:
        _linger(pod["spec"], linger)
    if spread:
        pod["spec"] |= _spread(spread, echo.labels)
        strategy = strategy or ROLLED_OUT[spread]
    if tolerations is not None:
        pod["spec"]["tolerations"] = list(tolerations)
    api.create(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "replicas": count,
                "selector": {"matchLabels": echo.labels},
                "strategy": {"rollingUpdate": strategy or AT_ONCE},
                "template": {"metadata": {"labels": echo.labels}, "spec": pod["spec"]},
            },
        }
    )
    echo.await_ready(count)
    return echo


def runs_unready(pod: Object) -> bool:
    """Whether the Pod object says that its containers run and that it is not Ready."""
    states = pod.get("status", {}).get("containerStatuses", [])
    return bool(states) and all("running" in s["state"] for s in states) and not is_ready(pod)


def describe(pod: Object) -> str:
    """A pod's name, node and state in one line."""
    status = pod.get("status", {})
    waiting = [
        f"{state['reason']} {state.get('message', '')}".strip()
        for container in status.get("containerStatuses", [])
        for state in container.get("state", {}).values()
        if "reason" in state
    ]
    state = ", ".join([status.get("phase", "no status"), *waiting])
    ready = "Ready" if is_ready(pod) else "not Ready"
    return (
        f"{pod['metadata']['name']} on {pod['spec'].get('nodeName', 'no node')}: {ready}, {state}"
    )


def _addresses(pod: Object) -> dict[str, str]:
    return {family_of(each["ip"]): each["ip"] for each in pod["status"].get("podIPs", [])}


def _name() -> str:
    return "echo-" + "".join(secrets.choice(string.ascii_lowercase) for _ in range(6))


def _listen_on(spec: dict[str, Any], pod: str, ports: Sequence[int]) -> None:
    """One container a port, each of which says the pod and the port whatever it is asked."""
    original = spec["containers"][0]
    spec["containers"] = [
        {
            **original,
            "name": f"port-{port}",
            "args": [
                "netexec",
                f"--http-port={port}",
                "--udp-port=-1",
                f"--http-override=/echo?msg={pod}@{port}",
            ],
            "ports": [{"containerPort": port}],
            "readinessProbe": original["readinessProbe"]
            | {"httpGet": {"path": "/hostname", "port": port}},
        }
        for port in ports
    ]


def _listen_on_many(spec: dict[str, Any], pod: str, ports: Sequence[int]) -> None:
    """One container for all ports, which says the pod and the port whatever it is asked."""
    container = spec["containers"][0]
    container["args"] = ["porter"]
    container["env"] = [{"name": f"SERVE_PORT_{n}", "value": f"{pod}@{n}"} for n in ports]
    container["ports"] = [{"containerPort": ports[0]}]
    container["readinessProbe"]["httpGet"]["port"] = ports[-1]


def _gate(spec: dict[str, Any]) -> None:
    container = spec["containers"][0]
    # To run a command each second would cost the node more than all that the echo does.
    serves = f"/agnhost test-webserver --port={GATE_PORT} >/dev/null 2>&1 &"
    container["command"][-2] = f"touch {GATE}; {serves} {container['command'][-2]}"
    container["readinessProbe"] |= {
        "httpGet": {"path": GATE, "port": GATE_PORT},
        "failureThreshold": 1,
    }


def _linger(spec: dict[str, Any], seconds: int) -> None:
    # At /readyz netexec says that it is not ready as soon as it is told to end.
    spec["containers"][0]["readinessProbe"]["httpGet"]["path"] = "/healthz"
    spec["containers"][0]["args"].append(f"--delay-shutdown={seconds}")
    spec["terminationGracePeriodSeconds"] = seconds + 5


def _spread(how: str, labels: Mapping[str, str]) -> dict[str, Any]:
    of_group = {"labelSelector": {"matchLabels": dict(labels)}}
    if how == ONE_A_NODE:
        term = {**of_group, "topologyKey": HOST}
        return {"affinity": {"podAntiAffinity": {ALWAYS: [term]}}}
    constraint = {
        **of_group,
        "topologyKey": HOST,
        "maxSkew": 1,
        # A drain must find room for them on the nodes that are left.
        "whenUnsatisfiable": "ScheduleAnyway",
        # The pods of a rollout that are about to go are none that count.
        "matchLabelKeys": ["pod-template-hash"],
    }
    return {"topologySpreadConstraints": [constraint]}


def _use_host_network(spec: dict[str, Any], port: int) -> None:
    spec["hostNetwork"] = True
    container = spec["containers"][0]
    # It stands for the node itself, and reads what only its root may.
    del spec["securityContext"], container["securityContext"]
    container["args"] = ["netexec", f"--http-port={port}", "--udp-port=-1"]
    container["ports"] = [{"name": "http", "containerPort": port}]
    # Without its UDP port netexec never calls itself ready.
    container["readinessProbe"]["httpGet"] = {"path": "/hostname", "port": port}
