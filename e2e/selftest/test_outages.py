"""From attempts to outages: where each began and ended, and what is no outage at all."""

from math import inf

import pytest

from e2e.check.causes import Cause
from e2e.check.outages import Mark, Seen, judge
from e2e.check.troubles import troubles
from e2e.probe import ANSWERED, CUT_OFF, FOREIGN, REFUSED, SILENT

EVERY = 0.05


def marks(*how: tuple[float, float, object]) -> list[Mark]:
    """Write an attempt on every beat of these stretches: from, to, how."""
    made = []
    for since, until, outcome in how:
        count = round((until - since) / EVERY)
        made += [Mark(since + n * EVERY, outcome, outcome == ANSWERED) for n in range(count)]
    return made


def seen(*how: tuple[float, float, object], seconds: float = 100.0, **more) -> Seen:
    return Seen(**{"marks": marks(*how), "looked": [(0.0, seconds)], **more})


def test_quiet_is_no_outage():
    """Where every attempt was answered there is nothing to tell."""
    judged = judge(Seen(expected=2000, looked=[(0.0, 100.0)]))

    assert (judged.outages, judged.endings, judged.not_looked) == ([], [], [])
    assert (judged.answered, judged.lost, judged.looked) == (2000, 0, 100.0)


def test_an_outage_is_between_its_neighbours():
    """It begins in the middle of the last answered attempt and the first lost one."""
    (outage,) = judge(
        seen((9.9, 10, ANSWERED), (10, 10.2, REFUSED), (10.2, 10.3, ANSWERED))
    ).outages

    assert outage.start == pytest.approx(9.975)
    assert outage.end == pytest.approx(10.175)
    assert outage.length == pytest.approx(0.2)
    assert outage.give_or_take == pytest.approx(0.05)
    assert (outage.kind, outage.lost, outage.is_single, outage.goes_on) == (
        REFUSED, 4, False, False,
    )  # fmt: skip


def test_one_lost_attempt_is_a_short_outage():
    """A single one has its neighbours around it, and says that it is single."""
    (outage,) = judge(
        seen((9.95, 10, ANSWERED), (10, 10.05, SILENT), (10.05, 10.1, ANSWERED))
    ).outages

    assert outage.is_single
    assert outage.length == pytest.approx(0.05)


def test_what_is_lost_now_and_then_is_one_outage():
    """With one of three pods gone a third is lost, and that is one outage with gaps."""
    parts = [(n * 0.15, n * 0.15 + 0.05, SILENT) for n in range(20)]
    parts += [(n * 0.15 + 0.05, n * 0.15 + 0.1, ANSWERED) for n in range(-1, 20)]
    (outage,) = judge(seen(*parts)).outages

    assert outage.lost == 20
    assert outage.between == pytest.approx(38, abs=1)


def test_what_is_far_apart_is_two_outages():
    """An outage ends when the flow is answered for half a second."""
    judged = judge(
        seen(
            (9.95, 10, ANSWERED), (10, 10.2, REFUSED), (10.2, 10.25, ANSWERED),
            (10.95, 11, ANSWERED), (11, 11.2, SILENT), (11.2, 11.25, ANSWERED),
        )
    )  # fmt: skip

    assert [round(outage.length, 2) for outage in judged.outages] == [0.2, 0.2]
    assert [outage.kind for outage in judged.outages] == [REFUSED, SILENT]


def test_an_outage_without_an_end_goes_on():
    """Nobody knows how long one is that had not ended when the watch did."""
    (outage,) = judge(seen((9.95, 10, ANSWERED), (10, 12, SILENT))).outages

    assert outage.goes_on


def test_a_row_that_is_summed_up_counts_whole():
    """Rows of attempts that are told in one line count as attempts."""
    row = Mark(15.0, SILENT, expected=False, to=19.95, count=100)
    made = marks((9.95, 10, ANSWERED), (10, 15, SILENT), (20, 20.05, ANSWERED))
    (outage,) = judge(Seen(marks=[*made, row], looked=[(0, 30)])).outages

    assert outage.lost == 200
    assert outage.length == pytest.approx(10.0)


def test_a_late_answer_is_no_lost_one():
    """A silent attempt that was answered when patience was over counts as answered, and as late."""
    judged = judge(
        seen((9.95, 10, ANSWERED), (10, 10.05, SILENT), (10.05, 10.1, ANSWERED), late=[10.0])
    )

    assert (judged.outages, judged.late, judged.lost) == ([], 1, 0)


def test_a_late_answer_in_a_row_takes_no_other_away():
    """A row that is told in one line is lost but for those of it that were answered late."""
    row = Mark(15.0, SILENT, expected=False, to=15.65, count=14)
    made = [Mark(14.95, ANSWERED, expected=True), row, Mark(15.7, ANSWERED, expected=True)]
    judged = judge(Seen(marks=made, looked=[(0, 30)], late=[15.0]))

    assert [outage.lost for outage in judged.outages] == [13]
    assert (judged.lost, judged.late) == (13, 1)


def test_a_stretch_without_looking_is_no_outage():
    """Time in which nobody asked is told, and makes no outage and no outage longer."""
    judged = judge(seen((9.95, 10, ANSWERED), (12.0, 12.05, ANSWERED), held=[(10.0, 12.0)]))

    assert judged.outages == []
    assert judged.not_looked == [(10.0, 12.0)]
    assert judged.looked == pytest.approx(98.0)

    (outage,) = judge(
        seen(
            (9.95, 10, ANSWERED), (12, 12.2, REFUSED), (12.2, 12.25, ANSWERED), held=[(10.0, 12.0)]
        )
    ).outages
    assert outage.start == pytest.approx(12.0)
    assert outage.length == pytest.approx(0.175)


