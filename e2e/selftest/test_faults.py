"""Faults: files that keep their rules, and what is concluded from how clauses ended."""

import json
import re
import subprocess
import tempfile
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from e2e.before.explain import explain
from e2e.bench import specs as bench_specs
from e2e.cluster.node import Node
from e2e.cluster.rewriting import UNWRAP, WRAP
from e2e.errors import CannotRunError, UsageError
from e2e.faults import asking, command, making, policies
from e2e.faults.judging import names_only, nodes_of, trial_of
from e2e.faults.specs import NAMES, Specs, can_notice
from e2e.faults.trying import Trials, spared_by
from e2e.provider.lane import Lane
from e2e.provider.node_image import DEFAULT
from e2e.report import faults_document, proofs
from e2e.report.clauses import contract
from e2e.report.faults import Change, Fault, Refusal, Way, choose_faults, faults, read_faults
from e2e.report.matrix import Matrix, Trial, counted
from e2e.report.result import ClauseResult, FlowEnd
from e2e.report.shard import Shard
from e2e.selftest.programs import interrupted
from e2e.selftest.written import ANSWERS, IPTABLES, NFTABLES

GOOD = """
does = "It breaks."
emulates = "no known bug, but it may"
clauses = ["reach.pods-on-one-node"]
why = "broken"

[both]
inject = "touch /broken"
repair = "rm -f /broken"
in_force = "test -e /broken"
"""
NODES = ("kind-worker", "kind-worker2")
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


def flow(node, *, right):
    return FlowEnd(
        caller="outside", vantage="outside", target=node, node=node, port=30000, protocol="TCP",
        family="IPv4", want="answered", saw="silent", right=right,
    )  # fmt: skip


def clause(name, ended, *wrong, said="", why=()):
    flows = tuple(flow(node, right=node not in wrong) for node in NODES)
    return ClauseResult(clause=name, ended=ended, said=said, why=why, flows=flows)


def fault(**fields):
    known = {"name": "broken", "does": "It breaks.", "emulates": "no known bug", "why": "lacks"}
    return Fault(**{**known, "clauses": ("a.one", "a.two"), **fields})


def judged(*clauses, node="kind-worker2", **fields):
    found = {each.clause: each for each in clauses}
    return trial_of(fault(**fields), "lane", found, spared=["s.one"], node=node, nodes=NODES)


def test_the_faults_of_this_harness_keep_the_rules():
    """Each clause that they name exists, and each can be told to be in force, and repaired."""
    known = {each.id for each in contract()}

    assert len(faults()) >= 60
    assert all({*each.clauses, *each.also, *spared_by(each)} <= known for each in faults())
    assert len({each.does for each in faults()}) == len(faults())


@pytest.mark.parametrize("way", [w for f in faults() for w in map(f.way, f.modes)])
def test_scripts_are_understood_by_a_shell(way):
    """Also those that repair, which are seldom seen to fail."""
    for script in (way.inject, way.repair, way.in_force):
        subprocess.run(["sh", "-nc", script], check=True)


# What tables say of flows that went wrong, whatever the reason was.
SYMPTOMS = [
    f"x outside -> kind-worker2:30080 (web IPv4{over}): want {wanted}, saw {seen}"
    for over in ("", " UDP")
    for wanted, every in {
        "answered by one of echo-a-0, echo-a-1": (
            "silent", "refused", "no route", "cut off", "foreign", "answered by echo-b-0",
        ),
        "refused": ("silent", "answered by echo-a-0"),
        "silent": ("refused", "answered by echo-a-0"),
    }.items()
    for seen in every
] + [
    "not settled in 16 s: 0 of 4 looks agreed, never 3 in a row",
    "x outside -> kind-worker2:30080: echo-a-0 5, echo-a-1 7; 3 of 20 wrong: 3 silent",
    "x kind-worker2: 3 of 600 failed: 3 silent",
    "host network of kind-worker2 -> kind-worker2:30080: no step of the ladder explains it",
]  # fmt: skip


@pytest.mark.parametrize("fault", faults(), ids=lambda each: each.name)
def test_no_symptom_passes_for_the_reason(fault):
    """A reason that is right says what was done, and not only that something went wrong."""
    assert [line for line in SYMPTOMS if re.search(fault.why, line)] == []


