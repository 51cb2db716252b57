"""Which clauses are asked: by family, or by any name that leads to them; and who waits for whom."""

import fcntl
import threading
from types import SimpleNamespace

import pytest

from e2e.errors import UsageError
from e2e.fixtures.selection import LONG, SHORT, TURN, deal, turn
from e2e.report.clauses import choose, read_clauses


def ids(only: str | None = None, families: str | None = None, *, ours: bool = True) -> set[str]:
    return {clause.id for clause in choose(only, families, ours=ours)}


def of(*families: str) -> set[str]:
    return {clause.id for clause in read_clauses() if set(clause.families) <= set(families)}


def test_by_default_nothing_slow_is_asked_and_nothing_disruptive_of_strangers():
    """A cluster of ours is disturbed by default, any other is not; slow clauses are not asked."""
    assert ids() == of("core", "extended", "disruptive")
    assert ids(ours=False) == of("core", "extended")


def test_families_are_asked_by_name():
    """Only clauses all of whose families are named are asked; all means every clause."""
    assert ids(families="core") == of("core")
    assert ids(families="core, slow") == of("core", "slow")
    assert ids(families="all") == {clause.id for clause in read_clauses()}
    assert ids(families="all", ours=False) == of("core", "extended", "slow")
    assert ids(families="all disruptive", ours=False) == ids(families="all")


@pytest.mark.parametrize("asked", ["reach.control-plane", "reach", "DP-06", "N-12"])
def test_a_clause_is_asked_by_any_of_its_names(asked):
    """An id, a topic, a behaviour and a promise each lead to their clauses and to no other."""
    chosen = ids(asked)

    assert chosen
    assert chosen == {clause.id for clause in read_clauses() if asked in clause.names}


def test_names_go_before_families():
    """What is asked for by name is asked, whatever its family."""
    assert ids("reach.control-plane", "slow") == {"reach.control-plane"}
    assert ids("reach.control-plane DP-06") >= {"reach.control-plane", "reach.pods-on-one-node"}


def test_a_strangers_cluster_is_disturbed_by_name_alone():
    """A topic is no wish to disturb, nor are all families; an id is, and so is that family."""
    alone = {c.id for c in read_clauses() if c.is_disruptive and c.id.startswith("allocation.")}
    assert alone

    assert ids("allocation", ours=False).isdisjoint(alone)
    disturbing = {clause.id for clause in read_clauses() if clause.is_disruptive}
    assert ids("allocation SCL-02").intersection(disturbing)
    assert ids("allocation SCL-02", "all", ours=False).isdisjoint(disturbing)
    assert ids("allocation") >= alone
    assert ids("allocation", "disruptive", ours=False) >= alone
    assert ids(min(alone), ours=False) == {min(alone)}
    with pytest.raises(UsageError, match="node-failure has disruptive clauses alone"):
        ids("node-failure", ours=False)


def test_a_name_of_nothing_is_a_usage_error():
    """A slip is told, and not taken for a wish to ask nothing."""
    with pytest.raises(UsageError, match=r"no clause is called reach\.nowhere"):
        ids("reach.nowhere DP-01")
    with pytest.raises(UsageError, match="no family of clauses is called quick"):
        ids(families="quick")


@pytest.mark.parametrize(
    ("others", "alone", "processes"),
    [(168, 13, 8), (9, 3, 8), (5, 0, 1), (2, 5, 4), (0, 3, 8), (40, 1, 3)],
)
def test_each_process_begins_early_with_what_takes_longest_and_ends_with_what_is_alone(
    others, alone, processes
):
    """So it is where xdist cuts the list, which gives each process its part of what is left."""
    last = [f"alone-{n}" for n in range(alone)]
    dealt = deal(list(range(others)), last, processes)

    assert sorted(map(str, dealt)) == sorted(map(str, [*range(others), *last]))
    rest, firsts = list(dealt), []
    for number in range(processes):
        size = len(rest) // (processes - number)
        hand, rest = rest[:size], rest[size:]
        of_all = [item for item in hand if item not in last]
        assert hand[: len(of_all)] == of_all
        later = SHORT if number % 2 and len(of_all) > LONG + SHORT else 0
        assert [*of_all[later : later + LONG], *of_all[:later]] == sorted(of_all)[: LONG + later]
        firsts += sorted(of_all)[:1]
    assert firsts == list(range(len(firsts)))


def test_who_disturbs_is_alone_with_the_cluster(tmp_path, monkeypatch):
    """Others share a cluster; who disturbs it waits for all of them, and they for it."""
    monkeypatch.setenv("E2E_CACHE", str(tmp_path))
    config = SimpleNamespace(stash={TURN: "kind"})
    order = []

    def disturb():
        with turn(config, fcntl.LOCK_EX):
            order.append("disturbed")

    disturbing = threading.Thread(target=disturb)
    with turn(config, fcntl.LOCK_SH), turn(config, fcntl.LOCK_SH):
        disturbing.start()
        disturbing.join(0.3)
        order.append("shared")
    disturbing.join(10)

    assert order == ["shared", "disturbed"]
