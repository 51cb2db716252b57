"""The command `nodeport-e2e watch`: what ends it, what it says, and what it ends with."""

import re
import signal
import sys

import pytest

from e2e.errors import CannotRunError
from e2e.selftest.echoes import echoing, planned, watched
from e2e.selftest.servers import closed_port
from e2e.selftest.watched import LONG, lines_of, looks, start, watching
from e2e.upgrade.record import load
from e2e.upgrade.watch import alone
from e2e.wait import wait_until

pytestmark = pytest.mark.timeout(400)
WAY = ("new connections",)


@pytest.fixture
def folder(tmp_path):
    """A folder with the plan of one node."""
    with echoing() as echo:
        planned(tmp_path, watched("worker-1", echo.address, echo.port, WAY))
        yield tmp_path


def ended(process, code: int) -> tuple[str, str]:
    out, err = process.communicate(timeout=LONG)
    assert process.returncode == code, err
    return out, err


def python(code: str) -> tuple[str, ...]:
    return "--", sys.executable, "-c", code


def test_the_command_s_exit_code_is_passed_on(folder):
    """The watch ends with the command, says what users noticed, and ends as it did."""
    out, _ = ended(start(folder, *python("import time; time.sleep(1); raise SystemExit(7)")), 7)

    assert out.startswith("Nobody noticed anything in ")
    assert (folder / "timeline.html").read_text().startswith("<!doctype html>")
    events = [line for line in lines_of(folder) if line["line"] == "event"]
    assert [event["kind"] for event in events] == ["command-started", "command-ended"]
    assert events[1]["said"] == "exit code 7"
    looked = [line for line in lines_of(folder) if line["line"] == "looked"]
    assert looked[0]["at"] < events[0]["at"]
    assert looked[-1]["to"] > events[1]["at"] - 0.5


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_are_handed_on(folder, number):
    """The command gets what the watch gets, and may still take its time to end."""
    code = f"""
import signal, time
def end(*_): print("asked", flush=True); time.sleep(0.5); raise SystemExit(5)
signal.signal({int(number)}, end)
open({str(folder / "ready")!r}, "w").close()
time.sleep(60)
"""
    process = start(folder, *python(code), start_new_session=True)
    wait_until((folder / "ready").exists, what="the command", within=LONG)
    process.send_signal(number)

    out, _ = ended(process, 5)
    assert out.startswith("asked\n")
    assert lines_of(folder)[-1]["why"] == "the command ended"


def test_a_command_that_a_signal_ended(folder):
    """As in a shell, that is 128 and its number."""
    ended(start(folder, *python("import os; os.kill(os.getpid(), 9)")), 137)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_command_that_was_not_begun_is_no_success(folder, number):
    """Who stops the watch before every flow was asked is not told that the upgrade went well."""
    done = folder / "done"
    process = start(
        folder, "--ready", folder / "ready", *python(f"open({str(done)!r}, 'w').close()")
    )
    # No recorder asks before Python has started, so that the command waits.
    wait_until(lambda: lines_of(folder), what="the first line", within=LONG, every=0.02)
    process.send_signal(number)
    _, err = ended(process, 2)

    assert "was not begun" in err
    assert not done.exists()
    assert not (folder / "ready").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_well(folder, number):
    """Without a command a signal is no failure: whoever watches decides when it is enough."""
    process = start(folder)
    wait_until(lambda: looks(folder, 1), what="looks", within=LONG)
    process.send_signal(number)

    out, _ = ended(process, 0)
    assert out.startswith("Nobody noticed anything")
    assert lines_of(folder)[-1] == {
        "at": lines_of(folder)[-1]["at"], "line": "end", "why": number.name,
    }  # fmt: skip


def test_who_is_started_by_nohup_outlives_a_terminal_that_hangs_up(folder):
    """And so does its command, half-way through an upgrade."""
    ready = folder / "ready"
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = start(folder, "--", "sh", "-c", f"touch {ready}; sleep 2; exit 5")
    finally:
        signal.signal(signal.SIGHUP, before)
    wait_until(ready.exists, what="the command", within=LONG)
    process.send_signal(signal.SIGHUP)

    ended(process, 5)
    assert lines_of(folder)[-1]["why"] != "SIGHUP"


