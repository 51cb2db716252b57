"""What is known of a run of the contract, as data: result.json, from which all else is made."""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import Field

from e2e.report.clauses import Clause
from e2e.report.verdict import Part, read_part

RESULT = "result.json"


class FlowEnd(Part):
    """How one flow of a clause ended, beside how it may end.

    Attributes:
        caller: who called.
        vantage: where such callers stand.
        target: the name of what was called.
        node: through which node; nothing where no node port was called.
        port: that was called.
        protocol: TCP or UDP.
        family: IPv4 or IPv6; nothing where a name was called.
        want: how it may end, in words.
        saw: how it ended.
        right: whether it may.
        took: seconds until it was right for good; null where that is not known.
        times: in so many tables of the clause it ended so; `took` is of the slowest.
    """

    caller: str
    vantage: str
    target: str
    node: str
    port: int
    protocol: str
    family: str
    want: str
    saw: str
    right: bool
    took: float | None = None
    times: int = 1

    def __str__(self) -> str:
        protocol = "" if self.protocol == "TCP" else f"/{self.protocol}"
        return f"{self.caller} -> {self.target}:{self.port}{protocol}"


class Load(Part):
    """How the connections of one flow were shared among pods, which was to be evenly.

    Attributes:
        flow: its name.
        node: through which node.
        counts: connections, by pod.
        nodes: where each pod runs, as far as that is known.
        least: fewer connections than these a pod gets by chance once in a billion times.
        most: likewise more.
        even: the p-value of the shares.
        random: the p-value of how often one pod is picked twice in a row.
        problem: what is wrong, if anything.
    """

    flow: str
    node: str
    counts: dict[str, int]
    nodes: dict[str, str]
    least: int
    most: int
    even: float
    random: float
    problem: str = ""


class Outages(Part):
    """When one flow that was watched was not answered.

    Attributes:
        track: its name, and the way of asking.
        node: through which node.
        seconds: how long it was watched.
        attempts: how many there were.
        spans: from and to, in seconds since the watch began, how most attempts ended then, and how
            many there were.
    """

    track: str
    node: str
    seconds: float
    attempts: int
    spans: tuple[tuple[float, float, str, int], ...]


class ClauseResult(Part):
    """One clause of a run.

    Attributes:
        clause: its id.
        topic: the statement of its file.
        claim: the clause itself.
        where: file and test.
        covers: ids of the promises and behaviours that it proves.
        families: core, extended, disruptive, slow.
        needs: what a cluster or machine must have for it.
        vantages: where its callers stand.
        known_bug: the issue of the upstream bug whose present effect it pins, if it does.
        ended: held; failed, which is a verdict on the cluster; broken, which says that there is
            none; or skipped.
        said: the message of a failure, or the reason of a skip.
        why: the lines that give the reason of a failure.
        reasons: the names of those reasons.
        evidence: the folder of a failure, from the folder of this file if it is in it.
        seconds: how long set-up, call and tear-down took.
        settled: for each table the seconds until it held, its flows, and the looks.
        converged: each flow, and the seconds until it was right for good.
        chosen: what it saw hold of what the contract leaves to implementations and versions.
        judged: its statistical verdicts.
        watched: what was seen of each track.
        measured: other figures.
        flows: how each flow of each table ended.
        loads: how connections were shared.
        outages: when what was watched was not answered.
        requests: how many were sent to the API server, those that let pods call among them.
    """

    clause: str
    topic: str = ""
    claim: str = ""
    where: str = ""
    covers: tuple[str, ...] = ()
    families: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    vantages: tuple[str, ...] = ()
    known_bug: str = ""
    ended: Literal["held", "failed", "broken", "skipped"]
    said: str = ""
    why: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    evidence: str = ""
    seconds: float = 0.0
    settled: tuple[tuple[float, int, int], ...] = ()
    converged: tuple[tuple[str, float], ...] = ()
    chosen: tuple[str, ...] = ()
    judged: tuple[str, ...] = ()
    watched: tuple[str, ...] = ()
    measured: tuple[str, ...] = ()
    flows: tuple[FlowEnd, ...] = ()
    loads: tuple[Load, ...] = ()
    outages: tuple[Outages, ...] = ()
    requests: int = 0

    @property
    def is_wrong(self) -> bool:
        """Whether it failed, or could not be judged."""
        return self.ended in ("failed", "broken")

    def about(self, clause: Clause) -> "ClauseResult":
        """The same, with what the source of the contract says of the clause."""
        known = {name: getattr(clause, name) for name in ("topic", "claim", "where", "covers")}
        known |= {name: getattr(clause, name) for name in ("families", "needs", "vantages")}
        return self.model_copy(update={**known, "known_bug": clause.known_bug})


