"""What happens in a cluster, as it happens, also across times when its API server is away."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import yaml
from kubernetes.dynamic.exceptions import DynamicApiError

from e2e import timing
from e2e.cluster.api import Api, ApiRefusedError, Object
from e2e.cluster.node import OF_NODES, addresses_of, conditions, is_ready
from e2e.errors import StopError, UsageError
from e2e.wait import pause

KINDS = {
    "node-added": "a node joined",
    "node-removed": "a node was removed",
    "node-ready": "a node is Ready",
    "node-not-ready": "a node is not Ready",
    "node-restarted": "a node came back with another boot id",
    "node-address": "a node has another address",
    "cordoned": "a node takes no new pods",
    "uncordoned": "a node takes new pods again",
    "kubelet-version": "a node's kubelet has another version",
    "kubelet-started": "a kubelet said that it starts",
    "proxy-started": "a kube-proxy said that it starts",
    "proxy-mode": "kube-proxy was told another mode",
    "pod-added": "a pod was placed on a node",
    "pod-started": "a container of a pod began to run",
    "pod-ready": "a pod is Ready",
    "pod-not-ready": "a pod is no longer Ready",
    "pod-terminating": "a pod was told to end",
    "pod-gone": "a pod is gone",
    "endpoints": "the ready endpoints of a Service are others",
    "lease-idle": "nobody has renewed a lease for a while",
    "lease-held": "a lease is renewed again, or by somebody else",
    "api-away": "the API server does not say that it is ready",
    "api-back": "it does again",
    "api-other": "it is of another cluster than was prepared, and nothing of it is told",
    "command-started": "the command that is watched began",
    "step": "it said what it does next",
    "command-ended": "it ended",
}


class OtherClusterError(UsageError):
    """The context leads to another cluster than the one that was prepared."""


AWAY = (StopError, ApiRefusedError, DynamicApiError, KeyError, TypeError, ValueError)
# Worth telling also of what is so when a watch begins.
NOT_AS_USUAL = {"node-not-ready", "cordoned"}
LEADERS = ("kube-controller-manager", "kube-scheduler")
PROXY_CONFIG = "metadata.name=kube-proxy"
SYSTEM = "kube-system"


@dataclass(frozen=True)
class Happening:
    """Something that happened.

    Attributes:
        kind: one of `KINDS`.
        node: on which node, if on one.
        name: of the object, after its namespace where it has one.
        said: more, for the reader.
        lasted: seconds for which it had been so, where it is the end of something.
    """

    kind: str
    node: str = ""
    name: str = ""
    said: str = ""
    lasted: float | None = None


Tell = Callable[[Happening], None]
"""What is called with each."""


@dataclass(frozen=True)
class Roll:
    """The nodes that a cluster has.

    Attributes:
        there: the names of all of them.
        ready: the addresses by IP family of those that are Ready, by their names.
    """

    there: frozenset[str]
    ready: Mapping[str, Mapping[str, str]]


def roll_of(nodes: Iterable[Object]) -> Roll:
    """Call the roll."""
    every = {_key(node): node for node in nodes}
    return Roll(
        frozenset(every),
        {name: addresses_of(node) for name, node in every.items() if is_ready(node)},
    )


class Differences(Protocol):
    """What is worth telling of an object that came, changed or went."""

    def __call__(self, before: Object | None, now: Object | None) -> Iterator[Happening]:
        """Compare; none before if it came, none now if it went."""
        ...


def of_node(before: Object | None, now: Object | None) -> Iterator[Happening]:
    """What became of a node."""
    name = str((now or before or {})["metadata"]["name"])
    if now is None:
        yield Happening("node-removed", name, name)
        return
    ready, versions = _condition(now), now["status"].get("nodeInfo", {})
    version = str(versions.get("kubeletVersion", ""))
    if before is None:
        yield Happening("node-added", name, name, version)
        if ready != "True":
            yield Happening("node-not-ready", name, name, ready or "Unknown")
        if now["spec"].get("unschedulable"):
            yield Happening("cordoned", name, name)
        return
    old = before["status"].get("nodeInfo", {})
    if (was := _condition(before)) != ready and "True" in (was, ready):
        kind = "node-ready" if ready == "True" else "node-not-ready"
        yield Happening(kind, name, name, "" if ready == "True" else f"Ready is {ready}")
    if (shut := bool(now["spec"].get("unschedulable"))) != bool(
        before["spec"].get("unschedulable")
    ):
        yield Happening("cordoned" if shut else "uncordoned", name, name)
    if version != old.get("kubeletVersion"):
        said = f"{old.get('kubeletVersion')} -> {version}"
        yield Happening("kubelet-version", name, name, said)
    if versions.get("bootID") != old.get("bootID"):
        yield Happening("node-restarted", name, name)
    had, has = addresses_of(before), addresses_of(now)
    if had and has and had != has:
        was_at, is_at = (" ".join(each.values()) for each in (had, has))
        yield Happening("node-address", name, name, f"{was_at} -> {is_at}")


def of_pod(before: Object | None, now: Object | None) -> Iterator[Happening]:
    """What became of a pod."""
    pod: Object = now or before or {}
    where = pod["metadata"]
    name = f"{where['namespace']}/{where['name']}"
    node = str(pod["spec"].get("nodeName", ""))
    if now is None:
        yield Happening("pod-gone", node, name)
        return
    # A static pod that is made again has the name of the one before.
    if before and before["metadata"]["uid"] != where["uid"]:
        yield Happening("pod-gone", node, name, "another of the same name follows")
        before = None
    if node and not (before and before["spec"].get("nodeName")):
        yield Happening("pod-added", node, name)
    before = before or {"metadata": {}, "status": {}}
    started = set(_starts(now)) - set(_starts(before))
    if started:
        yield Happening("pod-started", node, name, ", ".join(sorted(name for name, _ in started)))
    ready, was = _condition(now) == "True", _condition(before) == "True"
    if ready != was:
        yield Happening("pod-ready" if ready else "pod-not-ready", node, name)
    if where.get("deletionTimestamp") and not before["metadata"].get("deletionTimestamp"):
        grace = where.get("deletionGracePeriodSeconds")
        yield Happening("pod-terminating", node, name, f"has {grace} s")


def of_slice(before: Object | None, now: Object | None) -> Iterator[Happening]:
    """What became of an EndpointSlice."""
    was, has = _ready_endpoints(before), _ready_endpoints(now)
    if was != has:
        where = (now or before or {})["metadata"]
        service = where.get("labels", {}).get("kubernetes.io/service-name", where["name"])
        gone, new = sorted(was - has), sorted(has - was)
        parts = [f"+{', '.join(new)}" if new else "", f"-{', '.join(gone)}" if gone else ""]
        said = " ".join([*filter(None, parts), f"({len(has)} ready)"])
        yield Happening("endpoints", "", f"{where['namespace']}/{service}", said)


def of_proxy_config(before: Object | None, now: Object | None) -> Iterator[Happening]:
    """What became of kube-proxy's configuration."""
    if before and now and (was := _mode(before)) != (mode := _mode(now)):
        yield Happening("proxy-mode", "", f"{SYSTEM}/kube-proxy", f"{was} -> {mode}")


