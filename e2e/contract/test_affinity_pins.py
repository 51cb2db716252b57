"""How long sessionAffinity keeps a client on its pod, and what else moves it."""

from math import ceil

import pytest

from e2e import timing
from e2e.check import (
    answered_by,
    assert_all_met,
    assert_comes_to,
    assert_one_each,
    assert_only,
    assert_settles,
    assert_some_move,
    replies_in,
)
from e2e.errors import ProbeBrokenError
from e2e.probe import draw, draw_slowly

pytestmark = pytest.mark.needs("outside-caller")

# Seconds in which a pod that was told to end serves on; nobody waits for them to pass.
LINGER = 60
# One of three pods gets none of so many pins less than once in a thousand million times.
PINS = 52


@pytest.mark.clause("affinity.timeout", covers=["AFF-03", "AFF-04"])
def test_a_pin_lasts_until_nobody_came_for_the_timeout(standing, expose, nodes, clients):
    """A client that returns before the timeout keeps its pod for good; one that does not may move.

    Ten clients come to each node every 9 s for 18 s. A timeout of 15 s keeps them all, beyond
    these 15 s; one of 2 s lets some of them move, through every node.
    """
    brief, lasting = (
        expose(
            standing,
            sessionAffinity="ClientIP",
            sessionAffinityConfig={"clientIP": {"timeoutSeconds": seconds}},
        ).flows_of_each(clients.first(10), via=nodes)
        for seconds in (timing.AFFINITY_BRIEF, timing.AFFINITY_LASTING)
    )
    assert_settles(dict.fromkeys(brief + lasting, answered_by(*standing.pods)))

    drawn = draw_slowly(
        brief + lasting, 3, pause=timing.AFFINITY_PAUSE, at_most=timing.AFFINITY_LASTING
    )

    assert_one_each({flow: drawn[flow] for flow in lasting}, over=standing.pods)
    assert_some_move({flow: drawn[flow] for flow in brief}, over=standing.pods)


@pytest.mark.clause("affinity.pod-ends", covers=["AFF-08", "AFF-12"])
def test_only_the_clients_of_a_pod_that_ends_move(
    place_echo, expose, workers, nodes, clients, in_pods
):
    """When a pod is told to end, its clients move to others and stay there; nobody else moves.

    The pod still serves whoever asks it at its own address.
    """
    spots = workers or nodes
    echo = place_echo(spots[0], spots[-1], spots[0], linger=LINGER)
    ends, *stay = echo.pods
    service = expose(echo, sessionAffinity="ClientIP")
    flows = service.flows_of_each(clients.first(ceil(PINS / len(nodes))), via=nodes)
    before = assert_settles(dict.fromkeys(flows, answered_by(*echo.pods))).last
    others = {flow: answered_by(r.echo) for flow, r in before.items() if r.echo != ends}
    own = {flow: answered_by(p) for flow, p in echo.pod_flows(in_pods[0]).items() if p == ends}
    if len(others) == len(flows):
        raise ProbeBrokenError("nobody was sent to the pod that ends")

    echo.remove(ends)

    looked = assert_settles(dict.fromkeys(flows, answered_by(*stay)) | others | own)
    assert_only({flow: r for flow, r in replies_in(looked).items() if flow in others}, others)
    assert_one_each(draw(flows, 3), over=stay)


@pytest.mark.clause("affinity.pod-added", covers=["AFF-09"])
@pytest.mark.needs("two-workers")
def test_a_pod_that_is_added_moves_nobody(standing, expose, workers, nodes, outside, clients):
    """When a pod is added, no client that has a pod moves to it; clients that come later may."""
    few, node = standing.on(workers[0]), {"node": workers[0].name}
    new = standing.pods.keys() - few.pods.keys()
    service = expose(standing, selector=few.labels, sessionAffinity="ClientIP")
    free = expose(standing, selector=few.labels)
    enough = ceil(PINS / len(nodes))
    early, late = (
        service.flows_of_each(c, via=nodes)
        for c in (clients.first(13), clients.others(13).first(enough))
    )
    before = assert_settles(dict.fromkeys(early, answered_by(*few.pods))).last

    service.change(selector=dict.fromkeys(node))
    free.change(selector=dict.fromkeys(node))
    assert_comes_to(assert_all_met, free.flows(outside, via=nodes), over=standing.pods)

    after = draw(early + late, 3)
    assert_one_each({flow: [before[flow], *after[flow]] for flow in early}, over=few.pods)
    assert_one_each({flow: after[flow] for flow in late}, over=standing.pods)
    assert new & {after[flow][0].echo for flow in late}, "no client that came later got the new pod"
