"""Labels and selector link Service and pods, and must match exactly."""

import pytest

from e2e.check import answered_by, assert_settles
from e2e.probe import ANSWERED, REFUSED

SELECTOR = {"app": "myapp", "type": "front-end"}


@pytest.mark.clause("selector.all-labels", covers=["EPS-01", "N-17"])
def test_only_pods_with_all_labels_are_in(place_echo, expose, workers, nodes, outside):
    """A pod that has all labels of the selector is in; one that misses or differs in one is out."""
    where = (workers or nodes)[0]
    echo = place_echo(where, labels=SELECTOR)
    other = place_echo(where, labels={"app": "myapp", "type": "back-end"})
    lacking = place_echo(where, labels={"app": "myapp"})
    longer = place_echo(where, labels=SELECTOR | {"type": "front-ends"})

    service = expose(echo, selector=SELECTOR)
    shared = expose(echo | other | lacking | longer, selector={"app": "myapp"})

    everybody = set(shared.owner.pods)
    assert len(everybody) == 4
    assert_settles(
        dict.fromkeys(service.flows(outside, via=nodes), answered_by(*echo.pods))
        | dict.fromkeys(shared.flows(outside, via=nodes), answered_by(*everybody)),
        times=10,
    )


@pytest.mark.clause("selector.relabelled-pod-moves", covers=["EPS-01", "LIF-13", "N-17"])
def test_relabelling_moves_a_pod_in_and_out(place_echo, expose, workers, nodes, outside):
    """A pod that gets the label is in, and is out when it loses it; the others stay."""
    echo = place_echo((workers or nodes)[0], nodes[-1], labels={"side": "in"})
    stays, moves = echo.pods
    service = expose(echo, selector={"echo": echo.name, "side": "in"})
    flows, alone = service.flows(outside, via=nodes), expose(echo, selector={"only": echo.name})

    echo.relabel(moves, {"side": "out", "only": echo.name})
    assert_settles(
        dict.fromkeys(flows, answered_by(stays))
        | dict.fromkeys(alone.flows(outside, via=nodes), answered_by(moves)),
        times=10,
    )

    echo.relabel(stays, {"side": "out"})
    echo.relabel(moves, {"side": "in", "only": None})
    assert_settles(dict.fromkeys(flows, answered_by(moves)), times=10)


@pytest.mark.clause("selector.edited-selector-moves", covers=["LIF-13", "N-17"])
def test_an_edited_selector_moves_to_other_pods(standing, expose, nodes, outside):
    """A changed selector moves the traffic to the pods that match it now, and from those before."""
    blue, green = standing.seat(0), standing.seat(1)
    service = expose(blue | green, selector=blue.labels)
    flows = service.flows(outside, via=nodes)
    assert_settles(dict.fromkeys(flows, answered_by(*blue.pods)), times=10)

    service.change(selector=green.labels)

    assert_settles(dict.fromkeys(flows, answered_by(*green.pods)), times=10)


@pytest.mark.clause("selector.nobody-is-refused", covers=["EPS-03", "ETP-04", "N-17"])
def test_a_selector_that_matches_nothing_is_refused(standing, expose, nodes, outside, own_callers):
    """Without a matching pod, and with a target port name that no pod has, callers are refused.

    The node says so at once instead of leaving the caller in silence.
    """
    nobody = expose(standing, selector={"echo": standing.name, "type": "front-ends"})
    nameless = expose(standing, ports=[{"port": 80, "targetPort": "no-such-name"}])
    somebody = expose(standing)

    table = dict.fromkeys(somebody.flows(outside, via=nodes), ANSWERED)
    for family in nobody.stored["spec"]["ipFamilies"]:
        for node, caller in zip(nodes, own_callers(len(nodes), family), strict=True):
            table[nobody.seen_from(caller, via=node, family=family)] = REFUSED
            table[nameless.seen_from(caller, via=node, family=family)] = REFUSED
    assert_settles(table)
