"""The record of a watch: several processes append lines to it, and it is read back as a whole."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from e2e.errors import UsageError
from e2e.upgrade.lines import (
    AnyLine,
    AttemptLine,
    End,
    Ended,
    EventLine,
    Held,
    Late,
    Looked,
    Lost,
    Placed,
    PodLine,
    RecorderLine,
    Stretch,
    read,
)
from e2e.upgrade.plan import WatchedFlow
from e2e.upgrade.presence import gone_since

RECORD = "watch.jsonl"
# As pydantic writes what all lines have.
BEGINNING = b'{"at":'
# No line of ours is longer, except a stretch's with thousands of flows.
LONGEST = 16 << 20


class Appender:
    """Appends whole lines to the record, beside other processes that do too."""

    def __init__(self, folder: Path) -> None:
        self._file = os.open(folder / RECORD, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)

    def append(self, text: str) -> None:
        """Append lines at once, so that nobody else's come between.

        A line that was torn when who wrote it was killed is ended before.

        Raises:
            OSError: not all of it could be written.
        """
        data = text.encode()
        if self._is_torn():
            data = b"\n" + data
        written = os.write(self._file, data)
        if written < len(data):
            raise OSError(f"only {written} of {len(data)} bytes could be written")

    def _is_torn(self) -> bool:
        size = os.lseek(self._file, 0, os.SEEK_END)
        return size > 0 and os.pread(self._file, 1, size - 1) != b"\n"

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


@dataclass
class FlowRecord:
    """What a record says of one flow, in the order of the file.

    Attributes:
        flow: which.
        number: its place in the stretch's list.
        attempts: those of which there is a line.
        lost: rows of attempts that ended alike.
        late: silent ones that were answered.
        ended: ends of kept connections.
        pods: who answered, and from when on.
        looked: stretches in which it was asked: from, to.
        held: stretches in which it was not, although it should have been: from, to, why.
        expected: how many attempts ended as expected.
        slowest: seconds, of those.
        joined: when its node was first found at this address, if not from the beginning.
        gone: since when it is there no more, if it did not come back.
    """

    flow: WatchedFlow
    number: int
    attempts: list[AttemptLine] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)
    late: list[Late] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)
    pods: list[PodLine] = field(default_factory=list)
    looked: list[tuple[float, float]] = field(default_factory=list)
    held: list[tuple[float, float, str]] = field(default_factory=list)
    expected: int = 0
    slowest: float = 0.0
    joined: float | None = None
    gone: float | None = None

    @property
    def served(self) -> float | None:
        """When it was answered first."""
        return min((line.at for line in self.pods), default=None)

    def look(self, at: float, to: float, count: int, slowest: float) -> None:
        """Take in that it was asked; stretches that follow one another become one."""
        if self.looked and self.looked[-1][1] == at:
            at = self.looked.pop()[0]
        self.looked.append((at, to))
        self.expected += count
        self.slowest = max(self.slowest, slowest)

    def add(self, line: AttemptLine | Lost | Late | Ended | PodLine) -> None:
        """Take in a line about it."""
        match line:
            case AttemptLine():
                self.attempts.append(line)
            case Lost():
                self.lost.append(line)
            case Late():
                self.late.append(line)
            case Ended():
                self.ended.append(line)
            case PodLine():
                self.pods.append(line)


@dataclass
class Record:
    """What was seen, from the first stretch to the last.

    Attributes:
        flows: by flow.
        events: of the cluster, in the order of time.
        placed: where nodes were found to be.
        stretches: when each began, and how it ended if it did not by being killed.
        rate: attempts a second for each flow.
        namespace: of the watched workloads.
        began: the first moment.
        until: the last one.
        unreached: IP families that were not watched, as the machine had no way to them, and why.
        torn: lines that broke off, as who wrote them was killed.
    """

    flows: dict[WatchedFlow, FlowRecord] = field(default_factory=dict)
    events: list[EventLine] = field(default_factory=list)
    placed: list[Placed] = field(default_factory=list)
    stretches: list[tuple[float, str | None]] = field(default_factory=list)
    rate: float = 20.0
    namespace: str = ""
    began: float = 0.0
    until: float = 0.0
    unreached: dict[str, str] = field(default_factory=dict)
    torn: int = 0

    _now: list[WatchedFlow] = field(default_factory=list)
    _recorders: dict[int, tuple[int, ...]] = field(default_factory=dict)

    def add(self, line: AnyLine) -> None:
        """Take in the next line of the file.

        Raises:
            ValueError: it contradicts those before it.
        """
        if isinstance(line, Stretch):
            self._begin(line)
            return
        if not self.stretches:
            raise ValueError("no stretch has begun before this line")
        self.until = max(self.until, getattr(line, "to", line.at))
        match line:
            case Placed():
                self._place(line)
            case RecorderLine():
                for number in line.flows:
                    self._flow(number)
                self._recorders[line.recorder] = line.flows
            case Looked():
                self._look(line)
            case AttemptLine() | Lost() | Late() | Ended() | PodLine():
                self._flow(line.flow).add(line)
            case Held():
                its = self._recorders.get(line.recorder, ())
                for number in its if line.flow is None else (line.flow,):
                    self._flow(number).held.append((line.at, line.to, line.why))
            case EventLine():
                self.events.append(line)
            case End():
                self.stretches[-1] = (self.stretches[-1][0], line.why)

    def _begin(self, line: Stretch) -> None:
        self.began = self.began or line.at
        self.until = max(self.until, line.at)
        self.stretches.append((line.at, None))
        self.rate, self.namespace = line.rate, line.namespace
        self.unreached |= line.unreached
        self._now, self._recorders = [], {}
        for flow in line.flows:
            self._watch(flow)

    def _place(self, line: Placed) -> None:
        self.placed.append(line)
        for flow in line.flows:
            one = self._watch(flow)
            one.joined = one.joined or line.at

    def _look(self, line: Looked) -> None:
        for number, (count, slowest) in line.counts.items():
            self._flow(number).look(line.at, line.to, count, slowest / 1000)

    def _watch(self, flow: WatchedFlow) -> FlowRecord:
        number = len(self._now)
        self._now.append(flow)
        one = self.flows.setdefault(flow, FlowRecord(flow, number))
        one.number = number
        return one

    def _flow(self, number: int) -> FlowRecord:
        if not 0 <= number < len(self._now):
            raise ValueError(f"the stretch has no flow {number}")
        return self.flows[self._now[number]]


class NothingRecordedError(UsageError):
    """A record without a single whole line: its watch was killed before it asked anybody."""


def load(folder: Path) -> Record:
    """Read the record of a folder.

    Lines may be torn, if who wrote them was killed; they are counted.

    Raises:
        NothingRecordedError: it has no whole line.
        UsageError: there is none, or a line means nothing; says which.
    """
    file = folder / RECORD
    if not file.exists():
        raise UsageError(f"{file} does not exist", "run `nodeport-e2e watch` with this folder")
    record = Record()
    _take_in(record, file)
    if not record.stretches:
        raise NothingRecordedError(
            f"{file} has not a single whole line", "run `nodeport-e2e watch` again"
        )
    record.events.sort(key=lambda event: event.at)
    for one in record.flows.values():
        one.gone = gone_since(one.flow, record.events, record.placed)
    return record


def _take_in(record: Record, file: Path) -> None:
    with file.open("rb") as lines:
        number = 0
        while text := lines.readline(LONGEST):
            number += 1
            if not text.strip():
                continue
            try:
                record.add(read(text))
            except (ValueError, RecursionError) as error:
                if not _is_torn(text):
                    raise _damaged(file, number, error) from error
                record.torn += 1


def _is_torn(text: bytes) -> bool:
    """Whether a line begins as ours do and breaks off, rather than saying what means nothing."""
    if not (text.startswith(BEGINNING) or BEGINNING.startswith(text.strip())):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return True
    return False


def _damaged(file: Path, number: int, error: Exception) -> UsageError:
    why = str(error)
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        why = f"{where}: {first['msg']}" if where else str(first["msg"])
    return UsageError(
        f"{file}, line {number}: {why[:300]}",
        "it is no record of a watch, or was changed since; cut that line out or watch anew",
    )
