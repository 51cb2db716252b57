"""What could not be judged for the time being is asked once more, alone, and nothing else is."""

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
                  ("settings", "cluster", "results", "actors", "again", "verdict", "progress",
                   "selection")]
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
    assert line.startswith("- asked again alone: a.")
    assert line.endswith(": this machine is too busy")
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


HELPERS = """
import os
import time
from pathlib import Path
import pytest
from e2e.cluster.pace import MISSED, note_missed
from e2e.errors import ProbeBrokenError
from e2e.fixtures.actors import PLACED

def asked(name):
    with Path("asked").open("a") as file:
        file.write(name + "\\n")
    return Path("asked").read_text().split().count(name)

def away(words, back=True):
    Path("away").write_text(words)
    Path("back").write_text("yes" if back else "")

"""
COMES_AFTER = """
@pytest.mark.clause("a.9-comes-after", covers=["N-01"])
def test_comes_after():
    asked("comes-after")
"""
AWAY = (
    HELPERS
    + """
@pytest.mark.clause("a.1-sees-silence", covers=["N-01"])
def test_sees_silence():
    if asked("sees-silence") == 1:
        away("worker is not Ready")
        raise AssertionError("silent")

@pytest.mark.clause("a.2-is-wrong-then", covers=["N-01"])
def test_is_wrong_then():
    if asked("is-wrong-then") == 1:
        away("worker is not Ready")
    assert not asked("x"), "silent"

@pytest.mark.clause("a.3-breaks-itself", covers=["N-01"])
@pytest.mark.family("disruptive")
def test_breaks_itself():
    away("worker is not Ready")
    assert asked("breaks-itself") == 2, "it was me"

@pytest.mark.clause("a.4-stays-away", covers=["N-01"])
def test_stays_away():
    away("worker2 is gone", back=False)
    assert asked("stays-away") == 0, "silent"

"""
    + COMES_AFTER
)
ELSEWHERE = (
    HELPERS
    + """
@pytest.mark.clause("a.1-is-right", covers=["N-01"])
def test_is_right():
    pass

@pytest.mark.clause("a.2-knows-an-old-address", covers=["N-01"])
def test_knows_an_old_address():
    Path("elsewhere").touch()
    raise AssertionError("no route")

"""
    + COMES_AFTER
)
SERVER_AWAY = (
    HELPERS
    + """
@pytest.mark.clause("a.1-misses-the-server", covers=["N-01"])
def test_misses_the_server(settings, request):
    if asked("misses-the-server") == 1:
        request.node.stash[PLACED] = ["its-echoes"]
        settings.shared.mkdir(parents=True, exist_ok=True)
        note_missed(settings.shared)
        raise AssertionError("silent")

@pytest.mark.clause("a.2-is-late-to-follow", covers=["N-01"])
def test_is_late_to_follow(settings):
    assert asked("is-late-to-follow") == 2, "silent"

@pytest.mark.clause("a.3-is-wrong-later-too", covers=["N-01"])
def test_is_wrong_later_too(settings):
    assert asked("is-wrong-later-too") > 2, "silent"

@pytest.mark.clause("a.4-fails-long-after", covers=["N-01"])
def test_fails_long_after(settings):
    (settings.shared / MISSED).write_text(str(time.monotonic() - 300))
    assert asked("fails-long-after") > 1, "silent"
"""
)
MISSED_LATE = (
    HELPERS
    + """
@pytest.mark.clause("a.1-asks-a-pod", covers=["N-01"])
def test_asks_a_pod(settings):
    settings.shared.mkdir(parents=True, exist_ok=True)
    Path("notes-a-miss").write_text(str(settings.shared))
    assert asked("asks-a-pod") == 2, "cut off"
"""
)
AWAY_CONFTEST = (
    CONFTEST
    + """
import json, os, time
from pathlib import Path
import pytest
from e2e import timing
from e2e.cluster.pace import note_missed
from e2e.errors import NodeAwayError
from e2e.fixtures import again, verdict
from e2e.fixtures.settings import SETTINGS

timing.NODES_BACK_WITHIN, timing.NODE_BACK_WITHIN = 0.5, 0.0
home = {"nodes": "worker worker2", "began": "0"}
again.read_home = lambda settings: home
verdict._save = lambda *_: "kept"
selection.deal = lambda others, alone, processes: sorted(
    [*others, *alone], key=lambda item: item.get_closest_marker("clause").args[0])

def went_away(api, nodes, since):
    # What came back while it was waited for is no news.
    assert not Path("waited").exists() or since > float(Path("waited").read_text())
    Path("waited").unlink(missing_ok=True)
    assert nodes == ("worker", "worker2")
    file = Path("away")
    words = file.read_text() if file.exists() else ""
    file.unlink(missing_ok=True)
    return [words] if words else []

def await_back(api, nodes, within):
    with Path("asked").open("a") as file:
        file.write(f"waited-{within > 0}\\n")
    Path("waited").write_text(str(time.time()))
    if not Path("back").read_text():
        time.sleep(within)
        raise NodeAwayError("worker2 is not Ready: waited in vain")

def remove_echoes(api, of):
    with Path("asked").open("a") as file:
        file.write(f"removed {of[0]}\\n")

def moved(api, nodes):
    assert nodes == "as they were"
    if (noted := Path("notes-a-miss")).exists():
        note_missed(Path(noted.read_text()))
    return ["worker is at 10.0.0.9 now"] if Path("elsewhere").exists() else []

again.went_away, again.await_back, again.remove_echoes = went_away, await_back, remove_echoes
again.moved = moved

@pytest.fixture(scope="session")
def api():
    return None

@pytest.fixture(scope="session")
def cluster_nodes():
    return "as they were"

@pytest.fixture
def followed():
    def wait():
        with Path("asked").open("a") as file:
            file.write("followed\\n")
    return wait
"""
)


