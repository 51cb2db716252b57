"""Runs a command of ours on several clusters of this machine at once, by a process for each."""

import os
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from e2e.errors import CannotRunError, RefusedError, StopError, UsageError
from e2e.provider.command import begin, interrupt, own_program

# In the folder of results, for each cluster what it would leave there alone.
CLUSTERS = "clusters"
# What commands end with.
CODES = range(5)


def named(name: str, count: int) -> list[str]:
    """Names of so many clusters: this one, and the same with numbers."""
    return [f"{name}-{number}" if number > 1 else name for number in range(1, count + 1)]


def run_on_clusters(
    commands: Mapping[str, Sequence[str]],
    out: Path,
    say: Callable[[str], None],
    *,
    unsaid: str = "",
) -> list[int]:
    """Run a command of ours on each of some clusters, and wait for all.

    Args:
        commands: by the name of the cluster, without that and its folder for results.
        out: the folder of all results.
        say: tells a person what each of them says.
        unsaid: a variable of the environment that was meant for this command alone.

    Returns:
        their exit codes in that order; 2 of one that was killed.
    """
    running: list[subprocess.Popen[bytes]] = []
    telling: list[threading.Thread] = []
    variables = {key: value for key, value in os.environ.items() if key != unsaid}
    try:
        for cluster, words in commands.items():
            folder = out / CLUSTERS / cluster
            where = (f"--cluster-name={cluster}", f"--out={folder}")
            argv = [*own_program("e2e.cli"), *words, "--clusters=1", *where]
            process = begin(argv, subprocess.PIPE, variables)
            running.append(process)
            assert process.stdout is not None
            telling.append(threading.Thread(target=_tell, args=(process.stdout, cluster, say)))
            telling[-1].start()
        codes = [process.wait() for process in running]
    except BaseException:
        interrupt(running, say)
        raise
    finally:
        for each in telling:
            each.join()
    # A process that was killed has a code that no command of ours ends with.
    return [code if code in CODES else CannotRunError.exit_code for code in codes]


def none_came(what: str, code: int) -> StopError:
    """The error of a command of which no cluster brought anything.

    Args:
        what: did not happen.
        code: the worst of their exit codes.
    """
    errors = {error.exit_code: error for error in (RefusedError, UsageError)}
    return errors.get(code, CannotRunError)(what, "see above what each cluster said")


def _tell(output: IO[bytes], cluster: str, say: Callable[[str], None]) -> None:
    for line in output:
        say(f"{cluster}: {line.decode(errors='replace').rstrip()}")
