"""Scenarios: bad wishes end before anything is made, and nothing is left, whatever happens."""

from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from e2e.check.budgets import read_budgets
from e2e.errors import CannotRunError, RefusedError
from e2e.provider import kind
from e2e.provider.lane import Lane
from e2e.provider.steps import Steps
from e2e.report.verdict import Changes, ChurnStep, Verdict
from e2e.selftest.programs import environment, only_path, python
from e2e.upgrade import scenario as scenarios
from e2e.upgrade.disturb import command
from e2e.upgrade.disturb.command import Wishes
from e2e.upgrade.plan import PLAN
from e2e.upgrade.scenario import Scenario
from e2e.upgrade.verify import Wishes as Judged


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    """The variables of a user whose machine has no engine."""
    return environment(tmp_path, only_path(tmp_path / "bin"))


@pytest.mark.parametrize(
    ("argv", "code", "says"),
    [
        (["scenario", "earthquake"], 4, "'earthquake' is not one of"),
        (["scenario", "upgrade", "--to=v1.30.0"], 4, "v1.29 is known here"),
        (["scenario", "upgrade", "--k8s=v1.37.2"], 4, "v1.37.2 is not above v1.37.2"),
        (["scenario", "upgrade", "--to=newest"], 4, "'newest' is no version"),
        (["scenario", "migrate-proxy", "--to=ipvs"], 4, "from iptables to ipvs"),
        (["scenario", "restart-api", "--drain"], 4, "--drain means nothing to restart-api"),
        (["scenario", "remove-dns", "--only=DP-99"], 4, "no clause is called DP-99"),
        (["scenario", "remove-dns", "--budgets=nowhere"], 4, "no budgets at nowhere"),
        (["scenario", "remove-dns"], 2, "no container engine works here"),
        (["disturb", "remove-dns"], 3, "no context was named"),
        (["disturb", "remove-dns", "--cluster-name=a"], 4, "no cluster called a was kept"),
    ],
)
def test_nothing_is_made_before_all_is_well(variables, argv, code, says):
    done = python("e2e.cli", *argv, env=variables)

    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(Path(variables["E2E_CACHE"]).glob("clusters/*/made.json"))


@pytest.mark.parametrize("name", ["scenario", "disturb"])
def test_help_names_every_disturbance(variables, name):
    done = python("e2e.cli", name, "--help", env=variables)

    assert done.returncode == 0
    assert "replace-node" in done.stdout
    assert "a node that leaves" in done.stdout


class FakeCluster:
    """A cluster of which only the kubeconfig is asked."""

    kubeconfig_path = Path("kubeconfig")

    def end_packets_to_documentation(self, family):
        pass


class FakeSite:
    """A cluster of ours."""

    is_ours = True


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """A scenario that only notes what would be done."""
    monkeypatch.setenv("E2E_CACHE", str(tmp_path / "cache"))
    stage = Stage(tmp_path / "out")
    monkeypatch.setattr(kind, "lease", stage.lease)
    monkeypatch.setattr(scenarios, "site_of", stage.site_of)
    monkeypatch.setattr(scenarios, "is_same", lambda *_: stage.same)
    monkeypatch.setattr(scenarios.preparing, "prepare", stage.prepare)
    monkeypatch.setattr(scenarios.preparing, "remove", lambda *_: stage.did.append("remove"))
    monkeypatch.setattr(scenarios, "run_to_its_end", stage.run)
    monkeypatch.setattr(scenarios.verifying, "verify", stage.verify)
    return stage


