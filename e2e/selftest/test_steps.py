"""Telling of steps: one plain line each, whatever the words are."""

import io
import re
import threading

import pytest
from rich.console import Console

from e2e.provider.steps import Steps


class Told:
    """Steps that report to a text, as to a file or a pipe."""

    def __init__(self, *, terminal: bool = False, quiet: bool = False) -> None:
        self._file = io.StringIO()
        console = Console(file=self._file, force_terminal=terminal, width=60, color_system=None)
        self.steps = Steps(console, quiet=quiet)

    @property
    def text(self) -> str:
        return self._file.getvalue()

    @property
    def lines(self) -> list[str]:
        """The lines, with each duration as T."""
        return [re.sub(r"\(\d+(\.\d)? s\)", "(T)", line) for line in self.text.splitlines()]


def test_a_step_is_one_line_with_its_result():
    """A step that is done is one plain line: mark, title, result, reason, duration."""
    told = Told()

    with told.steps.step("engine", "containers are run by one") as step:
        step.done("docker 29.1, as found")

    assert told.lines == ["✓ engine       docker 29.1, as found: containers are run by one (T)"]


def test_a_step_without_a_result_says_why_it_ran():
    """A step that names no result ends with its reason instead."""
    told = Told()

    with told.steps.step("cluster", "the contract is asked of one"):
        pass

    assert told.lines == ["✓ cluster      the contract is asked of one (T)"]


def test_the_duration_is_the_time_that_the_step_took():
    """The duration on a step's line is measured, to a tenth of a second."""
    told = Told()

    with told.steps.step("engine", "it has to start"):
        threading.Event().wait(0.25)

    (seconds,) = re.findall(r"\((\d+\.\d) s\)$", told.text.rstrip())
    assert 0.2 <= float(seconds) < 2


def test_a_skipped_step_says_why_nothing_had_to_be_done():
    """A step that is done already has a mark of its own and the reason."""
    told = Told()

    with told.steps.step("node image", "kind needs one") as step:
        step.skip("nodeport-e2e/node:v1.37.2 is here")

    assert told.lines == ["- node image   nodeport-e2e/node:v1.37.2 is here: kind needs one (T)"]


def test_a_failed_step_says_so_and_lets_the_error_pass():
    """An error marks the step as failed, whatever it had said before, and goes on upwards."""
    told = Told()

    def fail() -> None:
        with told.steps.step("kind", "it makes the cluster") as step:
            step.done("built")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()

    assert told.lines == ["x kind         failed: it makes the cluster (T)"]


def test_an_interrupted_step_says_who_stopped_it():
    """Ctrl-C in a step shows on its line and goes on as Ctrl-C."""
    told = Told()

    def stop() -> None:
        with told.steps.step("kind", "it makes the cluster"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()

    assert told.lines == ["x kind         stopped by you: it makes the cluster (T)"]


def test_progress_is_a_plain_line_where_there_is_no_terminal():
    """Off a terminal each piece of progress is a line of its own, before the step's."""
    told = Told()

    with told.steps.step("node image", "kind needs one") as step:
        step.progress("compiling kubelet (3 of 12)")
        step.done("built")

    assert told.lines == [
        "    node image: compiling kubelet (3 of 12) (T)",
        "✓ node image   built: kind needs one (T)",
    ]


def test_a_long_line_stays_one_line():
    """Words longer than the terminal is wide are not broken, so that a line can be searched for."""
    told = Told()
    words = "word " * 30 + "end"

    with told.steps.step("engine", "why") as step:
        step.progress(words)
        step.done(words)

    assert told.lines == [f"    engine: {words} (T)", f"✓ engine       {words}: why (T)"]


@pytest.mark.parametrize(
    "words", ["[red]x[/] [/]", "[docs]", "node fc00:f853::a:b:1", "a\\[b", "\\"]
)
@pytest.mark.parametrize("terminal", [False, True])
def test_words_are_never_markup(words, terminal):
    """Brackets are no styles and the colons of an address no emoji, in no part of a line."""
    told = Told(terminal=terminal)

    with told.steps.step(words, words) as step:
        step.progress(words)
        step.done(words)

    assert told.lines[-1].endswith(f"✓ {words:<12} {words}: {words} (T)")
    if not terminal:
        assert told.lines[0] == f"    {words}: {words} (T)"


def test_on_a_terminal_only_the_step_s_line_is_left():
    """On a terminal progress is shown in place and wiped, so that the last line is the step's."""
    told = Told(terminal=True)

    with told.steps.step("node image", "kind needs one") as step:
        step.progress("compiling kubelet")
        step.done("built")

    *shown, last = told.text.rstrip("\n").split("\x1b[2K")  # what wipes a line
    assert shown
    assert re.fullmatch(r"✓ node image   built: kind needs one \(\d\.\d s\)", last)


def test_quiet_steps_are_silent_as_long_as_they_succeed():
    """A quiet run says nothing of steps that are done or skipped, nor of their progress."""
    told = Told(quiet=True)

    with told.steps.step("engine", "containers are run by one") as step:
        step.progress("starting")
        step.done("started")
    with told.steps.step("kind", "it makes the cluster") as step:
        step.skip("found")

    assert told.text == ""


def test_quiet_steps_still_say_what_failed():
    """A quiet run names a step that failed."""
    told = Told(quiet=True)

    def fail() -> None:
        with told.steps.step("engine", "containers are run by one"):
            raise OSError("no daemon")

    with pytest.raises(OSError, match="no daemon"):
        fail()

    assert told.lines == ["x engine       failed: containers are run by one (T)"]


def test_steps_go_to_standard_error(capfd):
    """By default steps are told on standard error, so that standard output stays for results."""
    with Steps().step("engine", "containers are run by one"):
        pass

    out, err = capfd.readouterr()
    assert out == ""
    assert "engine" in err