@pytest.fixture(scope="module")
def without_a_node(tmp_path_factory):
    folder = tmp_path_factory.mktemp("away")
    ended = ask(folder, AWAY, AWAY_CONFTEST, "--numprocesses=0", "--progress=plain")
    return folder, ended


def test_without_a_node_nothing_is_judged(without_a_node):
    """What failed meanwhile is asked again when it is back; the run ends where it stays away."""
    result = Result.load(without_a_node[0] / "out" / "result.json")
    said = {each.clause: (each.ended, each.said.partition("\n")[0]) for each in result.clauses}

    assert said == {
        "a.1-sees-silence": ("held", ""),
        "a.2-is-wrong-then": ("failed", "AssertionError: silent"),
        "a.3-breaks-itself": ("failed", "AssertionError: it was me"),
        "a.4-stays-away": ("broken", "worker2 is not Ready: waited in vain"),
    }
    assert not result.whole
    assert "- asked again alone: a.1-sees-silence" in without_a_node[1].stdout


def test_without_an_api_server_nothing_is_judged(tmp_path):
    """Nor for as long as nodes may be late to follow it; they do before anything is asked again."""
    ended = ask(tmp_path, SERVER_AWAY, AWAY_CONFTEST, "--numprocesses=0")
    result = Result.load(tmp_path / "out" / "result.json")
    said = {each.clause: (each.ended, each.said.partition("\n")[0]) for each in result.clauses}

    assert said == {
        "a.1-misses-the-server": ("held", ""),
        "a.2-is-late-to-follow": ("held", ""),
        "a.3-is-wrong-later-too": ("failed", "AssertionError: silent"),
        "a.4-fails-long-after": ("failed", "AssertionError: silent"),
    }
    notes = (tmp_path / "asked").read_text().split()
    assert notes.count("fails-long-after") == 1
    assert notes[:5] == [
        *("misses-the-server", "removed", "its-echoes", "followed", "misses-the-server"),
    ]
    assert "asked again alone: a.1-misses-the-server" in ended.stdout


def test_a_server_that_is_missed_first_by_what_is_asked_of_a_failure_was_away(tmp_path):
    """As where a clause calls through pods, which are not asked twice."""
    ask(tmp_path, MISSED_LATE, AWAY_CONFTEST, "--numprocesses=0")
    (clause,) = Result.load(tmp_path / "out" / "result.json").clauses

    assert clause.ended == "held"
    assert (tmp_path / "asked").read_text().split()[0] == "asks-a-pod"


