"""What `verify` and `compare` found, as JUnit XML: CI shows it beside other tests."""

import xml.etree.ElementTree as ET
from typing import Literal

from e2e.report.verdict import Changes, ChurnStep, Verdict

JUNIT = "verdict-junit.xml"

Bad = Literal["failure", "error", "skipped"]
# A step that went wrong fails, and one that could not be judged is an error, as clauses are.
ENDED: dict[str, Bad] = {"failed": "failure", "broken": "error", "left out": "skipped"}


class _Suite:
    """Test cases, and how many of them ended how."""

    def __init__(self, changes: Changes) -> None:
        self._element = ET.Element(
            "testsuite", name=_of_xml(f"{changes.before} -> {changes.after}")
        )

    def case(self, kind: str, name: str, said: str, bad: Bad | None, seconds: float = 0) -> None:
        case = ET.SubElement(
            self._element, "testcase", classname=kind, name=_of_xml(name), time=f"{seconds:.3f}"
        )
        if bad:
            ET.SubElement(case, bad, message=_of_xml(said.partition("\n")[0])).text = _of_xml(said)

    def changes(self, found: Changes) -> None:
        """Add a case for each thing that is not as it was."""
        for each in found.behaviours:
            said = f"{each.before} -> {each.after}: {each.said}"
            bad: Bad | None = "error" if each.unknown else _failure(each.counts)
            self.case("behaviour", each.clause, said, bad)
        for time in found.times:
            said = f"{time.before:.2f} s -> {time.after:.2f} s, p={time.p:.1g}"
            self.case("time", time.what, said, _failure(time.counts))
        for kind in ("allocations", "objects", "defaults", "versions", "setup"):
            for change in getattr(found, kind):
                name = f"{change.about} {change.field}".strip()
                said = f"{change.before} -> {change.after}"
                self.case(kind, name, said, _failure(change.counts))

    def churn(self, step: ChurnStep) -> None:
        """Add a step."""
        self.case("churn", step.name, step.said, ENDED.get(step.ended), step.seconds)

    def xml(self) -> str:
        """The whole file."""
        if not len(self._element):
            self.case("comparison", "nothing is otherwise", "", None)
        for name, bad in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            self._element.set(name, str(len(self._element.findall(f"testcase/{bad}"))))
        self._element.set("tests", str(len(self._element)))
        whole = ET.Element("testsuites")
        whole.append(self._element)
        ET.indent(whole)
        return ET.tostring(whole, encoding="unicode", xml_declaration=True) + "\n"


def changes_junit(found: Changes) -> str:
    """A comparison: one test case for each thing that is not as it was."""
    suite = _Suite(found)
    suite.changes(found)
    return suite.xml()


def verdict_junit(found: Verdict) -> str:
    """A verdict: likewise, and one test case for each budget and each step of the churn.

    It fails where the exit code of `verify` is 1, and has errors alone where that is 2; what was
    not looked at is skipped.
    """
    suite = _Suite(found.changes)
    if found.watched is None:
        suite.case("budget", "what users noticed", "there is no record of a watch", "skipped")
    elif not found.watched.attempts:
        suite.case("budget", "what users noticed", "the watch saw nothing", "error")
    elif found.watched.killed:
        suite.case("budget", "what users noticed after the watch was killed", "not known", "error")
    for budget in found.watched.budgets if found.watched else ():
        said = "\n".join([f"{budget.used}, allowed {budget.allowed}", *budget.where])
        suite.case("budget", budget.name, said, _failure(not budget.kept))
    for step in found.churn:
        suite.churn(step)
    if not found.contract:
        said = "the contract was not asked both times"
        suite.case("behaviour", "every clause", said, "skipped")
    suite.changes(found.changes)
    return suite.xml()


def _failure(counts: bool) -> Bad | None:
    return "failure" if counts else None


def _of_xml(text: str) -> str:
    """Without the characters that XML has no way to write."""
    return "".join(c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in text)
