"""Asks clauses of a cluster that is broken, each by pytest in a process that joins this run."""

import multiprocessing
import os
import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from e2e.errors import CannotRunError
from e2e.fixtures.settings import HOW_TO_ASK
from e2e.provider import kind
from e2e.provider.interrupts import shielded
from e2e.provider.lane import Lane
from e2e.provider.steps import Steps
from e2e.report.clauses import CONTRACT, contract
from e2e.report.lanes import seconds
from e2e.report.result import RESULT, ClauseResult, Result

LOG = "pytest.log"
# Of what pytest said, where it came to no result.
TAIL = 15
# What takes seconds to be read, and is needed by each of hundreds of processes.
PRELOADED = ["e2e.faults.child"]


@dataclass(frozen=True)
class Asking:
    """How clauses are asked.

    Attributes:
        lane: of the cluster.
        cluster: its name.
        tools: made it.
        run: the run that all processes join.
        processes: at most so many at once.
        steps: tell a person what is going on.
    """

    lane: Lane
    cluster: str
    tools: kind.Tools
    run: str
    processes: int
    steps: Steps

    def ask(
        self,
        clauses: Sequence[str],
        out: Path,
        *,
        within: float | None = None,
        through: Path | None = None,
    ) -> dict[str, ClauseResult]:
        """Ask these clauses, each by itself; those that disturb others last, one after another.

        What takes longest begins, so that nobody waits for one clause in the end.

        Args:
            clauses: their ids.
            out: the folder of the results.
            within: seconds in which a table has to settle, if not the usual ones.
            through: the kubeconfig by which they speak to the API server, if not the usual one.

        Returns:
            how each ended, by its id.

        Raises:
            CannotRunError: there is no result of one.
        """
        shutil.rmtree(out, ignore_errors=True)
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        usual = [
            *([f"--settle-within={within}"] if within else []),
            *([f"--through={through}"] if through else []),
        ]
        lonely = {each.id for each in contract() if each.is_disruptive}
        took = seconds()
        waiting = sorted(clauses, key=lambda name: (name in lonely, -took.get(name, inf)))
        running = list[Any]()
        try:
            while waiting or running:
                while waiting and len(running) < (1 if waiting[0] in lonely else self.processes):
                    running.append(self._start(context, waiting.pop(0), out, usual))
                ended = wait([process.sentinel for process in running])
                running = [process for process in running if process.sentinel not in ended]
        except KeyboardInterrupt:
            # Each has to remove what it made.
            with shielded(self.steps.say):
                for process in running:
                    os.kill(process.pid, signal.SIGINT)
                for process in running:
                    process.join()
            raise
        return {clause: _result(clause, out / clause) for clause in clauses}

    def _start(self, context: Any, clause: str, out: Path, more: Sequence[str]) -> Any:
        folder = out / clause
        folder.mkdir(parents=True)
        where = {each.id: each.where for each in contract()}
        argv = [
            f"{CONTRACT}/{where[clause]}",
            *HOW_TO_ASK,
            *("-p", "no:cacheprovider", "--tb=short", "--no-header"),
            # Plugins were read before, and assert nothing.
            *("-W", "ignore::pytest.PytestAssertRewriteWarning"),
            *("-rN", f"--out={folder}", f"--join={self.run}", f"--only={clause}"),
            *("--provider=kind", "--leased", f"--cluster-name={self.cluster}"),
            *(f"--k8s={self.lane.version}", f"--proxy={self.lane.proxy}"),
            *(f"--family={self.lane.family}", f"--shape={self.lane.shape}"),
            *(f"--kind-bin={self.tools.kind}", f"--kind-image={self.tools.image}"),
            *more,
        ]
        from e2e.faults.child import ask  # noqa: PLC0415  # this process needs none of it

        process = context.Process(target=ask, args=(argv, str(folder / LOG)))
        process.start()
        return process


def _result(clause: str, folder: Path) -> ClauseResult:
    if not (folder / RESULT).exists():
        said = (folder / LOG).read_text(errors="replace").splitlines()[-TAIL:]
        raise CannotRunError("\n    ".join([f"{clause} came to no end", *said]))
    (found,) = Result.load(folder / RESULT).clauses
    return found
