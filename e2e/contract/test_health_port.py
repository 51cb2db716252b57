"""The health-check node port, by which a load balancer learns which nodes have pods."""

import pytest

from e2e.check import answered_by, assert_healths, assert_serves, assert_settles
from e2e.probe import CLOSED

# No controller of load balancers takes what names another class.
BALANCED = {
    "type": "LoadBalancer",
    "loadBalancerClass": "nodeport-e2e/nobody",
    "externalTrafficPolicy": "Local",
}
# Seconds in which a pod that was told to end serves on; nobody waits for them to pass.
LINGER = 60


@pytest.mark.clause("health-port.counts-own-pods", covers=["ETP-10"])
@pytest.mark.needs("own-sockets")
def test_each_node_tells_how_many_pods_it_has(standing, expose, nodes):
    """Each node says 200 and how many pods it has, or 503 if it has none.

    The number is in the reply and in the header that load balancers take as weight. No load
    balancer is needed.
    """
    service = expose(standing, **BALANCED)

    ports = service.health_ports(via=nodes)
    assert_healths({port: len(standing.on(node).pods) for port, node in ports.items()})


@pytest.mark.clause("health-port.ending-pods-do-not-count", covers=["ETP-11"])
@pytest.mark.needs("own-sockets")
def test_a_pod_that_ends_does_not_count(place_echo, expose, workers, nodes, outside):
    """A node whose last pod is told to end says 503, and its node port still leads to that pod."""
    home = (workers or nodes)[0]
    echo = place_echo(home, linger=LINGER)
    service = expose(echo, **BALANCED)
    ports = service.health_ports(via=nodes)
    assert_healths({port: int(node == home) for port, node in ports.items()})

    echo.remove(next(iter(echo.pods)))

    assert_healths(dict.fromkeys(ports, 0))
    assert_settles(dict.fromkeys(service.flows(outside, via=[home]), answered_by(*echo.pods)))


@pytest.mark.clause("health-port.closes", covers=["ETP-11"])
@pytest.mark.needs("own-sockets")
def test_it_closes_with_the_policy_and_the_service(standing, expose, nodes, outside):
    """It closes on every node when the policy becomes Cluster and when the Service is deleted.

    Under Cluster the node port goes on serving.
    """
    switched, deleted = expose(standing, **BALANCED), expose(standing, **BALANCED)
    ports = switched.health_ports(via=nodes) | deleted.health_ports(via=nodes)
    assert_healths({port: len(standing.on(node).pods) for port, node in ports.items()})

    switched.change(externalTrafficPolicy="Cluster")
    deleted.remove()

    assert_healths(dict.fromkeys(ports, CLOSED))
    assert_serves(dict.fromkeys(switched.flows(outside, via=nodes), answered_by(*standing.pods)))
