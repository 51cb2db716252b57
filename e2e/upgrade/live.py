"""What is shown while a watch goes on: read from its own record, so that it is what is recorded."""

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from e2e.plain import plain
from e2e.probe import FOREIGN, Outcome
from e2e.upgrade.lines import (
    AnyLine,
    AttemptLine,
    EventLine,
    Held,
    Late,
    Looked,
    Lost,
    Placed,
    PodLine,
    Stretch,
    read,
)
from e2e.upgrade.plan import WatchedFlow
from e2e.upgrade.record import RECORD
from e2e.upgrade.story import clock_time, is_expected

EVENTS = 6
# More nodes are summed up, so that a screen holds them.
NODES = 30
CHUNK = 1 << 20


class State:
    """Where a watch is now, from the lines of its record.

    Attributes:
        flows: all that is watched.
        asked: flows that were asked.
        lost_since: flows that are not answered as expected now, since when and how.
        events: what happened last.
        answered: attempts by node that ended as expected.
        lost: attempts by node that did not.
        held: seconds by recorder in which nobody was asked.
        waited_for: flows of nodes that joined and did not answer yet.
        gone: nodes that are none of the cluster any more.
    """

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        """Read what follows in the record, and call `say` with every change."""
        self._file = (folder / RECORD).open("rb")
        self._file.seek(0, 2)
        self._rest = b""
        self._say = say
        self.flows: tuple[WatchedFlow, ...] = ()
        self.asked: set[int] = set()
        self.lost_since: dict[int, tuple[float, Outcome]] = {}
        self.events: deque[str] = deque(maxlen=EVENTS)
        self.answered: dict[str, int] = {}
        self.lost: dict[str, int] = {}
        self.held = 0.0
        self.waited_for: set[int] = set()
        self.gone: set[str] = set()
        self._down: dict[str, tuple[float, str]] = {}
        self._told: dict[str, int] = {}
        self._latest: dict[int, float] = {}

    def catch_up(self) -> None:
        """Read what was appended since."""
        while chunk := self._file.read(CHUNK):
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            for text in lines:
                # A line may be torn where a recorder was killed.
                with suppress(ValueError):
                    if text:
                        self._take(read(text))
        self._tell_nodes()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _take(self, line: AnyLine) -> None:
        match line:
            case Stretch():
                self.flows = line.flows
            case Placed():
                self._place(line)
            case PodLine():
                self.waited_for.discard(line.flow)
            case Looked():
                self.asked |= line.counts.keys()
                for number, (count, _) in line.counts.items():
                    node = self.flows[number].node
                    self.answered[node] = self.answered.get(node, 0) + count
            case AttemptLine():
                self._attempt(line)
            case Lost():
                node = self.flows[line.flow].node
                if line.flow not in self.waited_for or line.outcome == FOREIGN:
                    self.lost[node] = self.lost.get(node, 0) + line.count
            case Late() if not line.lost and line.flow not in self.waited_for:
                node = self.flows[line.flow].node
                self.lost[node] = max(self.lost.get(node, 0) - 1, 0)
            case Held():
                self.held += line.to - line.at
            case EventLine():
                self._event(line)

    def _event(self, line: EventLine) -> None:
        if line.kind == "node-removed":
            self.gone.add(line.node)
        elif line.kind == "node-added":
            self.gone.discard(line.node)
        told = " ".join(filter(None, [line.kind, line.node, line.name, line.said]))
        self._tell(line.at, told)

    def _tell(self, at: float, what: str) -> None:
        self.events.append(f"{clock_time(at)} {plain(what)}")
        self._say(self.events[-1])

    def _place(self, line: Placed) -> None:
        if line.flows:
            first = len(self.flows)
            self.flows += line.flows
            self.waited_for |= set(range(first, len(self.flows)))
            addresses = " and ".join(line.addresses.values())
            self._tell(line.at, f"{line.node} at {addresses} is watched too from here on")

    def _attempt(self, line: AttemptLine) -> None:
        flow = self.flows[line.flow]
        if line.flow in self.waited_for and line.outcome != FOREIGN:
            return
        if not is_expected(flow, line.outcome):
            self.lost[flow.node] = self.lost.get(flow.node, 0) + 1
            if line.at > self._latest.get(line.flow, 0.0):
                self.lost_since.setdefault(line.flow, (line.at, line.outcome))
        else:
            self._latest[line.flow] = max(line.at, self._latest.get(line.flow, 0.0))
            since = self.lost_since.get(line.flow)
            if since and line.at > since[0]:
                del self.lost_since[line.flow]

    def now_lost(self, node: str) -> tuple[float, str] | None:
        """Since when a node is not answered as expected, and how; none if it is, or is gone."""
        if node in self.gone:
            return None
        here = {n: since for n, since in self.lost_since.items() if self.flows[n].node == node}
        if not here:
            return None
        paths = sum(flow.node == node for flow in self.flows)
        kinds = ", ".join(sorted({str(outcome) for _, outcome in here.values()}))
        return min(at for at, _ in here.values()), f"{kinds} on {len(here)} of {paths} paths"

    def _tell_nodes(self) -> None:
        for node in dict.fromkeys(flow.node for flow in self.flows):
            now, before = self.now_lost(node), self._down.get(node)
            lately = self.lost.get(node, 0) - self._told.get(node, 0)
            self._told[node] = self.lost.get(node, 0)
            if lately and not now and not before and node not in self.gone:
                self._say(
                    f"x {plain(node)}: {lately} attempts lost; as expected again"
                    if lately > 0
                    else f"✓ {plain(node)}: {-lately} of those were answered late, and not lost"
                )
            if now and not before:
                self._down[node] = now
                self._say(f"x {clock_time(now[0])} {plain(node)}: {now[1]}")
            elif before and not now:
                del self._down[node]
                if node not in self.gone:
                    self._say(f"✓ {plain(node)}: as expected again, after {self._since(before[0])}")

    def _since(self, at: float) -> str:
        latest = max(self._latest.values(), default=at)
        return f"{max(latest - at, 0.0):.1f} s"


