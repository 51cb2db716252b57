"""The scene of a flow that went wrong: what each step of its way says now."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from e2e.cluster.api import Api, ApiRefusedError, Object
from e2e.cluster.endpoints import SERVICE_LABEL
from e2e.cluster.node import KUBELET, Node, is_ready
from e2e.errors import ProbeBrokenError, StopError
from e2e.probe import ANSWERED, NO_ROUTE, SILENT, TCP, UDP, Flow, Outside, Vantage
from e2e.provider.existing import LOOPBACK

HEALTH, METRICS = 10256, 10249
LAST_SYNC = "kubeproxy_sync_proxy_rules_last_timestamp_seconds"
# Seconds that one step may take, and endpoints of a Service and other nodes that are asked.
STEP, ENDPOINTS, OTHERS = 2, 6, 3
RULES = "iptables-save; ip6tables-save; nft list table ip kube-proxy; nft list table ip6 kube-proxy"

Shell = Callable[[str], str]
"""Runs a shell command in a node's network, and gives what it printed."""


@dataclass(frozen=True)
class Endpoint:
    """One ready endpoint of a Service: address, port, pod and the pod's node."""

    address: str
    port: int
    pod: str
    node: str


@dataclass
class Scene:
    """A cluster in which something just went wrong.

    Attributes:
        api: of the cluster.
        nodes: all of them.
        shells: for each node that can be asked, by name.
        sees_rules: whether the shells can read the node's rules.
        outside: asks again, where callers outside stand.
    """

    api: Api
    nodes: Sequence[Node]
    shells: Mapping[str, Shell]
    sees_rules: bool
    outside: Vantage = field(default_factory=lambda: Outside(patience=STEP))

    def facts(self, flow: Flow) -> dict[str, Any]:
        """What was found; a step that could not be asked is left out."""
        node = self.node_of(flow)
        if node is None:
            return {}
        found: dict[str, Any] = {"node": node.name}
        if not flow.target.family:
            return found | {"name": flow.target.address}
        at_node = flow.target.address in node.addresses.values()
        if at_node and flow.caller.name == self.outside.name:
            found |= self._of_reach(node, flow)
        is_node_port = at_node or flow.target.address in LOOPBACK
        try:
            service = self._service(flow, is_node_port=is_node_port)
            if service or is_node_port or not self._is_pod(flow.target.address):
                found["exists"] = service is not None
            if service:
                found |= self._of_service(service, flow, node, is_node_port=is_node_port)
            found |= self._of_proxy(node, service, flow.target.port)
        except (ApiRefusedError, StopError, ProbeBrokenError):
            pass  # what is known is told all the same
        # All other steps take their time, so what is compared is told of one moment.
        now = datetime.now(UTC)
        moments = {name: found.pop(name) for name in ("changed", "synced") if name in found}
        return found | {f"{name}_ago": (now - at).total_seconds() for name, at in moments.items()}

    def node_of(self, flow: Flow) -> Node | None:
        """The node that was called, or the one on which the caller of a ClusterIP stands."""
        for node in self.nodes:
            if flow.target.address in node.addresses.values():
                return node
        return next((n for n in self.nodes if flow.caller.name.endswith(f" {n}")), None)

    def _of_reach(self, node: Node, flow: Flow) -> dict[str, bool]:
        """Whether the node is heard at its kubelet's port; unknown where no node is."""
        if self._hears(flow.target.address):
            return {"reachable": True}
        # Whole clusters hide that port, and it says nothing of node ports then.
        others = [n.addresses.get(flow.target.family, "") for n in self.nodes if n is not node]
        return {"reachable": False} if any(self._hears(at) for at in others[:OTHERS] if at) else {}

    def _hears(self, address: str) -> bool:
        return self.outside.call(address, KUBELET).outcome not in (SILENT, NO_ROUTE)

    def _service(self, flow: Flow, *, is_node_port: bool) -> Object | None:
        key = "nodePort" if is_node_port else "port"
        for service in self.api.find_all("Service"):
            spec = service["spec"]
            addresses = [*spec.get("clusterIPs", []), *spec.get("externalIPs", [])]
            if not is_node_port and flow.target.address not in addresses:
                continue
            if any(_is_port(entry, key, flow) for entry in spec.get("ports", [])):
                return service
        return None

    def _is_pod(self, address: str) -> bool:
        """Whether a pod is called itself, which is no matter of Services."""
        pods = self.api.find_all("Pod", where=f"status.podIP={address}")
        return any(ip["ip"] == address for pod in pods for ip in pod["status"].get("podIPs", []))

    def _of_service(
        self, service: Object, flow: Flow, node: Node, *, is_node_port: bool
    ) -> dict[str, Any]:
        spec, where = service["spec"], service["metadata"]
        of = {SERVICE_LABEL: where["name"]}
        slices = self.api.find_all("EndpointSlice", where["namespace"], **of)
        key = "nodePort" if is_node_port else "port"
        entry = next(e for e in spec["ports"] if _is_port(e, key, flow))
        endpoints = [e for each in slices for e in _ready_endpoints(each, entry.get("name", ""))]
        found: dict[str, Any] = {"changed": max(map(_changed, (service, *slices)))}
        found["listed"] = sorted({endpoint.pod for endpoint in endpoints})
        if "deletionTimestamp" in where:
            found["held_by"] = where.get("finalizers", [])
        if spec.get("selector") and not spec.get("publishNotReadyAddresses"):
            pods = {
                pod["metadata"]["name"]: [ip["ip"] for ip in pod["status"].get("podIPs", [])]
                for pod in self.api.find_all("Pod", where["namespace"], **spec["selector"])
                if is_ready(pod) and "deletionTimestamp" not in pod["metadata"]
            }
            listed = {endpoint.address for endpoint in endpoints}
            known = {address for addresses in pods.values() for address in addresses}
            found["ready"] = sorted(pods)
            found["unlisted"] = sorted(p for p, ips in pods.items() if listed.isdisjoint(ips))
            found["strangers"] = sorted(
                endpoint.pod or endpoint.address
                for endpoint in endpoints
                if endpoint.address not in known
            )
            if "Local" in (spec.get("externalTrafficPolicy"), spec.get("internalTrafficPolicy")):
                found["homeless"] = sorted({e.pod or e.address for e in endpoints if not e.node})
        else:
            found["ready"] = sorted(endpoint.pod or endpoint.address for endpoint in endpoints)
        ways = self._of_ways(service, flow, node, endpoints, is_node_port=is_node_port)
        return found | ways

    def _of_ways(
        self,
        service: Object,
        flow: Flow,
        node: Node,
        endpoints: Sequence[Endpoint],
        *,
        is_node_port: bool,
    ) -> dict[str, Any]:
        """Call each part of the way from where it can be called."""
        family = 6 if ":" in flow.target.address else 4
        asked = [e for e in endpoints if (":" in e.address) == (family == 6)][:ENDPOINTS]
        calls: dict[str, dict[str, tuple[str, int]]] = {}

        def ask(at: str, key: str, address: str, port: int) -> None:
            if at in self.shells:
                calls.setdefault(at, {})[key] = (address, port)

        for endpoint in asked:
            ask(node.name, f"from-here {endpoint.address}", endpoint.address, endpoint.port)
            ask(endpoint.node, f"at-home {endpoint.address}", endpoint.address, endpoint.port)
        spec = service["spec"]
        key = "nodePort" if is_node_port else "port"
        entry = next(e for e in spec["ports"] if _is_port(e, key, flow))
        for address in spec.get("clusterIPs", []):
            if (":" in address) == (family == 6):
                ask(node.name, "cluster-ip", address, entry["port"])
        # By its loopback address nobody else calls a node.
        alone = flow.target.address in LOOPBACK
        other = None if alone else next((n for n in self.nodes if n.name != node.name), None)
        if is_node_port:
            ask(node.name, "itself", flow.target.address, flow.target.port)
            if other:
                ask(other.name, "neighbour", flow.target.address, flow.target.port)
        with ThreadPoolExecutor(len(calls) + 1) as pool:
            answers = dict[str, bool]()
            protocol = flow.target.protocol
            for said in pool.map(lambda at: self._call(at, calls[at], protocol), calls):
                answers |= said
        found: dict[str, Any] = {
            # Of an endpoint that somebody wrote by hand nobody says whose it is.
            "dead": [
                f"{e.pod or e.address} on {e.node}"
                for e in asked
                if answers.get(f"at-home {e.address}") is False
            ],
            "unreached": [
                e.pod or e.address
                for e in asked
                if answers.get(f"from-here {e.address}") is False
                and answers.get(f"at-home {e.address}")
            ],
            "cluster_ip": answers.get("cluster-ip"),
            "itself": answers.get("itself"),
            "neighbour": answers.get("neighbour"),
        }
        if is_node_port and other:
            address = next(
                (a for a in other.addresses.values() if (":" in a) == (family == 6)), None
            )
            if address:
                found["elsewhere"] = self._answers(address, flow) is not None
        if flow.caller.name == self.outside.name:
            found["again_by"] = self._answers(flow.target.address, flow) or ""
            if flow.target.protocol == UDP and isinstance(self.outside, Outside):
                replier = self.outside.replier(flow.target.address, flow.target.port)
                found["replier"] = "" if replier == flow.target.address else replier
        elif other:
            found["outside"] = self._answers(flow.target.address, flow) is not None
        return found

    def _answers(self, address: str, flow: Flow) -> str | None:
        """The pod that answers the caller outside at an address, if one does."""
        if flow.target.protocol != UDP:
            reply = self.outside.call(address, flow.target.port)
        # A first datagram may be lost, and nobody sends it again.
        elif (reply := self.outside.call_udp(address, flow.target.port)).outcome != ANSWERED:
            reply = self.outside.call_udp(address, flow.target.port)
        return reply.echo if reply.outcome == ANSWERED else None

    def _call(
        self, at: str, calls: Mapping[str, tuple[str, int]], protocol: str
    ) -> dict[str, bool]:
        """Make calls in a node, all at the same time."""
        script = []
        for key, (address, port) in calls.items():
            host = f"[{address}]" if ":" in address else address
            url = f"http://{host}:{port}/hostname"
            ask = f"curl -sgo /dev/null --noproxy '*' -m {STEP} {shlex.quote(url)}"
            if protocol == UDP:
                ask = f"printf hostname | nc -u -w {STEP} {address} {port} | grep -q ."
            said = shlex.quote(key)
            # Busy nodes were too late for one call, and that is no reason.
            script.append(f"({{ {ask} || {ask}; }} && echo yes {said} || echo no {said}) &")
        lines = self.shells[at](" ".join([*script, "wait"])).splitlines()
        return {key: word == "yes" for word, _, key in (line.partition(" ") for line in lines)}

    def _of_proxy(self, node: Node, service: Object | None, port: int) -> dict[str, Any]:
        """What kube-proxy of the node says, and how many rules each node has."""
        if node.name not in self.shells:
            return {}
        said = self.shells[node.name](
            f"curl -s -m {STEP} -o /dev/null -w '%{{http_code}}\\n' localhost:{HEALTH}/healthz; "
            f"date +%s; curl -s -m {STEP} localhost:{METRICS}/metrics | grep ^{LAST_SYNC}; true"
        ).splitlines()
        if len(said) < 2:  # the shell was ended before it had said all
            return {}
        code, now, *stamps = said
        found: dict[str, Any] = {"proxy": {"200": "well", "000": "dumb"}.get(code, "ill")}
        if stamps:
            ago = float(now) - min(float(line.split()[-1]) for line in stamps)
            found["synced"] = datetime.now(UTC) - timedelta(seconds=ago)
        if self.sees_rules:
            where = service["metadata"] if service else None
            words = f"{where['namespace']}/{where['name']}" if where else f"dport {port}"
            command = f"({RULES}) 2>/dev/null | grep -cF {shlex.quote(words)}; true"
            told = {name: shell(command).strip() for name, shell in self.shells.items()}
            counts = {name: int(count) for name, count in told.items() if count.isdecimal()}
            if node.name not in counts:
                return found
            found["rules"] = counts.pop(node.name)
            # With a policy Local nodes have different rules, as they have different pods.
            if service and service["spec"].get("externalTrafficPolicy") != "Local":
                found["rules_elsewhere"] = list(counts.values())
        return found


def _is_port(entry: Mapping[str, Any], key: str, flow: Flow) -> bool:
    return (entry.get(key), entry.get("protocol", TCP)) == (flow.target.port, flow.target.protocol)


def _ready_endpoints(each: Object, port_name: str) -> list[Endpoint]:
    numbers = [p["port"] for p in each.get("ports") or [] if p.get("name", "") == port_name]
    if not numbers:
        return []
    return [
        Endpoint(
            endpoint["addresses"][0],
            numbers[0],
            endpoint.get("targetRef", {}).get("name", ""),
            endpoint.get("nodeName", ""),
        )
        for endpoint in each.get("endpoints") or []
        if endpoint.get("conditions", {}).get("ready")
    ]


def _changed(item: Object) -> datetime:
    stamps = [f["time"] for f in item["metadata"].get("managedFields", []) if "time" in f]
    stamps.append(item["metadata"]["creationTimestamp"])
    return datetime.fromisoformat(max(stamps).replace("Z", "+00:00"))
