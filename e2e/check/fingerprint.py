"""What was observed of a cluster in one run, as data by which two runs can be compared."""

from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from e2e.errors import UsageError


class Part(BaseModel):
    """Part of a fingerprint; what it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Behaviour(Part):
    """What a run saw of one clause.

    Attributes:
        clause: its id.
        ended: held, failed, broken or skipped.
        said: the message of a failure, or the reason of a skip.
        chosen: what it saw hold of what the contract leaves to implementations and versions.
        converged: seconds until each of its flows was right for good, by node and in order.
        judged: its statistical verdicts.
    """

    clause: str
    ended: Literal["held", "failed", "broken", "skipped"]
    said: str = ""
    chosen: tuple[str, ...] = ()
    converged: dict[str, tuple[float, ...]] = {}
    judged: tuple[str, ...] = ()


class NodeFacts(Part):
    """What a node says of itself.

    Attributes:
        addresses: each with its type, such as `InternalIP 172.18.0.2`.
        conditions: the status of each, by type.
        versions: kubelet, kernel, container runtime, operating system.
        unschedulable: whether it is cordoned.
        taints: each as `key=value:effect`.
        pod_networks: its pod CIDRs.
    """

    addresses: tuple[str, ...]
    conditions: dict[str, str]
    versions: dict[str, str]
    unschedulable: bool = False
    taints: tuple[str, ...] = ()
    pod_networks: tuple[str, ...] = ()


class ServiceFacts(Part):
    """A Service, without its annotations.

    Attributes:
        uid: by which it is told from another one of the same name.
        labels: of itself.
        spec: as it is stored.
        status: likewise.
    """

    uid: str
    labels: dict[str, str] = {}
    spec: dict[str, Any]
    status: dict[str, Any] = {}


class Fingerprint(Part):
    """Everything that was observed.

    Attributes:
        format: of this file.
        taken: when.
        cluster: the UID of its namespace kube-system.
        version: of the API server.
        nodes: by name.
        components: the images of what makes a cluster, by component and node.
        proxy_mode: the mode of kube-proxy, or that it is unknown.
        proxy: its configuration.
        flags: those of API servers that node ports depend on, by flag and node.
        defaults: what an API server makes of the shortest Services, by what was asked for.
        services: every Service of the cluster, by namespace and name.
        prepared: the watched Services in full, by name.
        behaviours: by clause; None if the contract was not run.
    """

    format: Literal[1] = 1
    taken: datetime
    cluster: str
    version: str
    nodes: dict[str, NodeFacts]
    components: dict[str, dict[str, str]]
    proxy_mode: str
    proxy: dict[str, Any]
    flags: dict[str, dict[str, str]]
    defaults: dict[str, dict[str, Any]]
    services: dict[str, ServiceFacts]
    prepared: dict[str, dict[str, Any]] = {}
    behaviours: dict[str, Behaviour] | None = None

    def save(self, file: Path) -> None:
        """Write it into a file."""
        file.write_text(self.model_dump_json(indent=1) + "\n")

    @classmethod
    def load(cls, file: Path) -> "Fingerprint":
        """Read it from a file.

        Raises:
            UsageError: it cannot be read, or is no fingerprint; says where it is wrong.
        """
        try:
            return cls.model_validate_json(file.read_text())
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{file} cannot be read: {error}", "see what prepare wrote") from error
        except ValidationError as error:
            raise UsageError(f"{file} is no fingerprint: {in_one_line(error)}") from error


def in_one_line(error: ValidationError) -> str:
    """The first things that are wrong with a file, each with its place."""
    told = [
        f"{'.'.join(map(str, each['loc'])) or 'the whole'}: {each['msg']}"
        for each in error.errors()[:3]
    ]
    more = error.error_count() - len(told)
    return "; ".join(told) + (f"; and {more} more" if more > 0 else "")
