"""Records that are made up: what a watch of some nodes would have written."""

import random
from collections.abc import Sequence
from pathlib import Path

from e2e.probe import Outcome
from e2e.selftest.echoes import WAYS
from e2e.upgrade.lines import (
    AnyLine,
    AttemptLine,
    End,
    Ended,
    EventLine,
    Held,
    Looked,
    PodLine,
    RecorderLine,
    Stretch,
    write,
)
from e2e.upgrade.plan import WatchedFlow
from e2e.upgrade.record import RECORD

BEGAN = 1_800_000_000.0
RATE = 20.0
NAMESPACE = "nodeport-e2e-abcdef"


def flows_of(nodes: Sequence[str]) -> tuple[WatchedFlow, ...]:
    """All ways of asking these nodes."""
    return tuple(
        WatchedFlow(
            service="web", node=node, family="IPv4", address=f"10.0.{n // 250}.{n % 250 + 1}",
            port=30080, way=way, pods="echo-a",
        )
        for n, node in enumerate(nodes)
        for way in WAYS
    )  # fmt: skip


class Told:
    """Lines of a record, in seconds after its beginning."""

    def __init__(self, nodes: Sequence[str], seconds: float) -> None:
        self.flows, self.seconds = flows_of(nodes), seconds
        self.lines: list[AnyLine] = [
            Stretch(
                at=BEGAN, monotonic=5.0, rate=RATE, patience=0.9, run="abcdef",
                namespace=NAMESPACE, flows=self.flows,
            ),
            RecorderLine(at=BEGAN, recorder=0, flows=tuple(range(len(self.flows)))),
        ]  # fmt: skip

    def numbers(self, node: str, *ways: str) -> list[int]:
        """The flows of a node, in these ways or all."""
        return [
            n for n, flow in enumerate(self.flows)
            if flow.node == node and flow.way in (ways or WAYS)
        ]  # fmt: skip

    def outage(self, flow: int, at: float, length: float, outcome: Outcome, **more: str) -> None:
        """Lose every attempt that begins in this time."""
        step, n = 1 / RATE, 0
        begins = [round(at - step / 2 + n * step, 4) for n in range(int(length * RATE) + 2)]
        for n, begin in enumerate(begins):
            edge = n in (0, len(begins) - 1)
            how = Outcome.ANSWERED if edge else outcome
            pod = {"pod": "echo-a-0"} if edge else more
            self.lines.append(AttemptLine(at=BEGAN + begin, flow=flow, outcome=how, **pod))

    def held(self, at: float, to: float) -> None:
        self.lines.append(Held(at=BEGAN + at, to=BEGAN + to, recorder=0, why="no time"))

    def ended(self, flow: int, at: float, pod: str = "echo-a-0") -> None:
        self.lines.append(Ended(at=BEGAN + at, flow=flow, pod=pod, how="reset"))

    def pod(self, flow: int, at: float, pod: str = "echo-a-0") -> None:
        self.lines.append(PodLine(at=BEGAN + at, flow=flow, pod=pod))

    def event(self, at: float, kind: str, *, lasted: float | None = None, **more: str) -> None:
        since = None if lasted is None else BEGAN + at - lasted
        self.lines.append(EventLine(at=BEGAN + at, since=since, kind=kind, **more))

    def save(self, folder: Path) -> None:
        """Write it, with counts for all the time."""
        counts = {n: (int(self.seconds * RATE), 4.0) for n in range(len(self.flows))}
        to = BEGAN + self.seconds
        self.lines.append(Looked(at=BEGAN, to=to, recorder=0, counts=counts))
        self.lines.append(End(at=to, why="the command ended"))
        (folder / RECORD).write_text("".join(write(line) for line in self.lines))


def an_upgrade(folder: Path, count: int, *, loud: int | None = None, seed: int = 1) -> Told:
    """Tell of an upgrade of so many nodes: a mode switch, a drain, a node that was lost."""
    rolls = random.Random(seed)  # noqa: S311
    nodes = ["control-plane", *(f"worker-{n:02}" for n in range(1, count))]
    told = Told(nodes, 60.0 + 8 * count)
    told.event(1, "command-started", name="./upgrade.sh")
    told.event(5.5, "proxy-mode", name="kube-system/kube-proxy", said="iptables -> nftables")
    told.event(24, "api-away")
    told.event(38.4, "api-back", lasted=14.4)
    held = "held by control-plane_2, after control-plane_1"
    told.event(50, "lease-held", name="kube-controller-manager", lasted=17.6, said=held)
    for n, node in enumerate(nodes):
        at = 60.0 + 8 * n
        pod = f"kube-system/kube-proxy-{node}"
        told.event(at - 1, "cordoned", node=node, name=node)
        told.event(at, "pod-terminating", node=node, name=f"{NAMESPACE}/echo-a-{n}", said="has 5 s")
        told.event(at + 2, "pod-started", node=node, name=pod, said="kube-proxy")
        told.event(at + 4, "kubelet-version", node=node, name=node, said="v1.36.3 -> v1.37.2")
        told.event(at + 6, "uncordoned", node=node, name=node)
        if loud is not None and n >= loud:
            continue
        (kept,) = told.numbers(node, "one connection")
        told.ended(kept, at + 0.3)
        for flow in told.numbers(node, "new connections"):
            told.outage(flow, at + 2.1, 0.65 + rolls.random() / 3, Outcome.REFUSED)
        for flow in told.numbers(node, "UDP"):
            told.outage(flow, at + 0.2, 1.9 * rolls.random() + 0.1, Outcome.SILENT)
    if count > 2:
        told.event(58, "node-not-ready", node=nodes[2], name=nodes[2], said="Ready is Unknown")
        for flow in told.numbers(nodes[2]):
            told.outage(flow, 4.0, 55.0, Outcome.NO_ROUTE)
            told.outage(flow, 61.0, 0.4, Outcome.FOREIGN, pod="stray-1", said="not a pod of it")
    for flow in told.numbers(nodes[-1], "one connection"):
        told.outage(flow, 30.0, 0.3, Outcome.CUT_OFF)
    told.held(52.0, 55.0)
    told.save(folder)
    return told
