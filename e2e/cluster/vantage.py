"""Vantages inside the cluster: a pod on a node, or a pod on a node's own network."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from kubernetes.dynamic.exceptions import DynamicApiError

from e2e.cluster.api import Api
from e2e.errors import ProbeBrokenError
from e2e.probe import CUT_OFF, FOREIGN, NO_ROUTE, REFUSED, SILENT, Outcome, Reply
from e2e.probe.reply import reply_from

# The words of Go's net package, in which agnhost reports how a call ended.
BY_WORDS: Sequence[tuple[str, Outcome]] = (
    ("malformed HTTP", FOREIGN),
    ("connection refused", REFUSED),
    ("deadline exceeded", SILENT),
    ("i/o timeout", SILENT),
    ("connection timed out", SILENT),
    ("no route to host", NO_ROUTE),
    ("network is unreachable", NO_ROUTE),
    ("connection reset by peer", CUT_OFF),
    ("EOF", CUT_OFF),
)


@dataclass(frozen=True)
class PodVantage:
    """An echo pod as a caller; asked to call through the API server, so that it works anywhere.

    Attributes:
        name: what messages call it.
        pod: the pod that calls.
        namespace: where it lives.
        port: the port on which it takes the request to call.
    """

    api: Api
    name: str
    pod: str
    namespace: str
    port: int

    def call(self, address: str, port: int) -> Reply:
        """Let the pod ask once; it gives up after 5 s, which is agnhost's own limit."""
        query = {"host": address, "port": str(port), "request": "hostname", "protocol": "http"}
        try:
            said = self.api.ask_pod(self.pod, self.namespace, self.port, "/dial", query)
            result = json.loads(said)
        except (DynamicApiError, json.JSONDecodeError) as error:
            raise ProbeBrokenError(f"{self.name} could not be asked to call: {error}") from error
        if responses := result.get("responses"):
            return reply_from(responses[0], 0.0)
        if not result:
            # agnhost loses the error of a reply that ends in the middle.
            return Reply(CUT_OFF)
        words = "; ".join(result.get("errors", []))
        for sign, outcome in BY_WORDS:
            if sign in words:
                return Reply(outcome)
        raise ProbeBrokenError(f"{self.name} ended its call in an unknown way: {said!r}")

    def draw(self, address: str, port: int, times: int) -> list[Reply]:
        """Let the pod ask `times` times, one after another."""
        return [self.call(address, port) for _ in range(times)]
