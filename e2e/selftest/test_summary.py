"""The last screen of a run: it fits, and it names what a reader looks for."""

from types import SimpleNamespace

import pytest

from e2e.report.summary import SCREEN, Ending, exit_code, summary

TABLE = """\
not settled in 30 s: 0 of 16 looks agreed, never 3 in a row
  outside -> control-plane:30081: want answered, saw answered by echo-a-0 (worker-1)
x outside -> worker-1:30081: want answered, saw refused
  outside -> worker-2:30081: want answered, saw answered by echo-a-0 (worker-1)
x outside -> worker-3:30081: want answered, saw silent"""
LANE = "lane: v1.37.2 nftables dual two-workers"


def held(clause: str, seconds: float = 0.5) -> Ending:
    return Ending(clause, "held", "", "", seconds)


def failed(clause: str, said: str = TABLE, ended: str = "failed") -> Ending:
    return Ending(clause, ended, said, f"out/evidence/{clause}", 31.0)


def skipped(clause: str, why: str) -> Ending:
    return Ending(clause, "skipped", why, "", 0.0)


def screen(*endings: Ending, status: int = 0, junit: str | None = "out/junit.xml") -> list[str]:
    return summary(list(endings), LANE, 61.4, junit, status).splitlines()


def test_a_run_that_held_is_told_in_four_lines():
    """What held, of which lane, how long, what was slow, and where the figures are."""
    assert screen(
        held("reach.a", 2), held("reach.b", 9.25), held("reach.c"), held("reach.d", 3)
    ) == [
        "4 clauses held, 0 did not; 61 s",
        LANE,
        "slowest: reach.b 9.2 s, reach.d 3.0 s, reach.a 2.0 s",
        "every clause with its figures: out/junit.xml",
    ]


def test_a_failure_shows_why_and_where_the_evidence_is():
    """A failure is its clause, the first line of its table, the wrong lines, and the evidence."""
    assert screen(held("reach.a"), failed("etp.local"), status=1, junit=None) == [
        "1 clause held, 1 did not; 61 s",
        LANE,
        "x etp.local",
        "    not settled in 30 s: 0 of 16 looks agreed, never 3 in a row",
        "    x outside -> worker-1:30081: want answered, saw refused",
        "    x outside -> worker-3:30081: want answered, saw silent",
        "    evidence: out/evidence/etp.local",
        "slowest: reach.a 0.5 s",
    ]


def test_a_failure_without_wrong_lines_shows_what_it_said():
    """What is no table is shown from its beginning, and a failure may have no evidence."""
    said = "want 422 Invalid, saw 201\nin the second place\nand in the third"
    broken = Ending("range.low", "failed", said, "", 1.0)

    assert screen(broken, status=1, junit=None)[2:] == [
        "x range.low",
        "    want 422 Invalid, saw 201",
        "    in the second place",
        "    and in the third",
    ]


def test_reasons_of_skips_are_told_once_each():
    """Clauses that were skipped for one reason stand in one line with it."""
    lines = screen(
        skipped("a.one", "needs two-workers: this cluster has 1 worker"),
        skipped("b.two", "needs outside-caller: no container can be put beside the nodes"),
        skipped("c.three", "needs two-workers: this cluster has 1 worker"),
    )

    assert lines[0] == "0 clauses held, 0 did not, 3 were skipped; 61 s"
    assert lines[3:5] == [
        "- skipped: a.one, c.three: needs two-workers: this cluster has 1 worker",
        "- skipped: b.two: needs outside-caller: no container can be put beside the nodes",
    ]


@pytest.mark.parametrize("rows", [0, 1, 5, 60])
@pytest.mark.parametrize("failures", [1, 2, 3, 5, 6, 40])
def test_it_fits_one_screen_whatever_happened(failures, rows):
    """However many clauses fail, and however long their tables are, the last screen has it all."""
    table = "\n".join(["not settled", *[f"x outside -> worker-{n}:1: no" for n in range(rows)]])
    lines = screen(
        *[failed(f"topic.clause-{n}", table) for n in range(failures)],
        *[held(f"held.clause-{n}") for n in range(100)],
        *[skipped(f"skipped.clause-{n}", f"needs reason-{n % 3}") for n in range(50)],
        status=2,
    )

    assert len(lines) <= SCREEN == 24
    assert max(map(len, lines)) <= 200
    assert lines[0] == f"100 clauses held, {failures} did not, 50 were skipped; 61 s"
    for n in range(min(failures, 5)):
        at = lines.index(f"x topic.clause-{n}")
        # Where there is room for one line, it is the one that names a node.
        wrong = "    x outside -> worker-0:1: no"
        assert lines[at + 1] in (["    not settled", wrong] if rows else ["    not settled"])
        assert f"    evidence: out/evidence/topic.clause-{n}" in lines[at:]
    if failures > 5:
        assert any(line.startswith(f"x and {failures - 5} more: topic.clause-5") for line in lines)
    for n in range(3):
        assert any(line.endswith(f": needs reason-{n}") for line in lines)


