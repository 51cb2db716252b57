"""What was changed on nodes is changed back: by the clause, or by a later run."""

import pytest

from e2e.cluster.undo import FOLDER, Undo, is_left, undo_left
from e2e.provider.command import CommandFailedError


class FakeEngine:
    """Notes what it is asked to run; fails where a word is among it."""

    def __init__(self, failing: str = "", said: str = "no such rule") -> None:
        self.ran: list[tuple[str, ...]] = []
        self._failing, self._said = failing, said

    def run(self, *argv: str) -> str:
        self.ran.append(argv)
        if self._failing and self._failing in argv:
            raise CommandFailedError(list(argv), 1, self._said)
        return ""


def noted(engine, shared) -> Undo:
    undo = Undo(engine, shared)
    undo.note("worker-1", "ip address del 10.0.0.9/32 dev eth0")
    undo.note("worker-2", "pkill -CONT kube-proxy")
    return undo


LAST_FIRST = [
    ("exec", "worker-2", "pkill", "-CONT", "kube-proxy"),
    ("exec", "worker-1", "ip", "address", "del", "10.0.0.9/32", "dev", "eth0"),
]


def test_what_was_noted_is_undone_the_last_first(tmp_path):
    """Every command runs once, in the opposite order, and nothing stays noted."""
    engine = FakeEngine()
    undo = noted(engine, tmp_path)
    assert engine.ran == []

    undo.all()

    assert engine.ran == LAST_FIRST
    assert list((tmp_path / FOLDER).iterdir()) == []


def test_a_failure_does_not_keep_the_others(tmp_path):
    """A command that fails is told, after all others were run."""
    engine = FakeEngine(failing="worker-2")

    with pytest.raises(CommandFailedError):
        noted(engine, tmp_path).all()

    assert engine.ran == LAST_FIRST


def test_a_killed_run_is_undone_by_a_later_one(tmp_path):
    """Notes of a run that was killed are found in its folder; a node that is gone is no error."""
    noted(FakeEngine(), tmp_path)
    engine = FakeEngine(failing="worker-1", said="Error: No such container: worker-1")

    assert undo_left(engine, tmp_path) == 2
    assert sorted(engine.ran) == sorted(LAST_FIRST)
    assert undo_left(engine, tmp_path) == 0


def test_what_could_not_be_undone_is_undone_later(tmp_path):
    """A note stays until its command has been run with success."""
    with pytest.raises(CommandFailedError):
        noted(FakeEngine(failing="worker-2"), tmp_path).all()
    assert is_left(tmp_path)
    engine = FakeEngine()

    assert undo_left(engine, tmp_path) == 1
    assert engine.ran == LAST_FIRST[:1]
    assert not is_left(tmp_path)


def test_what_is_undone_afterwards_is_undone_once(tmp_path):
    """A command runs when its context ends, however it ends, and is not left to a later run."""
    engine = FakeEngine()
    undo = Undo(engine, tmp_path)

    def interrupted() -> None:
        with undo.afterwards("start", "worker-1"):
            assert engine.ran == []
            assert len(list((tmp_path / FOLDER).iterdir())) == 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert engine.ran == [("start", "worker-1")]
    assert undo.was_used
    assert undo_left(engine, tmp_path) == 0
    undo.all()
    assert engine.ran == [("start", "worker-1")]


def test_a_killed_run_is_undone_afterwards_too(tmp_path):
    """What a run that was killed inside a context had noted is found and run."""
    inside = Undo(FakeEngine(), tmp_path).afterwards("unpause", "worker-1")
    inside.__enter__()
    engine = FakeEngine()

    assert undo_left(engine, tmp_path) == 1
    assert engine.ran == [("unpause", "worker-1")]


def test_two_runs_may_undo_at_the_same_time(tmp_path):
    """What another process has undone meanwhile is no error."""

    class Racing(FakeEngine):
        def run(self, *argv: str) -> str:
            for file in (tmp_path / FOLDER).iterdir():
                file.unlink()
            return super().run(*argv)

    noted(FakeEngine(), tmp_path)
    engine = Racing()

    assert undo_left(engine, tmp_path) == 2
    assert len(engine.ran) == 1
