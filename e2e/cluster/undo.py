"""What was changed on nodes, and the commands that change it back."""

import json
import secrets
import shlex
from contextlib import suppress
from pathlib import Path

from e2e.provider.command import CommandFailedError
from e2e.provider.engine import Engine

FOLDER = "undo"


class Undo:
    """Commands to be run on nodes, kept in the folder of a run until they have been."""

    def __init__(self, engine: Engine, shared: Path) -> None:
        """Take the engine whose containers the nodes are, and the folder of the run."""
        self.engine = engine
        self._folder = shared / FOLDER
        self._noted: list[Path] = []

    def note(self, node: str, command: str) -> None:
        """Note a command before the node is changed."""
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._folder / f"{secrets.token_hex(4)}.json"
        file.write_text(json.dumps({"node": node, "command": command}))
        self._noted.append(file)

    def all(self) -> None:
        """Run every command that was noted, the last first.

        Raises:
            CommandFailedError: one of them failed; the others were run all the same.
        """
        _run(self.engine, list(reversed(self._noted)))


def undo_left(engine: Engine, shared: Path) -> int:
    """Run what a run that is dead noted in its folder; returns how many commands that were."""
    files = sorted((shared / FOLDER).glob("*.json"), key=lambda file: -file.stat().st_mtime)
    # The node may be gone, or all may have been undone already.
    with suppress(CommandFailedError):
        _run(engine, files)
    return len(files)


def _run(engine: Engine, files: list[Path]) -> None:
    failed: CommandFailedError | None = None
    for file in files:
        noted = json.loads(file.read_text())
        try:
            engine.run("exec", noted["node"], *shlex.split(noted["command"]))
        except CommandFailedError as error:
            failed = error
        file.unlink()
    if failed:
        raise failed
