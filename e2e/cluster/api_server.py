"""The API servers of a kind cluster, and what may be done to them."""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from e2e import timing
from e2e.cluster.node import Node
from e2e.cluster.undo import Undo
from e2e.provider.command import CommandFailedError
from e2e.wait import wait_until

MANIFEST = "/etc/kubernetes/manifests/kube-apiserver.yaml"
BEFORE = "/etc/kubernetes/kube-apiserver.before"
PROCESS = "pidof kube-apiserver || true"
READY = "curl -sfk -m 2 https://localhost:6443/readyz >/dev/null"
FREEZE, THAW = "pkill -STOP -x kube-apiserver", "pkill -CONT -x kube-apiserver || true"
# One that is asked to end takes half a minute over its open watches.
KILL = "pkill -KILL -x kube-apiserver"
# What ends while no API server answers, as those that lead do, is started again by a kubelet that
# waits longer each time, up to five minutes, and forgets that ten minutes later, or when it starts.
START_WHAT_ENDED = "systemctl restart kubelet && curl -sf --retry 60 --retry-connrefused \
--retry-delay 1 -o /dev/null localhost:10248/healthz"
RESTORE = f"if test -e {BEFORE}; then mv {BEFORE} {MANIFEST}; {KILL} || true; fi"


class ApiServers:
    """Every API server of a cluster whose control planes are containers of ours."""

    def __init__(self, control_planes: Sequence[Node], undo: Undo) -> None:
        """Take the nodes on which they run, and what undoes what is done to them."""
        self._nodes = control_planes
        self._undo = undo

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let none of them say anything while the context lasts."""
        with ExitStack() as thawed:
            for node in self._nodes:
                thawed.enter_context(self._undo.afterwards("exec", node.name, "sh", "-c", THAW))
                self._on(node, FREEZE)
            yield

    def restart(self) -> None:
        """Kill them, and wait until others answer in their places."""
        with self._replaced():
            for node in self._nodes:
                self._on(node, KILL)

    def start_what_ended(self) -> None:
        """Let no kubelet wait before it starts what ended beside them, now or the next time."""
        for node in self._nodes:
            self._on(node, START_WHAT_ENDED)

    @contextmanager
    def told(self, option: str, value: str) -> Iterator[None]:
        """Let them run with another value of an option while the context lasts."""
        line = f"    - --{option}={value}"
        # A pod of another name for its kubelet, which so starts it without waiting.
        mark = f"    nodeport-e2e/told: t{secrets.token_hex(4)}"
        edit = (
            f"mv {MANIFEST} {BEFORE}; grep -v -e --{option}= {BEFORE}"
            f" | sed -e 's/^    - kube-apiserver$/&\\n{line}/' -e 's#^  annotations:#&\\n{mark}#'"
            f" > {BEFORE}.new; mv {BEFORE}.new {MANIFEST}; {KILL}"
        )
        with ExitStack() as restored:
            with self._replaced():
                for node in self._nodes:
                    undoing = self._undo.afterwards("exec", node.name, "sh", "-c", RESTORE)
                    restored.enter_context(undoing)
                    self._on(node, edit)
            yield
            with self._replaced():
                restored.close()

    @contextmanager
    def _replaced(self) -> Iterator[None]:
        """Wait at the end of the context until each is another process, and ready."""
        old = {node: self._on(node, PROCESS).strip() for node in self._nodes}
        yield
        for node in self._nodes:
            wait_until(
                lambda node=node: self._is_ready(node, old[node]),  # type: ignore[misc]
                what=f"another API server on {node}",
                within=timing.CLUSTER_RECOVER_WITHIN,
            )

    def _is_ready(self, node: Node, old: str) -> bool:
        now = self._on(node, PROCESS).strip()
        if not now or now == old:
            return False
        try:
            self._on(node, READY)
        except CommandFailedError:
            return False
        return True

    def _on(self, node: Node, script: str) -> str:
        return self._undo.engine.run("exec", node.name, "sh", "-ec", script)
