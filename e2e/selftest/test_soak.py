"""Many runs in a row: each is told, none stops them, and what follows is computed."""

from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from e2e.commands import soak
from e2e.commands.soak import Ended, exit_code, told
from e2e.errors import CannotRunError, RefusedError, UsageError
from e2e.provider import ready
from e2e.provider.clusters import CLUSTERS
from e2e.provider.node_image.choose import NodeImage
from e2e.report.outputs import MARK, alone
from e2e.report.result import RESULT
from e2e.selftest.runs import failed, held, run

GREEN, RED = Ended(0, 150), Ended(1, 149, ("a.one",))


def test_what_failed_is_told_with_how_often_it_would_by_chance():
    """Fifty runs make 4,350 verdicts, each of which is wrong once in a thousand million times."""
    said = told([GREEN] * 49 + [RED], 1)

    assert said.startswith("1 of 50 runs failed: a.one\n")
    assert "once in 229,886 times as many (87 verdicts a run" in said
    assert "at most 9.1% of such runs fail" in said


def test_no_failure_is_told_with_what_it_may_still_overlook():
    assert "at most 5.8% of such runs fail" in told([GREEN] * 50, 1)
    assert "at most 100.0% of such runs fail" in told([RED], 2)


def test_how_often_chance_fails_other_runs_is_not_told():
    """Nobody has counted their verdicts."""
    assert "computed" not in told([GREEN] * 50)


@pytest.mark.parametrize(
    ("ended", "code"),
    [([GREEN], 0), ([GREEN, RED], 1), ([RED, Ended(2)], 1), ([GREEN, Ended(2)], 2)],
)
def test_the_exit_code_is_that_of_the_worst(ended, code):
    """A failure before all else; a run without a verdict is no proof, nor is a missing one."""
    assert exit_code(ended, len(ended)) == code
    assert exit_code(ended, len(ended) + 1) == (code or 2)


def test_a_run_that_came_to_no_end_is_told():
    assert str(RED) == "149 held, 1 failed (a.one), 0 not judged"
    assert str(Ended(2)) == "0 held, 0 failed, 0 not judged, though it ended with 2"
    said = told([GREEN] * 50 + [Ended(2)], 1)
    assert "0 of 50 runs failed\n1 came to no verdict" in said
    assert "at most 5.8% of such runs fail" in said
    assert "at most 100.0% of such runs fail" in told([Ended(2)], 1)


@pytest.fixture
def machine(monkeypatch):
    """A machine whose runs come to these results, None for none; gives their command lines."""
    ran = []

    @contextmanager
    def lease(lane, *_, name, keep, **__):
        assert (str(lane), name, keep) == (
            "v1.37.2 nftables ipv4 two-workers", lane.cluster_name, False,
        )  # fmt: skip
        yield

    def of(*results):
        def fake(argv, *_):
            ran.append(argv)
            result = results[len(ran) - 1]
            if isinstance(result, type):
                raise result
            if result is None:
                return 2
            result.save(Path(argv[-1].removeprefix("--out=")))
            return int(any(clause.ended == "failed" for clause in result.clauses))

        monkeypatch.setattr(soak, "run_to_its_end", fake)
        return ran

    monkeypatch.setattr(soak.kind, "lease", lease)
    monkeypatch.setattr(soak, "ensure_engine", lambda _: None)
    monkeypatch.setattr(ready, "ensure_kind", lambda _: "kind")
    monkeypatch.setattr(
        ready.node_image, "resolve", lambda *_: NodeImage("image:1", "v1.37.2", "built", "")
    )
    return of


def soaked(out, *options):
    """What the command comes to with these options."""
    return CliRunner().invoke(soak.soak, [*options, f"--out={out}"], standalone_mode=False)


def test_it_goes_on_after_a_failure(tmp_path, machine):
    """Each run has a folder of its own, all are of one cluster, and that is held meanwhile."""
    ran = machine(run(held("a.one")), run(failed("a.one")), None)

    ended = soaked(tmp_path, "--times=3", "--proxy=nftables", "--only=a")

    assert ended.return_value == 1, ended.output
    assert [argv[-1] for argv in ran] == [f"--out={tmp_path}/00{n}" for n in (1, 2, 3)]
    assert {"--node-image=image:1", "--proxy=nftables", "--only=a"} <= set(ran[0])
    assert "1 of 2 runs failed: a.one" in ended.output
    assert "1 came to no verdict" in ended.output


def keep(out, folder, result):
    (out / CLUSTERS / folder).mkdir(parents=True)
    result.save(out / CLUSTERS / folder)


