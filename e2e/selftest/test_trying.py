"""The way of a fault through its run, with no cluster: what is kept, told, and left untried."""

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
from click import Abort
from rich.console import Console

from e2e.cluster.node import Node
from e2e.errors import CannotRunError, InUseError, RefusedError, UsageError
from e2e.faults import command, making, trying
from e2e.faults.command import Kept, _try_all, faults
from e2e.faults.trying import BREAKS, NotWellError
from e2e.provider.clusters import CLUSTERS
from e2e.provider.command import CommandFailedError
from e2e.provider.lane import Lane
from e2e.provider.node_image import DEFAULT
from e2e.provider.steps import Steps
from e2e.report.faults import Fault, Way, choose_faults
from e2e.report.faults_page import PAGE
from e2e.report.matrix import MATRIX, Matrix, Trial
from e2e.report.outputs import alone
from e2e.report.result import ClauseResult
from e2e.selftest.test_faults import FakeEcho
from e2e.wait import WaitedInVainError

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
        end.trial = trial(fault.name, "error")
        raise end


@pytest.mark.parametrize(
    ("end", "tried"),
    [(KeyboardInterrupt(), NAMES[:1]), (NotWellError("node-2 is not Ready", "x"), NAMES[:2])],
)
def test_faults_after_the_end_of_a_run_are_named_as_untried(tmp_path, end, tried):
    """Whether somebody stopped it, or a repair did not help."""
    with pytest.raises(type(end)):
        _try_all(FakeTrials(tmp_path, "detected", end), SOME, Kept(tmp_path), steps())

    kept = Matrix.load(tmp_path / MATRIX)
    assert [each.fault for each in kept.trials] == tried
    assert [*tried, *kept.untried] == NAMES
    assert kept.exit_code == 2


@pytest.fixture
def on_one(tmp_path, monkeypatch):
    """The command on one cluster, where faults end so."""

    def run(*ends, names=NAMES):
        trials = FakeTrials(tmp_path, *ends)
        monkeypatch.setattr(command, "_trials", lambda *_: nullcontext(trials))
        argv = [f"--fault={','.join(names)}", "--clusters=1", f"--out={tmp_path}"]
        return faults.main(argv, standalone_mode=False)

    return run


@pytest.mark.parametrize("end", [KeyboardInterrupt(), NotWellError("node-2 is not Ready", "x")])
def test_faults_after_the_end_of_a_run_are_named_on_the_screen(on_one, tmp_path, capsys, end):
    with pytest.raises((Abort, NotWellError)):
        on_one("detected", end)

    kept = Matrix.load(tmp_path / MATRIX)
    said = capsys.readouterr().out
    assert f"not tried; 0 minutes\nnot tried: {', '.join(kept.untried)}\n" in said
    assert said.endswith(f"{tmp_path / MATRIX}\n{tmp_path / PAGE}\n")


def test_of_many_faults_that_were_not_tried_ten_are_named(on_one, capsys):
    names = [fault.name for fault in choose_faults(None, None, LANE)][:14]

    with pytest.raises(Abort):
        on_one("detected", KeyboardInterrupt(), names=names)

    assert f"\nnot tried: {', '.join(names[1:11])} and 3 more\n" in capsys.readouterr().out


def test_a_run_that_is_stopped_during_its_first_fault_names_nothing(on_one, tmp_path, capsys):
    """Nothing is known then."""
    with pytest.raises(Abort):
        on_one(KeyboardInterrupt())

    assert "not tried" not in capsys.readouterr().out
    assert not (tmp_path / MATRIX).exists()


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
    assert f"; 1 not tried; 0 minutes\nnot tried: {NAMES[1]}\n" in said
    assert "2 faults that were tried; 1 was not" in (tmp_path / PAGE).read_text()


def test_what_two_clusters_had_tried_until_they_were_stopped_is_told(on_two, capsys):
    with pytest.raises(Abort):
        on_two(KeyboardInterrupt(), [trial(NAMES[2])])

    assert f"not tried: {NAMES[0]}, {NAMES[1]}\n" in capsys.readouterr().out


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
    [(CannotRunError("no engine"), 0), (KeyboardInterrupt(), 0), (RefusedError("not ours"), 2),
     (InUseError("in use by another run"), 2)],
)  # fmt: skip
def test_a_cluster_that_is_not_to_be_had_leaves_nothing_of_an_earlier_run(
    tmp_path, monkeypatch, earlier, error, left
):
    """One that is not ours does, and one that another run has."""

    def no_engine(_):
        raise error

    monkeypatch.setattr(command, "ensure_engine", no_engine)

    with pytest.raises((type(error), Abort)):
        faults.main([f"--fault={NAMES[0]}", f"--out={tmp_path}"], standalone_mode=False)

    assert len(earlier()) == left