REWRITTEN = [
    pytest.param(way.rewrite, rules, id=f"{each.name} {proxy}")
    for each in faults()
    for proxy, rules in (("iptables", IPTABLES), ("nftables", NFTABLES))
    if (way := each.way(proxy)) and way.rewrite
]


def rewritten(script, rules):
    """What becomes of rules by a script of sed, read as kube-proxy's container reads it."""
    argv = ["sed", "-E", "-f", "/dev/stdin", "/dev/fd/3"]
    with tempfile.TemporaryFile() as given:
        given.write(rules.encode())
        given.seek(0)
        argv[-1] = f"/dev/fd/{given.fileno()}"
        return subprocess.run(
            argv, input=script.strip() + "\n", text=True, check=True, capture_output=True,
            pass_fds=[given.fileno()],
        ).stdout  # fmt: skip


@pytest.mark.parametrize(("script", "rules"), REWRITTEN)
def test_every_script_changes_rules_of_its_mode(script, rules):
    """One that sed does not understand, or that matches nothing, would be no fault."""
    assert rewritten(script, rules) != rules


@pytest.mark.parametrize(
    "altered",
    [
        pytest.param(way.altered, id=each.name)
        for each in faults()
        if (way := each.way("iptables")) and way.altered
    ],
)
def test_every_alteration_is_of_something_that_is_said(altered):
    """One that matches no request and no answer would be no fault."""
    meant = [
        (asked, body)
        for asked, code, body in ANSWERS
        if re.search(altered.asked, asked) and altered.code in (None, code)
    ]

    assert any(
        re.search(altered.sent, asked) if altered.sent else re.search(altered.find, body)
        for asked, body in meant
    )


def test_a_share_is_changed_in_each_mode():
    """By as much as the fault says."""
    (found,) = [each for each in faults() if each.name == "share-halved"]

    assert "--probability 0.1666666667" in rewritten(found.iptables.rewrite, IPTABLES)
    assert "mod 6 map { 0 : 10.4 . 8080 , 1-3 : 10.5 . 8080 , 4-5 :" in rewritten(
        found.nftables.rewrite, NFTABLES
    )


def test_chains_of_deleted_services_are_kept():
    """They are neither emptied nor deleted, and the chain that leads to them is not either."""
    (found,) = [each for each in faults() if each.name == "rules-of-deleted-stay"]

    kept = rewritten(found.iptables.rewrite, IPTABLES)

    assert "KUBE-EXT-OLD1" not in kept
    assert ":KUBE-NODEPORTS" not in kept
    assert ":KUBE-EXT-A1 - [0:0]\n" in kept


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ('why = "broken"', 'why = "("', "why is no regular expression"),
        ("reach.pods-on-one-node", "reach.nowhere", "no clause is called reach.nowhere"),
        ('clauses = ["reach.pods-on-one-node"]', "clauses = []", "no clause has to notice it"),
        ('repair = "rm -f /broken"', "", "nothing repairs it in iptables mode"),
        ('in_force = "test -e /broken"', "", "nobody can tell whether it is in force"),
        ('inject = "touch /broken"', "", "nothing is done in nftables mode"),
        ("no known bug", "a rumour", "neither a link to an issue"),
        ("no known bug", "https://bugs.example/17", "neither a link to an issue"),
        ("why =", 'also = ["reach.pods-on-one-node"]\nwhy =', "reach.pods-on-one-node is named tw"),
        ("why =", 'also = ["reach.nowhere"]\nwhy =', "no clause is called reach.nowhere"),
        ("[both]", '[both.altered]\nasked = "."\n[both]', "nothing is altered"),
        ("[both]", '[both.altered]\nasked = "("\nfind = "x"\n[both]', "what is altered is no reg"),
        ("[both]", 'families = ["luck"]\n[both]', "nobody knows the IP families luck"),
        ("[both]", "[other]", "other"),
        ("does", "doze", "doze|does"),
        ("[both]", "[both", "good.toml"),
        (
            'why = "broken"\n\n[both]',
            'also = ["proxy.frozen"]\nwhy = "broken"\n\n[both]\nrewrite = "s/a/b/"',
            "clauses that disturb kube-proxy undo a rewriting",
        ),
    ],
)
def test_a_file_that_breaks_a_rule_is_named(tmp_path, before, after, problem):
    """With the rule, whatever else is wrong."""
    (tmp_path / "good.toml").write_text(GOOD)
    assert [each.name for each in read_faults(tmp_path)] == ["good"]
    (tmp_path / "good.toml").write_text(GOOD.replace(before, after))

    with pytest.raises(UsageError, match=problem):
        read_faults(tmp_path)


