"""Labels and selector link Service and pods, and must match exactly."""

import pytest

from e2e.check import answered_by, assert_serves, assert_settles, assert_unnoticed
from e2e.probe import REFUSED, watching

SELECTOR = {"app": "myapp", "type": "front-end"}


@pytest.mark.clause("selector.all-labels", covers=["EPS-01", "N-17"])
def test_only_pods_with_all_labels_are_in(place_echoes, expose, workers, nodes, outside, in_pods):
    """A pod with all labels of the selector is in; one that lacks or differs in one is out.

    A pod with all labels that is not Ready is out too, though it answers at its own address.
    """
    echo, lacking, longer, unready = place_echoes(
        (workers or nodes)[0],
        {"labels": SELECTOR},
        {"labels": {"app": "myapp"}},
        {"labels": SELECTOR | {"type": "front-ends"}},
        {"labels": SELECTOR, "ready": False},
    )

    service = expose(echo, selector=SELECTOR)
    shared = expose(echo | lacking | longer, selector={"app": "myapp"})

    unready_flows = unready.pod_flows(in_pods[0]).items()
    assert_serves(
        dict.fromkeys(service.flows(outside, via=nodes), answered_by(*echo.pods))
        | dict.fromkeys(shared.flows(outside, via=nodes), answered_by(*shared.owner.pods))
        | {flow: answered_by(pod) for flow, pod in unready_flows}
    )


@pytest.mark.clause("selector.relabelled-pod-moves", covers=["N-17"])
def test_relabelling_moves_a_pod_in_and_out(place_echo, expose, workers, nodes, outside):
    """A pod that gets the label is in, and is out when it loses it; the others stay."""
    echo = place_echo((workers or nodes)[0], nodes[-1], labels={"side": "in"})
    stays, moves = echo.pods
    service = expose(echo, selector={"echo": echo.name, "side": "in"})
    flows, alone = service.flows(outside, via=nodes), expose(echo, selector={"only": echo.name})

    echo.relabel(moves, {"side": "out", "only": echo.name})
    assert_serves(
        dict.fromkeys(flows, answered_by(stays))
        | dict.fromkeys(alone.flows(outside, via=nodes), answered_by(moves)),
        times=10,
    )

    echo.relabel(stays, {"side": "out"})
    echo.relabel(moves, {"side": "in", "only": None})
    assert_serves(dict.fromkeys(flows, answered_by(moves)), times=10)


@pytest.mark.clause("selector.edited-selector-moves", covers=["LIF-13", "N-17"])
@pytest.mark.needs("own-sockets")
def test_an_edited_selector_moves_to_other_pods(standing, expose, nodes, outside):
    """A changed selector moves all traffic to the pods that match it now.

    Nobody notices while it moves: no new connection fails and no open one breaks.
    """
    blue, green = standing.seat(0), standing.seat(1)
    service = expose(blue | green, selector=blue.labels)
    flows = service.flows(outside, via=nodes)
    before, after = answered_by(*blue.pods), answered_by(*green.pods)
    assert_serves(dict.fromkeys(flows, before))

    with watching(flows, kept=flows) as watch:
        service.change(selector=green.labels)
        assert_settles(dict.fromkeys(flows, after))

    assert_unnoticed(watch)
    assert_serves(dict.fromkeys(flows, after))


@pytest.mark.clause("selector.nobody-is-refused", covers=["EPS-03", "ETP-04", "N-17"])
@pytest.mark.needs("outside-caller")
def test_a_selector_that_matches_nothing_is_refused(standing, expose, nodes, outside, own_callers):
    """Without a matching pod, and with a target port name that no pod has, callers are refused.

    The node says so at once instead of leaving the caller in silence, under both traffic policies.
    """
    nothing = {"echo": standing.name, "type": "front-ends"}
    nobody = expose(standing, selector=nothing)
    nobody_local = expose(standing, selector=nothing, externalTrafficPolicy="Local")
    nameless = expose(standing, ports=[{"port": 80, "targetPort": "no-such-name"}])
    somebody = expose(standing)

    table = dict.fromkeys(somebody.flows(outside, via=nodes), answered_by(*standing.pods))
    for family in nobody.stored["spec"]["ipFamilies"]:
        for node, caller in zip(nodes, own_callers(len(nodes), family), strict=True):
            for service in (nobody, nobody_local, nameless):
                table[service.seen_from(caller, via=node, family=family)] = REFUSED
    assert_settles(table)
