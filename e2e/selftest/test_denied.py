"""What a user needs in a cluster: the manifests, and how a verb that is missing is told."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import e2e
from e2e.cluster.api import KINDS, ApiRefusedError
from e2e.cluster.denied import RBAC, is_foreign, of_manifest, rules, why_denied
from e2e.fixtures import actors, objects
from e2e.selftest.storing_server import GROUPS

PACKAGE = Path(e2e.__file__).parent
# What is only done to clusters of ours, whose administrator the harness is.
OURS = ("selftest", "bench", "faults", "upgrade/disturb")
# The methods of Api that name a kind first, and what they ask for.
VERBS = {
    "get": ["get"],
    "find": ["get"],
    "find_all": ["list"],
    "snapshot": ["list"],
    "follow": ["watch"],
    "events_of": ["watch"],
    "table": ["list"],
    "change": ["patch"],
    "submit_change": ["patch"],
    "delete": ["delete"],
    "delete_all": ["deletecollection"],
}
MAKES = ("submit", "create", "apply", "submit_whole", "submit_applied")
RESOURCES = {kind: f"{kind.lower()}s" for kind in KINDS} | {
    "Endpoints": "endpoints",
    "NetworkPolicy": "networkpolicies",
    "PodDisruptionBudget": "poddisruptionbudgets",
}
# Allowed by what every cluster grants to everybody who has logged in.
EVERYBODY = {"SelfSubjectAccessReview"}
# Of clauses that are asked of clusters of ours alone; of Jobs, which administrators make.
BEYOND = {("patch", "configmaps"), ("get", "jobs")}


def sources() -> Iterator[tuple[str, ast.AST]]:
    for file in sorted(PACKAGE.rglob("*.py")):
        name = str(file.relative_to(PACKAGE))
        if not name.startswith(OURS):
            yield name, ast.parse(file.read_text())


def asked() -> set[tuple[str, str]]:
    """Verb and resource of each call of Api whose kind stands in the source."""
    found = set()
    for _, tree in sources():
        for call in (n for n in ast.walk(tree) if isinstance(n, ast.Call)):
            if not (isinstance(call.func, ast.Attribute) and call.args):
                continue
            first, owner = call.args[0], ast.unparse(call.func.value)
            if not owner.endswith("api") or call.func.attr not in VERBS:
                continue
            if isinstance(first, ast.Constant) and first.value in KINDS:
                for verb in VERBS[call.func.attr]:
                    part = next((k.value.value for k in call.keywords if k.arg == "part"), "")
                    found.add((verb, RESOURCES[first.value] + (f"/{part}" if part else "")))
    return found


def made() -> set[str]:
    """The kinds of the objects that stand in the source as a whole."""
    found = set()
    for _, tree in sources():
        for each in (n for n in ast.walk(tree) if isinstance(n, ast.Dict)):
            known = {
                key.value: value.value
                for key, value in zip(each.keys, each.values, strict=True)
                if isinstance(key, ast.Constant) and isinstance(value, ast.Constant)
            }
            if {"apiVersion", "kind"} <= known.keys():
                found.add(str(known["kind"]))
    return found & KINDS.keys()


def test_each_call_of_the_api_has_a_rule():
    """Whoever adds a request adds the permission, in the manifest of those who need it."""
    have = {(rule.verb, rule.resource) for rule in rules()}
    calls = asked()

    assert len(calls) > 20, "the calls are no longer found"
    assert not calls - have - BEYOND
    kinds = {RESOURCES[kind] for kind in made() - EVERYBODY}
    assert {"services", "namespaces", "endpointslices", "leases"} <= kinds
    assert not {("create", kind) for kind in kinds} - have


@pytest.mark.parametrize("file", sorted(RBAC.glob("*.yaml")), ids=lambda file: file.stem)
def test_the_manifests_are_of_one_piece(file):
    """Each binding names a role that is there, and an account that is made."""
    every = [each for one in RBAC.glob("*.yaml") for each in yaml.safe_load_all(one.read_text())]
    there = {(i["kind"], i["metadata"].get("namespace", ""), i["metadata"]["name"]) for i in every}
    bindings = [
        item for item in yaml.safe_load_all(file.read_text()) if item["kind"].endswith("Binding")
    ]

    assert bindings
    for item in bindings:
        where = item["metadata"].get("namespace", "")
        role = item["roleRef"]
        assert (role["kind"], where if role["kind"] == "Role" else "", role["name"]) in there
        for who in item["subjects"]:
            assert (who["kind"], who["namespace"], who["name"]) in there


def test_who_upgrades_may_all_that_who_asks_may():
    """What stands in one account's manifest is bound to the other one too, wherever it is."""
    contract, upgrade = (
        {
            (item["kind"], item["metadata"].get("namespace", ""), item["roleRef"]["name"])
            for item in yaml.safe_load_all((RBAC / f"{name}.yaml").read_text())
            if item["kind"].endswith("Binding")
        }
        for name in ("contract", "upgrade")
    )

    assert len(contract) > 3
    assert contract <= upgrade


def test_no_rule_is_wider_than_it_says():
    """No star, no secrets, nothing that lets a user give itself more."""
    for rule in rules():
        assert "*" not in (rule.verb, rule.group, rule.resource)
        assert rule.resource not in ("secrets", "pods/exec", "nodes/proxy")
        assert rule.verb not in ("bind", "escalate", "impersonate")
    watched = {rule.verb for rule in of_manifest("watch")}
    assert watched == {"get", "list", "watch"}, "who watches only reads"


