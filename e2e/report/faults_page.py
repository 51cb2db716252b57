"""The page of a `make faults`: which clause noticed which fault, in one file for a browser."""

from collections.abc import Mapping
from dataclasses import dataclass

from e2e.report.clauses import contract
from e2e.report.faults import Fault, faults
from e2e.report.matrix import Matrix, Trial
from e2e.report.pages import render
from e2e.report.run_answers import duration

PAGE = "faults.html"
LOOKS = {"detected": "good", "partly": "bad", "missed": "bad", "error": "unsure"}


@dataclass(frozen=True)
class Row:
    """One clause in the matrix.

    Attributes:
        clause: its id.
        cells: how it ended while each fault was in force, and whether it had to fail; None where
            it was not asked.
        failed: how often it failed.
    """

    clause: str
    cells: tuple[tuple[str, bool] | None, ...]

    @property
    def failed(self) -> int:
        """While how many faults were in force it was seen to fail."""
        return sum(cell is not None and cell[0] == "failed" for cell in self.cells)


def faults_page(matrix: Matrix) -> str:
    """The page as HTML."""
    trials = matrix.trials
    known = {fault.name: fault for fault in faults()}
    lanes = sorted({trial.lane for trial in trials})
    wrong = [trial for trial in trials if trial.ended != "detected"]
    return render(
        "faults.html.j2",
        styles=("page.css", "run.css", "faults.css"),
        matrix=matrix,
        lanes=lanes,
        verdict=_verdict(matrix),
        good={0: True, 1: False}.get(matrix.exit_code),
        wrong=wrong,
        rows=rows(trials),
        told={trial.fault: _told(known.get(trial.fault), trial) for trial in trials},
        known=known,
        looks=LOOKS,
        duration=duration,
    )


def rows(trials: tuple[Trial, ...]) -> list[Row]:
    """The matrix: the clauses that were asked, in the order of the contract."""
    asked = [_asked(trial) for trial in trials]
    every = {clause for each in asked for clause in each}
    order = {clause.id: number for number, clause in enumerate(contract())}
    return [
        Row(clause, tuple(each.get(clause) for each in asked))
        for clause in sorted(every, key=lambda clause: (order.get(clause, len(order)), clause))
    ]


def _asked(trial: Trial) -> Mapping[str, tuple[str, bool]]:
    """How each clause ended that was asked, and whether it had to fail."""
    might = {clause: (ended, False) for clause, ended in {**trial.spared, **trial.also}.items()}
    return might | {clause: (ended, True) for clause, ended in trial.noticed.items()}


def _verdict(matrix: Matrix) -> str:
    count = len(matrix.trials)
    if not count:
        return "No fault was tried"
    detected = sum(trial.ended == "detected" for trial in matrix.trials)
    tried, left = "", ""
    if few := len(matrix.untried):
        tried = f" that {'were' if count > 1 else 'was'} tried"
        left = f"; {few} {'were' if few > 1 else 'was'} not"
    if detected < count:
        return f"The contract notices {detected} of {count} faults{tried}{left}"
    if count == 1:
        return f"The fault{tried} is noticed{left}"
    return f"The contract notices all {count} faults{tried}{left}"


def _told(fault: Fault | None, trial: Trial) -> list[tuple[str, str]]:
    proxies = [word for word in trial.lane.split() if word in ("iptables", "nftables")]
    return fault.told(proxies[0]) if fault and proxies else []