def test_a_stretch_without_looking_inside_an_outage_is_told():
    """Both sides of it are one outage, of which part is not known."""
    (outage,) = judge(
        seen(
            (9.95, 10, ANSWERED), (10, 11, SILENT), (14, 15, SILENT), (15, 15.05, ANSWERED),
            held=[(11.0, 14.0)],
        )
    ).outages  # fmt: skip

    assert outage.length == pytest.approx(5.0)
    assert outage.blind == pytest.approx(3.0)
    assert outage.between == 0


def test_a_gap_between_recorders_is_not_looked():
    """Where no recorder says that it asked, nobody did."""
    judged = judge(Seen(looked=[(0.0, 10.0), (12.5, 20.0), (20.0, 30.0)]))

    assert judged.not_looked == [(10.0, 12.5)]


def test_a_kept_connection_may_end():
    """Its end is no outage where the next one opened at once; a row of cut ones is one."""
    once = seen(
        (9.95, 10, ANSWERED), (10, 10.05, CUT_OFF), (10.05, 10.1, ANSWERED),
        closed=[(10.01, "echo-a-0")],
    )  # fmt: skip
    (ending,) = judge(once).endings
    assert (ending.pod, ending.lost) == ("echo-a-0", 1)
    assert judge(once).outages == []

    unasked = seen(closed=[(10.01, "echo-a-0")])
    assert [(e.at, e.lost) for e in judge(unasked).endings] == [(10.01, 0)]

    longer = seen(
        (9.95, 10, ANSWERED), (10, 10.05, CUT_OFF), (10.05, 10.6, REFUSED), (10.6, 10.7, ANSWERED),
        closed=[(10.01, "echo-a-0")],
    )  # fmt: skip
    assert judge(longer).endings == []
    assert judge(longer).outages[0].kinds == {CUT_OFF: 1, REFUSED: 11}


def test_who_is_cut_off_again_and_again_has_an_outage():
    """As by somebody who takes connections and resets them; the last one is followed at once."""
    cut = seen(
        (9.95, 10, ANSWERED), (10, 70, CUT_OFF), (70, 70.05, ANSWERED), closed=[(10.01, "echo-a-0")]
    )  # fmt: skip
    (outage,) = judge(cut).outages

    assert judge(cut).endings == []
    assert (outage.lost, outage.length) == (1200, pytest.approx(60.0, abs=0.06))


def test_before_it_served_first_nothing_is_lost():
    """Of a node that joined an answer is expected from its first one on."""
    joined = seen(
        (10, 12, REFUSED), (12, 12.05, ANSWERED),
        (19.95, 20, ANSWERED), (20, 20.2, REFUSED), (20.2, 20.25, ANSWERED),
        looked=[(10, 30)], serves=12.0, closed=[(11.0, "echo-a-0"), (25.0, "echo-a-1")],
    )  # fmt: skip
    judged = judge(joined)

    (outage,) = judged.outages
    assert (outage.start, outage.lost) == (pytest.approx(19.975), 4)
    assert (judged.lost, judged.unpromised) == (4, 40)
    assert [ending.pod for ending in judged.endings] == ["echo-a-1"]


def test_who_never_served_lost_nothing():
    """Whether it should have is not known by who only calls it; it is told, and no outage."""
    judged = judge(seen((10, 12, SILENT), serves=inf))

    assert (judged.outages, judged.unpromised) == ([], 40)


def test_a_strange_answer_is_one_from_the_beginning():
    """That a node does not serve yet is no reason for answers of somebody else."""
    (outage,) = judge(seen((10, 10.5, REFUSED), (10.5, 11, FOREIGN), serves=inf)).outages

    assert (outage.kind, outage.lost) == (FOREIGN, 10)


def test_where_no_node_is_nothing_is_lost():
    """An outage of a node that is removed for good ends there, and what follows is none."""
    row = Mark(18.0, SILENT, expected=False, to=22.95, count=100)
    made = marks((9.95, 10, ANSWERED), (10, 18, SILENT), (23, 30, SILENT))
    judged = judge(Seen(marks=[*made, row], looked=[(0, 30)], held=[(25, 26)], gone=20.0))

    (outage,) = judged.outages
    assert (outage.end, outage.goes_on) == (pytest.approx(20.0), False)
    assert outage.lost == judged.lost == pytest.approx(200, abs=2)
    assert judged.unpromised == 400 - judged.lost
    assert judged.not_looked == []

    later = seen((9.95, 10, ANSWERED), (20.05, 30, SILENT), gone=20.0, looked=[(0, 30)])
    assert judge(later).outages == []


def test_outages_of_one_reason_are_one_trouble():
    """Paths of a node that are lost together are told together, and apart from other reasons."""
    (outage,) = judge(seen((9.95, 10, ANSWERED), (10, 11, REFUSED), (11, 11.1, ANSWERED))).outages
    mode, drain = Cause("proxy-mode", "a mode"), Cause("drained", "a drain")

    found = troubles(
        [
            ("worker-1", "tcp", outage, mode),
            ("worker-1", "udp", outage, mode),
            ("worker-1", "kept", outage, drain),
            ("worker-2", "tcp", outage, mode),
        ]
    )

    assert [(t.node, t.cause.rule, sorted(t.paths)) for t in found] == [
        ("worker-1", "proxy-mode", ["tcp", "udp"]),
        ("worker-1", "drained", ["kept"]),
        ("worker-2", "proxy-mode", ["tcp"]),
    ]
    assert found[0].kinds == {REFUSED: 40}