def test_faults_are_chosen_by_name_and_by_part():
    """The parts are all of them together, and none twice."""
    lane = Lane(DEFAULT)
    every = choose_faults(None, None, lane)
    parts = [each.name for n in (1, 2, 3) for each in choose_faults(None, Shard(3, n), lane)]
    names = [each.name for each in every]

    assert sorted(parts) == sorted(names)
    in_order = f"{names[3]},{names[1]} {names[3]}"
    assert [f.name for f in choose_faults(in_order, None, lane)] == [names[3], names[1]]
    with pytest.raises(UsageError, match="faults have no part by nodes"):
        choose_faults(None, Shard(2, 1, "nodes"), lane)
    with pytest.raises(UsageError, match="no fault is called luck"):
        choose_faults("luck", None, lane)


@pytest.mark.parametrize(
    ("lane", "only", "says"),
    [
        ({"proxy": "nftables"}, "localhost-dead udp-blocked", "localhost-dead: makes no sense on"),
        ({}, "ipv6-dead", "ipv6-dead: makes no sense on"),
        ({"family": "ipv6"}, None, "no fault: makes no sense on"),
        ({"shape": "one-node"}, None, "SHAPE=one-node may not have"),
    ],
)
def test_a_fault_is_made_only_where_it_makes_sense(lane, only, says):
    """Elsewhere nobody could notice it, or scripts would find nothing to break."""
    with pytest.raises(UsageError, match=says):
        choose_faults(only, None, Lane(DEFAULT, **lane))

    usual = {fault.name for fault in choose_faults(None, None, Lane(DEFAULT))}
    dual = {fault.name for fault in choose_faults(None, None, Lane(DEFAULT, family="dual"))}
    assert dual - usual == {"ipv6-dead"}


def test_a_fault_that_all_notice_is_detected():
    """The node and the reason are right as well."""
    lacks = "why: kind-worker2 lacks rules"
    trial = judged(
        clause("a.one", "failed", "kind-worker2", said=lacks, why=(lacks,)),
        clause("a.two", "failed", "kind-worker2"),
        clause("s.one", "held"),
    )

    assert (trial.ended, trial.named, trial.explained, trial.fell) == ("detected", True, True, [])
    assert trial.why == ("kind-worker2 lacks rules",)


@pytest.mark.parametrize(
    ("one", "two", "ended"),
    [
        ("failed", "held", "partly"),
        ("failed", "skipped", "partly"),
        ("failed", "broken", "partly"),
        ("broken", "broken", "partly"),
        ("broken", "held", "partly"),
        ("held", "held", "missed"),
        ("skipped", "held", "missed"),
        ("failed", "failed", "detected"),
    ],
)
def test_only_failures_detect(one, two, ended):
    """What is broken is no verdict, and what was skipped was not asked."""
    trial = judged(clause("a.one", one, "kind-worker2"), clause("a.two", two, "kind-worker2"))

    assert trial.ended == ended
    assert trial.spared == {"s.one": "skipped"}


def test_a_clause_that_may_notice_proves_itself_and_is_no_miss():
    """Whether it failed or held the fault is detected; an error proves nothing of any clause."""
    red, held = clause("a.one", "failed", "kind-worker2"), clause("m.two", "held")
    trial = judged(
        red, clause("m.one", "failed"), held, clauses=("a.one",), also=("m.one", "m.two", "m.three")
    )

    assert (trial.ended, trial.silent) == ("detected", [])
    assert trial.also == {"m.one": "failed", "m.two": "held"}
    assert trial.proved == ["a.one", "m.one"]
    assert trial.model_copy(update={"ended": "error"}).proved == []


def trials(**fields):
    known = dict.fromkeys(("here", "cluster", "asking", "shared", "out", "specs", "say"))
    return Trials(**{**known, "known": frozenset(), "quick": False, "trusting": False, **fields})


