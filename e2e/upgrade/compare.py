"""Compares any two runs: two versions, two modes, yesterday and today."""

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

from e2e.check.fingerprint import Behaviour, Fingerprint
from e2e.errors import UsageError
from e2e.report.junit import read_cases
from e2e.report.verdict import Changes
from e2e.upgrade import changes
from e2e.upgrade.observe import behaviours_of
from e2e.upgrade.prepare import AFTER, BEFORE

JUNIT = "junit.xml"


@dataclass(frozen=True)
class Run:
    """What is known of one run.

    Attributes:
        name: as it was named.
        behaviours: by clause.
        fingerprint: everything else, if it was taken.
    """

    name: str
    behaviours: dict[str, Behaviour]
    fingerprint: Fingerprint | None = None


def read_run(place: Path) -> Run:
    """Read a run's folder, its junit.xml, or a fingerprint.

    Raises:
        UsageError: it is none of these, or both the one of before and the one of after.
    """
    if not place.is_dir():
        return _of_junit(place, str(place)) if place.suffix == ".xml" else _of_fingerprint(place)
    taken = [place / name for name in (BEFORE, AFTER) if (place / name).exists()]
    if len(taken) == 2:
        raise UsageError(
            f"{place} has two fingerprints", f"name one of them: {taken[0]} or {taken[1]}"
        )
    if (place / JUNIT).exists():
        # Of a run whose folder has both, the clauses are in the newer file.
        run = _of_junit(place / JUNIT, str(place))
        return Run(run.name, run.behaviours, Fingerprint.load(taken[0]) if taken else None)
    if taken:
        return _of_fingerprint(taken[0])
    raise UsageError(
        f"{place} has neither {JUNIT} nor {BEFORE} nor {AFTER}"
        if place.exists()
        else f"there is no {place}",
        "name the folder of a run (--out), or a fingerprint",
    )


def compare(a: Run, b: Run) -> Changes:
    """What differs, where whatever is otherwise counts."""
    if not (a.behaviours and b.behaviours) and not (a.fingerprint and b.fingerprint):
        raise UsageError(
            f"{a.name} and {b.name} have nothing in common that could be compared",
            "compare two runs of the contract, or two fingerprints",
        )
    if a.fingerprint and b.fingerprint:
        return changes.of_fingerprints(
            a.fingerprint.model_copy(update={"behaviours": a.behaviours}),
            b.fingerprint.model_copy(update={"behaviours": b.behaviours}),
            strict=True,
            namespace=_of_prepared(a.fingerprint),
            names=(a.name, b.name),
        )
    return changes.of_behaviours(a.behaviours, b.behaviours, (a.name, b.name), strict=True)


def _of_prepared(fingerprint: Fingerprint) -> str:
    """The namespace of what was prepared, if anything was."""
    stored = fingerprint.prepared.values()
    return next((str(each["metadata"].get("namespace", "")) for each in stored), "")


def _of_junit(file: Path, name: str) -> Run:
    try:
        cases = read_cases(file)
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error
    except (ET.ParseError, AssertionError, ValueError) as error:
        raise UsageError(f"{file} is no junit.xml of the contract: {error}") from error
    if not cases:
        raise UsageError(f"{file} has no clause", "name a run of the contract that asked some")
    return Run(name, {each.clause: each for each in behaviours_of(cases)})


def _of_fingerprint(file: Path) -> Run:
    taken = Fingerprint.load(file)
    return Run(str(file), taken.behaviours or {}, taken)
