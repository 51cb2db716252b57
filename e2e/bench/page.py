"""The figures of all measurements as a file, and as a page for people."""

import json
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from e2e.bench import connections, contract, growth, specs

SECTIONS: dict[str, ModuleType] = {
    section.NAME: section for section in (contract, specs, connections, growth)
}
# To be raised when figures get another shape: what an earlier version kept cannot be told then.
FORMAT = 1
DOCUMENT = Path(__file__).parents[2] / "docs" / "benchmarks.md"
HEAD = """\
# Benchmarks

Made by `make bench`; do not edit it by hand.
Ratios and times are shown, never asserted: the machine and what else runs on it decide them.
`out/bench.json` has every single figure.

```
make bench
```
"""


def machine() -> str:
    """What this machine is and how busy it is, in one line."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return (
        f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.release()}, "
        f"load {os.getloadavg()[0]:.1f} before it began"
    )


def section(figures: Mapping[str, Any], lane: str, where: str, times: int) -> dict[str, Any]:
    """The figures of one measurement with where and when they were seen."""
    seen = {"day": f"{datetime.now(UTC):%Y-%m-%d}", "lane": lane, "machine": where, "times": times}
    return {"seen": seen, **figures}


def keep(file: Path, name: str, figures: Mapping[str, Any]) -> dict[str, Any]:
    """Put the figures of one measurement beside those of others that were kept; gives all."""
    kept: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    if kept.get("format") != FORMAT:
        kept = {"format": FORMAT}
    kept[name] = dict(figures)
    draft = file.with_suffix(".new")
    draft.write_text(json.dumps(kept, indent=2) + "\n")
    draft.rename(file)
    return kept


def written(kept: Mapping[str, Any], before: str = "") -> str:
    """All figures as a page.

    Args:
        kept: what was measured here.
        before: the page so far, of which the sections stay that were not.
    """
    parts, known = [HEAD], _sections(before)
    for name, what in SECTIONS.items():
        command = f'`make bench ARGS="--only {name}"`'
        parts.append(f"\n## {what.TITLE}\n")
        if name not in kept:
            parts.append(known.get(what.TITLE, f"Not measured yet: {command}.\n"))
            continue
        figures = kept[name]
        seen = figures["seen"]
        parts.append(f"{command}, seen on {seen['day']} on {seen['lane']}; {seen['machine']}.\n")
        parts.append(what.written(figures) + "\n")
    return "\n".join(parts)


def _sections(document: str) -> dict[str, str]:
    """What a page says under each of its titles."""
    _, *sections = document.split("\n## ")
    parted = (section.partition("\n") for section in sections)
    return {title: text.strip("\n") + "\n" for title, _, text in parted}