def test_clauses_that_disturb_others_are_asked_alone_and_last(tmp_path, monkeypatch):
    """All others as many at once as was said; of those none beside another."""
    began, running, most = [], [], []

    def start(_, __, name, out, more):
        began.append((name, len(running)))
        running.append(name)
        most.append(len(running))
        return SimpleNamespace(sentinel=name)

    def end_one(sentinels):
        running.remove(sentinels[0])
        return sentinels[:1]

    monkeypatch.setattr(asking.Asking, "_start", start)
    monkeypatch.setattr(asking, "wait", end_one)
    monkeypatch.setattr(asking, "_result", lambda name, _: clause(name, "held"))
    took = {
        "udp.every-node": 9.0,
        "proxy.burst": 20.0,
        "proxy.frozen": 2.0,
        "control-plane.away": 1,
    }
    monkeypatch.setattr(asking, "seconds", lambda: took)
    asked = ["proxy.frozen", "udp.every-node", "control-plane.away", "proxy.burst", "ports.each"]

    how = asking.Asking(None, "", None, "", 2, None)
    found = how.ask(asked, tmp_path / "out", within=1.0, through=tmp_path)

    assert list(found) == asked
    assert [name for name, _ in began[:3]] == ["ports.each", "proxy.burst", "udp.every-node"]
    assert began[3:] == [("proxy.frozen", 0), ("control-plane.away", 0)]
    assert max(most) == 2


def test_what_became_of_a_fault_is_told_in_a_line():
    """What held, what could not be judged, and how many clauses and specs failed."""
    found = Trial(
        fault="f", lane="x", ended="partly", noticed={"a": "held", "b": "broken", "c": "failed"},
        also={"d": "failed"}, specs={"s": "failed", "t": "passed"}, named=False,
    )  # fmt: skip

    assert command.told(found) == (
        "partly; not by a; not judged: b; the wrong node was named; 2 clauses failed; "
        "1 of 2 specs failed"
    )


def test_who_may_notice_is_asked_where_it_is_known_to_hold():
    """By the baseline, else by what held on the lane; a slow one is never in the baseline."""
    broken = fault(
        clauses=("reach.control-plane",), spares=("vantages.hosts",),
        also=("types.alias-with-a-node-port", "scale.thousand-endpoints", "edits.another-port"),
    )  # fmt: skip
    usual = trials(known=frozenset({"edits.another-port"}))
    held = {name: clause(name, "held") for name in usual.baseline_of(broken)}

    assert usual.baseline_of(broken) == [
        "reach.control-plane", "types.alias-with-a-node-port", "vantages.hosts",
    ]  # fmt: skip
    assert usual.also_of(broken, held) == ["types.alias-with-a-node-port", "edits.another-port"]
    assert usual.also_of(broken, {}) == ["edits.another-port"]
    trusting = trials(known=frozenset({"vantages.hosts", "edits.another-port"}), trusting=True)
    assert trusting.baseline_of(broken) == ["reach.control-plane", "types.alias-with-a-node-port"]
    assert trusting.holding({"vantages.hosts": clause("vantages.hosts", "failed")}) == {
        "edits.another-port"
    }
    quick = trials(known=frozenset({"edits.another-port"}), quick=True)
    assert quick.baseline_of(broken) == ["reach.control-plane", "vantages.hosts"]
    assert quick.also_of(broken, held) == []


def test_another_node_and_another_reason_are_wrong():
    """So is a second node beside the right one."""
    wrong = clause("a.one", "failed", *NODES, said="why: kind-worker is blocked")
    trial = judged(wrong, clause("a.two", "failed", "kind-worker2"), clause("s.one", "failed"))

    assert (trial.named, trial.explained, trial.fell) == (False, False, ["s.one"])
    assert judged(wrong, node="").named is None


def test_a_table_explains_nothing_where_a_reason_is_printed():
    """What matches has to be the reason itself; a clause that prints none is taken at its word."""
    line = "why: kind-worker2 is blocked"
    with_reason = clause("a.one", "failed", said=f"x kind-worker2 lacks\n{line}", why=(line,))
    with_none = clause("a.one", "failed", said="want 3 ports, kind-worker2 lacks one")

    assert judged(with_reason).explained is False
    assert judged(with_none).explained is True


