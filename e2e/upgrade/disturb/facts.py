"""Facts that are waited for between two steps: "Ready" alone is a false finish line.

Each function says what is not so yet, as words; nothing if all is as it should be.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from kubernetes.dynamic.exceptions import DynamicApiError

from e2e import timing
from e2e.cluster.api import Api, ApiRefusedError, Object
from e2e.cluster.endpoints import SERVICE_LABEL
from e2e.cluster.node import is_ready
from e2e.errors import StopError
from e2e.wait import settle, wait_until

SYSTEM = "kube-system"
LEADERS = ("kube-controller-manager", "kube-scheduler")
# While the API server is away nothing is known.
AWAY = (StopError, ApiRefusedError, DynamicApiError, KeyError)
READY_IN_A_ROW = 10

# On a control plane: the static pods that its kubelet wants, by their UIDs, and those that run.
# A kubelet of another version gives them new UIDs, and makes all of them again after it is Ready.
STATIC_PODS = """
pki=/etc/kubernetes/pki/apiserver-kubelet-client
static='select(.annotations["kubernetes.io/config.source"] == "file")'
curl -sfk --cert $pki.crt --key $pki.key https://localhost:10250/pods |
  jq -r ".items[].metadata | $static | .uid" | sort > /run/static-wanted
crictl pods --state ready --output json |
  jq -r ".items[] | $static | .metadata.uid" | sort > /run/static-there
if test -s /run/static-wanted && cmp -s /run/static-wanted /run/static-there; then echo same; fi
"""


def await_fact(
    missing: Callable[[], Iterable[str]],
    *,
    what: str,
    within: float = timing.CLUSTER_RECOVER_WITHIN,
) -> None:
    """Wait until nothing is missing; while the API server is away that is not known.

    Raises:
        WaitedInVainError: something still was after so many seconds; says what.
    """
    last: list[str] = []

    def none_is() -> bool:
        try:
            last[:] = missing()
        except AWAY as error:
            last[:] = [str(error).partition("\n")[0]]
        return not last

    wait_until(none_is, what=what, within=within, seen=lambda: "; ".join(last))


def await_api(api: Api) -> None:
    """Wait until the API server has been ready ten times in a row.

    Raises:
        WaitedInVainError: it was not.
    """
    seen = settle(
        api.is_ready,
        bool,
        within=timing.CLUSTER_RECOVER_WITHIN,
        times=READY_IN_A_ROW,
        every=timing.READY_EVERY,
    )
    # The same words as of all other facts.
    await_fact(lambda: [] if seen.settled else ["it is not"], what="a ready API server", within=0)


def of_kubelet(api: Api, node: str, version: str, before: str) -> Iterator[str]:
    """Whether a kubelet of this version said after the moment `before` that its node is Ready."""
    found = api.get("Node", node)
    has = found["status"]["nodeInfo"]["kubeletVersion"]
    if has != version:
        yield f"the kubelet of {node} is {has}"
    if not is_ready(found):
        yield f"{node} is not Ready"
    if heartbeat(found) <= before:
        yield f"{node} has said nothing since its kubelet was restarted"


def heartbeat(node: Object) -> str:
    """When a kubelet last said how its node is, by its clock; times of one form are ordered."""
    conditions = node["status"]["conditions"]
    return max(
        (str(c["lastHeartbeatTime"]) for c in conditions if c["type"] == "Ready"), default=""
    )


def renewals(api: Api) -> dict[str, str]:
    """When each leader has last renewed its lease."""
    return {name: str(api.get("Lease", name, SYSTEM)["spec"].get("renewTime")) for name in LEADERS}


def of_leases(api: Api, before: Mapping[str, str]) -> Iterator[str]:
    """Whether each leader works: one that is dead does not renew its lease."""
    for name, renewed in renewals(api).items():
        if renewed == before[name]:
            yield f"nobody renews the lease of {name} since {renewed}"


def of_proxies(api: Api, old: Collection[str]) -> Iterator[str]:
    """Whether each node has a kube-proxy that runs and is none of the old ones, by their UIDs."""
    pods = proxies(api)
    if not pods:
        yield "there is no kube-proxy"
    for node in api.find_all("Node"):
        name = node["metadata"]["name"]
        mine = [pod for pod in pods if pod["spec"].get("nodeName") == name]
        if not any(is_ready(pod) for pod in mine):
            yield f"{name} has no kube-proxy that is Ready"
        if any(pod["metadata"]["uid"] in old for pod in mine):
            yield f"{name} still has its old kube-proxy"


def proxies(api: Api) -> list[Object]:
    """Every pod of kube-proxy."""
    return api.find_all("Pod", SYSTEM, **{"k8s-app": "kube-proxy"})


def of_deployments(api: Api) -> Iterator[str]:
    """Whether all Deployments have all their pods, as they want them, and no others.

    The pods are asked: a status is what a controller wrote before it died, as it may be.
    """
    pods = api.find_all("Pod")
    for deployment in api.find_all("Deployment"):
        yield from _of_deployment(deployment, pods)


def of_endpoints(api: Api) -> Iterator[str]:
    """Whether EndpointSlices list exactly the pods that are Ready, of every Service."""
    pods, slices = api.find_all("Pod"), api.find_all("EndpointSlice")
    for service in api.find_all("Service"):
        yield from _of_service(service, pods, slices)


def _of_deployment(deployment: Object, pods: Iterable[Object]) -> Iterator[str]:
    spec = deployment["spec"]
    images = _images(spec["template"]["spec"])
    mine = list(_selected(deployment, spec["selector"].get("matchLabels"), pods))
    right = [pod for pod in mine if _serves(pod) and _images(pod["spec"]) == images]
    if len(right) != spec["replicas"] or len(mine) != len(right):
        name = f"{deployment['metadata']['namespace']}/{deployment['metadata']['name']}"
        yield f"{name} wants {spec['replicas']} pods, and {len(right)} of {len(mine)} are right"


def _of_service(service: Object, pods: Iterable[Object], slices: Iterable[Object]) -> Iterator[str]:
    spec, where = service["spec"], service["metadata"]
    if not spec.get("selector") or spec.get("publishNotReadyAddresses"):
        return
    wanted = {
        p["metadata"]["name"] for p in _selected(service, spec["selector"], pods) if _serves(p)
    }
    listed = {
        str((endpoint.get("targetRef") or {}).get("name"))
        for each in slices
        if each["metadata"]["namespace"] == where["namespace"]
        and each["metadata"].get("labels", {}).get(SERVICE_LABEL) == where["name"]
        for endpoint in each.get("endpoints") or []
        if endpoint.get("conditions", {}).get("ready") is not False
    }
    if wanted != listed:
        name = f"{where['namespace']}/{where['name']}"
        yield f"{name} lists {sorted(listed)}, and the pods that are Ready are {sorted(wanted)}"


def _selected(
    item: Object, labels: Mapping[str, str] | None, pods: Iterable[Object]
) -> Iterator[Object]:
    for pod in pods:
        if (
            pod["metadata"]["namespace"] == item["metadata"]["namespace"]
            and (labels or {}).items() <= pod["metadata"].get("labels", {}).items()
            and pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")
        ):
            yield pod


def _serves(pod: Object) -> bool:
    return is_ready(pod) and "deletionTimestamp" not in pod["metadata"]


def _images(spec: Mapping[str, Any]) -> list[str]:
    return [container["image"] for container in spec["containers"]]
