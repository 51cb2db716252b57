"""Results of shards, from anywhere, become one report; what is missing or contradicts is told."""

import json
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from e2e.commands.merge import merge as command
from e2e.errors import UsageError
from e2e.report import outputs
from e2e.report.clauses import Clause, choose, contract, part_of, read_clauses
from e2e.report.collect import MANY
from e2e.report.junit import read_cases, write_cases
from e2e.report.lanes import seconds
from e2e.report.merge import Given, bring_evidence, find, merge
from e2e.report.result import Found, Result
from e2e.report.run_answers import run_answers
from e2e.report.shard import Shard
from e2e.selftest.runs import BEGAN, NODES, failed, flow, held, run, skipped, whole_run

WHOLE = ("a.b", "c.d", "e.f", "g.h")
UID, OTHER = "11111111-aaaa", "22222222-bbbb"


def found(cluster=UID, **more):
    said = {"version": "v1.37.2", "proxy": "kube-proxy iptables", "families": ("IPv4",)}
    return Found(**(said | {"nodes": NODES, "cluster": cluster} | more))


def shard(said, *clauses, asked=None, **more):
    """A result of a shard, whose clauses are those that it was to ask unless that is told."""
    names = tuple(clause.clause for clause in clauses) if asked is None else asked
    told = {"run": f"run-{said}", "shard": said, "asked_for": names, "whole_of": WHOLE,
            "provider": "existing", "where": "cluster: staging", "found": found(),
            "reproduce": f"make e2e-here CONTEXT=staging SHARD={said}"}  # fmt: skip
    return run(*clauses, **(told | more))


def merged(*results, lost=()):
    return merge([Given(Path(f"/of/{r.run}/result.json"), r) for r in results], lost, [])


ONE = shard("1/2", held("a.b"), held("c.d"))
TWO = shard("2/2", held("e.f"), skipped("g.h"), began=BEGAN + timedelta(seconds=100))


def test_shards_that_are_all_there_are_one_verdict():
    result = merged(TWO, ONE)

    assert (result.exit_code, result.whole, result.told) == (0, True, ())
    assert (result.counts.held, result.counts.skipped) == (3, 1)
    assert [part.shard for part in result.merged] == ["1/2", "2/2"]
    assert result.reproduce == "make e2e-here CONTEXT=staging"
    assert result.began == BEGAN
    # They ran for 366.2 s each, the second from 100 s after the first on.
    assert result.seconds == pytest.approx(466.2)
    assert run_answers(result).good is True


def test_the_time_is_that_in_which_any_of_them_ran():
    late = TWO.model_copy(update={"began": BEGAN + timedelta(days=1)})

    assert merged(ONE, late).seconds == pytest.approx(2 * 366.2)


@pytest.mark.parametrize(("results", "lost", "says"), [
    ([ONE], [], "shard is missing: 2/2"),
    ([ONE], ["/lost has no result.json"], "/lost has no result.json"),
    ([shard("1/4", held("a.b"))], [], "shards are missing: 2/4, 3/4, 4/4"),
    ([ONE, shard("2/2", held("e.f"), asked=("e.f", "g.h"), whole=False)], [],
     "not asked by anybody: g.h"),
])  # fmt: skip
def test_what_is_missing_is_told_and_never_green(results, lost, says):
    result = merged(*results, lost=lost)

    assert (result.exit_code, result.whole) == (2, False)
    assert any(says in line for line in (*result.gaps, *result.told)), result
    assert run_answers(result).good is None
    assert "Nobody asked" in run_answers(result).verdict
    assert "Merge the missing shards" in run_answers(result).todo[0]


def test_a_shard_that_is_missing_hides_no_failure():
    result = merged(shard("1/2", failed("a.b"), held("c.d")))

    assert result.exit_code == 1
    assert run_answers(result).good is False


def test_a_lost_result_that_another_one_makes_up_for_is_told_and_no_gap():
    result = merged(ONE, TWO, lost=["/first/attempt has no result.json"])

    assert result.exit_code == 0
    assert result.told == ("/first/attempt has no result.json",)


