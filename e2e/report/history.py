"""The runs of a folder of results, kept in one SQLite file."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from e2e.errors import UsageError
from e2e.report.result import Result, percentiles

HISTORY = "history.sqlite"
FORMAT = 1
# Runs that end at the same moment in the same folder take turns.
BUSY = 10.0
TABLES = """
CREATE TABLE runs (
  number INTEGER PRIMARY KEY, run TEXT UNIQUE NOT NULL, began TEXT NOT NULL, lane TEXT NOT NULL,
  asked TEXT NOT NULL, exit_code INTEGER NOT NULL, whole INTEGER NOT NULL, held INTEGER NOT NULL,
  failed INTEGER NOT NULL, broken INTEGER NOT NULL, skipped INTEGER NOT NULL, seconds REAL NOT NULL,
  p50 REAL, p95 REAL, slowest REAL
);
CREATE TABLE endings (
  number INTEGER NOT NULL REFERENCES runs, clause TEXT NOT NULL, ended TEXT NOT NULL,
  seconds REAL NOT NULL, PRIMARY KEY (clause, number)
) WITHOUT ROWID;
CREATE INDEX by_lane ON runs (lane, number);
"""


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        number: its place among all.
        run: its id.
        began: when.
        lane: what was asked for.
        asked: the command that asks the same.
        exit_code: 0 if all held, 1 if a clause did not, 2 if there is no verdict.
        whole: whether all was asked that should have been.
        held: how many clauses did.
        failed: how many did not.
        broken: how many could not be judged.
        skipped: how many were not asked.
        seconds: how long it took.
        p50: the median of the seconds until flows were right for good; None if none was timed.
        p95: likewise the 95th percentile.
        slowest: likewise the largest.
    """

    number: int
    run: str
    began: datetime
    lane: str
    asked: str
    exit_code: int
    whole: bool
    held: int
    failed: int
    broken: int
    skipped: int
    seconds: float
    p50: float | None
    p95: float | None
    slowest: float | None


class History:
    """What a folder of results knows of its runs.

    Raises:
        UsageError: the file is no history, or one of another format.
    """

    def __init__(self, out: Path) -> None:
        self.file = out / HISTORY
        with self._open() as database:
            (found,) = database.execute("PRAGMA user_version").fetchone()
            if not found:
                # Whoever comes first makes it, should two runs end at the same moment.
                made = TABLES.replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS")
                made = made.replace("CREATE INDEX", "CREATE INDEX IF NOT EXISTS")
                database.executescript(f"{made}; PRAGMA user_version = {FORMAT};")
            elif found != FORMAT:
                raise UsageError(
                    f"{self.file} has the format {found}, and this version reads {FORMAT}",
                    "use the version that wrote it, or move it away",
                )

    def add(self, result: Result) -> None:
        """Keep a run; a run that is there already stays as it is."""
        times = percentiles(result.times) if result.times else (None, None, None)
        counts = result.counts
        row = (
            *(result.run, result.began.isoformat(), result.where, result.reproduce),
            *(result.exit_code, result.whole),
            *(counts.held, counts.failed, counts.broken, counts.skipped, result.seconds, *times),
        )
        with self._open() as database:
            added = database.execute(
                f"INSERT OR IGNORE INTO runs VALUES (NULL{', ?' * len(row)})",  # noqa: S608  # marks
                row,
            )
            if added.rowcount:
                database.executemany(
                    "INSERT INTO endings VALUES (?, ?, ?, ?)",
                    [(added.lastrowid, c.clause, c.ended, c.seconds) for c in result.clauses],
                )

    def lanes(self) -> list[str]:
        """What was ever asked for, the latest last."""
        with self._open() as database:
            rows = database.execute("SELECT lane FROM runs GROUP BY lane ORDER BY max(number)")
            return [lane for (lane,) in rows]

    def runs(self, lane: str, *, last: int, asked: str | None = None) -> list[Run]:
        """The last runs of a lane, the newest last; with `asked` only those that asked the same."""
        with self._open() as database:
            rows = database.execute(
                "SELECT * FROM runs WHERE lane = ? AND coalesce(asked = ?, 1)"
                " ORDER BY number DESC LIMIT ?",
                (lane, asked, last),
            ).fetchall()
        return [
            Run(number, run, datetime.fromisoformat(began), lane, said, code, bool(whole), *rest)
            for number, run, began, lane, said, code, whole, *rest in reversed(rows)
        ]

    def endings(self, runs: Sequence[Run]) -> dict[str, list[tuple[int, str]]]:
        """How each clause ended in some runs: their numbers, in order, and the end."""
        found: dict[str, list[tuple[int, str]]] = {}
        if runs:
            numbers = {run.number for run in runs}
            with self._open() as database:
                rows = database.execute(
                    "SELECT clause, number, ended FROM endings WHERE number BETWEEN ? AND ?"
                    " ORDER BY number",
                    (min(numbers), max(numbers)),
                )
                for clause, number, ended in rows:
                    if number in numbers:
                        found.setdefault(clause, []).append((number, ended))
        return found

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """The file, whose changes are all kept or none."""
        try:
            with closing(sqlite3.connect(self.file, timeout=BUSY)) as database, database:
                yield database
        except sqlite3.Error as error:
            raise UsageError(
                f"{self.file} is no history that can be used: {error}", "move it away"
            ) from error
