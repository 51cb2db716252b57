"""Keeps the figures of a clause that hold or not: times to settle and samples that were judged."""

from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass
class Journal:
    """What one clause measured on its way to its verdict.

    Attributes:
        settled: one entry a table: seconds until it held, number of flows, number of looks.
        judged: one entry a statistical verdict: the flow, sample size and p-values.
        watched: one entry a track: how many attempts, how many failed, the longest gap.
        converged: seconds until each flow of a table was right for good, with its name.
        measured: any other figure that is worth a line, with what it is of.
    """

    settled: list[tuple[float, int, int]] = field(default_factory=list)
    judged: list[str] = field(default_factory=list)
    watched: list[str] = field(default_factory=list)
    converged: list[tuple[str, float]] = field(default_factory=list)
    measured: list[str] = field(default_factory=list)


current: ContextVar[Journal | None] = ContextVar("journal", default=None)
"""The journal of the clause that runs now; checks outside a clause write nowhere."""


def measured(what: str) -> None:
    """Keep a figure that no verdict depends on."""
    if book := current.get():
        book.measured.append(what)
