"""What a run of the contract says of each clause in its junit.xml."""

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

HELD, FAILED, SKIPPED = "held", "failed", "skipped"


@dataclass(frozen=True)
class Case:
    """One clause of a run.

    Attributes:
        clause: its id.
        covers: the ids of the catalogue that it covers.
        seconds: set-up, call and tear-down.
        ended: held, failed or skipped.
    """

    clause: str
    covers: frozenset[str]
    seconds: float
    ended: str


def read_cases(file: Path) -> list[Case]:
    """Every clause of a run."""
    # The run wrote this file a moment ago.
    return [_case(each) for each in ET.parse(file).iter("testcase")]  # noqa: S314


def _case(element: ET.Element) -> Case:
    noted = {each.get("name", ""): each.get("value", "") for each in element.iter("property")}
    inside = {child.tag for child in element}
    ended = FAILED if inside & {"failure", "error"} else SKIPPED if "skipped" in inside else HELD
    return Case(
        noted.get("clause", element.get("name", "")),
        frozenset(noted.get("covers", "").split()),
        float(element.get("time", 0)),
        ended,
    )
