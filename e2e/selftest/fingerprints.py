"""Fingerprints of a cluster that is not there, to be changed by tests."""

import copy
from datetime import UTC, datetime
from typing import Any

from e2e.check.fingerprint import Behaviour, Fingerprint

HOME = "nodeport-e2e-x"
TAKEN = datetime(2026, 11, 28, 1, 30, tzinfo=UTC)


def service(name: str, number: int) -> dict[str, Any]:
    """A prepared Service in full."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "namespace": HOME,
            "uid": f"uid-{name}",
            "resourceVersion": "100",
            "managedFields": [{"manager": "OpenAPI-Generator", "operation": "Update"}],
        },
        "spec": {
            "type": "NodePort",
            "clusterIP": "10.96.0.9",
            "clusterIPs": ["10.96.0.9"],
            "externalTrafficPolicy": "Cluster",
            "selector": {"echo": "echo-abcdef"},
            "ports": [{"port": 80, "protocol": "TCP", "targetPort": 8080, "nodePort": number}],
        },
        "status": {"loadBalancer": {}},
    }


def facts(stored: dict[str, Any]) -> dict[str, Any]:
    """The same, as it is among all Services."""
    return {"uid": stored["metadata"]["uid"], "spec": stored["spec"]}


def node(version: str) -> dict[str, Any]:
    """A node of a version."""
    return {
        "addresses": ["Hostname worker", "InternalIP 172.18.0.3"],
        "conditions": {"Ready": "True", "DiskPressure": "False"},
        "versions": {"kubelet": version, "kernel": "6.1.0"},
        "pod_networks": ["10.244.1.0/24"],
    }


def content(version: str = "v1.36.3") -> dict[str, Any]:
    """What a fingerprint says, to be changed before it is made."""
    watched, other = service("cluster", 30080), service("shop", 31000)
    return copy.deepcopy(
        {
            "taken": TAKEN,
            "cluster": "4b1d",
            "version": version,
            "nodes": {"worker": node(version)},
            "components": {
                "kube-proxy": {"worker": f"registry.k8s.io/kube-proxy:{version}"},
                "etcd": {"control-plane": "registry.k8s.io/etcd:3.6.8-0"},
            },
            "proxy_mode": "iptables",
            "proxy": {"mode": "iptables", "nodePortAddresses": None},
            "flags": {"service-node-port-range": {"control-plane": "30000-32767"}},
            "defaults": {"NodePort": {"type": "NodePort", "sessionAffinity": "None"}},
            "services": {f"{HOME}/cluster": facts(watched), "shop/shop": facts(other)},
            "prepared": {"cluster": watched},
            "behaviours": {name: {"clause": name, "ended": "held"} for name in ("a.one", "a.two")},
        }
    )


def fingerprint(said: dict[str, Any] | None = None) -> Fingerprint:
    """A fingerprint that says so."""
    return Fingerprint.model_validate(said or content())


def behaviour(name: str, ended: str = "held", **more: Any) -> Behaviour:
    """What a run saw of a clause."""
    return Behaviour.model_validate({"clause": name, "ended": ended, **more})


def behaviours(*every: Behaviour) -> dict[str, Behaviour]:
    """By clause."""
    return {each.clause: each for each in every}
