"""The API server, spoken to in raw dicts: a typed client would refuse bad input before it does."""

import json
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import urllib3
from kubernetes import config
from kubernetes.client import ApiClient, Configuration
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.exceptions import DynamicApiError, api_exception

from e2e import timing
from e2e.cluster.cap import Cap
from e2e.cluster.denied import is_no_verdict, why_denied
from e2e.cluster.pace import Pace, Patience, Pool
from e2e.errors import CannotRunError, UsageError
from e2e.provider.existing import LOOPBACK
from e2e.provider.kubeconfig import current_context, read_context, shown
from e2e.wait import wait_until

Object = dict[str, Any]
"""A Kubernetes object, or a Status, as decoded JSON."""

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"
FIELD_MANAGER = "nodeport-e2e"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
# What a server says that has not yet heard of as much as it is asked for.
TOO_EARLY = 504
# Each process asks a server once what it knows; kept in a file, that would be left behind, and
# could be of another cluster at the same address.
NO_FILE = f"{os.devnull}/discovery"


class ApiRefusedError(Exception):
    """The API server refused what a fixture asked for; holds its Status."""

    def __init__(self, asked: str, status: Object) -> None:
        said = f"{asked}: {status.get('code')} {status.get('message')}"
        why = why_denied(str(status.get("message")))
        super().__init__(f"{said}\n  {why}" if why else said)
        self.status = status


class NotInTimeError(CannotRunError):
    """The API server was asked, and nothing came back in time."""


class Answer(Object):
    """What the API server sent back, with the warnings that it put beside it."""

    warnings: Sequence[str] = ()


class Counting(ApiClient):  # type: ignore[misc]  # the library carries no types
    """The client of the library, which knows how many requests this process has sent by it."""

    sent = 0
    _lock = threading.Lock()

    def __init__(self, settings: Configuration) -> None:
        """Connect so that what was never sent can be told."""
        super().__init__(settings)
        manager = self.rest_client.pool_manager
        manager.pool_classes_by_scheme = {**manager.pool_classes_by_scheme, "https": Pool}

    def call_api(self, *args: Any, **kwargs: Any) -> Any:
        """Send one."""
        with Counting._lock:
            Counting.sent += 1
        return super().call_api(*args, **kwargs)


