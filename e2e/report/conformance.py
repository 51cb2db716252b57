"""A report of conformance that whoever makes a CNI or a distribution can publish.

Its shape is that of the Gateway API's conformance reports.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Literal

import yaml
from pydantic import ConfigDict
from pydantic.alias_generators import to_camel

from e2e.report.clauses import Clause
from e2e.report.outputs import CONFORMANCE
from e2e.report.result import ClauseResult, Result
from e2e.report.verdict import Part

NEEDS = "needs "


class Camel(Part):
    """Part of the report; its names, also in docstrings, are as Kubernetes writes names."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class Statistics(Camel):
    """How many clauses ended how.

    Attributes:
        passed: they held.
        failed: they did not.
        broken: that could not be judged.
        skipped: they were not asked, for a reason that is told.
    """

    passed: int = 0
    failed: int = 0
    broken: int = 0
    skipped: int = 0


class Support(Camel):
    """What came of the clauses of one level of support.

    Attributes:
        result: success if all held that were asked for, whose features are there; failure if one
            did not; partial if some could not be judged, were skipped for another reason, or were
            not asked.
        statistics: of them.
        failedTests: clauses that did not hold.
        brokenTests: clauses that could not be judged.
        skippedTests: clauses that were skipped, though their features are there.
        notAskedTests: clauses that the run did not ask.
        supportedFeatures: what clauses need, and found.
        unsupportedFeatures: what clauses need and is not there, with the reason.
    """

    result: Literal["success", "partial", "failure"]
    statistics: Statistics
    failed_tests: tuple[str, ...] = ()
    broken_tests: tuple[str, ...] = ()
    skipped_tests: tuple[str, ...] = ()
    not_asked_tests: tuple[str, ...] = ()
    supported_features: tuple[str, ...] = ()
    unsupported_features: dict[str, str] = {}  # noqa: RUF012  # pydantic copies it


class Profile(Camel):
    """What was asked, by level of support.

    Attributes:
        name: of the contract.
        summary: one sentence.
        core: what must hold on any conformant cluster.
        extended: what depends on an implementation's choice.
    """

    name: str
    summary: str
    core: Support
    extended: Support


class Implementation(Camel):
    """What was tested; who publishes the report fills in the first five.

    Attributes:
        organization: who makes it.
        project: its name.
        url: where it is.
        version: of it.
        contact: whom to ask.
        kubernetes: the version of the API server.
        serviceProxy: what makes node ports work.
        ipFamilies: of the nodes' addresses.
        nodes: how many there are.
    """

    organization: str = ""
    project: str = ""
    url: str = ""
    version: str = ""
    contact: tuple[str, ...] = ()
    kubernetes: str = ""
    service_proxy: str = ""
    ip_families: tuple[str, ...] = ()
    nodes: int = 0


class ConformanceReport(Camel):
    """The whole report.

    Attributes:
        apiVersion: of this shape.
        kind: of this file.
        format: of this file, as a number.
        date: when the run began.
        harness: by what was asked.
        mode: the lane, or that the cluster was found.
        implementation: what was tested.
        profiles: what came of it.
        reproduce: the commands, one after another.
    """

    api_version: Literal["nodeport-e2e/v1"] = "nodeport-e2e/v1"
    kind: Literal["ConformanceReport"] = "ConformanceReport"
    format: Literal[1] = 1
    date: datetime
    harness: str
    mode: str
    implementation: Implementation
    profiles: tuple[Profile, ...]
    reproduce: tuple[str, ...]


def conformance(result: Result, contract: Sequence[Clause]) -> ConformanceReport:
    """Say of a run what it proves of the implementation.

    Args:
        result: the run.
        contract: every clause that there is.
    """
    asked = {clause.clause: clause for clause in result.clauses}
    levels = [
        _support(
            [(each.id, asked.get(each.id)) for each in contract if _extended(each) is extended]
        )
        for extended in (False, True)
    ]
    if not result.whole or result.gaps or result.shard:
        levels = [_of_part(level) for level in levels]
    words = ", ".join(
        f"{name} {level.result}" for name, level in zip(("core", "extended"), levels, strict=True)
    )
    found = result.found
    return ConformanceReport(
        date=result.began,
        harness=result.environment.get("harness", "nodeport-e2e"),
        mode=result.where,
        implementation=Implementation(
            kubernetes=found.version,
            service_proxy=found.proxy,
            ip_families=found.families,
            nodes=len(found.nodes),
        )
        if found
        else Implementation(),
        profiles=(Profile(name="NodePort", summary=words, core=levels[0], extended=levels[1]),),
        reproduce=(
            "make environment",
            result.reproduce,
            f"cat out/{CONFORMANCE}",
        ),
    )


def as_yaml(report: ConformanceReport) -> str:
    """The report as it is published."""
    data = report.model_dump(mode="json", by_alias=True)
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100)


def _extended(clause: Clause) -> bool:
    return "extended" in clause.families


def _support(clauses: Sequence[tuple[str, ClauseResult | None]]) -> Support:
    asked = [clause for _, clause in clauses if clause]
    ended = {kind: [each.clause for each in asked if each.ended == kind]
             for kind in ("held", "failed", "broken", "skipped")}  # fmt: skip
    lacking = {each.clause: need for each in asked if (need := _lacking(each))}
    skipped = [clause for clause in ended["skipped"] if clause not in lacking]
    left = [name for name, clause in clauses if clause is None]
    result: Literal["success", "partial", "failure"] = "success"
    if ended["broken"] or skipped or left or not ended["held"]:
        result = "partial"
    if ended["failed"]:
        result = "failure"
    return Support(
        result=result,
        statistics=Statistics(
            passed=len(ended["held"]),
            failed=len(ended["failed"]),
            broken=len(ended["broken"]),
            skipped=len(ended["skipped"]),
        ),
        failed_tests=tuple(ended["failed"]),
        broken_tests=tuple(ended["broken"]),
        skipped_tests=tuple(skipped),
        not_asked_tests=tuple(left),
        supported_features=tuple(sorted(_supported(asked))),
        unsupported_features=dict(sorted(lacking.values())),
    )


def _of_part(level: Support) -> Support:
    """What a run says that did not ask everything: never that all is well."""
    if level.result == "failure":
        return level
    return level.model_copy(update={"result": "partial"})


def _lacking(clause: ClauseResult) -> tuple[str, str] | None:
    """The need for the lack of which a clause was skipped, and the reason."""
    if clause.ended != "skipped" or not clause.said.startswith(NEEDS):
        return None
    need, _, why = clause.said.removeprefix(NEEDS).partition(": ")
    return need, why


def _supported(clauses: Iterable[ClauseResult]) -> set[str]:
    return {need for clause in clauses if clause.ended != "skipped" for need in clause.needs}
