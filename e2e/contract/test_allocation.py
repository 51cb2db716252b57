"""Node ports are allocated: who has a number has it alone, and who gives it up frees it at once."""

from functools import partial

import pytest

from e2e.check import (
    answered_by,
    assert_accepted,
    assert_invalid,
    assert_refused,
    assert_serves,
    assert_settles,
    measured,
)

OF_NOBODY = {"type": "LoadBalancer", "loadBalancerClass": "nodeport-e2e/nobody"}
LOCAL = {"externalTrafficPolicy": "Local"}
AT_ONCE, ASKING_FOR_ONE = 40, 20
# Of such edits nearly every one goes wrong.
TRIES, OTHERS = 20, 8
TAKEN = "provided port is already allocated"


def tcp(number=None, port=53, target=8080):
    """A TCP port, with a node port of our choice or without."""
    entry = {"name": f"tcp-{port}", "port": port, "targetPort": target, "protocol": "TCP"}
    return entry | ({"nodePort": number} if number else {})


def udp(number=None, port=53, target=8081):
    """A UDP port, likewise."""
    entry = tcp(number, port, target)
    return entry | {"name": f"udp-{port}", "protocol": "UDP"}


def numbers(service):
    """The node ports of a Service, in its own order."""
    return [port.get("nodePort") for port in service["spec"]["ports"]]


def assert_taken(answer, number, index=0):
    """Refused because another Service has the number."""
    assert_invalid(answer, f"spec.ports[{index}].nodePort", [f"Invalid value: {number}", TAKEN])


@pytest.mark.clause("allocation.across-protocols", covers=["ALC-05"])
def test_a_number_is_taken_for_all_protocols(submit, ports):
    """A node port that one Service has for TCP is refused to another one for UDP, and vice versa.

    With another number it is accepted.
    """
    first, second, third = ports.free(), ports.free(), ports.free()
    assert_accepted(submit(ports=[tcp(first)]))
    assert_accepted(submit(ports=[udp(second)]))

    assert_taken(submit(ports=[udp(first)]), first)
    assert_taken(submit(ports=[tcp(second)]), second)
    assert_accepted(submit(ports=[udp(third)]))


@pytest.mark.clause("allocation.twins-share", covers=["ALC-06", "API-08"])
def test_twins_share_a_node_port(submit, delete, standing, expose, ports, nodes, outside):
    """At create, a TCP and a UDP port of one number share a node port, and each serves.

    That holds if it is picked, given to either of them, or given to both; two can be asked for.
    """
    one, other = ports.free(), ports.free()
    for entries, wanted in (
        ([tcp(one), udp()], [one, one]),
        ([tcp(), udp(one)], [one, one]),
        ([tcp(one), udp(one)], [one, one]),
        ([tcp(one), udp(other)], [one, other]),
    ):
        service = assert_accepted(submit(ports=entries))
        assert numbers(service) == wanted
        delete(service)

    twins = expose(standing, ports=[tcp(), udp()])

    assert len(set(numbers(twins.stored))) == 1
    flows = [f for p in ("TCP", "UDP") for f in twins.flows(outside, via=nodes, protocol=p)]
    assert_serves(dict.fromkeys(flows, answered_by(*standing.pods)))


@pytest.mark.clause("allocation.twin-added-later", covers=["ALC-07"])
def test_a_twin_that_comes_later_has_a_number_of_its_own(submit, change, ports):
    """At update, a twin for another protocol gets a node port of its own, unless it asks for one.

    Two ports of different numbers may ask for one node port at update, but not at create.
    """
    one, other = ports.free(), ports.free()
    service = assert_accepted(submit(ports=[tcp(one)]))

    later = assert_accepted(change(service, ports=[tcp(one), udp()]))
    asked = assert_accepted(change(service, ports=[tcp(one), udp(one)]))
    unlike = assert_accepted(change(service, ports=[tcp(other), udp(other, port=54)]))

    assert numbers(later)[0] == one != numbers(later)[1]
    assert numbers(asked) == [one, one]
    assert numbers(unlike) == [other, other]
    assert_taken(submit(ports=[tcp(one), udp(one, port=54)]), one, index=1)
    assert_accepted(submit(ports=[tcp(one)]))


