"""Faults on several clusters at once: how they are dealt, and what comes back."""

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from e2e.faults import spread
from e2e.faults.spread import brought, dealt, how_many, try_on_clusters
from e2e.provider import clusters
from e2e.provider.clusters import CLUSTERS
from e2e.provider.lane import Lane
from e2e.provider.steps import Steps
from e2e.report.faults import Fault, faults
from e2e.report.matrix import MATRIX, Matrix, Trial
from e2e.selftest.programs import interrupted

LANE = Lane("v1.37.2", "iptables", "ipv4", "two-workers")
ASKED = {
    "k8s": "v1.37.2", "proxy": "iptables", "family": "ipv4", "shape": "two-workers",
    "node_image": None, "processes": 8, "keep": True, "quick": False, "trust": True,
    "specs": False, "cluster_name": "mine",
}  # fmt: skip
# Says what it was told; each test says how it goes on.
PROGRAM = """
import sys, pathlib
given = dict(word[2:].partition("=")[::2] for word in sys.argv[1:] if word.startswith("--"))
out = pathlib.Path(given["out"])
out.mkdir(parents=True)
print(sorted(given.items()), flush=True)
"""


@pytest.fixture
def some() -> list[Fault]:
    return list(faults())[:6]


@pytest.fixture
def told() -> Console:
    return Console(width=10_000, record=True, quiet=False)


@pytest.fixture
def acts_as(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let the command that is started be a program that goes on like this."""

    def write(more: str) -> None:
        program = tmp_path / "program.py"
        program.write_text(PROGRAM + more)
        monkeypatch.setattr(clusters, "own_program", lambda _: [sys.executable, str(program)])

    return write


def seen_by(seconds: dict[str, float]) -> tuple[Trial, ...]:
    return tuple(
        Trial(fault=name, lane=str(LANE), ended="detected", seconds=took)
        for name, took in seconds.items()
    )


def test_each_cluster_gets_what_takes_as_long(some, monkeypatch):
    names = [fault.name for fault in some]
    took = dict(zip(names, [200.0, 30.0, 50.0, 60.0, 40.0, 20.0], strict=True))
    monkeypatch.setattr(spread, "seen", lambda: seen_by(took))

    parts = [[fault.name for fault in part] for part in dealt(some, 2, LANE)]

    assert parts == [names[:1], names[1:]]
    assert [len(part) for part in dealt(some[:1], 3, LANE)] == [1], "none of them is empty"


def test_a_second_cluster_is_for_many(some):
    assert how_many(some) == 1
    assert how_many(list(faults())) == 2


def test_each_is_told_its_part_and_nothing_else(some, told, tmp_path, acts_as, monkeypatch):
    monkeypatch.setenv("E2E_SHARD", "1/4")
    # Whether all were noticed is said by what each brings, and any other code is an error.
    acts_as("import os; sys.exit(4 if 'E2E_SHARD' in os.environ else 'mine-2' in str(out))")

    assert try_on_clusters(ASKED, [some[:1], some[1:3]], tmp_path, Steps(told)) == 0

    said = told.export_text()
    assert "mine: [('cluster-name', 'mine'), ('clusters', '1'), ('family', 'ipv4'), " in said
    assert f"('fault', '{some[1].name},{some[2].name}')" in said
    assert f"('out', '{tmp_path / CLUSTERS / 'mine-2'}')" in said
    assert "('keep', '')" in said
    assert "quick" not in said


@pytest.mark.parametrize(
    ("ends", "code"),
    [
        ("sys.exit(2 if 'mine-2' in str(out) else 1)", 2),
        ("sys.exit(3 if 'mine-2' in str(out) else 2)", 3),
        ("import os; os.kill(os.getpid(), 9)", 2),
        ("sys.exit(120)", 2),
    ],
)
def test_a_cluster_that_could_not_try_its_part_has_a_code_of_ours(
    some, told, tmp_path, acts_as, ends, code
):
    """Also if its process was killed, or Python itself said how it ended."""
    acts_as(ends)

    assert try_on_clusters(ASKED, [some[:1], some[1:3]], tmp_path, Steps(told)) == code


def test_whoever_is_interrupted_interrupts_each_and_waits(some, told, tmp_path, acts_as):
    """They have to repair what they broke."""
    acts_as("""
import time
try:
    (out / "began").touch()
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(0.5)
    (out / "repaired").touch()
""")

    def both_began() -> bool:
        return len(list(tmp_path.glob(f"{CLUSTERS}/*/began"))) == 2

    with interrupted(both_began):
        try_on_clusters(ASKED, [some[:1], some[1:3]], tmp_path, Steps(told))

    assert len(list(tmp_path.glob(f"{CLUSTERS}/*/repaired"))) == 2


def test_what_was_tried_by_then_comes_back_in_order(some, tmp_path):
    names = [fault.name for fault in some]
    for cluster, tried in (("a", names[1::2]), ("b", names[::2])):
        trials = seen_by(dict.fromkeys(tried, 1.0))
        matrix = Matrix(began=datetime.now(UTC), seconds=1.0, trials=trials)
        matrix.save(tmp_path / CLUSTERS / cluster)
    (tmp_path / CLUSTERS / "c").mkdir()
    (tmp_path / CLUSTERS / "c" / MATRIX).write_text("{")

    assert [trial.fault for trial in brought(tmp_path, some)] == names
    assert brought(tmp_path / "none", some) == ()
