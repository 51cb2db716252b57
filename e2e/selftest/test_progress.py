"""A run on a terminal, in a log, and for programs: how far it is, and failures as they happen."""

import io
import json
import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from e2e.fixtures.progress import Progress, Waits
from e2e.report.summary import Ending, summary_data
from e2e.screen import Screen, how_to_tell
from e2e.selftest.programs import CHECKOUT
from e2e.wait import WaitedInVainError, settle, wait_until, watcher

NODEID = "e2e/contract/test_reach.py::test_the_control_plane_answers"
# Two tests as pytest sees clauses: one fails at once, and one waits for what never comes.
TESTS = """
from e2e.wait import WaitedInVainError, wait_until
import pytest

def test_wrong():
    pytest.fail("worker-1 refused", pytrace=False)

def test_waits():
    with pytest.raises(WaitedInVainError):
        wait_until(lambda: False, what="pods of echo-x", within=3, every=0.1)
"""

SHARED = """
from e2e.fixtures.settings import SETTINGS

def pytest_sessionstart(session):
    session.config.stash[SETTINGS].shared.mkdir(parents=True, exist_ok=True)
"""


def told(folder: Path, total: int = 7) -> tuple[Progress, io.StringIO]:
    text = io.StringIO()
    plugins = pytest.PytestPluginManager()
    return Progress(Console(file=text, width=200), folder, total, plugins, live=False), text


def report(**what) -> SimpleNamespace:
    usual = {"nodeid": NODEID, "failed": True, "user_properties": [], "longrepr": "broke"}
    return SimpleNamespace(**usual | what)


def test_a_failure_is_told_when_it_happens(tmp_path):
    """It is told whole, by the clause's id, and marked if it is no verdict."""
    progress, text = told(tmp_path)

    progress.pytest_runtest_logreport(report(failed=False))
    assert text.getvalue() == ""
    said = "reach.x\nnot settled in 30 s\nwhy: it is cut off"
    progress.ids["test_reach.py::test_the_control_plane_answers"] = "reach.x"
    progress.pytest_runtest_logreport(report(longrepr=said, user_properties=[("ended", "failed")]))
    progress.pytest_runtest_logreport(report(longrepr="[red]no pod[/]"))

    assert text.getvalue() == (
        "x reach.x\nnot settled in 30 s\nwhy: it is cut off\n"
        "x reach.x (could not be judged)\n[red]no pod[/]\n"
    )


def test_the_line_says_how_far_it_is_and_what_is_waited_for(tmp_path):
    """The clauses that run longest come first, with what each waits for and since when."""
    progress, _ = told(tmp_path)
    now = time.time()
    progress.running |= {f"a/test_x.py::test_{n}[p]": now - n for n in (1, 20, 5)}
    progress.ended, progress.wrong = 3, {"one"}
    waiting = {"clause": "a/test_x.py::test_20[p]", "what": "pods", "since": now - 12}
    (tmp_path / "1.json").write_text(json.dumps(waiting))
    (tmp_path / "2.json").write_text("{half")

    assert progress.line() == (
        "3 of 7 clauses, 1 wrong; asking test_x.py::test_20 (20 s, waits 12 s for pods), "
        "test_x.py::test_5 (5 s) and 1 more"
    )


def test_what_is_waited_for_is_noted_if_it_takes_a_second(tmp_path):
    """Waits and looks in vain note what they are for, once a second at most, until they end."""
    waits, noted = Waits(tmp_path / "waits"), []

    def show(what: str, since: float) -> None:
        waits.show(what, since)
        if waits.file.exists():
            noted.append(json.loads(waits.file.read_text()))

    token = watcher.set(show)
    try:
        with pytest.raises(WaitedInVainError):
            wait_until(lambda: False, what="soon", within=0.3, every=0.05)
        assert not noted
        with pytest.raises(WaitedInVainError):
            wait_until(lambda: False, what="pods", within=1.3, every=0.05)
        assert noted[-1]["what"] == "pods"
        assert not waits.file.exists()
        settle(lambda: 3, lambda _: False, within=2.2, every=0.05, what=lambda seen: f"saw {seen}")
        assert noted[-1]["what"] == "saw 3"
        assert 1 <= time.time() - noted[-1]["since"] < 5
        assert not waits.file.exists()
    finally:
        watcher.reset(token)


def argv(folder: Path, *more: str) -> list[str]:
    """Pytest over TESTS, with the plugins that tell, but without those that want a cluster."""
    (folder / "test_it.py").write_text(TESTS)
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "conftest.py").write_text(SHARED)
    plugins = ("-p", "e2e.fixtures.settings", "-p", "e2e.fixtures.progress")
    return [sys.executable, "-m", "pytest", *plugins, "-p", "no:cacheprovider", *more, "test_it.py"]


def env(folder: Path, **more: str) -> dict[str, str]:
    known = {"PYTHONPATH": str(CHECKOUT), "E2E_CACHE": str(folder / "cache"), "COLUMNS": "200"}
    return os.environ | {"PYTEST_ADDOPTS": "", **known, **more}