@pytest.mark.parametrize(("ends", "counts"), [
    ([held("a.b"), failed("a.b")], "failed"),
    ([failed("a.b", ended="broken"), failed("a.b")], "failed"),
    ([held("a.b"), failed("a.b", ended="broken")], "broken"),
    ([skipped("a.b"), held("a.b")], "held"),
])  # fmt: skip
def test_of_contradicting_verdicts_the_worse_counts_and_is_told(ends, counts):
    parts = [shard(f"{n}/2", each) for n, each in enumerate(ends, 1)]
    for given in (parts, parts[::-1]):
        result = merged(*given)

        assert [each.ended for each in result.clauses] == [counts]
        says = f"a.b ended in several ways, of which the worst counts: {ends[0].ended} in shard 1/2"
        assert any(line.startswith(says) for line in result.told)


def test_what_was_asked_twice_and_ended_alike_is_counted_once():
    result = merged(ONE, shard("2/2", held("c.d"), held("e.f"), held("g.h")))

    assert result.counts.held == 4
    assert result.told == ("asked more than once, and ended alike: c.d",)


@pytest.mark.parametrize("by", ["", "nodes:"])
def test_a_part_that_was_asked_again_as_a_whole_is_not_counted(by):
    """A pod was lost with its node, and the Job let another one ask all of its shard."""
    broken = held("a.b").model_copy(update={"ended": "broken"})
    part = shard(f"{by}1/2", broken, asked=WHOLE, whole=False, run="lost")
    others = (shard(f"{by}{n}/2", *map(held, WHOLE)) for n in (1, 2))

    result = merged(part, *others)

    assert (result.counts.broken, result.exit_code, result.whole) == (0, 0, True)
    assert f"not counted, as all of it was asked again: a part of shard {by}1/2" in result.told


def test_one_result_that_is_given_twice_is_counted_once():
    result = merged(ONE, TWO, ONE)

    assert result.told == ("given twice, and counted once: 1 of 3 results",)
    assert result.run == merged(TWO, ONE).run


@pytest.mark.parametrize(("other", "says"), [
    ({"found": found(OTHER)}, f"different clusters: {UID} | {OTHER}"),
    ({"found": found(version="v1.36.3")}, "different versions: v1.37.2 | v1.36.3"),
    ({"found": found(proxy="kube-proxy nftables")}, "different service proxies"),
    ({"found": found(families=("IPv4", "IPv6"))}, "different IP families"),
    ({"found": found("", nodes=("x",))}, "different nodes, and so clusters"),
    ({"provider": "kind"}, "different kinds of clusters"),
    ({"environment": {"harness": "nodeport-e2e 9"}}, "different harnesses"),
])  # fmt: skip
def test_what_does_not_belong_together_is_refused(other, says):
    with pytest.raises(UsageError, match=says.replace("|", r"\|")):
        merged(ONE, TWO.model_copy(update=other))


def test_shards_of_a_lane_may_have_a_cluster_each():
    """As in CI, where each makes its own; of another lane they are refused."""
    lane = {"provider": "kind", "where": "lane: v1.37.2 iptables ipv4 two-workers"}
    one = ONE.model_copy(update=lane)
    two = TWO.model_copy(update=lane | {"found": found(OTHER)})

    assert merged(one, two).told == ("asked of 2 clusters, each of which was made for this lane",)
    with pytest.raises(UsageError, match="different lanes"):
        merged(one, two.model_copy(update={"where": "lane: v1.37.2 iptables ipv4 one-node"}))


def test_one_cluster_may_have_several_names():
    result = merged(ONE, TWO.model_copy(update={"where": "cluster: admin@staging"}))

    assert result.told == (
        "one cluster, which they call by several names: cluster: staging, cluster: admin@staging",
    )


def test_nodes_are_put_together():
    """Of a shard of nodes each clause counts, with what was seen through the nodes of all."""
    near = held("a.b", flows=(flow(target="worker"),), converged=(("outside -> worker:1", 0.1),))
    far = failed("a.b")
    through = ("control-plane", "worker")
    one = shard("nodes:1/2", near, held("c.d"), found=found(through=through), asked=WHOLE[:2])
    two = shard("nodes:2/2", far, found=found(through=("control-plane", "worker2")))
    one, two = (each.model_copy(update={"whole_of": WHOLE[:2]}) for each in (one, two))
    result = merged(one, two)

    clause = result.clauses[0]
    assert clause.ended == "failed"
    assert [each.node for each in clause.flows] == ["worker", "worker", "worker2"]
    assert clause.said == far.said
    assert result.found.through == ()
    assert result.whole
    assert result.counts.held == 1
    alone = merged(one)
    assert alone.exit_code == 2
    assert alone.gaps == ("shard is missing: nodes:2/2", "nobody called through worker2")


