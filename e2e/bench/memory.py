"""What a command costs a machine: memory without shared pages twice, and work of its cores."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

PROC = Path("/proc")
# What follows a process's name, which may hold anything: its state and its parent.
PARENT = re.compile(r".*\) \S (\d+)", re.DOTALL)
SHARE = re.compile(r"^Pss:\s+(\d+) kB", re.MULTILINE)


def memory_of(root: int, proc: Path = PROC) -> int:
    """Bytes of a process tree: a page that several processes share counts as one in all (PSS)."""
    shares = [SHARE.search(_read(proc / str(each) / "smaps_rollup")) for each in tree(root, proc)]
    return sum(int(share[1]) for share in shares if share) * 1024


def work(proc: Path = PROC) -> float:
    """Core seconds that this machine has worked since it began, whoever it was for."""
    user, nice, system, _idle, _waiting, hard, soft, *_ = map(
        int, (proc / "stat").read_text().splitlines()[0].split()[1:]
    )
    return sum((user, nice, system, hard, soft)) / os.sysconf("SC_CLK_TCK")


def tree(root: int, proc: Path = PROC) -> set[int]:
    """A process and all its descendants."""
    parents: dict[int, int] = {}
    for folder in proc.glob("[0-9]*"):
        if match := PARENT.match(_read(folder / "stat")):
            parents[int(folder.name)] = int(match[1])
    return {each for each in parents if _descends(each, root, parents)}


def _descends(process: int, root: int, parents: Mapping[int, int]) -> bool:
    while process != root and process in parents:
        process = parents[process]
    return process == root


def _read(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:  # it has ended meanwhile
        return ""
