"""The history of runs: what is kept, what changed, what is flaky, and since when."""

import json
import random
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from click.testing import CliRunner

from e2e.check.trends import ALWAYS, BETTER, BROKE, FLAKY, MENDED, WORSE, Share, trends
from e2e.cli import group
from e2e.errors import UsageError
from e2e.report import outputs
from e2e.report.history import HISTORY, History
from e2e.report.past import past_of
from e2e.report.run_page import run_page
from e2e.selftest.runs import BEGAN, failed, held, run, skipped


def seen(text):
    """The history of one clause: a dot where it held, an x where it did not."""
    return [(place, each == ".") for place, each in enumerate(text)]


@pytest.mark.parametrize(("text", "kind", "since", "before", "after"), [
    ("............xxxxxxxx", WORSE, 12, Share(0, 12), Share(8, 8)),
    ("xxxxxxxxxx..........", BETTER, 10, Share(10, 10), Share(0, 10)),
    ("....................x.xx.xxx.xx.xxx", WORSE, 20, Share(0, 20), Share(11, 15)),
    ("." * 60 + "x" * 15 + "." * 25, BETTER, 75, Share(15, 15), Share(0, 25)),
    ("." * 20 + "x" * 20 + "." * 20, BETTER, 40, Share(20, 20), Share(0, 20)),
    ("...xx", BROKE, 3, Share(0, 3), Share(2, 2)),
    ("xx...", MENDED, 2, Share(2, 2), Share(0, 3)),
    ("..x....x.....x...", FLAKY, 2, Share(0, 2), Share(3, 15)),
    ("xxxx", ALWAYS, 0, Share(0, 0), Share(4, 4)),
    ("x", ALWAYS, 0, Share(0, 0), Share(1, 1)),
])  # fmt: skip
def test_what_became_of_a_clause_and_since_when(text, kind, since, before, after):
    (trend,) = trends({"a.b": seen(text), "always.held": seen("." * 40)})

    assert (trend.kind, trend.since) == (kind, since)
    assert (trend.before, trend.after) == (before, after)
    assert (trend.p < 0.01) == (kind in (WORSE, BETTER))
    assert trend.low <= after.failed / after.of <= trend.high


def test_what_became_worse_is_told_first():
    found = trends({"c.d": seen("..x.."), "a.b": seen("." * 12 + "x" * 12), "e.f": seen("xxx")})

    assert [each.kind for each in found] == [WORSE, ALWAYS, FLAKY]


def test_clauses_that_fail_at_random_are_seldom_called_worse():
    """One history in a hundred may be: of 60 with 20 flaky clauses and 40 runs at most three."""
    alarms = 0
    for seed in range(60):
        chance = random.Random(seed)  # noqa: S311
        history = {
            f"a.{n}": [(place, chance.random() > 0.1) for place in range(40)] for n in range(20)
        }
        alarms += any(each.kind in (WORSE, BETTER) for each in trends(history))

    assert alarms <= 3


def a_run(number, *clauses, **more):
    began = BEGAN + timedelta(hours=number)
    return run(*clauses, run=f"run-{number}", began=began, **more)


@pytest.fixture
def kept(tmp_path):
    """Twenty runs of a lane in which one clause broke half-way and another is flaky."""
    history = History(tmp_path)
    for number in range(20):
        broke = failed("c.d") if number >= 10 else held("c.d")
        flaky = failed("e.f") if number in (3, 9, 15) else held("e.f")
        timed = held("a.b", converged=(("outside -> worker:1", 0.1 * number),))
        history.add(a_run(number, timed, broke, flaky, skipped("g.h")))
    history.add(a_run(20, held("a.b"), where="lane: v1.36.3 nftables dual two-workers"))
    return history


