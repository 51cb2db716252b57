"""The example: `node-port-service` on 30008 over the running app `myapp`."""

import pytest

from e2e.check import (
    answered_by,
    assert_absent,
    assert_accepted,
    assert_only,
    assert_refused,
    assert_serves,
    assert_settles,
    replies_in,
)
from e2e.probe import CLOSED, UNSERVED

pytestmark = pytest.mark.needs("default-range")


@pytest.mark.clause(
    "example.serves-on-every-node",
    covers=["DP-01", "N-01", "N-04", "N-05", "N-13", "N-20", "N-21", "N-22"],
)
def test_the_example_serves_on_every_node(example, nodes, outside, listed):
    """Created over an app that is already up, the example answers on port 30008 of every node.

    `kubectl get services` lists it as it lists `kubernetes`, with its type, its ClusterIP and
    `80:30008/TCP`.
    """
    created = assert_accepted(example.create_service())
    service = example.service()

    assert_serves(dict.fromkeys(service.flows(outside, via=nodes), answered_by(*example.app.pods)))

    assert listed("kubernetes", "default")["Type"] == "ClusterIP"
    row = listed("node-port-service", example.namespace)
    assert row["Type"] == "NodePort"
    assert row["Cluster-IP"] == created["spec"]["clusterIP"]
    assert row["Port(s)"] == "80:30008/TCP"
    assert row["External-IP"] == "<none>"


@pytest.mark.clause("example.with-external-address", covers=["N-13", "N-20"])
@pytest.mark.needs("external-ips-taken")
def test_the_example_takes_an_external_address(example, listed, documentation_addresses):
    """The example is accepted with an address in `externalIPs` too, and is listed with it."""
    address = documentation_addresses["IPv4"]

    assert_accepted(example.create_service(externalIPs=[address]))

    row = listed("node-port-service", example.namespace)
    assert row["External-IP"] == address
    assert row["Port(s)"] == "80:30008/TCP"


@pytest.mark.clause("example.created-once", covers=["ALC-04", "N-01", "N-20"])
def test_creating_it_twice_is_refused(example):
    """Creating the example a second time is refused, for the reason that is found first.

    As it stands, its node port is already allocated; without a fixed one, its name AlreadyExists.
    """
    assert_accepted(example.create_service())

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
def test_deleting_it_closes_the_port(example, standing, expose, nodes, outside, in_hosts, stored):
    """Deleting the Service closes its node port and its ClusterIP on every node.

    No connection to another Service goes wrong meanwhile.
    """
    assert_accepted(example.create_service())
    service, other = example.service(), expose(standing)
    ours = service.flows(outside, via=nodes)
    inside = [flow for caller in in_hosts for flow in service.cluster_flows(caller)]
    others = dict.fromkeys(other.flows(outside, via=nodes), answered_by(*standing.pods))
    assert_serves(dict.fromkeys(ours + inside, answered_by(*example.app.pods)) | others)

    service.remove()

    assert_absent(stored("node-port-service", example.namespace))
    meanwhile = replies_in(assert_settles(dict.fromkeys(ours, CLOSED) | others))
    assert_only({flow: meanwhile[flow] for flow in others}, others)
    # A pod takes 5 s to call silence by its name, so one look has to do.
    assert_settles(dict.fromkeys(inside, UNSERVED) | others, times=1)
