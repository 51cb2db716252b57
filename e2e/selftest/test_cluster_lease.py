"""The Lease that keeps runs of two machines apart on one cluster."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from threading import Event, Timer

import pytest

from e2e import timing
from e2e.cluster import lease
from e2e.cluster.api import Api, ApiRefusedError
from e2e.errors import CannotRunError
from e2e.selftest.programs import CHECKOUT
from e2e.selftest.storing_server import CONTEXT, UID, refused, storing_server
from e2e.wait import pause, wait_until

KEY = ("/apis/coordination.k8s.io/v1", "leases", lease.NAMESPACE, lease.NAME)
# Another machine, or the same with other lock files: has the cluster until it is told to end.
OTHER = """
import sys
import threading
from pathlib import Path
from e2e import timing
timing.LEASE_LASTS, timing.LEASE_RENEWED_EVERY = 2.0, 0.3
from e2e.cluster import lease
from e2e.cluster.api import Api

with lease.held(Api(Path(sys.argv[1]), sys.argv[2]), sys.argv[3]):
    print("has it", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("E2E_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(timing, "LEASE_LASTS", 2.0)
    monkeypatch.setattr(timing, "LEASE_RENEWED_EVERY", 0.3)
    monkeypatch.setattr(timing, "LEASE_LOOKED_AT_EVERY", 0.1)


@pytest.fixture
def server(tmp_path):
    with storing_server(tmp_path / "api") as running:
        yield running


@pytest.fixture
def api(server):
    return Api(server.kubeconfig, CONTEXT)


@pytest.fixture
def other(server, tmp_path):
    """Start another holder; by its cache it is of another machine."""
    started = []

    def start(cache: Path = tmp_path / "other"):
        process = subprocess.Popen(
            [sys.executable, "-c", OTHER, str(server.kubeconfig), CONTEXT, UID],
            cwd=CHECKOUT,
            env={**os.environ, "E2E_CACHE": str(cache)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout.readline() == "has it\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stdin.close()


def stored(server):
    return server.objects.get(KEY)


def test_it_is_there_for_as_long_as_the_run(server, api):
    """Who has it, since when, and that it lives is said; at the end nothing is left."""
    with lease.held(api, UID):
        first = json.loads(json.dumps(stored(server)))
        assert first["spec"]["holderIdentity"] == lease.holder()
        assert f"process {os.getpid()}" in first["metadata"]["annotations"][lease.WHO]
        wait_until(
            lambda: stored(server)["spec"]["renewTime"] > first["spec"]["renewTime"],
            what="it to be renewed",
            within=60,
        )
        assert stored(server)["spec"]["acquireTime"] == first["spec"]["acquireTime"]

    assert stored(server) is None


def test_another_machine_is_refused_and_told_who(server, api, other):
    """It is noticed within a few seconds that the holder lives, and said who it is."""
    process = other()
    began = time.monotonic()

    with pytest.raises(CannotRunError, match="a run of another machine has this cluster") as said:
        lease.take(api)

    assert time.monotonic() - began < 2 * timing.LEASE_LASTS
    assert f"process {process.pid}" in said.value.what
    assert "since 20" in said.value.what
    assert "E2E_WAIT" in said.value.do


def test_it_may_be_waited_for(api, other):
    """With patience the end of the other run is waited for, and said."""
    process, said = other(), []

    def end(words):
        said.append(words)
        process.stdin.close()

    lease.take(api, wait=20, say=end)

    assert "held by" in said[0]


def test_a_machine_that_was_killed_is_forgotten_soon(server, api, other):
    """A killed run leaves the Lease; it is taken over once it was not renewed for so long."""
    process = other()
    process.kill()
    process.wait()
    assert stored(server) is not None
    began = time.monotonic()

    lease.take(api)

    assert 1.5 < time.monotonic() - began < 60
    assert stored(server)["spec"]["holderIdentity"] == lease.holder()
    assert stored(server)["spec"]["leaseTransitions"] == 1


def test_runs_of_one_machine_share_it(server, api, other, tmp_path):
    """They have lock files between them; the last one removes it, also after a kill."""
    killed, process = other(tmp_path / "cache"), other(tmp_path / "cache")
    with lease.held(api, UID):
        killed.kill()
        killed.wait()
    assert stored(server)["spec"]["holderIdentity"] == lease.holder()

    process.stdin.close()
    process.wait()

    assert stored(server) is None


def test_pods_of_a_job_use_the_cluster_of_who_started_them(server, api, other, monkeypatch):
    """To the Lease each would be another machine."""
    process = other()
    theirs = stored(server)["spec"]["holderIdentity"]
    monkeypatch.setenv("E2E_PART_OF", "run-of-job")
    monkeypatch.setenv("E2E_POD", "a pod's UID")

    with lease.held(api, UID):
        assert stored(server)["spec"]["holderIdentity"] == theirs

    assert process.poll() is None
    assert stored(server)["spec"]["holderIdentity"] == theirs


def test_a_cluster_is_taken_by_a_copy_of_its_context(server, tmp_path, monkeypatch):
    """Somebody's edit in the middle changes nothing, and at the end nobody has the cluster."""
    monkeypatch.setenv("E2E_ALLOW_CONTEXT", f"{CONTEXT}@{UID}")

    with lease.taken(server.kubeconfig, CONTEXT, None, tmp_path / "run") as api:
        server.kubeconfig.write_text("")
        assert Path(api.kubeconfig).parent == tmp_path / "run"
        assert api.get("Namespace", "kube-system")["metadata"]["uid"] == UID
        assert stored(server)

    assert stored(server) is None


@pytest.fixture
def heeds_interrupts():
    """As the command does; what a script starts in the background ignores them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeds_interrupts")
def test_who_lost_it_stops(server, api):
    """A machine that slept for too long finds the cluster another's, and leaves it alone."""
    said = []

    def be_overtaken():
        with lease.held(api, UID, say=said.append):
            server.put(*KEY[:2], {**stored(server), "spec": {"holderIdentity": "sleeper"}})
            pause(Event(), 10)

    with pytest.raises(CannotRunError, match=r"was taken over by .*\(sleeper\)"):
        be_overtaken()

    assert "this run stops" in said[-1]
    assert stored(server)["spec"]["holderIdentity"] == "sleeper"


def test_an_api_server_that_is_away_does_not_cost_it(server, api, monkeypatch):
    """While nobody answers nobody else can take it; renewing goes on afterwards."""
    monkeypatch.setattr(timing, "API_BACK_WITHIN", 0.0)
    with lease.held(api, UID):
        server.before = lambda *_: refused(500, "InternalError", "etcd is away")
        pause(Event(), 1.0)
        before = stored(server)["spec"]["renewTime"]
        server.before = lambda *_: None
        wait_until(
            lambda: stored(server)["spec"]["renewTime"] > before, what="a renewal", within=60
        )


def test_one_that_was_removed_by_hand_comes_back(server, api):
    with lease.held(api, UID):
        del server.objects[KEY]
        wait_until(lambda: stored(server), what="it", within=60)


def test_of_two_who_take_it_at_once_one_has_it(server, api):
    """Who comes second is told that it is there, looks again, and finds out whose it is."""
    theirs = {"holderIdentity": "other", "leaseDurationSeconds": 2, "renewTime": "now"}

    def someone_is_first(method, path):
        if method == "POST" and path.endswith("/leases"):
            server.before = lambda *_: None
            where = {"name": lease.NAME, "namespace": lease.NAMESPACE}
            server.put(*KEY[:2], {"metadata": where, "spec": theirs})

    server.before = someone_is_first
    began = time.monotonic()

    lease.take(api)

    assert time.monotonic() - began > 1.5
    assert stored(server)["spec"]["leaseTransitions"] == 1


def test_who_may_have_no_lease_is_told_which_manifest_has_it(server, api):
    says = (
        'leases.coordination.k8s.io is forbidden: User "me" cannot create resource "leases" in '
        'API group "coordination.k8s.io" in the namespace "default"'
    )
    server.before = lambda method, _: refused(403, "Forbidden", says) if method == "POST" else None

    with (
        pytest.raises(ApiRefusedError, match=r"manifests/rbac/contract.yaml .*ha"),
        lease.held(api, UID),
    ):
        pass


@pytest.mark.parametrize("clock", ["1970-01-01T00:00:00.000000Z", "2199-01-01T00:00:00.000000Z"])
def test_a_clock_that_is_years_off_makes_nobody_dead_or_alive(server, api, clock):
    """Who renews is alive whatever time it says, and who does not is not."""
    spec = {"holderIdentity": "other", "leaseDurationSeconds": 2, "renewTime": clock}
    where = {"name": lease.NAME, "namespace": lease.NAMESPACE}
    server.put(*KEY[:2], {"metadata": where, "spec": spec})
    renewing = Event()

    def renew(method, path):
        if method == "GET" and path.endswith(lease.NAME) and not renewing.is_set():
            server.put(*KEY[:2], {"metadata": dict(where), "spec": dict(spec)})

    server.before = renew
    with pytest.raises(CannotRunError, match=r"last renewed at (1970|2199)"):
        lease.take(api)
    renewing.set()
    began = time.monotonic()

    lease.take(api)

    assert time.monotonic() - began > 1.5


def test_one_that_comes_after_an_interrupt_is_not_left(server, api, monkeypatch):
    """The API server stores what was sent to it, though nobody waits for its answer any more."""
    stores = Timer(0.5, lambda: api.submit(lease._lease()))

    def interrupted(*_, **__):
        stores.start()
        raise KeyboardInterrupt

    monkeypatch.setattr(lease, "take", interrupted)
    with pytest.raises(KeyboardInterrupt), lease.held(api, UID):
        pass

    stores.join()
    assert KEY not in server.objects


STARTS = threading.Thread.start.__code__


class Interrupting:
    """Traces this thread, and interrupts it once at a line by its number.

    Lines count from when the Lease is stored: those of its module, and where the keeper is
    waited for. An interrupt at the end of a `with` would leave a lock of Python's own.
    """

    def __init__(self, server, number):
        self.server, self.left = server, number

    def __call__(self, frame, event, _):
        is_start = frame.f_code is STARTS
        if frame.f_code.co_filename != lease.__file__ and not is_start:
            return None
        is_wait = frame.f_lineno == max(line for *_, line in STARTS.co_lines() if line)
        if event == "line" and stored(self.server) and (is_wait or not is_start):
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
        return self


def test_an_interrupt_at_whichever_line_leaves_none(server, api):
    """From the first line after it was stored to the last one before whoever asked goes on."""
    before, number, has_begun = sys.gettrace(), 0, False
    while not has_begun:
        number += 1
        try:
            with suppress(KeyboardInterrupt):
                sys.settrace(Interrupting(server, number))
                with lease.held(api, UID):
                    sys.settrace(before)
                    has_begun = True
        finally:
            sys.settrace(before)
        assert not stored(server), f"left by an interrupt at line {number}"
    assert number > 4
