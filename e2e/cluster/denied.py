"""Refusals that say nothing of the contract: no permission, no quota, no answer for now."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from e2e.cluster.manifest import FOLDER

RBAC = FOLDER / "rbac"
# The words of Kubernetes' RBAC authorizer, which other authorizers add to at their end.
FORBIDDEN = re.compile(
    r'cannot (?P<verb>\S+) (?:resource "(?P<resource>[^"]+)" in API group "(?P<group>[^"]*)"'
    r'(?: in the namespace "(?P<namespace>[^"]+)"| at the cluster scope)?|path "(?P<path>[^"]+)")'
)
QUOTA = re.compile(
    r"exceeded quota: |failed quota: |"
    r"(?:minimum|maximum) \S+ usage per |max limit to request ratio per "
)
ADMISSION = re.compile(
    r'admission webhook "[^"]+" denied the request|violates PodSecurity "|'
    r"unable to validate against any security context constraint|"
    r"ValidatingAdmissionPolicy '(?!nodeport-e2e-)[^']+' with binding"
)
# What stands behind the API server did not answer it in time.
BEHIND = re.compile(r"etcdserver: |failed calling webhook ")
# Nobody is let in as that user, too much is asked, or a server before it has none to ask.
NOT_JUDGED = (401, 429, 502, 503, 504)


@dataclass(frozen=True, order=True)
class Rule:
    """That somebody may do something.

    Attributes:
        verb: such as list.
        group: of the API; nothing for the first one.
        resource: such as services, or services/status.
        namespace: where; nothing for everywhere.
        manifest: the file of manifests/rbac that has it.
        names: of the only objects that it is about, if not about all.
    """

    verb: str
    group: str
    resource: str
    namespace: str = ""
    manifest: str = ""
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        what = self.resource + (f".{self.group}" if self.group else "")
        return f"{self.verb} {what}" + (f" in {self.namespace}" if self.namespace else "")


@cache
def rules() -> tuple[Rule, ...]:
    """All that the manifests let somebody do."""
    return tuple(rule for file in sorted(RBAC.glob("*.yaml")) for rule in _rules_of(file))


def of_manifest(name: str) -> list[Rule]:
    """What one manifest allows, such as `contract`."""
    return [rule for rule in rules() if rule.manifest == name]


def why_denied(message: str) -> str:
    """Which verb on which resource is missing and which manifests have it; else nothing."""
    said = FORBIDDEN.search(message)
    if said is None:
        return ""
    if said["path"]:
        return f"this user may not {said['verb']} {said['path']}"
    where = f"in the namespace {said['namespace']}" if said["namespace"] else "in the whole cluster"
    what = said["resource"] + (f".{said['group']}" if said["group"] else "")
    have = [
        rule.manifest
        for rule in rules()
        if (rule.verb, rule.group, rule.resource) == (said["verb"], said["group"], said["resource"])
        and rule.namespace in ("", said["namespace"] or "")
    ]
    files = [f"manifests/rbac/{name}.yaml" for name in dict.fromkeys(have)]
    verb = "have" if len(files) > 1 else "has"
    found = f"{' and '.join(files) or 'no manifest in manifests/rbac'} {verb} it"
    return f"this user may not {said['verb']} {what} {where}: {found}"


def is_foreign(message: str) -> bool:
    """Whether somebody's rules refused, and not what Kubernetes says of Services."""
    return any(words.search(message) for words in (FORBIDDEN, QUOTA, ADMISSION))


def is_no_verdict(message: str, code: object) -> bool:
    """Whether a refusal says nothing of a server: it is foreign, or what is needed was away."""
    return is_foreign(message) or code in NOT_JUDGED or bool(BEHIND.search(message))


def _rules_of(file: Path) -> Iterator[Rule]:
    for item in yaml.safe_load_all(file.read_text()):
        if item["kind"] not in ("Role", "ClusterRole"):
            continue
        where = item["metadata"].get("namespace", "")
        for rule in item["rules"]:
            yield from _spelled_out(rule, where, file.stem)


def _spelled_out(rule: dict[str, Any], where: str, manifest: str) -> Iterator[Rule]:
    names = tuple(rule.get("resourceNames", ()))
    for group in rule.get("apiGroups", ()):
        for resource in rule["resources"]:
            for verb in rule["verbs"]:
                yield Rule(verb, group, resource, where, manifest, names)
