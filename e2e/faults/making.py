"""Makes a fault, tells whether it is in force, and repairs it, also if this process is killed."""

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from e2e import timing
from e2e.cluster.api import Api
from e2e.cluster.echo import Echo
from e2e.cluster.kube_proxy import KubeProxy
from e2e.cluster.node import Node
from e2e.cluster.rewriting import rewriting
from e2e.cluster.undo import Undo
from e2e.errors import CannotRunError, StopError
from e2e.faults import policies
from e2e.faults.between import between
from e2e.fixtures.actors import placed_before
from e2e.provider.command import CommandFailedError
from e2e.provider.interrupts import shielded
from e2e.report.faults import Fault, Way
from e2e.wait import WaitedInVainError, wait_until

APPLY = "kubectl apply -f - >/dev/null"


class FaultNotMadeError(StopError):
    """A fault was not in force, or could not be made, so that nothing is known of who notices."""

    exit_code = 2


@dataclass(frozen=True)
class Here:
    """A cluster of ours that may be broken.

    Attributes:
        api: its API server.
        nodes: all of them, control planes first.
        undo: repairs what was broken.
        shared: the folder of the run.
    """

    api: Api
    nodes: tuple[Node, ...]
    undo: Undo
    shared: Path

    @property
    def standing(self) -> Echo:
        """The echoes that all clauses call, at their present addresses.

        Raises:
            CannotRunError: no clause needed them so far.
        """
        echo = placed_before(self.api, self.shared, "standing")
        if echo is None:
            raise CannotRunError("the standing echoes were not placed", "see the baseline")
        return echo

    def of(self, where: str) -> list[Node]:
        """The nodes on which a fault is made: in the cluster it is the first control plane."""
        workers = [node for node in self.nodes if not node.is_control_plane]
        if where == "every-node":
            return list(self.nodes)
        one = {"worker": workers[-1], "first-worker": workers[0]}
        return [one.get(where, self.nodes[0])]

    def run(self, script: str, node: Node, *, on: Node, given: str = "") -> None:
        """Run a script about a node on that or another one; it finds there what `known` says.

        Raises:
            CommandFailedError: it ended with another code than 0.
        """
        argv = ("exec", "--interactive", on.name, "sh", "-ec", f"{self.known(node)}\n{script}")
        self.undo.engine.run(*argv, input=given)

    def holds(self, script: str, node: Node, *, on: Node) -> bool:
        """Whether a script ends with 0."""
        try:
            self.run(script, node, on=on)
        except CommandFailedError:
            return False
        return True

    def await_holds(self, script: str, node: Node, *, on: Node, no_longer: bool = False) -> None:
        """Wait until it does, or does no longer.

        Raises:
            WaitedInVainError: that never came.
        """
        wait_until(
            lambda: self.holds(script, node, on=on) is not no_longer,
            what=f"the end of what was done to {node}" if no_longer else "its being in force",
            within=timing.FAULT_IN_FORCE_WITHIN,
        )

    def known(self, node: Node) -> str:
        """What scripts find in their environment.

        NODE and ADDRESS are the node's, OTHERS the addresses of all others, PODS those of the
        standing echoes on it, ALL_PODS those of all of them; NAMESPACE is that of the run.
        """
        others = [n.addresses[family] for n in self.nodes if n != node for family in n.addresses]
        echo = self.standing
        pods = {pod: list(of.values()) for pod, of in echo.addresses.items()}
        mine = [a for pod, of in pods.items() if echo.pods[pod] == node.name for a in of]
        values = {
            "KUBECONFIG": "/etc/kubernetes/admin.conf",
            "NODE": node.name,
            "NAMESPACE": echo.namespace,
            "ADDRESS": next(iter(node.addresses.values())),
            "OTHERS": " ".join(others),
            "PODS": " ".join(mine),
            "ALL_PODS": " ".join(address for of in pods.values() for address in of),
        }
        return "\n".join(f"export {name}={shlex.quote(text)}" for name, text in values.items())


@dataclass(frozen=True)
class Made:
    """A fault that is there.

    Attributes:
        demand: demands that it is still in force, and has shown itself, if only that tells.
        through: the kubeconfig by which clauses speak to the API server, if not the usual one.
    """

    demand: Callable[[], None]
    through: Path | None = None


