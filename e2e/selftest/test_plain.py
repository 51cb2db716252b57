"""What others call their objects, or say in refusals, does not steer the terminal."""

import pytest
from rich.console import Console

from e2e.plain import plain
from e2e.provider.steps import Steps
from e2e.report.summary import Ending, summary

HOSTILE = "\x1b]0;owned\x07 \x1b[2J\x9b31m\u202ereversed"
SAID = r"\x1b]0;owned\x07 \x1b[2J\x9b31m\x202ereversed"


def test_letters_of_every_script_and_lines_stay():
    assert plain("näme 名 — ✓\n\tx") == "näme 名 — ✓\n\tx"
    assert plain(HOSTILE) == SAID


def test_the_last_screen_tells_what_a_cluster_said():
    text = summary([Ending("a.b", "failed", HOSTILE, "", 1.0)], f"cluster: {HOSTILE}", 1.0, None, 1)

    assert text.count(SAID) == 2


@pytest.mark.parametrize("live", [True, False])
def test_steps_tell_it_too(live, capsys):
    steps = Steps(Console(force_terminal=live, no_color=True, width=200))
    with steps.step("lease", "one machine at a time") as step:
        step.progress(HOSTILE)
        steps.say(HOSTILE)
        step.done(HOSTILE)

    said = capsys.readouterr().out
    assert "\x1b]0" not in said
    assert "\x07" not in said
    assert said.count(SAID) >= 2
