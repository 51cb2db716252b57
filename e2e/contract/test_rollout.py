"""Rollouts: an app is replaced by its next version while callers outside go on calling."""

import pytest

from e2e.check import answered_by, assert_serves, assert_settles, assert_unnoticed, note_outages
from e2e.probe import watching

REQUESTS = 5000
# One new pod at a time, and no old one goes before it is ready.
ONE_BY_ONE = {"maxSurge": 1, "maxUnavailable": 0}
# An app that ends gracefully serves until every node has heard that it goes, which takes a sync of
# kube-proxy, and longer on a starved machine.
LINGER = 12


@pytest.mark.clause("rollout.graceful-loses-nothing", covers=["EPS-09"])
@pytest.mark.needs("own-sockets")
def test_a_rolling_update_loses_nothing(place_scaled, expose, nodes, outside):
    """A rolling update of an app that ends gracefully loses none of 5,000 requests from outside.

    They are new connections through every node, and afterwards only new pods answer.
    """
    echo = place_scaled(2, linger=LINGER, strategy=ONE_BY_ONE)
    old = set(echo.pods)
    flows = expose(echo).flows(outside, via=nodes)
    assert_settles(dict.fromkeys(flows, answered_by(*old)))

    with watching(flows) as watch:
        echo.roll_out()
        assert_serves(dict.fromkeys(flows, answered_by(*echo.pods)))
        watch.await_attempts(REQUESTS)

    assert_unnoticed(watch)
    assert old.isdisjoint(echo.pods)


@pytest.mark.clause("rollout.rude-is-counted", covers=["EPS-09"])
@pytest.mark.needs("own-sockets")
def test_a_rude_rolling_update_settles(place_scaled, expose, nodes, outside):
    """A rolling update of an app that ends at once ends with the new pods serving on every node.

    What it loses until every node has heard of it is recorded.
    """
    echo = place_scaled(1, strategy=ONE_BY_ONE)
    flows = expose(echo).flows(outside, via=nodes)
    assert_settles(dict.fromkeys(flows, answered_by(*echo.pods)))

    with watching(flows) as watch:
        echo.roll_out()
        assert_settles(dict.fromkeys(flows, answered_by(*echo.pods)))

    note_outages(watch)
    assert_serves(dict.fromkeys(flows, answered_by(*echo.pods)))