@pytest.mark.clause("allocation.given-up-is-free", covers=["ALC-09"])
def test_a_number_that_was_given_up_is_free_at_once(submit, change, delete, ports):
    """A node port that a Service gave up can be had by another one at once, and not before.

    It is given up by a change of the type, of the number, or of the list of ports.
    """
    number, other = ports.free(), ports.free()
    for giving_up in (
        {"type": "ClusterIP"},
        {"type": "ExternalName", "externalName": "echo.example"},
        {"ports": [tcp(other), udp(port=54)]},
        {"ports": [udp(port=54)]},
    ):
        owner = assert_accepted(submit(ports=[tcp(number), udp(port=54)]))
        assert_taken(submit(ports=[tcp(number)]), number)

        assert_accepted(change(owner, **giving_up))

        heir = assert_accepted(submit(ports=[tcp(number)]))
        assert numbers(heir) == [number]
        delete(heir)
        delete(owner)


@pytest.mark.clause("allocation.refused-keeps-nothing", covers=["ALC-11"])
def test_a_refused_request_keeps_no_number(submit, change, delete, stored, home, ports):
    """A request that is refused for one of its ports keeps none of the others' node ports.

    That holds at create and at update, and for a refusal that has nothing to do with node ports.
    """
    number, taken = ports.free(), ports.free()
    assert_accepted(submit(ports=[tcp(taken)]))
    service = assert_accepted(submit())
    two = [tcp(number), tcp(taken, port=54)]

    for refused in (
        submit(ports=two),
        change(service, ports=two),
        submit(ports=[tcp(number)], sessionAffinity="Cookie"),
        change(service, ports=[tcp(number)], sessionAffinity="Cookie"),
    ):
        assert_refused(refused, code=422, reason="Invalid")
        assert stored(service["metadata"]["name"], home)["spec"] == service["spec"]
        heir = assert_accepted(submit(ports=[tcp(number)]))
        delete(heir)


@pytest.mark.clause("allocation.held-back", covers=["ALC-13"])
def test_a_service_that_is_held_back_keeps_its_number(
    submit, delete, hold_back, stored, home, ports
):
    """A Service whose end is held back by a finalizer keeps its node port until it is let go.

    Then the number can be had at once.
    """
    number = ports.free()
    service = assert_accepted(submit(ports=[tcp(number)]))
    let_go = hold_back(service)

    delete(service)

    ending = stored(service["metadata"]["name"], home)
    assert "deletionTimestamp" in ending["metadata"]
    assert numbers(ending) == [number]
    assert_taken(submit(ports=[tcp(number)]), number)
    let_go()
    assert_accepted(submit(ports=[tcp(number)]))