SAYS = {
    'pods is forbidden: User "me" cannot list resource "pods" in API group "" at the cluster scope':
        "this user may not list pods in the whole cluster: manifests/rbac/contract.yaml and "
        "manifests/rbac/watch.yaml have it",
    'deployments.apps is forbidden: User "system:serviceaccount:a:b" cannot create resource '
    '"deployments" in API group "apps" in the namespace "x": RBAC: clusterrole not found':
        "this user may not create deployments.apps in the namespace x: "
        "manifests/rbac/contract.yaml has it",
    'services "s" is forbidden: User "me" cannot patch resource "services/status" in API group "" '
    'in the namespace "x"':
        "this user may not patch services/status in the namespace x: "
        "manifests/rbac/contract.yaml has it",
    'secrets is forbidden: User "me" cannot list resource "secrets" in API group "" at the cluster '
    "scope": "this user may not list secrets in the whole cluster: no manifest in manifests/rbac "
    "has it",
    'forbidden: User "me" cannot get path "/metrics"': "this user may not get /metrics",
    "exceeded quota: few": "",
}  # fmt: skip


@pytest.mark.parametrize("message", SAYS)
def test_a_missing_verb_is_named_with_the_manifest_that_has_it(message):
    """Which verb, on what, where, and what to apply; other refusals have words of their own."""
    assert why_denied(message) == SAYS[message]
    error = ApiRefusedError("list Pod", {"code": 403, "message": message})
    assert SAYS[message] in str(error)


@pytest.mark.parametrize(
    ("message", "foreign"),
    [
        ('services "s" is forbidden: exceeded quota: few, requested: services=1', True),
        ('admission webhook "no.example.com" denied the request: no', True),
        ("pods \"p\" is forbidden: violates PodSecurity \"restricted:latest\": hostPort", True),
        ("ValidatingAdmissionPolicy 'theirs' with binding 'b' denied request: no", True),
        ("ValidatingAdmissionPolicy 'nodeport-e2e-fault' with binding 'b' denied request", False),
        ("failed calling webhook \"no.example.com\": failed to call webhook: refused", False),
        ("pods \"p\" is forbidden: unable to validate against any security context constraint: []",
         True),
        ("pods \"p\" is forbidden: maximum memory usage per Pod is 1Mi, but limit is 16Mi", True),
        ("etcdserver: request timed out", False),
        ("Internal error occurred: failed to allocate a nodePort: range is full", False),
        ("spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid", False),
        *((message, True) for message in SAYS if "quota" not in message),
    ],
)  # fmt: skip
def test_whose_refusal_it_is(message, foreign):
    """What others forbid says nothing of the contract; what Kubernetes refuses does."""
    assert is_foreign(message) == foreign


VERBS_OF_CLAUSES = {
    "rehearse": lambda ask: ask(),
    "rehearse_change": lambda ask: ask(STORED),
    "replace": lambda ask: ask(STORED),
    "apply_by_client": lambda ask: ask(STORED),
    "report": lambda ask: ask(STORED, {}),
    "change": lambda ask: ask(STORED),
    "stored": lambda read: read("s", "home"),
}
STORED = {"metadata": {"name": "s", "namespace": "home"}}
FOREIGN = {
    "a verb": (403, next(iter(SAYS))),
    "a token": (401, "Unauthorized"),
    "a webhook": (500, 'Internal error occurred: failed calling webhook "no.example.com": refused'),
    "etcd": (500, "etcdserver: request timed out"),
    "a server": (503, "the server is currently unable to handle the request"),
}  # fmt: skip


class Refusing:
    """An API server that refuses whatever is asked, with one Status."""

    def __init__(self, code: int, message: str) -> None:
        self.status = {"kind": "Status", "code": code, "message": message}

    def submit(self, *_: object, **__: object) -> object:
        return self.status

    find = submit_change = submit_whole = submit


@pytest.mark.parametrize("verb", VERBS_OF_CLAUSES)
@pytest.mark.parametrize("what", FOREIGN)
def test_no_clause_is_told_what_says_nothing_of_the_contract(verb, what):
    """Each of its verbs says so instead of giving a Status, on which a server would be judged."""
    wanted = [Refusing(*FOREIGN[what]), "home"]
    make = getattr(objects if hasattr(objects, verb) else actors, verb).__wrapped__
    ask = make(*wanted[: make.__code__.co_argcount])

    with pytest.raises(ApiRefusedError):
        VERBS_OF_CLAUSES[verb](ask)


ANSWERS = ("find", "submit", "submit_change", "submit_whole", "submit_applied")
# What they are given is judged by whom they give it to, or makes no difference.
EXCUSED = {"merge", "apply_by_client", "release", "hold_back", "host_namespace"}


def test_nobody_who_wires_clauses_takes_an_answer_as_it_comes():
    asking = set()
    for file in (PACKAGE / "fixtures").glob("*.py"):
        for each in ast.walk(ast.parse(file.read_text())):
            if isinstance(each, ast.FunctionDef):
                calls = [n.func for n in ast.walk(each) if isinstance(n, ast.Call)]
                names = {ast.unparse(call) for call in calls}
                asks = any(name.endswith(f"api.{of}") for name in names for of in ANSWERS)
                asking |= {each.name} if asks and "judged" not in names else set()

    assert asking == EXCUSED


def test_what_kubernetes_refuses_is_told():
    refused = Refusing(422, "spec.ports[0].nodePort: Invalid value: 80")

    assert objects.replace.__wrapped__(refused)(STORED) == refused.status


def test_the_server_of_these_tests_knows_the_kinds_that_need_permission():
    """So that a request for one of them cannot go unseen there."""
    known = {kind for of_group in GROUPS.values() for kind, _ in of_group.values()}
    assert {"Lease", "Namespace", "Node", "Pod", "Service"} <= known
