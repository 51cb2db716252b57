"""How much a run may have in use at once; a harness gone wrong must not fill somebody's cluster."""

import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from e2e.errors import CannotRunError, UsageError

# A whole range of node ports is 2,768 numbers, and the widest that clauses fill.
ALLOWED = {"services": 3000, "pods": 500, "node-ports": 6000}
FOLDER = "in-use"
POD_MAKERS = ("Deployment", "DaemonSet")


def variable(what: str) -> str:
    """The name of the variable that allows more or less."""
    return f"E2E_MAX_{what.upper().replace('-', '_')}"


def limits() -> dict[str, int]:
    """What is allowed.

    Raises:
        UsageError: a variable is no number.
    """
    found = {}
    for what, usual in ALLOWED.items():
        said = os.environ.get(variable(what)) or str(usual)
        if not said.isdecimal():
            raise UsageError(f"{variable(what)} is {said}", "give a number")
        found[what] = int(said)
    return found


class FullError(CannotRunError):
    """So much is in use that one more may not be."""


class Cap:
    """Counts what this process and others of the run have made, and stops at the limits.

    Objects count from when they are asked for until their deletion is, or that of their namespace.
    """

    def __init__(self, shared: Path | None) -> None:
        """Share the counts in a folder of the run, if there is one."""
        self._limits = limits()
        self._made: dict[tuple[str, str, str], tuple[dict[str, str], dict[str, int]]] = {}
        self._lock = threading.Lock()
        self._file: Path | None = None
        if shared is not None:
            (shared / FOLDER).mkdir(parents=True, exist_ok=True)
            self._file = shared / FOLDER / f"{os.getpid()}-{id(self)}.json"

    def demand_room(self, manifest: Mapping[str, Any]) -> None:
        """Go on only if this object may be made beside all others.

        Raises:
            FullError: there would be too many.
        """
        asked = _weight(manifest)
        if not asked:
            return
        with self._lock:
            used = self._used()
        for what, count in asked.items():
            if used.get(what, 0) + count > self._limits[what]:
                raise FullError(
                    f"{used.get(what, 0) + count} {what} would be in use at once, of which this "
                    f"run may have {self._limits[what]}",
                    f"ask fewer clauses at once (E2E_PROCESSES), or allow more: {variable(what)}",
                )

    def made(self, stored: Mapping[str, Any]) -> None:
        """Note what was stored, or what became of it."""
        where = stored.get("metadata", {})
        if weight := _weight(stored):
            key = (stored["kind"], where.get("namespace", ""), where["name"])
            with self._lock:
                self._made[key] = (dict(where.get("labels") or {}), weight)
                self._tell()

    def ended(
        self, kind: str, namespace: str | None, name: str | None = None, **labels: str
    ) -> None:
        """Note whose end was asked for: one object, all with these labels, or a namespace."""
        with self._lock:
            for key in list(self._made):
                of, where, called = key
                if kind == "Namespace":
                    is_meant = where == name
                else:
                    is_meant = of == kind and where == (namespace or "")
                    is_meant = is_meant and name in (None, called)
                    is_meant = is_meant and labels.items() <= self._made[key][0].items()
                if is_meant:
                    del self._made[key]
            self._tell()

    def _used(self) -> dict[str, int]:
        found = [_total(self._made)]
        if self._file is not None:
            files = self._file.parent.glob("*.json")
            found += [_read(file) for file in files if file != self._file]
        return {what: sum(each.get(what, 0) for each in found) for what in ALLOWED}

    def _tell(self) -> None:
        if self._file is not None and self._file.parent.exists():
            draft = self._file.with_suffix(".new")
            draft.write_text(json.dumps(_total(self._made)))
            draft.rename(self._file)


def _weight(manifest: Mapping[str, Any]) -> dict[str, int]:
    """What an object counts for."""
    kind, spec = manifest.get("kind"), manifest.get("spec")
    # Clauses also send what is no Service at all.
    spec = spec if isinstance(spec, dict) else {}
    if kind == "Pod":
        return {"pods": 1}
    if kind in POD_MAKERS:
        count = spec.get("replicas", 1)
        return {"pods": count if isinstance(count, int) else 1}
    if kind == "Service":
        ports = spec.get("ports")
        on_nodes = isinstance(ports, list) and spec.get("type") in ("NodePort", "LoadBalancer")
        return {"services": 1, "node-ports": len(ports or ()) if on_nodes else 0}
    return {}


def _total(made: Mapping[tuple[str, str, str], tuple[Any, Mapping[str, int]]]) -> dict[str, int]:
    weights = [weight for _, weight in made.values()]
    return {what: sum(each.get(what, 0) for each in weights) for what in ALLOWED}


def _read(file: Path) -> dict[str, int]:
    try:
        return dict(json.loads(file.read_text()))
    except (OSError, ValueError):
        return {}
