"""result.json: what a run leaves as data, in the shape that its published schema promises."""

import json
from types import SimpleNamespace

import jsonschema
import pytest

from e2e.commands import schemas
from e2e.errors import UsageError
from e2e.fixtures import assembled, cluster
from e2e.fixtures.results import Collector
from e2e.fixtures.settings import SETTINGS
from e2e.report.clauses import BESIDE, HOSTS, OUTSIDE, PODS
from e2e.report.collect import node_of, vantage_of
from e2e.report.result import Result
from e2e.selftest.programs import ask
from e2e.selftest.runs import NODES, failed, held, run, skipped, whole_run

# Clauses as the contract has them, of callers that say what they are told to.
CLAUSES = '''
"""Scripted."""
from dataclasses import dataclass, field
import pytest
from e2e.check import assert_settles, assert_spread_evenly, assert_unnoticed
from e2e.probe import ANSWERED, REFUSED, Flow, Reply, Sample, Target, Track, Watch, draw

class Owner:
    def owns(self, echo): return True
    def whereabouts(self, echo): return "worker-1"

class Caller:
    name = "outside"
    def __init__(self, *outcomes): self.outcomes, self.asked = outcomes, 0
    def call(self, address, port):
        self.asked += 1
        outcome = self.outcomes[min(self.asked, len(self.outcomes)) - 1]
        return Reply(outcome, 0.001, "echo-0" if outcome == ANSWERED else None)
    def draw(self, address, port, times, at_once):
        import random
        chance = random.Random(3)
        return [Reply(ANSWERED, 0.001, f"echo-{chance.randrange(2)}") for _ in range(times)]

def flow(*outcomes, address="192.0.2.1"):
    return Flow(Caller(*outcomes), Target("worker-1", address, 30081, Owner()))

def watch(lost):
    track = Track(flow(), "new connections")
    for n in range(600):
        track.add(n / 120, Reply(ANSWERED if n != lost else REFUSED, 0.001, "echo-0"))
    watch = Watch([track])
    watch._seconds = 5.0
    return watch

@pytest.mark.clause("a.settles", covers=["N-01"])
def test_settles():
    assert_settles({flow(REFUSED, ANSWERED): ANSWERED, flow(REFUSED, address="fd00::1"): REFUSED})

@pytest.mark.clause("a.refused", covers=["N-02", "N-03"])
def test_refused():
    assert_settles({flow(ANSWERED): ANSWERED, flow(REFUSED): ANSWERED}, within=0.1)

@pytest.mark.clause("a.even", covers=["N-04"])
def test_even():
    assert_spread_evenly(draw([flow()], 1331), over=["echo-0", "echo-1"])

@pytest.mark.clause("a.noticed", covers=["N-05"])
def test_noticed():
    assert_unnoticed(watch(lost=300))

@pytest.mark.clause("a.unnoticed", covers=["N-05"])
def test_unnoticed():
    assert_unnoticed(watch(lost=None))

@pytest.mark.clause("a.skipped", covers=["N-06"])
def test_skipped():
    pytest.skip("needs a-moon: there is none")

@pytest.mark.clause("a.broken", covers=["N-07"])
def test_broken():
    raise RuntimeError("no pod came up")
'''


@pytest.fixture(scope="module", params=[0, 2], ids=["one process", "many"])
def left(request, tmp_path_factory):
    """What a run of those clauses left, as one process and as many that report to one."""
    folder = tmp_path_factory.mktemp("run")
    plugins = ("settings", "cluster", "results", "verdict")
    named = [f"e2e.fixtures.{name}" for name in plugins]
    conftest = f"pytest_plugins = {named}\n"
    options = ("-q", f"--numprocesses={request.param}", "--cluster-name=mine")
    ended = ask(folder, CLAUSES, conftest, *options)
    return folder / "out", ended


@pytest.fixture
def result(left):
    return Result.load(left[0] / "result.json")


def clause(result, name):
    return next(each for each in result.clauses if each.clause == name)


def test_every_clause_is_there_and_how_it_ended(left, result):
    ended = {each.clause: each.ended for each in result.clauses}

    assert ended == {"a.settles": "held", "a.refused": "failed", "a.even": "held",
                     "a.noticed": "failed", "a.skipped": "skipped", "a.unnoticed": "held",
                     "a.broken": "broken"}  # fmt: skip
    assert (result.counts.held, result.counts.failed) == (3, 2)
    assert result.exit_code == left[1].returncode == 1
    assert result.found is None
    assert result.reproduce.startswith("make e2e K8S=v1.")
    assert result.reproduce.endswith("E2E_CLUSTER_NAME=mine")


def test_the_last_screen_has_the_times_and_names_the_page(left):
    """Times are noted when a clause is torn down, in whichever process."""
    screen = left[1].stdout

    assert "converged: 2 flows, p50 " in screen
    assert f"every clause with its figures: {left[0] / 'report.html'}" in screen


def test_a_flow_that_held_is_told_with_what_it_may_bring_and_when_it_did(result):
    refused, answered = sorted(clause(result, "a.settles").flows, key=lambda each: each.took)

    assert (answered.want, answered.saw, answered.right) == ("answered", "answered", True)
    assert (answered.vantage, answered.family, str(answered)) == (
        *(OUTSIDE, "IPv4"), "outside -> worker-1:30081")  # fmt: skip
    assert answered.took > 0
    assert (refused.want, refused.family) == ("refused", "IPv6")


