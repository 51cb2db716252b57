"""`nodeport-e2e watch` as a program, over echoes that go away for a known time."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from e2e.selftest.echoes import Echo, echoing, planned, watched
from e2e.selftest.programs import CHECKOUT
from e2e.upgrade.record import RECORD, Record, load
from e2e.upgrade.story import FlowStory, Story, story_of
from e2e.wait import WaitedInVainError, wait_until

# Python takes a minute to start where other work is twenty times what the cores can do.
LONG = 120.0
STOP = "stop"


def start(folder: Path, *options: str, **more) -> "subprocess.Popen[str]":
    """Start a watch."""
    return subprocess.Popen(
        [sys.executable, "-m", "e2e.cli", "watch", "--folder", folder, "--no-cluster", *options],
        cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, **more,
    )  # fmt: skip


def lines_of(folder: Path) -> list[dict]:
    """What is recorded so far, whole lines only."""
    file = folder / RECORD
    whole = file.read_text().rpartition("\n")[0] if file.exists() else ""
    return [json.loads(line) for line in whole.splitlines()]


def looks(folder: Path, more_than: int = 2) -> bool:
    """Whether every recorder has looked so often in the last stretch."""
    lines = lines_of(folder)
    last = max((n for n, line in enumerate(lines) if line["line"] == "stretch"), default=0)
    return sum(line["line"] == "looked" for line in lines[last:]) > more_than


def pids(folder: Path) -> list[int]:
    """The recorders that write to a folder."""
    mine, found = str(folder.absolute() / RECORD), []
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            if (
                process.name.isdigit()
                and b"e2e.upgrade.recorder" in (process / "cmdline").read_bytes()
            ):
                files = [str(file.readlink()) for file in (process / "fd").iterdir()]
                found += [int(process.name)] if mine in files else []
    return found


def pass_time(seconds: float) -> None:
    """Let a known time go by, in which something is so."""
    with suppress(WaitedInVainError):
        wait_until(lambda: False, what="", within=seconds, every=seconds)


@dataclass
class Watching:
    """A watch that goes on.

    Attributes:
        folder: of its record.
        echoes: by node.
        process: the program.
        said: what it printed at the end.
    """

    folder: Path
    echoes: dict[str, Echo]
    process: "subprocess.Popen[str]"
    said: str = ""

    def inject(self, begin: Callable[[], float], end: Callable[[], float], seconds: float) -> float:
        """Let something be so for a time; gives for how long it really was."""
        began = begin()
        pass_time(seconds)
        return end() - began

    def end(self) -> Story:
        (self.folder / STOP).touch()
        self.said, _ = self.process.communicate(timeout=LONG)
        return story_of(self.record())

    def record(self) -> Record:
        return load(self.folder)


@contextmanager
def watching(folder: Path, *nodes: str, options: tuple[str, ...] = ()) -> Iterator[Watching]:
    """Watch some nodes, each an address of loopback, from the moment on that all are asked."""
    with echoing("127.0.0.2") as one, echoing("127.0.0.3") as two:
        echoes = dict(zip(nodes, (one, two), strict=False))
        planned(folder, [f for name, e in echoes.items() for f in watched(name, e.address, e.port)])
        process = start(folder, "--until", folder / STOP, *options)
        try:
            wait_until(lambda: looks(folder) or process.poll(), what="looks", within=LONG)
            yield Watching(folder, echoes, process)
        finally:
            process.kill()
            process.communicate()


def of(story: Story, node: str, way: str) -> FlowStory:
    """The flow of a node that is asked in a way."""
    return next(f for f in story.flows if (f.flow.node, f.flow.way) == (node, way))