def test_runs_are_kept_by_lane_in_order(kept):
    lane = "lane: v1.37.2 iptables ipv4 two-workers"
    runs = kept.runs(lane, last=5)

    assert kept.lanes() == [lane, "lane: v1.36.3 nftables dual two-workers"]
    assert [each.run for each in runs] == [f"run-{n}" for n in range(15, 20)]
    assert (runs[-1].began, runs[-1].p95) == (BEGAN + timedelta(hours=19), pytest.approx(1.9))
    assert (runs[-1].held, runs[-1].failed, runs[-1].skipped) == (2, 1, 1)
    assert kept.runs(lane, last=5, asked="make e2e") == []


def test_a_run_is_kept_once(kept):
    kept.add(a_run(19, held("a.b")))

    assert len(kept.runs("lane: v1.37.2 iptables ipv4 two-workers", last=100)) == 20


def test_runs_that_end_together_are_all_kept(tmp_path):
    def add(number):
        History(tmp_path).add(a_run(number, *(held(f"a.{n}") for n in range(50))))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(40)))

    history = History(tmp_path)
    runs = history.runs(history.lanes()[0], last=100)
    assert len(runs) == 40
    assert all(len(each) == 40 for each in history.endings(runs).values())


def command(*argv):
    return CliRunner().invoke(group, ["history", *argv], catch_exceptions=True)


def test_the_command_says_what_changed_and_since_when(kept):
    done = command("--out", str(kept.file.parent), "--lane", "v1.37.2")

    assert done.exit_code == 0, done.output
    lines = [line.strip() for line in done.output.splitlines()]
    assert lines[0].endswith("two-workers: 20 runs since 2026-11-28 01:30")
    assert "x c.d fails more often since 2026-11-28 11:30" in lines
    assert any(
        line.startswith("failed 10 of 10 from then on (69% to 100%), 0 of 10 before; chance gives")
        for line in lines
    )
    assert "~ e.f is flaky since 2026-11-28 04:30" in lines
    assert any(line.startswith("converged, p95: ▁▁▂▂") for line in lines)
    assert "nftables" not in done.output


def test_the_command_gives_the_same_as_json(kept):
    done = command("--out", str(kept.file.parent), "--json", "--last", "15")

    found = json.loads(done.output)["lane: v1.37.2 iptables ipv4 two-workers"]
    assert len(found["runs"]) == 15
    assert {each["clause"]: each["kind"] for each in found["trends"]} == {
        "c.d": "worse",
        "e.f": "flaky",
    }


@pytest.mark.parametrize(("content", "said"), [
    (None, "has no history.sqlite"), (b"no database, though long enough to be one" * 30, "is no"),
    ("PRAGMA user_version = 7", "has the format 7"),
], ids=["none", "broken", "newer"])  # fmt: skip
def test_what_is_no_history_is_a_usage_error_and_spoils_no_run(tmp_path, content, said):
    if isinstance(content, bytes):
        (tmp_path / HISTORY).write_bytes(content)
    elif content:
        with sqlite3.connect(tmp_path / HISTORY) as database:
            database.execute(content)
        database.close()

    done = command("--out", str(tmp_path))
    assert isinstance(done.exception, UsageError)
    assert said in str(done.exception)
    if content:
        page, problem = outputs.write(run(held("a.b")), tmp_path, [])
        assert said in problem
        assert page.exists()


def test_the_page_shows_the_last_runs_and_those_of_what_is_wrong(kept):
    now = a_run(21, held("a.b"), failed("c.d"))
    kept.add(now)
    past = past_of(kept, now)
    page = run_page(now, past)

    assert len(past.runs) == 21
    assert [bar.look for bar in past.clauses["c.d"]] == ["good"] * 10 + ["bad"] * 11
    assert [bar.height for bar in past.clauses["c.d"]] == [3.0] * 10 + [22.0] * 11
    assert "The last 21 like it" in page
    assert "the last 21 runs that judged it here" in page
    assert "2026-11-28 20:30: 2 held, 1 did not, 1 skipped, p95 1.9 s" in page
