"""The example: `node-port-service` on 30008 over the running app `myapp`."""

import pytest

from e2e.check import assert_refused, assert_settles
from e2e.probe import ANSWERED, REFUSED

pytestmark = pytest.mark.needs("default-range")


@pytest.mark.clause(
    "example.serves-on-every-node",
    covers=["DP-01", "N-01", "N-04", "N-05", "N-13", "N-20", "N-21", "N-22"],
)
def test_the_example_serves_on_every_node(example, nodes, outside, listed):
    """Created over an app that is already up, the example answers on port 30008 of every node.

    `kubectl get services` lists it with its type, its ClusterIP and `80:30008/TCP`.
    """
    app = example.start_app()
    created = example.create_service()
    service = example.service(app)

    assert_settles(dict.fromkeys(service.flows(outside, via=nodes), ANSWERED))

    row = listed("node-port-service", example.namespace)
    assert row["Type"] == "NodePort"
    assert row["Cluster-IP"] == created["spec"]["clusterIP"]
    assert row["Port(s)"] == "80:30008/TCP"


@pytest.mark.clause("example.created-once", covers=["ALC-04", "N-01", "N-20"])
def test_creating_it_twice_is_refused(example):
    """Creating the example a second time is refused, and for the reason that is found first.

    As it stands its node port is already allocated; without a fixed one its name AlreadyExists.
    """
    first = example.create_service()

    assert first["kind"] == "Service", first
    assert_refused(
        example.create_service(),
        code=422,
        reason="Invalid",
        field="spec.ports[0].nodePort",
        says=["30008", "provided port is already allocated"],
    )
    assert_refused(
        example.create_service(ports=[{"port": 80}]),
        code=409,
        reason="AlreadyExists",
        says="node-port-service",
    )


@pytest.mark.clause("example.deleted-closes-every-node", covers=["LIF-11", "N-01"])
def test_deleting_it_closes_the_port(example, standing, expose, nodes, outside, stored):
    """Deleting the Service closes its node port on every node, and no other Service's."""
    app = example.start_app(replicas=1)
    example.create_service()
    service, other = example.service(app), expose(standing)
    ours, others = service.flows(outside, via=nodes), other.flows(outside, via=nodes)
    assert_settles(dict.fromkeys(ours + others, ANSWERED))

    service.remove()

    assert stored("node-port-service", example.namespace)["code"] == 404
    assert_settles(dict.fromkeys(ours, REFUSED) | dict.fromkeys(others, ANSWERED))
