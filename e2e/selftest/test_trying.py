"""The way of a fault through its run, with no cluster: what is kept, told, and left untried."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from click import Abort
from rich.console import Console

from e2e.errors import CannotRunError, RefusedError, UsageError
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


@pytest.fixture
def earlier(tmp_path):
    """What an earlier run found."""
    files = [tmp_path / MATRIX, tmp_path / PAGE]
    for file in files:
        file.write_text("of an earlier run")
    return lambda: [file for file in files if file.exists()]


@pytest.mark.parametrize(
    ("code", "error", "left"),
    [(2, CannotRunError, 0), (3, RefusedError, 2), (4, UsageError, 2)],
)
def test_a_run_that_tried_nothing_names_no_file_of_an_earlier_one(
    on_two, capsys, earlier, code, error, left
):
    """On several clusters; if it was refused on them it has removed none either."""
    with pytest.raises(error, match=r"no fault was tried\n.* see above what each cluster said"):
        on_two(code)

    assert capsys.readouterr().out == ""
    assert len(earlier()) == left


def test_whoever_stops_two_clusters_early_finds_nothing_of_an_earlier_run(on_two, earlier):
    with pytest.raises(Abort):
        on_two(KeyboardInterrupt())

    assert earlier() == []


@pytest.mark.parametrize(
    ("error", "left"),
    [(CannotRunError("no engine"), 0), (KeyboardInterrupt(), 0), (RefusedError("not ours"), 2)],
)
def test_a_cluster_that_is_not_to_be_had_leaves_nothing_of_an_earlier_run(
    tmp_path, monkeypatch, earlier, error, left
):
    """One that is not ours does."""

    def no_engine(_):
        raise error

    monkeypatch.setattr(command, "ensure_engine", no_engine)

    with pytest.raises((type(error), Abort)):
        faults.main([f"--fault={NAMES[0]}", f"--out={tmp_path}"], standalone_mode=False)

    assert len(earlier()) == left


def test_nothing_of_an_earlier_run_is_left_once_there_is_a_cluster(tmp_path, monkeypatch, earlier):
    """Whatever becomes of the baseline."""
    trials = FakeTrials(tmp_path)
    seen = []

    def ask(*_):
        seen.append(earlier())
        raise CannotRunError("a clause came to no end")

    trials.asking.ask = ask
    monkeypatch.setattr(command, "_trials", lambda *_: nullcontext(trials))

    with pytest.raises(CannotRunError, match="a clause came to no end"):
        faults.main([f"--fault={NAMES[0]}", f"--out={tmp_path}"], standalone_mode=False)

    assert seen == [[]]
