"""What an upgrade may break, one thing at a time: each is found by verify, and named."""

import xml.etree.ElementTree as ET
from dataclasses import dataclass, field

import pytest

from e2e.check.budgets import read_budgets
from e2e.check.table import NotSettledError
from e2e.check.wrong import Wrong
from e2e.cluster.workload import place
from e2e.probe import CUT_OFF, FOREIGN, NO_ROUTE, REFUSED, SILENT, Flow, Outside, Target
from e2e.provider.steps import Steps
from e2e.report.verdict import ChurnStep
from e2e.selftest.clusters import HOME, NODES, RUN, FakeApi, FakePorts
from e2e.selftest.echoes import WAYS
from e2e.selftest.fingerprints import behaviour, content, facts, fingerprint, service
from e2e.selftest.told import Told
from e2e.upgrade import churn as churning
from e2e.upgrade import verify as verifying
from e2e.upgrade.churn import Churn
from e2e.upgrade.plan import Plan
from e2e.upgrade.prepare import BEFORE
from e2e.upgrade.site import Site
from e2e.upgrade.verify import Wishes, verify

NEW, KEPT, UDP, DATAGRAMS = WAYS
CLAUSES = "reach.pods-on-one-node", "objects.rehearsed"


def said(version="v1.37.2"):
    """What the cluster says of itself, and of clauses, where nothing is broken."""
    local = service("local", 30081)
    local["spec"] |= {"externalTrafficPolicy": "Local", "healthCheckNodePort": 30082}
    found = content(version)
    found["prepared"]["local"] = local
    found["services"][f"{HOME}/local"] = facts(local)
    return found | {"behaviours": {name: {"clause": name, "ended": "held"} for name in CLAUSES}}


@dataclass
class Upgraded:
    """A cluster after an upgrade.

    Attributes:
        found: what it says of itself.
        ends: how clauses end that do not hold, and why.
        told: what a watch recorded meanwhile.
        undergone: what came of the churn.
    """

    found: dict = field(default_factory=said)
    ends: dict[str, tuple[str, str]] = field(default_factory=dict)
    told: Told = field(default_factory=lambda: Told(["worker-1", "worker-2"], 100.0))
    undergone: list[ChurnStep] = field(
        default_factory=lambda: [ChurnStep(name="everything as it was found", ended="held")]
    )

    def prepared(self, name):
        """A prepared Service, as it is found alone and among all."""
        stored = self.found["prepared"][name]
        self.found["services"][f"{HOME}/{name}"]["spec"] = stored["spec"]
        return stored["spec"]

    def lose(self, way, outcome, **more):
        """Lose a second of a flow on which nobody worked."""
        (flow,) = self.told.numbers("worker-1", way)
        self.told.outage(flow, 40.0, 1.0, outcome, **more)


@pytest.fixture
def upgraded():
    return Upgraded()


@pytest.fixture
def verified(tmp_path, monkeypatch, upgraded):
    """Verify it; gives the verdict, and the page, the text and the failed cases."""

    def run():
        stretch = upgraded.told.lines[0]
        upgraded.told.lines[0] = stretch.model_copy(update={"namespace": HOME, "run": RUN})
        upgraded.told.save(tmp_path)
        plan = {"run": RUN, "made": "2026-11-28T01:30:00Z", "cluster": "4b1d", "namespace": HOME}
        Plan.model_validate(plan | {"flows": stretch.flows}).save(tmp_path)
        fingerprint(said("v1.36.3")).save(tmp_path / BEFORE)
        bare = fingerprint(upgraded.found | {"behaviours": None})
        ends = {name: upgraded.ends.get(name, ("held", "")) for name in CLAUSES}
        seen = [behaviour(name, how, said=why) for name, (how, why) in ends.items()]
        monkeypatch.setattr(verifying.observe, "take", lambda *_: bare)
        monkeypatch.setattr(verifying, "churn", lambda *_, **__: upgraded.undergone)
        monkeypatch.setattr(verifying.observe, "ask_contract", lambda *_, **__: seen)
        site = Site(FakeApi(), tmp_path / "kubeconfig", "any", None, is_ours=False, run=RUN)
        verdict = verify(site, tmp_path, Steps(quiet=True), Wishes(read_budgets()))
        cases = ET.parse(tmp_path / "verdict-junit.xml").getroot().iter("testcase")  # noqa: S314
        failed = [case.get("name") for case in cases if case.find("failure") is not None]
        text = (tmp_path / "summary.md").read_text()
        return verdict, (tmp_path / "report.html").read_text(), text, failed

    return run


