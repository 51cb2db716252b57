"""The recorder: outages are as long as they were, and its own troubles are none."""

import os
import signal
import subprocess
import sys
import time

import pytest

from e2e.probe import CUT_OFF, FOREIGN, REFUSED, SILENT
from e2e.selftest.echoes import WAYS, echoing, planned, watched
from e2e.selftest.servers import closed_port
from e2e.selftest.watched import LONG, looks, of, pass_time, pids, start, watching
from e2e.upgrade.record import load
from e2e.upgrade.story import story_of
from e2e.wait import wait_until

pytestmark = pytest.mark.timeout(400)
BRIEF, WITHIN = 0.2, 0.06
NEW, KEPT, UDP, NEW_PORTS = WAYS


def lengths(story, node: str, way: str) -> list[float]:
    return [outage.length for outage in of(story, node, way).judged.outages]


def test_a_brief_outage_is_as_long_as_it_was(tmp_path):
    """200 ms without anybody there, and 200 ms without packets, are told to 60 ms, thrice each."""
    with watching(tmp_path, "worker-1", "worker-2") as watch:
        echo = watch.echoes["worker-1"]
        injected = []
        for _ in range(3):
            injected.append(watch.inject(echo.vanish, echo.come_back, BRIEF))
            pass_time(1.2)
            injected.append(watch.inject(echo.drop, echo.drop_no_more, BRIEF))
            pass_time(1.2)
        story = watch.end()

    for way in (NEW, NEW_PORTS, UDP):
        outages = of(story, "worker-1", way).judged.outages
        # A connection that nobody had accepted yet is reset, and not refused.
        assert [REFUSED in outage.kinds for outage in outages] == [True, False] * 3
        assert [outage.kind == SILENT for outage in outages] == [False, True] * 3
        for outage, was in zip(outages, injected, strict=True):
            near = [
                to - at
                for at, to in of(story, "worker-1", way).judged.not_looked
                if at < outage.end + BRIEF and to > outage.start - BRIEF
            ]
            assert outage.length == pytest.approx(was, abs=WITHIN + sum(near))
    assert all(f.judged.outages == [] for f in story.flows if f.flow.node == "worker-2")
    assert watch.said.startswith("Users noticed: ")


def test_kept_connections_end_and_outlive(tmp_path):
    """One that ends is told as ended, and packets that are lost for a while end none."""
    with watching(tmp_path, "worker-1") as watch:
        echo = watch.echoes["worker-1"]
        echo.end_connections()
        pass_time(1)
        watch.inject(echo.drop, echo.drop_no_more, BRIEF)
        pass_time(1.5)
        story = watch.end()

    kept = of(story, "worker-1", KEPT).judged
    assert kept.outages == []
    assert [ending.pod for ending in kept.endings] == ["echo-a-0"]


def test_a_kept_connection_that_stalls_has_an_outage(tmp_path):
    """Where only what was sent again was answered, what was sent first was lost."""
    with watching(tmp_path, "worker-1") as watch:
        echo = watch.echoes["worker-1"]
        stalled = watch.inject(echo.drop, echo.drop_no_more, 2.0)
        pass_time(3)
        story = watch.end()

    (outage,) = of(story, "worker-1", KEPT).judged.outages
    assert outage.kind == SILENT
    # Until it is sent again, twice as long after each time.
    assert stalled - 1.2 < outage.length < 2 * stalled + WITHIN


def test_a_strange_pod_is_foreign(tmp_path):
    """An answer of somebody else's pod is an outage, and says whose."""
    with watching(tmp_path, "worker-1") as watch:
        watch.echoes["worker-1"].rename("stray-1")
        pass_time(0.5)
        watch.echoes["worker-1"].rename("echo-a-1")
        pass_time(0.5)
        story = watch.end()

    for flow in story.flows:
        (outage,) = flow.judged.outages
        assert outage.kind == FOREIGN
        assert "stray-1" in outage.said
    assert {line.pod for f in watch.record().flows.values() for line in f.pods} == {
        "echo-a-0", "echo-a-1",
    }  # fmt: skip


