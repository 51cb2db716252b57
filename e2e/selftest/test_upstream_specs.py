"""Reading what Kubernetes' own specs wrote."""

from pathlib import Path

from e2e.provider.node_image.upstream_specs import Result, read_results, written

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
        Result("[sig-network] c NodePort", "skipped", 0.5),
    ]


def test_no_report_is_no_result(tmp_path: Path) -> None:
    assert read_results(tmp_path) == []


def test_results_are_written_as_a_page() -> None:
    page = written("v1.37.2", "a cluster", [Result("a", "passed", 1.25), Result("b", "failed", 2)])
    assert "with Kubernetes v1.37.2, a cluster: 2 specs, 1 passed, 3 s one after another." in page
    assert "| a | passed | 1.2 |\n| b | failed | 2.0 |\n" in page
