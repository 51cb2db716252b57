"""A cluster that this harness made, with hands on its nodes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from e2e import timing
from e2e.cluster.api import Api
from e2e.cluster.leftovers import folder_of
from e2e.cluster.node import Node, all_nodes
from e2e.cluster.undo import Undo
from e2e.errors import RefusedError
from e2e.provider import existing
from e2e.provider.engine import Engine
from e2e.provider.steps import Step, Steps
from e2e.provider.streaming import stream
from e2e.upgrade import said
from e2e.upgrade.site import Site

ADMIN = "/etc/kubernetes/admin.conf"
# Beyond what kubectl itself was told to wait.
SLACK = timing.COMMAND


@dataclass(frozen=True)
class Ours:
    """A cluster whose nodes are containers here, and which may be disturbed.

    Attributes:
        api: its API server.
        engine: runs its nodes.
        name: of the kind cluster.
        nodes: all of them, control planes first.
        undo: keeps what has to be undone, also if this process is killed.
        folder: of this run; it goes with it, or in a later one.
        steps: tell a person, and whoever watches, what is being done.
        hasty: whether the next step begins when something says that it is Ready, whatever is so.
    """

    api: Api
    engine: Engine
    name: str
    nodes: tuple[Node, ...]
    undo: Undo
    folder: Path
    steps: Steps
    hasty: bool = False

    @property
    def control_planes(self) -> list[str]:
        """The names of the nodes that run a control plane."""
        return [node.name for node in self.nodes if node.is_control_plane]

    @property
    def workers(self) -> list[str]:
        """The names of all other nodes."""
        return [node.name for node in self.nodes if not node.is_control_plane]

    @contextmanager
    def step(self, what: str, node: str = "", why: str = "") -> Iterator[Step]:
        """Do one thing, on a node if on one, which is said before it begins."""
        said.say(what, node)
        title = " ".join(filter(None, [what, f"on {node}" if node else ""]))
        with self.steps.step("disturb", f"{title}{': ' if why else ''}{why}") as step:
            yield step

    def on(self, node: str, script: str, *, timeout: float = timing.COMMAND) -> str:
        """Run a shell script on a node; gives what it printed.

        Raises:
            CommandFailedError: it ended with an error, or took longer than `timeout` seconds.
        """
        return self.engine.run("exec", node, "sh", "-ec", script, timeout=timeout)

    def stream_on(
        self, node: str, script: str, on_line: Callable[[str], None], *, timeout: float
    ) -> None:
        """The same, with each line as it comes."""
        argv = [self.engine.command, "exec", node, "sh", "-ec", script]
        stream(argv, on_line, timeout=timeout)

    def kubectl(self, words: str, *, within: float = timing.COMMAND) -> str:
        """Run kubectl on a control plane, which is told to wait for so many seconds at most."""
        line = f"kubectl --kubeconfig={ADMIN} {words}"
        return self.on(self.control_planes[0], line, timeout=within + SLACK)


def ours(site: Site, steps: Steps, *, hasty: bool = False) -> Ours:
    """Take a cluster that was made here; `hasty` as above.

    Raises:
        RefusedError: it is not one of ours.
        CannotRunError: a node of it is not Ready.
    """
    name = existing.kind_cluster_at(site.api.server, site.engine) if site.engine else None
    if not site.is_ours or site.engine is None or name is None:
        raise RefusedError(
            f"{site.context} was not made by this harness, so its nodes are not disturbed",
            "make one: make e2e KEEP=1, and name it by --cluster-name",
        )
    folder = folder_of(site.run)
    undo = Undo(site.engine, folder)
    return Ours(site.api, site.engine, name, all_nodes(site.api), undo, folder, steps, hasty)
