"""Hands out what clauses choose themselves, so that two of them never choose the same."""

import random
import re
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from e2e import timing
from e2e.cluster.api import Api, Object, judged
from e2e.errors import CannotRunError, ProbeBrokenError
from e2e.provider.cache import only_one
from e2e.wait import WaitedInVainError, wait_until

ALL = range(1, 65536)
RANGE = re.compile(r"The range of valid ports is (\d+)-(\d+)")
TAKEN = re.compile(r"Invalid value: (\d+): provided port is already allocated")
# The last part of an address that is for documentation: 192.0.2.x, 2001:db8::x.
DOCUMENTATION = range(1, 255)
OURS = "nodeport-e2e-"


def find_range(api: Api, namespace: str) -> range:
    """The node ports of a cluster, as it says itself when it refuses one outside.

    Raises:
        ApiRefusedError: permissions, quotas or somebody's admission rules do not let it be asked.
        ProbeBrokenError: it neither names them nor takes the first and the last of all ports.
    """
    for number in (ALL[0], ALL[-1]):
        spec = {"type": "NodePort", "ports": [{"port": 80, "nodePort": number}]}
        metadata = {"generateName": "range-", "namespace": namespace}
        body = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}
        answer = judged("ask for the range of node ports", api.submit(body))
        if answer["kind"] == "Service":
            api.delete("Service", answer["metadata"]["name"], namespace)
        elif said := RANGE.search(answer["message"]):
            return range(int(said[1]), int(said[2]) + 1)
        elif not TAKEN.search(answer["message"]):
            raise ProbeBrokenError(
                f"the API server did not name its range of node ports: {answer['message']}"
            )
    return ALL


def numbers_on_nodes(api: Api) -> set[int]:
    """The TCP numbers that somebody has on nodes: node ports, health checks, and pods' own."""
    found: set[int] = set()
    for service in api.find_all("Service"):
        spec = service["spec"]
        found |= {p.get("nodePort", 0) for p in spec.get("ports", []) if p["protocol"] == "TCP"}
        found.add(spec.get("healthCheckNodePort", 0))
    for pod in api.find_all("Pod"):
        on_host = "containerPort" if pod["spec"].get("hostNetwork") else "hostPort"
        for container in pod["spec"]["containers"]:
            found |= {port.get(on_host, 0) for port in container.get("ports", [])}
    return found - {0}


def static_band(allowed: range) -> range:
    """The part of a range from which the API server picks last (KEP-3668); small ones have none."""
    if len(allowed) <= 16:
        return allowed[:0]
    return allowed[: min(max(16, len(allowed) // 32), 128)]


class TakenError(CannotRunError):
    """Somebody else has the node port that a clause needs, or all of them."""


@dataclass
class PortBroker:
    """Node ports of one cluster, each lent to one clause at a time on this machine.

    Attributes:
        allowed: the range of the cluster.
        folder: where the locks are.
        held: gives everything back when it closes.
        share: which of how many parts of the numbers is this one's, as (0, 2): whoever has the
            others is on another machine, and does not see the locks.
    """

    api: Api
    allowed: range
    folder: Path
    held: ExitStack
    share: tuple[int, int] = (0, 1)

    @property
    def outside(self) -> list[int]:
        """Numbers that are ports and no node ports: the nearest below and above, and the ends."""
        lowest, highest = self.allowed[0], self.allowed[-1]
        numbers = {ALL[0], lowest - 1, highest + 1, ALL[-1]}
        return sorted(n for n in numbers if n in ALL and n not in self.allowed)

    def hold(self, number: int) -> int:
        """Take one certain number, and wait for a clause that has it.

        Raises:
            TakenError: a Service that is not ours has it.
        """
        self._lock(number)
        # A namespace of an earlier run may still be on its way out, and its Services with it.
        self._await_free(number)
        return number

    def insist(self, ask: Callable[[], Object]) -> Object:
        """Ask for a Service, again as long as a number that it wants was picked for one of ours.

        Raises:
            TakenError: a Service that is not ours has the number.
        """
        answer: Object = {}

        def is_decided() -> bool:
            answer.clear()
            answer.update(ask())
            taken = TAKEN.search(answer.get("message", ""))
            if taken:
                self._await_free(int(taken[1]))
            return not taken

        wait_until(is_decided, what="a node port", within=timing.NAMESPACE_GONE_WITHIN)
        return answer

    def free(self) -> int:
        """Take any number that nobody has, of the static band if there is one."""
        taken = self._owners()
        band = static_band(self.allowed) or self.allowed
        for number in self._shared(band[::-1]):
            if number in taken or number in (self.allowed[0], self.allowed[-1]):
                continue
            if self._can_lock(number):
                return number
        raise TakenError(
            f"no node port is free in {band[0]}-{band[-1]}", "delete Services that are not needed"
        )

    @property
    def picked_last(self) -> range:
        """The numbers from which the API server picks only when all others are taken."""
        return static_band(self.allowed)

    def count_free(self) -> int:
        """How many numbers nobody has, of those from which the API server picks first."""
        return len(set(self.free_numbers()) - set(self.picked_last))

    def free_numbers(self) -> list[int]:
        """All numbers that nobody has."""
        return sorted(set(self.allowed) - self._owners().keys())

    def documentation_number(self) -> int:
        """Take a last part for addresses of the networks that are for documentation."""
        for number in random.sample(mine := self._shared(DOCUMENTATION), len(mine)):
            if self._can_lock(f"documentation-{number}"):
                return number
        raise CannotRunError("all documentation addresses are in use", "wait for the other runs")

    def _shared(self, numbers: range) -> list[int]:
        """Those that others leave to this one; all, if there are fewer than who share them."""
        place, of = self.share
        return [number for number in numbers if number % of == place] or list(numbers)

    def _await_free(self, number: int) -> None:
        owner = ""

        def is_decided() -> bool:
            nonlocal owner
            owner = self._owners().get(number, "")
            return not owner.startswith(OURS)

        try:
            wait_until(
                is_decided,
                what=f"the node port {number} to be free",
                within=timing.NAMESPACE_GONE_WITHIN,
            )
        except WaitedInVainError as error:
            raise TakenError(f"{error}: it stays with the Service {owner}") from None
        if owner:
            raise TakenError(
                f"the node port {number} is taken by the Service {owner}",
                "delete that Service, or leave this clause out",
            )

    def _can_lock(self, what: int | str) -> bool:
        try:
            self._lock(what, patience=0.0)
        except CannotRunError:
            return False
        return True

    def _lock(self, what: int | str, patience: float = timing.PORT_LENT_FOR) -> None:
        lock = self.folder / str(what)
        self.held.enter_context(only_one(lock, waiting=lambda: None, within=patience))

    def _owners(self) -> dict[int, str]:
        return {
            port["nodePort"]: f"{item['metadata']['namespace']}/{item['metadata']['name']}"
            for item in self.api.find_all("Service")
            for port in item["spec"].get("ports", [])
            if "nodePort" in port
        }
