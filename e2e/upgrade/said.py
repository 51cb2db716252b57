"""What a command says of itself while it is watched: a line a step, in a file that it is told."""

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from e2e.cluster.happenings import Happening

# Names the file to the command, which may be a script of anybody.
VARIABLE = "NODEPORT_E2E_STEPS"
FILE = "steps.txt"


def say(step: str, node: str = "") -> None:
    """Say what begins now, and on which node; nobody hears it who does not watch."""
    if file := os.environ.get(VARIABLE):
        with Path(file).open("a") as steps:
            steps.write(f"{node}: {step}\n" if node else f"{step}\n")


class Said:
    """Hears what a command says."""

    def __init__(self, folder: Path, nodes: Collection[str]) -> None:
        """Begin an empty file in a folder; a line that begins with the name of a node is of it."""
        self._file = (folder / FILE).absolute()
        self._nodes = nodes
        self._read = 0
        self._file.write_bytes(b"")

    @property
    def variables(self) -> dict[str, str]:
        """What tells the command where to say it."""
        return {VARIABLE: str(self._file)}

    def new(self) -> Iterator[Happening]:
        """The steps that were said since the last time; what is no whole line yet comes later."""
        whole, end, _ = self._file.read_bytes()[self._read :].rpartition(b"\n")
        self._read += len(whole + end)
        for line in filter(str.strip, whole.decode(errors="replace").splitlines()):
            node, colon, step = line.strip().partition(": ")
            is_of_node = bool(colon) and node in self._nodes
            yield Happening(
                "step", node if is_of_node else "", said=step if is_of_node else line.strip()
            )

    def end(self) -> None:
        """Hear nothing more."""
        self._file.unlink(missing_ok=True)
