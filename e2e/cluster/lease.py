"""The Lease in a cluster by which runs of two machines stay out of each other's way.

Runs of one machine share it, as lock files keep them apart there; see
docs/decisions/one-machine-a-cluster.md.
"""

import fcntl
import getpass
import hashlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from kubernetes.dynamic.exceptions import DynamicApiError

from e2e import timing
from e2e.cluster.api import Api, ApiRefusedError, Object
from e2e.cluster.consent import admit
from e2e.cluster.leftovers import host
from e2e.cluster.namespace import PART
from e2e.errors import CannotRunError, StopError
from e2e.provider import existing
from e2e.provider.cache import cache_folder
from e2e.provider.engine import Engine
from e2e.provider.kubeconfig import pin
from e2e.wait import WaitedInVainError, pause, wait_until

# Where every cluster has a place for it, and nothing has to be made or to stay.
NAMESPACE, NAME = "default", "nodeport-e2e"
WHO = "nodeport-e2e/who"
CONFLICT, GONE = 409, 404


def holder() -> str:
    """Who shares lock files with this process: those of this machine with the same cache."""
    # One folder may have two names, as where a part of its path is a link.
    folder = hashlib.sha256(str(cache_folder().resolve()).encode()).hexdigest()[:6]
    return f"{host()}-{folder}"


@contextmanager
def taken(
    kubeconfig: Path,
    context: str,
    engine: Engine | None,
    folder: Path,
    *,
    wait: float = 0.0,
    say: Callable[[str], None] = lambda _: None,
) -> Iterator[Api]:
    """Have a cluster that may be written to, by a private copy of its context.

    Args:
        kubeconfig: the file.
        context: in that file.
        engine: runs the nodes, if they are containers here.
        folder: of this process alone; the copy goes with it.
        wait: as of `held`.
        say: likewise.

    Raises:
        RefusedError: it may not be written to.
        UsageError: there is no such context.
        CannotRunError: it does not answer, or a run of another machine has it.
        ApiRefusedError: this user may not have a Lease.
    """
    copy = pin(kubeconfig, context, folder)
    consent = existing.check_allowed(copy, context, engine)
    api = Api(copy, context, secrets=folder)
    with held(api, admit(api, consent), wait=wait, say=say):
        yield api


@contextmanager
def held(
    api: Api,
    cluster: str,
    *,
    wait: float = 0.0,
    say: Callable[[str], None] = lambda _: None,
) -> Iterator[None]:
    """Have the cluster for this machine, for as long as the context lasts.

    A pod of a Job has nothing to do with it: who made the Job has the cluster.

    Args:
        api: the cluster.
        cluster: its identity.
        wait: so many seconds for a run of another machine to end.
        say: gets what is waited for, and why the lease was lost.

    Raises:
        CannotRunError: a run of another machine has it, or took it meanwhile.
        ApiRefusedError: this user may not have a Lease.
    """
    if os.environ.get(PART):
        yield
        return
    folder = cache_folder() / "leases"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{cluster}.users").open("a") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        keeper = _Keeper(api, folder / f"{cluster}.renewed", say)
        # All in one, as an interrupt between two of these would leave the Lease.
        try:
            take(api, wait=wait, say=say)
            keeper.start()
            yield
        except (StopError, ApiRefusedError):
            raise
        except BaseException as error:
            if keeper.lost and isinstance(error, KeyboardInterrupt):
                raise CannotRunError(keeper.lost) from None
            _await_asked_for(api)
            raise
        finally:
            keeper.stop()
            if not keeper.lost:
                _leave(api, users)


def take(api: Api, *, wait: float = 0.0, say: Callable[[str], None] = lambda _: None) -> None:
    """Get the Lease, as soon as nobody else renews it.

    Whether somebody does is told by looking, and not by times, as clocks of two machines differ.

    Raises:
        CannotRunError: somebody else has it.
        ApiRefusedError: this user may not have it.
    """
    looker = _Looker(api, wait, say)
    patience = wait + 2 * timing.LEASE_LASTS
    try:
        wait_until(
            looker.is_ours, what="the lease of the cluster", within=patience,
            every=timing.LEASE_LOOKED_AT_EVERY,
        )  # fmt: skip
    except WaitedInVainError as error:
        raise looker.refusal() from error


def who_holds(found: Object) -> str:
    """Who has a Lease, in words: who, as whom, since when."""
    spec, notes = found["spec"], found["metadata"].get("annotations") or {}
    name = spec.get("holderIdentity") or "nobody"
    who = f"{notes[WHO]} ({name})" if WHO in notes else name
    since, renewed = (str(spec.get(key, "?")).partition(".")[0] for key in
                      ("acquireTime", "renewTime"))  # fmt: skip
    return f"{who}, since {since}, last renewed at {renewed}"


