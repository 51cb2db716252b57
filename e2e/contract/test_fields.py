"""Fields of a Service: what is refused, for which field and in which words, beside what is not."""

import pytest

from e2e.check import (
    answered_by,
    assert_absent,
    assert_accepted,
    assert_answers,
    assert_invalid,
    assert_settles,
)
from e2e.probe import CLOSED

# A load balancer of this class is nobody's, so that none is made anywhere.
OF_NOBODY = {"type": "LoadBalancer", "loadBalancerClass": "nodeport-e2e/nobody"}
LOCAL = {"externalTrafficPolicy": "Local"}


@pytest.mark.clause("fields.no-type-no-node-port", covers=["API-01"])
def test_without_a_type_there_is_no_node_port(standing, expose, listed, nodes, outside, in_pods):
    """Without `type` a Service gets a ClusterIP, which serves, and nothing opens on any node."""
    plain = expose(standing, type=None, ports=[{"port": 4321, "targetPort": 8080}])
    other = expose(standing)

    spec = plain.stored["spec"]
    assert spec["type"] == "ClusterIP"
    assert spec["ports"] == [{"port": 4321, "targetPort": 8080, "protocol": "TCP"}]
    assert "externalTrafficPolicy" not in spec
    assert listed(plain.name, plain.namespace)["Port(s)"] == "4321/TCP"
    inside = [flow for caller in in_pods for flow in plain.cluster_flows(caller)]
    through_nodes = other.flows(outside, via=nodes)
    assert_settles(
        dict.fromkeys(inside + through_nodes, answered_by(*standing.pods))
        | dict.fromkeys([flow.at(4321) for flow in through_nodes], CLOSED)
    )