def test_what_many_shards_saw_of_a_clause_stays_small():
    """As what one run saw of it does."""

    def seen(number):
        nodes = [f"w{number}-{n}" for n in range(400)]
        clause = held("a.b", flows=tuple(flow(target=node, node=node) for node in nodes))
        return shard(f"nodes:{number}/4", clause, whole_of=("a.b",))

    parts = [seen(number) for number in range(1, 5)]
    (told,) = merged(*parts).clauses[0].flows

    assert (told.node, told.times) == (MANY, 1600)


def test_a_node_that_all_shards_stand_on_is_told():
    """Each clause was asked through the others, so it is no gap of shards of clauses."""
    through = found(through=NODES[:2])
    result = merged(*(each.model_copy(update={"found": through}) for each in (ONE, TWO)))

    assert (result.told, result.exit_code) == (("nobody called through worker2",), 0)


def test_what_is_merged_can_be_merged_further():
    four = [shard(f"{n}/4", held(name)) for n, name in enumerate(WHOLE, 1)]
    half = merged(*four[:2])
    result = merged(half, *four[2:])

    assert half.exit_code == 2
    assert result.exit_code == 0
    assert result.run == merged(*four).run
    assert [part.shard for part in result.merged] == ["1/4", "2/4", "3/4", "4/4"]
    assert half.gaps == ("shards are missing: 3/4, 4/4", "not asked by anybody: e.f, g.h")
    assert result.gaps == result.told == ()


def test_results_of_other_choices_are_asked_again_by_their_clauses():
    two = TWO.model_copy(update={"reproduce": "make e2e-here CONTEXT=staging ONLY=e"})

    assert merged(ONE, two).reproduce == "make e2e-here CONTEXT=staging 'ONLY=a.b c.d e.f g.h'"


# From files.


@pytest.fixture
def folders(tmp_path):
    """Two shards as a run leaves them, one with evidence, as CI downloads them."""
    for name, result in (("one", ONE), ("two", shard("2/2", failed("e.f"), held("g.h")))):
        (tmp_path / "all" / name).mkdir(parents=True)
        result.save(tmp_path / "all" / name)
    evidence = tmp_path / "all" / "two" / "evidence" / "e.f"
    evidence.mkdir(parents=True)
    (evidence / "table.txt").write_text("x outside -> worker2")
    return tmp_path


def ran(*arguments):
    return CliRunner().invoke(command, list(map(str, arguments)), standalone_mode=False)


def test_the_command_leaves_a_whole_report(folders):
    ended = ran(folders / "all", "--out", folders / "out")

    assert ended.return_value == 1, ended.output
    assert "merged: 2 results" in ended.output
    assert {*outputs.MADE, "evidence"} <= {file.name for file in (folders / "out").iterdir()}
    clause = next(c for c in Result.load(folders / "out" / "result.json").clauses if c.is_wrong)
    assert clause.evidence == "evidence/e.f"
    assert (folders / "out" / clause.evidence / "table.txt").exists()
    page = (folders / "out" / "report.html").read_text()
    assert "Merged of 2 results" in page
    assert 'href="evidence/e.f/"' in page
    assert "Merged of 2 results." in (folders / "out" / "summary.md").read_text()


def test_a_program_gets_the_last_screen_as_json(folders):
    ended = ran(folders / "all" / "one", "--json", "--out", folders / "out")

    said = json.loads(ended.output)
    assert (said["exit_code"], ended.return_value) == (2, 2)
    assert "shard is missing: 2/2" in said["where"]
    assert "and not all is known" in said["where"][1]


def test_a_folder_without_a_result_is_a_missing_shard(folders):
    (folders / "all" / "three").mkdir()
    given, lost = find([folders / "all"], folders)
    assert len(given) == 2
    assert lost == [f"{folders}/all/three has no result.json"]

    (folders / "all" / "two" / "result.json").write_text('{"format": 2, "ru')
    given, lost = find([folders / "all" / "one", folders / "all" / "two"], folders)
    assert len(given) == 1
    assert "is no result" in lost[0]

    with pytest.raises(UsageError, match="there is no result to merge"):
        find([folders / "all" / "three", folders / "nowhere"], folders)