@pytest.mark.parametrize("clusters", [1, 2])
def test_what_another_run_writes_is_left_alone(tmp_path, monkeypatch, earlier, clusters):
    """Also what it lets several clusters write."""
    for name in ("ensure_engine", "try_on_clusters"):
        monkeypatch.setattr(command, name, lambda *_: pytest.fail("it went on"))
    theirs = tmp_path / CLUSTERS / "mine" / MATRIX
    theirs.parent.mkdir(parents=True)
    theirs.touch()
    argv = [f"--fault={','.join(NAMES)}", f"--clusters={clusters}", f"--out={tmp_path}"]

    with alone(tmp_path), pytest.raises(InUseError, match=f"another run writes .* {tmp_path}"):
        faults.main(argv, standalone_mode=False)

    assert len(earlier()) == 2
    assert theirs.exists()


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


BROKEN = Fault(
    name="broken", does="It breaks.", emulates="no known bug", clauses=("a.one",), why="lacks",
    spares=("s.one",), both=Way(inject="break it", repair="mend it", in_force="see it"),
)  # fmt: skip
# From the note that the cluster is changed to the note that it is not any more.
WAY = [
    *("it is changed by the fault broken", "break it", "see it", "asked", "see it"),
    *("mend it", "waited until well", "see it", "a new Service serves", "it is not changed"),
]