class Stage:
    """Where a scenario plays, and what was done there."""

    def __init__(self, folder):
        self.folder, self.did, self.same = folder, [], True
        self.ends, self.code, self.verdict = None, 0, ("held",)
        self.changed = None

    def scenario(self, name="remove-dns", wishes=None, **more):
        wishes = wishes or Wishes(folder=self.folder)
        judged = Judged(read_budgets())
        given = {"cluster": "x", "keep": True, "folder": self.folder, **more}
        tools = kind.Tools(None, Path("kind"), "node")
        return Scenario(
            name, wishes, Lane("v1.37.2"), tools, judged=judged, steps=Steps(quiet=True), **given
        )

    @contextmanager
    def lease(self, *_, name, keep, evidence, breaks):
        assert breaks, "another run may use it meanwhile"
        kind.Record("lane", "docker", "kind", keep=keep, complete=True).write(name)
        try:
            yield FakeCluster()
        finally:
            self.did.append("leave")
            self.changed = kind.Record.read(name).changed

    @contextmanager
    def site_of(self, where, steps):
        assert where["kube_context"] == "kind-x"
        yield FakeSite()

    def prepare(self, here, folder, steps, **_):
        self.did.append("prepare")
        folder.mkdir(exist_ok=True)
        (folder / PLAN).write_text("{}")

    def run(self, argv, say):
        self.did.append("disturb")
        self.argv = argv
        if self.ends:
            raise self.ends
        return self.code

    def verify(self, *_):
        self.did.append("verify")
        now = datetime.now(UTC)
        churn = tuple(ChurnStep(name="a change", ended=how) for how in self.verdict)
        what = {"run": "r", "cluster": "c", "made": now, "taken": now}
        return Verdict(**what, changes=Changes(before="a", after="b"), churn=churn)


def test_it_is_prepared_disturbed_under_the_watch_verified_and_removed(stage, capsys):
    assert stage.scenario().play() == 0

    assert stage.did == ["prepare", "disturb", "verify", "remove", "leave"]
    watch, disturb = stage.argv[: stage.argv.index("--")], stage.argv[stage.argv.index("--") :]
    assert "watch" in watch
    assert "--called=no CoreDNS for a while" in watch
    place = disturb.index("disturb")
    assert disturb[place : place + 2] == ["disturb", "remove-dns"]
    assert not (stage.folder / PLAN).exists()
    assert "The cluster serves node ports as it did before" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("code", "verdict", "ends"),
    [(0, ("held",), 0), (0, ("failed",), 1), (2, ("held",), 2), (2, ("failed",), 1)],
)
def test_the_exit_code_is_that_of_the_verdict(stage, code, verdict, ends, capsys):
    """What did not come to its end is no verdict, unless something is wrong all the same."""
    stage.code, stage.verdict = code, verdict

    assert stage.scenario().play() == ends
    assert ("did not come to its end" in capsys.readouterr().out) == bool(code)
    assert bool(stage.changed) == (ends == 1), "a cluster that is not as before is made anew"


@pytest.mark.parametrize("lasts", [True, False])
def test_a_cluster_is_of_no_lane_while_it_is_changed(stage, lasts):
    """A disturbance that fails, is killed, or lasts, leaves its note."""
    here = SimpleNamespace(name="x")
    kind.Record("lane", "docker", "kind", complete=True).write("x")
    changed = lambda: kind.Record.read("x").changed  # noqa: E731

    with command._noted(here, "another mode", lasts=lasts):
        assert changed() == "another mode"
    assert changed() == ("another mode" if lasts else "")

    def fail():
        with command._noted(here, "a restart", lasts=lasts):
            raise CannotRunError("it does not come back")

    with pytest.raises(CannotRunError):
        fail()
    assert changed() == "a restart"


@pytest.mark.parametrize("keep", [True, False])
def test_who_is_stopped_leaves_nothing(stage, keep):
    stage.ends = KeyboardInterrupt()

    with pytest.raises(KeyboardInterrupt):
        stage.scenario(keep=keep).play()

    assert stage.did == ["prepare", "disturb", *(["remove"] if keep else []), "leave"]
    assert not (stage.folder / PLAN).exists()


def test_what_cannot_be_removed_hides_no_reason(stage, monkeypatch):
    stage.ends = CannotRunError("the first reason")

    def fail(*_):
        raise CannotRunError("a second one")

    monkeypatch.setattr(scenarios.preparing, "remove", fail)

    with pytest.raises(CannotRunError, match="the first reason"):
        stage.scenario().play()


@pytest.mark.parametrize("same", [True, False])
def test_what_a_killed_run_had_prepared_goes_first(stage, monkeypatch, same):
    stage.same = same
    stage.folder.mkdir()
    (stage.folder / PLAN).write_text("{}")
    monkeypatch.setattr(scenarios, "load_plan", lambda _: None)

    stage.scenario().play()

    assert stage.did[: 2 if same else 1] == [*(["remove"] if same else []), "prepare"]


def test_a_cluster_that_was_found_is_left_alone(stage, monkeypatch):
    monkeypatch.setattr(FakeSite, "is_ours", False)

    with pytest.raises(RefusedError):
        stage.scenario().play()

    assert stage.did == ["leave"]
