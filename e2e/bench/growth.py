"""How the time of the contract grows with the number of nodes."""

import re
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from e2e.bench.ground import FAMILIES, Ground
from e2e.report.clauses import Clause, read_clauses
from e2e.report.summary import FAILED, HELD

NAME = "growth"
TITLE = "Growth with the number of nodes"
SIZES = (2, 4, 6)
# A control plane and a worker.
SMALLEST = 2


def measure(ground: Ground) -> dict[str, Any]:
    """Run the same clauses on clusters of several sizes, each made for this and removed."""
    clauses = [each for each in read_clauses() if set(each.families) <= set(FAMILIES)]
    left_out = too_demanding(clauses)
    asked = [each.id for each in clauses if each.id not in left_out]
    with tempfile.TemporaryDirectory(prefix="nodeport-e2e-bench-") as folder:
        sizes = [_on(size, ground, Path(folder), asked) for size in sorted(ground.sizes)]
    everywhere = set.intersection(*(set(size["held"]) for size in sizes))
    return {
        "sizes": [size | {"held": len(size["held"])} for size in sizes],
        "not_on_all": sorted({c for size in sizes for c in size["held"]} - everywhere),
        "left_out": left_out,
    }


def _on(size: int, ground: Ground, folder: Path, clauses: list[str]) -> dict[str, Any]:
    shape = folder / f"{size}-nodes.yaml"
    shape.write_text(shape_of(size))
    there = replace(
        ground, lane=replace(ground.lane, shape=str(shape)), name=f"nodeport-e2e-bench-{size}"
    )
    seconds, held, failed = [], set(), set()
    with there.cluster() as on:
        for number in range(1, ground.times + 1):
            on.quiet()
            with ground.steps.step("growth", "the same clauses on more nodes") as step:
                run = on.ask(f"{NAME}/{size}-nodes", f"--only={','.join(clauses)}")
                step.done(f"{size} nodes, run {number} of {ground.times}: {run.seconds:.1f} s")
            seconds.append(run.seconds)
            held |= set(run.ended(HELD))
            failed |= set(run.ended(FAILED))
    return {"nodes": size, "seconds": seconds, "held": sorted(held), "failed": sorted(failed)}


def shape_of(size: int) -> str:
    """The kind config of a cluster of so many nodes, one of them the control plane."""
    nodes = [{"role": "control-plane"}, *({"role": "worker"} for _ in range(size - 1))]
    config = {"kind": "Cluster", "apiVersion": "kind.x-k8s.io/v1alpha4", "nodes": nodes}
    return yaml.safe_dump(config, sort_keys=False)


def too_demanding(clauses: Iterable[Clause]) -> list[str]:
    """The clauses that need more workers than the smallest of these clusters has."""
    return [
        clause.id
        for clause in clauses
        if any(re.fullmatch(r"\w+-workers", need) for need in clause.needs)
    ]


def written(figures: dict[str, Any]) -> str:
    """The figures as a part of a page."""
    smallest = figures["sizes"][0]
    parts = [
        "The same clauses on clusters of one control plane and one worker or more, made for this",
        "and removed, each asked by the whole command. In proportion, twice as many nodes would",
        "take twice as long.",
        f"Left out as they need more than one worker: {', '.join(figures['left_out']) or 'none'}.",
        "",
        "| nodes | seconds | clauses | grown to | in proportion | of proportion |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for size in figures["sizes"]:
        grown = median(size["seconds"]) / median(smallest["seconds"])
        proportion = size["nodes"] / smallest["nodes"]
        parts.append(
            f"| {size['nodes']} | {median(size['seconds']):.1f} | {size['held']} "
            f"| {grown:.2f} times | {proportion:.2f} times | {grown / proportion:.0%} |"
        )
    if figures["not_on_all"]:
        parts += ["", f"Not held on all of them: {', '.join(figures['not_on_all'])}."]
    return "\n".join(parts)
