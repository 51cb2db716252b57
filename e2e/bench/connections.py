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
from e2e.bench.rate import WAYS, Rate
from e2e.cluster import echo as echoes
from e2e.cluster import leftovers, namespace
from e2e.cluster.api import Api
from e2e.cluster.echo import HTTP_PORT
from e2e.cluster.node import all_nodes
from e2e.cluster.service import Service, manifest
from e2e.errors import CannotRunError
from e2e.probe import ANSWERED, Outside
from e2e.probe.wire import IDENTITY_PATH
from e2e.provider.command import run
from e2e.provider.packages import install
from e2e.provider.steps import Step
from e2e.wait import wait_until

NAME = "connections"
TITLE = "New connections a second"
# ApacheBench speaks HTTP/1.0 and opens a connection for each request, as our callers do; wrk
# keeps its connections.
NATIVE, PACKAGE = "ab", "apache2-utils"
ECHOES = 3
# With one connection at a time the native one waits for answers as well, so it also connects as
# often as the machine lets it.
MANY_AT_ONCE = 8
NONE = (0.0, 0.0)
# More than it gets to within the time.
ENOUGH = 1_000_000
COUNTED = {
    "connections": re.compile(r"^Complete requests:\s+(\d+)$", re.MULTILINE),
    "failed": re.compile(r"^Failed requests:\s+(\d+)$", re.MULTILINE),
    "refused": re.compile(r"^Non-2xx responses:\s+(\d+)$", re.MULTILINE),
    "seconds": re.compile(r"^Time taken for tests:\s+([\d.]+) seconds$", re.MULTILINE),
}


def measure(ground: Ground) -> dict[str, Any]:
    """Let all of them connect in turn to one node port."""
    missing = _why_no_native(ground)
    ours: dict[str, Any] = {
        name: {"what": way.what, "beside": way.beside, "rates": []} for name, way in WAYS.items()
    }
    at_once = sorted({MANY_AT_ONCE, *(way.beside for way in WAYS.values())})
    native: dict[str, Any] = {} if missing else {str(number): [] for number in at_once}
    with _node_port(ground) as (address, port):
        ground.quiet()
        for number in range(1, ground.times + 1):
            for name, way in ours.items():
                with ground.steps.step(name, "new connections a second") as step:
                    way["rates"].append(_noted(_ours(name, address, port), step, number, ground))
            for many, rates in native.items():
                with ground.steps.step(NATIVE, f"new connections a second, {many} at once") as step:
                    rates.append(_noted(_native(many, address, port), step, number, ground))
    return {
        "left_out": missing,
        "ours": ours,
        "native": native,
        "generator": f"`{NATIVE}` of {PACKAGE}",
    }


def _noted(rate: Rate, step: Step, number: int, ground: Ground) -> dict[str, Any]:
    step.done(f"run {number} of {ground.times}: {rate.per_second:.0f}")
    return asdict(rate)


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


def _native(at_once: str, address: str, port: int) -> Rate:
    host = f"[{address}]" if ":" in address else address
    before = _cpu_of_children()
    said = run(
        [
            # Its -t sets -n too, so -n comes after it.
            *(NATIVE, "-q", "-c", at_once, "-t", f"{timing.CONNECT_FOR:.0f}"),
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
        f"{figures['generator']} does the same natively: one after another, as callers do that",
        f"wait for each answer, and {MANY_AT_ONCE} at once, as callers do that do not.",
        "The most is the larger of its rates, and so what this machine can do.",
        "Run in turn; medians. CPU is that of the calling process alone.",
        "",
    ]
    if figures["left_out"]:
        parts += [f"The native load generator was left out: {figures['left_out']}.", ""]
    parts += [
        "| caller | native opens | a second | of native | of the most | CPU for each | of native |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    native = {many: _median(rates) for many, rates in figures["native"].items()}
    most = max(native.values(), default=NONE)
    rows = [
        (f"`{name}`: {way['what']}", str(way["beside"]), _median(way["rates"]))
        for name, way in figures["ours"].items()
    ]
    rows += [(figures["generator"], many, found) for many, found in native.items()]
    for caller, many, (per_second, cpu) in rows:
        beside = native.get(many, NONE)
        parts.append(
            f"| {caller} | {many} | {per_second:.0f} | {_ratio(per_second, beside[0])} "
            f"| {_ratio(per_second, most[0])} | {cpu:.0f} µs | {_ratio(cpu, beside[1])} |"
        )
    return "\n".join(parts)


def _median(rates: list[dict[str, Any]]) -> tuple[float, float]:
    """Connections a second and CPU for each, both the median."""
    known = [Rate(**each) for each in rates]
    return median(r.per_second for r in known), median(r.cpu_each for r in known)


def _ratio(ours: float, native: float) -> str:
    return f"{ours / native:.2f}" if native else "-"
