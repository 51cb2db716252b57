"""The safety gate: which clusters that exist may be written to."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from e2e.errors import RefusedError
from e2e.provider.command import CommandFailedError
from e2e.provider.engine import Engine
from e2e.provider.kubeconfig import read_context
from e2e.provider.wellness import CLUSTER_LABEL

ALLOW = "E2E_ALLOW_CONTEXT"
# The addresses of this machine, and those at which a port must be published to be reached there.
LOOPBACK = {
    "127.0.0.1": {"127.0.0.1", "0.0.0.0", ""},  # noqa: S104  # compared, not bound
    "::1": {"::1", "::", ""},
    "localhost": {"127.0.0.1", "0.0.0.0", "::1", "::", ""},  # noqa: S104
}


@dataclass(frozen=True)
class Consent:
    """That a cluster may be written to.

    Attributes:
        context: by which it is reached.
        server: where.
        by_name: whether somebody said so, and it is no kind cluster of this machine.
        clusters: the UIDs of kube-system that were named with it; none if the context alone was.
    """

    context: str
    server: str
    by_name: bool
    clusters: frozenset[str] = frozenset()


def check_allowed(kubeconfig: Path, context: str | None, engine: Engine | None) -> Consent:
    """Pass if the contract may write to this cluster; sends nothing to it.

    Raises:
        RefusedError: no context was named, or it is neither a kind cluster on this machine nor
            named in E2E_ALLOW_CONTEXT.
        UsageError: the file has no such context.
    """
    if not context:
        raise RefusedError(
            "no context was named, and the current one is never used",
            "name it: --kube-context=NAME, or make e2e-here CONTEXT=NAME",
        )
    found = read_context(kubeconfig, context)
    # This machine's loopback address is not meant where somebody else makes the connection.
    if engine and not found.is_proxied and kind_cluster_at(found.server, engine) is not None:
        return Consent(context, found.server, by_name=False)
    named = os.environ.get(ALLOW, "").replace(",", " ").split()
    with_cluster = f"{context}@"
    clusters = frozenset(
        each.removeprefix(with_cluster) for each in named if each.startswith(with_cluster)
    )
    if context in named or clusters:
        return Consent(context, found.server, by_name=True, clusters=clusters)
    raise RefusedError(
        f"the context {context} ({found.server}) is no kind cluster on this machine, "
        "and the contract creates and deletes objects",
        f"if it may: {ALLOW}={context}",
    )


def cluster_name(kubeconfig: Path, context: str, engine: Engine | None) -> str:
    """What to call the cluster of a context: its name if it is one of kind here, else its server.

    Raises:
        UsageError: the file has no such context.
    """
    server = read_context(kubeconfig, context).server
    return (kind_cluster_at(server, engine) if engine else None) or server


def kind_cluster_at(server: str, engine: Engine) -> str | None:
    """The name of the kind cluster of this engine whose API server has this address, if any."""
    try:
        host, port = urlsplit(server).hostname, urlsplit(server).port
    except ValueError:
        return None
    if host not in LOOPBACK or port is None:
        return None
    try:
        found = engine.run(
            "ps", "--filter", f"label={CLUSTER_LABEL}", "--format", "{{.ID}}"
        ).split()
        details = json.loads(engine.run("inspect", *found)) if found else []
    except CommandFailedError:
        return None
    for container in details:
        published = {
            int(binding["HostPort"] or 0)
            for binding in container["NetworkSettings"]["Ports"].get("6443/tcp") or []
            if binding["HostIp"] in LOOPBACK[host]
        }
        if port in published:
            return str(container["Config"]["Labels"][CLUSTER_LABEL])
    return None