def test_an_upgrade_that_broke_nothing_is_well(verified):
    """Versions are others, and nothing else: or every test below would pass for any reason."""
    verdict, _, text, failed = verified()

    assert (verdict.exit_code, failed) == (0, [])
    assert text.startswith("```text\nThe cluster serves node ports as it did before, every budget")
    assert "did users notice: No: not one of 16,000 attempts" in text


def change_a_node_port(it):
    it.prepared("cluster")["ports"][0]["nodePort"] = 31999


def change_a_cluster_ip(it):
    it.prepared("cluster")["clusterIPs"] = ["10.96.0.77"]


def lose_a_health_check_port(it):
    del it.prepared("local")["healthCheckNodePort"]


def change_somebody_s_node_port(it):
    it.found["services"]["shop/shop"]["spec"]["ports"][0]["nodePort"] = 31999


def lose_a_service(it):
    del it.found["prepared"]["local"]
    del it.found["services"][f"{HOME}/local"]


def change_a_policy(it):
    it.prepared("local")["externalTrafficPolicy"] = "Cluster"


def flip_a_default(it):
    it.found["defaults"]["NodePort"]["sessionAffinity"] = "ClientIP"


def shrink_the_range(it):
    it.found["flags"]["service-node-port-range"] = {"control-plane": "30000-31000"}


def move_a_node(it):
    it.found["nodes"]["worker"]["addresses"] = ["Hostname worker", "InternalIP 172.18.0.9"]


def lose_a_node_s_health(it):
    it.found["nodes"]["worker"]["conditions"]["Ready"] = "False"


def change_a_behaviour(it):
    it.ends[CLAUSES[1]] = "failed", "not settled\nx outside -> worker:30081: saw 172.18.0.1"


def lose_a_behaviour_s_needs(it):
    it.ends[CLAUSES[1]] = "skipped", "needs two-workers: this cluster has 1 worker"


def keep_stale_rules(it):
    """What serves still, and shows only when something changes: the churn of a real workload."""
    calls = []

    def assert_serves(table, **_):
        calls.append(table)
        if len(calls) > 1:
            flow = Flow(Outside(), Target("worker", "10.0.0.2", 30080, None))
            wrong = "x outside -> worker:30080: want answered, saw silent"
            raise NotSettledError(f"not settled in 8s\n{wrong}", [Wrong(flow, SILENT)])

    api = FakeApi()
    site = Site(api, "", "a", None, is_ours=False, run=RUN)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(churning, "assert_serves", assert_serves)
        patched.setattr(churning, "reasons_of", lambda *_: ([], ["worker has rules of before"]))
        placed = place(api, HOME, RUN, NODES, FakePorts())
        it.undergone = Churn(site, placed, NODES, "not ours", Steps(quiet=True)).run()
    assert it.undergone[0].ended == "held"


OURS, SHOP = f"Service {HOME}", "Service shop/shop"


@pytest.mark.parametrize(
    ("breaks", "what", "field", "how"),
    [
        (change_a_node_port, f"{OURS}/cluster", "node port of 80/TCP", "30080, and now 31999"),
        (change_somebody_s_node_port, SHOP, "node port of 80/TCP", "31000, and now 31999"),
        (change_a_cluster_ip, f"{OURS}/cluster", "ClusterIP", "10.96.0.9, and now 10.96.0.77"),
        (lose_a_health_check_port, f"{OURS}/local", "health-check node port", "30082, and now no"),
        (lose_a_service, f"{OURS}/local", "", "was there, and now is gone"),
        (change_a_policy, f"{OURS}/local", "spec.externalTrafficPolicy", "Local, and now Cluster"),
        (flip_a_default, "default of a new Service (NodePort)", "sessionAffinity",
         "None, and now ClientIP"),
        (shrink_the_range, "API server", "--service-node-port-range",
         "30000-32767, and now 30000-31000"),
        (move_a_node, "node worker", "addresses", "["),
        (lose_a_node_s_health, "node worker", "conditions.Ready", "True, and now False"),
        (keep_stale_rules, "the pods of Cluster Services replaced by a rollout", "",
         "worker has rules of before"),
    ],
)  # fmt: skip
def test_what_is_not_as_it_was_is_named(verified, upgraded, breaks, what, field, how):
    """On the first screen of the page, in the text, and as a failed case for CI."""
    breaks(upgraded)

    is_named(verified(), f"{what}{', ' + field if field else ''}: {how}", f"{what} {field}".strip())


