"""Commands that make what runs need, and remove what they left."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from e2e.cluster import leftovers
from e2e.cluster.api import Api
from e2e.errors import CannotRunError, StopError
from e2e.options import option
from e2e.provider import existing, kind
from e2e.provider.engine import ensure_engine, find_engine, stop_engine
from e2e.provider.node_image import DEFAULT, resolve
from e2e.provider.steps import Steps


@click.command(name="node-image")
@option("--k8s", "K8S", default=DEFAULT, help="Version of Kubernetes.")
@option("--node-image", "NODE_IMAGE", default=None, help="Take this node image.")
def make_node_image(k8s: str, node_image: str | None) -> None:
    """Find or make the node image alone, and print its name."""
    steps = Steps()
    click.echo(resolve(k8s, ensure_engine(steps), steps, node_image).reference)


@click.command()
@option("--kube-context", "KUBE_CONTEXT", default=None, help="Clean up in this cluster too.")
@option("--kubeconfig", "KUBECONFIG", default=None, help="The file that has the context.")
def clean(kube_context: str | None, kubeconfig: str | None) -> None:
    """Remove every cluster, container, namespace and folder that interrupted runs left behind."""
    steps = Steps()
    engine = find_engine()
    file = Path(kubeconfig or existing.default_kubeconfig())
    if kube_context:
        existing.check_allowed(file, kube_context, engine)
    failures = kind.sweep(steps) if engine else _clusters_out_of_reach(steps)
    if engine:
        with _gathered(failures), steps.step("callers", "they stand beside the nodes") as step:
            removed = leftovers.remove_callers(engine)
            step.done(f"removed {len(removed)}") if removed else step.skip("none were left")
    if kube_context:
        why = f"interrupted runs left them and cordons in {kube_context}"
        with _gathered(failures), steps.step("namespaces", why) as step:
            gone, foreign = leftovers.undo_in_cluster(Api(file, kube_context), kept=True)
            stay = f"; {', '.join(foreign)} belong to runs of other machines" if foreign else ""
            step.done(f"removed {', '.join(gone) or 'none'}{stay}")
    with steps.step("folders", "interrupted runs shared them") as step:
        dead = leftovers.remove_folders(engine)
        step.done(f"removed {len(dead)}") if dead else step.skip("none were left")
    if failures:
        raise CannotRunError("\n".join(str(failure) for failure in failures))


def _clusters_out_of_reach(steps: Steps) -> list[StopError]:
    """Say which clusters cannot be looked for, as no engine answers."""
    names = kind.recorded()
    with steps.step("cluster", "no container engine answers") as step:
        step.skip(f"{', '.join(names)} could not be looked for" if names else "none is noted")
    do = "start the engine, and run this again"
    return [CannotRunError(f"no engine answers, so {', '.join(names)} stay", do)] if names else []


@contextmanager
def _gathered(failures: list[StopError]) -> Iterator[None]:
    """Go on after a failure, and keep it for the end."""
    try:
        yield
    except StopError as error:
        failures.append(error)


@click.command(name="stop-engine")
def stop_the_engine() -> None:
    """Stop the container engine, if a run started it."""
    click.echo(stop_engine())
