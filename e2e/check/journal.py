"""Keeps the figures of a clause that hold or not: times to settle and samples that were judged."""

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from typing import Any

from e2e.probe import Flow


@dataclass(frozen=True)
class FlowEnd:
    """How one flow ended, beside how it may end.

    Attributes:
        caller: who called.
        target: the name of what was called.
        port: of it.
        protocol: TCP or UDP.
        family: IPv4 or IPv6; nothing where a name was called.
        want: how it may end, in words.
        saw: how it ended.
        right: whether it may.
        took: seconds until it was right for good.
    """

    caller: str
    target: str
    port: int
    protocol: str
    family: str
    want: str
    saw: str
    right: bool
    took: float | None = None

    @classmethod
    def of(
        cls, flow: Flow, want: object, saw: object, *, right: bool, took: float | None = None
    ) -> "FlowEnd":
        """Note a flow in words."""
        to = flow.target
        where = (flow.caller.name, to.name, to.port, to.protocol, to.family)
        return cls(*where, str(want), str(saw), right, took)


@dataclass(frozen=True)
class Load:
    """How the connections of one flow were shared among pods, which was to be evenly.

    Attributes:
        flow: its name.
        counts: connections, by pod.
        nodes: where each pod runs, as far as that is known.
        least: fewer connections than these a pod gets by chance once in a billion times.
        most: likewise more.
        even: the p-value of the shares.
        random: the p-value of how often one pod is picked twice in a row.
        problem: what is wrong, if anything.
    """

    flow: str
    counts: dict[str, int]
    nodes: dict[str, str]
    least: int
    most: int
    even: float
    random: float
    problem: str


@dataclass(frozen=True)
class Outages:
    """When one flow that was watched was not answered.

    Attributes:
        track: its name, and the way of asking.
        seconds: how long it was watched.
        attempts: how many there were.
        spans: from and to, in seconds since the watch began, how most attempts ended then, and how
            many there were.
    """

    track: str
    seconds: float
    attempts: int
    spans: list[tuple[float, float, str, int]]


@dataclass
class Journal:
    """What one clause measured on its way to its verdict.

    Attributes:
        settled: one entry a table: seconds until it held, number of flows, number of looks.
        judged: one entry a statistical verdict: the flow, sample size and p-values.
        watched: one entry a track: how many attempts, how many failed, the longest gap.
        converged: seconds until each flow of a table was right for good, with its name.
        measured: any other figure that is worth a line, with what it is of.
        flows: how each flow of each table ended.
        loads: one entry a statistical verdict, with the counts.
        outages: one entry a track that was not always answered.
        requests: how many were sent to the API server.
    """

    settled: list[tuple[float, int, int]] = field(default_factory=list)
    judged: list[str] = field(default_factory=list)
    watched: list[str] = field(default_factory=list)
    converged: list[tuple[str, float]] = field(default_factory=list)
    measured: list[str] = field(default_factory=list)
    flows: list[FlowEnd] = field(default_factory=list)
    loads: list[Load] = field(default_factory=list)
    outages: list[Outages] = field(default_factory=list)
    requests: int = 0

    def as_data(self) -> Mapping[str, Any]:
        """All of it in types that can be handed from one process to another."""
        return asdict(self)


current: ContextVar[Journal | None] = ContextVar("journal", default=None)
"""The journal of the clause that runs now; checks outside a clause write nowhere."""


def measured(what: str) -> None:
    """Keep a figure that no verdict depends on."""
    if book := current.get():
        book.measured.append(what)
