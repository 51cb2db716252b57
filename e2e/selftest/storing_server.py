"""An API server that is not there: it stores what it is told, as far as runs depend on that."""

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import RLock, Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

from e2e.selftest.api_server import CONTEXT, node, write_kubeconfig

Object = dict[str, Any]
Answer = tuple[int, Mapping[str, str], Any]
UID = "0b5c7a52-1111-4222-8333-444455556666"
GROUPS = {
    "/api/v1": {
        "namespaces": ("Namespace", False),
        "nodes": ("Node", False),
        "services": ("Service", True),
        "pods": ("Pod", True),
        "serviceaccounts": ("ServiceAccount", True),
        "configmaps": ("ConfigMap", True),
        "secrets": ("Secret", True),
        "events": ("Event", True),
    },
    "/apis/apps/v1": {"deployments": ("Deployment", True)},
    "/apis/coordination.k8s.io/v1": {"leases": ("Lease", True)},
    "/apis/discovery.k8s.io/v1": {"endpointslices": ("EndpointSlice", True)},
    "/apis/authorization.k8s.io/v1": {
        "selfsubjectaccessreviews": ("SelfSubjectAccessReview", False)
    },
}


@dataclass
class StoringServer:
    """What it stores, who asked what, and the kubeconfig that leads to it.

    Attributes:
        kubeconfig: leads to it, by the context CONTEXT.
        objects: by group, resource, namespace and name.
        requests: method and path, as they came.
        before: what may answer instead: called with method and path; None lets it go on.
    """

    kubeconfig: Path
    objects: dict[tuple[str, str, str, str], Object] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    before: Callable[[str, str], Answer | None] = lambda *_: None
    version: int = 100
    lock: Any = field(default_factory=RLock)

    def put(self, group: str, resource: str, item: Object) -> Object:
        """Store an object."""
        with self.lock:
            self.version += 1
            where = item["metadata"]
            where["resourceVersion"] = str(self.version)
            where.setdefault("uid", f"uid-{self.version}")
            key = (group, resource, where.get("namespace", ""), where["name"])
            self.objects[key] = item
            return copy.deepcopy(item)

    def of(self, resource: str) -> list[Object]:
        """What is stored of a resource."""
        with self.lock:
            return [item for (_, of, _, _), item in self.objects.items() if of == resource]

    def answer(  # noqa: PLR0911  # one for each kind of question
        self, method: str, path: str, query: Mapping[str, str], body: Any
    ) -> Answer:
        """What a request is answered."""
        if instead := self.before(method, path):
            return instead
        if path == "/version":
            return 200, {}, {"major": "1", "minor": "37", "gitVersion": "v1.37.2"}
        if path == "/readyz":
            return 200, {}, "ok"
        if path == "/api":
            return 200, {}, {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            return 200, {}, {"kind": "APIGroupList", "groups": _groups()}
        if path in GROUPS:
            return 200, {}, _resources(path)
        group = next((each for each in GROUPS if path.startswith(f"{each}/")), None)
        if group is None:
            return _refused(404, "NotFound", path)
        return self._of_resource(method, group, path.removeprefix(f"{group}/"), query, body)

    def _of_resource(  # noqa: PLR0911
        self, method: str, group: str, rest: str, query: Mapping[str, str], body: Any
    ) -> Answer:
        parts, where = rest.split("/"), ""
        if parts[0] == "namespaces" and len(parts) > 2:
            where, parts = parts[1], parts[2:]
        resource, name = parts[0], parts[1] if len(parts) > 1 else ""
        kind = GROUPS[group].get(resource, ("", False))[0]
        if not kind:
            return _refused(404, "NotFound", rest)
        key = (group, resource, where, name)
        with self.lock:
            found = self.objects.get(key)
            if method == "POST":
                return self._post(group, resource, where, body, dry="dryRun" in query)
            if not name:
                return self._list(method, group, resource, kind, where, query)
            if found is None:
                return _refused(404, "NotFound", f'{resource} "{name}" not found')
            if method == "GET":
                return 200, {}, {"kind": kind, **found}
            asked = (body or {}).get("preconditions" if method == "DELETE" else "metadata") or {}
            version = asked.get("resourceVersion")
            if version and version != found["metadata"]["resourceVersion"]:
                return _refused(409, "Conflict", "the object has been modified")
            if method == "DELETE":
                del self.objects[key]
                if resource == "namespaces":
                    for inside in [each for each in self.objects if each[2] == name]:
                        del self.objects[inside]
                return 200, {}, {"kind": "Status", "status": "Success"}
            if method == "PATCH":
                body = _merged(found, body)
            return 200, {}, {"kind": kind, **self.put(group, resource, body)}

    def _post(self, group: str, resource: str, where: str, body: Object, *, dry: bool) -> Answer:
        kind = GROUPS[group][resource][0]
        if kind == "SelfSubjectAccessReview":
            return 201, {}, {"kind": kind, "spec": {}, "status": {"allowed": True}}
        name = body["metadata"].get("name") or f"{body['metadata']['generateName']}{self.version}"
        if (group, resource, where, name) in self.objects:
            return _refused(409, "AlreadyExists", f'{resource} "{name}" already exists')
        body["metadata"]["name"] = name
        if where:
            body["metadata"]["namespace"] = where
        stored = body if dry else self.put(group, resource, body)
        return 201, {}, {**stored, "kind": kind}

    def _list(
        self, method: str, group: str, resource: str, kind: str, where: str,
        query: Mapping[str, str],
    ) -> Answer:  # fmt: skip
        asked = [each.partition("=") for each in query.get("labelSelector", "").split(",") if each]
        found = {
            key: item
            for key, item in self.objects.items()
            if key[:2] == (group, resource) and where in ("", key[2])
            and all((item["metadata"].get("labels") or {}).get(k) == v for k, _, v in asked)
        }  # fmt: skip
        if method == "DELETE":
            for key in found:
                del self.objects[key]
            return 200, {}, {"kind": "Status", "status": "Success"}
        version = {"resourceVersion": str(self.version)}
        return 200, {}, {"kind": f"{kind}List", "metadata": version, "items": list(found.values())}


@contextmanager
def storing_server(folder: Path, *, uid: str = UID) -> Iterator[StoringServer]:
    """Serve a cluster of two nodes, whose kube-system has this UID."""
    folder.mkdir(exist_ok=True)
    told = StoringServer(folder / "kubeconfig")
    told.put("/api/v1", "namespaces", {"metadata": {"name": "kube-system", "uid": uid}})
    told.put("/api/v1", "nodes", node("control-plane", "127.0.0.1", control_plane=True))
    told.put("/api/v1", "nodes", node("worker", "127.0.0.2"))

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            url = urlsplit(self.path)
            told.requests.append((self.command, url.path))
            told.headers.append({name.lower(): value for name, value in self.headers.items()})
            read = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            query = {key: values[0] for key, values in parse_qs(url.query).items()}
            body = json.loads(read) if read else None
            code, headers, said = told.answer(self.command, url.path, query, body)
            sent = said.encode() if isinstance(said, str) else json.dumps(said).encode()
            self.send_response(code)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815  # as it is called

        def log_message(self, *_: Any) -> None: ...

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        write_kubeconfig(told.kubeconfig, f"http://127.0.0.1:{server.server_address[1]}")
        try:
            yield told
        finally:
            server.shutdown()
            thread.join()


def refused(code: int, reason: str, message: str) -> Answer:
    """A Status that says no."""
    return _refused(code, reason, message)


def _refused(code: int, reason: str, message: str) -> Answer:
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure"}
    return code, {}, {**status, "code": code, "reason": reason, "message": message}


def _groups() -> list[Object]:
    found = []
    for path in GROUPS:
        if path.startswith("/apis"):
            _, _, name, version = path.split("/")
            one = {"groupVersion": f"{name}/{version}", "version": version}
            found.append({"name": name, "versions": [one], "preferredVersion": one})
    return found


def _resources(path: str) -> Object:
    verbs = ["get", "list", "create", "update", "patch", "delete", "deletecollection", "watch"]
    return {
        "kind": "APIResourceList",
        "groupVersion": path.removeprefix("/apis/").removeprefix("/api/"),
        "resources": [
            {"name": name, "singularName": "", "kind": kind, "namespaced": inside, "verbs": verbs}
            for name, (kind, inside) in GROUPS[path].items()
        ],
    }


def _merged(item: Object, change: Object) -> Object:
    found = copy.deepcopy(item)
    for key, value in change.items():
        if value is None:
            found.pop(key, None)
        elif isinstance(value, dict) and isinstance(found.get(key), dict):
            found[key] = _merged(found[key], value)
        else:
            found[key] = value
    return found


__all__ = ["CONTEXT", "StoringServer", "refused", "storing_server"]
