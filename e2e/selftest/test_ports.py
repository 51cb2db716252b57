"""Node ports that clauses choose: which there are, who may have them, and who waits."""

from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest

from e2e import timing
from e2e.cluster.api import ApiRefusedError
from e2e.cluster.ports import PortBroker, find_range, static_band
from e2e.errors import CannotRunError, ProbeBrokenError
from e2e.fixtures.actors import LentPorts

USUAL = range(30000, 32768)


@dataclass
class Cluster:
    """An API server that knows Services and a range of node ports, and refuses as Kubernetes does.

    Attributes:
        allowed: the range.
        owners: namespace and name of the Service that has a number.
        leaves_after: after how many looks at all Services those of a number are gone.
    """

    allowed: range = USUAL
    owners: dict[int, str] = field(default_factory=dict)
    leaves_after: int = 10**9
    looks: int = 0
    namespaces: set[str] = field(default_factory=set)

    def submit(self, manifest):
        number = manifest["spec"]["ports"][0]["nodePort"]
        self.namespaces.add(manifest["metadata"]["namespace"])
        refusal = f"spec.ports[0].nodePort: Invalid value: {number}: provided port is "
        if number not in self.allowed:
            ends = f"{self.allowed[0]}-{self.allowed[-1]}"
            refusal += f"not in the valid range. The range of valid ports is {ends}"
        elif number in self.owners:
            refusal += "already allocated"
        else:
            return {"kind": "Service", "metadata": {"name": "range-x"}}
        return {"kind": "Status", "code": 422, "message": refusal}

    def delete(self, kind, name, namespace):
        return True

    def find_all(self, kind):
        self.looks += 1
        if self.looks > self.leaves_after:
            self.owners.clear()
        return [
            {
                "metadata": dict(zip(("namespace", "name"), owner.split("/"), strict=True)),
                "spec": {"ports": [{"nodePort": number}]},
            }
            for number, owner in self.owners.items()
        ]


@pytest.fixture
def broker(tmp_path):
    """Give a broker of a cluster; all of them share their locks."""
    with ExitStack() as held:
        yield lambda cluster: PortBroker(cluster, cluster.allowed, tmp_path, held)


@pytest.mark.parametrize(
    "allowed",
    [USUAL, range(1, 1001), range(60000, 65536), range(2, 65535), range(1, 65536), range(80, 81)],
)
def test_a_cluster_is_asked_for_its_range(allowed):
    """The range is found wherever it lies, also where it touches the first or the last port."""
    cluster = Cluster(allowed)

    assert find_range(cluster, "home") == allowed
    assert cluster.namespaces == {"home"}


DENIED = (
    'services is forbidden: User "a" cannot create resource "services" in API group "" '
    'in the namespace "home"'
)


@pytest.mark.parametrize(
    ("message", "error", "said"),
    [
        ("nobody knows", ProbeBrokenError, "did not name its range of node ports: nobody knows"),
        ("etcdserver: leader changed", ApiRefusedError, "leader changed"),
        (
            DENIED,
            ApiRefusedError,
            "this user may not create services in the namespace home: manifests/rbac/contract.yaml",
        ),
    ],
)
def test_a_range_that_cannot_be_found_is_a_broken_probe(message, error, said):
    """An API server that refuses for another reason has not told its range, and is quoted."""

    class Forbids(Cluster):
        def submit(self, manifest):
            return {"kind": "Status", "code": 403, "message": message}

    with pytest.raises(error, match=said):
        find_range(Forbids(), "home")


@pytest.mark.parametrize(
    ("size", "band"),
    [(2768, 86), (1, 0), (16, 0), (17, 16), (512, 16), (1000, 31), (4096, 128), (65535, 128)],
)
def test_the_band_of_fixed_ports_is_as_large_as_kubernetes_says(size, band):
    """The API server picks last from so many of the lowest numbers (calculateRangeOffset)."""
    assert static_band(range(1, size + 1)) == range(1, band + 1)


@pytest.mark.parametrize(
    ("allowed", "outside"),
    [
        (USUAL, [1, 29999, 32768, 65535]),
        (range(1, 1001), [1001, 65535]),
        (range(60000, 65536), [1, 59999]),
        (range(2, 65535), [1, 65535]),
        (range(1, 65536), []),
    ],
)
def test_numbers_outside_are_ports(broker, allowed, outside):
    """No number that is asked for is in the range, is 0, or is beyond the last port."""
    assert broker(Cluster(allowed)).outside == outside


