"""Nodes that join, leave or move under a watch: what is asked of them, and what is claimed."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
from rich.console import Console

from e2e.cluster.happenings import Happening, Roll
from e2e.probe import ANSWERED, FOREIGN, REFUSED, SILENT
from e2e.selftest.echoes import WAYS, echoing, planned, watched
from e2e.selftest.told import BEGAN, Told, flows_of
from e2e.selftest.watched import LONG, lines_of, looks, pids
from e2e.upgrade.lines import AttemptLine, EventLine, Late, Looked, Placed
from e2e.upgrade.live import Screen, State
from e2e.upgrade.plan import WatchedFlow
from e2e.upgrade.presence import flows_of as flows_of_node
from e2e.upgrade.presence import gone_since, placed_anew
from e2e.upgrade.record import load
from e2e.upgrade.story import as_text, story_of
from e2e.upgrade.timeline import rows_of, timeline_page
from e2e.upgrade.watch import Until, Watcher
from e2e.wait import wait_until

HERE, THERE = {"IPv4": "10.0.0.1"}, {"IPv4": "10.0.0.9"}


def roll(**ready: dict[str, str]) -> Roll:
    return Roll(frozenset(ready), ready)


def test_a_node_is_placed_when_it_is_ready_at_an_address_that_is_not_known():
    known = {"worker-1": HERE}

    assert placed_anew(roll(worker=HERE), {"worker": HERE}, ["IPv4"]) == {}
    assert placed_anew(Roll(frozenset(["worker-2"]), {}), known, ["IPv4"]) == {}
    assert placed_anew(roll(worker=THERE), {"worker": HERE}, ["IPv4"]) == {"worker": THERE}
    assert placed_anew(roll(worker=HERE | {"IPv6": "fd00::1"}), {}, ["IPv4"]) == {"worker": HERE}
    assert placed_anew(roll(worker={}), {}, ["IPv4"]) == {}


def test_a_node_that_joins_is_asked_as_all_others():
    """Every Service, family and way once, at its own addresses; what is asked already is not."""
    plan = flows_of(["worker-1", "worker-2"])
    blocked = plan[0].model_copy(update={"service": "local", "expects": "blocked"})
    sixth = plan[0].model_copy(update={"family": "IPv6", "address": "fd00::1"})

    found = flows_of_node("worker-3", THERE, (*plan, blocked, sixth))

    assert [(flow.service, flow.way) for flow in found] == [
        *(("web", way) for way in WAYS), ("local", WAYS[0]),
    ]  # fmt: skip
    assert {(flow.node, flow.address, flow.expects) for flow in found} == {
        ("worker-3", "10.0.0.9", "answered")
    }
    assert flows_of_node("worker-1", {"IPv4": plan[0].address}, plan) == ()
    moved = flows_of_node("worker-1", THERE, plan)
    assert [flow.address for flow in moved] == ["10.0.0.9"] * 4


def event(at: float, kind: str, since: float | None = None) -> EventLine:
    return EventLine(at=at, since=since, kind=kind, node="worker-1")


def placed(at: float, addresses: dict[str, str], node: str = "worker-1") -> Placed:
    return Placed(at=at, node=node, addresses=addresses, flows=())


@pytest.mark.parametrize(
    ("moments", "gone"),
    [
        ([], None),
        ([placed(1, HERE)], None),
        ([event(5, "node-removed")], 5),
        ([event(5, "node-removed", since=2)], 2),
        ([event(5, "node-removed"), event(9, "node-added")], None),
        ([event(5, "node-removed"), event(9, "node-added"), event(12, "node-removed")], 12),
        ([event(5, "node-removed"), event(7, "node-removed")], 5),
        ([event(5, "node-removed"), placed(20, HERE)], None),
        ([placed(8, THERE)], 8),
        ([event(5, "node-removed"), event(6, "node-added"), placed(8, THERE)], 8),
        ([placed(8, THERE), event(9, "node-removed"), event(11, "node-added")], 8),
        ([placed(8, THERE), placed(20, HERE)], None),
        ([placed(8, THERE, node="worker-2")], None),
        ([event(5, "node-not-ready"), event(6, "kubelet-version")], None),
    ],
)
def test_a_node_is_gone_when_it_did_not_come_back_to_its_address(moments, gone):
    flow = flows_of(["worker-1"])[0]
    assert flow.address == HERE["IPv4"]
    events = [each for each in moments if isinstance(each, EventLine)]

    assert gone_since(flow, events, [each for each in moments if isinstance(each, Placed)]) == gone


# --- what is told of them --------------------------------------------------------------------


def joined(told: Told, at: float, node: str = "worker-9") -> list[int]:
    """Let a node join; gives the numbers of its flows."""
    new = dict(enumerate(flows_of_node(node, THERE, told.flows), start=len(told.flows)))
    since, to = BEGAN + at, BEGAN + told.seconds
    told.lines += [
        Placed(at=since, node=node, addresses=THERE, flows=tuple(new.values())),
        Looked(at=since, to=to, recorder=0, counts=dict.fromkeys(new, (0, 0.0))),
    ]
    return list(new)


@pytest.fixture
def folder(tmp_path):
    """A minute in which a node joins and serves 2 s later, but on one path, and another leaves."""
    told = Told(["worker-1", "worker-2"], 60.0)
    *serving, never = joined(told, 20.0)
    for flow in serving:
        told.outage(flow, 20.5, 1.5, REFUSED)
        told.pod(flow, 22.0)
    told.outage(serving[0], 40.0, 0.5, REFUSED)
    told.outage(never, 20.5, 30.0, SILENT)
    told.outage(never, 53.0, 0.5, FOREIGN, pod="stray-1")
    told.event(30.0, "node-removed", node="worker-2", name="worker-2")
    for flow in told.numbers("worker-2"):
        told.outage(flow, 29.0, 30.0, SILENT)
    told.save(tmp_path)
    return tmp_path


def test_what_was_not_promised_is_no_outage(folder):
    """Before its first answer, and when it was gone; all else is."""
    story = story_of(load(folder))

    found = {
        (one.flow.node, one.flow.way): [
            (str(o.kind), round(o.length, 1), o.goes_on) for o in one.judged.outages
        ]
        for one in story.flows
    }
    assert all(found["worker-2", way] == [("silent", 1.0, False)] for way in WAYS)
    assert found["worker-9", WAYS[0]] == [("refused", 0.5, False)]
    assert found["worker-9", WAYS[1]] == found["worker-9", WAYS[2]] == []
    assert [kind for kind, *_ in found["worker-9", WAYS[3]]] == ["foreign"]
    assert all(found["worker-1", way] == [] for way in WAYS)
    assert story.not_looked == 0.0


def test_who_joined_and_who_left_is_told(folder):
    """With the time that it took, the paths that never served, and what is not counted."""
    story = story_of(load(folder))
    came, left = story.moved

    assert (came.node, came.addresses, came.gone) == ("worker-9", ("10.0.0.9",), None)
    assert came.served == pytest.approx(2.0)
    assert came.never == ("web IPv4 UDP from new ports",)
    assert came.unpromised > 600
    assert (left.node, left.joined, left.never) == ("worker-2", None, ())
    text = as_text(story)
    assert "worker-9 (10.0.0.9) joined at " in text
    assert "answered on all other paths 2.0 s later, never on web IPv4 UDP from new ports" in text
    assert "worker-2 (10.0.0.2) left at " in text


def test_the_picture_leaves_their_rows_blank(folder):
    """Where there was no node a calm row would say that all was well."""
    story = story_of(load(folder))
    rows = {row.label: row for row in rows_of(story) if row.look == "node"}

    absent = {
        name: [bar.said.partition(" (")[0] for bar in row.bars if bar.look == "absent"]
        for name, row in rows.items()
    }
    assert [len(absent[name]) for name in ("worker-1", "worker-2", "worker-9")] == [0, 1, 2]
    page = timeline_page(story)
    assert "not in the cluster, or no answer yet" in page
    assert "inf" not in page.partition("<script")[0].replace("information", "")


def test_the_live_view_tells_both(folder, tmp_path):
    """A node that joined is waited for and not lost; one that left is gone and not lost."""
    said: list[str] = []
    lines = (folder / "watch.jsonl").read_text().splitlines(keepends=True)
    (folder / "watch.jsonl").write_text("")
    state = State(folder, said.append)
    for line in lines:
        with (folder / "watch.jsonl").open("a") as file:
            file.write(line)
        state.catch_up()
    state.close()

    assert any("worker-9 at 10.0.0.9 is watched too from here on" in line for line in said)
    assert state.gone == {"worker-2"}
    assert state.now_lost("worker-2") is None
    assert state.now_lost("worker-9")[1] == "foreign on 1 of 4 paths"
    assert not any("worker-9: refused on 3" in line for line in said)
    assert any("worker-9: refused on 1 of 4 paths" in line for line in said)


def test_what_is_answered_late_is_taken_back_on_the_live_view(tmp_path):
    """An attempt that was called silent, and answered afterwards, was not lost."""
    said: list[str] = []
    record = tmp_path / "watch.jsonl"
    record.touch()
    state = State(tmp_path, said.append)
    silent = AttemptLine(at=BEGAN, flow=0, outcome=SILENT, took=1.0)
    right = AttemptLine(at=BEGAN + 1, flow=0, outcome=ANSWERED, took=0.0)
    for lines in (
        (*Told(["worker-1"], 1.0).lines[:1], silent, right),
        (Late(at=BEGAN, flow=0, took=1.4),),
    ):
        with record.open("a") as file:
            file.writelines(line.model_dump_json() + "\n" for line in lines)
        state.catch_up()
    state.close()

    assert said == [
        "x worker-1: 1 attempts lost; as expected again",
        "✓ worker-1: 1 of those were answered late, and not lost",
    ]


# --- a watch that goes on --------------------------------------------------------------------


@dataclass
class Followed:
    """A cluster whose nodes are what a test says.

    Attributes:
        tell: takes what happens.
        called: takes the roll.
    """

    tell: Callable[[Happening], None]
    called: Callable[[Roll], None]
    made: list["Followed"] = field(default_factory=list)

    def start(self) -> None:
        """Be found by the test."""
        self.made.append(self)

    def stop(self) -> None:
        """Nothing goes on."""


@pytest.fixture
def watching(tmp_path):
    """A watch of one node in this process, by a function of what happens while it goes on."""

    def watch(during: Callable[[Followed], None], flows: list[WatchedFlow]) -> None:
        made: list[Followed] = []

        def happen() -> None:
            try:
                wait_until(lambda: made, what="the follower", within=LONG)
                during(made[0])
            finally:
                (tmp_path / "stop").touch()

        watcher = Watcher(
            tmp_path, planned(tmp_path, flows), 20.0, Screen(Console(quiet=True), live=False)
        )
        with ThreadPoolExecutor(1) as pool:
            happened = pool.submit(happen)
            watcher.watch(
                Until(file=tmp_path / "stop"), lambda tell, called: Followed(tell, called, made)
            )
        happened.result()

    return watch


@pytest.mark.timeout(400)
def test_a_node_that_joins_is_watched(tmp_path, watching):
    """From the moment on that it is Ready; by the recorder that is there, and by its successor."""
    first = {"IPv4": "127.0.0.2"}

    def during(cluster: Followed) -> None:
        cluster.called(roll(**{"worker-1": first}))
        wait_until(lambda: looks(tmp_path), what="looks", within=LONG)
        cluster.tell(Happening("node-added", "worker-2", "worker-2"))
        cluster.called(Roll(frozenset(["worker-1", "worker-2"]), {"worker-1": first}))
        cluster.called(roll(**{"worker-1": first, "worker-2": {"IPv4": "127.0.0.3"}}))
        wait_until(lambda: _counted(tmp_path, 7) > 30, what="attempts", within=LONG)

    with echoing("127.0.0.2") as one, echoing("127.0.0.3", one.port):
        watching(during, watched("worker-1", one.address, one.port))
    record = load(tmp_path)
    story = story_of(record)

    assert [(each.node, each.never) for each in story.moved] == [("worker-2", ())]
    assert story.troubles == []
    assert len({line["recorder"] for line in lines_of(tmp_path) if line["line"] == "looked"}) == 1
    late = [one for one in story.flows if one.flow.node == "worker-2"]
    assert len(late) == 4
    # Nobody says that it was asked before it joined.
    assert all(record.flows[one.flow].looked[0][0] >= one.joined for one in late)
    assert all(len(one.looked) == 1 for one in record.flows.values())


@pytest.mark.timeout(400)
def test_a_node_that_is_not_there_when_the_watch_begins(tmp_path, watching):
    """It left before, so nothing that is asked of it is lost."""

    def during(cluster: Followed) -> None:
        cluster.called(roll(**{"worker-1": {"IPv4": "127.0.0.2"}}))
        wait_until(lambda: looks(tmp_path, 4), what="looks", within=LONG)

    with echoing("127.0.0.2") as one:
        flows = watched("worker-1", one.address, one.port)
        watching(during, flows + watched("worker-2", "127.0.0.9", one.port))
    story = story_of(load(tmp_path))

    assert story.troubles == []
    assert [(each.node, each.joined) for each in story.moved] == [("worker-2", None)]
    assert pids(tmp_path) == []


def _counted(folder, flow: int) -> int:
    looked = [line for line in lines_of(folder) if line["line"] == "looked"]
    return sum(line["counts"].get(str(flow), (0, 0))[0] for line in looked)