class FakeEngine:
    """Nodes that are broken until that is mended; notes what happens."""

    def __init__(self):
        self.happened, self.is_broken, self.mends = [], False, True

    def run(self, *argv, **_):
        line = argv[-1].splitlines()[-1]
        self.happened.append(line)
        if line == "break it":
            self.is_broken = True
        if line == "mend it":
            self.is_broken = not self.mends
        if line == "see it" and not self.is_broken:
            raise CommandFailedError(argv, 1, "it is not there")
        return ""


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Where faults are tried: its trials, what happens, and what a person is told."""
    engine, said = FakeEngine(), []
    happened = engine.happened

    def ask(clauses, out, **_):
        happened.append("asked")
        (out / "a.one").mkdir(parents=True)
        red = "held" if out.name == trying.BASELINE else "failed"
        ends = {each: red if each == "a.one" else "held" for each in clauses}
        said = "kind-worker2 lacks it"
        return {name: ClauseResult(clause=name, ended=ends[name], said=said) for name in clauses}

    def note_change(name, what):
        happened.append("it is not changed" if what == BREAKS else f"it is changed by {what}")

    monkeypatch.setattr(making.timing, "FAULT_IN_FORCE_WITHIN", 0.0)
    monkeypatch.setattr(making, "placed_before", lambda *_: FakeEcho())
    monkeypatch.setattr(trying, "await_shared", lambda *_: None)
    monkeypatch.setattr(trying.kind, "note_change", note_change)
    monkeypatch.setattr(
        trying.Trials, "_demand_service", lambda _: happened.append("a new Service serves")
    )
    nodes = (
        Node("kind-control-plane", {"IPv4": "10.0.0.1"}, is_control_plane=True),
        Node("kind-worker2", {"IPv4": "10.0.0.3"}, is_control_plane=False),
    )
    trials = trying.Trials(
        here=making.Here(None, nodes, making.Undo(engine, tmp_path), tmp_path),
        cluster=SimpleNamespace(
            name="mine", wait_until_well=lambda *_: happened.append("waited until well")
        ),
        asking=SimpleNamespace(lane=LANE, ask=ask),
        shared=tmp_path, out=tmp_path, known=frozenset(), trusting=False, quick=False,
        specs=None, say=said.append,
    )  # fmt: skip
    return SimpleNamespace(engine=engine, trials=trials, happened=happened, said=said)


HEALTHY = {each: ClauseResult(clause=each, ended="held") for each in ("a.one", "s.one")}


def test_a_cluster_is_changed_from_before_the_fault_until_it_is_well(cluster, tmp_path):
    """Whoever is killed meanwhile leaves one that nobody takes for a good one."""
    tried = cluster.trials.try_out(BROKEN, HEALTHY)

    assert cluster.happened == WAY
    assert (tried.ended, tried.node) == ("detected", "kind-worker2")
    assert tried.named
    assert tried.explained
    assert not (tmp_path / "faults" / "broken").exists(), "nobody has to look at it"


def with_specs(cluster, run):
    return replace(cluster.trials, specs=SimpleNamespace(run=run))


def test_specs_are_asked_while_the_fault_is_in_force(cluster):
    """Which is looked at once more after them."""

    def run(_, names):
        cluster.happened.append("specs asked")
        return dict.fromkeys(names, "failed")

    tried = with_specs(cluster, run).try_out(BROKEN, HEALTHY, ["a spec"])

    middle = WAY.index("mend it")
    assert cluster.happened == [*WAY[:middle], "specs asked", "see it", *WAY[middle:]]
    assert (tried.ended, tried.specs) == ("detected", {"a spec": "failed"})
    assert cluster.said == []


@pytest.mark.parametrize("error", [CannotRunError("no spec matched"), None])
def test_trouble_with_specs_is_none_of_the_clauses(cluster, tmp_path, error):
    """Their verdict stands, and a person is told why there is none of the specs."""

    def run(_, names):
        if error:
            raise error
        cluster.engine.is_broken = False
        return dict.fromkeys(names, "passed")

    tried = with_specs(cluster, run).try_out(BROKEN, HEALTHY, ["a spec"])

    assert (tried.ended, tried.said, tried.specs) == ("detected", "", {})
    why = error or "it was no longer in force on kind-worker2 in the end"
    assert cluster.said == [f"broken: nothing is known of the specs: {why}"]
    assert (tmp_path / "faults" / "broken").exists(), "somebody may look at it"
    assert cluster.happened[-1] == "it is not changed"


@pytest.mark.parametrize("trouble", ["mended in vain", "not well", "a new Service is not served"])
def test_a_cluster_that_is_not_well_afterwards_stays_a_changed_one(cluster, monkeypatch, trouble):
    """What the clauses said is kept beside what went wrong, and is no verdict any more."""

    def in_vain(*_):
        raise WaitedInVainError("node-2 is not Ready")

    if trouble == "mended in vain":
        cluster.engine.mends = False
    elif trouble == "not well":
        cluster.trials.cluster.wait_until_well = in_vain
    else:
        monkeypatch.setattr(trying.Trials, "_demand_service", in_vain)

    with pytest.raises(NotWellError, match="not well after the repair of broken") as caught:
        cluster.trials.try_out(BROKEN, HEALTHY)

    assert cluster.happened[0] == "it is changed by the fault broken"
    assert "it is not changed" not in cluster.happened
    kept = caught.value.trial
    assert (kept.ended, kept.noticed) == ("error", {"a.one": "failed"})
    assert kept.said == f"it was not repaired: {caught.value.what}"
    assert kept.proved == []


def test_a_run_keeps_what_was_found_when_a_repair_failed_and_stops(cluster, tmp_path):
    """The next fault is not tried on a cluster that is not well."""
    cluster.engine.mends = False
    other = BROKEN.model_copy(update={"name": "other"})

    with pytest.raises(NotWellError):
        _try_all(cluster.trials, [BROKEN, other], Kept(tmp_path), steps())

    kept = Matrix.load(tmp_path / MATRIX)
    assert [(each.fault, each.ended, dict(each.noticed)) for each in kept.trials] == [
        ("broken", "error", {"a.one": "failed"})
    ]
    assert kept.untried == ("other",)
    assert cluster.happened.count("break it") == 1
    assert "it was not repaired: the cluster is not well" in (tmp_path / PAGE).read_text()


def test_what_is_no_error_of_the_repair_is_one_of_this_fault_alone(cluster):
    """A clause that came to no end says nothing of it, and the next fault is tried."""

    def ask(*_, **__):
        raise CannotRunError("a.one came to no end")

    tried = replace(cluster.trials, asking=SimpleNamespace(lane=LANE, ask=ask)).try_out(
        BROKEN, HEALTHY
    )

    assert (tried.ended, tried.said) == ("error", "no result: a.one came to no end")
    assert cluster.happened[-1] == "it is not changed"
