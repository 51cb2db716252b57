"""An API server that is not there: it answers reads, and keeps every request that came."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import yaml

CONTEXT = "fake"
KINDS = {
    "/api/v1": {
        "Node": "nodes",
        "Pod": "pods",
        "ConfigMap": "configmaps",
        "Service": "services",
        "Namespace": "namespaces",
    },
    "/apis/authorization.k8s.io/v1": {"SelfSubjectAccessReview": "selfsubjectaccessreviews"},
}
NAMESPACED = {"Pod", "ConfigMap", "Service"}


def node(name: str, address: str, *, control_plane: bool = False, **status: Any) -> dict[str, Any]:
    label = {"node-role.kubernetes.io/control-plane": ""} if control_plane else {}
    return {
        "metadata": {"name": name, "labels": label},
        "spec": {},
        "status": {
            "addresses": [{"type": "InternalIP", "address": address}],
            "conditions": [{"type": "Ready", "status": "True"}],
            "nodeInfo": {"kubeletVersion": "v1.37.2"},
            **status,
        },
    }


def api_server_pod(*flags: str) -> dict[str, Any]:
    command = ["kube-apiserver", "--etcd-servers=https://127.0.0.1:2379", *flags]
    return {
        "metadata": {"name": "kube-apiserver", "labels": {"component": "kube-apiserver"}},
        "spec": {"nodeName": "control-plane", "containers": [{"command": command}]},
    }


def kube_proxy(**settings: Any) -> dict[str, Any]:
    return {"kind": "ConfigMap", "data": {"config.conf": json.dumps(settings)}}


NODES = (
    node("control-plane", "127.0.0.1", control_plane=True),
    node("worker", "127.0.0.2"),
    node("worker-2", "127.0.0.3"),
)


SYSTEM = {"kind": "Namespace", "metadata": {"name": "kube-system", "uid": "4b1d"}}


@dataclass
class FakeServer:
    """What it answers by path, who asked what, and the kubeconfig that leads to it."""

    answers: dict[str, Any]
    kubeconfig: Path
    requests: list[tuple[str, str]] = field(default_factory=list)

    @property
    def port(self) -> str:
        return self.kubeconfig.read_text().partition("127.0.0.1:")[2].split()[0]

    @property
    def methods(self) -> set[str]:
        return {method for method, _ in self.requests}


@contextmanager
def api_server(folder: Path, answers: Mapping[str, Any] | None = None) -> Iterator[FakeServer]:
    """Serve a cluster of three nodes, in which `answers` by path go before all else."""
    told = FakeServer(_cluster() | dict(answers or {}), folder / "kubeconfig")

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            path = urlsplit(self.path).path
            told.requests.append((self.command, path))
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answer = told.answers.get(path, {"kind": "Status", "code": 404, "message": path})
            answer = answer(json.loads(body)) if callable(answer) else answer
            said = json.dumps(answer).encode()
            refused = answer.get("kind") == "Status" and answer.get("status") != "Success"
            self.send_response(answer["code"] if refused else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815  # as it is called

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        write_kubeconfig(told.kubeconfig, f"http://127.0.0.1:{server.server_address[1]}")
        try:
            yield told
        finally:
            server.shutdown()
            thread.join()


def _cluster() -> dict[str, Any]:
    groups = [path.split("/")[2:] for path in KINDS if path.startswith("/apis")]
    lists: dict[str, Any] = {path: _resources(path) for path in KINDS}
    return lists | {
        "/version": {"major": "1", "minor": "37", "gitVersion": "v1.37.2"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {"kind": "APIGroupList", "groups": [_group(*each) for each in groups]},
        "/api/v1/nodes": {"kind": "NodeList", "items": list(NODES)},
        "/api/v1/namespaces/kube-system": SYSTEM,
        "/api/v1/namespaces/kube-system/pods": {"kind": "PodList", "items": [api_server_pod()]},
        "/api/v1/namespaces/kube-system/configmaps/kube-proxy": kube_proxy(mode="nftables"),
    }


def _resources(path: str) -> dict[str, Any]:
    return {
        "kind": "APIResourceList",
        "groupVersion": path.removeprefix("/apis/").removeprefix("/api/"),
        "resources": [
            {"name": name, "singularName": "", "kind": kind, "namespaced": kind in NAMESPACED,
             "verbs": ["get", "list", "create"]}
            for kind, name in KINDS[path].items()
        ],
    }  # fmt: skip


def _group(name: str, version: str) -> dict[str, Any]:
    one = {"groupVersion": f"{name}/{version}", "version": version}
    return {"name": name, "versions": [one], "preferredVersion": one}


def write_kubeconfig(file: Path, server: str) -> None:
    """Write a kubeconfig with one context, which leads to this server as nobody."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": CONTEXT,
        "clusters": [{"name": CONTEXT, "cluster": {"server": server}}],
        "users": [{"name": CONTEXT, "user": {}}],
        "contexts": [{"name": CONTEXT, "context": {"cluster": CONTEXT, "user": CONTEXT}}],
    }
    file.write_text(yaml.safe_dump(content))
