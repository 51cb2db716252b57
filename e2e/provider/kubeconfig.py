"""Kubeconfigs: what a context says, and a private copy of one that nobody else's edit changes."""

import base64
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from e2e.errors import UsageError

PINNED = "kubeconfig"
# Keys that name a file, and whether its content can stand in the copy. A token's file cannot: who
# wrote it renews it.
OF_CLUSTERS = {"certificate-authority": True}
OF_USERS = {"client-certificate": True, "client-key": True, "tokenFile": False}
URLS = ("server", "proxy-url")
SHORTEST = 4


def shown(url: str) -> str:
    """An address without the name and password that may stand in it."""
    return re.sub(r"(?<=//)[^/]*@", "", url)


@dataclass(frozen=True)
class Context:
    """What a kubeconfig says of one context.

    Attributes:
        name: of the context.
        cluster: the entry that it names: server, certificates, proxy.
        user: likewise: token, keys, plugin; empty for nobody.
        file: where it was read.
    """

    name: str
    cluster: dict[str, Any]
    user: dict[str, Any]
    file: Path

    @property
    def server(self) -> str:
        """The address of the API server, for messages without what stands before an @."""
        return shown(str(self.cluster["server"]))

    def without_secrets(self, said: str) -> str:
        """What somebody said, without the secrets that stand in the kubeconfig."""
        for secret in sorted(self._secrets(), key=len, reverse=True):
            said = said.replace(secret, "…")
        return said

    def _secrets(self) -> set[str]:
        plugin = self.user.get("exec")
        variables = (plugin.get("env") or []) if isinstance(plugin, dict) else []
        found = [self.user.get(key) for key in ("token", "password", "client-key-data")]
        found += [each.get("value") for each in variables if isinstance(each, dict)]
        found += [urlsplit(str(self.cluster[k])).password for k in URLS if k in self.cluster]
        # Shorter ones are words that stand everywhere.
        return {str(each) for each in found if each and len(str(each)) >= SHORTEST}

    @property
    def is_proxied(self) -> bool:
        """Whether the kubeconfig says that it is reached through a proxy."""
        return "proxy-url" in self.cluster


def default_kubeconfig(context: str | None = None) -> Path:
    """The file that kubectl would read first; of several in KUBECONFIG, one with the context."""
    named = [Path(each) for each in os.environ.get("KUBECONFIG", "").split(os.pathsep) if each]
    if context and len(named) > 1:
        for file in named:
            try:
                read_context(file, context)
            except UsageError:
                continue
            return file
    return named[0] if named else Path.home() / ".kube" / "config"


def current_context(kubeconfig: Path) -> str:
    """The context that kubectl would use now.

    Raises:
        UsageError: there is none.
    """
    try:
        name = yaml.safe_load(kubeconfig.read_text()).get("current-context")
    except (OSError, yaml.YAMLError, ValueError, AttributeError, RecursionError) as error:
        raise UsageError(f"{kubeconfig} is no kubeconfig: {_why(error)}") from error
    if not name:
        raise UsageError(f"{kubeconfig} has no current context", "name one: --kube-context")
    return str(name)


def read_context(kubeconfig: Path, context: str) -> Context:
    """What a file says of a context.

    Raises:
        UsageError: there is no such file, it is no kubeconfig, or it has no such context.
    """
    try:
        content: Any = yaml.safe_load(kubeconfig.read_text())
        contexts = _named(content["contexts"], "context")
        if context in contexts:
            names = contexts[context]
            cluster = dict(_named(content["clusters"], "cluster")[names["cluster"]])
            users = _named(content.get("users") or [], "user")
            user = dict(users[names["user"]] or {}) if names.get("user") else {}
            str(cluster["server"])
            return Context(context, cluster, user, kubeconfig)
    except OSError as error:
        raise UsageError(
            f"no kubeconfig at {kubeconfig}: {error.strerror}", "name one: --kubeconfig=FILE"
        ) from error
    except (yaml.YAMLError, RecursionError, ValueError, LookupError, TypeError,
            AttributeError) as error:  # fmt: skip
        raise UsageError(f"{kubeconfig} is no kubeconfig: {_why(error)}") from error
    has = f"it has: {', '.join(sorted(map(str, contexts)))}"
    raise UsageError(f"no context {context} in {kubeconfig}", has)


def pin(kubeconfig: Path, context: str, folder: Path) -> Path:
    """Copy one context, with all that it needs, to where only this user reads it.

    Args:
        kubeconfig: the file of the user, which is only read.
        context: in that file.
        folder: of a run, with which the copy goes.

    Raises:
        UsageError: as `read_context`, or a file that it names cannot be read.
    """
    found = read_context(kubeconfig, context)
    cluster, user = _whole(found.cluster, OF_CLUSTERS, found), _whole(found.user, OF_USERS, found)
    if isinstance(plugin := user.get("exec"), dict):
        command = str(plugin.get("command", ""))
        # As kubectl does: a bare name is looked for on the PATH, a path begins at the file.
        if os.sep in command:
            user["exec"] = {**plugin, "command": str(_beside(found, command))}
    name = {"name": context}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": context,
        "clusters": [{**name, "cluster": cluster}],
        "users": [{**name, "user": user}],
        "contexts": [{**name, "context": {"cluster": context, "user": context}}],
    }
    folder.mkdir(parents=True, exist_ok=True)
    copy = folder / PINNED
    copy.unlink(missing_ok=True)
    descriptor = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        yaml.safe_dump(content, file, sort_keys=False)
    return copy


def _whole(entry: dict[str, Any], files: dict[str, bool], found: Context) -> dict[str, Any]:
    """An entry with the content of the files that it names, or else where they are."""
    whole = dict(entry)
    for key, can_stand in files.items():
        if not entry.get(key):
            continue
        file = _beside(found, str(entry[key]))
        if not can_stand:
            whole[key] = str(file)
            continue
        del whole[key]
        # What stands in the file itself goes before what it names.
        if entry.get(f"{key}-data"):
            continue
        try:
            whole[f"{key}-data"] = base64.b64encode(file.read_bytes()).decode()
        except OSError as error:
            raise UsageError(
                f"{found.file} names {file} as {key} of {found.name}: {error.strerror}",
                "mend the kubeconfig, or name another: --kubeconfig=FILE",
            ) from error
    return whole


def _beside(found: Context, path: str) -> Path:
    return (found.file.absolute().parent / path).absolute()


def _named(entries: Any, key: str) -> dict[str, Any]:
    return {item["name"]: item[key] for item in entries}


def _why(error: Exception) -> str:
    if isinstance(error, yaml.YAMLError):
        return " ".join(str(error).split())
    if isinstance(error, KeyError):
        return f"it has no {error.args[0]!r}"
    if isinstance(error, UnicodeDecodeError):
        return "it is no text"
    return "it is empty, or has something else where its entries should be"
