"""Distributions: what is called uneven or not random, how surely, and how seldom by mistake."""

from dataclasses import dataclass
from threading import Event

import numpy as np
import pytest
from scipy import stats

from e2e.check import (
    assert_all_met,
    assert_comes_to,
    assert_one_each,
    assert_some_move,
    assert_spread,
    assert_spread_evenly,
    connections_needed,
    connections_to_meet,
    distribution,
    journal,
)
from e2e.check.distribution import FALSE_ALARM, POWER, UNEVENNESS, UnevenError
from e2e.probe import ANSWERED, CUT_OFF, FOREIGN, SILENT, Flow, Reply, Target
from e2e.wait import pause

SEED = 30008
# How often a simulation may contradict a true claim; as the seed is fixed, always or never.
BY_CHANCE = 1e-6


@dataclass(frozen=True)
class Named:
    """All that a judge needs of a flow: what it is called, and that it is itself."""

    name: str = "outside -> worker-1:30081"

    def __str__(self) -> str:
        return self.name


# Even, and the same pod twice in a row as often as chance would have it.
PASSES = [0, 0, 1, 1] * 350

ONE, TWO = Named(), Named("outside -> worker-2:30081")


@pytest.fixture
def chance():
    return np.random.default_rng(SEED)


def names(pods: int) -> list[str]:
    return [f"echo-{n}" for n in range(pods)]


def replies(numbers) -> list[Reply]:
    """Give answers by the pods with these numbers."""
    each = {n: Reply(ANSWERED, 0.001, f"echo-{n}") for n in set(map(int, numbers))}
    return [each[int(n)] for n in numbers]


def shares(pods: int, off: float) -> np.ndarray:
    """Give the shares of pods of which the first is off by a fraction, the rest being even."""
    first = (1 + off) / pods
    return np.array([first, *[(1 - first) / (pods - 1)] * (pods - 1)])


def verdict(numbers, pods: int) -> str:
    """Give the reason for which these picks are called wrong, or nothing."""
    try:
        assert_spread_evenly({ONE: replies(numbers)}, over=names(pods))
    except UnevenError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("off", [UNEVENNESS, -UNEVENNESS])
@pytest.mark.parametrize("pods", [2, 3, 4, 6])
def test_a_pod_that_is_off_by_a_quarter_is_seen(chance, pods, off):
    """With the connections that are needed, such a pod is missed once in a thousand draws."""
    runs = 50_000
    counts = chance.multinomial(connections_needed(pods), shares(pods, off), size=runs)

    missed = int((stats.chisquare(counts, axis=1).pvalue >= FALSE_ALARM).sum())

    assert missed <= stats.binom.isf(BY_CHANCE, runs, 1 - POWER)


def test_no_more_connections_are_made_than_are_needed(chance):
    """With a tenth less, a pod that is off by a quarter is missed too often."""
    runs, fewer = 50_000, int(connections_needed(3) * 0.9)
    counts = chance.multinomial(fewer, shares(3, UNEVENNESS), size=runs)

    missed = int((stats.chisquare(counts, axis=1).pvalue >= FALSE_ALARM).sum())

    assert missed > stats.binom.isf(BY_CHANCE, runs, 1 - POWER)


@pytest.mark.parametrize("off", [UNEVENNESS, -UNEVENNESS])
def test_the_judge_itself_sees_what_was_promised(chance, off):
    """Given whole draws, the judge calls every one uneven in which a pod is off by a quarter."""
    needed = connections_needed(3)

    verdicts = [verdict(chance.choice(3, needed, p=shares(3, off)), 3) for _ in range(100)]

    assert sum("not even: p=" in said for said in verdicts) >= 99


def test_more_is_needed_to_see_less():
    """A smaller unevenness, a rarer miss and a rarer false alarm each need more connections."""
    usual = connections_needed(3)

    assert connections_needed(3, unevenness=0.2) > usual
    assert connections_needed(3, power=0.9999) > usual
    assert connections_needed(3, false_alarm=1e-12) > usual
    assert connections_needed(3, unevenness=0.5) < usual / 3


def test_false_alarms_are_as_rare_as_is_said(chance, monkeypatch):
    """At a limit of one in a hundred, each of the two verdicts is wrong so often and no more."""
    monkeypatch.setattr(distribution, "FALSE_ALARM", 1e-2)
    runs, needed = 800, connections_needed(3, false_alarm=1e-2)

    verdicts = [verdict(chance.integers(3, size=needed), 3) for _ in range(runs)]

    for reason in ("not even", "not random"):
        alarms = sum(reason in said for said in verdicts)
        assert alarms <= stats.binom.isf(BY_CHANCE, runs, 1e-2)
        assert alarms > 0, "a judge that never says no is asleep"