def test_a_failure_keeps_its_table_and_its_wrong_flows(result):
    found = clause(result, "a.refused")

    assert found.covers == ("N-02", "N-03")
    assert found.said.startswith("not settled in 0.1 s")
    assert [(each.saw, each.right) for each in found.flows if not each.right] == [
        ("refused", False)
    ]
    assert found.evidence == "none, as nothing had been placed yet"
    assert clause(result, "a.broken").said == "RuntimeError: no pod came up"
    assert clause(result, "a.skipped").said == "needs a-moon: there is none"


def test_a_load_is_kept_with_what_chance_allows(result):
    (load,) = clause(result, "a.even").loads

    assert sum(load.counts.values()) == 1331
    assert load.nodes == {"echo-0": "worker-1", "echo-1": "worker-1"}
    assert load.least < 1331 / 2 < load.most
    # Six standard deviations on each side.
    assert load.most - load.least == pytest.approx(12.2 * (1331 / 4) ** 0.5, rel=0.05)


def test_an_outage_is_kept_with_its_times(result):
    found = clause(result, "a.noticed")
    (outages,) = found.outages

    assert outages.spans == ((2.5, pytest.approx(2.508, abs=0.001), "refused", 1),)
    assert outages.track == "outside -> worker-1:30081 (new connections)"
    assert [each.saw for each in found.flows] == ["refused"]
    assert [each.right for each in clause(result, "a.unnoticed").flows] == [True]


@pytest.mark.parametrize(("error", "said"), [
    (OSError(28, "No space left on device"), "could not be written to out: No space left"),
    (RuntimeError("a mistake of ours"), "could not be told: RuntimeError('a mistake of ours')"),
])  # fmt: skip
def test_results_that_cannot_be_told_spoil_no_run(monkeypatch, error, said):
    """The last screen still comes, with a line that says so."""
    lines, collector = [], Collector()
    collector.reports["contract/test_a.py::test_b"] = []
    config = SimpleNamespace(stash={SETTINGS: SimpleNamespace(out="out")}, getoption=lambda _: None)

    def fails(*_, **__):
        raise error

    monkeypatch.setattr(assembled, "assemble", fails)
    collector.pytest_terminal_summary(SimpleNamespace(write_line=lines.append), 0, config)

    assert [said in line for line in lines] == [True]


@pytest.mark.parametrize("made", [
    run(held("a.b"), failed("c.d"), skipped("e.f")), run(), whole_run(),
    run(held("a.b"), found=None, whole=False),
], ids=["mixed", "empty", "whole", "ended"])  # fmt: skip
def test_a_result_is_as_its_schema_says_and_is_read_back(made, tmp_path):
    made.save(tmp_path)
    text = (tmp_path / "result.json").read_text()

    jsonschema.validate(json.loads(text), json.loads(schemas.documents()["result.schema.json"]))
    assert Result.load(tmp_path / "result.json") == made


def test_what_a_run_left_is_as_the_published_schema_says(left):
    file = schemas.SCHEMAS / "result.schema.json"

    jsonschema.validate(
        json.loads((left[0] / "result.json").read_text()), json.loads(file.read_text())
    )


def test_another_format_is_refused(tmp_path):
    (tmp_path / "result.json").write_text('{"format": 1}')

    with pytest.raises(UsageError, match="is no result"):
        Result.load(tmp_path / "result.json")


@pytest.mark.parametrize(("caller", "vantage"), [
    ("outside", OUTSIDE), ("caller 172.18.255.60", BESIDE), ("straying caller fd00::1", BESIDE),
    ("pod on worker2", f"{PODS} on worker2"),
    ("host network of worker", f"{HOSTS} on worker"),
])  # fmt: skip
def test_a_caller_stands_somewhere(caller, vantage):
    assert vantage_of(caller) == vantage


@pytest.mark.parametrize(("target", "caller", "node"), [
    ("worker:3", "outside", "worker"), ("worker2 (IPv6):3/UDP", "outside", "worker2"),
    ("192.0.2.97 via worker:3", "outside", "worker"), ("ClusterIP fd00::1:3", "pod on worker", ""),
    ("localhost:3", "host network of worker2", "worker2"), ("localhost of worker:3", "x", "worker"),
])  # fmt: skip
def test_a_target_belongs_to_a_node(target, caller, node):
    assert node_of(f"{caller} -> {target}", NODES) == node


def test_a_full_disk_leaves_nothing_in_the_cluster_and_is_no_verdict(monkeypatch):
    """What pytest writes itself at the end fails before what this harness does then."""
    lines, cleaned = [], []
    writer = SimpleNamespace(line=lines.append)
    config = SimpleNamespace(get_terminal_writer=lambda: writer)
    session = SimpleNamespace(config=config, exitstatus=0)
    monkeypatch.setattr(cluster, "_clean_up", cleaned.append)
    finish = cluster.pytest_sessionfinish(session)
    next(finish)

    with pytest.raises(StopIteration):
        finish.throw(OSError(28, "No space left on device", "out/junit.xml"))

    assert (session.exitstatus, cleaned) == (2, [session])
    assert lines[0].startswith("x out/junit.xml cannot be written: No space left on device")
