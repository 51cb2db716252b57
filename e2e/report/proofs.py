"""Keeps what became of each fault on which lane, and tells which clauses were seen to fail."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from e2e.report.faults import faults
from e2e.report.matrix import Matrix, Trial, counted

DOCS = Path(__file__).parents[2] / "docs"
SEEN = Path(__file__).with_name("faults.json")


def record(file: Path) -> str:
    """Keep what a run found, with what it did not ask again; gives how much of it is kept."""
    found = Matrix.load(file)
    known = {(trial.fault, trial.lane): trial for trial in seen()}
    kept = []
    for trial in found.trials:
        old = known.get((trial.fault, trial.lane))
        # Nothing is known from an error.
        if trial.ended == "error" and old and old.ended != "error":
            continue
        known[trial.fault, trial.lane] = _merged(old, trial)
        kept.append(trial)
    trials = sorted(known.values(), key=lambda trial: (trial.lane, trial.fault))
    merged = found.model_copy(update={"trials": tuple(trials), "untried": ()})
    SEEN.write_text(merged.model_dump_json(indent=1) + "\n")
    return counted(kept)


def _merged(old: Trial | None, new: Trial) -> Trial:
    # Reasons name pods and nodes that nobody will find again.
    new = new.model_copy(update={"why": ()})
    if old is None or old.ended == "error":
        return new
    may = {clause for fault in faults() if fault.name == new.fault for clause in fault.also}
    also = {clause: ended for clause, ended in old.also.items() if clause in may}
    return new.model_copy(
        update={"specs": new.specs or old.specs, "also": {**also, **new.also}},
    )


def seen() -> tuple[Trial, ...]:
    """What became of faults, as faults.json has it; nothing where that is not at hand."""
    known = {fault.name for fault in faults()}
    trials = Matrix.load(SEEN).trials if SEEN.exists() else ()
    return tuple(trial for trial in trials if trial.fault in known)


@cache
def proved() -> Mapping[str, list[str]]:
    """The faults under which each clause was seen to fail, by clause."""
    found: dict[str, list[str]] = {}
    for trial in seen():
        for clause in trial.proved:
            names = found.setdefault(clause, [])
            names += [trial.fault] if trial.fault not in names else []
    return found