def test_less_is_needed_to_see_more():
    """A judge that has to see only a pod that is off by a half is content with fewer."""
    needed = connections_needed(2, unevenness=0.5)
    draws = {ONE: replies(PASSES[:needed])}

    assert needed < 400
    assert_spread_evenly(draws, over=names(2), unevenness=0.5)
    with pytest.raises(ValueError, match="too few"):
        assert_spread_evenly(draws, over=names(2))


def test_uniform_picks_pass(chance):
    """Picks that are uniform and independent raise no alarm at the limit that is used."""
    needed = connections_needed(3)

    assert [verdict(chance.integers(3, size=needed), 3) for _ in range(100)] == [""] * 100


@pytest.mark.parametrize("connections", [400, 1331])
def test_the_p_value_is_right_far_out(connections):
    """Near one in a thousand million, chi-square for two pods is as the exact test says."""
    near = [
        (p, stats.binomtest(first, connections, 0.5).pvalue)
        for first in range(connections // 2, connections)
        if FALSE_ALARM / 100 < (p := distribution.is_even([first, connections - first])) < 1e-7
    ]

    assert near
    assert all(1 / 2 < p / exact < 2 for p, exact in near)


@pytest.mark.parametrize("pods", [2, 3, 7])
def test_p_values_are_those_of_the_library(chance, pods):
    """Chi-square is what scipy.stats says; the binomial test is that or errs on the safe side."""
    for counts in chance.multinomial(3000, shares(pods, 0.1), size=50):
        repeats = int(counts[0])
        said = stats.binomtest(repeats, 3000, 1 / pods).pvalue
        assert distribution.is_even(counts) == pytest.approx(stats.chisquare(counts).pvalue)
        assert said * 0.999 <= distribution.is_chance(repeats, 3000, 1 / pods) <= 2.1 * said
    assert distribution.is_chance(0, 3000, 1 / pods) < 1e-100
    assert distribution.is_chance(1000, 3000, 1 / 3) == 1


@pytest.mark.parametrize("pods", [2, 3, 5])
def test_round_robin_is_not_random(pods):
    """Pods that take turns get even shares, and are found out because none comes twice in a row."""
    said = verdict(list(range(pods)) * (6600 // pods), pods)

    chance_gives = f"{6599 / pods:.0f}"
    assert f"the same pod twice in a row 0 times, chance gives about {chance_gives}" in said
    assert "not even" not in said


def test_stickiness_is_not_random():
    """A caller that stays on a pod for a while before it goes on to the next is found out."""
    said = verdict([n for n in range(3) for _ in range(1000)], 3)

    assert "not random: the same pod twice in a row 2997 times, chance gives about 1000" in said


def test_too_few_connections_are_no_verdict():
    """A sample in which an uneven pod would go unseen is a mistake of the clause."""
    needed = connections_needed(2)

    with pytest.raises(ValueError, match=f"{needed - 1} connections are too few: {needed} are"):
        assert_spread_evenly({ONE: replies([0, 1] * needed)[: needed - 1]}, over=names(2))


def test_a_little_stickiness_is_not_random(chance):
    """A pod that keeps a quarter more of its callers than chance would is found out."""
    picks = [0]
    for stays, other in zip(chance.random(6000), chance.integers(1, 3, size=6000), strict=True):
        picks.append(picks[-1] if stays < 1 / 3 * 1.25 else (picks[-1] + int(other)) % 3)

    assert "not random" in verdict(picks, 3)


def test_the_wrong_flow_is_marked_and_every_count_is_shown():
    """A failure shows all flows with the counts of all pods, also of one that got nothing."""
    with pytest.raises(UnevenError) as caught:
        assert_spread_evenly(
            {ONE: replies(PASSES), TWO: replies([0] * 1400)}, over=["echo-1", "echo-0"]
        )

    head, right, wrong = str(caught.value).splitlines()
    assert head == "want 700 connections to each pod, give or take"
    assert right == "  outside -> worker-1:30081: echo-0 700, echo-1 700"
    assert wrong.startswith("x outside -> worker-2:30081: echo-0 1400, echo-1 0; not even: p=")


JUDGES = pytest.mark.parametrize(
    "judge", [assert_spread_evenly, assert_spread, assert_one_each, assert_all_met]
)


@JUDGES
def test_replies_that_are_no_answer_are_named(judge):
    """A connection that failed or went to a stranger fails a draw, and is counted by its kind."""
    drawn = replies([0, 0, 0, 0])
    bad = [
        Reply(CUT_OFF, 0.1),
        Reply(SILENT, 2.0),
        Reply(SILENT, 2.1),
        Reply(FOREIGN, 0.1, "nginx-1", None, "not a pod of this service"),
    ]

    with pytest.raises(UnevenError) as caught:
        judge({ONE: drawn + bad}, over=names(2))

    for words in (
        "x outside -> worker-1:30081",
        "4 of 8 wrong: 2 silent, 1 cut off, 1 foreign by nginx-1 (not a pod of this service)",
    ):
        assert words in str(caught.value)


@JUDGES
def test_a_pod_that_is_not_among_those_expected_is_wrong(judge):
    """An answer of a pod of the service that should get nothing fails a draw."""
    with pytest.raises(UnevenError, match="1 of 201 wrong: 1 answered by echo-7"):
        judge({ONE: replies([0, 1] * 100 + [7])}, over=names(2))


@JUDGES
@pytest.mark.parametrize("draws", [{}, {ONE: []}, {ONE: replies([0, 1]), TWO: []}])
def test_nothing_to_judge_is_a_mistake(judge, draws):
    """No flows and a flow without replies prove nothing."""
    with pytest.raises(ValueError, match="nothing was drawn"):
        judge(draws, over=names(2))


@pytest.mark.parametrize("judge", [assert_spread_evenly, assert_spread, assert_one_each])
@pytest.mark.parametrize("pods", [0, 1])
def test_without_a_choice_there_is_nothing_to_judge(judge, pods):
    """Fewer than two pods prove nothing about a choice among them."""
    with pytest.raises(ValueError, match="fewer than two pods"):
        judge({ONE: replies([0, 0])}, over=names(pods))


def test_every_pod_has_to_be_met_through_every_flow():
    """A flow that never reaches one of the pods is marked, and the pod is named."""
    both = replies([0, 1] * 20)
    assert_all_met({ONE: both}, over=names(2))

    with pytest.raises(UnevenError) as caught:
        assert_all_met({ONE: both, TWO: replies([1] * 40)}, over=names(2))

    assert str(caught.value).splitlines() == [
        "want every one of 2 pods",
        "  outside -> worker-1:30081: echo-0 20, echo-1 20",
        "x outside -> worker-2:30081: echo-1 40; never echo-0",
    ]


def test_too_few_connections_meet_nobody():
    """A draw that may miss a pod by chance is a mistake of the clause."""
    with pytest.raises(ValueError, match="30 connections are too few: 31 are needed"):
        assert_all_met({ONE: replies([0, 1] * 15)}, over=names(2))


@pytest.mark.parametrize("pods", [1, 2, 3, 4, 10])
def test_a_pod_is_missed_as_seldom_as_is_said(pods):
    """So many connections miss one of the pods once in a thousand million, and fewer more often."""
    needed = connections_to_meet(pods)

    assert pods * (1 - 1 / pods) ** needed <= FALSE_ALARM
    assert needed == 1 or pods * (1 - 1 / pods) ** (needed - 1) > FALSE_ALARM


@dataclass
class Switched:
    """A caller that is answered by one pod in its first draws, and by two in all later ones."""

    draws_before: int
    name: str = "outside"
    draws: int = 0

    def draw(self, address, port, times, at_once):
        self.draws += 1
        return replies(
            [0] * times if self.draws <= self.draws_before else [0, 1] * (times // 2 + 1)
        )


@dataclass(frozen=True)
class Anybody:
    """An owner of whatever pod."""

    def owns(self, echo):
        return True

    def whereabouts(self, echo):
        return ""


def test_what_comes_true_in_time_holds():
    """Draws go on until the judge has nothing against one; then no more are made."""
    caller = Switched(draws_before=2)
    flow = Flow(caller, Target("worker-1", "192.0.2.1", 1, Anybody()))

    assert_comes_to(assert_all_met, [flow], over=names(2))

    assert caller.draws == 3


def test_one_pod_is_not_all_that_answers_when_another_does_so_too():
    """Where one pod is wanted, a lucky connection among those of another pod is not enough."""
    flow = Flow(Switched(draws_before=0), Target("worker-1", "192.0.2.1", 1, Anybody()))

    with pytest.raises(UnevenError, match="16 of 32 wrong"):
        assert_comes_to(assert_all_met, [flow], over=names(1), within=0.1)


def test_what_does_not_come_true_says_what_was_seen_last():
    """When time runs out, the last verdict is shown with the limit."""
    flow = Flow(Switched(draws_before=999), Target("worker-1", "192.0.2.1", 1, Anybody()))

    with pytest.raises(UnevenError) as caught:
        assert_comes_to(assert_all_met, [flow], over=names(2), within=0.1)

    assert str(caught.value).splitlines() == [
        "not within 0.1 s: want every one of 2 pods",
        "x outside -> worker-1:1: echo-0 31; never echo-1",
    ]


class Early(Switched):
    """A caller whose first draw begins with silence, and takes longer than there is time."""

    def draw(self, address, port, times, at_once):
        drawn = super().draw(address, port, times, at_once)
        if self.draws > 1:
            return drawn
        pause(Event(), 0.2)
        return [Reply(SILENT), *drawn[1:]]


def test_a_draw_that_began_too_early_is_made_again():
    """Silence before a flow was served is not what it comes to."""
    caller = Early(draws_before=0)
    flow = Flow(caller, Target("worker-1", "192.0.2.1", 1, Anybody()))

    assert_comes_to(assert_all_met, [flow], over=names(2), within=0.1)

    assert caller.draws == 2


def test_one_each_lets_flows_differ():
    """Each flow keeps to one pod; another flow may keep to another."""
    assert_one_each({ONE: replies([0] * 200), TWO: replies([1] * 200)}, over=names(2))


def test_one_each_says_after_how_many_a_flow_moved():
    """A flow that reached a second pod is marked with the count of what came before."""
    with pytest.raises(UnevenError) as caught:
        assert_one_each({ONE: replies([0] * 9), TWO: replies([1] * 7 + [0, 1])}, over=names(2))

    assert str(caught.value).splitlines() == [
        "want one pod for all connections of a flow",
        "  outside -> worker-1:30081: echo-0 9",
        "x outside -> worker-2:30081: echo-0 1, echo-1 8; left echo-1 after 7 connections",
    ]
    (wrong,) = caught.value.wrong
    assert (wrong.flow, wrong.outcome) == (TWO, "uneven")
    assert wrong.problem == "left echo-1 after 7 connections"


def test_spread_wants_two_pods_among_all_flows():
    """Flows may each keep to one pod, as long as it is not the same for all of them."""
    assert_spread({ONE: replies([0] * 5), TWO: replies([1] * 5)}, over=names(2))

    with pytest.raises(UnevenError) as caught:
        assert_spread({ONE: replies([0] * 5), TWO: replies([0] * 5)}, over=names(2))
    assert str(caught.value).splitlines() == [
        "want at least two of 2 pods",
        "  outside -> worker-1:30081: echo-0 5",
        "  outside -> worker-2:30081: echo-0 5",
    ]


def test_the_journal_gets_every_verdict():
    """Each flow leaves its sample size and both p-values, whether they hold or not."""
    book = journal.Journal()
    token = journal.current.set(book)
    try:
        assert verdict(PASSES, 2) == ""
        assert "not random" in verdict([0, 1] * 700, 2)
    finally:
        journal.current.reset(token)

    first, second = book.judged
    assert first.startswith("outside -> worker-1:30081: 1400 connections, p=1 for even, p=")
    assert second.endswith("for random")


def test_somebody_moves_at_each_target():
    """One flow that reached two pods is enough at its target, and says nothing of another."""
    here, there = (
        Target("worker-1", "192.0.2.1", 80, None),
        Target("worker-2", "192.0.2.2", 80, None),
    )
    stays, moves, alone = Flow(Named(), here), Flow(Named(), here), Flow(Named(), there)
    a, b = (Reply(ANSWERED, echo=name) for name in names(2))

    assert_some_move({stays: [a, a], moves: [a, b]}, over=names(2))
    with pytest.raises(UnevenError, match="nobody left"):
        assert_some_move({stays: [a, a], moves: [a, b], alone: [b, b]}, over=names(2))
    with pytest.raises(UnevenError, match="1 silent"):
        assert_some_move({stays: [a, Reply(SILENT)], moves: [a, b]}, over=names(2))


@pytest.mark.parametrize("judge", [assert_spread_evenly, assert_all_met])
@pytest.mark.parametrize(
    ("odd", "outcome", "said"),
    [
        ([Reply(FOREIGN)] * 3, "foreign", "3 of 1403 wrong: 3 foreign"),
        ([Reply(SILENT, 3.5)], "silent", "1 of 1401 wrong: 1 silent"),
    ],
)
def test_whoever_looks_for_the_reason_is_told_how_the_odd_ones_ended(judge, odd, outcome, said):
    with pytest.raises(UnevenError, match=said) as caught:
        judge({ONE: replies(PASSES) + odd}, over=names(2))

    assert [wrong.outcome for wrong in caught.value.wrong] == [outcome]


@pytest.mark.parametrize("judge", [assert_spread_evenly, assert_all_met])
def test_a_draw_that_was_cut_short_is_no_lack_of_connections(judge):
    """Where most wait for a lost first packet no more are made, and that is what is wrong."""
    late = [Reply(ANSWERED, 1.1, f"echo-{n % 2}", opened=1.0, waited=1.0) for n in range(51)]

    with pytest.raises(UnevenError, match="51 of 51 waited for a lost first packet, so") as caught:
        judge({ONE: late}, over=names(9))

    assert [wrong.outcome for wrong in caught.value.wrong] == ["held up"]