@pytest.mark.parametrize("allowed", [USUAL, range(1, 1001), range(30000, 30010)])
def test_free_ports_are_inside_and_different(broker, allowed):
    """A free number is in the range, belongs to nobody, is not an end, and is given once."""
    cluster = Cluster(allowed, owners={allowed[3]: "default/web"})

    given = [broker(cluster).free() for _ in range(5)]

    assert len(set(given)) == 5
    assert set(given) < set(allowed[1:-1]) - {allowed[3]}


def test_no_free_port_is_said():
    """Where everything is taken, the part that was searched is named."""
    cluster = Cluster(range(80, 84), owners=dict.fromkeys(range(80, 84), "default/web"))

    with pytest.raises(CannotRunError, match="no node port is free in 80-83"), ExitStack() as held:
        PortBroker(cluster, cluster.allowed, None, held).free()


def test_a_port_of_somebody_else_cannot_be_had(broker):
    """A Service that no run made is named at once, and nothing is waited for."""
    cluster = Cluster(owners={30008: "shop/web"})

    with pytest.raises(CannotRunError, match="30008 is taken by the Service shop/web"):
        broker(cluster).hold(30008)

    assert cluster.looks == 1


def test_only_a_clause_whose_port_is_taken_is_skipped():
    """An API server that does not answer takes no port, and what is not asked is not skipped."""

    class Away(Cluster):
        def find_all(self, *_, **__):
            raise CannotRunError("the API server does not answer")

    taken = Cluster(range(80, 84), owners=dict.fromkeys(range(80, 84), "default/web"))
    with pytest.raises(pytest.skip.Exception, match="no node port is free"), ExitStack() as held:
        LentPorts(taken, taken.allowed, None, held).free()
    # A skip that nobody catches would skip this test.
    either = (CannotRunError, pytest.skip.Exception)
    with pytest.raises(either, match="does not answer") as said, ExitStack() as held:
        LentPorts(Away(taken.allowed), taken.allowed, None, held).free()
    assert said.type is CannotRunError


def test_a_port_of_an_earlier_run_is_waited_for(broker, monkeypatch):
    """A Service of a run goes with its namespace, and then the number can be had."""
    monkeypatch.setattr(timing, "POLL_EVERY", 0.01)
    cluster = Cluster(owners={30008: "nodeport-e2e-x/web"}, leaves_after=1)

    assert broker(cluster).hold(30008) == 30008


def test_a_number_that_was_picked_for_one_of_ours_is_asked_for_again(broker):
    """The API server may pick the last number for another clause's Service just before us."""
    cluster = Cluster(owners={32767: "nodeport-e2e-x/web"}, leaves_after=1)
    wanted = {"metadata": {"namespace": "home"}, "spec": {"ports": [{"nodePort": 32767}]}}

    answer = broker(cluster).insist(lambda: cluster.submit(wanted))

    assert answer["kind"] == "Service"


def test_a_number_that_was_picked_for_somebody_else_is_given_up(broker):
    """A Service of somebody else stays, so the clause cannot run; the Service is named."""
    cluster = Cluster(owners={32767: "shop/web"})
    wanted = {"metadata": {"namespace": "home"}, "spec": {"ports": [{"nodePort": 32767}]}}

    with pytest.raises(CannotRunError, match="32767 is taken by the Service shop/web"):
        broker(cluster).insist(lambda: cluster.submit(wanted))


def test_a_refusal_for_another_reason_is_an_answer(broker):
    """Only a number that is taken is asked for again."""
    refused = {"kind": "Status", "code": 422, "message": "spec.ports: Required value"}

    assert broker(Cluster()).insist(lambda: dict(refused)) == refused


def test_documentation_addresses_are_lent_once(broker):
    """No two clauses have the same last part of an address, whoever runs them."""
    given = {broker(Cluster()).documentation_number() for _ in range(254)}

    assert given == set(range(1, 255))
    with pytest.raises(CannotRunError, match="in use"):
        broker(Cluster()).documentation_number()
