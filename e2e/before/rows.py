"""What a doctor found: one row for each thing that was looked at."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from e2e.errors import CannotRunError, StopError

OK, WARNS, FAILS = "ok", "warns", "fails"
# What to do where callers outside stand in a container.
FROM_BESIDE = (
    "nothing for a run: it calls from a container beside the nodes, and skips clauses that need "
    "sockets of this machine; prepare, watch and verify need a machine that reaches nodes"
)
MARKS = {OK: "✓", WARNS: "-", FAILS: "x"}


@dataclass(frozen=True)
class Row:
    """One thing, and how it is.

    Attributes:
        what: the thing.
        ends: ok; warns, if a run may begin and something will be otherwise than one may think; or
            fails, if no run can begin.
        said: what was seen.
        do: what to do about it.
        exit_code: with which a run would end for it.
    """

    what: str
    ends: str
    said: str
    do: str = ""
    exit_code: int = 0


def ok(what: str, said: str) -> Row:
    """All is there."""
    return Row(what, OK, said)


def warns(what: str, said: str, do: str) -> Row:
    """A run may begin all the same."""
    return Row(what, WARNS, said, do)


def fails(what: str, said: str, do: str) -> Row:
    """No run can begin, as it cannot run."""
    return Row(what, FAILS, said, do, CannotRunError.exit_code)


def failure(what: str, error: StopError) -> Row:
    """No run can begin, as this error would end it."""
    return Row(what, FAILS, error.what, error.do, error.exit_code)


def exit_code(rows: Sequence[Row]) -> int:
    """0 if a run may begin; else that of the first reason why not."""
    return next((row.exit_code for row in rows if row.ends == FAILS), 0)


def rows_text(rows: Sequence[Row]) -> str:
    """The rows for people, each with what to do."""
    width = max(len(row.what) for row in rows) + 1
    lines = []
    for row in rows:
        first, *more = row.said.splitlines() or [""]
        lines.append(f"{MARKS[row.ends]} {row.what:<{width}} {row.ends:<6} {first}")
        lines += [f"    {line}" for line in more]
        lines += [f"    what to do: {row.do}"] if row.do else []
    counts = {ends: sum(row.ends == ends for row in rows) for ends in MARKS}
    may = "no run can begin" if counts[FAILS] else "a run may begin"
    return "\n".join([*lines, f"{may}: " + ", ".join(f"{n} {ends}" for ends, n in counts.items())])


def rows_json(rows: Sequence[Row]) -> str:
    """The rows for programs."""
    return json.dumps([asdict(row) for row in rows], indent=1)