def test_nodes_are_taken_from_words_where_there_are_no_flows():
    """A name that begins like another one is not taken for it."""
    said = ClauseResult(clause="a.one", ended="failed", said="kind-worker2/healthz: 503")

    assert nodes_of(said, NODES) == {"kind-worker2"}
    assert names_only("kind-worker2", [said], NODES)
    assert not names_only("kind-worker", [said], NODES)
    assert not names_only("kind-worker", [ClauseResult(clause="a", ended="failed")], NODES)


def test_a_reason_names_the_node_before_lines_that_are_wrong_for_it():
    """Where a ClusterIP is called, or pods of one node are dead, lines of other nodes are wrong."""
    why = ("why: echo-0, called through kind-worker2, saw 10.0.0.1 as its caller",)
    said = clause("a", "failed", *NODES, why=why)

    assert nodes_of(said, NODES) == {"kind-worker2"}
    assert nodes_of(clause("a", "failed", *NODES, why=("why: nobody knows",)), NODES) == {*NODES}


def test_of_a_table_in_words_the_nodes_of_marked_lines_are_named():
    """Others stand in it that are as they should be."""
    table = "not settled in 30 s:\n  health of kind-worker: 200\nx health of kind-worker2: refused"

    said = ClauseResult(clause="a.one", ended="failed", said=table)

    assert nodes_of(said, NODES) == {"kind-worker2"}


def test_the_exit_code_is_that_of_the_worst():
    """An error is no verdict, and no fault at all proves nothing."""

    def code(*ends, untried=()):
        trials = tuple(Trial(fault=f"f{n}", lane="x", ended=end) for n, end in enumerate(ends))
        return Matrix(began=MOMENT, seconds=1.0, trials=trials, untried=untried).exit_code

    assert code("detected", "detected") == 0
    assert code("detected", "partly") == code("missed") == 1
    assert code("detected", "missed", "error") == code() == 2
    assert code("detected", untried=("f9",)) == code("missed", untried=("f9",)) == 2


def test_what_was_found_is_kept_and_told(tmp_path, monkeypatch):
    """A later run takes the place of an earlier one on its lane, and no other."""
    monkeypatch.setattr(proofs, "SEEN", tmp_path / "faults.json")
    proofs.proved.cache_clear()
    name, must = faults()[0].name, faults()[0].clauses[0]
    for lane, ended in (("one", "missed"), ("two", "missed"), ("one", "detected")):
        noticed = {must: "failed" if ended == "detected" else "held"}
        trial = Trial(fault=name, lane=lane, ended=ended, noticed=noticed)
        Matrix(began=MOMENT, seconds=1.0, trials=(trial,)).save(tmp_path / "out")
        proofs.record(tmp_path / "out" / "faults.json")

    assert [(each.lane, each.ended) for each in proofs.seen()] == [
        ("one", "detected"), ("two", "missed"),
    ]  # fmt: skip
    assert proofs.proved() == {must: [name]}
    assert re.search(rf"  faults    {name}  seen to be noticed\n", explain(must))
    (may,) = [each.also[0] for each in faults() if each.name == "foreign-answers"]
    assert "foreign-answers  may be noticed" in explain(may)
    said = faults_document.text()
    assert "## one\n\n1 fault, 1 detected;" in said
    sensible = [each.name for each in faults() if each.way("iptables")]
    assert f"Not tried so far in iptables mode are {len(sensible)} of the {len(sensible)}" in said
    proofs.proved.cache_clear()


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """Keeps trials of one fault on one lane, a run each, and gives what is known then."""
    monkeypatch.setattr(proofs, "SEEN", tmp_path / "faults.json")
    name = next(each.name for each in faults() if len(each.also) > 2)

    def record(*runs):
        for fields in runs:
            trial = Trial(**{"fault": name, "lane": "x", "ended": "detected", **fields})
            matrix = Matrix(began=MOMENT, seconds=1.0, trials=(trial,), untried=("of-that-run",))
            matrix.save(tmp_path / "out")
            record.said = proofs.record(tmp_path / "out" / "faults.json")
        assert Matrix.load(proofs.SEEN).untried == ()
        (trial,) = proofs.seen()
        return trial

    record.may = next(each.also for each in faults() if each.name == name)
    return record