def test_a_node_is_waited_for_once(without_a_node):
    """Where it stays away nothing else is asked, and the last line says why."""
    notes = (without_a_node[0] / "asked").read_text().split()

    assert notes[:3] == ["sees-silence", "waited-True", "sees-silence"]
    assert notes[notes.index("stays-away") :] == ["stays-away", "waited-True"]
    assert without_a_node[1].returncode == 2
    assert "!! worker2 is not Ready: waited in vain !!" in without_a_node[1].stdout


def test_a_node_that_came_back_elsewhere_ends_the_run(tmp_path):
    """It is called at an address that it no longer has, which says nothing of it."""
    ended = ask(tmp_path, ELSEWHERE, AWAY_CONFTEST, "--numprocesses=0", "--progress=plain")
    result = Result.load(tmp_path / "out" / "result.json")

    assert {each.clause: each.ended for each in result.clauses} == {
        "a.1-is-right": "held", "a.2-knows-an-old-address": "broken",
    }  # fmt: skip
    assert "worker is at 10.0.0.9 now" in result.clauses[1].said
    assert ended.returncode == 2
    assert not (tmp_path / "asked").exists()


HINDERED = (
    HELPERS
    + """
from e2e.errors import HinderedError

@pytest.mark.clause("a.1-has-no-pods", covers=["N-01"])
def test_has_no_pods():
    raise HinderedError("waited 120 s in vain: ErrImagePull no such image", "let nodes have it")

"""
    + COMES_AFTER
)


def test_a_run_whose_pods_cannot_begin_ends(tmp_path):
    """Each clause that follows would wait for its own as long."""
    ended = ask(tmp_path, HINDERED, AWAY_CONFTEST, "--numprocesses=0")
    result = Result.load(tmp_path / "out" / "result.json")

    assert [(each.clause, each.ended) for each in result.clauses] == [("a.1-has-no-pods", "broken")]
    assert ended.returncode == 2
    assert "ErrImagePull no such image" in ended.stdout
    assert not result.whole


ENDS_TWICE = """
import pytest
from e2e.errors import CannotRunError

@pytest.fixture
def one():
    yield
    raise CannotRunError("the API server does not answer", "look")

@pytest.fixture
def another():
    yield
    raise CannotRunError("the API server does not answer", "look")

@pytest.mark.clause("a.1-ends-twice", covers=["N-01"])
def test_ends_twice(one, another):
    pass
"""


def test_what_ends_wrong_twice_is_told_once_and_without_a_stack_trace(tmp_path):
    """As when an API server is away while all that a clause made is removed."""
    ended = ask(tmp_path, ENDS_TWICE, CONFTEST, "--numprocesses=0", "--progress=plain")

    (clause,) = Result.load(tmp_path / "out" / "result.json").clauses
    assert clause.said == "the API server does not answer\n  what to do: look"
    assert "Traceback" not in ended.stdout
    assert "ExceptionGroup" not in ended.stdout


PINS = """
import pytest

@pytest.mark.clause("a.mended", covers=["N-01"])
@pytest.mark.known_bug("https://example.test/1")
def test_mended():
    assert not "both", "by replace there are both"

@pytest.mark.clause("a.there", covers=["N-01"])
@pytest.mark.known_bug("https://example.test/2")
def test_there():
    pass

@pytest.mark.clause("a.unasked", covers=["N-01"])
@pytest.mark.known_bug("https://example.test/3")
def test_unasked():
    raise RuntimeError("nobody knows")
"""


def test_a_bug_that_is_mended_is_no_failure(tmp_path):
    """It is said, by the clause that pins it; what could not be asked says nothing of it."""
    ended = ask(tmp_path, PINS, CONFTEST, "--numprocesses=0")
    result = Result.load(tmp_path / "out" / "result.json")

    assert [(each.clause, each.ended) for each in result.clauses] == [
        ("a.mended", "skipped"),
        ("a.there", "held"),
        ("a.unasked", "broken"),
    ]
    assert result.clauses[0].said.startswith("the bug of Kubernetes that it pins was not seen: ")
    assert "- skipped: a.mended: the bug of Kubernetes that it pins was not seen" in ended.stdout
    assert ended.returncode == 2
