"""How a run ends that is stopped: pytest cleans up, whoever was interrupted or killed."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.commands.run import _told_what_is_left
from e2e.errors import StoppedError
from e2e.provider import kind
from e2e.provider.steps import Steps
from e2e.selftest.programs import CHECKOUT
from e2e.wait import wait_until

# A run that has something to remove, and takes its time for it until it is let go.
RUN = """
import threading
from pathlib import Path
import pytest

@pytest.fixture
def thing():
    Path("made").touch()
    yield
    Path("removing").touch()
    while not Path("go").exists():
        threading.Event().wait(0.02)
    Path("made").unlink()

def test_it(thing):
    threading.Event().wait(60)
"""
ARGUMENTS = ["-q", "-p", "no:cacheprovider", "test_run.py"]
CALL = f"from e2e.commands.run import _run_pytest; _run_pytest({ARGUMENTS}, None)"


@pytest.fixture
def run(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """The command with its pytest, started as a script does in the background: without Ctrl-C."""
    (tmp_path / "test_run.py").write_text(RUN)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    argv = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", sys.executable, "-c", CALL]
    env = os.environ | {"PYTHONPATH": str(CHECKOUT), "PYTEST_ADDOPTS": ""}
    with subprocess.Popen(
        argv, cwd=tmp_path, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        await_file(tmp_path / "made")
        yield process
        (tmp_path / "go").touch()
        process.kill()


def await_file(file: Path, *, there: bool = True) -> None:
    wait_until(lambda: file.exists() == there, what=f"{file.name}", within=30, every=0.02)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of that")
def test_pytest_cleans_up_when_the_command_is_killed(run, tmp_path):
    """After kill -9 of the command, pytest is interrupted and removes what it made."""
    (tmp_path / "go").touch()

    run.kill()

    await_file(tmp_path / "made", there=False)


def test_each_interrupt_says_what_is_going_on(run, tmp_path):
    """The first Ctrl-C stops pytest; a second one says what is waited for, and breaks nothing."""
    run.send_signal(signal.SIGINT)
    assert run.stderr.readline() == "stopping pytest\n"
    await_file(tmp_path / "removing")

    run.send_signal(signal.SIGINT)
    assert run.stderr.readline() == "still stopping: pytest removes what it made\n"
    assert (tmp_path / "made").exists()
    (tmp_path / "go").touch()

    assert run.wait(30) != 0
    assert not (tmp_path / "made").exists()


# Asks something of its own, and takes its time to clean up when it is interrupted.
ASKS = """
import sys, threading
from pathlib import Path
Path("made").touch()
try:
    threading.Event().wait(60)
except KeyboardInterrupt:
    Path("removing").touch()
    while not Path("go").exists():
        threading.Event().wait(0.02)
    Path("made").unlink()
"""
RUNS = f"""
import signal, sys
from e2e.provider.command import run_to_its_end
signal.signal(signal.SIGINT, signal.default_int_handler)
say = lambda line: print(line, file=sys.stderr, flush=True)
run_to_its_end([sys.executable, "-c", {ASKS!r}], say)
"""


@pytest.fixture
def asking(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """What prepare and verify do while the contract is asked by a process of its own."""
    with subprocess.Popen(
        [sys.executable, "-c", RUNS], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        await_file(tmp_path / "made")
        yield process
        (tmp_path / "go").touch()
        process.kill()


def test_the_contract_cleans_up_before_who_asks_for_it_goes_on(asking, tmp_path):
    """Prepare and verify remove their own only then; a second Ctrl-C is told so."""
    asking.send_signal(signal.SIGINT)
    await_file(tmp_path / "removing")
    asking.send_signal(signal.SIGINT)
    assert asking.stderr.readline().startswith("SIGINT: still removing what was made")
    assert asking.poll() is None
    (tmp_path / "go").touch()

    assert asking.wait(30) != 0
    assert not (tmp_path / "made").exists()


@pytest.mark.skipif(not shutil.which("setpriv"), reason="needs setpriv")
def test_the_contract_cleans_up_when_who_asks_for_it_is_killed(asking, tmp_path):
    asking.kill()

    await_file(tmp_path / "removing")
    (tmp_path / "go").touch()
    await_file(tmp_path / "made", there=False)


@pytest.mark.parametrize(
    ("noted", "removed", "said"),
    [
        (False, False, "stopped by you; no cluster had been made"),
        (True, False, "stopped by you; the cluster mine stays"),
        (False, True, "stopped by you; removed the cluster mine"),
    ],
)
def test_the_last_word_says_what_became_of_the_cluster(tmp_path, monkeypatch, noted, removed, said):
    """Nothing is claimed to be removed that was not made, or that stays."""
    monkeypatch.setenv("E2E_CACHE", str(tmp_path))
    steps = Steps(quiet=True)
    if noted:
        kind.Record("v1.37.2", "docker", "kind").write("mine")
    if removed:
        with steps.step("clean-up", "nobody asked to keep it") as step:
            step.done("removed the cluster mine")

    with pytest.raises(StoppedError) as caught, _told_what_is_left("mine", steps):
        raise KeyboardInterrupt

    assert str(caught.value) == said
    assert caught.value.exit_code == 2
