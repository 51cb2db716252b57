"""Tells a person which step runs, why, and how long it took: one line a step."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.status import Status
from rich.text import Text

from e2e.plain import plain

MARKS = {"done": ("✓", "green"), "skipped": ("-", "cyan"), "failed": ("x", "red")}


@dataclass
class Step:
    """One step while it runs."""

    title: str
    why: str
    _status: Status | None
    _console: Console
    ended: str = "done"
    said: str = ""
    began: float = field(default_factory=time.monotonic)

    def progress(self, doing: str) -> None:
        """Say what is being done now, as words such as "compiling kubelet (3 of 12)"."""
        if self._status:
            self._status.update(Text(f"{self.title}: {plain(doing)}"))
        else:
            self._console.print(
                Text(f"    {self.title}: {plain(doing)} ({time.monotonic() - self.began:.0f} s)"),
                soft_wrap=True,
            )

    def done(self, result: str) -> None:
        """Name the result of a step that did something."""
        self.ended, self.said = "done", result

    def skip(self, because: str) -> None:
        """Name the reason why nothing had to be done."""
        self.ended, self.said = "skipped", because


class Steps:
    """Reports steps to a console; live on a terminal, plain lines elsewhere.

    Attributes:
        console: what they are reported to.
        quiet: whether only failed steps are shown.
        results: what the last step of each title did.
    """

    def __init__(self, console: Console | None = None, *, quiet: bool = False) -> None:
        """Report to `console` (standard error by default); `quiet` shows only failed steps."""
        self.console = console or Console(stderr=True)
        self.quiet = quiet
        self.results: dict[str, str] = {}

    def say(self, text: str) -> None:
        """Say something between two steps, such as who is waited for."""
        if not self.quiet:
            self.console.print(Text(f"    {plain(text)}"), soft_wrap=True)

    @contextmanager
    def step(self, title: str, why: str) -> Iterator[Step]:
        """Run one step; an error inside marks it as failed and goes on upwards."""
        live = self.console.is_terminal and not self.quiet
        status = self.console.status(Text(f"{title}: {why}")) if live else None
        step = Step(title, why, status, Console(quiet=True) if self.quiet else self.console)
        if status:
            status.start()
        try:
            yield step
        except BaseException as error:
            step.ended = "failed"
            step.said = "stopped by you" if isinstance(error, KeyboardInterrupt) else "failed"
            raise
        finally:
            if status:
                status.stop()
            if step.ended == "done":
                self.results[title] = step.said
            if not self.quiet or step.ended == "failed":
                self._print(step)

    def _print(self, step: Step) -> None:
        mark, colour = MARKS[step.ended]
        took = time.monotonic() - step.began
        words = f"{step.said}: {step.why}" if step.said else step.why
        # A Text, not markup: "[x]" is no style here, and the ":a:" of an address is no emoji.
        line = Text.assemble(
            (mark, colour),
            " ",
            (f"{step.title:<12}", "bold"),
            f" {plain(words)} ",
            (f"({took:.1f} s)", "dim"),
        )
        self.console.print(line, soft_wrap=True)