@pytest.mark.clause("fields.values-known", covers=["API-07", "API-12"])
def test_a_value_that_is_none_is_refused_with_those_that_are(submit, stored, home):
    """Of protocol, type, affinity and policies only known values are taken, in their exact case.

    The refusal names the field and lists what is allowed, and each of that is accepted.
    """
    families = submit()["spec"]["ipFamilies"]
    for field, wrong, right in (
        ("protocol", ("ICMP", "tcp"), ("SCTP", "TCP", "UDP")),
        ("type", ("nodeport", "Port"), ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")),
        ("sessionAffinity", ("ClientIp", "Cookie"), ("ClientIP", "None")),
        ("externalTrafficPolicy", ("local", "Node"), ("Cluster", "Local")),
        ("internalTrafficPolicy", ("local", "Node"), ("Cluster", "Local")),
        ("ipFamilies", (["ipv4"],), (families,)),
    ):
        for value in wrong:
            answer = submit(name="unknown", **with_value(field, value))

            path = {"protocol": "spec.ports[0].protocol", "ipFamilies": "spec.ipFamilies[0]"}
            says = [f'"{word}"' for word in right if isinstance(word, str)]
            assert_invalid(answer, path.get(field, f"spec.{field}"), ["Unsupported value", *says])
            assert_absent(stored("unknown", home))
        for value in right:
            assert_accepted(submit(**with_value(field, value)))


def with_value(field, value):
    """A spec with this value; of other types with what they need besides."""
    if field == "protocol":
        return {"ports": [{"port": 80, "protocol": value}]}
    if value == "ExternalName":
        return {"type": value, "externalName": "echo.example"}
    return OF_NOBODY if value == "LoadBalancer" else {field: value}


@pytest.mark.clause("fields.of-one-type", covers=["API-10", "API-11", "API-14", "API-17"])
def test_a_field_of_one_type_is_refused_on_another(submit, stored, home, ports):
    """What belongs to one type is refused on another, and accepted where it belongs.

    That is: a node port without NodePort, NodePort without a ClusterIP, and on NodePort the health
    check's port, and source ranges, class and wanted or declined node ports of load balancers.
    """
    one_port = [{"port": 80, "nodePort": ports.free()}]
    check = {"healthCheckNodePort": ports.free()}
    only_load_balancers = "may only be used when `type` is 'LoadBalancer'"
    for wrong, field, says, right in (
        ({"type": "ClusterIP", "ports": one_port}, "spec.ports[0].nodePort",
         "may not be used when `type` is 'ClusterIP'", {"ports": one_port}),
        ({"clusterIP": "None"}, "spec.clusterIPs[0]",
         "may not be set to 'None' for NodePort services",
         {"type": "ClusterIP", "clusterIP": "None"}),
        (LOCAL | check, "spec.healthCheckNodePort",
         "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
         OF_NOBODY | LOCAL | check),
        ({"loadBalancerSourceRanges": ["192.0.2.0/24"]}, "spec.LoadBalancerSourceRanges",
         only_load_balancers, OF_NOBODY | {"loadBalancerSourceRanges": ["192.0.2.0/24"]}),
        ({"loadBalancerClass": "nodeport-e2e/nobody"}, "spec.loadBalancerClass",
         only_load_balancers, OF_NOBODY),
        *(({"allocateLoadBalancerNodePorts": yes}, "spec.allocateLoadBalancerNodePorts",
           only_load_balancers, OF_NOBODY | {"allocateLoadBalancerNodePorts": yes})
          for yes in (True, False)),
    ):  # fmt: skip
        answer = submit(name="misplaced", **wrong)

        assert_invalid(answer, field, says)
        assert_absent(stored("misplaced", home))
        assert_accepted(submit(**right))


@pytest.mark.clause("fields.entries-differ", covers=["API-08", "API-09"])
@pytest.mark.family("extended")
def test_two_entries_differ_in_port_and_in_node_port(submit, change, ports, answer_of_version):
    """Entries of one protocol need different ports and node ports, at create and at update.

    The same numbers over TCP and UDP are accepted.
    """
    number = ports.free()
    twice = two_entries({"port": 80}, {"port": 80})
    shared = two_entries({"port": 80, "nodePort": number}, {"port": 81, "nodePort": number})
    both = two_entries(
        {"port": 80, "nodePort": number}, {"port": 80, "nodePort": number, "protocol": "UDP"}
    )

    stored = assert_accepted(submit())
    assert_invalid(submit(ports=twice), "spec.ports[1]", "Duplicate value")
    assert_invalid(change(stored, ports=twice), "spec.ports[1]", "Duplicate value")
    assert_invalid(submit(ports=shared), "spec.ports[1].nodePort", "already allocated")
    assert_answers(change(stored, ports=shared), answer_of_version("one-node-port-twice-at-update"))
    assert_accepted(change(stored, ports=both))
    assert_accepted(submit(ports=two_entries({"port": 80}, {"port": 80, "protocol": "UDP"})))


def two_entries(one, other):
    """Two ports with names."""
    return [{"name": "one", **one}, {"name": "other", **other}]


@pytest.mark.clause("fields.external-policy", covers=["API-13"])
@pytest.mark.needs("external-ips-taken")
def test_an_external_policy_needs_a_way_in(submit, change, documentation_addresses):
    """A ClusterIP Service takes `externalTrafficPolicy` only beside `externalIPs`.

    It goes with the addresses, and when a NodePort Service becomes a ClusterIP Service.
    """
    inner = {"type": "ClusterIP"} | LOCAL
    address = documentation_addresses["IPv4"]

    refused = submit(**inner)
    reached = assert_accepted(submit(**inner, externalIPs=[address]))
    node_port = assert_accepted(submit(**LOCAL))

    says = "may only be set for externally-accessible services"
    assert_invalid(refused, "spec.externalTrafficPolicy", says)
    assert reached["spec"]["externalTrafficPolicy"] == "Local"
    for stored, taken_away in (
        (reached, {"externalIPs": None}),
        (node_port, {"type": "ClusterIP"}),
    ):
        after = assert_accepted(change(stored, **taken_away))
        assert "externalTrafficPolicy" not in after["spec"]


@pytest.mark.clause("fields.health-check-port", covers=["API-14"])
def test_a_health_check_port_stays(submit, change, ports):
    """A health check's port is picked if it is not given, and cannot be changed afterwards.

    It stays when it is left out of a change, and goes when the Service needs none any more.
    """
    stored = assert_accepted(submit(**OF_NOBODY, **LOCAL))
    picked = stored["spec"]["healthCheckNodePort"]
    assert picked in ports.allowed
    assert picked != stored["spec"]["ports"][0]["nodePort"]

    answer = change(stored, healthCheckNodePort=ports.free())

    assert_invalid(answer, "spec.healthCheckNodePort", "field is immutable")
    kept = assert_accepted(change(stored, healthCheckNodePort=None))
    assert kept["spec"]["healthCheckNodePort"] == picked
    without = assert_accepted(change(stored, externalTrafficPolicy="Cluster"))
    assert "healthCheckNodePort" not in without["spec"]


@pytest.mark.clause("fields.affinity-timeout", covers=["API-15"])
def test_an_affinity_timeout_is_a_day_at_most(submit, change):
    """A timeout of affinity is 1 to 86400 seconds, 10800 by default, and goes with affinity."""
    for seconds in (0, -1, 86401):
        answer = submit(sessionAffinity="ClientIP", sessionAffinityConfig=timeout(seconds))

        field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds"
        assert_invalid(answer, field, "must be greater than 0 and less than 86400")
    for given, kept in ((timeout(1), 1), (timeout(86400), 86400), (None, 10800)):
        answer = submit(sessionAffinity="ClientIP", sessionAffinityConfig=given)
        stored = assert_accepted(answer)
        assert stored["spec"]["sessionAffinityConfig"] == timeout(kept)
    without = assert_accepted(change(stored, sessionAffinity="None"))
    assert "sessionAffinityConfig" not in without["spec"]
    never = submit(sessionAffinity="None", sessionAffinityConfig=timeout(5))
    assert "sessionAffinityConfig" not in assert_accepted(never)["spec"]


def timeout(seconds):
    """A session affinity's configuration."""
    return {"clientIP": {"timeoutSeconds": seconds}}


@pytest.mark.clause("fields.external-addresses", covers=["API-16"])
@pytest.mark.needs("external-ips-taken")
@pytest.mark.family("extended")
def test_external_addresses_are_usable_ones(
    submit, stored, home, answer_of_version, documentation_addresses
):
    """Only addresses that somebody can have are taken as `externalIPs`.

    Names, networks, unspecified, loopback and link-local addresses are refused with their place in
    the list. Which ways of writing are taken and what is warned of depends on the version.
    """
    good = documentation_addresses["IPv4"]
    for bad, says in (
        ("echo.example", "must be a valid IP address"),
        ("192.0.2.0/24", "must be a valid IP address"),
        ("0.0.0.0", "may not be unspecified"),
        ("::", "may not be unspecified"),
        ("127.0.0.1", "may not be in the loopback range"),
        ("::1", "may not be in the loopback range"),
        ("169.254.1.1", "may not be in the link-local range"),
        ("fe80::1", "may not be in the link-local range"),
        ("224.0.0.1", "may not be in the link-local multicast range"),
        ("ff02::1", "may not be in the link-local multicast range"),
    ):
        answer = submit(name="unusable", externalIPs=[good, bad])

        assert_invalid(answer, "spec.externalIPs[1]", [bad, says])
        assert_absent(stored("unusable", home))
    for address, what in (
        (good, "external-address"),
        (documentation_addresses["IPv6"], "external-address"),
        ("192.0.2.010", "external-address-with-leading-zeros"),
        ("::ffff:192.0.2.10", "external-address-mapped"),
    ):
        assert_answers(submit(externalIPs=[address]), answer_of_version(what))


@pytest.mark.clause("fields.traffic-distribution", covers=["API-18"])
@pytest.mark.family("extended")
def test_a_traffic_distribution_is_one_of_this_version(submit, answer_of_version):
    """`trafficDistribution` takes the values of this version, and no other."""
    for value in ("preferclose", "Auto", ""):
        answer = submit(trafficDistribution=value)

        assert_invalid(answer, "spec.trafficDistribution", ["Unsupported value", '"PreferClose"'])
    for value in ("PreferClose", "PreferSameZone", "PreferSameNode"):
        assert_answers(submit(trafficDistribution=value), answer_of_version(value))


@pytest.mark.clause("fields.names", covers=["API-19"])
@pytest.mark.family("extended")
def test_a_name_is_a_label(submit, stored, home, answer_of_version):
    """A Service's name is a DNS label of at most 63 characters.

    Whether it may begin with a digit depends on the version.
    """
    for bad in ("Web", "web-", "-web", "a.b", "a_b", "a" * 64):
        answer = submit(name=bad)

        assert_invalid(answer, "metadata.name", "Invalid value")
        assert_absent(stored(bad, home))
    assert_accepted(submit(name="a" * 63))
    known = answer_of_version("name-that-begins-with-a-digit")
    for digits in ("1web", "42"):
        assert_answers(submit(name=digits), known)


@pytest.mark.clause("fields.fixed-once-set", covers=["API-20"])
def test_a_cluster_ip_and_the_first_family_cannot_be_changed(submit, change, stored, home):
    """Neither the ClusterIP nor the first IP family of a Service can be changed.

    Only by way of ExternalName, which has none, a Service gets others.
    """
    before = assert_accepted(submit())
    address, family = before["spec"]["clusterIP"], before["spec"]["ipFamilies"][0]
    another = submit(type="ClusterIP")["spec"]["clusterIP"]
    turned = [{"IPv4": "IPv6", "IPv6": "IPv4"}[family]]

    for wrong, says in (
        ({"clusterIP": another}, "may not change once set"),
        ({"clusterIP": "None", "clusterIPs": ["None"]}, "may not change once set"),
        ({"ipFamilies": turned}, f"expected an {turned[0]} value as indicated by `ipFamilies[0]`"),
    ):
        assert_invalid(change(before, **wrong), "spec.clusterIPs[0]", says)
        assert stored(before["metadata"]["name"], home)["spec"] == before["spec"]
    alias = assert_accepted(change(before, type="ExternalName", externalName="echo.example"))
    assert not {"clusterIP", "clusterIPs", "ipFamilies"} & alias["spec"].keys()
    again = assert_accepted(change(alias, type="NodePort", externalName=None, clusterIP=None))
    assert again["spec"]["ipFamilies"] == [family]
    assert again["spec"]["clusterIP"] not in ("", "None", another), address