def of_event(before: Object | None, now: Object | None) -> Iterator[Happening]:
    """What an Event of a node says that nothing else does."""
    if before or not now or now.get("reason") != "Starting":
        return
    by = str(now.get("reportingComponent") or now.get("source", {}).get("component", ""))
    node = str(now["involvedObject"]["name"])
    kind = {"kubelet": "kubelet-started", "kube-proxy": "proxy-started"}.get(by)
    if kind:
        yield Happening(kind, node, by, str(now.get("message", "")))


def of_lease(before: Object | None, now: Object | None) -> Iterator[Happening]:
    """What became of a leader's lease.

    Who is between two holders did nothing: not from the last renewal of the one to the first of
    the other, both by the cluster's clock.
    """
    if not before or not now or now["metadata"]["name"] not in LEADERS:
        return
    name = str(now["metadata"]["name"])
    was, has = before["spec"].get("holderIdentity"), now["spec"].get("holderIdentity")
    lasted = _moment(now) - _moment(before)
    if was != has and has:
        held = f"held by {has}" + (f", after {was}" if was else "")
        yield Happening("lease-held", "", name, held, max(lasted, 0.0))
    elif lasted > timing.LEASE_IDLE_AFTER:
        yield Happening("lease-held", "", name, f"renewed by {has}", lasted)


