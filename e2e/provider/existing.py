"""The safety gate: which clusters that exist may be written to."""

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from e2e.errors import RefusedError, UsageError
from e2e.provider.command import CommandFailedError
from e2e.provider.engine import Engine
from e2e.provider.wellness import CLUSTER_LABEL

ALLOW = "E2E_ALLOW_CONTEXT"
# The addresses of this machine, and those at which a port must be published to be reached there.
LOOPBACK = {
    "127.0.0.1": {"127.0.0.1", "0.0.0.0", ""},  # noqa: S104  # compared, not bound
    "::1": {"::1", "::", ""},
    "localhost": {"127.0.0.1", "0.0.0.0", "::1", "::", ""},  # noqa: S104
}


def default_kubeconfig() -> Path:
    """The file that kubectl would read first."""
    named = os.environ.get("KUBECONFIG", "").split(os.pathsep)[0]
    return Path(named) if named else Path.home() / ".kube" / "config"


def check_allowed(kubeconfig: Path, context: str | None, engine: Engine | None) -> None:
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
    server, proxied = _server_of(kubeconfig, context)
    allowed = os.environ.get(ALLOW, "").replace(",", " ").split()
    # This machine's loopback address is not meant where somebody else makes the connection.
    is_ours = engine is not None and not proxied and kind_cluster_at(server, engine) is not None
    if context in allowed or is_ours:
        return
    raise RefusedError(
        f"the context {context} ({server}) is no kind cluster on this machine, "
        "and the contract creates and deletes objects",
        f"if it may: {ALLOW}={context}",
    )


def cluster_name(kubeconfig: Path, context: str, engine: Engine | None) -> str:
    """What to call the cluster of a context: its name if it is one of kind here, else its server.

    Raises:
        UsageError: the file has no such context.
    """
    server, _ = _server_of(kubeconfig, context)
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


def _server_of(kubeconfig: Path, context: str) -> tuple[str, bool]:
    """The address of a context's API server, and whether it is reached through a proxy."""
    try:
        content: Any = yaml.safe_load(kubeconfig.read_text())
        contexts = {item["name"]: item["context"] for item in content["contexts"]}
        clusters = {item["name"]: item["cluster"] for item in content["clusters"]}
        if context in contexts:
            cluster = clusters[contexts[context]["cluster"]]
            return str(cluster["server"]), "proxy-url" in cluster
    except OSError as error:
        raise UsageError(
            f"no kubeconfig at {kubeconfig}: {error.strerror}", "name one: --kubeconfig=FILE"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise UsageError(f"{kubeconfig} is no kubeconfig: {_in_one_line(error)}") from error
    raise UsageError(
        f"no context {context} in {kubeconfig}", f"it has: {', '.join(sorted(contexts))}"
    )


def _in_one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