def test_specs_that_were_not_asked_again_are_as_they_were(recorded):
    """A run that asked them says how they ended, one that did not says nothing of them."""
    old, new = {"a": "failed", "b": "passed"}, {"a": "passed"}

    assert recorded({"specs": old}, {}).specs == old
    assert recorded({"specs": old}, {"specs": new}).specs == new


def test_clauses_that_were_not_asked_again_are_as_they_were(recorded):
    """Those alone that may notice the fault still."""
    first, second, third = recorded.may[:3]
    old = {first: "failed", second: "held", "clauses.that-may-no-longer": "failed"}

    quick = recorded({"also": old}, {"also": {}})
    assert quick.also == {first: "failed", second: "held"}
    again = recorded({"also": old}, {"also": {second: "failed", third: "held"}})
    assert again.also == {first: "failed", second: "failed", third: "held"}


def test_an_error_takes_the_place_of_nothing_but_an_error(recorded):
    """Whoever asked learns how much was kept, and from an error nothing is carried on."""
    error = {"ended": "error", "said": "the first", "specs": {"a": "failed"}}

    assert recorded({"specs": {"a": "passed"}}, error).ended == "detected"
    assert recorded.said.startswith("0 faults;")
    proofs.SEEN.unlink()
    assert recorded(error, {**error, "said": "the second"}).said == "the second"
    assert recorded({}).specs == {}


def test_a_file_that_is_no_matrix_is_named(tmp_path):
    file = tmp_path / "faults.json"
    with pytest.raises(UsageError, match="cannot be read"):
        Matrix.load(file)
    file.write_text('{"format": 2}')
    with pytest.raises(UsageError, match="holds no faults"):
        Matrix.load(file)


def test_counts_are_told_in_words():
    trials = [
        Trial(fault="a", lane="x", ended="detected", named=True, explained=False),
        Trial(fault="b", lane="x", ended="missed"),
    ]

    assert counted(trials) == (
        "2 faults, 1 detected, 1 missed; the node named in 1 of 1, the reason right in 0 of 1"
    )


@pytest.mark.parametrize(
    "policy",
    [
        Refusal(resource="services", unless="false", says="no"),
        Change(resource="endpointslices", patch="[]"),
    ],
)
def test_policies_are_for_runs_alone_and_can_be_seen_in_force(policy):
    """Each comes with a binding, and answers for an object that is never stored."""
    made, bound = json.loads(policies.manifests(policy))["items"]

    assert made["metadata"] == bound["metadata"] == {"name": policies.NAME}
    assert bound["spec"]["policyName"] == policies.NAME
    (expression,) = made["spec"]["matchConstraints"]["namespaceSelector"]["matchExpressions"]
    assert expression == {"key": "nodeport-e2e/run", "operator": "Exists"}
    assert policies.NAME in json.dumps(made["spec"])
    for script in (policies.REMOVE, policies.IN_FORCE[type(policy)], UNWRAP, WRAP):
        subprocess.run(["sh", "-nc", script], check=True)


class FakeEngine:
    """Notes what it was asked to run; scripts that say so end with an error."""

    def __init__(self):
        self.ran = []

    def run(self, *argv, **_):
        self.ran.append(argv)
        if "fails" in argv[-1].splitlines()[-1]:
            raise making.CommandFailedError(argv, 1, "it fails")
        return ""


class FakeEcho:
    """One pod on each worker."""

    namespace = "run"
    pods = {"echo-1": "kind-worker2", "echo-2": "kind-worker"}  # noqa: RUF012
    addresses = {"echo-1": {"IPv4": "10.0.2.2"}, "echo-2": {"IPv4": "10.0.1.2"}}  # noqa: RUF012


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.setattr(making.timing, "FAULT_IN_FORCE_WITHIN", 0.0)
    monkeypatch.setattr(making, "placed_before", lambda *_: FakeEcho())
    nodes = (
        Node("kind-control-plane", {"IPv4": "10.0.0.1"}, is_control_plane=True),
        Node("kind-worker", {"IPv4": "10.0.0.2"}, is_control_plane=False),
        Node("kind-worker2", {"IPv4": "10.0.0.3"}, is_control_plane=False),
    )
    return making.Here(None, nodes, making.Undo(FakeEngine(), tmp_path), tmp_path)


