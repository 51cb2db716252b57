"""`nodeport-e2e verify`: in which order it does things, what it writes, and what it finds."""

from contextlib import contextmanager

import pytest

from e2e.check.budgets import read_budgets
from e2e.errors import CannotRunError, RefusedError, StoppedError, UsageError
from e2e.provider.steps import Steps
from e2e.report.clauses import choose, read_clauses
from e2e.report.verdict import ChurnStep
from e2e.selftest.clusters import HOME, RUN, FakeApi
from e2e.selftest.fingerprints import behaviour, content, fingerprint
from e2e.upgrade import commands
from e2e.upgrade import verify as verifying
from e2e.upgrade.observe import FAMILIES
from e2e.upgrade.plan import Plan, WatchedFlow
from e2e.upgrade.prepare import AFTER, BEFORE, VERIFIED
from e2e.upgrade.record import RECORD
from e2e.upgrade.site import Site
from e2e.upgrade.verify import Wishes, verify

CLAUSES = ("reach.pods-on-one-node", "objects.rehearsed")
HELD = ChurnStep(name="a rollout", ended="held")
STALE = ChurnStep(name="a rollout", ended="failed", said="not settled\nx worker: refused")


def said(version="v1.37.2"):
    """What a fingerprint says in which the contract held."""
    seen = {name: {"clause": name, "ended": "held"} for name in CLAUSES}
    return content(version) | {"behaviours": seen}


@pytest.fixture
def folder(tmp_path):
    """What prepare wrote."""
    plan = {"run": RUN, "made": "2026-11-28T01:30:00Z", "cluster": "4b1d", "namespace": HOME}
    Plan.model_validate(plan | {"flows": [flow("IPv4", "127.0.0.1")]}).save(tmp_path)
    fingerprint(said("v1.36.3")).save(tmp_path / BEFORE)
    return tmp_path


NOWHERE = "fe80::1"
"""An address to which no machine has a way: nobody says over which of its networks."""


def flow(family, address, way="new connections"):
    return WatchedFlow(
        service="cluster", node="worker", family=family, address=address, port=30080, way=way,
        pods="echo-a-",
    )  # fmt: skip


class After:
    """A cluster after its upgrade, of which nothing is there.

    Attributes:
        found: what its fingerprint says.
        undergone: what came of the churn.
        ends: how clauses end that do not hold.
        done: what was done to it, in that order.
        only: the clauses that were asked, if not those of the default.
    """

    def __init__(self) -> None:
        self.found, self.undergone, self.ends, self.done = said(), [HELD], {}, []
        self.only = ""

    def take(self, *_):
        self.done.append("fingerprint")
        return fingerprint(self.found | {"behaviours": None})

    def churn(self, *_, leave_out, **__):
        self.done.append("churn")
        self.left_out = leave_out
        return self.undergone

    def ask(self, *_, only, **__):
        self.done.append("contract")
        self.only = only
        names = [name for name in CLAUSES if only is None or name in only]
        return [behaviour(name, self.ends.get(name, "held")) for name in names]

    def verify(self, folder, **wishes):
        site = Site(FakeApi(), folder / "kubeconfig", "any", None, is_ours=False, run=RUN)
        return verify(site, folder, Steps(quiet=True), Wishes(read_budgets(), **wishes))


@pytest.fixture
def after(monkeypatch):
    cluster = After()
    monkeypatch.setattr(verifying.observe, "take", cluster.take)
    monkeypatch.setattr(verifying, "churn", cluster.churn)
    monkeypatch.setattr(verifying.observe, "ask_contract", cluster.ask)
    return cluster


def test_the_churn_comes_after_the_fingerprint_and_before_the_contract(folder, after):
    """It writes to what is compared, and some clauses fail only where something was changed."""
    verdict = after.verify(folder)

    assert after.done == ["fingerprint", "churn", "contract"]
    assert (verdict.exit_code, verdict.changes.asked, verdict.contract) == (0, 2, True)
    assert all((folder / name).exists() for name in VERIFIED)
    assert "serves node ports as it did before" in (folder / "summary.md").read_text()


def lose_a_number(cluster):
    cluster.found["services"]["shop/shop"]["spec"]["ports"][0]["nodePort"] = 31999


def flip_a_default(cluster):
    cluster.found["defaults"]["NodePort"]["sessionAffinity"] = "ClientIP"


def lose_a_service(cluster):
    del cluster.found["prepared"]["cluster"]


def go_stale(cluster):
    cluster.undergone = [HELD, STALE]


def stop_holding(cluster):
    cluster.ends = {"reach.pods-on-one-node": "failed"}


