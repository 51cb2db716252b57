"""What `prepare` places, what `watch` asks, and what `verify` comes back to: one file."""

from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from e2e.errors import UsageError

PLAN = "plan.json"

Way = Literal["new connections", "one connection", "UDP", "UDP from new ports"]
"""How a flow is asked: each time over a connection of its own, always over the same one, from one
source port, or each time from another."""


class Part(BaseModel):
    """Part of a file that is read back; what it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class WatchedFlow(Part):
    """One way of asking one address of one node for one port of one Service.

    Attributes:
        service: the Service's name.
        node: the node's name.
        family: `IPv4` or `IPv6`.
        address: the node's, without brackets.
        port: the node port.
        way: how it is asked.
        pods: how the names of all pods begin that may answer.
        expects: whether an answer is expected, or that the node refuses or is silent, as it does
            under the policy Local without a pod; what is not expected is no outage.
    """

    service: str
    node: str
    family: Literal["IPv4", "IPv6"]
    address: str
    port: int
    way: Way
    pods: str
    expects: Literal["answered", "blocked"] = "answered"

    @property
    def path(self) -> str:
        """What the flow has in common with that of other nodes."""
        return f"{self.service} {self.family} {self.way}"

    @property
    def where(self) -> tuple[str, ...]:
        """What is asked, whatever is expected of it."""
        return self.service, self.node, self.family, self.address, str(self.port), self.way

    def __str__(self) -> str:
        return f"outside -> {self.node}:{self.port} ({self.path})"


class Plan(Part):
    """What was prepared on a cluster.

    Attributes:
        format: of this file.
        run: the id that labels all that was made.
        made: when.
        cluster: the UID of its namespace kube-system, by which it is known again.
        namespace: where the watched workloads live.
        flows: all that is watched; none before all of it is placed.
    """

    format: Literal[1] = 1
    run: str
    made: datetime
    cluster: str
    namespace: str
    flows: tuple[WatchedFlow, ...]

    def save(self, folder: Path) -> None:
        """Write it into a folder, whole or not at all."""
        draft = folder / f"{PLAN}.new"
        draft.write_text(self.model_dump_json(indent=2) + "\n")
        draft.rename(folder / PLAN)

    @classmethod
    def load(cls, folder: Path) -> "Plan":
        """Read it from a folder.

        Raises:
            ValueError: it is no such file; says where.
        """
        return cls.model_validate_json((folder / PLAN).read_text())


def load_complete(folder: Path) -> Plan:
    """Read what was prepared to its end.

    Raises:
        UsageError: there is no plan in the folder, it is none, or prepare was killed.
    """
    plan = load_plan(folder)
    if not plan.flows:
        raise UsageError(
            f"{folder / PLAN} names nothing to watch: prepare did not come to its end",
            "remove what it placed, and prepare again: nodeport-e2e prepare --remove",
        )
    return plan


def load_plan(folder: Path) -> Plan:
    """Read what was prepared, or was about to be.

    Raises:
        UsageError: there is no plan in the folder, or it is none.
    """
    try:
        return Plan.load(folder)
    except OSError as error:
        raise UsageError(
            f"no plan in {folder}: {PLAN}: {error.strerror}",
            "nodeport-e2e prepare, or name the folder that it wrote: --folder",
        ) from error
    except ValueError as error:
        raise UsageError(
            f"{folder / PLAN} is no plan: {' '.join(str(error).split())}",
            "remove that file, and what was placed on the machine that placed it "
            "(nodeport-e2e clean --kube-context=NAME); then prepare again: nodeport-e2e prepare",
        ) from error
