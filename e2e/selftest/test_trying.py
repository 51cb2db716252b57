"""The way of a fault through its run, with no cluster: what is kept, told, and left untried."""

from types import SimpleNamespace

import pytest
from rich.console import Console

from e2e.faults import command
from e2e.faults.command import _try_all, faults
from e2e.faults.spread import CLUSTERS
from e2e.faults.trying import NotWellError
from e2e.provider.lane import Lane
from e2e.provider.node_image import DEFAULT
from e2e.provider.steps import Steps
from e2e.report.faults import choose_faults
from e2e.report.faults_page import PAGE
from e2e.report.matrix import MATRIX, Matrix, Trial

LANE = Lane(DEFAULT)
SOME = choose_faults(None, None, LANE)[:3]
NAMES = [fault.name for fault in SOME]


def steps():
    return Steps(Console(quiet=True))


def trial(name, ended="detected"):
    return Trial(fault=name, lane=str(LANE), ended=ended)


class FakeTrials:
    """Tries faults by saying what became of each, or raising it."""

    specs = None

    def __init__(self, out, *ends):
        self.out = out
        self.asking = SimpleNamespace(lane=LANE, ask=lambda *_: {})
        self.ends = list(ends)

    def baseline_of(self, fault):
        return list(fault.clauses)

    def try_out(self, fault, *_):
        end = self.ends.pop(0)
        if isinstance(end, str):
            return trial(fault.name, end)
        raise end


@pytest.mark.parametrize(
    ("end", "tried"),
    [(KeyboardInterrupt(), NAMES[:1]), (NotWellError("node-2 is not Ready", "x"), NAMES[:2])],
)
def test_faults_after_the_end_of_a_run_are_named_as_untried(tmp_path, end, tried):
    """Whether somebody stopped it, or a repair did not help."""
    with pytest.raises(type(end)):
        _try_all(FakeTrials(tmp_path, "detected", end), SOME, steps())

    kept = Matrix.load(tmp_path / MATRIX)
    assert [each.fault for each in kept.trials] == tried
    assert [*tried, *kept.untried] == NAMES
    assert kept.exit_code == 2


@pytest.fixture
def on_two(tmp_path, monkeypatch):
    """The command on two clusters, of which each brings these trials, if any; gives its code."""

    def run(code, *brought):
        def try_on_clusters(asked, parts, out, steps):
            for number, trials in enumerate(brought):
                matrix = Matrix(began="2026-01-01T00:00:00Z", seconds=1.0, trials=trials)
                matrix.save(out / CLUSTERS / str(number))
            if isinstance(code, BaseException):
                raise code
            return code

        monkeypatch.setattr(command, "try_on_clusters", try_on_clusters)
        argv = [f"--fault={','.join(NAMES)}", "--clusters=2", f"--out={tmp_path}"]
        return faults.main(argv, standalone_mode=False)

    return run


def test_what_a_cluster_did_not_try_is_told(tmp_path, on_two, capsys):
    """On the screen, on the page, and by the exit code, also if that cluster says nothing."""
    assert on_two(0, [trial(NAMES[2])], [trial(NAMES[0])]) == 2

    assert Matrix.load(tmp_path / MATRIX).untried == (NAMES[1],)
    assert "2 faults, 2 detected; " in (said := capsys.readouterr().out)
    assert "; 1 not tried; 0 minutes\n" in said
    assert "2 faults that were tried; 1 was not" in (tmp_path / PAGE).read_text()


def test_nothing_is_untried_where_all_was_tried(on_two, capsys):
    assert on_two(0, [trial(NAMES[2])], [trial(NAMES[0]), trial(NAMES[1])]) == 0

    assert "not tried" not in capsys.readouterr().out
