"""What an API server says of its repair of node port allocations, which it does by itself."""

import re
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
        events: reason and message of each warning about a Service of the namespace.
        errors: how many it counted in the whole cluster, by type.
    """

    events: frozenset[str]
    errors: dict[str, int]

    def since(self, before: "Findings") -> "Findings":
        """What was found after `before` was."""
        grown = {kind: n - before.errors.get(kind, 0) for kind, n in self.errors.items()}
        return Findings(self.events - before.events, {kind: n for kind, n in grown.items() if n})


def read(metrics: str, events: list[Object]) -> Findings:
    """The findings in the API server's metrics and among events.

    Raises:
        ValueError: the metrics know of no repair, so it may not run at all.
    """
    if RUNS not in metrics:
        raise ValueError(f"the API server's metrics lack {RUNS}")
    told = [event for event in events if event["reason"] in REASONS]
    return Findings(
        frozenset(f"{e['reason']} {e['metadata']['uid']}: {e.get('message')}" for e in told),
        {kind: int(count) for kind, count in ERRORS.findall(metrics)},
    )


def find_repaired(api: Api, namespace: str) -> Findings:
    """Ask the API server; events are those of one namespace."""
    return read(api.metrics(), api.find_all("Event", namespace))