@pytest.mark.parametrize("processes", ["0", "2"])
def test_a_log_gets_plain_lines(tmp_path, processes):
    """In a log there is no letter a test and no colour: a failure once, and how all ended."""
    done = subprocess.run(
        argv(tmp_path, "--progress=plain", f"--numprocesses={processes}", "-rN"),
        cwd=tmp_path, env=env(tmp_path), capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip

    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.count("worker-1 refused") == 1
    assert "x test_it.py::test_wrong (could not be judged)\nworker-1 refused\n" in done.stdout
    assert "\x1b" not in done.stdout
    assert re.search(r"^=+ 1 failed, 1 passed in .*=+$", done.stdout, re.MULTILINE)
    assert not re.search(r"^[.F]+$", done.stdout, re.MULTILINE)
    assert not list((tmp_path / "cache" / "runs").glob("*/waits/*"))


@pytest.mark.parametrize("processes", ["0", "2"])
def test_who_stops_it_is_not_told_where_it_was(tmp_path, processes):
    """Ctrl-C is no error, and there is no trace of it to look at."""
    command = argv(tmp_path, "--progress=plain", f"--numprocesses={processes}", "-rN")
    interrupts = "raise KeyboardInterrupt"
    if processes != "0":  # where whoever has the screen is interrupted
        interrupts = "import os, signal; os.kill(os.getppid(), signal.SIGINT); time.sleep(60)"
    (tmp_path / "test_it.py").write_text(f"import time\ndef test_it():\n    {interrupts}\n")
    # What scripts start in the background would not hear it.
    heeds = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL)"
    done = subprocess.run(
        [sys.executable, "-c", f"{heeds}; os.execv(sys.argv[1], sys.argv[1:])", *command],
        cwd=tmp_path, env=env(tmp_path), capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip

    assert done.returncode == pytest.ExitCode.INTERRUPTED, done.stdout + done.stderr
    assert "!! stopped by you !!" in done.stdout
    assert "KeyboardInterrupt" not in done.stdout + done.stderr


@pytest.mark.parametrize("processes", ["0", "2"])
def test_a_terminal_shows_what_is_waited_for(tmp_path, processes):
    """On a terminal one line at its end changes, and NO_COLOR takes the colours from it."""
    ours, theirs = pty.openpty()
    variables = env(tmp_path, NO_COLOR="1", TERM="xterm")
    with subprocess.Popen(
        argv(tmp_path, "--progress=live", f"--numprocesses={processes}", "-rN"),
        cwd=tmp_path, env=variables, stdout=theirs, stderr=theirs,
    ) as process:  # fmt: skip
        os.close(theirs)
        said = read(ours)

    assert process.returncode == 1
    assert re.search(r"1 of \d+ clauses, 1 wrong; asking .*test_waits \(\d s, waits \d s "
                     r"for pods of echo-x\)", said)  # fmt: skip
    assert said.count("worker-1 refused") == 1
    assert not re.search(r"\x1b\[(3|4|9)\d", said)


def read(terminal: int) -> str:
    """All that a terminal is sent, until nobody has it open any more."""
    said = b""
    while True:
        try:
            block = os.read(terminal, 65536)
        except OSError:
            return said.decode()
        if not block:
            return said.decode()
        said += block


@pytest.mark.parametrize(
    ("terminal", "variables", "how"),
    [
        (True, {"TERM": "xterm"}, "live"),
        (True, {"TERM": "dumb"}, "plain"),
        (True, {"TERM": "xterm", "CI": "true"}, "plain"),
        (False, {"TERM": "xterm"}, "plain"),
    ],
)
def test_who_looks_decides_how_it_is_told(monkeypatch, terminal, variables, how):
    """Only somebody at a terminal that can move its cursor gets a line that changes."""
    monkeypatch.delenv("CI", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(isatty=lambda: terminal))

    assert how_to_tell() == how


ENDINGS = [
    Ending("a.held", "held", "", "", 1.0, known_bug="https://example.test/1"),
    Ending("a.wrong", "failed", "table\nwhy: cut off", "out/evidence/a.wrong", 2.0),
    Ending("a.broken", "broken", "no pod", "", 2.0),
    Ending("a.skipped", "skipped", "needs x", "", 0.0),
]


def test_the_last_screen_is_there_for_programs():
    """Counts, what was wrong and why, skips and bugs, and the same screen that people get."""
    said = summary_data(ENDINGS, "lane: a\nfound: b", 12.34, "one\ntwo")

    assert said == {
        "exit_code": 1,
        "where": ["lane: a", "found: b"],
        "seconds": 12.3,
        "counts": {"held": 1, "failed": 1, "broken": 1, "skipped": 1},
        "wrong": [
            {"clause": "a.wrong", "ended": "failed", "said": "table\nwhy: cut off",
             "why": ["why: cut off"], "evidence": "out/evidence/a.wrong"},
            {"clause": "a.broken", "ended": "broken", "said": "no pod", "why": [], "evidence": ""},
        ],
        "skipped": {"a.skipped": "needs x"},
        "known_bugs": {"a.held": "https://example.test/1"},
        "screen": ["one", "two"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("screen", "out"),
    [
        (Screen(quiet=True), "one\ntwo\n"),
        (Screen(as_json=True), '{"screen": ["one", "two"]}'),
        (Screen(quiet=True, as_json=True), '{"screen": ["one", "two"]}'),
    ],
)
def test_quiet_and_json_leave_the_last_screen_alone(capsys, screen, out):
    """What pytest says goes nowhere, and its last screen is all there is."""
    with screen.shown() as (options, output):
        output.write(b"dots and letters")
        Path(options[0].partition("=")[2]).write_text('{"screen": ["one", "two"]}')

    assert capsys.readouterr() == (out, "")


def test_a_run_without_a_last_screen_says_what_pytest_said(capsys):
    """A run that ended before a clause was asked is told, on standard error."""
    with Screen(as_json=True).shown() as (_, output):
        output.write(b"x engine  failed\n")

    assert capsys.readouterr() == ("", "x engine  failed\n")
