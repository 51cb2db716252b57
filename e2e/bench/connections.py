"""New connections a second through a node port, beside a native load generator."""

import json
import re
import resource
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from statistics import median
from typing import Any

from e2e import timing
from e2e.bench.ground import Ground
from e2e.bench.rate import WAYS, Rate, Way
from e2e.cluster import echo as echoes
from e2e.cluster import leftovers, namespace
from e2e.cluster.api import Api
from e2e.cluster.echo import HTTP_PORT
from e2e.cluster.node import all_nodes
from e2e.cluster.service import Service, manifest
from e2e.errors import CannotRunError
from e2e.probe import ANSWERED, Outside
from e2e.probe.outside import IDENTITY_PATH
from e2e.provider.command import run
from e2e.provider.packages import install
from e2e.wait import wait_until

NAME = "connections"
TITLE = "New connections a second"
# ApacheBench speaks HTTP/1.0 and opens a connection for each request, as our callers do; wrk
# keeps its connections.
NATIVE, PACKAGE = "ab", "apache2-utils"
ECHOES = 3
# More than it gets to within the time.
ENOUGH = 1_000_000
COUNTED = {
    "connections": re.compile(r"^Complete requests:\s+(\d+)$", re.MULTILINE),
    "failed": re.compile(r"^Failed requests:\s+(\d+)$", re.MULTILINE),
    "refused": re.compile(r"^Non-2xx responses:\s+(\d+)$", re.MULTILINE),
    "seconds": re.compile(r"^Time taken for tests:\s+([\d.]+) seconds$", re.MULTILINE),
}


def measure(ground: Ground) -> dict[str, Any]:
    """Let both connect alternately to one node port."""
    missing = _why_no_native(ground)
    ways: dict[str, dict[str, Any]] = {
        name: {"what": way.what, "at_once": way.at_once, "ours": [], "native": []}
        for name, way in WAYS.items()
    }
    with _node_port(ground) as (address, port):
        ground.quiet()
        for number in range(1, ground.times + 1):
            for name, way in WAYS.items():
                title = f"run {number} of {ground.times}"
                with ground.steps.step(name, "new connections a second") as step:
                    ours = _ours(name, address, port)
                    step.done(f"{title}: {ours.per_second:.0f} a second")
                ways[name]["ours"].append(asdict(ours))
                if missing:
                    continue
                with ground.steps.step(NATIVE, "what ours are compared with") as step:
                    native = _native(way, address, port)
                    step.done(f"{title}: {native.per_second:.0f} a second")
                ways[name]["native"].append(asdict(native))
    return {"left_out": missing, "ways": ways, "native": f"{NATIVE} of {PACKAGE}"}


def _why_no_native(ground: Ground) -> str:
    """Install the native load generator if need be; gives the reason if that cannot be."""
    with ground.steps.step(NATIVE, "a native load generator is compared with") as step:
        if shutil.which(NATIVE):
            step.skip("it is there already")
            return ""
        try:
            log = ground.out / "install.log"
            install((PACKAGE,), log=log, progress=step.progress)
        except CannotRunError as error:
            first = error.what.partition("\n")[0]
            step.skip(f"left out, as {PACKAGE} cannot be installed: {first}")
            return first
        step.done(f"installed {PACKAGE}")
        return ""


@contextmanager
def _node_port(ground: Ground) -> Iterator[tuple[str, int]]:
    """A node port over echoes on all workers, at the address of the first."""
    api, number = Api(ground.kubeconfig), leftovers.new_run()
    nodes = all_nodes(api)
    workers = [node for node in nodes if not node.is_control_plane] or list(nodes)
    with leftovers.alive(number):
        home = namespace.make(api, f"nodeport-e2e-{number}", number)
        try:
            with ground.steps.step("service", "a node port to connect to") as step:
                places = [workers[i % len(workers)] for i in range(ECHOES)]
                echo = echoes.place(api, home, places)
                echo.await_ready(ECHOES)
                ports = [{"port": 80, "targetPort": HTTP_PORT}]
                made = api.create(manifest("rate", home, echo.labels, {"ports": ports}))
                service = Service(api, echo, made)
                flow = service.flows(Outside(), via=workers[:1])[0]
                wait_until(
                    lambda: flow.call().outcome == ANSWERED,
                    what=f"an answer of {flow}",
                    within=timing.SETTLE_WITHIN,
                )
                step.done(f"{ECHOES} echoes answer at {flow.target.name}:{flow.target.port}")
            yield flow.target.address, flow.target.port
        finally:
            namespace.remove(api, [home], wait=False)


def _ours(name: str, address: str, port: int) -> Rate:
    argv = [sys.executable, "-m", "e2e.bench.rate", name, address, str(port)]
    return Rate(**json.loads(run([*argv, str(timing.CONNECT_FOR)])))


def _native(way: Way, address: str, port: int) -> Rate:
    host = f"[{address}]" if ":" in address else address
    before = _cpu_of_children()
    said = run(
        [
            # Its -t sets -n too, so -n comes after it.
            *(NATIVE, "-q", "-c", str(way.at_once), "-t", f"{timing.CONNECT_FOR:.0f}"),
            *("-n", str(ENOUGH), f"http://{host}:{port}{IDENTITY_PATH}"),
        ]
    )
    return read_native(said, _cpu_of_children() - before)


def read_native(said: str, cpu: float) -> Rate:
    """Read what ApacheBench printed.

    Raises:
        CannotRunError: a request failed, or it printed something else.
    """
    found = {key: pattern.search(said) for key, pattern in COUNTED.items()}
    counts = {key: float(match[1]) for key, match in found.items() if match}
    if not {"connections", "seconds"} <= counts.keys():
        raise CannotRunError(f"{NATIVE} printed no figures: {said.strip()[-200:]!r}")
    if failed := counts.get("failed", 0) + counts.get("refused", 0):
        raise CannotRunError(f"{failed:.0f} requests of {NATIVE} failed, so its rate says nothing")
    return Rate(int(counts["connections"]), counts["seconds"], cpu)


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def written(figures: dict[str, Any]) -> str:
    """The figures as a part of a page."""
    parts = [
        f"Each connects for {timing.CONNECT_FOR:.0f} s through the node port of one worker to",
        f"{ECHOES} echoes on all workers: a new connection, one request, the answer, the end.",
        f"{figures['native']} does the same with as many connections at once. Run alternately;",
        "medians. CPU is that of the calling process alone.",
        "",
    ]
    if figures["left_out"]:
        parts += [f"The native load generator was left out: {figures['left_out']}.", ""]
    parts += [
        "| caller | at once | connections a second | of native | CPU for each | of native |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, way in figures["ways"].items():
        ours, native = _median(way["ours"]), _median(way["native"])
        parts.append(
            f"| {name}: {way['what']} | {way['at_once']} | {ours[0]:.0f} "
            f"| {_ratio(ours[0], native[0])} | {ours[1]:.0f} µs | {_ratio(ours[1], native[1])} |"
        )
        if way["native"]:
            parts.append(
                f"| {figures['native']} | {way['at_once']} | {native[0]:.0f} | 1.00 "
                f"| {native[1]:.0f} µs | 1.00 |"
            )
    return "\n".join(parts)


def _median(rates: list[dict[str, Any]]) -> tuple[float, float]:
    """Connections a second and CPU for each, both the median."""
    known = [Rate(**each) for each in rates]
    if not known:
        return 0.0, 0.0
    return median(r.per_second for r in known), median(r.cpu_each for r in known)


def _ratio(ours: float, native: float) -> str:
    return f"{ours / native:.2f}" if native else "-"
