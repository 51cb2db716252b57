"""What a run of the contract says of each clause in its junit.xml."""

import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

from e2e.report.result import ClauseResult, Result
from e2e.report.summary import BROKEN, FAILED, HELD, SKIPPED

ENDS = ("failure", "error", "skipped")
# How pytest calls what is no pass.
CALLED = {FAILED: "failure", BROKEN: "error", SKIPPED: "skipped"}
# Of what XML 1.0 cannot say, as programs print it.
UNSAYABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
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


def write_cases(result: Result, file: Path) -> None:
    """Write of a result that no pytest made what pytest would have written.

    Raises:
        OSError: it cannot be written.
    """
    suite = ET.Element(
        "testsuite",
        name="nodeport-e2e",
        tests=str(len(result.clauses)),
        failures=str(result.counts.failed),
        errors=str(result.counts.broken),
        skipped=str(result.counts.skipped),
        time=f"{result.seconds:.3f}",
        timestamp=result.began.isoformat(),
    )
    for clause in result.clauses:
        _add_case(suite, clause, result.where)
    root = ET.Element("testsuites", name="nodeport-e2e")
    root.append(suite)
    ET.indent(root, " ")
    ET.ElementTree(root).write(file, encoding="utf-8", xml_declaration=True)


def _add_case(suite: ET.Element, clause: ClauseResult, lane: str) -> None:
    where, _, test = clause.where.partition("::")
    case = ET.SubElement(
        suite,
        "testcase",
        classname=f"e2e.contract.{where.removesuffix('.py')}",
        name=test or clause.clause,
        time=f"{clause.seconds:.3f}",
    )
    noted = [("clause", clause.clause), ("covers", " ".join(clause.covers))]
    noted += [("known_bug", clause.known_bug)] if clause.known_bug else []
    noted.append(("lane", lane))
    noted += [
        ("settled", f"{took:.3f} s, {flows} flows, {looks} looks")
        for took, flows, looks in clause.settled
    ]
    noted += [("converged", f"{took:.3f} s {flow}") for flow, took in clause.converged]
    for name in ("judged", "watched", "measured", "chosen"):
        noted += [(name, value) for value in getattr(clause, name)]
    noted += [("reason", name) for name in clause.reasons]
    if clause.is_wrong:
        noted += [("said", clause.said), ("ended", clause.ended), ("evidence", clause.evidence)]
    properties = ET.SubElement(case, "properties")
    for name, value in noted:
        ET.SubElement(properties, "property", name=name, value=_sayable(value))
    if clause.ended in CALLED:
        said = _sayable(clause.said)
        ET.SubElement(case, CALLED[clause.ended], message=said).text = said


def _sayable(text: str) -> str:
    return UNSAYABLE.sub("\ufffd", text)


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