def test_a_stopped_recorder_did_not_look(tmp_path):
    """A second in which its process was stopped is not looked at, and no outage."""
    with watching(tmp_path, "worker-1") as watch:
        (recorder,) = pids(tmp_path)
        os.kill(recorder, signal.SIGSTOP)
        began = time.monotonic()
        pass_time(1)
        os.kill(recorder, signal.SIGCONT)
        stopped = time.monotonic() - began
        pass_time(1)
        story = watch.end()

    for flow in story.flows:
        assert flow.judged.outages == []
        longest = max(to - at for at, to in flow.judged.not_looked)
        # This test may itself be late in what it notes.
        assert longest == pytest.approx(stopped, abs=0.5)
    assert "not looked" in watch.said


def test_a_killed_recorder_is_replaced(tmp_path):
    """Another one goes on, and the time between is not looked at."""
    with watching(tmp_path, "worker-1") as watch:
        (recorder,) = pids(tmp_path)
        pass_time(1)
        os.kill(recorder, signal.SIGKILL)
        wait_until(lambda: [p for p in pids(tmp_path) if p != recorder], what="one", within=LONG)
        wait_until(lambda: looks(tmp_path, 6), what="looks", within=LONG)
        story = watch.end()

    assert all(flow.judged.outages == [] for flow in story.flows)
    assert all(flow.judged.not_looked for flow in story.flows)


def test_a_killed_watch_goes_on(tmp_path):
    """A killed one loses a second at most, its recorders end, and the next watch appends."""
    with watching(tmp_path, "worker-1") as watch:
        pass_time(1)
        watch.process.kill()
        watch.process.wait()
        again = start(tmp_path, "--for", "2")
        again.communicate(timeout=LONG)
        wait_until(lambda: not pids(tmp_path), what="the end of all recorders", within=LONG)

    record = load(tmp_path)
    story = story_of(record)
    assert again.returncode == 0
    assert [why for _, why in record.stretches] == [None, "the time is over"]
    assert all(flow.judged.outages == [] for flow in story.flows)
    assert all(len(flow.judged.not_looked) >= 1 for flow in story.flows)


def test_what_was_recorded_is_there_when_everybody_is_killed(tmp_path):
    """The watch and its recorder at once, in the middle of an outage: a second is lost at most."""
    with watching(tmp_path, "worker-1") as watch:
        pass_time(1)
        began = time.time()
        watch.echoes["worker-1"].drop()
        pass_time(2.5)
        for process in (*pids(tmp_path), watch.process.pid):
            os.kill(process, signal.SIGKILL)
        killed = time.time()
        watch.process.wait()
        story = story_of(watch.record())

    assert story.was_killed
    # What is called silent was asked 0.9 s before; this machine may be late with all of it.
    assert killed - story.until < 3.5
    for flow in story.flows:
        (outage,) = flow.judged.outages
        assert outage.start == pytest.approx(began, abs=1)
        assert outage.goes_on


def test_a_busy_machine_makes_no_outage(tmp_path):
    """With more work than cores for some seconds nothing is called an outage."""
    with watching(tmp_path, "worker-1", "worker-2") as watch:
        busy = [start_work() for _ in range(2 * (os.cpu_count() or 1))]
        try:
            pass_time(5)
        finally:
            for process in busy:
                process.kill()
                process.wait()
        story = watch.end()

    assert [flow.judged.outages for flow in story.flows] == [[]] * 8
    assert sum(flow.judged.answered for flow in story.flows) > 300


def start_work():

    return subprocess.Popen([sys.executable, "-c", "while True: pass"])


def test_blocked_flows_are_as_expected(tmp_path):
    """Where nothing should answer, what answers is told, and what is refused is not."""
    with closed_port() as nobody, echoing() as echo:
        flows = watched("worker-1", "127.0.0.1", nobody.port, (NEW,), expects="blocked")
        flows += watched("worker-2", "127.0.0.1", echo.port, (NEW,), expects="blocked")
        planned(tmp_path, flows)
        process = start(tmp_path, "--for", "1")
        process.communicate(timeout=LONG)
    story = story_of(load(tmp_path))

    assert of(story, "worker-1", NEW).judged.outages == []
    (outage,) = of(story, "worker-2", NEW).judged.outages
    assert str(outage.kind) == "answered"
    assert outage.goes_on
    assert CUT_OFF not in outage.kinds
