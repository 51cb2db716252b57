"""Reading what Kubernetes' own specs wrote."""

import re
from pathlib import Path

from e2e.provider.node_image.upstream_specs import written
from e2e.provider.specs import Result, focus_on, read_results

REPORT = """<?xml version="1.0" encoding="UTF-8"?>
<testsuites tests="7600"><testsuite name="Kubernetes e2e suite">
  <testcase name="[SynchronizedBeforeSuite]" status="passed" time="0.1"></testcase>
  <testcase name="[It] [sig-apps] Job should run" status="skipped" time="0">
    <skipped message="skipped"></skipped>
  </testcase>
  <testcase name="[It] [sig-network] a NodePort" status="passed" time="12.5"></testcase>
  <testcase name="[It] [sig-network] b NodePort" status="failed" time="3">
    <failure type="failed">no answer</failure>
  </testcase>
  <testcase name="[It] [sig-network] c NodePort" status="skipped" time="0.5">
    <skipped message="skipped - Requires at least 3 nodes (not 2)"></skipped>
  </testcase>
</testsuite></testsuites>
"""


def test_only_selected_specs_are_results(tmp_path: Path) -> None:
    (tmp_path / "junit_01.xml").write_text(REPORT)
    assert read_results(tmp_path) == [
        Result("[sig-network] a NodePort", "passed", 12.5),
        Result("[sig-network] b NodePort", "failed", 3.0),
        Result("[sig-network] c NodePort", "skipped", 0.5, "Requires at least 3 nodes (not 2)"),
    ]


def test_a_name_without_marks_is_the_same_in_every_version() -> None:
    name = "[sig-network] Services should x: http [LinuxOnly] [Feature:Some-Thing] [Slow]"
    assert Result(name, "passed", 1).plain_name == "Services should x: http"


def test_specs_are_selected_by_their_whole_names() -> None:
    pattern = re.compile(focus_on(["Services should a=b", "DNS for a.b"]))
    assert pattern.search("[sig-network] Services should a=b [Conformance]")
    assert pattern.search("[sig-network] DNS for a.b")
    assert not pattern.search("[sig-network] Services should a=b c")
    assert not pattern.search("[sig-network] DNS for a-b")
    # Go reads no other escapes.
    assert not re.search(r"\\[ =:-]", pattern.pattern)


def test_without_names_all_specs_of_node_ports_are_selected() -> None:
    assert re.search(focus_on([]), "[sig-network] Services should prevent NodePort collisions")


def test_no_report_is_no_result(tmp_path: Path) -> None:
    assert read_results(tmp_path) == []


def test_results_are_written_as_a_page() -> None:
    page = written("v1.37.2", "a cluster", [Result("a", "passed", 1.25), Result("b", "failed", 2)])
    assert "with Kubernetes v1.37.2, a cluster: 2 specs, 1 passed, 3 s one after another." in page
    assert "| a | passed | 1.2 |\n| b | failed | 2.0 |\n" in page
