"""Commands that make what runs need, and remove what they left."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from e2e.cluster import lease, leftovers
from e2e.cluster.api import Api, ApiRefusedError
from e2e.errors import CannotRunError, InUseError, RefusedError, StopError
from e2e.options import option
from e2e.plain import plain
from e2e.provider import existing, kind
from e2e.provider.engine import Engine, ensure_engine, find_engine, stop_engine
from e2e.provider.kubeconfig import default_kubeconfig
from e2e.provider.node_image import DEFAULT, resolve
from e2e.provider.steps import Steps
from e2e.report.outputs import remove_all


@click.command(name="node-image")
@option("--k8s", "K8S", default=DEFAULT, help="Version of Kubernetes.")
@option("--node-image", "NODE_IMAGE", default=None, help="Take this node image.")
def make_node_image(k8s: str, node_image: str | None) -> None:
    """Find or make the node image alone, and print its name."""
    steps = Steps()
    click.echo(resolve(k8s, ensure_engine(steps), steps, node_image).reference)


@click.command()
@option("--cluster-name", "CLUSTER_NAME", default=None, help="Of kept clusters, this one alone.")
@option("--kube-context", "KUBE_CONTEXT", default=None, help="Clean up in this cluster.")
@option("--kubeconfig", "KUBECONFIG", default=None, help="The file that has the context.")
@option("--results", "RESULTS", default=None, help="Remove this folder of results too.")
@option("--yes", "YES", is_flag=True, help="Remove what is listed of that cluster, and do not ask.")
@option("--wait", "WAIT", type=click.FloatRange(min=0), default=0.0,
        help="Seconds to wait for a run of another machine to end.")  # fmt: skip
def clean(
    *,
    cluster_name: str | None,
    kube_context: str | None,
    kubeconfig: str | None,
    results: str | None,
    yes: bool,
    wait: float,
) -> None:
    """Remove every cluster, container, namespace and folder that interrupted runs left behind.

    In a cluster that exists, named by its context, what would be removed is listed first, and is
    removed with --yes or when you say so. Clusters of kind on this machine then stay, but for one
    that --cluster-name names.
    """
    steps = Steps()
    engine = find_engine()
    file = Path(kubeconfig or default_kubeconfig())
    if kube_context:
        existing.check_allowed(file, kube_context, engine)
    failures: list[StopError] = []
    # A kept one may be the very cluster of the context, and nobody was shown what would go.
    if cluster_name or not kube_context:
        failures += kind.sweep(steps, cluster_name) if engine else _clusters_out_of_reach(steps)
    if engine:
        with _gathered(failures), steps.step("callers", "they stand beside the nodes") as step:
            removed = leftovers.remove_callers(engine)
            step.done(f"removed {len(removed)}") if removed else step.skip("none were left")
    if kube_context:
        with _gathered(failures):
            _clean_cluster(file, kube_context, engine, steps, yes=yes, wait=wait)
    if results and Path(results).is_dir():
        with _gathered(failures), steps.step("results", "they are of earlier runs") as step:
            try:
                remove_all(Path(results).absolute())
            except InUseError as error:
                step.skip(f"{error.what}, and {results} stays")
            else:
                step.done(f"removed {results}")
    with steps.step("folders", "interrupted runs shared them") as step:
        dead = leftovers.remove_folders(engine)
        step.done(f"removed {len(dead)}") if dead else step.skip("none were left")
    if failures:
        said = "\n".join(str(failure) for failure in failures)
        refused = any(isinstance(failure, RefusedError) for failure in failures)
        raise RefusedError(said) if refused else CannotRunError(said)


def _clean_cluster(
    file: Path, context: str, engine: Engine | None, steps: Steps, *, yes: bool, wait: float
) -> None:
    """List what runs left in a cluster that exists, and remove it if that is wanted."""
    with leftovers.alive(leftovers.new_run()) as secrets:
        taken = lease.taken(file, context, engine, secrets, wait=wait, say=steps.say)
        try:
            # While this machine has the lease, no run of another one is alive.
            with taken as api:
                _remove_listed(api, context, steps, yes=yes)
        except ApiRefusedError as error:
            raise CannotRunError(str(error)) from error


def _remove_listed(api: Api, context: str, steps: Steps, *, yes: bool) -> None:
    left = leftovers.in_cluster(api, kept=True, alone=True)
    goes = [each for each in left if not each.stays]
    click.echo(f"{context}: interrupted runs left {len(goes) or 'nothing'}")
    for each in goes:
        click.echo(plain(f"  would be removed: {each}"))
    for each in left:
        if each.stays:
            click.echo(plain(f"  stays: {each}"))
    if not goes:
        return
    if not yes:
        if not sys.stdin.isatty():
            click.echo("nothing of it was removed; it is with --yes (YES=1)")
            return
        if not click.confirm(f"remove these {len(goes)} from {context}?"):
            click.echo("nothing of it was removed")
            return
    with steps.step("leftovers", f"interrupted runs left them in {context}") as step:
        gone = leftovers.remove_in_cluster(api, goes)
        step.done(f"removed {len(gone)}; the cluster goes on with it by itself")


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
