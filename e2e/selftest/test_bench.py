"""The pure parts of the measurements: reading, ratios, the table of specs."""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from e2e.bench import connections, contract, growth, page, rate, specs
from e2e.bench.ground import watch
from e2e.bench.memory import memory_of, tree, work
from e2e.bench.rate import Rate
from e2e.bench.specs import Behaviour
from e2e.errors import CannotRunError
from e2e.probe import ANSWERED, SILENT, Reply, sampler
from e2e.provider.lane import Lane
from e2e.provider.specs import Result
from e2e.report.clauses import Clause, catalogue
from e2e.report.junit import Case, read_cases
from e2e.selftest.programs import CHECKOUT
from e2e.selftest.servers import http_reply, says, serving
from e2e.wait import wait_until

DOCS = Path(__file__).parents[2] / "docs"
JUNIT = """<?xml version="1.0" encoding="utf-8"?><testsuites><testsuite name="pytest">
  <testcase classname="e2e.contract.test_a" name="test_one" time="1.5"><properties>
    <property name="clause" value="a.one"/><property name="covers" value="DP-01 N-02"/>
  </properties></testcase>
  <testcase name="test_two" time="0.25"><properties>
    <property name="clause" value="a.two"/><property name="covers" value="DP-02"/>
  </properties><skipped message="needs two-workers"/></testcase>
  <testcase name="test_three" time="3"><properties>
    <property name="clause" value="a.three"/><property name="covers" value="DP-03"/>
  </properties><failure message="not settled"/></testcase>
  <testcase name="test_four" time="0"><error message="broken"/></testcase>
</testsuite></testsuites>
"""


def case(clause: str, *covers: str, seconds: float = 1.0, ended: str = "held") -> Case:
    return Case(clause, frozenset(covers), seconds, ended)


def clause(
    name: str,
    *,
    covers: tuple[str, ...] = (),
    needs: tuple[str, ...] = (),
    family: str = "core",
) -> Clause:
    return Clause(name, covers, needs, "", "", "", (family,))


def test_clauses_are_read_with_what_they_cover(tmp_path: Path) -> None:
    (tmp_path / "junit.xml").write_text(JUNIT)
    assert read_cases(tmp_path / "junit.xml") == [
        case("a.one", "DP-01", "N-02", seconds=1.5),
        replace(case("a.two", "DP-02", seconds=0.25, ended="skipped"), said="needs two-workers"),
        replace(case("a.three", "DP-03", seconds=3, ended="failed"), said="not settled"),
        replace(case("test_four", seconds=0, ended="broken"), said="broken"),
    ]


# --- memory ----------------------------------------------------------------------------------


def process(proc: Path, number: int, parent: int, kilobytes: int | None = None) -> None:
    folder = proc / str(number)
    folder.mkdir(parents=True)
    # A name may hold what looks like the rest of the line.
    (folder / "stat").write_text(f"{number} (a) S 7 (b) R {parent} {parent} 0\n")
    if kilobytes is not None:
        rest = f"Rss: 99999 kB\nPss: {kilobytes:>15} kB\nPss_Anon: 5 kB\n"
        (folder / "smaps_rollup").write_text(rest)


def test_the_work_of_a_machine_is_all_that_its_cores_did_not_wait(tmp_path: Path) -> None:
    (tmp_path / "stat").write_text("cpu  200 10 90 5000 700 0 100 9 0 0\ncpu0 1 1 1 1 1 1 1 1\n")
    assert work(tmp_path) == 400 / os.sysconf("SC_CLK_TCK")


def test_the_memory_of_a_tree_is_that_of_all_its_processes(tmp_path: Path) -> None:
    process(tmp_path, 10, 1, 100)
    process(tmp_path, 11, 10, 20)
    process(tmp_path, 12, 11, 3)
    process(tmp_path, 13, 11)  # ends while it is looked at
    process(tmp_path, 20, 1, 4000)
    assert tree(10, tmp_path) == {10, 11, 12, 13}
    assert memory_of(10, tmp_path) == 123 * 1024


def test_a_tree_that_has_ended_has_no_memory(tmp_path: Path) -> None:
    process(tmp_path, 20, 1, 4000)
    assert memory_of(10, tmp_path) == 0


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="not on this system")
def test_this_process_has_memory() -> None:
    assert memory_of(os.getpid()) > 1 << 20


# --- the command that is measured ------------------------------------------------------------