def test_one_watch_at_a_time(folder):
    """Two watches would mix their lines, so the second is refused."""
    first = start(folder, "--until", folder / "stop")
    wait_until(lambda: looks(folder), what="looks", within=LONG)
    _, err = ended(start(folder, "--for", "1"), 2)
    (folder / "stop").touch()
    ended(first, 0)

    assert "another watch writes to" in err
    assert "Traceback" not in err


def test_it_says_when_every_flow_was_asked(folder):
    """Whoever begins an upgrade in the background waits for that file, and sees all of it."""
    process = start(folder, "--ready", folder / "ready", "--until", folder / "stop")
    wait_until((folder / "ready").exists, what="the file", within=LONG)
    asked = lines_of(folder)
    (folder / "stop").touch()
    ended(process, 0)

    assert any(line["line"] == "looked" for line in asked)


def test_nobody_verifies_while_it_goes_on(folder):
    """What verify does to what was prepared would be told as outages of the upgrade."""
    process = start(folder, "--until", folder / "stop")
    wait_until(lambda: looks(folder), what="looks", within=LONG)
    with pytest.raises(CannotRunError, match="another watch writes to"), alone(folder):
        pass
    (folder / "stop").touch()
    ended(process, 0)
    with alone(folder):
        pass


def test_where_nobody_answers_nothing_was_watched(tmp_path):
    """A watch that was never answered proves nothing about anything."""
    with closed_port() as nobody:
        planned(tmp_path, watched("worker-1", "127.0.0.1", nobody.port, WAY))
        out, _ = ended(start(tmp_path, "--for", "0.5"), 2)

    assert out.startswith("Users noticed: 1 outage on 1 of 1 node")


def test_a_family_to_which_this_machine_has_no_way_is_not_watched(tmp_path):
    """It says so and watches the other; a machine without a way to any watches nothing."""
    # Nobody says over which network that address would be had.
    sixth = {"address": "fe80::1", "family": "IPv6"}
    with echoing() as echo:
        flows = watched("worker-1", echo.address, echo.port)
        planned(tmp_path, [*flows, *(flow.model_copy(update=sixth) for flow in flows)])
        out, err = ended(start(tmp_path, "--for", "1"), 0)

    assert "not watched from here: IPv6 (Invalid argument)" in err
    assert out.startswith("Nobody noticed anything in ")
    assert (
        "IPv6 was not watched, as the watching machine has no way to it: Invalid argument." in out
    )
    assert {flow.family for flow in load(tmp_path).flows} == {"IPv4"}
    planned(tmp_path, [flow.model_copy(update=sixth) for flow in flows])
    _, err = ended(start(tmp_path, "--for", "1"), 2)
    assert "this machine has no way to the nodes: IPv6" in err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--rate", "0"), "--rate is 0"),
        (("--rate", "nan"), "--rate is nan"),
        (("--for", "1", *python("")), "a command is given, and another end too"),
        (("--until", "/"), "/ is there already"),
        (("--ready", "/"), "/ is there already"),
        (("--", "/no/such/program"), "'/no/such/program' cannot be run"),
    ],
)
def test_what_means_nothing_is_refused(folder, options, says):
    """An option that contradicts another, or a command that is none, is told."""
    _, err = ended(start(folder, *options), 4)

    assert says in err
    assert "Traceback" not in err


@pytest.mark.parametrize("text", [None, "", "{", '{"format":2}', "[]", "\x00"])
def test_a_plan_that_is_none(tmp_path, text):
    """Without a plan, or with a damaged one, it says which file and what to do."""
    if text is not None:
        (tmp_path / "plan.json").write_text(text)
    _, err = ended(start(tmp_path, "--for", "1"), 4)

    assert "plan.json" in err
    assert "prepare" in err.partition("plan.json")[2]
    assert "Traceback" not in err


def test_a_plain_line_for_each_change(tmp_path):
    """Without a terminal what is lost is told when it begins and when it ends."""
    with watching(tmp_path, "worker-1") as watch:
        echo = watch.echoes["worker-1"]
        watch.inject(echo.vanish, echo.come_back, 1.5)
        wait_until(lambda: looks(tmp_path, 6), what="looks", within=LONG)
        (tmp_path / "stop").touch()
        _, err = ended(watch.process, 0)

    assert re.search(r"x [\d:.]+ worker-1: (cut off, )?refused on ", err)
    assert "✓ worker-1: as expected again, after " in err