def test_a_report_is_not_written_over_one_of_its_parts(folders):
    ended = ran(folders / "all" / "one", "--out", folders / "all" / "one")

    assert isinstance(ended.exception, UsageError)
    assert "has one of the results" in str(ended.exception)
    assert Result.load(folders / "all" / "one" / "result.json") == ONE


def test_what_pods_of_a_job_brought_stays_beside_its_report(folders):
    """It is in the folder of the report itself, and its evidence is still to be copied."""
    shards = folders / "out" / "shards"
    shutil.copytree(folders / "all", shards)

    ran(shards, "--out", folders / "out")

    assert (shards / "two" / "evidence" / "e.f" / "table.txt").exists()
    assert (folders / "out" / "evidence" / "e.f" / "table.txt").exists()


def test_evidence_of_somebody_else_is_not_replaced(folders):
    (folders / "evidence").mkdir()

    ended = ran(folders / "all", "--out", folders)

    assert isinstance(ended.exception, UsageError)
    assert (folders / "evidence").exists()


def test_why_there_is_no_evidence_is_told_as_it_was(folders):
    why = "none, as nothing had been placed yet"
    shard("1/1", failed("a.b", evidence=why)).save(folders / "all" / "one")
    ended = ran(folders / "all" / "one", "--out", folders / "out")

    assert f"evidence: {why}" in ended.output
    assert Result.load(folders / "out" / "result.json").clauses[0].evidence == why


def test_evidence_of_elsewhere_is_left_alone(folders):
    """A file may name any folder of the machine on which it is merged."""
    (folders / "secret").mkdir()
    (folders / "secret" / "key").write_text("secret")
    for named in ("../../secret", str(folders / "secret")):
        shard("1/1", failed("a.b", evidence=named)).save(folders / "all" / "one")
        ran(folders / "all" / "one", "--out", folders / "out")

        assert not list((folders / "out").rglob("key"))


def test_junit_says_what_a_run_would_have_said(tmp_path):
    hostile = failed("c.d", said="bell \x07 and <xml> & ]]>\nwhy: it \x00 is so")
    well = held("a.b", converged=(("outside -> worker:1", 0.125),), covers=("N-01",))
    well = well.model_copy(update={"chosen": ("x: y",)})
    clauses = (well, hostile, skipped("e.f"), failed("g.h", ended="broken"))
    write_cases(run(*clauses), tmp_path / "junit.xml")
    cases = {case.clause: case for case in read_cases(tmp_path / "junit.xml")}

    assert [case.ended for case in cases.values()] == ["held", "failed", "skipped", "broken"]
    assert cases["a.b"].converged == (("outside -> worker:1", 0.125),)
    assert cases["a.b"].covers == {"N-01"}
    assert cases["a.b"].chosen == ("x: y",)
    assert cases["c.d"].said.startswith("bell \ufffd and <xml> & ]]>")
    assert cases["e.f"].said == skipped("e.f").said


def test_halves_of_a_whole_run_tell_what_the_whole_tells(tmp_path):
    """All but who ran it and when: what is made of a merged result is made of one result."""
    ids = tuple(clause.id for clause in read_clauses())
    whole = whole_run(failed("reach.three-hops")).model_copy(update={"asked_for": ids})
    halves = []
    for number in (1, 2):
        names = set(Shard(2, number).pick(ids))
        part = tuple(each for each in whole.clauses if each.clause in names)
        said = {"run": f"half-{number}", "shard": f"{number}/2", "whole_of": ids,
                "asked_for": tuple(names), "clauses": part}  # fmt: skip
        halves.append(whole.model_copy(update=said))
    (tmp_path / "evidence" / "reach.three-hops").mkdir(parents=True)
    parts = [Given(tmp_path / "result.json", half) for half in halves]
    result = bring_evidence(merge(parts, [], read_clauses()), parts, tmp_path / "out")

    same = ("clauses", "counts", "exit_code", "whole", "asked_for", "where", "found", "reproduce")
    assert {name: getattr(result, name) for name in same} == {
        name: getattr(whole, name) for name in same
    }
    assert result.told == ()