class Api:
    """One cluster's API server, through one kubeconfig and one context, never the user's default.

    Methods whose name is a verb raise `ApiRefusedError` when the server says no, and
    `CannotRunError` when it does not answer.
    """

    def __init__(
        self, kubeconfig: Path, context: str | None = None, *, secrets: Path | None = None
    ) -> None:
        """Connect.

        Args:
            kubeconfig: the file.
            context: in that file; its current one by default.
            secrets: a folder for files with the client's key, for as long as this process runs.

        Raises:
            UsageError: the file has no such context.
            CannotRunError: the API server does not answer.
        """
        self._cap, self._pace, self._patience = Cap(secrets), Pace(), Patience(secrets)
        settings = Configuration()
        settings.retries = False
        # A look from pods sends one request for each of its flows at the same time.
        settings.connection_pool_maxsize = 64
        try:
            with _plugin_heard() as complaints:
                config.load_kube_config(
                    str(kubeconfig),
                    context,
                    client_configuration=settings,
                    persist_config=False,  # a renewed token would be written into the user's file
                    temp_file_path=str(secrets) if secrets else None,
                )
        except ConfigException as error:
            raise UsageError(f"no context {context!r} in {kubeconfig}: {error}") from error
        if complaints:
            # The client library would go on as somebody without a name.
            said = _without_secrets(kubeconfig, context, "; ".join(complaints))
            raise CannotRunError(
                f"the credential plugin of {context or 'the context'} in {kubeconfig} brought "
                f"nothing: {said}",
                "run it by hand, or log in again as it asks for",
            )
        # No proxy reaches this machine's own loopback address; kubectl asks none for it either.
        if urlsplit(str(settings.host)).hostname in LOOPBACK and not _names_proxy(
            kubeconfig, context
        ):
            settings.proxy = None
        self.kubeconfig, self.context = str(kubeconfig), context
        self.server = shown(str(settings.host))
        try:
            self._client = DynamicClient(Counting(settings), cache_file=NO_FILE)
        except (urllib3.exceptions.HTTPError, ApiException, DynamicApiError) as error:
            raise self._no_answer(error) from error

    def submit(self, manifest: Mapping[str, Any], *, dry_run: bool = False) -> Answer:
        """Create an object; returns what the server stored, or the Status with which it refused.

        Raises:
            CannotRunError: the run would have too much in use; see `e2e.cluster.cap`.
        """
        namespace = manifest["metadata"].get("namespace")
        path = self._path(manifest["apiVersion"], manifest["kind"], None, namespace)
        if not dry_run:
            self._cap.demand_room(manifest)
        return self._counted(self._send("post", path, manifest, query=_dry(dry_run)), dry_run)

    def submit_whole(self, manifest: Mapping[str, Any], *, dry_run: bool = False) -> Answer:
        """Put an object in the place of the stored one, as `kubectl replace` does."""
        where = manifest["metadata"]
        path = self._path(
            manifest["apiVersion"], manifest["kind"], where["name"], where.get("namespace")
        )
        answer = self._send("put", path, manifest, query=_dry(dry_run))
        return self._caught_up(path, self._counted(answer, dry_run))

    def submit_applied(self, manifest: Mapping[str, Any]) -> Answer:
        """Apply an object on the server's side, and take every field from whoever has it."""
        where = manifest["metadata"]
        path = self._path(
            manifest["apiVersion"], manifest["kind"], where["name"], where.get("namespace")
        )
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        self._cap.demand_room(manifest)
        answer = self._send("patch", path, manifest, query=query, content_type=APPLY)
        return self._caught_up(path, self._counted(answer))

    def create(self, manifest: Mapping[str, Any]) -> Object:
        """Create an object and return what was stored."""
        name = manifest["metadata"].get("name")
        return _stored(f"create {manifest['kind']} {name}", self.submit(manifest))

    def submit_change(
        self,
        kind: str,
        name: str,
        change: Mapping[str, Any],
        namespace: str | None = None,
        *,
        how: str = MERGE,
        part: str = "",
        dry_run: bool = False,
    ) -> Answer:
        """Merge `change` into an object; returns the stored object or the refusing Status.

        Args:
            kind: of the object.
            name: likewise.
            change: what to merge.
            namespace: where the object is.
            how: MERGE, or STRATEGIC as `kubectl apply` does, which knows entries of a list by key.
            part: the subresource to change, such as `status`, `scale` or `eviction`.
            dry_run: change nothing, and say what would be stored.
        """
        path = self._path(*_kind(kind), name, namespace)
        whole = f"{path}/{part}" if part else path
        answer = self._send("patch", whole, change, query=_dry(dry_run), content_type=how)
        return self._caught_up(path, self._counted(answer, dry_run))

    def apply(self, manifest: Mapping[str, Any]) -> Object:
        """Apply an object on the server's side and return what was stored."""
        name = manifest["metadata"]["name"]
        return _stored(f"apply {manifest['kind']} {name}", self.submit_applied(manifest))

    def change(
        self,
        kind: str,
        name: str,
        change: Mapping[str, Any],
        namespace: str | None = None,
        *,
        how: str = MERGE,
        part: str = "",
    ) -> Object:
        """Merge `change` into an object, as `submit_change` does, and return what was stored."""
        answer = self.submit_change(kind, name, change, namespace, how=how, part=part)
        return _stored(f"change {kind} {name}", answer)

    def get(self, kind: str, name: str, namespace: str | None = None) -> Object:
        """Read one object."""
        return _stored(f"get {kind} {name}", self.find(kind, name, namespace))

    def find(self, kind: str, name: str, namespace: str | None = None) -> Object:
        """Read one object; returns it, or the Status that says why not."""
        return self._send("get", self._path(*_kind(kind), name, namespace))

    def find_all(
        self, kind: str, namespace: str | None = None, *, where: str = "", **labels: str
    ) -> list[Object]:
        """List objects, of all namespaces by default, that carry all these labels.

        Args:
            kind: of the objects.
            namespace: only those of this one.
            where: a field selector, such as `spec.type=NodePort`.
            labels: what they carry.
        """
        path = self._path(*_kind(kind), None, namespace)
        query = {"labelSelector": ",".join(f"{k}={v}" for k, v in labels.items())}
        query |= {"fieldSelector": where} if where else {}
        return list(_stored(f"list {kind}", self._send("get", path, query=query))["items"])

    def delete(
        self,
        kind: str,
        name: str,
        namespace: str | None = None,
        *,
        grace: int | None = None,
        version: str | None = None,
    ) -> bool:
        """Ask for the end of an object; False if there was none. Does not wait until it is gone.

        Args:
            kind: of the object.
            name: likewise.
            namespace: where it is.
            grace: seconds that a pod has to end; 0 forgets it without asking its node.
            version: the resource version that it must still have.
        """
        query = {"propagationPolicy": "Background"}
        query |= {} if grace is None else {"gracePeriodSeconds": str(grace)}
        path = self._path(*_kind(kind), name, namespace)
        still = {"kind": "DeleteOptions", "apiVersion": "v1"}
        body = {**still, "preconditions": {"resourceVersion": version}} if version else None
        answer = self._send("delete", path, body, query=query)
        if answer.get("code") == 404:
            self._cap.ended(kind, namespace, name)
            return False
        _stored(f"delete {kind} {name}", answer, success_is_status=True)
        self._cap.ended(kind, namespace, name)
        return True

    def delete_all(self, kind: str, namespace: str, **labels: str) -> None:
        """Ask for the end of all objects of a namespace that carry these labels."""
        query = {"labelSelector": ",".join(f"{k}={v}" for k, v in labels.items())}
        answer = self._send("delete", self._path(*_kind(kind), None, namespace), query=query)
        _stored(f"delete every {kind}", answer, success_is_status=True)
        self._cap.ended(kind, namespace, **labels)

    def events_of(
        self, kind: str, namespace: str, *, seconds: int, since: str = ""
    ) -> list[Object]:
        """Watch a namespace for so many seconds; gives what was told.

        Args:
            kind: of the objects.
            namespace: theirs.
            seconds: of the watch.
            since: the resource version after which it begins; by default what is there is told.
        """
        query = {"watch": "true", "timeoutSeconds": str(seconds), "resourceVersion": since}
        told = self._raw("get", f"{self._path(*_kind(kind), None, namespace)}?{urlencode(query)}")
        return [json.loads(line) for line in told.splitlines()]

    def snapshot(
        self, kind: str, namespace: str | None = None, *, where: str = ""
    ) -> tuple[list[Object], str]:
        """List objects, and the resource version after which `follow` tells what changes.

        It is not sent again: who follows asks anew by itself, and soon.
        """
        path = self._path(*_kind(kind), None, namespace)
        query = {"fieldSelector": where} if where else {}
        told = _stored(f"list {kind}", self._send("get", path, query=query, again=False))
        return list(told["items"]), str(told["metadata"]["resourceVersion"])

    def follow(
        self, kind: str, namespace: str | None = None, *, since: str, where: str = ""
    ) -> Iterator[Object]:
        """Give what is told of objects, as it happens, until the API server ends the watch.

        Raises:
            CannotRunError: the API server went away, or said nothing for a while.
            ApiRefusedError: it does not tell, or no longer what happened since then.
        """
        query = {"watch": "true", "resourceVersion": since, "allowWatchBookmarks": "true"}
        query |= {"fieldSelector": where} if where else {}
        query |= {"timeoutSeconds": str(timing.FOLLOW_FOR)}
        path = f"{self._path(*_kind(kind), None, namespace)}?{urlencode(query)}"
        answer = self._request("get", path, patience=timing.FOLLOW_LISTENS, again=False)
        rest = b""
        try:
            for chunk in answer.stream(65536):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    told = json.loads(line)
                    if told["type"] == "ERROR":
                        raise ApiRefusedError(f"follow {kind}", told["object"])
                    yield told
        except urllib3.exceptions.HTTPError as error:
            raise self._no_answer(error) from error
        finally:
            answer.close()

    def is_ready(self) -> bool:
        """Whether the API server says that it is ready, and says so soon."""
        try:
            answer = self._request("get", "/readyz", patience=timing.READY_ANSWER, again=False)
        except CannotRunError:
            return False
        except DynamicApiError as error:
            # Who may not ask has been answered by one that is there.
            return error.status in (401, 403)
        return bool(answer.data == b"ok")

    def table(self, kind: str, namespace: str) -> list[dict[str, str]]:
        """List objects as `kubectl get` prints them: one dict of column and cell a row."""
        answer = self._send("get", self._path(*_kind(kind), None, namespace), accept=TABLE)
        names = [column["name"] for column in _stored(f"table {kind}", answer)["columnDefinitions"]]
        return [dict(zip(names, map(str, row["cells"]), strict=True)) for row in answer["rows"]]

    def ask_pod(
        self, pod: str, namespace: str, port: int, path: str, query: Mapping[str, str]
    ) -> str:
        """Send a GET to a pod through the API server and return the body.

        Raises:
            NotInTimeError: neither said anything within `timing.API_REQUEST`.
        """
        target = self._path("v1", "Pod", f"{pod}:{port}", namespace)
        # What it says is a part of what is looked at, so it is not asked again.
        asked = f"{target}/proxy{path}?{urlencode(query)}"
        return bytes(self._request("get", asked, again=False).data).decode()

    def logs(self, pod: str, namespace: str, *, lines: int = 0) -> str:
        """The last lines that a pod's only container wrote, or all of them."""
        last = f"?tailLines={lines}" if lines else ""
        path = f"{self._path('v1', 'Pod', pod, namespace)}/log{last}"
        return self._read(f"logs of {pod}", path).decode(errors="replace")

    def metrics(self) -> str:
        """What the API server counts and measures of itself, as text for Prometheus."""
        return self._read("the API server's metrics", "/metrics").decode()

    def version(self) -> str:
        """The server's version, such as v1.37.2."""
        return str(json.loads(self._read("the version", "/version"))["gitVersion"])

    def clock_ahead(self) -> float:
        """By how many seconds its clock is ahead of this machine's, or behind if below 0.

        What HTTP's Date, in whole seconds, cannot tell from none is none.
        """
        try:
            said = self._request("get", "/version").headers.get("Date")
        except DynamicApiError as error:
            raise ApiRefusedError("the time", _status_of(error)) from error
        ahead = parsedate_to_datetime(said).timestamp() - time.time() if said else 0.0
        return ahead if abs(ahead) > timing.CLOCKS_DIFFER else 0.0

    def _read(self, asked: str, path: str) -> bytes:
        try:
            return self._raw("get", path)
        except DynamicApiError as error:
            raise ApiRefusedError(asked, _status_of(error)) from error

    def _counted(self, answer: Answer, dry_run: bool = False) -> Answer:
        if not dry_run:
            self._cap.made(answer)
        return answer

    def _caught_up(self, path: str, answer: Answer) -> Answer:
        """Wait until the API server itself has heard of a Service that it stored; gives that.

        It begins a change with what it has heard last. Where that is out of date it changes the
        allocation of node ports twice; see docs/findings.md.
        """
        if answer.get("kind") == "Service":
            version = {"resourceVersion": answer["metadata"]["resourceVersion"]}
            wait_until(
                lambda: self._send("get", path, query=version).get("code") != TOO_EARLY,
                what=f"the API server to hear of {path}",
                within=timing.TOLD_WITHIN,
            )
        return answer

    def _path(self, version: str, kind: str, name: str | None, namespace: str | None) -> str:
        # The first of a group asks the server what is in it.
        try:
            resource = self._persistently(
                lambda: self._client.resources.get(api_version=version, kind=kind), "get"
            )
        except DynamicApiError as error:
            raise ApiRefusedError(f"what {version} has", _status_of(error)) from error
        root = resource.urls["namespaced_base" if namespace else "base"]
        base: str = root.format(namespace=namespace) if namespace else root
        return f"{base}/{name}" if name else base

    def _send(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        again: bool = True,
    ) -> Answer:
        full = f"{path}?{urlencode(query)}" if query else path
        # Of an eviction 429 is the answer: a budget of disruptions has no room.
        again = again and not path.endswith("/eviction")
        try:
            response = self._request(method, full, body, content_type, accept, again=again)
        except DynamicApiError as error:
            try:
                return Answer(json.loads(error.body))
            except (TypeError, ValueError):
                raise self._no_answer(error) from error
        answer = Answer(json.loads(response.data))
        answer.warnings = [
            re.sub(r"\\(.)", r"\1", said.partition('"')[2].rpartition('"')[0])
            for said in response.headers.getlist("Warning")
        ]
        return answer

    def _raw(self, method: str, path: str) -> bytes:
        return bytes(self._request(method, path).data)

    def _request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        *,
        patience: float = timing.API_REQUEST,
        again: bool = True,
    ) -> Any:
        def send() -> Any:
            self._pace.keep()
            began = time.monotonic()
            answer = self._client.request(
                method,
                path,
                body=body,
                content_type=content_type,
                header_params={"Accept": accept},
                serialize=False,
                _request_timeout=patience,
            )
            # A watch, and what is asked of a pod, takes as long as they want.
            waited = time.monotonic() - began if again and "watch=" not in path else 0.0
            self._patience.answered(waited)
            return answer

        return self._persistently(send, method, again=again)

    def _persistently(self, send: Callable[[], Any], method: str, *, again: bool = True) -> Any:
        """Send a request, and again if that is worth it and wanted; see `e2e.cluster.pace`."""
        began, asked = time.monotonic(), 0
        while True:
            asked += 1
            try:
                answer = send()
            except (urllib3.exceptions.HTTPError, DynamicApiError, ApiException) as error:
                if not again:
                    self._patience.missed(error)
                elif self._patience.again(error, method, asked, began):
                    continue
                if isinstance(error, ApiException):
                    raise api_exception(error) from error
                if isinstance(error, DynamicApiError):
                    raise
                raise self._no_answer(error) from error
            return answer

    def _no_answer(self, error: Exception) -> CannotRunError:
        # The library's own words have a stack trace, and begin with the number 0.
        said = error.reason if isinstance(error, ApiException) else error
        words, server = " ".join(str(said).split()), getattr(self, "server", "")
        if (status := getattr(error, "status", None)) in (401, 403):
            return CannotRunError(
                f"the API server {server} lets nobody in with these credentials: {status} {words}",
                "log in anew, or give this user what docs/safety.md says",
            )
        late = isinstance(error, urllib3.exceptions.ReadTimeoutError)
        return (NotInTimeError if late else CannotRunError)(
            f"the API server {server} does not answer: {words}",
            "look whether the cluster runs and whether this machine may reach it",
        )