@dataclass(frozen=True)
class _Followed:
    kind: str
    namespace: str | None
    differences: Differences
    where: str = ""


@dataclass
class Happenings:
    """Follows a cluster in threads of its own, from `start` to `stop`.

    Attributes:
        kubeconfig: the file.
        context: in that file.
        cluster: the UID of its namespace kube-system; another one is not followed.
        namespace: of the watched workloads.
        tell: what is called with each happening, from any thread, and never by two at once.
        called: is given the roll of nodes whenever one of them changed, likewise.
    """

    kubeconfig: Path
    context: str | None
    cluster: str
    namespace: str
    tell: Tell
    called: Callable[[Roll], None] = lambda _: None
    _stop: threading.Event = field(default_factory=threading.Event)
    _telling: threading.Lock = field(default_factory=threading.Lock)
    _connecting: threading.Lock = field(default_factory=threading.Lock)
    _api: Api | None = None
    _renewed: dict[str, float] = field(default_factory=dict)

    def start(self) -> None:
        """Begin; an API server that is away is waited for."""
        self._run(self._probe)
        for followed in (
            _Followed("Node", None, of_node),
            _Followed("Pod", SYSTEM, of_pod),
            _Followed("Pod", self.namespace, of_pod),
            _Followed("EndpointSlice", self.namespace, of_slice),
            _Followed("Lease", SYSTEM, of_lease),
            _Followed("ConfigMap", SYSTEM, of_proxy_config, PROXY_CONFIG),
            _Followed("Event", "default", of_event, OF_NODES),
        ):
            self._run(self._follow, followed)

    def stop(self) -> None:
        """Tell nothing more; threads that wait for an answer are left behind."""
        with self._telling:
            self._stop.set()

    def _run(self, work: Callable[..., None], *args: Any) -> None:
        threading.Thread(target=work, args=args, daemon=True).start()

    def _tell(self, happening: Happening) -> None:
        with self._telling:
            if not self._stop.is_set():
                self.tell(happening)

    def _connected(self) -> Api:
        with self._connecting:
            if self._api is None:
                api = Api(self.kubeconfig, self.context)
                met = api.find("Namespace", SYSTEM)["metadata"].get("uid")
                # Who may not read it has to know which cluster it is.
                if met and met != self.cluster:
                    raise OtherClusterError(f"{api.server} is not the cluster that was prepared")
                self._api = api
            return self._api

    def _probe(self) -> None:
        """Ask whether the API server is ready, and tell when that changes."""
        ready, since, said = True, time.monotonic(), ""
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                now = self._connected().is_ready()
            except OtherClusterError as error:
                self._tell(Happening("api-other", said=error.what))
                self.stop()
                return
            except AWAY as error:
                now, said = False, str(error).partition("\n")[0][:200]
            if now != ready:
                lasted = time.monotonic() - since
                self._tell(
                    Happening("api-back", lasted=lasted)
                    if now
                    else Happening("api-away", said=said)
                )
                ready, since = now, began
            elif ready:
                self._look_for_idle_leases(since)
            pause(self._stop, timing.READY_EVERY)

    def _look_for_idle_leases(self, ready_since: float) -> None:
        for name, renewed in list(self._renewed.items()):
            idle = time.monotonic() - max(renewed, ready_since)
            if idle > timing.LEASE_IDLE_AFTER:
                del self._renewed[name]
                said = f"not renewed for {idle:.0f} s"
                self._tell(Happening("lease-idle", "", name, said, lasted=idle))

    def _follow(self, what: _Followed) -> None:
        """Tell what changes; what was missed while nothing was told is found by comparing."""
        known: dict[str, Object] | None = None
        while not self._stop.is_set():
            # An answer that makes no sense comes from a proxy in between, and passes.
            with suppress(
                StopError, ApiRefusedError, DynamicApiError, KeyError, TypeError, ValueError
            ):
                api = self._connected()
                items, version = api.snapshot(what.kind, what.namespace, where=what.where)
                listed = {_key(item): item for item in items}
                known = self._compare(what, known, listed)
                self._call(what, known)
                for told in api.follow(what.kind, what.namespace, since=version, where=what.where):
                    if self._stop.is_set():
                        return
                    self._take(what, known, told)
                    self._call(what, known)
            pause(self._stop, timing.FOLLOW_AGAIN)

    def _call(self, what: _Followed, known: Mapping[str, Object]) -> None:
        if what.kind == "Node":
            roll = roll_of(known.values())
            with self._telling:
                if not self._stop.is_set():
                    self.called(roll)

    def _compare(
        self, what: _Followed, known: dict[str, Object] | None, listed: dict[str, Object]
    ) -> dict[str, Object]:
        if known is None:
            for item in listed.values():
                for happening in what.differences(None, item):
                    if happening.kind in NOT_AS_USUAL:
                        self._tell(happening)
            return listed
        for key in known.keys() - listed.keys():
            self._differ(what, known[key], None)
        for key, item in listed.items():
            self._differ(what, known.get(key), item)
        return listed

    def _take(self, what: _Followed, known: dict[str, Object], told: Object) -> None:
        if told["type"] == "BOOKMARK":
            return
        item = told["object"]
        key = _key(item)
        if told["type"] == "DELETED":
            self._differ(what, known.pop(key, None) or item, None)
        else:
            self._differ(what, known.get(key), item)
            known[key] = item

    def _differ(self, what: _Followed, before: Object | None, now: Object | None) -> None:
        if now and what.differences is of_lease and before != now and _key(now) in LEADERS:
            self._renewed[_key(now)] = time.monotonic()
        for happening in what.differences(before, now):
            self._tell(happening)


def _key(item: Mapping[str, Any]) -> str:
    return str(item["metadata"]["name"])


def _condition(item: Object) -> str:
    """What an object's condition Ready is; empty if it has none."""
    return next((str(c["status"]) for c in conditions(item) if c["type"] == "Ready"), "")


def _starts(pod: Object) -> Iterator[tuple[str, str]]:
    """The containers of a pod that run, and since when."""
    for status in pod.get("status", {}).get("containerStatuses") or []:
        if running := status.get("state", {}).get("running"):
            yield str(status["name"]), str(running.get("startedAt"))


def _ready_endpoints(told: Object | None) -> set[str]:
    if told is None:
        return set()
    return {
        str((endpoint.get("targetRef") or {}).get("name") or endpoint["addresses"][0])
        for endpoint in told.get("endpoints") or []
        if endpoint.get("conditions", {}).get("ready") is not False
    }


def _mode(config: Object) -> str:
    text = config.get("data", {}).get("config.conf", "")
    return str((yaml.safe_load(text) or {}).get("mode") or "its default")


def _moment(lease: Object) -> float:
    """When a lease was renewed last, by the cluster's clock."""
    return datetime.fromisoformat(lease["spec"]["renewTime"]).timestamp()
