"""`nodeport-e2e prepare`: what it keeps, and what is left of it where it cannot come to its end."""

from dataclasses import replace

import pytest

from e2e.check.fingerprint import Fingerprint
from e2e.check.table import NotSettledError
from e2e.check.wrong import Wrong
from e2e.cluster import namespace
from e2e.cluster.workload import SPECS, place
from e2e.errors import CannotRunError, StoppedError, UsageError
from e2e.probe import REFUSED, Flow, Outside, Target
from e2e.provider.steps import Steps
from e2e.selftest.clusters import HOME, NODES, FakeApi, FakePorts
from e2e.selftest.fingerprints import behaviour, content, fingerprint
from e2e.upgrade import prepare as preparing
from e2e.upgrade.plan import PLAN, Plan, load_complete, load_plan
from e2e.upgrade.prepare import BEFORE, RESULTS, prepare, remove
from e2e.upgrade.site import Site

RUN = HOME.removeprefix("nodeport-e2e-")
FLOW = Flow(Outside(), Target("worker", "10.0.0.2", 30080, None))


class Before:
    """A cluster before its upgrade, of which only an API server is there.

    Attributes:
        api: that.
        done: what was asked of it, in that order.
        wrong: what is raised instead of the contract's answers.
    """

    def __init__(self) -> None:
        self.api, self.done, self.wrong = FakeApi(), [], None
        self.site = Site(self.api, "kubeconfig", "any", None, is_ours=False, run=RUN)

    def ask(self, *_, only, families, **__):
        self.done.append("contract")
        self.asked = only, families
        if self.wrong:
            raise self.wrong
        return [behaviour("reach.all")]

    def take(self, _, namespace, seen):
        self.done.append("fingerprint")
        asked = None if seen is None else {each.clause: each.model_dump() for each in seen}
        return fingerprint(content() | {"behaviours": asked})

    def half_place(self, stop):
        namespace.make(self.api, HOME, RUN, kept=True)
        stop()

    def prepare(self, folder, **how):
        how = {"contract": True, "only": None, "processes": 0} | how
        return prepare(self.site, folder, Steps(quiet=True), **how)


@pytest.fixture
def before(monkeypatch):
    cluster = Before()
    monkeypatch.setattr(Site, "nodes", lambda _: NODES)
    monkeypatch.setattr(
        preparing, "_place", lambda here, name: place(here.api, name, RUN, NODES, FakePorts())
    )
    monkeypatch.setattr(preparing, "assert_serves", lambda *_: cluster.done.append("served"))
    monkeypatch.setattr(preparing.observe, "ask_contract", cluster.ask)
    monkeypatch.setattr(preparing.observe, "take", cluster.take)
    return cluster


def test_what_is_placed_is_served_before_it_is_watched(tmp_path, before):
    before.prepare(tmp_path / "new")

    assert before.done == ["served", "contract", "fingerprint"]
    assert before.asked == (None, "core,extended")
    plan = load_plan(tmp_path / "new")
    assert (plan.run, plan.cluster) == (RUN, "4b1d")
    assert {flow.service for flow in plan.flows} == set(SPECS)
    assert Fingerprint.load(tmp_path / "new" / BEFORE).behaviours.keys() == {"reach.all"}


def test_without_the_contract_nothing_is_known_of_clauses(tmp_path, before):
    before.prepare(tmp_path, contract=False)

    assert before.done == ["served", "fingerprint"]
    assert Fingerprint.load(tmp_path / BEFORE).behaviours is None


def test_what_an_earlier_upgrade_left_is_not_taken_for_that_of_this_one(tmp_path, before):
    for name in RESULTS:
        (tmp_path / name).write_text("of before")

    before.prepare(tmp_path)

    assert [name for name in RESULTS if (tmp_path / name).exists()] == [BEFORE]


def test_a_family_to_which_this_machine_has_no_way_is_planned_and_not_called(
    tmp_path, before, monkeypatch
):
    """Another machine may watch it; the contract would call nodes over it."""
    both = tuple(replace(n, addresses=n.addresses | {"IPv6": "fe80::1"}) for n in NODES)
    called = []
    monkeypatch.setattr(Site, "nodes", lambda _: both)
    monkeypatch.setattr(
        preparing, "_place", lambda here, name: place(here.api, name, RUN, both, FakePorts())
    )
    monkeypatch.setattr(preparing, "assert_serves", called.extend)

    before.prepare(tmp_path)

    assert before.done == ["fingerprint"]
    assert called
    assert {flow.target.family for flow in called} == {"IPv4"}
    assert {flow.family for flow in load_plan(tmp_path).flows} == {"IPv4", "IPv6"}