def test_a_command_is_watched_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("E2E_KEEP", "1")
    monkeypatch.setenv("E2E_CACHE", "here")
    log = tmp_path / "log"
    code, peak = watch(["sh", "-c", "echo said $E2E_KEEP $E2E_CACHE; sleep 1.2; exit 3"], log)
    assert code == 3
    assert log.read_text() == "said here\n"
    assert peak > 0 or sys.platform != "linux"


def test_an_interrupt_lets_the_command_clean_up(tmp_path: Path) -> None:
    """What it made is gone when the one that watches it has ended."""
    script = "trap 'rm made; exit 2' INT; touch made; while :; do sleep 0.05; done"
    call = f"from e2e.bench.ground import *; watch(['sh', '-c', {script!r}], Path('log'))"
    # Who is started in the background by a shell ignores the signal, and so do its children.
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    argv = [sys.executable, "-c", f"{heed}; {call}"]
    env = os.environ | {"PYTHONPATH": str(CHECKOUT)}
    with subprocess.Popen(argv, cwd=tmp_path, env=env, stderr=subprocess.DEVNULL) as watching:
        wait_until((tmp_path / "made").exists, what="the command", within=30, every=0.02)
        watching.send_signal(signal.SIGINT)
        assert watching.wait(30) != 0
    assert not (tmp_path / "made").exists()


# --- specs beside clauses --------------------------------------------------------------------


def test_every_spec_that_is_known_is_in_the_table() -> None:
    rows = (DOCS / "upstream-specs.md").read_text()
    known = {
        Result(name, "", 0).plain_name for name in re.findall(r"^\| (\[sig.*?) \| ", rows, re.M)
    }
    assert known == {behaviour.spec for behaviour in specs.behaviours()}


def test_the_table_speaks_of_ids_of_the_catalogue() -> None:
    unknown = {
        i for each in specs.behaviours() for i in each.checks if i not in catalogue().behaviours
    }
    assert not unknown
    assert all(each.checks for each in specs.behaviours())


LOOKS = Behaviour("Services should look", ("DP-01", "DP-02"))
SPEC = "[sig-network] Services should look [Conformance]"
BOTH = [case("a.one", "DP-01", "N-01", seconds=2), case("a.two", "DP-02"), case("b.x", "DP-09")]


def test_a_spec_is_compared_with_all_clauses_that_cover_what_it_checks() -> None:
    slower = [case("a.one", "DP-01", seconds=7), case("a.two", "DP-02")]
    found = specs.compare(
        LOOKS,
        [[Result(SPEC, "passed", seconds)] for seconds in (24, 90, 12)],
        [BOTH, slower, BOTH],
    )
    assert found.why_not == ""
    assert found.clauses == ("a.one", "a.two")
    assert (found.theirs, found.ours) == (24, 3)


@pytest.mark.parametrize(
    ("results", "cases", "why"),
    [
        ([], BOTH, "no such spec"),
        ([Result(SPEC, "failed", 3)], BOTH, "was failed"),
        ([Result(SPEC, "skipped", 0, "Need 3 nodes")], BOTH, "skipped: Need 3 nodes"),
        ([Result(SPEC, "passed", 3)], BOTH[:1], "covers DP-02"),
        ([Result(SPEC, "passed", 3)], [BOTH[0], case("a.two", "DP-02", ended="skipped")], "DP-02"),
    ],
)
def test_what_cannot_be_compared_says_why(
    results: list[Result], cases: list[Case], why: str
) -> None:
    found = specs.compare(LOOKS, [results], [cases])
    assert why in found.why_not
    assert found.theirs == found.ours == 0


def test_few_clauses_are_chosen_and_slow_ones_only_where_need_be() -> None:
    clauses = [
        clause("a.one", covers=("DP-01", "N-01")),
        clause("a.slow", covers=("DP-01",), family="slow"),
        clause("a.extended", covers=("DP-02",), family="extended"),
        clause("a.other", covers=("DP-09",)),
        clause("a.restart", covers=("DP-01", "DP-03"), family="disruptive"),
    ]
    assert specs.covering({"DP-01", "DP-02"}, clauses) == ["a.one", "a.extended"]
    assert specs.covering({"DP-03"}, clauses) == ["a.restart"]
    both = clause("a.both", covers=("DP-01", "DP-02"))
    assert specs.covering({"DP-01", "DP-02"}, [*clauses, both]) == ["a.both"]
    assert specs.covering({"DP-77"}, clauses) == []


