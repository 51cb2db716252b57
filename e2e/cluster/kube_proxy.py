"""kube-proxy on the nodes: what it says of itself, and what may be done to it."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import yaml

from e2e import timing
from e2e.cluster.api import Api, Object
from e2e.cluster.node import Node, is_ready
from e2e.cluster.undo import Undo
from e2e.cluster.vantage import PodVantage
from e2e.errors import CannotRunError, ProbeBrokenError
from e2e.provider.command import CommandFailedError
from e2e.wait import wait_until

NAMESPACE, NAME = "kube-system", "kube-proxy"
HEALTH, METRICS = 10256, 10249
# A process that is frozen does not answer; one that runs does at once.
PATIENCE = 3
STATUS = re.compile(r"(.*)\n(\d{3})", re.DOTALL)
FAILURES = re.compile(r"^kubeproxy_sync_proxy_rules_\w+_failures_total(?:\{.*\})? (\S+)", re.M)
SYNCS = re.compile(r"^kubeproxy_sync_proxy_rules_duration_seconds_count(?:\{.*\})? (\S+)", re.M)

FREEZE, THAW = "pkill -STOP -x kube-proxy", "pkill -CONT -x kube-proxy || true"
# kube-proxy's own programs, as a node may have others.
ENTER = 'pid=$(pidof kube-proxy) && enter="nsenter --mount --target $pid"'
# When a connection is still there.
STAYED = 95
# Its connections to the API server; a frozen process does not learn that they have ended.
CUT = f"""
ports=$(ss -tnpH | grep '"kube-proxy"' | awk '{{print $4}}' | sed 's/.*://')
test -n "$ports"
for port in $ports; do
  ss -K "sport = :$port" >/dev/null 2>&1 || true
  if ss -tnH "sport = :$port" | grep ESTAB; then exit {STAYED}; fi
done
"""
FORGET = f"""
{ENTER}
for family in ip ip6; do
  $enter nft delete table $family kube-proxy 2>/dev/null || true
  for table in nat filter mangle; do
    rules=$($enter ${{family}}tables-save -t $table)
    if echo "$rules" | grep -q KUBE-PROXY-CANARY; then
      echo "$rules" | grep -v KUBE- | $enter ${{family}}tables-restore -T $table
    fi
  done
