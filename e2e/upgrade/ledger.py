"""What a recorder writes down: counts while all is as expected, every attempt that is not."""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from e2e.probe import ANSWERED, Outcome, Reply
from e2e.probe.outcome import CLOSED
from e2e.probe.pulse import clock
from e2e.upgrade.lines import (
    AnyLine,
    AttemptLine,
    Ended,
    Held,
    Late,
    Looked,
    Lost,
    PodLine,
    write,
)
from e2e.upgrade.plan import WatchedFlow

# After so many in a row that are lost alike, one line tells of all that follow.
ALIKE = 100
# So many attempts that were answered are remembered, until one between them is called silent.
REMEMBERED = 200


@dataclass
class _Page:
    """What is known of one flow and not yet written."""

    expects_answer: bool
    one_pod: bool
    count: int = 0
    slowest: float = 0.0
    answered: deque[tuple[float, Reply]] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    pods: set[str] = field(default_factory=set)
    # Begins of expected attempts of which there is a line already.
    shown: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    # The last attempt that was lost, while none that began after it is known to be answered.
    open_since: float | None = None
    alike: int = 0
    last: str = ""
    sum: tuple[float, float, int] | None = None


class Ledger:
    """Takes what askers tell, and makes lines of it.

    Attributes:
        broken: why attempts could not be made, if some could not.
    """

    def __init__(
        self,
        recorder: int,
        flows: Mapping[int, WatchedFlow],
        unix: Callable[[float], float],
        every: float,
    ) -> None:
        """Begin.

        Args:
            recorder: its number.
            flows: by their numbers.
            unix: turns what the clock says into Unix time.
            every: seconds between two attempts of a flow.
        """
        self._recorder, self._unix, self._every = recorder, unix, every
        self._pages: dict[int, _Page] = {}
        self._lines: list[str] = []
        self._since = clock()
        self._unasked: dict[tuple[int, str], tuple[float, float]] = {}
        self._held: float = 0.0
        self._open(flows)

    def add(self, flows: Mapping[int, WatchedFlow]) -> None:
        """Take in what more flows bring from now on."""
        # They were not asked before this moment, and a summary is of all of its time.
        self.looked()
        self._open(flows)

    def _open(self, flows: Mapping[int, WatchedFlow]) -> None:
        for number, flow in flows.items():
            one_pod = flow.way in ("one connection", "UDP")
            self._pages[number] = _Page(flow.expects == "answered", one_pod)

    def ended(self, key: int, began: float, reply: Reply) -> None:
        """Note how an attempt ended."""
        page = self._pages[key]
        if (reply.outcome == ANSWERED) if page.expects_answer else (reply.outcome in CLOSED):
            self._expected(key, page, began, reply)
        else:
            self._unexpected(key, page, began, reply)

    def _expected(self, key: int, page: _Page, began: float, reply: Reply) -> None:
        page.count += 1
        if began > self._held:
            page.slowest = max(page.slowest, reply.took)
        page.answered.append((began, reply))
        if reply.echo and reply.echo not in page.pods:
            if page.one_pod:
                page.pods.clear()
            page.pods.add(reply.echo)
            self._write(PodLine(at=self._at(began), flow=key, pod=reply.echo))
        if page.open_since is not None and began > page.open_since:
            page.open_since = None
            page.alike = 0
            self._sum_up(key, page)
            self._show(key, page, began, reply)

    def _unexpected(self, key: int, page: _Page, began: float, reply: Reply) -> None:
        page.alike = page.alike + 1 if reply.outcome == page.last else 1
        if reply.outcome != page.last:
            self._sum_up(key, page)
        page.last = reply.outcome
        before = [one for one in page.answered if one[0] < began]
        after = [one for one in page.answered if one[0] > began]
        if before:
            self._show(key, page, *max(before, key=lambda one: one[0]))
        if page.alike > ALIKE and not after:
            first, last, count = page.sum or (began, began, 0)
            page.sum = min(first, began), max(last, began), count + 1
        else:
            self._show_line(key, began, reply)
        if after:
            self._show(key, page, *min(after, key=lambda one: one[0]))
        else:
            page.open_since = max(began, page.open_since or began)

    def _show(self, key: int, page: _Page, began: float, reply: Reply) -> None:
        """Write a line for an expected attempt that was beside a lost one, once."""
        if began not in page.shown:
            page.shown.append(began)
            self._show_line(key, began, reply)

    def _show_line(self, key: int, began: float, reply: Reply) -> None:
        self._write(
            AttemptLine(
                at=self._at(began),
                flow=key,
                outcome=reply.outcome,
                took=round(reply.took, 4),
                opened=round(reply.opened, 4),
                pod=reply.echo or "",
                said=reply.detail[:200],
            )
        )

    def _sum_up(self, key: int, page: _Page) -> None:
        if page.sum:
            first, last, count = page.sum
            page.sum = None
            outcome = Outcome(page.last)
            line = Lost(
                at=self._at(first), to=self._at(last), flow=key, outcome=outcome, count=count
            )
            self._write(line)

    def came_late(self, key: int, began: float, reply: Reply, *, lost: bool) -> None:
        """Note that a silent attempt was answered."""
        page, took, pod = self._pages[key], round(reply.took, 4), reply.echo or ""
        if page.expects_answer and reply.outcome == ANSWERED:
            self._write(Late(at=self._at(began), flow=key, took=took, pod=pod, lost=lost))
        elif reply.outcome != ANSWERED or not page.expects_answer:
            self._show_line(key, began, reply)

    def closed(self, key: int, pod: str, how: str) -> None:
        """Note that a kept connection ended."""
        self._write(Ended(at=self._at(clock()), flow=key, pod=pod, how=how))

    def unasked(self, key: int, why: str) -> None:
        """Note that an attempt could not be made."""
        now = clock()
        first, _ = self._unasked.get((key, why), (now, now))
        self._unasked[key, why] = first, now

    def held(self, began: float, until: float) -> None:
        """Note that nobody was asked."""
        self._held = until
        at, to = self._at(began), self._at(until)
        self._write(Held(at=at, to=to, recorder=self._recorder, why="this machine had no time"))

    def looked(self) -> None:
        """Sum up what was as expected since the last time."""
        now = clock()
        for key, page in self._pages.items():
            self._sum_up(key, page)
        for (key, why), (first, last) in self._unasked.items():
            at, to = self._at(first), self._at(last + self._every)
            self._write(Held(at=at, to=to, recorder=self._recorder, flow=key, why=why))
        self._unasked.clear()
        counts = {
            key: (page.count, round(page.slowest * 1000, 1)) for key, page in self._pages.items()
        }
        at, to = self._at(self._since), self._at(now)
        self._write(Looked(at=at, to=to, recorder=self._recorder, counts=counts))
        self._since = now
        for page in self._pages.values():
            page.count, page.slowest = 0, 0.0

    def take(self) -> str:
        """Give what is to be written, once."""
        text = "".join(self._lines)
        self._lines.clear()
        return text

    def _write(self, line: AnyLine) -> None:
        self._lines.append(write(line))

    def _at(self, moment: float) -> float:
        return round(self._unix(moment), 4)