def last_lines(here):
    return [(argv[-4], argv[-1].splitlines()[-1]) for argv in here.undo.engine.ran]


def test_a_fault_is_made_seen_seen_again_and_repaired(here):
    """Where it was meant to be, and with what its scripts may know."""
    way = Way(inject="break it", repair="mend it", in_force="see it")

    with making.made(fault(), way, here, print) as it:
        it.demand()

    assert it.through is None

    node = "kind-worker2"
    assert last_lines(here) == [
        (node, "break it"), (node, "see it"), (node, "see it"), (node, "mend it"),
    ]  # fmt: skip
    known = here.undo.engine.ran[0][-1]
    assert "export PODS=10.0.2.2\n" in known
    assert "export OTHERS='10.0.0.1 10.0.0.2'\n" in known


@pytest.mark.parametrize(
    ("inject", "in_force"), [("fails", "see it"), ("break it", "fails")], ids=["made", "seen"]
)
def test_what_is_not_in_force_is_an_error_and_repaired(here, inject, in_force):
    """It never counts as a miss."""
    way = Way(inject=inject, repair="mend it", in_force=in_force)

    with (
        pytest.raises(making.FaultNotMadeError, match="could not be made"),
        making.made(fault(), way, here, print),
    ):
        pytest.fail("nothing may be asked")

    assert last_lines(here)[-1] == ("kind-worker2", "mend it")


def test_it_is_repaired_when_somebody_stops_the_run(here):
    way = Way(inject="break it", repair="mend it", in_force="see it")

    with pytest.raises(KeyboardInterrupt), making.made(fault(where="every-node"), way, here, print):
        raise KeyboardInterrupt

    mended = [node for node, line in last_lines(here) if line == "mend it"]
    assert mended == ["kind-worker2", "kind-worker", "kind-control-plane"]


def test_scripts_can_run_on_a_control_plane_for_a_node(here):
    """As what only kubectl can do to it."""
    way = Way(on="control-plane", inject="break it", repair="mend it", in_force="see it")

    with making.made(fault(), way, here, print):
        pass

    assert {node for node, _ in last_lines(here)} == {"kind-control-plane"}
    assert "export NODE=kind-worker2\n" in here.undo.engine.ran[0][-1]


def test_specs_are_told_beside_the_clauses(tmp_path, monkeypatch):
    """Only where both were asked; what passes and what was skipped is no notice."""
    monkeypatch.setattr(proofs, "SEEN", tmp_path / "faults.json")
    one, two, three = "slow-start", "udp-blocked", "kube-proxy-gone"
    policy, altered = "twins-refused", "rehearsals-done"
    lane = "v1.37.2 iptables ipv4 two-workers"
    known = {one: {"a": "failed", "b": "passed"}, two: {"a": "passed", "b": "skipped"}}
    trials = tuple(
        Trial(fault=name, lane=lane, ended="detected", specs=known.get(name, {}))
        for name in (one, two, three, policy, altered)
    )
    Matrix(began=MOMENT, seconds=1.0, trials=trials).save(tmp_path)

    said = faults_document.text()

    assert "\n2 of the [17 specs](upstream-specs.md) were asked" in said
    assert (
        "Of 2 faults the clauses detected 2, and the specs noticed 1. 3 more are not compared: "
        "1 made by a policy, which binds the namespaces of runs alone; 1 made between clauses and "
        f"the API server, to which specs speak directly; 1 beside which they were not asked: "
        f"`{three}`."
    ) in said
    assert f"| `{one}` | detected | a |" in said
    assert f"| `{two}` | detected | none |" in said
    assert f"| `{three}` | detected | none |" not in said


def test_the_document_names_the_specs_that_are_left_out():
    """None is in neither list, and none in both."""
    every = {behaviour.spec for behaviour in bench_specs.behaviours()}
    left = set(re.findall(r'"([^"]+)"', faults_document.SPECS))

    assert set(NAMES) <= every
    found = {spec for spec in every if any(spec.endswith(name) for name in left)}
    assert len(left) == len(found)
    assert found == every - set(NAMES)


