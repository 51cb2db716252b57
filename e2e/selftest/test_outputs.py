"""What a run leaves for GitHub, for Prometheus and for whoever publishes its conformance."""

import json

import jsonschema
import pytest
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from e2e.commands import schemas
from e2e.report import outputs
from e2e.report.clauses import Clause, read_clauses
from e2e.report.conformance import as_yaml, conformance
from e2e.report.history import HISTORY
from e2e.report.metrics import metrics
from e2e.report.result import Result
from e2e.report.run_answers import again, run_answers
from e2e.report.step_summary import block, code, step_summary
from e2e.selftest.runs import TABLE, failed, flow, held, run, skipped, whole_run

EVIL = "<script>alert(1)</script>`|\n# [x](javascript:y) ```"


def test_everything_is_written_and_the_page_is_named(tmp_path):
    page, problem = outputs.write(run(held("a.b")), tmp_path / "out", [])

    assert page.name == "report.html"
    assert problem == ""
    made = {*outputs.MADE, HISTORY} - {"junit.xml"}
    assert {file.name for file in page.parent.iterdir()} == made
    assert Result.load(page.parent / "result.json").counts.held == 1


@pytest.mark.parametrize(("clauses", "whole", "verdict", "good", "todo"), [
    ([held("a.b"), skipped("c.d")], True, "The NodePort contract is kept: the one clause that",
     True, "Nothing. 1 clause was skipped here: see why below"),
    ([held("a.b"), failed("c.d")], True, "The NodePort contract is broken: 1 of 2 clauses did not",
     False, "Look at the reasons"),
    ([held("a.b"), failed("c.d", ended="broken")], True, "Not known in full: 1 clause could not be",
     None, "Look at what the harness could not do"),
    ([skipped("a.b")], True, "Nothing was proved", None, "See below why each clause was skipped"),
    ([held("a.b")], False, "Not known in full: 1 clause held. The run was ended before", None,
     "Run it again to its end"),
])  # fmt: skip
def test_the_verdict_is_a_sentence_with_what_to_do(clauses, whole, verdict, good, todo):
    said = run_answers(run(*clauses, whole=whole))

    assert said.verdict.startswith(verdict)
    assert said.good is good
    assert said.todo[0].startswith(todo)


def test_the_most_frequent_reason_is_told_first():
    rare = failed("c.d", said="no\nwhy: worker lacks rules")
    said = run_answers(run(rare, failed("a.b"), failed("e.f")))

    assert said.why == (
        (
            "worker2 answers the node port to itself and to nobody else: calls of others do not "
            "reach it (in 2 clauses)"
        ),
        "worker lacks rules",
    )


def test_one_clause_is_asked_again_of_the_same_cluster():
    command = "make e2e K8S=v1.37.2 FAMILY=dual 'ONLY=affinity DP-06' FAMILIES=all"

    assert again(run(failed("a.b"), reproduce=command), failed("a.b")) == (
        "make e2e K8S=v1.37.2 FAMILY=dual KEEP=1 ONLY=a.b"
    )
    found = run(reproduce="make e2e-here CONTEXT=staging", provider="existing")
    assert again(found, failed("a.b")) == "make e2e-here CONTEXT=staging ONLY=a.b"


def test_a_step_summary_says_first_what_matters():
    text = step_summary(run(held("a.b"), failed("c.d", claim="It holds."), skipped("e.f")))
    lines = text.splitlines()

    assert lines[0] == "### ❌ The NodePort contract is broken: 1 of 2 clauses did not hold."
    assert "| 1 | 1 | 0 | 1 |" in lines
    assert "#### ❌ `c.d`" in lines
    assert f"```text\n{TABLE}\n```" in text
    assert "- needs dual-stack: nodes have one IP family: `e.f`" in lines
    assert lines[-1].startswith("The same again: `make e2e K8S=")


def test_a_step_summary_of_many_failures_fits():
    """GitHub takes a megabyte, and drops all of what is longer."""
    said = "\n".join(["not settled", *["x outside -> worker:1: no" * 4] * 3000])
    text = step_summary(run(*(failed(f"a.{n}", said=said) for n in range(150))))

    assert len(text) < 500_000
    assert "And 130 more: `a.20`" in text