def judged(asked: str, answer: Object) -> Object:
    """An answer by which a server may be judged.

    Raises:
        ApiRefusedError: permissions, quotas or somebody's admission rules refused, or what is
            needed for an answer was away, and not what Kubernetes itself says of such an object.
    """
    said, code = str(answer.get("message")), answer.get("code")
    if answer.get("kind") == "Status" and is_no_verdict(said, code):
        raise ApiRefusedError(asked, answer)
    return answer


KINDS = {
    "ClusterRole": "rbac.authorization.k8s.io/v1",
    "ClusterRoleBinding": "rbac.authorization.k8s.io/v1",
    "ConfigMap": "v1",
    "DaemonSet": "apps/v1",
    "Deployment": "apps/v1",
    "Endpoints": "v1",
    "EndpointSlice": "discovery.k8s.io/v1",
    "Event": "v1",
    "Job": "batch/v1",
    "Lease": "coordination.k8s.io/v1",
    "Namespace": "v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "Node": "v1",
    "Pod": "v1",
    "PodDisruptionBudget": "policy/v1",
    "Service": "v1",
    "ServiceAccount": "v1",
}


def names_by(items: Iterable[Object], notes: str, key: str) -> dict[str, list[str]]:
    """The names of objects by the value of one of their `labels` or `annotations`."""
    found: dict[str, list[str]] = {}
    for item in items:
        if value := item["metadata"].get(notes, {}).get(key):
            found.setdefault(value, []).append(item["metadata"]["name"])
    return found


