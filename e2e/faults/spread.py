"""Tries faults on several clusters of this machine at once, by a process for each of these."""

import os
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from e2e.errors import CannotRunError, UsageError
from e2e.provider.command import interrupt, own_program, tied
from e2e.provider.lane import Lane
from e2e.provider.steps import Steps
from e2e.report.faults import Fault
from e2e.report.matrix import MATRIX, Matrix, Trial
from e2e.report.proofs import seen

# While a fault is in force most of the time is waited, so that two clusters take half as long; for
# fewer faults than these the second one is not worth the making.
AT_ONCE, WORTH_IT = 2, 16
# In the folder of results, for each cluster what it would leave there alone.
CLUSTERS = "clusters"
# Seconds that a fault takes of which that is not known.
USUALLY = 30.0
VALUES = ("k8s", "proxy", "family", "shape", "node_image", "processes")
FLAGS = ("keep", "quick", "trust", "specs")
# What commands end with; with the first two, faults that were all tried.
CODES = range(5)
VERDICTS = CODES[:2]


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
    name = asked["cluster_name"]
    names = [f"{name}-{number}" if number > 1 else name for number in range(1, len(parts) + 1)]
    running: list[subprocess.Popen[bytes]] = []
    telling: list[threading.Thread] = []
    # What is said to this command is not said to those once more.
    variables = {key: value for key, value in os.environ.items() if key != "E2E_SHARD"}
    try:
        for cluster, part in zip(names, parts, strict=True):
            process = subprocess.Popen(
                [*tied("INT"), *_argv(asked, part, cluster, out / CLUSTERS / cluster)],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                env=variables, start_new_session=True,
            )  # fmt: skip
            running.append(process)
            assert process.stdout is not None
            telling.append(threading.Thread(target=_tell, args=(process.stdout, cluster, steps)))
            telling[-1].start()
        codes = [process.wait() for process in running]
    except BaseException:
        interrupt(running, steps.say)
        raise
    finally:
        for each in telling:
            each.join()
    # A process that was killed has a code that no command of ours ends with.
    known = [code if code in CODES else CannotRunError.exit_code for code in codes]
    return max((code for code in known if code not in VERDICTS), default=0)


def brought(out: Path, chosen: Sequence[Fault]) -> tuple[Trial, ...]:
    """What became of the faults that were tried by then, in the order in which they were named."""
    order = [fault.name for fault in chosen]
    trials: list[Trial] = []
    for file in (out / CLUSTERS).glob(f"*/{MATRIX}"):
        # A process that was killed while it wrote has left the half of one.
        with suppress(UsageError):
            trials += Matrix.load(file).trials
    return tuple(sorted(trials, key=lambda trial: order.index(trial.fault)))


def _argv(asked: Mapping[str, Any], part: Sequence[Fault], cluster: str, out: Path) -> list[str]:
    return [
        *own_program("e2e.cli"),
        *("faults", f"--fault={','.join(fault.name for fault in part)}", "--clusters=1"),
        *(f"--cluster-name={cluster}", f"--out={out}"),
        *(f"--{key.replace('_', '-')}={asked[key]}" for key in VALUES if asked[key] is not None),
        *(f"--{key}" for key in FLAGS if asked[key]),
    ]


def _tell(output: IO[bytes], cluster: str, steps: Steps) -> None:
    for line in output:
        steps.say(f"{cluster}: {line.decode(errors='replace').rstrip()}")