def test_hostile_names_are_no_markdown():
    hostile = failed(EVIL, said=f"{EVIL}\nwhy: {EVIL}", claim=EVIL)
    text = step_summary(run(hostile, skipped(EVIL, EVIL), where=f"cluster: {EVIL}"))
    outside = [part for n, part in enumerate(text.split("````")) if n % 2 == 0]

    assert not any("<script>" in part for part in outside)
    assert not any("[x](" in part for part in outside)
    assert code("a`b") == "`` a`b ``"
    assert block("```").startswith("````text\n")


def test_metrics_are_read_by_an_openmetrics_parser():
    wrong = failed(EVIL, flows=(flow(times=3), flow(right=False)))
    text = metrics(run(held("a.b", converged=(("outside -> worker:1", 0.5),)), wrong))
    read = {each.name: each for each in text_string_to_metric_families(text)}

    def value(name, **labels):
        samples = read[f"nodeport_e2e_{name}"].samples
        return [s.value for s in samples if labels.items() <= s.labels.items()]

    assert value("clauses", ended="held", lane="v1.37.2 iptables ipv4 two-workers") == [1]
    assert value("clause_wrong", clause=EVIL) == [1]
    assert value("flows", right="yes") == [3]
    assert value("flows", right="no", node="worker") == [1]
    assert value("converge_seconds", through="worker", percentile="95") == [0.5]
    assert value("run_exit_code") == [1]
    assert text.endswith("# EOF\n")


def clause(name, *needs, families=("core",)):
    return Clause(name, ("N-01",), needs, "It holds.", "Topic.", "test_x.py::test_y", families)


CONTRACT = [clause("a.b", "two-workers"), clause("c.d", "dual-stack"),
            clause("e.f", families=("extended", "disruptive"))]  # fmt: skip


def test_conformance_tells_what_is_not_supported_from_what_failed():
    found = run(held("a.b", needs=("two-workers",)), skipped("c.d"), failed("e.f"))
    (profile,) = conformance(found, CONTRACT).profiles

    assert profile.summary == "core success, extended failure"
    assert profile.core.supported_features == ("two-workers",)
    assert profile.core.unsupported_features == {"dual-stack": "nodes have one IP family"}
    assert profile.core.skipped_tests == ()
    assert profile.extended.failed_tests == ("e.f",)
    assert profile.extended.statistics.failed == 1


@pytest.mark.parametrize("part", [
    {"whole": False}, {"gaps": ("shard nodes:2/4 is missing",)}, {"shard": "nodes:1/4"},
])  # fmt: skip
def test_conformance_of_a_part_of_a_run_is_never_a_success(part):
    """Whatever has held in it; what failed has failed."""
    (profile,) = conformance(
        run(held("a.b"), held("c.d"), failed("e.f"), **part), CONTRACT
    ).profiles

    assert profile.summary == "core partial, extended failure"


@pytest.mark.parametrize(("clauses", "result", "which"), [
    ([held("a.b")], "partial", {"not_asked_tests": ("c.d",)}),
    ([held("a.b"), skipped("c.d", "the pod network does not")], "partial",
     {"skipped_tests": ("c.d",)}),
    ([held("a.b"), failed("c.d", ended="broken")], "partial", {"broken_tests": ("c.d",)}),
    ([held("a.b"), held("c.d")], "success", {}),
    ([skipped("a.b"), skipped("c.d")], "partial", {}),
])  # fmt: skip
def test_conformance_is_partial_where_something_is_not_known(clauses, result, which):
    core = conformance(run(*clauses), CONTRACT).profiles[0].core

    assert core.result == result
    assert {name: getattr(core, name) for name in which} == which


def test_a_report_of_conformance_is_as_its_schema_says():
    report = yaml.safe_load(as_yaml(conformance(whole_run(), read_clauses())))
    file = schemas.SCHEMAS / "conformance.schema.json"

    jsonschema.validate(report, json.loads(file.read_text()))
    assert report["kind"] == "ConformanceReport"
    assert report["implementation"]["serviceProxy"] == "kube-proxy iptables"
    assert report["reproduce"][1].startswith("make e2e K8S=")