@pytest.mark.parametrize(
    ("breaks", "how"),
    [(change_a_behaviour, "it does not"), (lose_a_behaviour_s_needs, "it is skipped")],
)
def test_a_behaviour_that_is_otherwise_is_named(verified, upgraded, breaks, how):
    breaks(upgraded)

    is_named(verified(), f"{CLAUSES[1]} held, and now {how}", CLAUSES[1])


def is_named(found, named, case):
    verdict, page, text, failed = found
    assert verdict.exit_code == 1
    assert text.startswith("```text\nNot as before: ")
    first_screen = page.partition("<nav")[0]
    assert "What is otherwise now?" in first_screen
    assert named in first_screen
    assert case in failed
    # Nobody noticed it yet, and nobody says so.
    assert "did users notice: No: not one of" in text


NOBODY_WORKED = "new connections lost on nodes on which nobody worked"
ENDED = "conversations that ended though their pod and node stayed"


@pytest.mark.parametrize(
    ("way", "outcome", "budget"),
    [
        (NEW, REFUSED, NOBODY_WORKED),
        (NEW, SILENT, NOBODY_WORKED),
        (NEW, CUT_OFF, NOBODY_WORKED),
        (NEW, FOREIGN, NOBODY_WORKED),
        (NEW, NO_ROUTE, NOBODY_WORKED),
        (DATAGRAMS, REFUSED, NOBODY_WORKED),
        (DATAGRAMS, SILENT, NOBODY_WORKED),
        (KEPT, CUT_OFF, ENDED),
        (KEPT, SILENT, ENDED),
        (KEPT, FOREIGN, ENDED),
        (UDP, SILENT, ENDED),
        (UDP, REFUSED, ENDED),
    ],
)
def test_an_outage_of_every_kind_is_named(verified, upgraded, way, outcome, budget):
    """With its node, path, length and how it was, though everything is as it was afterwards."""
    upgraded.lose(way, outcome, **({"pod": "stray-1"} if outcome == FOREIGN else {}))

    verdict, page, text, failed = verified()

    (outage,) = verdict.watched.outages
    assert (outage.node, outage.path, outage.kind) == ("worker-1", f"web IPv4 {way}", str(outcome))
    assert outage.seconds == pytest.approx(1.0, abs=0.06)
    assert verdict.exit_code == 1
    assert [name for name in failed if budget in name]
    assert "did users notice: Yes, beyond the budgets: 20 of 16," in text
    assert f"through worker-1 (20 lost); on web IPv4 {way} (20 lost)" in text
    assert f"({outcome}, outside -&gt; worker-1:30080" in page
    assert "nothing is known that happened then (20 lost)" in text


def test_a_conversation_that_ends_for_no_reason_is_named(verified, upgraded):
    """It opened again at once, and its pod and its node had stayed."""
    upgraded.told.ended(upgraded.told.numbers("worker-2", KEPT)[0], 30.0)

    verdict, _, text, failed = verified()

    assert verdict.exit_code == 1
    assert [name for name in failed if ENDED in name]
    assert "1 kept connection ended" in text


def test_a_watch_that_hardly_looked_proves_nothing(verified, upgraded):
    upgraded.told.held(20.0, 45.0)

    verdict, _, text, failed = verified()

    assert verdict.exit_code == 1
    assert [name for name in failed if "seconds in which nobody looked" in name]
    assert "For 25.0 s nobody looked." in text
    assert "Not known to be as before: nobody looked for longer than the budgets allow." in text


def test_what_users_noticed_and_what_nobody_saw_are_told_apart(verified, upgraded):
    upgraded.lose(NEW, REFUSED)
    upgraded.told.held(50.0, 75.0)

    _, _, text, _ = verified()

    assert (
        "Not as before: users noticed more than the budgets allow, nobody looked for longer than "
        "the budgets allow." in text
    )
