"""externalTrafficPolicy: who passes connections on, and as whom the pod sees the caller."""

import pytest

from e2e.check import answered_by, assert_settles


@pytest.mark.clause("policy.local-keeps-the-source", covers=["ETP-01", "ETP-03"])
@pytest.mark.needs("two-workers")
def test_local_serves_own_pods_and_keeps_the_source(
    standing, expose, workers, nodes, outside, chosen
):
    """With Local a node speaks for its own pods only, and they see the caller's own address."""
    echo = standing.on(workers[0])
    service = expose(echo, externalTrafficPolicy="Local")

    table, nothing = {}, chosen("local-without-a-pod")
    for flow in service.flows(outside, via=nodes):
        mine = outside.source_towards(flow.target.address)
        at_home = flow.target.address in workers[0].addresses.values()
        table[flow.closely()] = answered_by(*echo.pods, seen_as=[mine]) if at_home else nothing
    assert_settles(table, times=1)
