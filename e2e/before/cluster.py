"""Whether a cluster lets itself be asked; reads, and asks what it may do."""

from collections.abc import Iterator, Sequence

from e2e.before.facts import of_cluster
from e2e.before.rows import FROM_BESIDE, Row, fails, failure, ok, warns
from e2e.cluster.api import Api, ApiRefusedError, Object
from e2e.cluster.beside import BESIDE, HOST, THERE, why_beside
from e2e.cluster.denied import Rule, of_manifest
from e2e.cluster.implementation import UNKNOWN, Implementation, version_of
from e2e.cluster.node import Node, family_of, is_heard, is_ready
from e2e.errors import StopError
from e2e.provider.node_image import AGNHOST, SUPPORTED

REVIEW = "authorization.k8s.io/v1"
ALL = Rule("*", "*", "*")


def rows(api: Api, outside: str, *, has_callers: bool, is_ours: bool) -> Iterator[Row]:
    """Look at everything that a run needs of a cluster; stores nothing there."""
    version = api.version()
    newest, oldest = version_of(SUPPORTED[0]), version_of(SUPPORTED[-1])
    if oldest <= version_of(version) <= newest:
        yield ok("version", version)
    else:
        seen = f"{version}; what may differ is known of {SUPPORTED[-1]} to {SUPPORTED[0]}"
        yield warns("version", seen, "read a failure of the family extended with care")
    try:
        items = api.find_all("Node")
        yield from _nodes(items, version)
        if not all(map(is_ready, items)):
            return
        facts, guessed = of_cluster(api, has_callers=has_callers, is_ours=is_ours)
    except ApiRefusedError as error:
        yield fails("nodes", str(error), "take a user who may list nodes")
        return
    yield _proxy(facts.implementation)
    numbers = f"{facts.port_range[0]} to {facts.port_range[-1]}"
    yield (
        warns("node ports", guessed[0], "nothing: a run finds them out")
        if guessed
        else (ok("node ports", numbers))
    )
    yield _images(items)
    yield _permissions(api)
    yield _reach(facts.nodes, outside, has_callers=has_callers)


def _nodes(items: Sequence[Object], version: str) -> Iterator[Row]:
    unready = [item["metadata"]["name"] for item in items if not is_ready(item)]
    if unready or not items:
        said = f"not Ready: {', '.join(unready)}" if items else "there is none"
        yield fails("nodes", said, "kubectl describe node; the contract is about one that is well")
        return
    kubelets = {item["status"]["nodeInfo"]["kubeletVersion"] for item in items}
    families = sorted({
        family_of(each["address"])
        for item in items
        for each in item["status"]["addresses"]
        if each["type"] == "InternalIP"
    })  # fmt: skip
    said = f"{len(items)} Ready, {' and '.join(families)}"
    if kubelets == {version}:
        yield ok("nodes", f"{said}, all {version}")
    else:
        do = "finish the upgrade, unless it is what you look at"
        yield warns("nodes", f"{said}, kubelets {', '.join(sorted(kubelets))}", do)


def _proxy(implementation: Implementation) -> Row:
    if implementation.proxy == UNKNOWN:
        do = "nothing: clauses about what the contract leaves open are skipped"
        return warns("service proxy", "not kube-proxy as kubeadm sets it up", do)
    return ok("service proxy", str(implementation))


def _images(items: Sequence[Object]) -> Row:
    """Whether the echo's image is on the nodes, of which each tells its fifty largest images."""
    without = [
        item["metadata"]["name"]
        for item in items
        if not any(
            AGNHOST in (image.get("names") or []) for image in item["status"].get("images", [])
        )
    ]
    if not without:
        return ok("echo's image", f"{AGNHOST} is on every node")
    do = f"nothing, if they may pull it; else load {AGNHOST} into them"
    return warns("echo's image", f"not said to be on {', '.join(without)}", do)


def _permissions(api: Api) -> Row:
    if _may(api, ALL):
        return ok("permissions", "all")
    denied = [str(rule) for rule in of_manifest("contract") if not _may(api, rule)]
    if denied:
        do = "let an administrator grant them to this user: manifests/rbac/contract.yaml has them"
        return fails("permissions", f"this user may not {', '.join(denied)}", do)
    return ok("permissions", "all that the contract needs")


def _may(api: Api, rule: Rule) -> bool:
    """Ask by a SelfSubjectAccessReview, which is answered and not stored."""
    resource, _, part = rule.resource.partition("/")
    attributes = {"group": rule.group, "resource": resource, "verb": rule.verb}
    attributes |= {"subresource": part} if part else {}
    attributes |= {"namespace": rule.namespace} if rule.namespace else {}
    attributes |= {"name": rule.names[0]} if rule.names else {}
    answer = api.submit({
        "apiVersion": REVIEW,
        "kind": "SelfSubjectAccessReview",
        "metadata": {},
        "spec": {"resourceAttributes": attributes},
    })  # fmt: skip
    return bool(answer.get("status", {}).get("allowed")) if "spec" in answer else False


def _reach(nodes: Sequence[Node], outside: str, *, has_callers: bool) -> Row:
    if outside == BESIDE:
        try:
            return warns("reach", why_beside(outside, nodes, has_callers=has_callers), FROM_BESIDE)
        except StopError as error:
            return failure("reach", error)
    addresses = {address: node.name for node in nodes for address in node.addresses.values()}
    silent = [f"{name} ({at})" for at, name in addresses.items() if not is_heard(at)]
    if not silent:
        return ok("reach", f"{', '.join(addresses)} answer here")
    said = f"nothing is heard from {', '.join(silent)}"
    if len(silent) == len(addresses):
        if has_callers and outside != HOST:
            return warns("reach", said, FROM_BESIDE)
        return fails("reach", said, THERE)
    return warns("reach", said, "look at those nodes, and at firewalls before them")