def specs_figures(*rows: dict[str, object], failed: tuple[str, ...] = ()) -> dict[str, object]:
    usual = {"checks": ["DP-01"], "waits": False, "why_not": "", "clauses": ["a.one"]}
    return {
        "behaviours": [usual | row for row in rows],
        "specs_seconds": [100, 90, 300],
        "clauses_seconds": [10, 11, 8],
        "clauses_failed": list(failed),
    }


def test_the_page_has_a_ratio_for_each_behaviour_and_in_all() -> None:
    text = specs.written(
        specs_figures(
            {"spec": "looks", "theirs": 30.0, "ours": 2.0},
            {"spec": "waits", "theirs": 60.0, "ours": 5.0, "waits": True},
            {"spec": "skips", "why_not": "the spec was skipped", "theirs": 0, "ours": 0},
        )
    )
    assert "2 of 3 specs" in text
    assert "10.0 times as fast" in text
    assert "| looks | 30.0 | DP-01 | `a.one` | 2.0 | 15.0 |" in text
    assert "the specs alone took 30.0 s, 3.0 times" in text
    assert "- skips: the spec was skipped." in text
    assert "failed" not in text


def test_a_clause_that_failed_is_not_hidden() -> None:
    text = specs.written(specs_figures({"spec": "s", "theirs": 1, "ours": 1}, failed=("a.one",)))
    assert "failed in one of these runs: a.one" in text


# --- growth ----------------------------------------------------------------------------------


def test_a_shape_of_so_many_nodes_is_a_kind_config(tmp_path: Path) -> None:
    file = tmp_path / "four.yaml"
    file.write_text(growth.shape_of(4))
    config = Lane("v1.37.2", shape=str(file)).kind_config()
    assert config.count("role: control-plane") == 1
    assert config.count("role: worker") == 3


def test_clauses_that_the_smallest_cluster_cannot_hold_are_left_out() -> None:
    clauses = [
        clause("a.one", needs=("two-workers",)),
        clause("b.two", needs=("default-range",)),
        clause("c.three"),
        clause("d.four", needs=("own-cluster", "two-workers")),
    ]
    assert growth.too_demanding(clauses) == ["a.one", "d.four"]


def test_growth_is_told_in_parts_of_proportion() -> None:
    sizes = [
        {"nodes": 2, "seconds": [40, 20, 22], "held": 30, "failed": []},
        {"nodes": 6, "seconds": [33], "held": 30, "failed": ["c.x"]},
    ]
    text = growth.written({"sizes": sizes, "left_out": ["a.one"], "not_on_all": ["b.two"]})
    assert "| 2 | 22.0 | 30 | 1.00 times | 1.00 times | 100% |" in text
    assert "| 6 | 33.0 | 30 | 1.50 times | 3.00 times | 50% |" in text
    assert "a.one" in text
    assert "Not held on all of them: b.two." in text


# --- connections -----------------------------------------------------------------------------

AB = """
Concurrency Level:      1
Time taken for tests:   5.000 seconds
Complete requests:      20000
Failed requests:        0
Requests per second:    4000.00 [#/sec] (mean)
"""


def test_the_native_generator_is_read() -> None:
    found = connections.read_native(AB, cpu=2.0)
    assert found == Rate(20000, 5.0, 2.0)
    assert (found.per_second, found.cpu_each) == (4000, 100)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (AB.replace("requests:        0", "requests:        3"), "3 requests"),
        (AB + "Non-2xx responses:      7\n", "7 requests"),
        ("apr_socket_connect(): Connection refused (111)", "no figures"),
    ],
)
def test_a_rate_of_failures_is_none(said: str, why: str) -> None:
    with pytest.raises(CannotRunError, match=why):
        connections.read_native(said, cpu=1.0)


def test_our_rate_counts_answers_only() -> None:
    assert rate.timed(lambda: [Reply(ANSWERED)] * 50).connections == 50
    with pytest.raises(ValueError, match="1 of 2 connections"):
        rate.timed(lambda: [Reply(ANSWERED), Reply(SILENT)])


def test_both_of_our_ways_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sampler.RATES, sampler.NEW, 0.0)  # what it is set to goes with this test
    monkeypatch.setattr(rate, "AT_A_TIME", 5)
    with serving(says(http_reply("echo-a"))) as server:
        drawn = rate.draw(server.address, server.port, 0.2)
        seen = len(server.peers)
        assert drawn.connections == seen > 0
        assert rate.watched(server.address, server.port, 100.0, 0.3).connections > 0
        assert len(server.peers) > seen


@pytest.mark.parametrize("limit", [150, 1000, 2500])
def test_the_fastest_beat_that_is_kept_is_found(limit: int) -> None:
    found = rate.fastest(lambda beat: Rate(round(min(beat, limit)), 1.0, 0.5))
    assert limit / 1.3 < found.per_second <= limit