@pytest.mark.clause("allocation.at-once", covers=["ALC-16"])
def test_no_number_is_given_twice_to_many_at_once(submit, at_once, ports):
    """Of many requests at the same moment no two get one node port.

    Forty that leave the choice get two different ones each, and of twenty that ask for the same one
    exactly one gets it. Where fewer are free, half of those are asked for.
    """
    two = [tcp(port=80), tcp(port=81)]
    number, count = ports.free(), min(AT_ONCE, ports.count_free() // 4)
    if count < 2:
        pytest.skip(f"fewer than eight node ports are free in {ports.allowed}")

    many = at_once([partial(submit, ports=two)] * count)
    rivals = at_once([partial(submit, ports=[tcp(number)])] * ASKING_FOR_ONE)

    given = [n for answer in many for n in numbers(assert_accepted(answer))]
    assert len(set(given)) == len(given) == 2 * count
    assert all(n in ports.allowed for n in given)
    winners = [answer for answer in rivals if answer["kind"] == "Service"]
    assert len(winners) == 1
    for answer in rivals:
        if answer not in winners:
            assert_taken(answer, number)


@pytest.mark.clause("allocation.edited-by-two", covers=["ALC-16"])
@pytest.mark.family("disruptive")
@pytest.mark.needs("own-cluster", "default-range")
# No issue is known. Numbers are taken and given back before the edit is stored, at `finishUpdate`.
@pytest.mark.known_bug(
    "https://github.com/kubernetes/kubernetes/blob/v1.37.2/"
    "staging/src/k8s.io/apiserver/pkg/registry/generic/registry/store.go"
)
def test_an_edit_that_meets_another_loses_a_number(submit, change, delete, at_once, stored, home):
    """An edit of a node port that meets another write of its Service is refused by mistake.

    The number that it asked for is nobody's afterwards and refused to all, and the number that the
    Service still has is given to another one that asks for it.
    """
    for _ in range(TRIES):
        service, spare = assert_accepted(submit()), assert_accepted(submit())
        [held], [wanted] = numbers(service), numbers(spare)
        delete(spare)
        edit = partial(change, service, ports=[tcp(wanted)])
        others = [partial(change, service, **sticky(seconds)) for seconds in range(1, OTHERS + 1)]
        edited = at_once([edit, *others])[0]
        if edited["kind"] == "Status":
            break

    assert_taken(edited, wanted)
    assert numbers(stored(service["metadata"]["name"], home)) == [held]
    assert_taken(submit(ports=[tcp(wanted)]), wanted)
    assert numbers(assert_accepted(submit(ports=[tcp(held)]))) == [held]


def sticky(seconds):
    """Session affinity with this timeout."""
    config = {"clientIP": {"timeoutSeconds": seconds}}
    return {"sessionAffinity": "ClientIP", "sessionAffinityConfig": config}


@pytest.mark.clause("allocation.health-check-port", covers=["ALC-17"])
def test_a_health_check_port_is_one_of_the_node_ports(submit, change, delete, ports):
    """A health check's port comes from the same numbers as node ports, and collides with them.

    It is refused as an error of the server, also when it is out of range, while a node port that
    collides with it is refused as invalid. Once it is not needed any more it is free.
    """
    number, taken = ports.free(), ports.free()
    assert_accepted(submit(ports=[tcp(taken)]))
    checked = OF_NOBODY | LOCAL
    outside = dict.fromkeys(ports.outside, "provided port is not in the valid range")

    for wrong, why in ({taken: TAKEN} | outside).items():
        assert_check_refused(submit(**checked, healthCheckNodePort=wrong), wrong, why)
    own = submit(**checked, healthCheckNodePort=number, ports=[udp(number)])
    assert_check_refused(own, number, TAKEN)
    service = assert_accepted(submit(**checked, healthCheckNodePort=number))

    assert_taken(submit(ports=[tcp(number)]), number)
    assert_accepted(change(service, externalTrafficPolicy="Cluster"))
    heir = assert_accepted(submit(ports=[tcp(number)]))
    assert_check_refused(change(service, **LOCAL, healthCheckNodePort=number), number, TAKEN)
    delete(heir)
    assert_accepted(change(service, **LOCAL, healthCheckNodePort=number))


def assert_check_refused(answer, number, why):
    """Refused because the health check cannot have its port."""
    says = [f"failed to allocate requested HealthCheck NodePort {number}", why]
    assert_refused(answer, code=500, reason="InternalError", says=says)


@pytest.mark.clause("allocation.declined", covers=["ALC-18"])
def test_a_load_balancer_may_decline_node_ports(submit, change, ports):
    """A LoadBalancer Service that declines node ports gets none, except those that it asks for.

    When it changes its mind it gets them; when it changes it back it keeps them until they are
    taken out of its ports. As a NodePort Service it gets one in any case.
    """
    number = ports.free()
    declined = OF_NOBODY | {"allocateLoadBalancerNodePorts": False}

    asked = assert_accepted(submit(**declined, ports=[tcp(number), udp(port=54)]))
    assert numbers(asked) == [number, None]

    service = assert_accepted(submit(**declined))
    assert numbers(service) == [None]
    given = assert_accepted(change(service, allocateLoadBalancerNodePorts=True))
    assert numbers(given)[0] in ports.allowed
    kept = assert_accepted(change(service, allocateLoadBalancerNodePorts=False))
    assert numbers(kept) == numbers(given)
    without = assert_accepted(change(service, ports=[{"port": 80}]))
    assert numbers(without) == [None]
    as_node_port = {"type": "NodePort", "allocateLoadBalancerNodePorts": None}
    turned = assert_accepted(change(service, **as_node_port, loadBalancerClass=None))
    assert numbers(turned)[0] in ports.allowed


@pytest.mark.clause("allocation.repair-finds-nothing", covers=["ALC-15"])
@pytest.mark.family("slow")
@pytest.mark.needs("own-cluster")
def test_repair_finds_nothing_wrong(submit, change, repaired, ports):
    """Going over all allocations, the API server finds nothing wrong with correct Services.

    Twins on one node port, two ports that came to share one, a health check's port and a load
    balancer with and without node ports are correct. An alias with another's number is not, and
    that is found.
    """
    number, taken = ports.free(), ports.free()
    shared = submit(ports=[tcp()])
    correct = [
        submit(ports=[tcp(), udp()]),
        change(shared, ports=[tcp(number), udp(number, port=54)]),
        submit(**OF_NOBODY, **LOCAL),
        submit(**OF_NOBODY, allocateLoadBalancerNodePorts=False),
    ]
    for service in correct:
        assert_accepted(service)

    alias = {"type": "ExternalName", "externalName": "example.com"}
    wrong = [
        submit(ports=[tcp(taken)]),
        assert_accepted(change(submit(ports=[tcp()]), **alias, ports=[tcp(taken)])),
    ]

    found = repaired(*correct, unlike=wrong)

    assert not found.events, sorted(found.events)
    measured(f"wrong in the whole cluster, by kind: {found.errors}")


@pytest.mark.clause("allocation.exhausted", covers=["ALC-10", "ALC-11", "ALC-12", "SCL-02"])
@pytest.mark.family("disruptive")
@pytest.mark.needs("small-range")
def test_a_full_range_is_said(standing, expose, submit, ports, nodes, outside):
    """When every node port is taken creation fails and says so, and one that is given up is enough.

    The low part of the range is picked from last. With all numbers taken every one of them serves
    on every node, and a request for one too many keeps none.
    """
    free = ports.free_numbers()
    assert_full(submit(ports=entries(len(free) + 1)))
    high = [n for n in free if n not in ports.picked_last]
    first = expose(standing, ports=entries(len(high)))
    assert sorted(numbers(first.stored)) == high

    second = expose(standing, ports=entries(len(free) - len(high)))
    assert sorted(numbers(first.stored) + numbers(second.stored)) == sorted(free)
    assert_full(submit())
    served = [
        flow.at(number)
        for service in (first, second)
        for number in numbers(service.stored)
        for flow in service.flows(outside, via=nodes)
    ]
    assert_settles(dict.fromkeys(served, answered_by(*standing.pods)))

    second.change(ports=second.stored["spec"]["ports"][1:])
    assert_accepted(submit())
    assert_full(submit())


def entries(count):
    """So many ports that lead to the same target."""
    return [tcp(port=1000 + n) for n in range(count)]


def assert_full(answer):
    """Refused because no node port is left."""
    says = "failed to allocate a nodePort: range is full"
    assert_refused(answer, code=500, reason="InternalError", says=says)
