"""Budgets: what a file may say, and whether users noticed more than that."""

import re
from pathlib import Path

import pytest

from e2e.check.budgets import DEFAULT, Lost, judge, read_budgets
from e2e.errors import UsageError

NEW, KEPT = "new connections", "one connection"


def lost(way=NEW, *, lost=1, seconds=0.2, worked_on=False, went=False, node="worker"):
    flow = f"outside -> {node}:30080 ({way})"
    return Lost(node, way, lost, seconds, worked_on, went, flow)


def verdicts(*outages, budgets=None, not_looked=0.0):
    found = judge(outages, budgets or read_budgets(), not_looked=not_looked)
    return [each.kept for each in found]


def test_without_an_outage_every_budget_is_kept():
    assert verdicts() == [True] * 6


def test_the_default_bears_what_a_careful_upgrade_does():
    """A node that is away while it is worked on, and conversations that go with their pods."""
    outages = (
        lost(seconds=40.0, lost=800, worked_on=True),
        lost("UDP", seconds=1.9, lost=38, went=True),
        lost(KEPT, seconds=0.1, went=True),
        lost(KEPT, seconds=40.0, lost=800, worked_on=True),
        lost("UDP from new ports", went=True),
    )

    assert verdicts(*outages) == [True] * 6


@pytest.mark.parametrize(
    ("outage", "which"),
    [
        (lost(), 0),
        (lost("UDP from new ports"), 0),
        (lost("UDP from new ports", lost=2, went=True), 0),
        (lost(seconds=301.0, worked_on=True), 2),
        (lost("UDP", seconds=301.0, worked_on=True), 2),
        (lost("UDP", seconds=5.1, went=True), 3),
        (lost(KEPT), 4),
    ],
)
def test_each_budget_can_be_exceeded_alone(outage, which):
    assert verdicts(outage) == [number != which for number in range(6)]


def test_who_did_not_look_has_not_seen_that_nothing_was_lost():
    assert verdicts(not_looked=10.0) == [True] * 6
    assert verdicts(not_looked=10.1) == [True] * 5 + [False]


def test_many_single_datagrams_are_more_than_pods_that_go():
    datagrams = [lost("UDP from new ports", went=True)] * 11

    assert verdicts(*datagrams) == [True, False, True, True, True, True]


def test_a_budget_that_is_exceeded_says_where_and_the_worst_first():
    few, many = lost(lost=2, node="a"), lost(lost=30, seconds=1.5, node="b")

    first, *_ = judge([few, many], read_budgets())

    assert (first.allowed, first.used) == ("0", "32")
    assert first.where == (
        "outside -> b:30080 (new connections): 30 lost, 1.50 s",
        "outside -> a:30080 (new connections): 2 lost, 0.20 s",
    )


def test_a_gap_of_any_conversation_is_bounded_where_all_of_them_may_end():
    """What is not forbidden altogether is held against the longest that is allowed."""
    default = read_budgets()
    lax = default.model_copy(
        update={"kept": default.kept.model_copy(update={"only_where_pod_or_node_went": False})}
    )
    gap = lost(KEPT, seconds=600.0)

    assert verdicts(gap, budgets=lax).count(False) == 1


def test_a_file_changes_what_it_says_and_leaves_the_rest(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(
        "[new]\nlost_on_other_nodes = 10\n[kept]\nonly_where_pod_or_node_went = false\n"
        '[behaviours]\nmay_change = ["path", "a.b"]\n'
    )

    budgets = read_budgets(file)

    assert budgets.new.longest_on_worked_node == read_budgets().new.longest_on_worked_node
    assert [budgets.behaviours.allow(i) for i in ("path.x", "a.b", "a.c", "pathx.y")] == [
        *(True, True),
        *(False, False),
    ]
    assert verdicts(lost(lost=10), lost(KEPT), budgets=budgets) == [True] * 5


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[new]\nlost = 3\n", "new.lost: Extra inputs are not permitted"),
        ("[new]\nlost_on_other_nodes = -1\n", "new.lost_on_other_nodes: Input should be greater"),
        ("[new]\nlost_on_other_nodes = 0.5\n", "new.lost_on_other_nodes: Input should be a valid"),
        ('[kept]\nlongest = "5 s"\n', "kept.longest: Input should be a valid number"),
        ("[kept]\nlongest = inf\n", "kept.longest: Input should be a finite number"),
        ("[old]\n", "old: Extra inputs are not permitted"),
        ("new = 3\n", "new: Input should be a valid dictionary"),
        ("[new", "is no TOML"),
        ("a = '\xff", "is no TOML"),
    ],
)
def test_a_file_that_means_nothing_is_named_with_what_is_wrong(tmp_path, text, says):
    file = tmp_path / "mine.toml"
    file.write_bytes(text.encode("latin-1"))

    with pytest.raises(UsageError) as caught:
        read_budgets(file)

    assert str(file) in caught.value.what
    assert says in caught.value.what


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(UsageError, match=r"no budgets at nowhere\.toml: No such file"):
        read_budgets(Path("nowhere.toml"))


def test_every_word_of_the_default_says_what_it_means():
    """A comment stands above each, as the file is what people copy."""
    lines = DEFAULT.read_text().splitlines()

    for number, line in enumerate(lines):
        if re.match(r"\w+ = ", line):
            assert lines[number - 1].startswith("# "), line
