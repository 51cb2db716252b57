"""Measures the harness, and writes out/bench.json and docs/benchmarks.md.

python -m e2e.bench [--only contract,specs,connections,growth] [--times N] [--nodes 2,4,6]
"""

import signal
import sys
from contextlib import ExitStack
from pathlib import Path

import click

from e2e.bench import growth, page
from e2e.bench.ground import Ground
from e2e.errors import StopError, StoppedError, UsageError
from e2e.provider import node_image
from e2e.provider.engine import ensure_engine
from e2e.provider.lane import FAMILIES, PROXIES, Lane
from e2e.provider.ready import ready
from e2e.provider.steps import Steps

TIMES = 3


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--only", default=",".join(page.SECTIONS), show_default=True, help="What to measure.")
@click.option("--times", default=TIMES, show_default=True, type=click.IntRange(min=1),
              help="How often each is measured; medians are given.")  # fmt: skip
@click.option("--nodes", default=",".join(map(str, growth.SIZES)), show_default=True,
              help="The sizes of the clusters that are made to measure growth.")  # fmt: skip
@click.option("--k8s", envvar="E2E_K8S", default=node_image.DEFAULT, help="Version of Kubernetes.")
@click.option("--proxy", envvar="E2E_PROXY", default=PROXIES[0], help="kube-proxy's mode.")
@click.option("--family", envvar="E2E_FAMILY", default=FAMILIES[0], help="ipv4, ipv6 or dual.")
@click.option("--node-image", "image", envvar="E2E_NODE_IMAGE", help="Take this node image.")
@click.option("--out", envvar="E2E_OUT", default="out", help="The folder of the results.")
def bench(
    *,
    only: str,
    times: int,
    nodes: str,
    k8s: str,
    proxy: str,
    family: str,
    image: str | None,
    out: str,
) -> None:
    """Measure how fast the harness is; what it makes, it removes."""
    names = only.split(",")
    if unknown := [name for name in names if name not in page.SECTIONS]:
        raise UsageError(f"--only={','.join(unknown)}", f"use {', '.join(page.SECTIONS)}")
    sizes = tuple(int(size) for size in nodes.split(",") if size.isdecimal())
    if len(sizes) != len(nodes.split(",")) or min(sizes) < growth.SMALLEST:
        raise UsageError(f"--nodes={nodes}", f"use numbers from {growth.SMALLEST} on: 2,4,6")
    where = page.machine()
    lane, steps, folder = Lane(k8s, proxy, family), Steps(), Path(out).absolute()
    lane, tools = ready(lane, ensure_engine(steps), steps, image)
    ground = Ground(
        lane,
        tools,
        steps,
        folder / "bench",
        times,
        sizes,
        lane.cluster_name,
    )
    ground.out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        here: Ground | None = None
        for name in sorted(names, key=list(page.SECTIONS).index):
            if name == growth.NAME:
                # It makes clusters of its own, and another one that was made would only cost time.
                held.close()
                figures = growth.measure(ground)
            else:
                here = here or held.enter_context(ground.cluster())
                figures = page.SECTIONS[name].measure(here)
            seen = page.section(figures, str(lane), where, times)
            kept = page.keep(folder / "bench.json", name, seen)
            page.DOCUMENT.write_text(page.written(kept, page.DOCUMENT.read_text()))
            steps.console.print(
                page.SECTIONS[name].written(figures),
                markup=False,
                highlight=False,
                soft_wrap=True,
            )


def main() -> None:
    """Run the command; a known situation ends with its message and its exit code."""
    # In the background of a script Ctrl-C would be ignored, and by all that is started here too.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        bench.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(UsageError.exit_code)
    except StopError as error:
        sys.exit(_said(error))
    except (click.Abort, KeyboardInterrupt):
        sys.exit(_said(StoppedError()))


def _said(error: StopError) -> int:
    print(error, file=sys.stderr)  # noqa: T201
    return error.exit_code


if __name__ == "__main__":
    main()
