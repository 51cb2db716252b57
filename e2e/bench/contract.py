"""The whole contract on a kept cluster: how long, and how much memory."""

import os
from statistics import median
from typing import Any

from e2e.bench.ground import FAMILIES, Ground
from e2e.plain import count_of
from e2e.report.summary import FAILED, HELD, SKIPPED

NAME = "contract"
TITLE = "The contract: time and memory"
AIM_SECONDS, AIM_BYTES = 120, 1 << 30


def measure(ground: Ground) -> dict[str, Any]:
    """Run it several times."""
    runs = []
    for number in range(1, ground.times + 1):
        ground.quiet()
        with ground.steps.step("contract", "how long it takes, how much memory") as step:
            step.progress(f"run {number} of {ground.times}")
            run = ground.ask(NAME, f"--families={','.join(FAMILIES)}")
            runs.append(run)
            held = count_of(len(run.ended(HELD)), "clause")
            step.done(f"{run.seconds:.1f} s, {_mib(run.peak)}, {held} held")
    last = runs[-1]
    return {
        "seconds": [run.seconds for run in runs],
        "peak_bytes": [run.peak for run in runs],
        "work": [run.work for run in runs],
        "cores": os.cpu_count(),
        "held": len(last.ended(HELD)),
        "failed": sorted({clause for run in runs for clause in run.ended(FAILED)}),
        "skipped": last.ended(SKIPPED),
        "families": list(FAMILIES),
    }


def written(figures: dict[str, Any]) -> str:
    """The figures as a part of a page."""
    seconds, peaks, work = (figures[name] for name in ("seconds", "peak_bytes", "work"))
    least = median(work) / figures["cores"]
    asked = f"Of the families {' and '.join(figures['families'])} {figures['held']} clauses held"
    for how in ("failed", "skipped"):
        asked += f", {len(figures[how])} {how} ({', '.join(figures[how])})" if figures[how] else ""
    rows = [
        f"| {number} | {took:.1f} | {worked:.0f} | {_mib(peak)} |"
        for number, (took, worked, peak) in enumerate(
            zip(seconds, work, peaks, strict=True), start=1
        )
    ]
    return "\n".join(
        [
            "Wall time of the whole command on a cluster that is there, from its start to its end,",
            "and the memory of all its processes together (PSS, summed over the process tree,",
            "looked at twice a second).",
            "",
            f"{asked}.",
            f"Median {median(seconds):.1f} s (the aim is below {AIM_SECONDS} s);",
            f"peak {_mib(max(peaks))} (the aim is below {_mib(AIM_BYTES)}).",
            f"The cores of the machine worked {median(work):.0f} s meanwhile, for the cluster too,",
            f"so {figures['cores']} of them need {least:.0f} s at least, whatever the order is.",
            "",
            "| run | seconds | core seconds | peak memory |\n| --- | --- | --- | --- |",
            *rows,
        ]
    )


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.0f} MiB"
