"""A model of how node ports are allocated, and a real API server that has to do the same.

Hypothesis makes up what is created, changed and deleted, and in which order, and finds the shortest
row in which server and model differ. It needs a cluster, and is left out without one:

    E2E_MODEL_CONTEXT=kind-mine .venv/bin/python -m pytest e2e/selftest/test_allocation_model.py
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    rule,
    run_state_machine_as_test,
)

from e2e.cluster import lease, leftovers, namespace
from e2e.cluster.api import Api, judged
from e2e.cluster.consent import admit
from e2e.cluster.ports import PortBroker, find_range
from e2e.cluster.service import manifest
from e2e.provider import existing
from e2e.provider.cache import cache_folder, file_name
from e2e.provider.engine import find_engine
from e2e.provider.kubeconfig import default_kubeconfig, pin

CONTEXT = os.environ.get("E2E_MODEL_CONTEXT", "")
pytestmark = pytest.mark.skipif(not CONTEXT, reason="needs a cluster: E2E_MODEL_CONTEXT")

# Few numbers, so that two Services often want the same one.
FEW = 3
ON_NODES = ("NodePort", "LoadBalancer")
Taken = dict[tuple[str, int], str]

types = st.sampled_from(["NodePort", "NodePort", "LoadBalancer", "ClusterIP"])
protocols = st.sampled_from(["TCP", "UDP"])
wishes = st.lists(
    st.tuples(protocols, st.none() | st.integers(0, FEW - 1)), min_size=1, max_size=3, unique=True
)


class Where:
    """The cluster, a namespace in it, and the numbers that nobody else takes meanwhile."""

    api: Api
    home: str
    numbers: list[int]
    allowed: range


@pytest.fixture(scope="module")
def where() -> Iterator[type[Where]]:
    file = Path(os.environ.get("E2E_KUBECONFIG") or default_kubeconfig())
    run = leftovers.new_run()
    with ExitStack() as held, tempfile.TemporaryDirectory() as folder:
        shared = held.enter_context(leftovers.alive(run))
        copy = pin(file, CONTEXT, shared)
        consent = existing.check_allowed(copy, CONTEXT, find_engine())
        Where.api = Api(copy, CONTEXT, secrets=Path(folder))
        held.enter_context(lease.held(Where.api, admit(Where.api, consent)))
        Where.home = namespace.make(Where.api, f"nodeport-e2e-{run}", run)
        held.callback(namespace.remove, Where.api, [Where.home], wait=True)
        Where.allowed = find_range(Where.api, Where.home)
        locks = cache_folder() / "ports" / file_name(Where.api.server)
        broker = PortBroker(Where.api, Where.allowed, locks, held)
        Where.numbers = [broker.free() for _ in range(FEW)]
        yield Where


class Allocation(RuleBasedStateMachine):
    """What the server may answer to each request, by what was answered before."""

    services = Bundle("services")

    def __init__(self) -> None:
        super().__init__()
        self.taken: Taken = {}
        self.known: set[str] = set()
        self.count = 0

    @rule(target=services, kind=types, wanted=wishes)
    def create(self, kind: str, wanted: list[tuple[str, int | None]]) -> str:
        self.count += 1
        name = f"s{self.count}"
        spec = self._spec(kind, wanted)
        answer = judged("create", Where.api.submit(manifest(name, Where.home, None, spec)))
        self._compare(name, spec, answer, is_new=True)
        return name

    @rule(name=services, kind=types, wanted=wishes)
    def change(self, name: str, kind: str, wanted: list[tuple[str, int | None]]) -> None:
        if name not in self.known:
            return
        spec = self._spec(kind, wanted)
        answer = Where.api.submit_change("Service", name, {"spec": spec}, Where.home)
        self._compare(name, spec, judged("change", answer), is_new=False)

    @rule(name=consumes(services))
    def delete(self, name: str) -> None:
        assert Where.api.delete("Service", name, Where.home) == (name in self.known)
        self.taken = {key: owner for key, owner in self.taken.items() if owner != name}
        self.known.discard(name)

    @rule(number=st.integers(0, 65535))
    def ask_outside(self, number: int) -> None:
        """A number that is no node port is refused, and changes nothing."""
        if number in Where.allowed or number == 0:
            return
        spec = {"ports": [{"port": 80, "nodePort": number}]}
        answer = Where.api.submit(manifest("outside", Where.home, None, spec))
        assert answer["kind"] == "Status"
        assert answer["code"] == 422
        assert "The range of valid ports is" in answer["message"]

    @invariant()
    def stored_is_as_in_the_model(self) -> None:
        """Each number of a protocol has one owner, and it is who the model says."""
        found: Taken = {}
        for item in Where.api.find_all("Service", Where.home):
            for port in item["spec"]["ports"]:
                if number := port.get("nodePort"):
                    key = (port["protocol"], number)
                    assert key not in found, f"{key} twice"
                    found[key] = item["metadata"]["name"]
        assert found == self.taken

    def teardown(self) -> None:
        Where.api.delete_all("Service", Where.home)

    # --- the model ---

    def _spec(self, kind: str, wanted: list[tuple[str, int | None]]) -> dict[str, Any]:
        ports = []
        for n, (protocol, which) in enumerate(wanted):
            port: dict[str, Any] = {"name": f"p{n}", "port": 80 + n, "protocol": protocol}
            if which is not None and kind in ON_NODES:
                port["nodePort"] = Where.numbers[which]
            ports.append(port)
        return {"type": kind, "ports": ports}

    def _compare(
        self, name: str, spec: dict[str, Any], answer: dict[str, Any], *, is_new: bool
    ) -> None:
        asked = spec["ports"]
        named = [(p["protocol"], p["nodePort"]) for p in asked if "nodePort" in p]
        numbers = [number for _, number in named]
        others = {number for (_, number), owner in self.taken.items() if owner != name}
        # A number is one Service's in all protocols. Two of its ports may come to share it by a
        # change; a new Service is asked for each of them anew, as their `port` differs.
        told_apart: list[Any] = numbers if is_new else named
        clashes = others.intersection(numbers) or len(set(told_apart)) < len(told_apart)
        if clashes:
            assert answer["kind"] == "Status", f"{named} were granted beside {others}"
            assert answer["code"] == 422
            assert "already allocated" in answer["message"] or "Duplicate" in answer["message"]
            return
        assert answer["kind"] == "Service", f"{named} were refused: {answer.get('message')}"
        self.known.add(name)
        self.taken = {key: owner for key, owner in self.taken.items() if owner != name}
        for port, stored in zip(asked, answer["spec"]["ports"], strict=True):
            number = stored.get("nodePort")
            if spec["type"] not in ON_NODES:
                assert not number, "who is not on nodes has no node port"
                continue
            assert number in Where.allowed
            assert number == port.get("nodePort", number)
            assert (port["protocol"], number) not in self.taken
            self.taken[port["protocol"], number] = name


def test_allocation_is_as_in_the_model(where):
    assert where.numbers
    run_state_machine_as_test(
        Allocation,
        settings=settings(
            max_examples=int(os.environ.get("E2E_MODEL_EXAMPLES", "30")),
            stateful_step_count=20,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
