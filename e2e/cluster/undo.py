"""What was changed on nodes, and the commands that change it back."""

import json
import secrets
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from e2e.provider.command import CommandFailedError
from e2e.provider.engine import Engine

FOLDER = "undo"
# What docker and podman say, in lower case.
NO_NODE = "no such container"


class Undo:
    """Commands of an engine, kept in the folder of a run until they have been run.

    Attributes:
        was_used: whether any was noted.
    """

    def __init__(self, engine: Engine, shared: Path) -> None:
        """Take the engine whose containers the nodes are, and the folder of the run."""
        self.engine = engine
        self._folder = shared / FOLDER
        self._noted: list[Path] = []
        self.was_used = False

    def note(self, node: str, command: str) -> None:
        """Note a command to be run on a node, before the node is changed."""
        self._noted.append(self._note(["exec", node, *shlex.split(command)]))

    @contextmanager
    def afterwards(self, *argv: str) -> Iterator[None]:
        """Run a command of the engine when the context ends, or in a later run.

        Args:
            argv: such as `start` and the name of a container that is about to be stopped.

        Raises:
            CommandFailedError: it failed, and stays noted.
        """
        file = self._note(argv)
        try:
            yield
        finally:
            _run(self.engine, [file])

    def all(self) -> None:
        """Run every command that was noted for a node, the last first.

        Raises:
            CommandFailedError: one of them failed, and stays noted; the others were run.
        """
        _run(self.engine, list(reversed(self._noted)))

    def _note(self, argv: Sequence[str]) -> Path:
        self.was_used = True
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._folder / f"{secrets.token_hex(4)}.json"
        file.write_text(json.dumps(argv))
        return file


def is_left(shared: Path) -> bool:
    """Whether a run has noted in its folder what was not undone."""
    return any((shared / FOLDER).glob("*.json"))


def undo_left(engine: Engine, shared: Path) -> int:
    """Run what a run that is dead noted in its folder; returns how many commands that were."""
    files = sorted((shared / FOLDER).glob("*.json"), key=lambda file: -file.stat().st_mtime_ns)
    # It may have been undone already.
    with suppress(CommandFailedError):
        _run(engine, files)
    return len(files)


def _run(engine: Engine, files: list[Path]) -> None:
    failed: CommandFailedError | None = None
    for file in files:
        try:
            engine.run(*json.loads(file.read_text()))
        except CommandFailedError as error:
            # A node that is gone has taken with it what was changed on it.
            if NO_NODE not in error.said.lower():
                failed = error
                continue
        except FileNotFoundError:
            continue  # another process has run it
        file.unlink(missing_ok=True)
    if failed:
        raise failed
