"""What all measurements stand on: a cluster, and the command that asks the contract of it."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from e2e import timing
from e2e.bench.memory import memory_of, work
from e2e.cluster.api import Api
from e2e.errors import CannotRunError
from e2e.provider import kind
from e2e.provider.command import begin, interrupt
from e2e.provider.lane import Lane
from e2e.provider.steps import Steps
from e2e.report.junit import Case, read_cases
from e2e.report.summary import FAILED
from e2e.wait import WaitedInVainError, wait_until

# Which clauses are measured: all that are neither slow nor disruptive.
FAMILIES = ("core", "extended")
# Variables that the command that is measured may see; the others were meant for this one, and
# E2E_KEEP, for one, would keep clusters that are made only to be measured.
HANDED_ON = ("E2E_CACHE", "E2E_INSTALL_ENGINE")


@dataclass(frozen=True)
class Run:
    """One run of the contract.

    Attributes:
        seconds: from the start of the command to its end.
        peak: the most memory of all its processes together, in bytes.
        work: core seconds of the whole machine, the cluster's share too.
        cases: its clauses.
    """

    seconds: float
    peak: int
    work: float
    cases: list[Case]

    def ended(self, how: str) -> list[str]:
        """The ids of the clauses that ended in one way; one that could not be judged failed too."""
        return sorted(
            case.clause
            for case in self.cases
            if case.ended == how or (how == FAILED and case.is_wrong)
        )


@dataclass(frozen=True)
class Ground:
    """Where is measured, and how often.

    Attributes:
        lane: of the cluster.
        tools: make clusters.
        steps: tell a person what is being done.
        out: the folder of the results.
        times: how often each thing is measured.
        sizes: numbers of nodes for which growth is measured.
        name: of the cluster.
        kubeconfig: of the cluster.
    """

    lane: Lane
    tools: kind.Tools
    steps: Steps
    out: Path
    times: int
    sizes: tuple[int, ...]
    name: str
    kubeconfig: Path = Path()

    @contextmanager
    def cluster(self) -> Iterator["Ground"]:
        """The ground with its cluster: a kept one, or one that is made and removed afterwards."""
        evidence = self.out / "evidence"
        with kind.lease(
            self.lane, self.tools, self.steps, name=self.name, keep=False, evidence=evidence
        ) as cluster:
            yield replace(self, kubeconfig=cluster.kubeconfig_path)

    def ask(self, out: str, *more: str) -> Run:
        """Ask the contract, as a person would, as a command of its own.

        Args:
            out: the folder of this run, in that of the results.
            more: options of pytest.

        Raises:
            CannotRunError: it did not come to a verdict.
        """
        folder = self.out / out
        folder.mkdir(parents=True, exist_ok=True)
        argv = [
            *(sys.executable, "-m", "e2e.cli", "run", f"--out={folder}"),
            *(f"--k8s={self.lane.version}", f"--proxy={self.lane.proxy}"),
            *(f"--family={self.lane.family}", f"--shape={self.lane.shape}"),
            *(f"--node-image={self.tools.image}", f"--cluster-name={self.name}"),
            *("--", *more),
        ]
        log = folder / "run.log"
        began, before = time.monotonic(), work()
        code, peak = watch(argv, log)
        took = time.monotonic() - began
        if code not in (0, 1):
            last = "\n    ".join(log.read_text(errors="replace").splitlines()[-8:])
            raise CannotRunError(f"the contract was not asked:\n    {last}", f"see {log}")
        return Run(took, peak, work() - before, read_cases(folder / "junit.xml"))

    def quiet(self) -> None:
        """Wait until the cluster has removed what earlier runs made, which costs it time."""
        api = Api(self.kubeconfig)

        def leaving() -> list[str]:
            found = api.find_all("Namespace") + api.find_all("Pod")
            return [
                each["metadata"]["name"]
                for each in found
                if "deletionTimestamp" in each["metadata"]
            ]

        try:
            wait_until(
                lambda: not leaving(),
                what="the end of what earlier runs made",
                within=timing.NAMESPACE_GONE_WITHIN,
                seen=lambda: ", ".join(leaving()),
            )
        except WaitedInVainError as error:
            self.steps.say(f"going on all the same: {error}")


def watch(argv: Sequence[str], log: Path) -> tuple[int, int]:
    """Run a command to its end; gives its exit code and the most memory that it used.

    If this process is interrupted, so is the command, which may then clean up.
    """
    peak, process = 0, None
    try:
        with log.open("wb") as sink:
            process = begin(argv, sink, _environment())
        while True:
            try:
                return process.wait(timing.MEMORY_LOOK_EVERY), peak
            except subprocess.TimeoutExpired:
                peak = max(peak, memory_of(process.pid))
    except BaseException:
        interrupt([process] if process else [], print)
        raise


def _environment() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("E2E_") or name in HANDED_ON
    }
