"""One process that asks some of a plan's flows on the beat and appends what they brought.

It is told what to do on its standard input, a line at first and another one whenever there are more
flows, and ends when that does: with who started it.
"""

import gc
import os
import select
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from e2e import timing
from e2e.probe import TCP, UDP, Flow, Outside, Target
from e2e.probe.asking import Asker
from e2e.probe.connections import NewConnections, OneConnection
from e2e.probe.datagrams import NewSourcePorts, OneSourcePort
from e2e.probe.pulse import Pulse, allow_many_sockets, clock
from e2e.probe.sampler import NICE
from e2e.upgrade.ledger import Ledger
from e2e.upgrade.lines import (
    RecorderLine,
    write,
)
from e2e.upgrade.plan import Part, WatchedFlow
from e2e.upgrade.record import Appender

WAYS: dict[str, type[Asker]] = {
    "new connections": NewConnections,
    "one connection": OneConnection,
    "UDP": OneSourcePort,
    "UDP from new ports": NewSourcePorts,
}


class Order(Part):
    """What a recorder is to do.

    Attributes:
        folder: of the record.
        recorder: its number.
        unix: Unix time at the moment `monotonic`.
        monotonic: what the clock said then.
        rate: attempts a second for each flow.
        flows: by their numbers.
    """

    folder: Path
    recorder: int
    unix: float
    monotonic: float
    rate: float
    flows: dict[int, WatchedFlow]


@dataclass(frozen=True)
class _PodsOf:
    """Whose pods may answer, by how their names begin."""

    beginning: str

    def owns(self, echo: str) -> bool:
        return echo.startswith(self.beginning)

    def whereabouts(self, _: str) -> str:
        return ""


def side_by_side(flows: dict[int, WatchedFlow]) -> list[int]:
    """Order flows so that those of one node are asked at moments spread over the beat."""
    turns: dict[str, int] = {}
    place = {}
    for number, flow in sorted(flows.items(), key=lambda item: (item[1].path, item[1].node)):
        turns[flow.node] = turns.get(flow.node, -1) + 1
        place[number] = turns[flow.node], flow.node
    return sorted(place, key=lambda number: place[number])


class More(Part):
    """Flows that are to be asked too from now on.

    Attributes:
        flows: by their numbers.
    """

    flows: dict[int, WatchedFlow]


class Lifeline:
    """What a recorder is told, a line at a time, for as long as somebody is there to tell it."""

    def __init__(self, file: int) -> None:
        self._file, self._rest, self.is_cut = file, b"", False

    def line(self) -> bytes:
        """Wait for a line; empty if there comes none any more."""
        while b"\n" not in self._rest and not self.is_cut:
            self._hear()
        return self._line()

    def lines(self) -> Iterator[bytes]:
        """What was told meanwhile."""
        while not self.is_cut and select.select([self._file], [], [], 0)[0]:
            self._hear()
        while line := self._line():
            yield line

    def _line(self) -> bytes:
        line, end, rest = self._rest.partition(b"\n")
        if end:
            self._rest = rest
        return line if end else b""

    def _hear(self) -> None:
        heard = os.read(self._file, 1 << 16)
        self._rest += heard
        self.is_cut = not heard


class Recorder:
    """Asks, and appends."""

    def __init__(self, order: Order, lifeline: Lifeline) -> None:
        """Ask what the order says, until the lifeline is cut."""
        self._order, self._lifeline = order, lifeline
        self._flows, self._more = dict(order.flows), dict[int, WatchedFlow]()
        self._appender = Appender(order.folder)
        self._ledger = Ledger(
            order.recorder,
            order.flows,
            lambda moment: order.unix + moment - order.monotonic,
            1 / order.rate,
        )
        self._next_flush = self._next_look = clock()

    def run(self) -> None:
        """Go on until the end."""
        order = self._order
        pulse = Pulse(1 / order.rate, self._ledger.held)
        askers = {number: self._asker(number, pulse) for number in side_by_side(self._flows)}
        self._begin()
        # A pause of the collector is a beat that is late, and the loop makes no cycles that last.
        gc.collect()
        gc.freeze()
        while True:
            pulse.run(tuple(askers.values()), self._step, drain=0)
            if not self._more:
                break
            self._flows |= self._more
            self._ledger.add(self._more)
            askers |= {number: self._asker(number, pulse) for number in side_by_side(self._more)}
            self._more.clear()
            self._begin()
        pulse.run((), lambda: True, drain=timing.SYN_AGAIN)
        self._ledger.looked()
        self._appender.append(self._ledger.take())

    def _begin(self) -> None:
        """Say who is asked from now on."""
        order = self._order
        at = round(order.unix + clock() - order.monotonic, 4)
        begins = RecorderLine(at=at, recorder=order.recorder, flows=tuple(self._flows))
        self._appender.append(self._ledger.take() + write(begins))

    def _asker(self, number: int, pulse: Pulse) -> Asker:
        watched = self._flows[number]
        protocol = UDP if watched.way.startswith("UDP") else TCP
        owner = _PodsOf(watched.pods)
        target = Target(watched.node, watched.address, watched.port, owner, protocol)
        expects_answer = watched.expects == "answered"
        flow = Flow(Outside(), target)
        return WAYS[watched.way](
            *(number, (watched.address, watched.port), pulse, self._ledger),
            hears_late=expects_answer,
            checked=flow.checked,
        )

    def _step(self) -> bool:
        now = clock()
        if now >= self._next_flush:
            self._next_flush = now + timing.RECORD_FLUSHED_EVERY
            if now >= self._next_look:
                self._next_look = now + timing.RECORD_SUMMED_EVERY
                self._ledger.looked()
            if text := self._ledger.take():
                self._appender.append(text)
            for line in self._lifeline.lines():
                self._more |= More.model_validate_json(line).flows
        return self._lifeline.is_cut or bool(self._more)


def main() -> None:
    """Read the order, and record."""
    # Ctrl-C is for who started it, and for the command that is watched.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    lifeline = Lifeline(sys.stdin.fileno())
    order = Order.model_validate_json(lifeline.line())
    allow_many_sockets()
    go_first()
    Recorder(order, lifeline).run()


def go_first() -> None:
    """Let a busy machine make others wait, and not this thread; only root may.

    Before all that are not real-time, if the system has that: with nothing but a good nice value a
    beat of 50 ms is still missed several times a second where two cores have twenty programs.
    """
    with suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))


def shares(flows: Sequence[WatchedFlow], rate: float) -> list[dict[int, WatchedFlow]]:
    """Divide flows among as few processes as can ask them, a node's all in the same."""
    busy = len(flows) * rate / ATTEMPTS_EACH
    count = max(1, min(round(busy + 0.5), os.cpu_count() or 1, len({f.node for f in flows})))
    nodes = sorted({flow.node for flow in flows})
    place = {node: turn % count for turn, node in enumerate(nodes)}
    shared: list[dict[int, WatchedFlow]] = [{} for _ in range(count)]
    for number, flow in enumerate(flows):
        shared[place[flow.node]][number] = flow
    return shared


# Attempts a second that one process makes with half of a core.
ATTEMPTS_EACH = 2000

if __name__ == "__main__":
    main()