def test_a_clause_that_could_not_be_judged_has_noticed_nothing(tmp_path, monkeypatch):
    """The document says so, and does not call it one that held."""
    monkeypatch.setattr(proofs, "SEEN", tmp_path / "faults.json")
    noticed = {"a.one": "failed", "a.two": "broken", "a.three": "held"}
    trials = (Trial(fault=faults()[0].name, lane="x", ended="partly", noticed=noticed),)
    Matrix(began=MOMENT, seconds=1.0, trials=trials).save(tmp_path)

    row = next(line for line in faults_document.text().splitlines() if "| partly |" in line)

    assert "| partly | `a.one` | `a.three`, `a.two` (not judged) | - |" in row


def test_no_recorded_fault_is_called_detected_by_what_could_not_be_judged():
    every = [trial for trial in proofs.seen() if trial.ended == "detected"]

    assert len(every) > 100
    assert [trial.fault for trial in every if {*trial.noticed.values()} != {"failed"}] == []


@pytest.mark.parametrize(("fails", "ended"), [(False, "passed"), (True, "failed")])
def test_each_spec_is_a_process_of_its_own(tmp_path, fails, ended):
    """It is told by name which one it is, and its report says how it ended."""
    program = tmp_path / "e2e.test"
    failure = "<failure/>" if fails else ""
    program.write_text(FAKE_SPECS.format(failure=failure, status=ended))
    program.chmod(0o755)
    api = SimpleNamespace(kubeconfig="/nowhere", find_all=lambda _: [])

    found = Specs(program, api, 2).run(tmp_path / "out", ["Services should a", "Services should b"])

    assert found == {"Services should a": ended, "Services should b": ended}


FAKE_SPECS = """\
#!/bin/sh
for word; do
  case $word in
    --report-dir=*) out=${{word#*=}} ;;
    --ginkgo.focus=*) name=$(echo "${{word#*=}}" | sed 's/.*] (//; s/)(.*//') ;;
  esac
done
cat >$out/junit_01.xml <<end
<testsuites><testsuite><testcase name="[It] [sig-network] $name" status="{status}" time="1">
{failure}</testcase></testsuite></testsuites>
end
test -z "{failure}"
"""


def test_a_suite_that_does_not_begin_has_noticed(tmp_path):
    """It waits for nodes that are not Ready, and says so; whatever else ends it is no result."""
    program = tmp_path / "e2e.test"
    api = SimpleNamespace(kubeconfig="/nowhere", find_all=lambda _: [])
    program.write_text("#!/bin/sh\necho '[TIMEDOUT] [SynchronizedBeforeSuite]'\nexit 1\n")
    program.chmod(0o755)

    assert Specs(program, api, 1).run(tmp_path / "out", ["a"]) == {"a": "failed"}

    program.write_text("#!/bin/sh\necho 'unknown flag'\nexit 1\n")
    with pytest.raises(CannotRunError, match="unknown flag"):
        Specs(program, api, 1).run(tmp_path / "out", ["a"])


def test_specs_end_at_once_when_somebody_stops_the_run(tmp_path):
    """They would wait for minutes, in which what was broken stays so."""
    program, out = tmp_path / "e2e.test", tmp_path / "out"
    program.write_text(f"#!/bin/sh\nmktemp {tmp_path}/began-XXXX\nsleep 20\ntouch {tmp_path}/end\n")
    program.chmod(0o755)
    api = SimpleNamespace(kubeconfig="/nowhere", find_all=lambda _: [])

    with interrupted(lambda: len(list(tmp_path.glob("began-*"))) == 2):
        Specs(program, api, 2).run(out, ["a", "b", "c", "d"])

    assert len(list(tmp_path.glob("began-*"))) == 2, "what had not begun does not begin"
    assert not (tmp_path / "end").exists()


def test_specs_are_asked_where_they_could_notice():
    """On nodes and in the cluster, but for what is made so that clauses alone can meet it."""
    could = {each.name for each in faults() if can_notice(each, "iptables")}

    assert {"wrong-target-port", "slow-start", "blocked-for-all-others"} <= could
    assert {"controllers-stand-still", "names-not-answered"} <= could
    assert not {"twins-refused", "target-port-changed", "rehearsals-done"} & could
    assert "localhost-dead" not in {e.name for e in faults() if can_notice(e, "nftables")}
