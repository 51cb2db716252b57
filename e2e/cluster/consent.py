"""Whether a cluster says that nobody may write to it, and whether it is the one that was allowed.

What says so is its namespace kube-system, which every cluster has and only its administrators
change: its UID is what the cluster is known by, whatever it is called and wherever it is reached.
"""

import json
from datetime import UTC, datetime
from pathlib import Path

from e2e.cluster.api import Api, Object
from e2e.cluster.inventory import SYSTEM
from e2e.errors import CannotRunError, RefusedError
from e2e.provider.cache import cache_folder, file_name
from e2e.provider.existing import ALLOW, Consent
from e2e.provider.wellness import FORBIDDEN


def admit(api: Api, consent: Consent | None = None, *, remember: bool = True) -> str:
    """Go on only with a cluster that may be written to; gives its identity.

    The first time that a context is allowed by its name alone, the cluster to which it leads is
    noted. From then on another one is refused, unless it is named with the context.

    Args:
        api: the cluster.
        consent: that it may be written to; None where it is one of this machine.
        remember: whether to note it.

    Raises:
        RefusedError: the cluster forbids it, or it is another one than was allowed.
        CannotRunError: it does not answer, or does not let kube-system be read.
    """
    found = api.find("Namespace", SYSTEM)
    if found.get("kind") == "Status":
        raise CannotRunError(
            f"the namespace {SYSTEM} cannot be read, so it is not known whether this cluster may "
            f"be written to: {found.get('message')}",
            "let this user get namespaces: see manifests/rbac",
        )
    _demand_unmarked(api, found)
    cluster = str(found["metadata"]["uid"])
    if consent and consent.by_name:
        _demand_same(consent, cluster, remember=remember)
    return cluster


def _demand_unmarked(api: Api, system: Object) -> None:
    metadata = system["metadata"]
    for kind in ("labels", "annotations"):
        noted = metadata.get(kind) or {}
        if FORBIDDEN in noted:
            why = f": {noted[FORBIDDEN]}" if noted[FORBIDDEN] else ""
            raise RefusedError(
                f"the cluster at {api.server} forbids it: its namespace {SYSTEM} carries the "
                f"{kind.removesuffix('s')} {FORBIDDEN}{why}",
                "take another cluster; whoever owns this one may take the mark away",
            )


def _demand_same(consent: Consent, cluster: str, *, remember: bool) -> None:
    file = cache_folder() / "allowed" / f"{file_name(consent.context.lower())}.json"
    if consent.clusters:
        if cluster not in consent.clusters:
            raise RefusedError(
                f"the context {consent.context} ({consent.server}) leads to the cluster {cluster}, "
                f"and {', '.join(sorted(consent.clusters))} is what {ALLOW} names",
                f"if it is meant: {ALLOW}={consent.context}@{cluster}",
            )
    elif (known := _known(file, consent.context)) and known["cluster"] != cluster:
        raise RefusedError(
            f"the context {consent.context} leads to another cluster than when it was allowed: to "
            f"{cluster} at {consent.server}, and on {known['since']} to {known['cluster']} at "
            f"{known['server']}",
            f"if the new one may be written to: {ALLOW}={consent.context}@{cluster} ({file} has "
            "the old one)",
        )
    if remember:
        _note(file, consent, cluster)


def _known(file: Path, context: str) -> dict[str, str] | None:
    try:
        known: dict[str, str] = json.loads(file.read_text())[context]
        return known if {"cluster", "server", "since"} <= known.keys() else None
    except (OSError, ValueError, LookupError, AttributeError, TypeError):
        return None


def _note(file: Path, consent: Consent, cluster: str) -> None:
    """Note it beside other contexts whose names are the same as names of files."""
    try:
        every = json.loads(file.read_text())
    except (OSError, ValueError):
        every = {}
    every = every if isinstance(every, dict) else {}
    if (known := _known(file, consent.context)) and known["cluster"] == cluster:
        return
    since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    every[consent.context] = {"cluster": cluster, "server": consent.server, "since": since}
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(".new")
    draft.write_text(json.dumps(every, indent=1) + "\n")
    draft.rename(file)