@dataclass
class _Looker:
    """Looks at the Lease again and again until it is ours."""

    api: Api
    wait: float
    say: Callable[[str], None]
    began: float = field(default_factory=time.monotonic)
    found: Object | None = None
    since: float = 0.0
    renewed: bool = False

    def is_ours(self) -> bool:
        """Look once; take it where it is free."""
        found = self.api.find("Lease", NAME, NAMESPACE)
        if found.get("kind") == "Status":
            return self._got(self.api.submit(_lease()) if found.get("code") == GONE else found)
        spec = found["spec"]
        other = spec.get("holderIdentity")
        if other == holder():
            return True
        if other and not self._is_over(found):
            if self.renewed and time.monotonic() - self.began >= self.wait:
                raise self.refusal()
            return False
        return self._got(self.api.submit_whole(_lease(found)))

    def refusal(self) -> CannotRunError:
        """Why it cannot be had."""
        assert self.found
        return CannotRunError(
            f"a run of another machine has this cluster: {who_holds(self.found)}",
            "wait for its end, or let this one wait: E2E_WAIT=600 (seconds); one that was killed "
            f"is forgotten after {timing.LEASE_LASTS:g} s",
        )

    def _is_over(self, found: Object) -> bool:
        """Whether nobody has renewed it for as long as it lasts, while it was looked at."""
        now = time.monotonic()
        version = found["metadata"]["resourceVersion"]
        if self.found is None:
            self.say(f"the cluster is held by {who_holds(found)}; looking whether it still is")
        elif version == self.found["metadata"]["resourceVersion"]:
            lasts = float(found["spec"].get("leaseDurationSeconds") or timing.LEASE_LASTS)
            return now - self.since > lasts
        else:
            self.renewed = True
        self.found, self.since = found, now
        return False

    def _got(self, answer: Object) -> bool:
        """Whether it was stored; who comes first is looked at again."""
        if answer.get("kind") != "Status":
            return True
        if answer.get("code") in (CONFLICT, GONE):
            return False
        raise ApiRefusedError(f"take the Lease {NAMESPACE}/{NAME}", answer)


class _Keeper(threading.Thread):
    """Renews the Lease, or looks on while another process of this machine does."""

    def __init__(self, api: Api, lock: Path, say: Callable[[str], None]) -> None:
        super().__init__(daemon=True, name="lease")
        self.lost = ""
        self._api, self._lock, self._say = api, lock, say
        self._ended = threading.Event()

    def run(self) -> None:
        """Go on until `stop`, or until somebody else has it."""
        with self._lock.open("a") as file:
            while not pause(self._ended, timing.LEASE_RENEWED_EVERY) and not self.lost:
                # An API server that is away is asked again; so is one that makes no sense.
                try:
                    self._look(is_renewer=_try_lock(file))
                except (StopError, ApiRefusedError, DynamicApiError, LookupError, ValueError):
                    continue

    def stop(self) -> None:
        """End, without waiting for an answer that does not come."""
        self._ended.set()
        if self.is_alive():
            self.join(timing.LEASE_RENEWED_EVERY)

    def _look(self, *, is_renewer: bool) -> None:
        found = self._api.find("Lease", NAME, NAMESPACE)
        if found.get("code") == GONE:
            # Somebody removed it by hand, which is no reason to stop.
            if is_renewer and not self._ended.is_set():
                self._api.submit(_lease())
            return
        if found.get("kind") == "Status":
            return
        if found["spec"].get("holderIdentity") != holder():
            self.lost = (
                f"the cluster was taken over by {who_holds(found)}, as this machine had not "
                f"renewed its lease for {timing.LEASE_LASTS:g} s"
            )
            self._say(f"x {self.lost}; this run stops")
            os.kill(os.getpid(), signal.SIGINT)
        elif is_renewer:
            version = found["metadata"]["resourceVersion"]
            change = {"metadata": {"resourceVersion": version}, "spec": {"renewTime": _now()}}
            self._api.submit_change("Lease", NAME, change, NAMESPACE)


def _await_asked_for(api: Api) -> None:
    """Give a Lease time to come: who was interrupted does not know whether it will be there."""
    with suppress(WaitedInVainError, StopError, ApiRefusedError, DynamicApiError):
        wait_until(
            lambda: api.find("Lease", NAME, NAMESPACE).get("kind") != "Status",
            what="the lease that was asked for",
            within=timing.ARRIVES_WITHIN,
        )


def _leave(api: Api, users: IO[str]) -> None:
    """Remove the Lease if no other process of this machine uses it."""
    if not _try_lock(users):
        return
    # Who is not answered leaves it: it is over by itself soon.
    try:
        found = api.find("Lease", NAME, NAMESPACE)
        if found.get("kind") != "Status" and found["spec"].get("holderIdentity") == holder():
            version = found["metadata"]["resourceVersion"]
            api.delete("Lease", NAME, NAMESPACE, version=version)
    except (StopError, ApiRefusedError, DynamicApiError):
        return


def _lease(before: Object | None = None) -> Object:
    """The Lease as it is when this machine has it; in place of another one, if there is one."""
    now = _now()
    metadata: Object = {"name": NAME, "namespace": NAMESPACE, "annotations": {WHO: _who()}}
    times = 0
    if before:
        metadata["resourceVersion"] = before["metadata"]["resourceVersion"]
        times = int(before["spec"].get("leaseTransitions") or 0) + 1
    spec = {
        "holderIdentity": holder(),
        "leaseDurationSeconds": int(timing.LEASE_LASTS),
        "acquireTime": now,
        "renewTime": now,
        "leaseTransitions": times,
    }
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": metadata,
        "spec": spec,
    }


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}, process {os.getpid()}"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