@pytest.mark.parametrize(
    ("breaks", "named"),
    [
        (lose_a_number, "Service shop/shop, node port of 80/TCP: 31000, and now 31999"),
        (flip_a_default, "default of a new Service (NodePort), sessionAffinity: None, and now C"),
        (lose_a_service, f"Service {HOME}/cluster: was there, and now is gone"),
        (go_stale, "a rollout: worker: refused"),
        (stop_holding, "reach.pods-on-one-node held, and now it does not"),
    ],
)
def test_what_an_upgrade_broke_is_found_and_named(folder, after, breaks, named):
    breaks(after)

    assert after.verify(folder).exit_code == 1
    assert named in (folder / "report.html").read_text()


def test_clauses_that_somebody_chose_not_to_ask_again_are_not_missing(folder, after):
    verdict = after.verify(folder, only="reach")

    assert (verdict.exit_code, verdict.changes.asked) == (0, 0)
    verdict = after.verify(folder, only="reach.pods-on-one-node")

    assert (verdict.exit_code, verdict.changes.asked, verdict.contract) == (0, 1, True)


@pytest.mark.parametrize("family", ["slow", "disruptive"])
def test_the_clauses_of_before_are_asked_again(folder, after, family):
    """Also those of families that nobody asks by default, and not those that are no more."""
    more = next(clause.id for clause in read_clauses() if family in clause.families)
    default = [clause.id for clause in choose(None, FAMILIES, ours=False)]
    for names, only in (
        (default, None),
        ([*default, more], ",".join(sorted([*default, more]))),
        ([more, "reach.no-more"], more),
    ):
        seen = {name: {"clause": name, "ended": "held"} for name in names}
        fingerprint(said() | {"behaviours": seen}).save(folder / BEFORE)
        after.verify(folder)

        assert after.only == only


def test_what_was_not_looked_at_is_not_said_to_be_well(folder, after):
    after.verify(folder, contract=False, churn=False)

    assert after.done == ["fingerprint"]
    text = (folder / "summary.md").read_text()
    assert "no node port was asked now" in text
    assert "serves node ports as it did" not in text


def test_a_family_to_which_this_machine_has_no_way_is_left_out_and_said(folder, after):
    """Nobody calls it broken who cannot call it, and nobody says that it is well."""
    flows = flow("IPv4", "127.0.0.1"), flow("IPv6", NOWHERE)
    Plan.load(folder).model_copy(update={"flows": flows}).save(folder)

    verdict = after.verify(folder)

    assert (after.done, [*after.left_out]) == (["fingerprint", "churn"], ["IPv6"])
    assert (verdict.exit_code, [*verdict.unreached]) == (0, ["IPv6"])
    text = (folder / "summary.md").read_text()
    assert "as it did before as far as this machine has a way to it." in text
    assert "IPv6 is not known, and no behaviour of the contract" in (
        (folder / "report.html").read_text()
    )


def test_without_a_way_to_any_node_nothing_is_asked_of_it(folder, after):
    plan = Plan.load(folder).model_copy(update={"flows": (flow("IPv6", NOWHERE),)})
    plan.save(folder)

    with pytest.raises(CannotRunError, match="no way to the nodes: IPv6") as caught:
        after.verify(folder)

    assert "--no-churn --no-contract" in str(caught.value)
    assert after.done == []
    after.verify(folder, churn=False, contract=False)
    assert after.done == ["fingerprint"]


@pytest.mark.parametrize("wrong", [None, CannotRunError("a Deployment is gone")])
def test_what_a_killed_verify_left_is_put_back_before_anything_is_compared(
    folder, after, monkeypatch, wrong
):
    def recover(_, namespace, prepared):
        after.done.append(f"recover {namespace} {sorted(prepared)}")
        if wrong:
            raise wrong

    monkeypatch.setattr(verifying.workloads, "is_churned", lambda *_: True)
    monkeypatch.setattr(verifying.workloads, "recover", recover)

    after.verify(folder)

    first, *others = after.done
    assert first == f"recover {HOME} {sorted(said()['prepared'])}"
    assert others == ["fingerprint", "churn", "contract"]


def test_another_cluster_is_refused_and_nothing_is_lost(folder, after):
    (folder / AFTER).write_text("of before")
    plan = Plan.load(folder)
    plan.model_copy(update={"cluster": "another"}).save(folder)
    fingerprint(said() | {"cluster": "another"}).save(folder / BEFORE)

    with pytest.raises(RefusedError, match="is another cluster"):
        after.verify(folder)

    assert (folder / AFTER).read_text() == "of before"
    assert after.done == []


def test_a_record_that_means_nothing_is_told_before_anything_is_changed(folder, after):
    (folder / RECORD).write_text("{}\n")

    with pytest.raises(UsageError, match="line 1"):
        after.verify(folder)

    assert after.done == []


def test_who_stops_it_is_told_what_is_still_there(folder, monkeypatch):
    """Ctrl-C leaves what was prepared, for another try or for its removal."""

    @contextmanager
    def site_of(*_):
        yield None

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "site_of", site_of)
    monkeypatch.setattr(commands.verifying, "verify", stop)

    with pytest.raises(StoppedError, match="stopped by you; what was prepared is still there"):
        commands.verify.main([f"--folder={folder}"], standalone_mode=False)