def signs(fault: Fault, way: Way, here: Here) -> Iterator[tuple[str, Node, Node]]:
    """What tells whether a fault is in force: a script, the node it is about, and where it runs."""
    for node in here.of(fault.where) if way.in_force else []:
        yield way.in_force, node, _place(way, here, node)
    if policy := way.refuses or way.changes:
        yield policies.IN_FORCE[type(policy)], here.nodes[0], here.nodes[0]


@contextmanager
def made(fault: Fault, way: Way, here: Here, say: Callable[[str], None]) -> Iterator[Made]:
    """Let a fault be there while the context lasts.

    Raises:
        FaultNotMadeError: it could not be made, or is not in force.
    """
    nodes = here.of(fault.where)
    with _in_one_piece(say) as repaired:
        try:
            repaired.enter_context(_told(way, here, nodes))
            repaired.enter_context(_admitted(way, here))
            counts = repaired.enter_context(_rewritten(way, here, nodes))
            repaired.enter_context(_done(way, here, nodes))
            through, altered = repaired.enter_context(_altered(way, here))
            for script, node, place in signs(fault, way, here):
                here.await_holds(script, node, on=place)
        except (CommandFailedError, WaitedInVainError) as error:
            raise FaultNotMadeError(f"it could not be made: {error}") from error

        def demand() -> None:
            for script, node, place in signs(fault, way, here):
                if not here.holds(script, node, on=place):
                    raise FaultNotMadeError(f"it was no longer in force on {node} in the end")
            if unchanged := [str(node) for node, count in counts.items() if not count()]:
                raise FaultNotMadeError(
                    f"kube-proxy wrote nothing that it changes on {', '.join(unchanged)}"
                )
            if not altered():
                raise FaultNotMadeError("nothing was said that it alters")

        yield Made(demand, through)


@contextmanager
def _in_one_piece(say: Callable[[str], None]) -> Iterator[ExitStack]:
    """Take what repairs a fault, and let no signal come between."""
    repaired = ExitStack()
    try:
        yield repaired
    finally:
        with shielded(say):
            repaired.close()


@contextmanager
def _told(way: Way, here: Here, nodes: Sequence[Node]) -> Iterator[None]:
    """Let kube-proxies run with other settings."""
    if not way.settings:
        yield
        return
    proxy = KubeProxy(here.api, {}, here.undo)
    with proxy.configured(way.settings, *nodes, told_on=here.nodes[0]):
        yield


@contextmanager
def _admitted(way: Way, here: Here) -> Iterator[None]:
    """Let the API server refuse something, or store it otherwise."""
    policy, first = way.refuses or way.changes, here.nodes[0]
    if policy is None:
        yield
        return
    remove = f"{here.known(first)}\n{policies.REMOVE}"
    with here.undo.afterwards("exec", first.name, "sh", "-c", remove):
        here.run(APPLY, first, on=first, given=policies.manifests(policy))
        yield


@contextmanager
def _rewritten(
    way: Way, here: Here, nodes: Sequence[Node]
) -> Iterator[Mapping[Node, Callable[[], int]]]:
    """Let other rules be written, and give what counts how often some were."""
    with ExitStack() as restored:
        yield {
            node: restored.enter_context(
                rewriting(way.rewrite, node, told_on=here.nodes[0], undo=here.undo)
            )
            for node in (nodes if way.rewrite else [])
        }


@contextmanager
def _altered(way: Way, here: Here) -> Iterator[tuple[Path | None, Callable[[], int]]]:
    """Let somebody alter what clauses and the API server say to each other."""
    if way.altered is None:
        yield None, lambda: 1
        return
    file = Path(here.api.kubeconfig)
    with between(way.altered, file, here.api.context, here.shared) as (through, count):
        yield through, count


@contextmanager
def _done(way: Way, here: Here, nodes: Sequence[Node]) -> Iterator[None]:
    """Run the scripts, and those that repair it afterwards."""
    with ExitStack() as repaired:
        for node in nodes if way.repair else []:
            place = _place(way, here, node)
            repair = f"{here.known(node)}\n{way.repair}"
            repaired.enter_context(here.undo.afterwards("exec", place.name, "sh", "-c", repair))
            here.run(way.inject, node, on=place)
        yield


def _place(way: Way, here: Here, node: Node) -> Node:
    """Where scripts about a node run."""
    return here.nodes[0] if way.on == "control-plane" else node
