"""Admission policies that let an API server refuse what it should take, or store something else."""

import json
from typing import Any

from e2e.cluster.namespace import RUN_LABEL
from e2e.report.faults import Change, Refusal

NAME = "nodeport-e2e-fault"
# Of what policies are about here; every other one has no group.
GROUPS = {"endpointslices": "discovery.k8s.io"}
KINDS = {
    Refusal: ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"),
    Change: ("MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"),
}
API = "admissionregistration.k8s.io/v1"
# An object of this name shows whether the API server has heard of the policy; none is stored.
SHOWS = f"object.metadata.name == '{NAME}'"
IS_SHOWN = "request.resource.resource == 'configmaps'"
SHOWN = "[JSONPatch{op: 'add', path: '/data', value: {'is': 'in force'}}]"
CREATE = f"kubectl create configmap {NAME} --namespace=$NAMESPACE --dry-run=server -o name"
IN_FORCE = {
    Refusal: f"{CREATE} 2>&1 | grep -q \"ValidatingAdmissionPolicy '{NAME}'\"",
    Change: f"{CREATE.removesuffix('name')}yaml | grep -q 'in force'",
}
REMOVE = "; ".join(
    f"kubectl delete {kind} {NAME} --ignore-not-found"
    for kinds in KINDS.values()
    for kind in reversed(kinds)
)


def manifests(policy: Refusal | Change) -> str:
    """A policy and its binding, as kubectl takes them, for the namespaces of runs alone."""
    kind, binding = KINDS[type(policy)]
    spec = _refusal(policy) if isinstance(policy, Refusal) else _change(policy)
    bound: dict[str, Any] = {"policyName": NAME}
    bound |= {"validationActions": ["Deny"]} if isinstance(policy, Refusal) else {}
    made = [(kind, spec | {"matchConstraints": _constraints(policy)}), (binding, bound)]
    items = [
        {"apiVersion": API, "kind": each, "metadata": {"name": NAME}, "spec": what}
        for each, what in made
    ]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


def _constraints(policy: Refusal | Change) -> dict[str, Any]:
    shown = {"apiGroups": [""], "resources": ["configmaps"], "operations": ["CREATE"]}
    meant = {
        "apiGroups": [GROUPS.get(policy.resource, "")],
        "resources": [policy.resource],
        "operations": list(policy.operations),
    }
    return {
        "namespaceSelector": {"matchExpressions": [{"key": RUN_LABEL, "operator": "Exists"}]},
        "resourceRules": [{**rule, "apiVersions": ["v1"]} for rule in (shown, meant)],
    }


def _refusal(policy: Refusal) -> dict[str, Any]:
    expression = f"{IS_SHOWN} ? !({SHOWS}) : ({policy.unless})"
    validation = {"expression": expression, "message": policy.says, "reason": policy.reason}
    return {"failurePolicy": "Fail", "validations": [validation]}


def _change(policy: Change) -> dict[str, Any]:
    patch = f"{IS_SHOWN} ? {SHOWN} : {policy.patch}"
    met = f"{IS_SHOWN} ? {SHOWS} : ({policy.when})"
    return {
        "failurePolicy": "Fail",
        "reinvocationPolicy": "Never",
        "matchConditions": [{"name": "meant", "expression": met}],
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": patch}}],
    }
