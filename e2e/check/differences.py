"""What is different between two fingerprints, field by field. Pure."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from e2e.check.fingerprint import Fingerprint, ServiceFacts

# By which entries of a list are told from one another, the first that fits.
KEYS = ("name", "type", "manager", "ip", "address", "key")
# What is kept by whoever writes an object, and says nothing by itself.
BOOKKEEPING = (
    "metadata.resourceVersion",
    "metadata.managedFields",
    "metadata.generation",
    "metadata.creationTimestamp",
    "status",
)
# Flags whose change takes numbers away from Services that have them.
OF_NUMBERS = ("service-node-port-range", "service-cluster-ip-range")
NOTHING = "nothing"
NODE_PORT = "node port"


@dataclass(frozen=True)
class Difference:
    """One field that is not what it was.

    Attributes:
        path: such as `spec.ports[http].nodePort`.
        before: its value; None if it was not there.
        after: likewise.
    """

    path: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Change:
    """Something that is not what it was.

    Attributes:
        about: what changed: an object, a node, a component.
        field: of it, if only a part.
        before: how it was.
        after: how it is.
        counts: whether that by itself makes two runs differ; what nobody promised, or what
            somebody meant to change, is only told.
    """

    about: str
    field: str
    before: str
    after: str
    counts: bool

    def __str__(self) -> str:
        what = f"{self.about}: {self.field}" if self.field else self.about
        return f"{what}: {self.before} -> {self.after}"


def differences(before: Any, after: Any, path: str = "") -> Iterator[Difference]:
    """Every field in which two values differ.

    Entries of lists are matched by what names them, so that one in another place is none.
    """
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in (*before, *(key for key in after if key not in before)):
            where = f"{path}.{key}" if path else str(key)
            yield from differences(before.get(key), after.get(key), where)
    elif (named := _named(before, after)) is not None:
        old, new = named
        for key in (*old, *(key for key in new if key not in old)):
            yield from differences(old.get(key), new.get(key), f"{path}[{key}]")
    elif before != after:
        yield Difference(path, before, after)


def _named(before: Any, after: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Two lists of objects by what names their entries; None if nothing does."""
    both = (before, after)
    if not all(isinstance(each, Sequence) and not isinstance(each, str) for each in both):
        return None
    if not all(isinstance(entry, Mapping) for each in both for entry in each):
        return None
    for key in KEYS:
        keys = [[entry.get(key) for entry in each] for each in both]
        if all(None not in names and len(set(names)) == len(names) for names in keys):
            old, new = (
                dict(zip(names, each, strict=True)) for names, each in zip(keys, both, strict=True)
            )
            return old, new
    # An only port needs no name, and has none before it gets company.
    return {str(n): e for n, e in enumerate(before)}, {str(n): e for n, e in enumerate(after)}


def allocations(service: ServiceFacts) -> dict[str, str]:
    """The numbers and addresses that a Service was given, by what they are."""
    spec = service.spec
    found = {
        f"{NODE_PORT} of {port.get('name') or port['port']}/{port.get('protocol', 'TCP')}": str(
            port["nodePort"]
        )
        for port in spec.get("ports", [])
        if port.get("nodePort")
    }
    if spec.get("healthCheckNodePort"):
        found["health-check node port"] = str(spec["healthCheckNodePort"])
    if spec.get("clusterIPs"):
        found["ClusterIP"] = ", ".join(spec["clusterIPs"])
    return found


def changed_allocations(
    before: Fingerprint, after: Fingerprint, made_again: Collection[str] = ()
) -> list[Change]:
    """Numbers and addresses that Services lost, or have others of, though they are the same.

    One that was made anew is another Service, whatever it is called.

    Args:
        before: the older.
        after: the newer.
        made_again: Services, with their namespaces, that an earlier churn had deleted and made
            again with their node ports, and nothing else that they had.
    """
    found = []
    for name, old in before.services.items():
        new = after.services.get(name)
        if new is None or (new.uid != old.uid and name not in made_again):
            continue
        had, has = allocations(old), allocations(new)
        if new.uid != old.uid:
            had, has = (
                {w: a for w, a in of.items() if w.startswith(NODE_PORT)} for of in (had, has)
            )
        found += [
            Change(f"Service {name}", what, had.get(what, NOTHING), has.get(what, NOTHING), True)
            for what in (*had, *(what for what in has if what not in had))
            if had.get(what) != has.get(what)
        ]
    return found