def test_without_a_way_to_any_node_nothing_is_placed(tmp_path, before, monkeypatch):
    nowhere = tuple(replace(node, addresses={"IPv6": "fe80::1"}) for node in NODES)
    monkeypatch.setattr(Site, "nodes", lambda _: nowhere)

    with pytest.raises(CannotRunError, match="this machine has no way to the nodes: IPv6"):
        before.prepare(tmp_path)

    assert before.api.find("Namespace", HOME)["code"] == 404


PHASES = ("placing", "calling", "asking the contract", "taking the fingerprint", "saving the plan")


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize(
    ("wrong", "raised", "says"),
    [
        (CannotRunError("no end"), CannotRunError, "no end"),
        (KeyboardInterrupt(), StoppedError, f"stopped by you; removed the namespace {HOME}"),
    ],
)
def test_who_is_stopped_leaves_nothing(tmp_path, before, monkeypatch, phase, wrong, raised, says):
    """Neither in the cluster nor in the folder, whenever that happens, and it is said."""
    saved = []

    def stop(*_, **__):
        raise wrong

    def stop_at_the_end(plan, folder):
        saved.append(plan)
        if plan.flows:
            raise wrong
        saves(plan, folder)

    saves = Plan.save
    match phase:
        case "placing":
            monkeypatch.setattr(preparing, "_place", lambda *_: before.half_place(stop))
        case "calling":
            monkeypatch.setattr(preparing, "assert_serves", stop)
        case "asking the contract":
            before.wrong = wrong
        case "taking the fingerprint":
            monkeypatch.setattr(preparing.observe, "take", stop)
        case _:
            monkeypatch.setattr(Plan, "save", stop_at_the_end)

    with pytest.raises(raised, match=says):
        before.prepare(tmp_path)

    assert before.api.find("Namespace", HOME)["code"] == 404
    assert list(tmp_path.iterdir()) == []
    assert phase != PHASES[-1] or len(saved) == 2


def test_what_cannot_be_removed_is_said_and_known(tmp_path, before, monkeypatch):
    """The plan stays, as it knows what there is to remove, and the reason is not hidden."""

    def away(*_, **__):
        raise CannotRunError("the API server is away")

    before.wrong = KeyboardInterrupt()
    monkeypatch.setattr(preparing.namespace, "remove", away)

    with pytest.raises(StoppedError, match=f"{HOME} stays.*server is away.*prepare --remove"):
        before.prepare(tmp_path)

    assert load_plan(tmp_path).namespace == HOME


def test_who_is_killed_leaves_a_plan_by_which_all_can_be_removed(tmp_path, before, monkeypatch):
    """Nothing of it can be watched or verified, and prepare says what to do first."""
    before.wrong = KeyboardInterrupt()
    # Nobody who is killed cleans up.
    monkeypatch.setattr(preparing, "_take_back", lambda *_: "")
    with pytest.raises(StoppedError):
        before.prepare(tmp_path)

    assert before.api.find("Namespace", HOME)["kind"] == "Namespace"
    for refuses in (lambda: before.prepare(tmp_path), lambda: load_complete(tmp_path)):
        with pytest.raises(UsageError, match="prepare --remove"):
            refuses()
    remove(before.site, tmp_path, Steps(quiet=True))
    assert before.api.find("Namespace", HOME)["code"] == 404
    before.wrong = None
    before.prepare(tmp_path)


def test_what_is_not_served_cannot_be_watched(tmp_path, before, monkeypatch):
    def assert_serves(_):
        raise NotSettledError("not settled\nx a flow", [Wrong(FLOW, REFUSED)])

    monkeypatch.setattr(preparing, "assert_serves", assert_serves)

    with pytest.raises(CannotRunError, match="is not served, so there is nothing to watch"):
        before.prepare(tmp_path)

    assert before.api.find("Namespace", HOME)["code"] == 404


def test_a_folder_with_a_plan_is_all_that_knows_of_it(tmp_path, before):
    before.prepare(tmp_path)
    with pytest.raises(UsageError, match="has a plan already: what it says was placed"):
        before.prepare(tmp_path)
    remove(before.site, tmp_path, Steps(quiet=True))

    assert before.api.find("Namespace", HOME)["code"] == 404
    assert not (tmp_path / PLAN).exists()
    assert (tmp_path / BEFORE).exists()