# Who asks what.


def clause(name, **more):
    return replace(Clause(name, (), (), "", "", ""), **more)


@pytest.mark.parametrize("said", ["0/3", "4/3", "1", "a/b", "nodes:", "node:1/2", "1/2/3", "1/0"])
def test_what_is_no_part_is_refused(said):
    with pytest.raises(UsageError, match="is no part"):
        Shard.parse(said)


@pytest.mark.parametrize("of", range(1, 10))
@pytest.mark.parametrize("count", [0, 1, 5, 60])
def test_every_name_is_in_exactly_one_shard(count, of):
    names = {f"topic-{n % 7}.clause-{n}" for n in range(count)}
    parts = [Shard(of, number).pick(names) for number in range(1, of + 1)]

    assert sorted(name for part in parts for name in part) == sorted(names)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert parts == [Shard(of, n).pick(sorted(names, reverse=True)) for n in range(1, of + 1)]


def test_parts_cost_alike():
    """Where one clause takes as long as fifty others."""
    costs = {f"a.{n}": 1.0 for n in range(60)} | {"b.long": 50.0, "b.other": 48.0}
    parts = [Shard(2, number).pick(costs, costs) for number in (1, 2)]
    first, second = (sum(map(costs.__getitem__, part)) for part in parts)

    assert sum(map(len, parts)) == len(costs)
    assert abs(first - second) <= 3
    # What nobody timed may take longest.
    assert Shard(2, 1).pick([*costs, "c.unknown"], costs)[0] == "c.unknown"


def test_a_shard_is_the_same_everywhere():
    """Also in other versions of Python: what runs elsewhere has to agree on it."""
    assert Shard.parse("2/3").pick(["a", "b", "c", "d", "e"]) == ["c", "a"]
    assert str(Shard.parse("nodes:2/3")) == "nodes:2/3"


def test_the_contract_is_parted_whole():
    every = choose(None, None, ours=False)
    parts = [part_of(every, Shard(4, number), ours=False) for number in (1, 2, 3, 4)]

    assert sorted(c.id for part in parts for c in part) == sorted(c.id for c in every)
    longest = max(seconds().values())
    took = [sum(seconds().get(clause.id, longest) for clause in part) for part in parts]
    assert max(took) < 1.1 * min(took), took


def test_a_shard_of_nodes_asks_what_calls():
    clauses = [clause("a.api"), clause("a.call", vantages=("outside",))]

    assert part_of(clauses, Shard(2, 1, "nodes"), ours=False) == tuple(clauses)
    assert part_of(clauses, Shard(2, 2, "nodes"), ours=False) == (clauses[1],)


def test_who_wants_a_certain_node_port_is_in_one_shard():
    """Two pods of a Job would take it from each other."""
    clauses = choose(None, None, ours=False)
    examples = {clause.id for clause in clauses if clause.id.startswith("example.")}
    parts = [{c.id for c in part_of(clauses, Shard(3, n), ours=False)} for n in (1, 2, 3)]
    by_nodes = [{c.id for c in part_of(clauses, Shard(3, n, "nodes"), ours=False)} for n in (1, 2)]

    assert len(examples) > 3
    assert sorted(len(part & examples) for part in parts) == [0, 0, len(examples)]
    assert [examples <= part for part in by_nodes] == [True, False]
    assert not examples & by_nodes[1]


def test_an_empty_shard_is_told():
    with pytest.raises(UsageError, match=r"shard 2/2 is empty.*of the 1 clause"):
        part_of([clause("a.b")], Shard(2, 2), ours=False)


def test_what_must_be_alone_is_not_asked_beside_other_shards():
    clauses = [clause("a.b"), clause("c.d", families=("disruptive",))]
    with pytest.raises(UsageError, match=r"c\.d must be alone with the cluster"):
        part_of(clauses, Shard(2, 1), ours=False)

    assert part_of(clauses, Shard(1, 1), ours=False) == tuple(clauses)
    # Each shard has a cluster of its own.
    assert len(part_of(clauses, Shard(2, 1), ours=True)) == 1


def test_no_clause_of_the_contract_is_disruptive_by_default():
    assert all("disruptive" not in c.families for c in choose(None, None, ours=False))
    assert contract()