def test_what_does_not_fit_is_counted():
    """A table that is too long for its place says how many of its lines are left out."""
    table = "\n".join(["not settled", *[f"x outside -> worker-{n}:1: no" for n in range(60)]])

    lines = screen(failed("a.b", table), status=1, junit=None)

    shown = sum("worker-" in line for line in lines)
    assert shown > 10
    assert f"    … and {60 - shown} more" in lines


@pytest.mark.parametrize(("status", "told"), [(0, False), (1, False), (2, True), (4, True)])
def test_a_run_that_was_ended_says_so(status, told):
    """A run that ended before its last clause is not mistaken for a whole one."""
    ended = "the run was ended before all clauses were asked" in screen(held("a.b"), status=status)

    assert ended == told


def report(ended: str, **what) -> SimpleNamespace:
    usual = {"user_properties": [], "longrepr": None, "duration": 1.5}
    told = {word: word == ended for word in ("passed", "failed", "skipped")}
    return SimpleNamespace(nodeid="e2e/contract/test_x.py::test_y", **usual | told | what)


def test_an_ending_is_read_from_the_report_of_pytest():
    """Clause, kind, message and evidence are those noted."""
    noted = [("clause", "reach.x"), ("said", "why"), ("evidence", "there"), ("ended", "failed")]

    assert Ending.of(report("failed", user_properties=noted)) == Ending(
        "reach.x", "failed", "why", "there", 1.5
    )
    assert Ending.of(report("skipped", longrepr=("x.py", 7, "Skipped: needs a-thing"))) == Ending(
        "test_y", "skipped", "needs a-thing", "", 1.5
    )
    assert Ending.of(report("passed", user_properties=noted[:1])).ended == "held"


def test_what_noted_nothing_is_broken():
    """A report without a note comes from a process that crashed, which is no verdict."""
    crashed = report("failed", longrepr="worker 'gw1' crashed\nwhile running test_y")

    assert Ending.of(crashed) == Ending("test_y", "broken", "while running test_y", "", 1.5)


@pytest.mark.parametrize(
    ("ended", "code"),
    [
        (["held", "skipped"], 0),
        (["held", "failed", "broken"], 1),
        (["held", "broken"], 2),
        (["skipped"], 2),
    ],
)
def test_only_a_failed_clause_is_a_verdict_against_the_cluster(ended, code):
    """1 means that a clause did not hold; what could not be judged, or nothing at all, is 2."""
    assert exit_code([Ending("a.b", kind, "", "", 1.0) for kind in ended]) == code


def test_what_could_not_be_judged_is_told_apart():
    """A clause that could not be judged is counted by itself and marked."""
    lines = screen(held("a.b"), failed("c.d", "no pod", ended="broken"), status=1)

    assert lines[0] == "1 clause held, 0 did not, 1 could not be judged; 61 s"
    assert "x c.d (could not be judged)" in lines


def test_a_run_of_skips_says_that_nothing_was_proved():
    """Nothing but skips is no proof, and the screen says so."""
    assert "nothing was proved" in screen(skipped("a.b", "needs c"), status=0)


def test_the_reason_is_told_before_the_table():
    """A failure whose reason was found says it after its first line, and in one line of room."""
    why = "why: worker-1 lacks rules for this Service: its kube-proxy last synced 41 s ago"
    shown = screen(failed("etp.local", f"{TABLE}\n{why}"), status=1)

    assert shown[3] == "    not settled in 30 s: 0 of 16 looks agreed, never 3 in a row"
    assert shown[4] == f"    {why}"
    many = screen(*(failed(f"etp.{n}", f"{TABLE}\n{why}") for n in range(9)), status=1)
    assert f"    {why}" in many
    assert len(many) <= SCREEN


def test_times_to_converge_are_told_for_all_flows():
    """The screen has the median, the 95th percentile and the slowest of all flows that settled."""
    times = tuple(n / 10 for n in range(1, 102))
    ending = Ending("reach.a", "held", "", "", 1.0, converged=times)

    assert "converged: 101 flows, p50 5.1 s, p95 9.6 s, max 10.1 s" in screen(ending)


def test_a_pinned_bug_is_reported_and_is_no_failure():
    """A clause that pins an upstream bug is told with its issue, and the run still holds."""
    ending = Ending("edits.clobber", "held", "", "", 1.0, known_bug="https://example.test/105610")

    assert "- edits.clobber pins a bug of Kubernetes: https://example.test/105610" in screen(ending)
    assert exit_code([ending]) == 0
