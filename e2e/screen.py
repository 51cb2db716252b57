"""Who looks at a run: somebody at a terminal, a log, nobody until the end, or a program."""

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import click

from e2e.plain import plain

# Of what pytest said, where it did not come to the last screen.
TAIL = 40


@dataclass(frozen=True)
class Screen:
    """What is shown of a run.

    Attributes:
        quiet: the last screen alone.
        as_json: that as JSON, and nothing else on standard output.
    """

    quiet: bool = False
    as_json: bool = False

    @contextmanager
    def shown(self) -> Iterator[tuple[list[str], IO[bytes] | None]]:
        """Give pytest's options and its output, and show what is left to show at the end."""
        if not (self.quiet or self.as_json):
            yield [f"--progress={how_to_tell()}", "-oconsole_output_style=classic"], None
            return
        with tempfile.TemporaryDirectory(prefix="nodeport-e2e-") as folder:
            screen, log = Path(folder) / "screen.json", Path(folder) / "pytest.log"
            try:
                with log.open("wb") as output:
                    yield [f"--screen={screen}"], output
            finally:
                self._show_end(screen, log)

    def _show_end(self, screen: Path, log: Path) -> None:
        if not screen.exists():
            said = log.read_text(errors="replace").splitlines()[-TAIL:]
            click.echo("\n".join(said), err=True)
        elif self.as_json:
            click.echo(screen.read_text(), nl=False)
        else:
            click.echo("\n".join(json.loads(screen.read_text())["screen"]))


def how_to_tell() -> str:
    """Live on a terminal that can move its cursor; in lines elsewhere, and in CI."""
    can_move = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    return "live" if can_move and not os.environ.get("CI") else "plain"


def say(text: str) -> None:
    """Tell people something beside what the command prints."""
    click.echo(plain(text), err=True)