@contextmanager
def _plugin_heard() -> Iterator[list[str]]:
    """What the client library only logs when a credential plugin fails, and then goes on."""
    complaints: list[str] = []

    class Heard(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.module == "kube_config":
                complaints.append(" ".join(record.getMessage().split()))

    root, heard = logging.getLogger(), Heard(logging.ERROR)
    root.addHandler(heard)
    try:
        yield complaints
    finally:
        root.removeHandler(heard)


def _names_proxy(kubeconfig: Path, context: str | None) -> bool:
    try:
        return bool(context) and read_context(kubeconfig, str(context)).is_proxied
    except UsageError:
        return False


def _without_secrets(kubeconfig: Path, context: str | None, said: str) -> str:
    try:
        return read_context(kubeconfig, context or current_context(kubeconfig)).without_secrets(
            said
        )
    except UsageError:
        return "what it said may not be shown"


def _status_of(error: DynamicApiError) -> Object:
    """The Status that a refusal has as its body; else what is known of it."""
    try:
        said = json.loads(error.body)
    except (TypeError, ValueError):
        said = None
    if isinstance(said, dict) and said.get("kind") == "Status":
        return said
    return {"code": error.status, "message": error.reason}


def _dry(dry_run: bool) -> dict[str, str]:
    return {"dryRun": "All"} if dry_run else {}


def _kind(kind: str) -> tuple[str, str]:
    return KINDS[kind], kind


def _stored(asked: str, answer: Object, *, success_is_status: bool = False) -> Object:
    refused = answer.get("kind") == "Status" and answer.get("status") != "Success"
    if refused or (answer.get("kind") == "Status" and not success_is_status):
        raise ApiRefusedError(asked, answer)
    return answer
