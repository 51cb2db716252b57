"""What a busy machine could not judge is asked once more, alone, and nothing else is."""

import pytest

from e2e.report.result import Result
from e2e.selftest.programs import ask

CLAUSES = """
import fcntl, os
from pathlib import Path
import pytest
from e2e.errors import BusyError, ProbeBrokenError
from e2e.provider.cache import cache_folder

NOTES = Path("notes")

def note(what):
    with NOTES.open("a") as file:
        file.write(f"{what} {os.getpid()}\\n")

@pytest.fixture(scope="session")
def shared():
    note("shared")
    yield
    note("left")

@pytest.fixture
def times(request, shared):
    note(f"began {request.node.name}")
    yield NOTES.read_text().count(f"began {request.node.name} ")
    note("ended")

def is_alone():
    (turns,) = (cache_folder() / "turns").iterdir()
    with turns.open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False

@pytest.mark.clause("a.busy-once", covers=["N-01"])
def test_busy_once(times):
    assert is_alone() == (times == 2)
    if times == 1:
        raise BusyError("only 3 attempts a second")

@pytest.mark.clause("a.busy", covers=["N-01"])
def test_busy(times):
    raise BusyError(f"only {times} attempts a second")

@pytest.mark.clause("a.wrong-then", covers=["N-01"])
def test_wrong_then(times):
    if times == 1:
        raise BusyError("only 3 attempts a second")
    assert times == 1, "it was wrong"

@pytest.mark.clause("a.wrong", covers=["N-01"])
def test_wrong(times):
    assert times == 2, "wrong at once"

@pytest.mark.clause("a.broken", covers=["N-01"])
def test_broken(times):
    raise ProbeBrokenError(f"curl ended {times}")

@pytest.mark.clause("a.last", covers=["N-01"])
def test_last(times):
    assert not is_alone() or times == 2
    if times == 1:
        raise BusyError("nobody asked for 2.0 s")
"""
CONFTEST = """
pytest_plugins = [f"e2e.fixtures.{name}" for name in
                  ("settings", "cluster", "results", "again", "verdict", "progress", "selection")]
from e2e.fixtures import selection
selection._select = lambda config, items: None  # these are no clauses of the contract
"""


@pytest.fixture(scope="module", params=[0, 2], ids=["one process", "many"])
def left(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    ended = ask(*(folder, CLAUSES, CONFTEST), f"--numprocesses={request.param}", "--dist=worksteal")
    return folder, ended


def test_each_ends_as_it_ended_last(left):
    """Also one that is wrong then; and one for which the machine is too busy again is broken."""
    result = Result.load(left[0] / "out" / "result.json")
    said = {each.clause: (each.ended, each.said.partition("\n")[0]) for each in result.clauses}

    assert said == {
        "a.busy-once": ("held", ""),
        "a.busy": ("broken", "only 2 attempts a second; this machine is too busy"),
        "a.wrong-then": ("failed", "AssertionError: it was wrong"),
        "a.wrong": ("failed", "AssertionError: wrong at once"),
        "a.broken": ("broken", "curl ended 1"),
        "a.last": ("held", ""),
    }
    assert left[1].returncode == 1
    again = {each.clause: each.measured for each in result.clauses if each.measured}
    assert set(again) == {"a.busy-once", "a.busy", "a.wrong-then", "a.last"}
    assert again["a.last"] == ("asked again: nobody asked for 2.0 s; this machine is too busy",)


def test_what_was_asked_again_is_told_and_counted_once(left):
    """On the last screen by name; what was put off is no failure that is shown."""
    screen = left[1].stdout

    assert "2 clauses held, 2 did not, 2 could not be judged; " in screen
    (line,) = (each for each in screen.splitlines() if each.startswith("- asked again"))
    assert line.startswith("- asked again alone, as this machine was too busy: a.")
    assert "only 1 attempts" not in screen


def test_only_that_is_made_anew_which_belongs_to_the_clause(left):
    """What a process shares stays from the first clause to the last."""
    notes = [line.split() for line in (left[0] / "notes").read_text().splitlines()]
    began = [words[1] for words in notes if words[0] == "began"]

    assert len(began) == 10
    assert began.count("test_wrong") == began.count("test_broken") == 1
    assert sum(words[0] == "ended" for words in notes) == len(began)
    for what in ("shared", "left"):
        processes = [words[-1] for words in notes if words[0] == what]
        assert len(processes) == len(set(processes))
