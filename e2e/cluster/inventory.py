"""What a cluster is made of: versions, configuration, and every Service's numbers; writes nothing.

Plain data, as the API server has it; who compares two of them is elsewhere.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from e2e.cluster import implementation
from e2e.cluster.api import Api, ApiRefusedError, Object
from e2e.cluster.service import manifest

SYSTEM = "kube-system"
FLAGS = ("service-node-port-range", "service-cluster-ip-range", "feature-gates", "runtime-config")
# Beside kube-system: where pod networks are installed by those who make them.
NETWORKS = ("calico-system", "cilium", "kube-flannel", "kube-router", "tigera-operator")
VERSIONS = {
    "kubelet": "kubeletVersion",
    "kernel": "kernelVersion",
    "container runtime": "containerRuntimeVersion",
    "operating system": "osImage",
}
# Services as short as they can be: all else in what is stored is a default.
SHORTEST: Mapping[str, Mapping[str, Any]] = {
    "NodePort": {},
    "NodePort, policy Local": {"externalTrafficPolicy": "Local"},
    "NodePort, affinity ClientIP": {"sessionAffinity": "ClientIP"},
    "LoadBalancer": {"type": "LoadBalancer"},
}
# What the server picks anew each time.
PICKED = ("clusterIP", "clusterIPs", "healthCheckNodePort")


def identity(api: Api) -> str:
    """What a cluster is known by, whatever it is called and wherever it is reached."""
    return str(api.get("Namespace", SYSTEM)["metadata"]["uid"])


def nodes(api: Api) -> dict[str, dict[str, Any]]:
    """What each node says of itself, also of those that are not Ready."""
    return {item["metadata"]["name"]: _node(item) for item in api.find_all("Node")}


def components(api: Api) -> dict[str, dict[str, str]]:
    """The images that make the cluster, by component and node; a component is a container."""
    found: dict[str, dict[str, str]] = {}
    for namespace in (SYSTEM, *NETWORKS):
        for pod in _pods(api, namespace):
            if "deletionTimestamp" in pod["metadata"]:
                continue
            where = pod["spec"].get("nodeName", "no node")
            for container in pod["spec"]["containers"]:
                found.setdefault(container["name"], {})[where] = container["image"]
    return {name: dict(sorted(where.items())) for name, where in sorted(found.items())}


def _pods(api: Api, namespace: str, **labels: str) -> list[Object]:
    """The pods of a namespace; none where one may not list them, as in some managed clusters."""
    try:
        return api.find_all("Pod", namespace, **labels)
    except ApiRefusedError:
        return []


def flags(api: Api, names: Collection[str] = FLAGS) -> dict[str, dict[str, str]]:
    """Those flags of API servers, by default all that node ports depend on, by flag and node."""
    found: dict[str, dict[str, str]] = {}
    for pod in _pods(api, SYSTEM, component="kube-apiserver"):
        container = pod["spec"]["containers"][0]
        for said in (*container.get("command", []), *container.get("args", [])):
            name, _, value = said.removeprefix("--").partition("=")
            if name in names:
                found.setdefault(name, {})[pod["spec"].get("nodeName", "")] = value
    return found


def proxy(api: Api) -> tuple[str, dict[str, Any]]:
    """The mode of kube-proxy, and its configuration as far as it can be read."""
    here = implementation.find(api)
    return here.proxy, here.settings


def services(api: Api) -> dict[str, dict[str, Any]]:
    """Every Service of the cluster, by namespace and name; annotations may hold secrets."""
    return {
        f"{item['metadata']['namespace']}/{item['metadata']['name']}": {
            "uid": item["metadata"]["uid"],
            "labels": item["metadata"].get("labels", {}),
            "spec": item["spec"],
            "status": item.get("status", {}),
        }
        for item in api.find_all("Service")
    }


def defaults(api: Api, namespace: str) -> dict[str, dict[str, Any]]:
    """What the API server makes of the shortest Services, of which none is stored."""
    found = {}
    for name, spec in SHORTEST.items():
        asked = manifest(f"short-{_slug(name)}", namespace, None, spec)
        answer = api.submit(asked, dry_run=True)
        if answer["kind"] == "Service":
            found[name] = _without_picked(answer["spec"])
        else:
            found[name] = {"refused": answer.get("message")}
    return found


def _without_picked(spec: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in spec.items() if key not in PICKED}
    kept["ports"] = [
        {key: value for key, value in port.items() if key != "nodePort"} for port in spec["ports"]
    ]
    return kept | {f"{key} is picked": True for key in PICKED if spec.get(key)}


def _node(item: Object) -> dict[str, Any]:
    spec, status = item["spec"], item["status"]
    return {
        "addresses": sorted(f"{a['type']} {a['address']}" for a in status.get("addresses", [])),
        "conditions": {c["type"]: c["status"] for c in status.get("conditions", [])},
        "versions": {name: status["nodeInfo"].get(key, "") for name, key in VERSIONS.items()},
        "unschedulable": bool(spec.get("unschedulable")),
        "taints": sorted(map(_taint, spec.get("taints", []))),
        "pod_networks": list(_pod_networks(spec)),
    }


def _taint(taint: Mapping[str, str]) -> str:
    return f"{taint['key']}={taint.get('value', '')}:{taint['effect']}"


def _pod_networks(spec: Mapping[str, Any]) -> Iterable[str]:
    return spec.get("podCIDRs") or ([spec["podCIDR"]] if "podCIDR" in spec else [])


def _slug(name: str) -> str:
    return re.sub(r"[^a-z]+", "-", name.lower())
