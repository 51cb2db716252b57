"""What a command says of itself while it is watched: heard, told, and what it means."""

import sys

import pytest

from e2e.check.work import is_within, worked_on
from e2e.selftest.echoes import echoing, planned, watched
from e2e.selftest.watched import LONG, lines_of, start
from e2e.upgrade.lines import EventLine
from e2e.upgrade.said import FILE, VARIABLE, Said, say


def test_what_a_command_says_is_heard_line_by_line(tmp_path, monkeypatch):
    heard = Said(tmp_path, {"worker"})
    monkeypatch.setenv(VARIABLE, heard.variables[VARIABLE])

    say("drain", "worker")
    say("kube-proxy rolls out")
    with (tmp_path / FILE).open("a") as file:
        file.write("elsewhere: wait\n\nworker: no end")

    told = [(each.kind, each.node, each.said) for each in heard.new()]
    assert told == [
        ("step", "worker", "drain"),
        ("step", "", "kube-proxy rolls out"),
        ("step", "", "elsewhere: wait"),
    ]
    assert list(heard.new()) == []
    with (tmp_path / FILE).open("a") as file:
        file.write(" yet\n")
    assert [each.said for each in heard.new()] == ["no end yet"]
    heard.end()
    assert not (tmp_path / FILE).exists()


def test_who_does_not_watch_hears_nothing(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    say("drain", "worker")


@pytest.mark.timeout(400)
def test_a_watch_tells_the_steps_of_its_command(tmp_path):
    """Each is an event, between the start of the command and its end, by the name it was given."""
    code = f"import os; open(os.environ[{VARIABLE!r}], 'a').write('worker-1: reboot\\n')"
    with echoing() as echo:
        planned(tmp_path, watched("worker-1", echo.address, echo.port, ("new connections",)))
        process = start(tmp_path, "--called=an upgrade", "--", sys.executable, "-c", code)
        _, err = process.communicate(timeout=LONG)

    assert process.returncode == 0, err
    events = [line for line in lines_of(tmp_path) if line["line"] == "event"]
    assert [(e["kind"], e["node"], e["name"] or e["said"]) for e in events] == [
        ("command-started", "", "an upgrade"),
        ("step", "worker-1", "reboot"),
        ("command-ended", "", "exit code 0"),
    ]
    assert not (tmp_path / FILE).exists()


def test_a_node_is_worked_on_until_the_command_says_the_next_thing():
    def event(at, kind, node=""):
        return EventLine(at=at, kind=kind, node=node)

    spans = worked_on(
        [
            *(event(10, "step", "worker-1"), event(20, "step", "worker-2"), event(30, "step")),
            *(event(50, "step", "worker-1"), event(60, "command-ended"), event(90, "step")),
        ]
    )

    assert [is_within(at, spans["worker-1"]) for at in (5, 15, 28, 55, 70)] == [
        *(False, True, False, True, False)
    ]
    assert [is_within(at, spans["worker-2"]) for at in (15, 25, 40)] == [False, True, False]