done
"""
# Prints each mode of which there are rules.
MODES = f"""
{ENTER}
if $enter iptables-save -t nat | grep -q KUBE-PROXY-CANARY; then echo iptables; fi
if $enter nft list tables | grep -q kube-proxy; then echo nftables; fi
"""
# It would write its rules when something changes, or not at all.
REMEMBER = f'test -n "$({MODES})" || pkill -TERM -x kube-proxy'
MODE = re.compile(r"^mode: .*$", re.MULTILINE)
KUBECTL = "kubectl --kubeconfig=/etc/kubernetes/admin.conf --namespace=kube-system"
PROGRAMS = r"/proc/$(pidof kube-proxy)/root/usr/sbin -name nft -o -name 'xtables-*-multi'"


class NotCutError(CannotRunError):
    """The kernel does not end the connections of another process."""


@dataclass(frozen=True)
class Said:
    """What kube-proxy said when it was asked.

    Attributes:
        status: the HTTP status; 0 if it did not answer.
        text: the body.
    """

    status: int
    text: str

    @property
    def facts(self) -> dict[str, Any]:
        """The body as JSON."""
        return dict(json.loads(self.text))


@dataclass(frozen=True)
class Counts:
    """What one kube-proxy has counted since it was started, over all its IP families.

    Attributes:
        syncs: how often it has written rules.
        failures: how often that failed, in whatever way.
    """

    syncs: int
    failures: int


class KubeProxy:
    """kube-proxy on every node, each a pod of a DaemonSet as kubeadm makes it."""

    def __init__(self, api: Api, hosts: Mapping[str, PodVantage], undo: Undo | None) -> None:
        """Ask from the host network of each node, by its name; `undo` undoes what is done."""
        self.api = api
        self._hosts = hosts
        self._undo = undo

    def says(
        self, node: Node, path: str, *, port: int = HEALTH, address: str = "localhost"
    ) -> Said:
        """Ask the one on a node, from that node."""
        host = f"[{address}]" if ":" in address else address
        said = self._hosts[node.name].run(
            f"curl -s -m {PATIENCE} -w '\\n%{{http_code}}' http://{host}:{port}{path}"
        )
        found = STATUS.fullmatch(said)
        if not found:
            raise ProbeBrokenError(f"kube-proxy on {node}: curl said {said[-300:]!r}")
        return Said(int(found[2]), found[1].strip())

    def counts(self, node: Node) -> Counts:
        """What the one on a node has counted."""
        return count(self.says(node, "/metrics", port=METRICS).text)

    def mode(self, node: Node) -> str:
        """The mode that the one on a node says it has."""
        return self.says(node, "/proxyMode", port=METRICS).text

    def modes_with_rules(self, node: Node) -> list[str]:
        """The modes of which there are rules on a node of ours."""
        return self._on(node, MODES).split()

    def restart(self, *nodes: Node) -> None:
        """End those on these nodes, and wait until others run in their places."""
        with self._replaced(*nodes) as old:
            for pod in old:
                self.api.delete("Pod", pod, NAMESPACE, grace=1)

    @contextmanager
    def _replaced(self, *nodes: Node) -> Iterator[set[str]]:
        """Give the pods that there are, and wait at the end for others in their places."""
        old = {pod["metadata"]["name"] for node in nodes for pod in self._pods(node)}
        yield old
        for node in nodes:
            wait_until(
                lambda node=node: any(  # type: ignore[misc]
                    is_ready(pod) and pod["metadata"]["name"] not in old for pod in self._pods(node)
                ),
                what=f"another kube-proxy on {node}",
                within=timing.PODS_READY_WITHIN,
            )

    @contextmanager
    def in_mode(self, mode: str, node: Node, *, told_on: Node) -> Iterator[None]:
        """Let the one on a node run in another mode than all others while the context lasts.

        Args:
            mode: the other one.
            node: where it runs.
            told_on: a control plane, from which all is undone.
        """
        with self.configured({"mode": mode}, node, told_on=told_on):
            yield

    @contextmanager
    def configured(
        self, settings: Mapping[str, Any], *nodes: Node, told_on: Node
    ) -> Iterator[None]:
        """Let those on these nodes run with other settings while the context lasts.

        All others go on with those that they were started with, for a minute at least.

        Args:
            settings: in the shape of kube-proxy's configuration.
            nodes: where they run.
            told_on: a control plane, from which all is undone.
        """
        told = self.api.get("ConfigMap", NAME, NAMESPACE)["data"]["config.conf"]
        before = json.dumps({"data": {"config.conf": told}})
        config = yaml.safe_dump(_merged(yaml.safe_load(told), settings))
        undoing = [f"{KUBECTL} patch configmap {NAME} --type=merge --patch={shlex.quote(before)}"]
        undoing += [
            f"{KUBECTL} delete pod --selector=k8s-app={NAME} --wait=false --grace-period=1"
            f" --field-selector=spec.nodeName={node.name}"
            for node in nodes
        ]
        script = " && ".join(undoing)
        with ExitStack() as restored:
            restored.enter_context(self.undo.afterwards("exec", told_on.name, "sh", "-c", script))
            self.api.change("ConfigMap", NAME, {"data": {"config.conf": config}}, NAMESPACE)
            self.restart(*nodes)
            yield
            with self._replaced(*nodes):
                restored.close()

    @contextmanager
    def frozen(self, *nodes: Node) -> Iterator[None]:
        """Let those on these nodes do nothing while the context lasts."""
        with ExitStack() as thawed:
            for node in nodes:
                thawed.enter_context(self.undo.afterwards("exec", node.name, "sh", "-c", THAW))
                self._on(node, FREEZE)
            yield

    def cut_off(self, node: Node) -> None:
        """End the connections of the one on a node with the API server; it opens new ones.

        Raises:
            NotCutError: the kernel does not end connections of others.
        """
        try:
            self._on(node, CUT)
        except CommandFailedError as error:
            if error.code != STAYED:
                raise
            raise NotCutError(
                "the kernel does not end the connections of another process",
                "use one that was built with CONFIG_INET_DIAG_DESTROY",
            ) from error

    @contextmanager
    def forgetting_rules(self, node: Node) -> Iterator[None]:
        """Delete all rules of the one on a node, which is told nothing of it."""
        with self.undo.afterwards("exec", node.name, "sh", "-c", REMEMBER):
            self._on(node, FORGET)
            yield

    @contextmanager
    def unable_to_write(self, node: Node) -> Iterator[None]:
        """Let every sync of the one on a node fail while the context lasts."""
        allow = f"find {PROGRAMS} | xargs chmod a+x"
        with self.undo.afterwards("exec", node.name, "sh", "-c", allow):
            self._on(node, f"find {PROGRAMS} | xargs chmod a-x")
            yield

    @property
    def undo(self) -> Undo:
        """What undoes changes of nodes, which only nodes of ours have."""
        assert self._undo is not None
        return self._undo

    def _on(self, node: Node, script: str) -> str:
        return self.undo.engine.run("exec", node.name, "sh", "-ec", script)

    def _pods(self, node: Node) -> list[Object]:
        where = f"spec.nodeName={node.name}"
        return self.api.find_all("Pod", NAMESPACE, where=where, **{"k8s-app": NAME})


def _merged(settings: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**settings}
    for key, value in others.items():
        before = settings.get(key)
        deeper = isinstance(value, Mapping) and isinstance(before, Mapping)
        merged[key] = _merged(before, value) if deeper else value  # type: ignore[arg-type]
    return merged


def count(metrics: str) -> Counts:
    """Read the metrics of one kube-proxy, in which a failure that never came may be missing.

    Raises:
        ProbeBrokenError: there is not one sync among them.
    """
    syncs = [float(number) for number in SYNCS.findall(metrics)]
    if not syncs:
        raise ProbeBrokenError(f"no metrics of kube-proxy: {metrics[:200]!r}")
    return Counts(int(sum(syncs)), int(sum(map(float, FAILURES.findall(metrics)))))
