"""Traffic policies while something changes: the policy itself, or where the pods are."""

import pytest

from e2e.check import answered_by, assert_settles, assert_unnoticed
from e2e.probe import watching

pytestmark = pytest.mark.needs("two-workers")

# Seconds in which a pod that was told to end serves on.
LINGER = 10


@pytest.mark.clause("policy.switched-in-use", covers=["ETP-07"])
@pytest.mark.family("extended")
@pytest.mark.needs("kube-proxy", "own-sockets")
def test_switching_the_policy_disturbs_nobody(
    standing, expose, nodes, outside, own_addresses, chosen
):
    """Switching from Local to Cluster and back takes effect on every node, without one error.

    Nodes that have a pod lose no new and no kept connection; the others serve under Cluster only.
    """
    service = expose(standing, externalTrafficPolicy="Local")
    homes = [node for node in nodes if node.name in standing.pods.values()]
    away = service.flows(outside, via=[node for node in nodes if node not in homes])
    local, cluster = {}, dict.fromkeys(away, answered_by(*standing.pods))
    for node in homes:
        for flow in service.flows(outside, via=[node]):
            mine = outside.source_towards(flow.target.address)
            assert mine not in own_addresses[node.name]
            local[flow.closely()] = answered_by(seen_as=[mine])
            cluster[flow.closely()] = answered_by(seen_as=own_addresses[node.name])
    assert_settles(local)

    flows = service.flows(outside, via=homes)
    with watching(flows, kept=flows) as watch:
        service.change(externalTrafficPolicy="Cluster")
        assert_settles(cluster)
        service.change(externalTrafficPolicy="Local")
        assert_settles(local)
    assert_unnoticed(watch)
    assert_settles(local | dict.fromkeys(away, chosen("local-without-a-pod")), times=1)


@pytest.mark.clause("policy.local-pod-moves", covers=["ETP-08"])
def test_a_pod_moves_under_local(place_scaled, expose, workers, outside, chosen):
    """With Local, when the only pod moves to another node, that one serves and the old one not."""
    echo = place_scaled(1, on=workers[0])
    service = expose(echo, externalTrafficPolicy="Local")
    old, new = (service.flows(outside, via=[node]) for node in workers[:2])
    nothing = chosen("local-without-a-pod")
    assert_settles(dict.fromkeys(old, answered_by(*echo.pods)))
    assert_settles(
        dict.fromkeys(old, answered_by(*echo.pods)) | dict.fromkeys(new, nothing), times=1
    )

    echo.move(workers[1])

    assert_settles(dict.fromkeys(new, answered_by(*echo.pods)))
    assert_settles(
        dict.fromkeys(new, answered_by(*echo.pods)) | dict.fromkeys(old, nothing), times=1
    )


@pytest.mark.clause("policy.local-rollout", covers=["ETP-09"])
@pytest.mark.needs("own-sockets")
def test_a_rollout_under_local_loses_nothing(place_scaled, expose, workers, outside):
    """With Local, a rollout of an app that ends gracefully loses no connection to its node.

    The new pod is there before the old one is told to end, and that serves on for some seconds.
    """
    echo = place_scaled(1, on=workers[0], linger=LINGER)
    service = expose(echo, externalTrafficPolicy="Local")
    flows = service.flows(outside, via=[workers[0]])
    assert_settles(dict.fromkeys(flows, answered_by(*echo.pods)))

    with watching(flows) as watch:
        echo.roll_out()
        assert_settles(dict.fromkeys(flows, answered_by(*echo.pods)))
    assert_unnoticed(watch)