def test_a_moment_of_something_else_does_not_end_the_search() -> None:
    beats = itertools.count()
    found = rate.fastest(lambda beat: Rate(50 if next(beats) % 3 == 1 else min(beat, 900), 1, 0.5))
    assert found.per_second == 900


def test_a_beat_that_brings_silence_is_not_kept() -> None:
    def on_beat(beat: float) -> Rate:
        return rate.timed(lambda: [Reply(ANSWERED if beat < 150 else SILENT)] * 10_000)

    assert rate.fastest(on_beat).connections == 10_000


def test_where_no_beat_is_kept_the_first_tells_the_rate() -> None:
    assert rate.fastest(lambda _: Rate(50, 1.0, 0.5)).per_second == 50


def connection_figures(native: dict[str, Rate], left_out: str = "") -> dict[str, object]:
    return {
        "left_out": left_out,
        "generator": "ab",
        "ours": {"draw": {"what": "ours", "beside": 1, "rates": [vars(Rate(5000, 5.0, 2.5))]}},
        "native": {many: [vars(found)] for many, found in native.items()},
    }


def test_both_callers_stand_beside_each_other() -> None:
    native = {"1": Rate(10000, 5.0, 1.0), "8": Rate(20000, 5.0, 1.0)}
    text = connections.written(connection_figures(native))
    assert "| `draw`: ours | 1 | 1000 | 0.50 | 0.25 | 500 µs | 5.00 |" in text
    assert "| ab | 1 | 2000 | 1.00 | 0.50 | 100 µs | 1.00 |" in text
    assert "| ab | 8 | 4000 | 1.00 | 1.00 | 50 µs | 1.00 |" in text


def test_a_missing_native_generator_is_told() -> None:
    text = connections.written(connection_figures({}, left_out="apt-get is missing"))
    assert "left out: apt-get is missing" in text
    assert "| `draw`: ours | 1 | 1000 | - | - | 500 µs | - |" in text


# --- the page --------------------------------------------------------------------------------

CONTRACT = {
    "seconds": [70.0, 50.0, 60.0],
    "peak_bytes": [400 << 20, 500 << 20, 300 << 20],
    "work": [100.0, 90.0, 80.0],
    "cores": 2,
    "held": 30,
    "failed": [],
    "skipped": ["a.one"],
    "families": ["core", "extended"],
}


def test_the_contract_is_told_with_its_median_and_peak() -> None:
    text = contract.written(CONTRACT)
    assert "core and extended 30 clauses held, 1 skipped (a.one)." in text
    assert "Median 60.0 s" in text
    assert "peak 500 MiB" in text
    assert "worked 90 s meanwhile" in text
    assert "2 of them need 45 s at least" in text
    assert "| 2 | 50.0 | 90 | 500 MiB |" in text


def test_figures_are_kept_beside_those_of_other_measurements(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    page.keep(file, "growth", {"seen": {"day": "earlier"}})
    kept = page.keep(file, "contract", page.section(CONTRACT, "v1 iptables", "2 cores", 3))
    assert json.loads(file.read_text()) == kept
    assert kept["growth"] == {"seen": {"day": "earlier"}}
    assert kept["contract"]["seen"]["times"] == 3


def test_figures_of_another_format_are_dropped(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    file.write_text('{"growth": {"seen": {}}}')
    assert page.keep(file, "contract", {"seen": {}}).keys() == {"format", "contract"}


def test_the_page_tells_what_was_not_measured_and_how_to() -> None:
    text = page.written({"contract": page.section(CONTRACT, "v1 iptables", "2 cores", 3)})
    assert "on v1 iptables; 2 cores." in text
    assert 'Not measured yet: `make bench ARGS="--only growth"`.' in text


def test_what_was_measured_before_stays_on_the_page() -> None:
    """One measurement alone takes nothing away; what stands there twice is written once."""
    before = page.written({"contract": page.section(CONTRACT, "v1 iptables", "2 cores", 3)})
    sizes = [{"nodes": 2, "seconds": [40, 20, 22], "held": 30, "failed": []}]
    figures = {"sizes": sizes, "left_out": [], "not_on_all": []}
    after = page.written({"growth": page.section(figures, "v2 nftables", "4 cores", 1)}, before)

    assert "on v1 iptables; 2 cores." in after
    assert "on v2 nftables; 4 cores." in after
    assert page.written({}, after) == after
