"""Hands out the node ports that clauses choose themselves, so that two never choose the same."""

import re
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from e2e import timing
from e2e.cluster.api import Api
from e2e.errors import CannotRunError, ProbeBrokenError
from e2e.provider.cache import only_one
from e2e.wait import WaitedInVainError, wait_until

RANGE = re.compile(r"The range of valid ports is (\d+)-(\d+)")


@dataclass
class PortBroker:
    """Node ports of one cluster, each lent to one clause at a time on this machine.

    Attributes:
        folder: where the locks are.
        held: gives all of them back when it closes.
    """

    api: Api
    folder: Path
    held: ExitStack
    _range: range | None = field(default=None)

    @property
    def allowed(self) -> range:
        """The node ports of this cluster, as it says itself when it refuses one outside."""
        if self._range is None:
            # Two numbers, in case that one of them should be inside.
            for number in (1, 65535):
                spec = {"type": "NodePort", "ports": [{"port": 80, "nodePort": number}]}
                metadata = {"generateName": "range-", "namespace": "default"}
                body = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}
                answer = self.api.submit(body)
                if answer["kind"] == "Service":
                    self.api.delete("Service", answer["metadata"]["name"], "default")
                elif said := RANGE.search(answer["message"]):
                    self._range = range(int(said[1]), int(said[2]) + 1)
                    break
            else:
                raise ProbeBrokenError("the API server did not name its range of node ports")
        return self._range

    @property
    def static_band(self) -> range:
        """The part of the range from which the API server picks last (KEP-3668)."""
        size = min(max(16, len(self.allowed) // 32), 128)
        return self.allowed[:size]

    def hold(self, number: int) -> int:
        """Take one certain number, and wait for a clause that has it.

        Raises:
            CannotRunError: a Service that is not ours has it.
        """
        self._lock(number)
        try:
            # A namespace of an earlier run may still be on its way out, and its Services with it.
            wait_until(
                lambda: number not in self._owners(),
                what=f"the node port {number} to be free",
                within=timing.NAMESPACE_GONE_WITHIN if self._is_ours(number) else 0.0,
            )
        except WaitedInVainError:
            owner = self._owners().get(number, "nobody now")
            raise CannotRunError(
                f"the node port {number} is taken by the Service {owner}",
                "delete that Service, or leave this clause out",
            ) from None
        return number

    def free(self) -> int:
        """Take any number of the static band that nobody has."""
        taken = self._owners()
        for number in reversed(self.static_band):
            if number in taken or number in (self.allowed[0], self.allowed[-1]):
                continue
            try:
                self._lock(number, patience=0.0)
            except CannotRunError:
                continue
            return number
        raise CannotRunError(
            f"no node port is free in {self.static_band[0]}-{self.static_band[-1]}",
            "delete Services that are not needed",
        )

    def _is_ours(self, number: int) -> bool:
        return self._owners().get(number, "").startswith("nodeport-e2e-")

    def _lock(self, number: int, patience: float = timing.PORT_LENT_FOR) -> None:
        lock = self.folder / str(number)
        self.held.enter_context(only_one(lock, waiting=lambda: None, within=patience))

    def _owners(self) -> dict[int, str]:
        return {
            port["nodePort"]: f"{item['metadata']['namespace']}/{item['metadata']['name']}"
            for item in self.api.find_all("Service")
            for port in item["spec"].get("ports", [])
            if "nodePort" in port
        }
