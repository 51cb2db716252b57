"""Running programs: what they printed, how they failed, and that none is left behind."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from e2e.errors import CannotRunError
from e2e.provider.command import CommandFailedError, run
from e2e.wait import wait_until

# Seconds on a busy machine; a family lives for longer if nobody ends it.
LONG = 30
# A program with two children in its process group: one ends when it is asked, and one ignores
# that. Both hold the pipe `$1` open, so the pipe's reader knows when the last of them has gone.
FAMILY = """
sh -c 'echo meek >&3; exec sleep 60' 3>"$1" &
sh -c 'trap "" TERM; echo stubborn >&3; exec sleep 60' 3>"$1" &
exec sleep 60
"""


class Family:
    """The reader's end of the pipe that a FAMILY holds open."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self._end = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self._said = ""

    def close(self) -> None:
        os.close(self._end)

    def both_live(self) -> bool:
        try:
            self._said += os.read(self._end, 100).decode()
        except BlockingIOError:
            return False
        return "meek" in self._said and "stubborn" in self._said

    def is_gone(self) -> bool:
        """Tell whether nobody holds the pipe any more: only then is there an end to read."""
        try:
            return os.read(self._end, 100) == b""
        except BlockingIOError:
            return False


@pytest.fixture
def family(tmp_path):
    family = Family(tmp_path / "family")
    yield family
    family.close()


def test_the_output_is_returned():
    """What a program prints is returned as it is, and what it says on stderr is not in it."""
    assert run(["sh", "-c", "echo one; echo aside >&2; echo two"]) == "one\ntwo\n"


def test_output_that_is_no_text_does_not_break_the_run():
    """Bytes that are no UTF-8 are replaced, not raised."""
    assert run(["printf", r"a\377b"]) == "a\ufffdb"


@pytest.mark.parametrize("data", ["apiVersion: v1\n", b"apiVersion: v1\n"])
def test_a_program_reads_what_it_is_given(data):
    """`input` may be text or bytes, and arrives whole."""
    assert run(["cat"], input=data) == "apiVersion: v1\n"


def test_a_program_never_waits_for_a_keyboard():
    """Without `input` a program reads nothing, even where the caller's own input stays open."""
    script = "from e2e.provider.command import run; print([run(['cat'], timeout=5)])"

    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.read() == "['']\n"


def test_variables_are_added_to_the_present_ones(tmp_path, monkeypatch):
    """`env` adds variables and keeps the others; `cwd` is where the program runs."""
    monkeypatch.setenv("PRESENT", "kept")

    said = run(["sh", "-c", "echo $PRESENT $ADDED; pwd"], env={"ADDED": "new"}, cwd=tmp_path)

    assert said == f"kept new\n{tmp_path.resolve()}\n"


def test_a_failed_program_shows_its_command_line_its_code_and_its_last_words():
    """The error has the command line as one would type it, the exit code and the stderr."""
    with pytest.raises(CommandFailedError) as caught:
        run(["sh", "-c", "echo working; echo 'no space left' >&2; exit 3"])

    assert caught.value.code == 3
    assert caught.value.said == "no space left\n"
    assert str(caught.value) == (
        "`sh -c 'echo working; echo '\"'\"'no space left'\"'\"' >&2; exit 3'` ended with 3\n"
        "    no space left"
    )


def test_a_failed_program_that_wrote_no_error_shows_its_output():
    """If stderr is empty, the last words are those on stdout, the last fifteen lines of them."""
    with pytest.raises(CommandFailedError) as caught:
        run(["sh", "-c", "seq 100; exit 1"])

    assert str(caught.value).splitlines()[1:] == [f"    {n}" for n in range(86, 101)]


def test_a_failed_program_ends_a_run_as_cannot_run():
    """A failed program is a known way in which a run ends: exit code 2."""
    assert issubclass(CommandFailedError, CannotRunError)
    assert CommandFailedError(["kind"], 1, "").exit_code == 2


def test_a_missing_program_is_named():
    """A program that is not there is an error with its name, not a stack trace of Python's."""
    with pytest.raises(CommandFailedError, match="`no-such-program --help` failed: No such file"):
        run(["no-such-program", "--help"])


def test_a_log_gets_what_was_said_as_it_comes(tmp_path):
    """With `log`, stdout and stderr are added to the file in their order; nothing is returned."""
    log = tmp_path / "build.log"
    log.write_text("step one\n")

    said = run(["sh", "-c", "echo two; echo three >&2; echo four"], log=log)

    assert said == ""
    assert log.read_text() == "step one\ntwo\nthree\nfour\n"


def test_a_failed_program_with_a_log_shows_the_end_of_it(tmp_path):
    """The last words of a program with a log are the end of that log."""
    with pytest.raises(CommandFailedError) as caught:
        run(["sh", "-c", "seq 100; echo 'disk full' >&2; exit 1"], log=tmp_path / "build.log")

    assert str(caught.value).splitlines()[-2:] == ["    100", "    disk full"]


def test_a_program_that_takes_too_long_says_so_with_its_last_words(tmp_path):
    """A timeout names the limit, and shows what the program said before it hung."""
    hang = ["sh", "-c", "echo waiting for the daemon; exec sleep 60"]

    with pytest.raises(CommandFailedError) as caught:
        run(hang, timeout=0.5)
    with pytest.raises(CommandFailedError) as logged:
        run(hang, timeout=0.5, log=tmp_path / "hang.log")

    for error in (caught.value, logged.value):
        assert "failed: no end within 0.5 s" in str(error)
        assert str(error).endswith("\n    waiting for the daemon")


def test_a_timeout_ends_the_whole_family(family, tmp_path):
    """After a timeout no child of the program lives, not even one that ignores being asked."""
    began = time.monotonic()
    with pytest.raises(CommandFailedError):
        run(["sh", "-c", FAMILY, "sh", str(tmp_path / "family")], timeout=1)

    assert time.monotonic() - began < LONG
    assert family.both_live()
    wait_until(family.is_gone, what="the family to end", within=LONG, every=0.01)


def test_an_interrupt_ends_the_whole_family(family, tmp_path):
    """Ctrl-C while a program runs ends it and its children, and goes on as Ctrl-C."""
    script = textwrap.dedent("""
        import signal, sys
        from e2e.provider.command import run

        # A program started in the background may have inherited that Ctrl-C is ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            run(["sh", "-c", sys.argv[1], "sh", sys.argv[2]])
        except KeyboardInterrupt:
            print("interrupted")
    """)
    argv = [sys.executable, "-c", script, FAMILY, str(tmp_path / "family")]

    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        wait_until(family.both_live, what="the family to live", within=LONG, every=0.01)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=LONG)

    assert (said, process.returncode) == ("interrupted\n", 0)
    wait_until(family.is_gone, what="the family to end", within=LONG, every=0.01)


def test_a_ctrl_c_of_the_terminal_does_not_reach_the_program():
    """Programs run in a group of their own, so that we end them, in our order."""
    group = run([sys.executable, "-c", "import os; print(os.getpgrp())"])

    assert int(group) != os.getpgrp()
