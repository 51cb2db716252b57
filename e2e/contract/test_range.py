"""Node ports come from one range, and no two Services have the same."""

import pytest

from e2e.check import answered_by, assert_absent, assert_accepted, assert_refused, assert_serves

PICKED = 100


def one_port(number):
    """A port 80 with a node port of our choice."""
    return [{"port": 80, "targetPort": 8080, "nodePort": number}]


@pytest.mark.clause("range.outside-is-refused", covers=["ALC-03", "N-07"])
def test_outside_the_range_is_refused_on_create(submit, stored, ports, home):
    """A node port outside the range is refused with its field and the range, and leaves no trace.

    Asked just below and just above the range, and at both ends of all ports; one inside is
    accepted.
    """
    for number in outside_numbers(ports):
        name = f"outside-{number}"

        answer = submit(name=name, ports=one_port(number))

        assert_out_of_range(answer, number, ports.allowed)
        assert_absent(stored(name, home))
    assert_accepted(submit(ports=one_port(ports.free())))


@pytest.mark.clause("range.outside-is-refused-on-update", covers=["ALC-03", "N-07"])
def test_outside_the_range_is_refused_on_update(submit, change, stored, ports, home):
    """A change to a node port outside the range is refused, and the Service stays as it was.

    A change to one inside is accepted.
    """
    before = assert_accepted(submit())
    for number in outside_numbers(ports):
        answer = change(before, ports=one_port(number))

        assert_out_of_range(answer, number, ports.allowed)
        assert stored(before["metadata"]["name"], home)["spec"] == before["spec"]
    inside = one_port(ports.free())
    after = assert_accepted(change(before, ports=inside))
    assert after["spec"]["ports"][0]["nodePort"] == inside[0]["nodePort"]


@pytest.mark.clause("range.ends-serve", covers=["ALC-02", "N-05", "N-07"])
def test_both_ends_of_the_range_serve(standing, expose, ports, nodes, outside):
    """The first and the last number of the range can be chosen, and serve on every node."""
    table = {}
    for number in (ports.allowed[0], ports.allowed[-1]):
        service = expose(standing, ports=one_port(ports.hold(number)))

        assert service.node_port == number
        table |= dict.fromkeys(service.flows(outside, via=nodes), answered_by(*standing.pods))
    assert_serves(table)


@pytest.mark.clause("range.picked-are-inside", covers=["ALC-01", "ALC-10", "N-16"])
def test_picked_ones_are_inside_and_different(submit, ports):
    """A hundred node ports that the cluster picks are all in the range and all different.

    None is in the low part of the range, which is left to those who choose. Where fewer than two
    hundred are free in the other, half of those are asked for.
    """
    # The other half is for clauses that run meanwhile.
    count = min(PICKED, ports.count_free() // 2)
    if count < 2:
        pytest.skip(f"fewer than four node ports are free in {ports.allowed}")
    entries = [{"name": f"p{n}", "port": 1000 + n} for n in range(count)]

    stored = assert_accepted(submit(ports=entries))

    picked = [port["nodePort"] for port in stored["spec"]["ports"]]
    assert len(picked) == len(set(picked)) == count
    left_alone = ports.picked_last
    assert all(n in ports.allowed and n not in left_alone for n in picked), sorted(picked)


@pytest.mark.clause("range.no-two-services", covers=["ALC-04"])
def test_two_services_cannot_have_one_node_port(
    standing, expose, submit, another_namespace, stored, ports, nodes, outside, home
):
    """A node port that a Service has is refused to any other, in its own namespace and elsewhere.

    The refused Service leaves no trace, and the first one goes on serving.
    """
    number = ports.free()
    service = expose(standing, ports=one_port(number))

    for where in (home, another_namespace()):
        answer = submit(name="latecomer", namespace=where, ports=one_port(number))

        assert_refused(
            answer,
            code=422,
            reason="Invalid",
            field="spec.ports[0].nodePort",
            says=[str(number), "provided port is already allocated"],
        )
        assert_absent(stored("latecomer", where))
    assert_serves(dict.fromkeys(service.flows(outside, via=nodes), answered_by(*standing.pods)))


@pytest.mark.clause("range.deleted-is-free-at-once", covers=["ALC-08"])
def test_a_deleted_number_is_free_at_once(submit, delete, ports):
    """The node port of a deleted Service can be had again at once, fifty times of fifty."""
    number = ports.free()
    for _ in range(50):
        answer = assert_accepted(submit(ports=one_port(number)))

        assert answer["spec"]["ports"][0]["nodePort"] == number
        delete(answer)


def outside_numbers(ports):
    """Some numbers that are ports and no node ports."""
    if not ports.outside:
        pytest.skip("every port may be a node port here")
    return ports.outside


def assert_out_of_range(answer, number, allowed):
    """Refused with the field, the number and the range."""
    assert_refused(
        answer,
        code=422,
        reason="Invalid",
        field="spec.ports[0].nodePort",
        says=[str(number), f"The range of valid ports is {allowed[0]}-{allowed[-1]}"],
    )