def test_runs_on_several_clusters_are_counted_together(tmp_path, monkeypatch):
    """Each cluster gets its share, and what its runs left says how they ended."""
    asked = {}

    def fake(commands, out, _):
        asked.update(commands)
        keep(out, "mine/001", run(held("a.one")))
        keep(out, "mine/002", run(held("a.one")))
        keep(out, "mine-2/001", run(failed("a.one")))
        return [0, 1]

    monkeypatch.setattr(soak, "run_on_clusters", fake)

    ended = soaked(tmp_path, "--times=3", "--clusters=2", "--cluster-name=mine", "--only=a")

    assert ended.return_value == 1
    assert "1 of 3 runs failed: a.one" in ended.output
    assert [words[:2] for words in asked.values()] == [["soak", "--times=2"], ["soak", "--times=1"]]
    assert all("--only=a" in words and "--keep" not in words for words in asked.values())


@pytest.mark.parametrize("clusters", [1, 2])
def test_runs_of_an_earlier_soak_go_and_nothing_else(tmp_path, machine, monkeypatch, clusters):
    """Also of one with more runs, or more clusters; a folder without a run's log is not a run's."""
    machine(run(held("a.one")), run(held("a.one")))
    monkeypatch.setattr(soak, "run_on_clusters", lambda *_: [2])
    (tmp_path / MARK).touch()
    for earlier in ("001", "050", f"{CLUSTERS}/mine/001"):
        (tmp_path / earlier).mkdir(parents=True)
        (tmp_path / earlier / "run.log").touch()
    (tmp_path / "2026").mkdir()

    soaked(tmp_path, "--times=2", f"--clusters={clusters}", "--proxy=nftables")

    runs = {"001", "002"} if clusters == 1 else set()
    assert {each.name for each in tmp_path.iterdir()} == {MARK, "2026", *runs}


def soaked_on_two(out, monkeypatch, result, codes):
    """What two clusters come to that end with these codes, the first after one run."""

    def fake(_, out, __):
        keep(out, "mine/001", result)
        return codes

    monkeypatch.setattr(soak, "run_on_clusters", fake)
    return soaked(out, "--times=2", "--clusters=2", "--cluster-name=mine")


def test_a_cluster_that_did_not_come_to_all_its_runs_is_no_proof(tmp_path, monkeypatch):
    ended = soaked_on_two(tmp_path, monkeypatch, run(held("a.one")), [0, 2])

    assert ended.return_value == 2
    assert "0 of 1 run failed" in ended.output


@pytest.mark.parametrize("clusters", [1, 2])
def test_what_another_soak_writes_is_left_alone(tmp_path, machine, monkeypatch, clusters):
    ran = machine(run(held("a.one")))
    monkeypatch.setattr(soak, "run_on_clusters", lambda *_: pytest.fail("it went on"))
    keep(tmp_path, "mine/001", run(held("a.one")))
    (tmp_path / MARK).touch()

    with alone(tmp_path):
        ended = soaked(tmp_path, "--times=2", f"--clusters={clusters}", "--proxy=nftables")

    assert f"another run writes its results to {tmp_path}" in str(ended.exception)
    assert ended.output == ""
    assert not ran
    assert (tmp_path / CLUSTERS / "mine" / "001" / RESULT).exists()


@pytest.mark.parametrize(
    ("codes", "error"),
    [([3, 3], RefusedError), ([2, 4], UsageError), ([2, 1], CannotRunError)],
)
def test_why_no_cluster_came_to_a_run_is_said(tmp_path, monkeypatch, codes, error):
    """With the exit code that one cluster would have."""
    monkeypatch.setattr(soak, "run_on_clusters", lambda *_: codes)

    ended = soaked(tmp_path, "--times=2", "--clusters=2", "--cluster-name=mine")

    assert type(ended.exception) is error
    assert "no run began\n" in str(ended.exception)
    assert "see above what each cluster said" in str(ended.exception)


def test_a_cluster_that_is_refused_is_not_hidden_by_the_runs_of_another(tmp_path, monkeypatch):
    ended = soaked_on_two(tmp_path, monkeypatch, run(failed("a.one")), [1, 3])

    assert ended.return_value == 3
    assert "1 of 1 run failed: a.one" in ended.output


def test_half_a_result_of_a_run_that_was_killed_hides_nothing_else(tmp_path, monkeypatch):
    """Neither what the others came to, nor that somebody stopped them."""

    def fake(_, out, __):
        keep(out, "mine/001", run(held("a.one")))
        (out / CLUSTERS / "mine-2" / "001").mkdir(parents=True)
        (out / CLUSTERS / "mine-2" / "001" / RESULT).write_text("{")
        raise KeyboardInterrupt

    monkeypatch.setattr(soak, "run_on_clusters", fake)

    ended = soaked(tmp_path, "--times=2", "--clusters=2", "--cluster-name=mine")

    assert "0 of 1 run failed\n1 came to no verdict" in ended.output
    assert not isinstance(ended.exception, UsageError)


def test_what_was_seen_until_somebody_stopped_it_is_told(tmp_path, machine):
    machine(run(held("a.one")), KeyboardInterrupt)

    ended = soaked(tmp_path, "--times=50", "--proxy=nftables", "--only=a")

    assert "0 of 1 run failed" in ended.output
    assert ended.exit_code != 0
