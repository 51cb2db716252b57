"""Of an entry of `ports` only `port` is required, and the rest is completed."""

import pytest

from e2e.check import answered_by, assert_absent, assert_accepted, assert_refused, assert_serves


@pytest.mark.clause("defaults.completed", covers=["API-02", "N-14", "N-15", "N-16"])
def test_a_minimal_service_is_completed_and_serves(standing, expose, nodes, outside, ports):
    """A Service of which only `port` is given gets everything else, and serves.

    The target port equals the port, a node port is picked from the range, the protocol is TCP,
    there is no affinity, and both traffic policies are Cluster.
    """
    service = expose(standing, ports=[{"port": 8080}])

    spec = service.stored["spec"]
    entry = dict(spec["ports"][0])
    assert entry.pop("nodePort") in ports.allowed
    assert entry == {"port": 8080, "targetPort": 8080, "protocol": "TCP"}
    assert spec["type"] == "NodePort"
    assert spec["sessionAffinity"] == "None"
    assert spec["externalTrafficPolicy"] == "Cluster"
    assert spec["internalTrafficPolicy"] == "Cluster"
    assert spec["clusterIP"] == spec["clusterIPs"][0] != "None"
    assert len(spec["ipFamilies"]) == len(spec["clusterIPs"])
    assert not {"healthCheckNodePort", "allocateLoadBalancerNodePorts"} & spec.keys()
    assert_serves(dict.fromkeys(service.flows(outside, via=nodes), answered_by(*standing.pods)))


@pytest.mark.clause("defaults.ports-required", covers=["API-03", "N-14"])
def test_a_service_without_ports_is_refused(submit, stored, home):
    """A NodePort Service without an entry in `ports` is refused; with one it is accepted."""
    answer = submit(name="portless", ports=[])

    assert_refused(answer, code=422, reason="Invalid", field="spec.ports", says="Required value")
    assert_absent(stored("portless", home))
    assert_accepted(submit(name="portless", ports=[{"port": 80}]))


@pytest.mark.clause("defaults.port-in-range", covers=["API-04", "N-14"])
def test_a_port_that_is_none_is_refused(submit, stored, home):
    """A missing `port`, 0, -1 and 65536 are refused with the field; 1 and 65535 are accepted."""
    for entry in ({"targetPort": 80}, {"port": 0}, {"port": -1}, {"port": 65536}):
        answer = submit(name="bad-port", ports=[entry])

        assert_refused(
            answer,
            code=422,
            reason="Invalid",
            field="spec.ports[0].port",
            says="must be between 1 and 65535",
        )
        assert_absent(stored("bad-port", home))
    for number in (1, 65535):
        answer = assert_accepted(submit(ports=[{"port": number}]))
        assert answer["spec"]["ports"][0]["port"] == number


@pytest.mark.clause("defaults.target-port-checked", covers=["API-05", "N-15"])
def test_a_target_port_that_is_none_is_refused(submit):
    """A target port is a number from 1 to 65535 or a port name; 0 and "" mean the port itself."""
    for bad, words in (
        (65536, "must be between 1 and 65535"),
        (-1, "must be between 1 and 65535"),
        ("UPPER", "must contain only alpha-numeric characters"),
        ("sixteen-letters-", "must be no more than 15 characters"),
        ("1234", "must contain at least one letter"),
        ("a--b", "must not contain consecutive hyphens"),
        ("-edge", "must not begin or end with a hyphen"),
    ):
        answer = submit(ports=[{"port": 80, "targetPort": bad}])

        assert_refused(
            answer, code=422, reason="Invalid", field="spec.ports[0].targetPort", says=words
        )
    for given, kept in ((1, 1), (65535, 65535), ("fifteen-letters", "fifteen-letters"),
                        ("a1", "a1"), (0, 80), ("", 80)):  # fmt: skip
        answer = assert_accepted(submit(ports=[{"port": 80, "targetPort": given}]))
        assert answer["spec"]["ports"][0]["targetPort"] == kept
