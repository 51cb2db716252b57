"""What a run of the contract says of each clause in its junit.xml."""

import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

from e2e.report.summary import BROKEN, FAILED, HELD, SKIPPED

ENDS = ("failure", "error", "skipped")
TOOK = re.compile(r"(?P<seconds>\d+\.\d+) s (?P<flow>.+)")


@dataclass(frozen=True)
class Case:
    """One clause of a run.

    Attributes:
        clause: its id.
        covers: the ids of the catalogue that it covers.
        seconds: set-up, call and tear-down.
        ended: held, failed, broken or skipped.
        said: the message of a failure, or the reason of a skip.
        converged: seconds until each of its flows was right for good, with the flow.
        chosen: what it saw hold of what the contract leaves to implementations and versions.
        judged: its statistical verdicts.
    """

    clause: str
    covers: frozenset[str]
    seconds: float
    ended: str
    said: str = ""
    converged: tuple[tuple[str, float], ...] = ()
    chosen: tuple[str, ...] = ()
    judged: tuple[str, ...] = ()

    @property
    def is_wrong(self) -> bool:
        """Whether it failed, or could not be judged."""
        return self.ended in (FAILED, BROKEN)


def read_cases(file: Path) -> list[Case]:
    """Every clause of a run, in its order.

    A clause of which more is told than one end, such as one that held and whose undoing failed,
    has the worst of them.

    Raises:
        ET.ParseError: it is no XML, as after a run that was killed.
        OSError: it cannot be read.
    """
    # A run of ours wrote this file.
    cases = [_case(each) for each in ET.parse(file).iter("testcase")]  # noqa: S314
    worst: dict[str, Case] = {}
    for case in cases:
        if case.clause not in worst or (case.is_wrong and not worst[case.clause].is_wrong):
            worst[case.clause] = case
    return list(worst.values())


def _case(element: ET.Element) -> Case:
    properties = [(e.get("name", ""), e.get("value", "")) for e in element.iter("property")]
    noted = dict(properties)
    inside = {child.tag: child.get("message", "") for child in element if child.tag in ENDS}
    if inside.keys() & {"failure", "error"}:
        # A process that crashed notes nothing.
        ended = noted.get("ended", FAILED if "failure" in inside else BROKEN)
    else:
        ended = SKIPPED if "skipped" in inside else HELD
    said = noted.get("said") or next(iter(inside.values()), "")
    return Case(
        noted.get("clause", element.get("name", "")),
        frozenset(noted.get("covers", "").split()),
        float(element.get("time", 0)),
        ended,
        said if ended != HELD else "",
        tuple(_took(value) for key, value in properties if key == "converged"),
        tuple(value for key, value in properties if key == "chosen"),
        tuple(value for key, value in properties if key == "judged"),
    )


def _took(value: str) -> tuple[str, float]:
    said = TOOK.fullmatch(value)
    assert said, f"no time of a flow: {value!r}"
    return said["flow"], float(said["seconds"])
