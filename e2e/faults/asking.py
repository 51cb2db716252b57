"""Asks some clauses of a cluster that is broken, by pytest in a process that joins this run."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from e2e import timing
from e2e.errors import CannotRunError
from e2e.provider import kind
from e2e.provider.interrupts import shielded
from e2e.provider.lane import Lane
from e2e.provider.steps import Steps
from e2e.report.clauses import CONTRACT, contract
from e2e.report.result import RESULT, Result

LOG = "pytest.log"
# Of what pytest said, where it came to no result.
TAIL = 15


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

    def ask(self, clauses: Sequence[str], out: Path, *, within: float | None = None) -> Result:
        """Ask these clauses.

        Args:
            clauses: their ids.
            out: the folder of the results.
            within: seconds in which a table has to settle, if not the usual ones.

        Raises:
            CannotRunError: there is no result.
        """
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        where = {clause.id: clause.where for clause in contract()}
        count = min(self.processes, len(clauses))
        argv = [
            *(sys.executable, "-m", "pytest"),
            *(f"{CONTRACT}/{where[clause]}" for clause in clauses),
            *("-p", "no:cacheprovider", "--tb=short", "--no-header", "-rN", f"--out={out}"),
            *(f"--join={self.run}", f"--only={','.join(clauses)}", "--provider=kind", "--leased"),
            *(f"--k8s={self.lane.version}", f"--proxy={self.lane.proxy}"),
            *(f"--family={self.lane.family}", f"--shape={self.lane.shape}"),
            *(f"--kind-bin={self.tools.kind}", f"--kind-image={self.tools.image}"),
            f"--cluster-name={self.cluster}",
            *([f"--numprocesses={count}", "--dist=worksteal"] if count > 1 else []),
        ]
        code = self._run(argv, out / LOG, within)
        if not (out / RESULT).exists():
            said = (out / LOG).read_text(errors="replace").splitlines()[-TAIL:]
            raise CannotRunError(
                "\n    ".join([f"the clauses came to no end (exit code {code})", *said])
            )
        return Result.load(out / RESULT)

    def _run(self, argv: Sequence[str], log: Path, within: float | None) -> int:
        """Run it to its end, also when somebody stops this process: it has to clean up."""
        tied = ["setpriv", "--pdeathsig", "INT"] if shutil.which("setpriv") else []
        patience = {timing.SETTLE_VARIABLE: str(within)} if within else {}
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*tied, *argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **patience},
                start_new_session=True,
            )
            try:
                return process.wait()
            except KeyboardInterrupt:
                with shielded(self.steps.say):
                    process.send_signal(signal.SIGINT)
                    process.wait()
                raise
