"""Runs Kubernetes' own NodePort specs on a cluster of a node image: is the image a right one?

python -m e2e.provider.node_image.upstream_specs [--k8s VERSION] [--kubeconfig FILE] [--report FILE]
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from e2e import timing
from e2e.errors import StopError, UsageError
from e2e.provider.command import run
from e2e.provider.engine import Engine, ensure_engine
from e2e.provider.kind_binary import ensure_kind
from e2e.provider.node_image.choose import DEFAULT, SUPPORTED, resolve
from e2e.provider.pins import read_pins
from e2e.provider.specs import Result, compile_specs, run_specs
from e2e.provider.steps import Steps

CLUSTER = "nodeport-e2e-specs"
SHAPE = Path(__file__).parent / "specs-cluster.yaml"

PAGE = """\
# Kubernetes' own NodePort specs on the built node image

A node image that is built here must be a node image like any other.
So Kubernetes' own end-to-end tests, compiled from its Go module, were run on a cluster of it: \
every spec whose name speaks of NodePort, without those for cloud load balancers and those that \
upstream marks as flaky, disruptive or serial.

```
make upstream-specs
```

Seen on {day} with Kubernetes {version}, {where}: \
{count} specs, {passed} passed, {seconds:.0f} s one after another.

| spec | ended | seconds |
| --- | --- | --- |
"""


def written(version: str, where: str, results: list[Result]) -> str:
    """The results as a page."""
    head = PAGE.format(
        day=f"{datetime.now(UTC):%Y-%m-%d}",
        version=version,
        where=where,
        count=len(results),
        passed=sum(result.status == "passed" for result in results),
        seconds=sum(result.seconds for result in results),
    )
    rows = [f"| {each.name} | {each.status} | {each.seconds:.1f} |\n" for each in results]
    return head + "".join(rows)


@contextmanager
def cluster(version: str, engine: Engine, steps: Steps) -> Iterator[Path]:
    """Make a cluster for the specs, and remove it afterwards."""
    kind = str(ensure_kind(steps))
    image = resolve(version, engine, steps)
    with tempfile.TemporaryDirectory() as folder:
        kubeconfig = Path(folder) / "kubeconfig"
        try:
            with steps.step("cluster", "one of the specs needs three workers") as step:
                run(
                    [
                        *(kind, "create", "cluster", f"--name={CLUSTER}"),
                        *(f"--image={image.reference}", f"--kubeconfig={kubeconfig}"),
                        *(f"--config={SHAPE}", "--wait=120s"),
                    ],
                    env=engine.kind_env,
                    timeout=timing.CLUSTER_CREATE_WITHIN,
                )
                step.done(f"made {CLUSTER} of {image.reference}")
            yield kubeconfig
        finally:
            run(
                [kind, "delete", "cluster", f"--name={CLUSTER}", f"--kubeconfig={kubeconfig}"],
                env=engine.kind_env,
                timeout=timing.CLUSTER_DELETE_WITHIN,
            )


def _seen(program: Path, kubeconfig: Path, out: Path, steps: Steps) -> list[Result]:
    with steps.step("run", "they say what a right node image does") as step:
        results = run_specs(program, kubeconfig, out, progress=step.progress)
        passed = sum(result.status == "passed" for result in results)
        step.done(f"{passed} of {len(results)} specs passed, see {out}")
    return results


def main(arguments: list[str]) -> int:
    """Run the specs and print each result; 0 if all passed."""
    parser = argparse.ArgumentParser(description="Run Kubernetes' own NodePort specs.")
    parser.add_argument("--k8s", default=DEFAULT, help="version of Kubernetes and its specs")
    parser.add_argument("--kubeconfig", type=Path, help="use this cluster instead of making one")
    parser.add_argument("--out", type=Path, default=Path("out/upstream-specs"), help="a folder")
    parser.add_argument("--report", type=Path, help="write the results into this Markdown file")
    asked = parser.parse_args(arguments)
    steps = Steps()
    try:
        release = read_pins().releases.get(asked.k8s)
        if release is None:
            raise UsageError(f"{asked.k8s} is unknown", f"name one of {', '.join(SUPPORTED)}")
        program = compile_specs(release.kubernetes, steps)
        if asked.kubeconfig:
            results = _seen(program, asked.kubeconfig.resolve(), asked.out, steps)
        else:
            engine = ensure_engine(steps)
            with cluster(asked.k8s, engine, steps) as kubeconfig:
                results = _seen(program, kubeconfig, asked.out, steps)
    except StopError as error:
        steps.console.print(str(error), markup=False, highlight=False)
        return error.exit_code
    if asked.report:
        where = str(asked.kubeconfig or "one control plane and three workers, iptables, IPv4")
        asked.report.write_text(written(asked.k8s, where, results))
    for result in results:
        print(f"{result.status:<8} {result.seconds:6.1f} s  {result.name}")  # noqa: T201
    return int(any(result.status == "failed" for result in results))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