class Screen:
    """Shows a state: a table on a terminal, and elsewhere a line for each change."""

    def __init__(self, console: Console, *, live: bool) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True) if live else None
        if self._live:
            self._live.start()

    def say(self, text: str) -> None:
        """Say what changed, where nothing else shows it."""
        if not self._live:
            self._console.print(Text(text), soft_wrap=True)

    def show(self, state: State, now: float) -> None:
        """Bring the table up to date."""
        if self._live:
            self._live.update(_table(state, now), refresh=True)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._live:
            self._live.stop()


def _table(state: State, now: float) -> Group:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, justify in (("", "left"), ("node", "left"), ("answered", "right"), ("lost", "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    table.add_column("now")
    nodes = list(dict.fromkeys(flow.node for flow in state.flows))
    # Those that are worth looking at come first, where not all find room.
    if len(nodes) > NODES:
        nodes.sort(key=lambda node: (state.now_lost(node) is None, -state.lost.get(node, 0)))
    for node in nodes[:NODES]:
        lost = state.now_lost(node)
        said = f"{lost[1]} for {now - lost[0]:.1f} s" if lost else _calm(state, node)
        table.add_row(
            Text("x" if lost else "✓", "red" if lost else "green"),
            Text(plain(node)),
            str(state.answered.get(node, 0)),
            str(state.lost.get(node, 0)),
            Text(said, "red" if lost else ""),
        )
    more = [Text(f"and {len(nodes) - NODES} more nodes")] if len(nodes) > NODES else []
    held = [Text(f"not looked: {state.held:.1f} s", "yellow")] if state.held else []
    return Group(table, *more, *held, *(Text(event, "dim") for event in state.events))


def _calm(state: State, node: str) -> str:
    """What is so of a node of which nothing is lost."""
    its = {number for number, flow in enumerate(state.flows) if flow.node == node}
    if node in state.gone:
        return "left the cluster"
    if waited_for := its & state.waited_for:
        return f"joined; no answer yet on {len(waited_for)} of {len(its)} paths"
    return "as expected" if its & state.asked else "not asked yet"
