"""The command `nodeport-e2e shard`: what a pod of the Job does, see manifests/job."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

import click

from e2e.errors import CannotRunError, UsageError
from e2e.options import option
from e2e.provider.command import own_program
from e2e.provider.in_cluster import IN_CLUSTER
from e2e.report.framed import pack
from e2e.report.result import RESULT, Result
from e2e.report.shard import Shard
from e2e.screen import say

# What the Job's controller tells each pod, from 0.
INDEX = "JOB_COMPLETION_INDEX"


@click.command()
@option("--shards", "SHARDS", required=True, help="How many pods there are: 4, or nodes:4.")
@option("--out", "OUT", default="out", help="The folder of the results.")
def shard(shards: str, out: str) -> None:
    """Ask the shard of this pod, and write its results into its log.

    Exit codes: 0 the shard was asked to its end, whatever its verdict, and the results are in the
    log; 2 it was not, so that the Job lets another pod ask it; 3 and 4 as of `run`.
    """
    mine = of_pod(shards, os.environ)
    folder = Path(out).absolute()
    argv = [*own_program("e2e.cli"), "run", f"--provider={IN_CLUSTER}", f"--shard={mine}",
            f"--out={folder}"]  # fmt: skip
    code = _run(argv)
    if not (folder / RESULT).exists():
        sys.exit(code or CannotRunError.exit_code)
    text, left = pack(folder)
    if left:
        say(left)
    click.echo(text, nl=False)
    sys.stdout.flush()
    if not Result.load(folder / RESULT).whole:
        sys.exit(CannotRunError.exit_code)


def of_pod(shards: str, environment: Mapping[str, str]) -> Shard:
    """The shard of a pod.

    Raises:
        UsageError: this is no pod of an Indexed Job, or there is no such number of shards.
    """
    index = environment.get(INDEX, "")
    if not index.isdecimal():
        raise UsageError(
            f"this is no pod of an Indexed Job: {INDEX} is {index!r}", "see manifests/job"
        )
    by, _, of = shards.rpartition(":")
    return Shard.parse(f"{by}{':' if by else ''}{int(index) + 1}/{of}")


def _run(argv: list[str]) -> int:
    """Run to its end; who asks this process to end asks that one."""
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)

    def hand_on(_: int, __: FrameType | None) -> None:
        process.send_signal(signal.SIGINT)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, hand_on)
    return process.wait()
