"""A long watch of echoes that stay: `python -m e2e.selftest.quiet --help`.

Prints what the recorders cost and what was seen; ends with 1 if anything was called an outage, or
if it was not asked as often as was promised.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from e2e.selftest.echoes import planned, watched
from e2e.selftest.watched import lines_of, looks, pass_time, pids, start
from e2e.upgrade.record import RECORD, load
from e2e.upgrade.story import as_text, story_of
from e2e.wait import wait_until

TICK = os.sysconf("SC_CLK_TCK")
# Of the attempts that are due.
ENOUGH = 0.95
WORK = "import os\nos.nice({nice})\nwhile True: pass"


def processor_time(pid: int) -> float:
    """Seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def main() -> int:
    """Watch, and say what it cost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1000.0)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--busy", type=int, default=0, help="processes that only use time")
    parser.add_argument("--nice", type=int, default=0, help="how much they let others go first")
    asked = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = _serve(stack)
        nodes = range(1, asked.nodes + 1)
        planned(folder, [f for n in nodes for f in watched(f"node-{n}", f"127.0.1.{n}", port)])
        for _ in range(asked.busy):
            work = [sys.executable, "-c", WORK.format(nice=asked.nice)]
            stack.callback(subprocess.Popen(work).kill)
        watch = start(folder, "--until", folder / "stop", "--rate", str(asked.rate))
        wait_until(lambda: looks(folder), what="looks", within=60)
        everybody = [watch.pid, *pids(folder)]
        before, began = [processor_time(pid) for pid in everybody], time.monotonic()
        pass_time(asked.seconds)
        took = time.monotonic() - began
        used = [processor_time(pid) - was for pid, was in zip(everybody, before, strict=True)]
        (folder / "stop").touch()
        watch.communicate(timeout=120)
        story = story_of(load(folder))
        size = (folder / RECORD).stat().st_size
        lines = len(lines_of(folder))
    load_now = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    parts = ", ".join(f"{one / took:.1%}" for one in used)
    print(as_text(story))  # noqa: T201
    print(f"of one core: {sum(used) / took:.1%} (the watch itself, then its recorders: {parts})")  # noqa: T201
    print(f"record: {size / took * 3600 / 1e6:.1f} MB an hour, {lines} lines; load {load_now}")  # noqa: T201
    made = sum(flow.judged.answered + flow.judged.lost for flow in story.flows)
    due = took * asked.rate * len(story.flows)
    print(f"{made} attempts, {made / due:.1%} of those that were due")  # noqa: T201
    return 1 if story.troubles or made < ENOUGH * due else 0


def _serve(stack: ExitStack) -> int:
    """Echo on all of loopback, in a process of its own."""
    code = (
        "from e2e.selftest.echoes import Echo\nfrom threading import Event\n"
        "echo = Echo('')\necho.start()\nprint(echo.port, flush=True)\nEvent().wait()"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    stack.callback(process.kill)
    assert process.stdout is not None
    return int(process.stdout.readline())


if __name__ == "__main__":
    sys.exit(main())
