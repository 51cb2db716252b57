"""Kubeconfigs: what a context says, and a private copy of one that nobody else's edit changes."""

import base64
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
# The lists of a kubeconfig, by what each of their entries has beside its name.
LISTS = {"context": "contexts", "cluster": "clusters", "user": "users"}
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
        cluster_file: where that of the cluster was read, beside which its files are.
        user_file: likewise.
    """

    name: str
    cluster: dict[str, Any]
    user: dict[str, Any]
    cluster_file: Path
    user_file: Path

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


def default_kubeconfig() -> Path:
    """What kubectl would read: a file, or those of KUBECONFIG that say anything, as it has them.

    Where none of them does, it is the first that is there, or else the first.
    """
    named = [each for each in os.environ.get("KUBECONFIG", "").split(os.pathsep) if each]
    there = [str(Path(each).absolute()) for each in named if Path(each).exists()]
    if len(there) > 1:
        # Which the client of the API server would refuse.
        there = [each for each in there if not _is_empty(Path(each))] or there[:1]
    there = there or named[:1]
    return Path(os.pathsep.join(there)) if there else Path.home() / ".kube" / "config"


def current_context(kubeconfig: Path) -> str:
    """The context that kubectl would use now.

    Raises:
        UsageError: there is none.
    """
    files = _files(kubeconfig)
    for file in files:
        try:
            name = _content(file, one_of=files).get("current-context")
        except (OSError, yaml.YAMLError, ValueError, AttributeError, RecursionError) as error:
            raise UsageError(f"{file} is no kubeconfig: {_why(error)}") from error
        if name:
            return str(name)
    raise UsageError(f"{kubeconfig} has no current context", "name one: --kube-context")


def read_context(kubeconfig: Path, context: str) -> Context:
    """What a file, or several as `default_kubeconfig` gives them, say of a context.

    Of several the first that has an entry of a name is asked for it, as kubectl does.

    Raises:
        UsageError: there is no such file, it is no kubeconfig, or it has no such context.
    """
    files = _files(kubeconfig)
    found: dict[str, dict[str, tuple[Any, Path]]] = {key: {} for key in LISTS}
    for file in files:
        with _named_if_broken(file):
            content = _content(file, one_of=files)
            for key, plural in LISTS.items():
                # What one of several lacks another one may have, and nobody needs a user.
                may_lack = len(files) > 1 or key == "user"
                entries = content.get(plural) or [] if may_lack else content[plural]
                for item in entries:
                    found[key].setdefault(item["name"], (item[key], file))
    if context not in found["context"]:
        has = f"it has: {', '.join(sorted(map(str, found['context'])))}"
        raise UsageError(f"no context {context} in {kubeconfig}", has)
    names, file = found["context"][context]
    for key in ("cluster", "user"):
        name = names.get(key) if isinstance(names, dict) else None
        if isinstance(name, str) and name and name not in found[key]:
            raise UsageError(
                f"the context {context} names the {key} {name}, of which nothing stands in "
                f"{kubeconfig}",
                "name the file that has it too: --kubeconfig, or several in KUBECONFIG",
            )
    with _named_if_broken(kubeconfig):
        cluster, cluster_file = found["cluster"][names["cluster"]]
        user, user_file = found["user"][names["user"]] if names.get("user") else ({}, file)
        str(cluster["server"])
        return Context(context, dict(cluster), dict(user or {}), cluster_file, user_file)


@contextmanager
def _named_if_broken(kubeconfig: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"no kubeconfig at {kubeconfig}: {error.strerror}", "name one: --kubeconfig=FILE"
        ) from error
    except (yaml.YAMLError, RecursionError, ValueError, LookupError, TypeError,
            AttributeError) as error:  # fmt: skip
        raise UsageError(f"{kubeconfig} is no kubeconfig: {_why(error)}") from error


def _files(kubeconfig: Path) -> list[Path]:
    """The file, or those whose names are in its name as in KUBECONFIG."""
    several = os.pathsep in str(kubeconfig) and not kubeconfig.exists()
    return [Path(each) for each in str(kubeconfig).split(os.pathsep)] if several else [kubeconfig]


def _content(file: Path, *, one_of: Sequence[Path]) -> Any:
    """What stands in a file; an empty one of several says nothing, and alone it is broken."""
    content = yaml.safe_load(file.read_text())
    return {} if content is None and len(one_of) > 1 else content


def _is_empty(file: Path) -> bool:
    try:
        return yaml.safe_load(file.read_text()) is None
    except (OSError, yaml.YAMLError, ValueError, RecursionError):
        # Whoever reads it says so.
        return False


def pin(kubeconfig: Path, context: str, folder: Path) -> Path:
    """Copy one context, with all that it needs, to where only this user reads it.

    Args:
        kubeconfig: the file of the user, or several, which are only read.
        context: in that file.
        folder: of a run, with which the copy goes.

    Raises:
        UsageError: as `read_context`, or a file that it names cannot be read.
    """
    found = read_context(kubeconfig, context)
    cluster = _whole(found.cluster, OF_CLUSTERS, context, found.cluster_file)
    user = _whole(found.user, OF_USERS, context, found.user_file)
    if isinstance(plugin := user.get("exec"), dict):
        command = str(plugin.get("command", ""))
        # As kubectl does: a bare name is looked for on the PATH, a path begins at the file.
        if os.sep in command:
            user["exec"] = {**plugin, "command": str(_beside(found.user_file, command))}
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


def _whole(
    entry: dict[str, Any], files: dict[str, bool], context: str, kubeconfig: Path
) -> dict[str, Any]:
    """An entry with the content of the files that it names, or else where they are."""
    whole = dict(entry)
    for key, can_stand in files.items():
        if not entry.get(key):
            continue
        file = _beside(kubeconfig, str(entry[key]))
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
                f"{kubeconfig} names {file} as {key} of {context}: {error.strerror}",
                "mend the kubeconfig, or name another: --kubeconfig=FILE",
            ) from error
    return whole


def _beside(kubeconfig: Path, path: str) -> Path:
    return (kubeconfig.absolute().parent / path).absolute()


def _why(error: Exception) -> str:
    if isinstance(error, yaml.YAMLError):
        return " ".join(str(error).split())
    if isinstance(error, KeyError):
        return f"it has no {error.args[0]!r}"
    if isinstance(error, UnicodeDecodeError):
        return "it is no text"
    return "it is empty, or has something else where its entries should be"
