"""The cluster of which this process is a pod, by the account that Kubernetes gives it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from e2e.errors import CannotRunError
from e2e.provider.cache import cache_folder

IN_CLUSTER = "in-cluster"
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
HOST, PORT = "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"


def as_existing(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Options in which a cluster of which this is a pod is named as any that exists.

    Raises:
        CannotRunError: one is meant, and this is no pod.
    """
    if asked["provider"] != IN_CLUSTER:
        return dict(asked)
    file = str(kubeconfig())
    return {**asked, "provider": "existing", "kubeconfig": file, "kube_context": IN_CLUSTER}


def kubeconfig(folder: Path | None = None, account: Path = ACCOUNT) -> Path:
    """Write a kubeconfig that names the account's files, with the one context `in-cluster`.

    No key is in it: who reads the file has to be able to read the account.

    Args:
        folder: where to; in the cache by default.
        account: where the account is.

    Raises:
        CannotRunError: this is no pod, or one without an account.
    """
    host, port = os.environ.get(HOST), os.environ.get(PORT, "443")
    files = {name: account / name for name in ("token", "ca.crt")}
    lacking = [str(file) for file in files.values() if not file.exists()]
    if not host or lacking:
        raise CannotRunError(
            f"this is no pod with an account: there is no {', '.join(lacking) or HOST}",
            "--provider=in-cluster is for pods of the cluster under test; see manifests/job",
        )
    name: dict[str, Any] = {"name": IN_CLUSTER}
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    authority = str(files["ca.crt"])
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{**name, "cluster": {"server": server, "certificate-authority": authority}}],
        "users": [{**name, "user": {"tokenFile": str(files["token"])}}],
        "contexts": [{**name, "context": {"cluster": IN_CLUSTER, "user": IN_CLUSTER}}],
    }
    file = (folder or cache_folder()) / "in-cluster.kubeconfig"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(content))
    return file
