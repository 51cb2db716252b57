"""The Job that asks the contract from within the cluster, as manifests/job has it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from e2e import timing
from e2e.cluster import namespace
from e2e.cluster.api import Api, ApiRefusedError, Object
from e2e.cluster.manifest import load
from e2e.cluster.namespace import RUN_LABEL
from e2e.cluster.node import CONTROL_PLANE, conditions, hindered
from e2e.wait import WaitedInVainError, wait_until

# The reason of an event about a pod that was refused.
NOT_MADE = "FailedCreate"
INDEX = "batch.kubernetes.io/job-completion-index"
SUCCEEDED, FAILED = "Succeeded", "Failed"
# Who calls from a node does not call through it; so many workers are enough to be one less.
SPARE = 3


@dataclass(frozen=True)
class ShardPod:
    """A pod that asks a shard.

    Attributes:
        name: its own.
        number: of the shard, from 1.
        node: where it is; nothing until that is decided.
        phase: as Kubernetes says.
        exit_code: of its container; None if it has not ended, or is not known.
        hindered: why it does not begin, if something hinders it.
        going: whether somebody asked for its end.
    """

    name: str
    number: int
    node: str
    phase: str
    exit_code: int | None
    hindered: str
    going: bool

    @property
    def has_ended(self) -> bool:
        """Whether it has, and for good."""
        return self.phase in (SUCCEEDED, FAILED)

    @classmethod
    def of(cls, pod: Object) -> "ShardPod":
        """Read a Pod object."""
        metadata, status = pod["metadata"], pod.get("status", {})
        said = {**metadata.get("annotations", {}), **metadata.get("labels", {})}
        states = [s.get("state", {}) for s in status.get("containerStatuses", [])]
        ended = [s["terminated"]["exitCode"] for s in states if "terminated" in s]
        return cls(
            metadata["name"],
            int(said[INDEX]) + 1,
            pod["spec"].get("nodeName", ""),
            status.get("phase", ""),
            ended[0] if ended else None,
            hindered(pod) or _unscheduled(status),
            "deletionTimestamp" in metadata,
        )


def _unscheduled(status: Mapping[str, Any]) -> str:
    for each in status.get("conditions", []):
        if each["type"] == "PodScheduled" and each.get("reason") == "Unschedulable":
            return f"no node takes it: {each.get('message', '')}"
    return ""


@dataclass(frozen=True)
class Job:
    """The Job of one run, and all that is there for it.

    Attributes:
        api: of the cluster.
        run: whose it is.
        namespace: where it is; what is not in a namespace has that name too.
    """

    api: Api
    run: str
    namespace: str

    def create(
        self, *, image: str, shards: int, variables: Mapping[str, str], nodes: Sequence[Object]
    ) -> None:
        """Create it, with its account and what that may do.

        Args:
            image: that of the harness.
            shards: how many pods there are.
            variables: what is asked, as environment variables.
            nodes: those of the cluster.
        """
        space = load("job/1-namespace.yaml")
        space["metadata"]["name"] = self.namespace
        space["metadata"]["labels"][RUN_LABEL] = self.run
        # What has no namespace goes with this one too, also when this run is killed.
        owner = {"apiVersion": "v1", "kind": "Namespace", "name": self.namespace}
        owner["uid"] = self.api.create(space)["metadata"]["uid"]
        role, binding = load("job/3-access.yaml"), load("job/4-binding.yaml")
        for each in (role, binding):
            each["metadata"] |= {"name": self.namespace, "ownerReferences": [owner]}
        binding["roleRef"]["name"] = self.namespace
        account, body = load("job/2-account.yaml"), load("job/5-job.yaml")
        for each in (binding["subjects"][0], account["metadata"], body["metadata"]):
            each["namespace"] = self.namespace
        spec = body["spec"]["template"]["spec"]
        container = spec["containers"][0]
        container["image"] = image
        said = {**variables, namespace.PART: self.run}
        kept = [each for each in container["env"] if each["name"] not in said]
        container["env"] = [*kept, *({"name": k, "value": v} for k, v in said.items())]
        body["spec"] |= {"completions": shards, "parallelism": shards}
        _place(spec, nodes)
        for each in (role, account, binding, body):
            self.api.create(each)

    def pods(self) -> list[ShardPod]:
        """Its pods, those of the first shard first; the latest of a shard last."""
        found = self.api.find_all("Pod", self.namespace)
        found.sort(key=lambda pod: str(pod["metadata"]["creationTimestamp"]))
        pods = [ShardPod.of(pod) for pod in found]
        return sorted(pods, key=lambda pod: pod.number)

    def ended(self) -> str:
        """How the Job ended, in Kubernetes' words; nothing while it goes on.

        Raises:
            ApiRefusedError: the API server does not say.
        """
        found = self.api.find("Job", namespace.JOB, self.namespace)
        if found.get("code") == 404:
            return "gone: somebody removed it"
        if found.get("kind") == "Status":
            raise ApiRefusedError(f"read Job {namespace.JOB}", found)
        for each in conditions(found):
            if each["type"] in ("Complete", "Failed") and each["status"] == "True":
                return f"{each['type']} {each.get('reason', '')}: {each.get('message', '')}"
        return ""

    def why_no_pods(self) -> str:
        """What the cluster says of pods that it does not make, such as a quota; else nothing."""
        events = self.api.find_all("Event", self.namespace, where=f"reason={NOT_MADE}")
        return str(events[-1].get("message", "")) if events else ""

    def log(self, pod: str, *, lines: int = 0) -> str:
        """What a pod has written, or only its last lines; nothing if that cannot be had."""
        try:
            return self.api.logs(pod, self.namespace, lines=lines)
        except ApiRefusedError:
            return ""

    def remove(self, see: Callable[[Sequence[ShardPod]], None]) -> None:
        """Remove it and all that its pods made, and wait until that is gone.

        Args:
            see: gets its pods again and again until they have ended, which then are gone soon.

        Raises:
            WaitedInVainError: something of it is still there; says what.
        """
        # Its pods remove what they made as long as they have their account.
        self.api.delete("Job", namespace.JOB, self.namespace)

        def have_ended() -> bool:
            pods = self.pods()
            see(pods)
            return all(pod.has_ended for pod in pods)

        try:
            wait_until(
                have_ended,
                what=f"the pods of {self.namespace} to end",
                within=timing.JOB_STOPS_WITHIN,
            )
        except WaitedInVainError:
            # Nobody ends a pod whose node is gone.
            for pod in self.pods():
                if not pod.has_ended:
                    self.api.delete("Pod", pod.name, self.namespace, grace=0)
        names = [self.namespace, *namespace.part_of(self.api, self.run)]
        namespace.remove(self.api, names, wait=True)
        for kind in ("ClusterRoleBinding", "ClusterRole"):
            self.api.delete(kind, self.namespace)


def usual(variable: str) -> str:
    """What its manifest lets an environment variable of its pods be."""
    (container,) = load("job/5-job.yaml")["spec"]["template"]["spec"]["containers"]
    return str(next(each["value"] for each in container["env"] if each["name"] == variable))


def _place(spec: dict[str, Any], nodes: Sequence[Object]) -> None:
    """Where there are few workers, let pods rather be on control planes."""
    workers = [node for node in nodes if CONTROL_PLANE not in node["metadata"].get("labels", {})]
    if len(workers) < SPARE:
        affinity = spec["affinity"]["nodeAffinity"]
        (preferred,) = affinity["preferredDuringSchedulingIgnoredDuringExecution"]
        (expression,) = preferred["preference"]["matchExpressions"]
        expression["operator"] = "Exists"
