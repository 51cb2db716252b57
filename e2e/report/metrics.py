"""The main figures of a run as OpenMetrics text, for whoever draws them over many runs."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from e2e.report.figures import times_of
from e2e.report.result import Result


def metrics(result: Result) -> str:
    """Gauges of counts, times and flows; the lane is a label of each."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Run(result))
    return str(generate_latest(registry).decode())  # type: ignore[no-untyped-call]


class _Run(Collector):
    def __init__(self, result: Result) -> None:
        self.result = result

    def collect(self) -> Iterable[Metric]:
        """Everything, a family at a time."""
        result = self.result
        yield self._gauge(
            "clauses", "Clauses, by how they ended.", ["ended"],
            {(ended,): number for ended, number in result.counts},
        )  # fmt: skip
        yield self._gauge(
            "clause_wrong", "Clauses that did not hold, or could not be judged.",
            ["clause", "ended"], {(each.clause, each.ended): 1 for each in result.wrong},
        )  # fmt: skip
        flows = Counter(
            (each.vantage, each.node, each.family, "yes" if each.right else "no")
            for clause in result.clauses
            for each in clause.flows
            for _ in range(each.times)
        )
        yield self._gauge(
            "flows", "Flows, by who called through which node, and whether they ended as they may.",
            ["vantage", "node", "family", "right"], flows,
        )  # fmt: skip
        yield self._gauge(
            "converge_seconds", "How long flows took to be right for good, by node.",
            ["through", "percentile"],
            {
                (each.node, percentile): seconds
                for each in times_of(result)
                for percentile, seconds in (
                    ("50", each.p50), ("95", each.p95), ("100", each.slowest),
                )
            },
        )  # fmt: skip
        for name, says, value in (
            ("run_seconds", "How long the run took.", result.seconds),
            ("run_began_timestamp_seconds", "When it began.", result.began.timestamp()),
            ("run_exit_code", "0 all held, 1 a clause did not, 2 no verdict.", result.exit_code),
            ("run_whole", "Whether all was asked that should have been.", int(result.whole)),
        ):
            yield self._gauge(name, says, [], {(): value})

    def _gauge(
        self, name: str, says: str, labels: list[str], values: Mapping[Any, float]
    ) -> Metric:
        family = GaugeMetricFamily(f"nodeport_e2e_{name}", says, labels=["lane", *labels])
        for of, value in values.items():
            family.add_metric([self.result.lane, *of], value)
        return family
