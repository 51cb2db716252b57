"""What an API server says of its repair of node port allocations, which it does by itself."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from e2e.cluster.api import Api, Object

# Warnings about a Service whose node port is not allocated as it should be.
REASONS = {"PortNotAllocated", "PortAlreadyAllocated", "PortOutOfRange", "PortRangeFull"}
ERRORS = re.compile(
    r'^apiserver_nodeport_repair_port_errors_total\{type="(\w+)"\} (\d+)', re.MULTILINE
)
RUNS = "apiserver_nodeport_repair_reconcile_errors_total"


@dataclass(frozen=True)
class Findings:
    """What a repair found.

    Attributes:
        events: reason and message of each warning about the Services.
        errors: how many it counted in the whole cluster, by type.
    """

    events: frozenset[str]
    errors: dict[str, int]

    def since(self, before: "Findings") -> "Findings":
        """What was found after `before` was."""
        grown = {kind: n - before.errors.get(kind, 0) for kind, n in self.errors.items()}
        return Findings(self.events - before.events, {kind: n for kind, n in grown.items() if n})


def read(metrics: str, events: Iterable[Object], services: Collection[str]) -> Findings:
    """The findings in the API server's metrics, and among events those about these Services.

    Raises:
        ValueError: the metrics know of no repair, so it may not run at all.
    """
    if RUNS not in metrics:
        raise ValueError(f"the API server's metrics lack {RUNS}")
    about = [event for event in events if event["involvedObject"]["name"] in services]
    return Findings(
        frozenset(f"{e['reason']}: {e['message']}" for e in about if e["reason"] in REASONS),
        {kind: int(count) for kind, count in ERRORS.findall(metrics)},
    )


def find_repaired(api: Api, namespace: str, services: Collection[str]) -> Findings:
    """Ask the API server for its findings about these Services of a namespace."""
    return read(api.metrics(), api.find_all("Event", namespace), services)
