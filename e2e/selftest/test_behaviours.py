"""Which clauses changed, and which times did beyond noise: with the false alarms that are told."""

import random

import pytest

from e2e.check.behaviours import (
    TOLD,
    UNKNOWN,
    UNLIKE,
    WORSE,
    changed_behaviours,
    compared_times,
    spreads,
)
from e2e.selftest.fingerprints import behaviour, behaviours

CLAUSES, NODES = 150, ("one", "two", "three")


@pytest.mark.parametrize(
    ("before", "after", "weight"),
    [
        ("held", "failed", WORSE),
        ("held", "skipped", WORSE),
        ("failed", "held", UNLIKE),
        ("skipped", "held", UNLIKE),
        ("held", "broken", UNKNOWN),
        ("broken", "failed", UNKNOWN),
    ],
)
def test_a_clause_that_ends_otherwise_is_told_with_how_bad_that_is(before, after, weight):
    said = {"failed": "not settled\n  fine\nx wrong\nwhy: a rule", "skipped": "needs two-workers"}
    was = behaviours(behaviour("a.b", before, said=said.get(before, "")))
    now = behaviours(behaviour("a.b", after, said=said.get(after, "")))

    (change,) = changed_behaviours(was, now)

    assert (change.before, change.after, change.weight) == (before, after, weight)
    if after == "failed" and weight == WORSE:
        assert change.said == "not settled\nx wrong\nwhy: a rule"


def test_clauses_that_end_alike_are_not_told():
    same = behaviours(behaviour("a.b"), behaviour("a.c", "failed", said="x"))

    assert changed_behaviours(same, same) == []


def test_clauses_that_were_not_asked_are_told():
    found = changed_behaviours(behaviours(behaviour("a.old")), behaviours(behaviour("a.new")))

    assert [str(each) for each in found] == [
        "a.new: not asked -> held",
        "a.old: held -> not asked",
    ]
    assert [each.weight for each in found] == [UNLIKE, WORSE]


def test_another_reason_of_a_skip_is_told():
    was = behaviours(behaviour("a.b", "skipped", said="one node"))
    now = behaviours(behaviour("a.b", "skipped", said="no engine"))

    (change,) = changed_behaviours(was, now)

    assert (change.weight, change.said) == (TOLD, "one node; now no engine")


def test_what_an_implementation_chooses_is_a_behaviour_though_the_clause_holds():
    was = behaviours(behaviour("path.localhost", chosen=["localhost-ipv4: answered"]))
    now = behaviours(behaviour("path.localhost", chosen=["localhost-ipv4: refused", "other: x"]))

    (change,) = changed_behaviours(was, now)

    assert str(change) == "path.localhost: answered -> refused: localhost-ipv4"
    assert change.weight == UNLIKE


def run(seed: int, *, slower: float = 0.0, at: str = "", clause: str = "", hiccups: int = 3):
    """A run whose nodes sync at most once a second, on a machine that is busy now and then."""
    chance = random.Random(seed)  # noqa: S311  # no secret
    made = []
    late = set(chance.sample(range(CLAUSES), hiccups))
    for number in range(CLAUSES):
        name = f"topic.{number}"
        # A busy machine delays all that happens in a clause.
        delay = chance.uniform(0, 1.5) if number in late else 0.0
        times = {}
        for node in NODES:
            more = slower if at in ("", node) and clause in ("", name) else 0.0
            sync = chance.uniform(0.02, 1.0) + delay + more
            times[node] = sorted(sync + chance.uniform(0, 0.02) for _ in range(4))
        made.append(behaviour(name, converged=times))
    return behaviours(*made)


def counting(before, after):
    return [each.what for each in compared_times(before, after) if each.counts]


def test_noise_is_called_noise():
    """Of 40 comparisons of runs that differ by chance alone at most two raise an alarm."""
    alarms = sum(bool(counting(run(seed), run(1000 + seed))) for seed in range(40))

    assert alarms <= 2


def test_a_cluster_that_has_become_slower_is_seen():
    what = counting(run(1), run(2, slower=0.6))

    assert what[0].startswith("all clauses")
    assert len(what) == 1 + len(NODES)


def test_a_node_that_has_become_slower_is_named():
    assert "all clauses at two" in counting(run(3), run(4, slower=1.0, at="two"))
    assert "all clauses at one" not in counting(run(3), run(4, slower=1.0, at="two"))


def test_a_clause_that_has_become_slower_is_named():
    assert counting(run(5), run(6, slower=6.0, clause="topic.7")) == ["topic.7"]


def test_what_nobody_would_notice_does_not_count_however_sure_it_is():
    before, after = run(7, hiccups=0), run(7, hiccups=0, slower=0.1)

    (first, *_) = compared_times(before, after)

    assert first.p < 1e-9
    assert counting(before, after) == []


def test_too_few_clauses_are_not_judged():
    few = dict(list(run(8).items())[:5])

    assert compared_times(few, few) == []


def test_distribution_figures_stand_side_by_side():
    line = "outside -> a:1: 2972 connections, p={} for even, p={} for random"
    was = behaviours(behaviour("balance.a", judged=[line.format(0.5, 0.25)]), behaviour("b.c"))
    now = behaviours(behaviour("balance.a", judged=[line.format("1e-12", 0.9)] * 2))

    (spread,) = spreads(was, now)

    assert (spread.clause, spread.before, spread.after) == ("balance.a", 0.25, 1e-12)
    assert spread.verdicts == (2, 4)