class Counts(Part):
    """How many clauses ended how.

    Attributes:
        held: on this lane the cluster does as the clause says.
        failed: it does not.
        broken: that could not be judged.
        skipped: it was not asked.
    """

    held: int = 0
    failed: int = 0
    broken: int = 0
    skipped: int = 0

    @classmethod
    def of(cls, clauses: Iterable[ClauseResult]) -> "Counts":
        """Count them."""
        return cls.model_validate(Counter(clause.ended for clause in clauses))


class Found(Part):
    """What the cluster says of itself.

    Attributes:
        version: of its API server.
        proxy: what makes its node ports work.
        families: of its nodes' addresses.
        nodes: their names, control planes first.
        cluster: the UID of its kube-system namespace, as no two clusters have one; nothing if it
            may not be read.
        through: the nodes through which flows were asked, if not all.
    """

    version: str
    proxy: str
    families: tuple[str, ...]
    nodes: tuple[str, ...]
    cluster: str = ""
    through: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.version}, {self.proxy}, {' and '.join(self.families)}"


class Merged(Part):
    """One of the results of which another was merged.

    Attributes:
        run: its id.
        shard: which part of the whole it was to ask, such as 1/4; nothing if all of it.
        began: when.
        seconds: how long it took.
        exit_code: its own verdict.
        counts: how many clauses ended how in it.
        missing: clauses that it was to ask and did not.
        machine: where it ran.
        outside: where its callers outside stood.
    """

    run: str
    shard: str
    began: datetime
    seconds: float
    exit_code: int
    counts: Counts
    missing: tuple[str, ...] = ()
    machine: str = ""
    outside: str = ""


class Result(Part):
    """Everything that is known of a run.

    Attributes:
        format: of this file.
        run: its id.
        began: when.
        seconds: how long it took.
        where: the lane or the context that was asked for.
        provider: kind for a cluster that the run made, existing for one that it found.
        found: what the cluster says of itself; null if the run did not get so far.
        counts: how many clauses ended how.
        exit_code: 0 if all held, 1 if a clause did not, 2 if there is no verdict.
        whole: whether all clauses were asked that should have been.
        asked_for: the ids of these clauses.
        shard: which part of a whole they are, such as 1/4, or nodes:1/4 where each part asks them
            through other nodes; nothing if they are the whole.
        whole_of: the ids of all clauses of that whole; those of the other parts among them.
        merged: the results of which this one was merged, if it was.
        gaps: what is missing of them, so that not all is known.
        told: what else there is to know of them.
        clauses: every one of them, by topic.
        environment: the harness and the machine, by name.
        reproduce: the command that asks the same of such a cluster.
    """

    format: Literal[2] = 2
    run: str
    began: datetime
    seconds: float
    where: str
    provider: Literal["kind", "existing"] = "kind"
    found: Found | None = None
    counts: Counts
    exit_code: int
    whole: bool = True
    asked_for: tuple[str, ...] = ()
    shard: str = ""
    whole_of: tuple[str, ...] = ()
    merged: tuple[Merged, ...] = ()
    gaps: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    clauses: tuple[ClauseResult, ...]
    environment: dict[str, str] = Field(default_factory=dict)
    reproduce: str

    @property
    def lane(self) -> str:
        """What was asked for, without what kind of thing that is."""
        return self.where.partition(": ")[2]

    @property
    def wrong(self) -> tuple[ClauseResult, ...]:
        """What failed, then what could not be judged."""
        wrong = [clause for clause in self.clauses if clause.is_wrong]
        return tuple(sorted(wrong, key=lambda clause: clause.ended == "broken"))

    @property
    def missing(self) -> tuple[str, ...]:
        """Clauses that were asked for and of which nothing is known."""
        known = {clause.clause for clause in self.clauses}
        return tuple(name for name in self.asked_for if name not in known)

    @property
    def times(self) -> list[float]:
        """Seconds until each flow of a clause that held was right for good, in order."""
        held = (clause for clause in self.clauses if clause.ended == "held")
        return sorted(took for clause in held for _, took in clause.converged)

    def save(self, folder: Path) -> None:
        """Write it into a folder."""
        (folder / RESULT).write_text(self.model_dump_json(indent=1) + "\n")

    @classmethod
    def load(cls, file: Path) -> "Result":
        """Read it from a file.

        Raises:
            UsageError: it cannot be read, or is no result of this format.
        """
        return read_part(cls, file, is_not="is no result")


def percentiles(times: list[float]) -> tuple[float, float, float]:
    """The median, the 95th percentile and the largest of some times, which are in order."""
    last = len(times) - 1
    return times[round(last * 0.5)], times[round(last * 0.95)], times[last]
