"""Keeps which clauses were seen to hold on which lane, and how long each took."""

import tomllib
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

LANES = Path(__file__).with_name("lanes.toml")
LANE, SECONDS = "lane: ", "seconds"
HEAD = """\
# Which clauses held on which lane, and how many seconds each took when last noted,
# by `nodeport-e2e document --seen`.
"""


def record(junit: Path) -> str:
    """Keep which clauses a run saw hold on its lane, and how long they took; gives the lane.

    What is known of clauses that it did not ask stays known.
    """
    lane, held, asked = "", {}, set()
    # A run wrote this file a moment ago.
    for case in ET.parse(junit).iter("testcase"):  # noqa: S314
        noted = {p.get("name", ""): p.get("value", "") for p in case.iter("property")}
        lane = noted.get("lane", lane)
        asked.add(noted.get("clause", ""))
        if not any(case.find(tag) is not None for tag in ("failure", "error", "skipped")):
            held[noted["clause"]] = round(float(case.get("time", "0")), 1)
    lane = lane.removeprefix(LANE)
    lines = []
    kept = seen()
    kept[lane] = sorted({*held, *kept.get(lane, [])} - (asked - held.keys()))
    for name, clauses in sorted(kept.items()):
        lines += [f'"{name}" = [', *(f'  "{clause}",' for clause in clauses), "]"]
    lines += ["", f"[{SECONDS}]"]
    lines += [f'"{clause}" = {took}' for clause, took in sorted({**seconds(), **held}.items())]
    LANES.write_text(HEAD + "\n".join(lines) + "\n")
    return lane


def seen() -> dict[str, list[str]]:
    """Which clauses held, by lane; none where there is no such file."""
    return {lane: clauses for lane, clauses in _kept().items() if lane != SECONDS}


def seconds() -> dict[str, float]:
    """How many seconds each clause took, on the lane that was noted last."""
    return dict(_kept().get(SECONDS, {}))


def _kept() -> dict[str, Any]:
    return tomllib.loads(LANES.read_text()) if LANES.exists() else {}
