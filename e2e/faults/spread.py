"""Tries faults on several clusters of this machine at once."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from e2e.errors import UsageError
from e2e.provider.clusters import CLUSTERS, named, run_on_clusters
from e2e.provider.lane import Lane
from e2e.provider.steps import Steps
from e2e.report.faults import Fault
from e2e.report.matrix import MATRIX, Matrix, Trial
from e2e.report.proofs import seen

# While a fault is in force most of the time is waited, so that two clusters take half as long; for
# fewer faults than these the second one is not worth the making.
AT_ONCE, WORTH_IT = 2, 16
# Seconds that a fault takes of which that is not known.
USUALLY = 30.0
VALUES = ("k8s", "proxy", "family", "shape", "node_image", "processes")
FLAGS = ("keep", "quick", "trust", "specs")
# What those commands end with that tried all of theirs.
VERDICTS = (0, 1)


def how_many(chosen: Sequence[Fault]) -> int:
    """How many clusters are worth it for so many faults."""
    return AT_ONCE if len(chosen) >= WORTH_IT else 1


def dealt(chosen: Sequence[Fault], count: int, lane: Lane) -> list[list[Fault]]:
    """Give each cluster faults that take as long in all, by what they took when last seen."""
    took = {trial.fault: trial.seconds for trial in seen() if trial.lane == str(lane)}
    parts: list[set[str]] = [set() for _ in range(min(count, len(chosen)))]
    takes = [0.0] * len(parts)
    for fault in sorted(chosen, key=lambda each: -took.get(each.name, USUALLY)):
        least = takes.index(min(takes))
        parts[least].add(fault.name)
        takes[least] += took.get(fault.name, USUALLY)
    return [[fault for fault in chosen if fault.name in part] for part in parts]


def try_on_clusters(
    asked: Mapping[str, Any], parts: Sequence[Sequence[Fault]], out: Path, steps: Steps
) -> int:
    """Try each part on a cluster of its own, and wait for all.

    Args:
        asked: the options of `faults`; the name is that of the first cluster, and of the others
            with a number.
        parts: which faults.
        out: the folder of the results.
        steps: tell a person what each of them says.

    Returns:
        the worst exit code of those that could not try all of theirs, or 0.
    """
    names = named(asked["cluster_name"], len(parts))
    commands = {name: _argv(asked, part) for name, part in zip(names, parts, strict=True)}
    # What is said to this command is not said to those once more.
    codes = run_on_clusters(commands, out, steps.say, unsaid="E2E_SHARD")
    return max((code for code in codes if code not in VERDICTS), default=0)


def brought(out: Path, chosen: Sequence[Fault]) -> tuple[Trial, ...]:
    """What became of the faults that were tried by then, in the order in which they were named."""
    order = [fault.name for fault in chosen]
    trials: list[Trial] = []
    for file in (out / CLUSTERS).glob(f"*/{MATRIX}"):
        # A process that was killed while it wrote has left the half of one.
        with suppress(UsageError):
            trials += Matrix.load(file).trials
    return tuple(sorted(trials, key=lambda trial: order.index(trial.fault)))


def _argv(asked: Mapping[str, Any], part: Sequence[Fault]) -> list[str]:
    return [
        *("faults", f"--fault={','.join(fault.name for fault in part)}"),
        *(f"--{key.replace('_', '-')}={asked[key]}" for key in VALUES if asked[key] is not None),
        *(f"--{key}" for key in FLAGS if asked[key]),
    ]