def changed_objects(
    before: Fingerprint, after: Fingerprint, namespace: str, made_again: Collection[str] = ()
) -> list[Change]:
    """What else changed of Services: in full for those that were prepared, which nobody may touch.

    The others belong to people who may have meant it, so that is told and does not count.

    Args:
        before: the older.
        after: the newer.
        namespace: of those that were prepared.
        made_again: which of them an earlier churn had deleted and made again.
    """
    found = []
    for name, old in before.prepared.items():
        about = f"Service {namespace}/{name}"
        if name not in after.prepared:
            found.append(Change(about, "", "was there", "is gone", True))
            continue
        for each in differences(old, after.prepared[name]):
            if not _is_allocation(each.path):
                told = (*BOOKKEEPING, "metadata") if name in made_again else BOOKKEEPING
                counts = not each.path.startswith(told)
                found.append(_change(about, each, counts=counts))
    ours = f"{namespace}/"
    for name in sorted(before.services.keys() | after.services.keys()):
        if not name.startswith(ours):
            was, now = before.services.get(name), after.services.get(name)
            found += _of_others(f"Service {name}", was, now)
    return found


def _of_others(about: str, was: ServiceFacts | None, now: ServiceFacts | None) -> Iterator[Change]:
    if was is None or now is None:
        gone, there = "is gone", "is there"
        yield Change(about, "", "was not there" if was is None else "was there",
                     gone if now is None else there, False)  # fmt: skip
    elif was.uid != now.uid:
        yield Change(about, "", f"uid {was.uid}", f"uid {now.uid}, made anew", False)
    else:
        old, new = (each.model_dump(exclude={"uid"}) for each in (was, now))
        for each in differences(old, new):
            if not _is_allocation(each.path):
                yield _change(about, each, counts=False)


def _is_allocation(path: str) -> bool:
    last = path.rpartition(".")[2].partition("[")[0]
    return last in {"nodePort", "healthCheckNodePort", "clusterIP", "clusterIPs"}


def changed_defaults(before: Fingerprint, after: Fingerprint) -> list[Change]:
    """What an API server now makes of a Service that says as little as can be."""
    return [
        _change(f"default of a new Service ({name})", each, counts=True)
        for name in before.defaults
        for each in differences(before.defaults[name], after.defaults.get(name))
    ]


def changed_versions(before: Fingerprint, after: Fingerprint) -> list[Change]:
    """Versions that changed, each of which somebody meant to: the server's, nodes', components'."""
    found = list(_pair("API server", before.version, after.version))
    at: dict[tuple[str, str, str], list[str]] = {}
    both = before.nodes.keys() & after.nodes.keys()
    for name in sorted(both):
        for each in differences(before.nodes[name].versions, after.nodes[name].versions):
            at.setdefault((each.path, _say(each.before), _say(each.after)), []).append(name)
    for (what, was, now), names in at.items():
        where = "every node" if len(names) == len(both) > 1 else f"node {', '.join(names)}"
        found.append(Change(where, what, was, now, False))
    for name in sorted(before.components.keys() | after.components.keys()):
        was, now = (_images(f.components.get(name, {})) for f in (before, after))
        found += _pair(name, was, now)
    return found


def _images(where: Mapping[str, str]) -> str:
    """The images of a component, without their registries, and where if they are not all one."""
    by_image: dict[str, list[str]] = {}
    for node, image in where.items():
        by_image.setdefault(image.rpartition("/")[2], []).append(node)
    if len(by_image) == 1:
        return next(iter(by_image))
    return ", ".join(f"{image} on {' and '.join(at)}" for image, at in by_image.items()) or NOTHING


def changed_setup(before: Fingerprint, after: Fingerprint) -> list[Change]:
    """What changed of nodes and of how the cluster is configured."""
    found = []
    for name in sorted(before.nodes.keys() | after.nodes.keys()):
        was, now = before.nodes.get(name), after.nodes.get(name)
        if was is None or now is None:
            gone = "is gone" if now is None else "is there"
            had = "was there" if was else "was not there"
            found.append(Change(f"node {name}", "", had, gone, False))
            continue
        old, new = (each.model_dump(exclude={"versions"}) for each in (was, now))
        for each in differences(old, new):
            # A node that users called at an address of which it is no more is lost to them.
            counts = each.path == "addresses" or each.path.startswith("conditions.Ready")
            found.append(_change(f"node {name}", each, counts=counts))
    found += _pair("kube-proxy", before.proxy_mode, after.proxy_mode, "mode")
    found += [
        _change("kube-proxy", each, counts=False)
        for each in differences(before.proxy, after.proxy)
        if each.path != "mode"
    ]
    for name in sorted(before.flags.keys() | after.flags.keys()):
        was_set, is_set = (f"{_values(f.flags.get(name, {}))}" for f in (before, after))
        found += _pair("API server", was_set, is_set, f"--{name}", counts=name in OF_NUMBERS)
    return found


def _values(where: Mapping[str, str]) -> str:
    return " or ".join(sorted(set(where.values()))) or "not set"


def _pair(
    about: str, before: str, after: str, field: str = "", *, counts: bool = False
) -> Iterable[Change]:
    return [Change(about, field, before, after, counts)] if before != after else []


def _change(about: str, each: Difference, *, counts: bool) -> Change:
    return Change(about, each.path, _say(each.before), _say(each.after), counts)


def _say(value: Any) -> str:
    if value is None:
        return NOTHING
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
