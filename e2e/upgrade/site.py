"""The cluster that is upgraded: found by a context that may be written to, or by a kept name."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from e2e.cluster import inventory, lease, leftovers
from e2e.cluster.api import Api
from e2e.cluster.node import Node, all_nodes
from e2e.cluster.scene import Scene
from e2e.errors import RefusedError, UsageError
from e2e.provider import existing, kind
from e2e.provider.engine import Engine, find_engine
from e2e.provider.kubeconfig import default_kubeconfig
from e2e.provider.steps import Steps
from e2e.upgrade.plan import Plan


@dataclass(frozen=True)
class Site:
    """A cluster that may be written to.

    Attributes:
        api: its API server, by a private copy of the context.
        kubeconfig: the file of which that is a copy.
        context: in that file.
        engine: runs its nodes, if they are containers here.
        is_ours: whether it was made by this harness, so that its nodes may be disturbed.
        run: the id of this process, in what it makes for itself.
    """

    api: Api
    kubeconfig: Path
    context: str
    engine: Engine | None
    is_ours: bool
    run: str

    def scene(self, nodes: tuple[Node, ...]) -> Scene:
        """What finds out why a flow went wrong, through the nodes where they are containers."""
        if self.engine is None:
            return Scene(self.api, nodes, {}, sees_rules=False)
        shells = {
            node.name: partial(self.engine.run, "exec", node.name, "sh", "-c") for node in nodes
        }
        return Scene(self.api, nodes, shells, sees_rules=True)

    def nodes(self) -> tuple[Node, ...]:
        """Every node, all of them Ready."""
        return all_nodes(self.api)


@contextmanager
def site(
    kubeconfig: Path | None,
    context: str | None,
    cluster_name: str | None,
    steps: Steps,
    *,
    wait: float = 0.0,
) -> Iterator[Site]:
    """A cluster by its context, or one that `make e2e KEEP=1` kept by its name.

    Raises:
        RefusedError: it may not be written to.
        UsageError: there is no such context, or no such kept cluster.
        CannotRunError: it does not answer, or another run breaks the kept one.
    """
    with ExitStack() as held:
        engine = find_engine()
        if cluster_name and context:
            raise UsageError(
                f"two clusters are named: the kept one {cluster_name}, and the context {context}",
                "name one: --cluster-name or --kube-context (or their E2E_… variables)",
            )
        if cluster_name:
            kubeconfig, context = _of_kept(cluster_name)
            # Nobody removes it meanwhile.
            held.enter_context(kind.hold(cluster_name, steps))
            kind.demand_whole(cluster_name)
        file = (kubeconfig or default_kubeconfig()).absolute()
        # Before a copy is made of what may not be touched.
        existing.check_allowed(file, context, engine)
        assert context is not None
        run = leftovers.new_run()
        shared = held.enter_context(leftovers.alive(run))
        taken = lease.taken(file, context, engine, shared, wait=wait, say=steps.say)
        api = held.enter_context(taken)
        name = existing.kind_cluster_at(api.server, engine) if engine else None
        yield Site(
            *(api, file, context, engine if name else None),
            is_ours=name is not None and name in kind.recorded(),
            run=run,
        )


def _of_kept(name: str) -> tuple[Path, str]:
    record = kind.Record.read(name)
    if record is None or not record.keep or not record.complete:
        kept = [
            each for each in kind.recorded() if (found := kind.Record.read(each)) and found.keep
        ]
        raise UsageError(
            f"no cluster called {name} was kept",
            f"kept are: {', '.join(kept)}" if kept else "make one: make e2e KEEP=1",
        )
    if file := record.kubeconfig():
        return file, f"kind-{name}"
    raise UsageError(
        f"the kubeconfig of {name} is gone from {' and '.join(record.folders)}",
        "name the cluster by its context instead: --kube-context",
    )


def is_same(here: Site, plan: Plan) -> bool:
    """Whether this is the cluster of a plan, by whatever name it is reached now."""
    return inventory.identity(here.api) == plan.cluster


def demand_same(here: Site, plan: Plan) -> None:
    """Go on only with the cluster of a plan.

    Raises:
        RefusedError: it is another one.
    """
    if not is_same(here, plan):
        raise RefusedError(
            f"the context {here.context} is another cluster than the one that was prepared: the "
            f"namespace kube-system has not the UID {plan.cluster}",
            "name the context of that one; verify compares two with --other-cluster",
        )
