"""What a node says of its pods to a load balancer, and what is made of it."""

import json
from contextlib import ExitStack

import pytest

from e2e.check import assert_healths
from e2e.check.table import NotSettledError
from e2e.probe import ANSWERED, CLOSED, FOREIGN, REFUSED, HealthPort
from e2e.selftest.servers import closed_port, http_reply, says, serving

SERVICE = ("home", "web")


def said(pods: int, *, status: str = "200 OK", weight: str | None = None, name: str = "web") -> str:
    body = {"service": {"namespace": "home", "name": name}, "localEndpoints": pods}
    header = f"X-Load-Balancing-Endpoint-Weight: {weight or pods}\r\n"
    return http_reply(json.dumps(body), status=status, extra=header)


def port(at) -> HealthPort:
    return HealthPort("worker-1", at.address, at.port, SERVICE)


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (said(2), ANSWERED),
        (said(0, status="503 Service Unavailable"), ANSWERED),
        (said(2, name="another"), FOREIGN),
        (http_reply("echo-a"), FOREIGN),
        (http_reply("[1]"), FOREIGN),
        (http_reply("{}"), FOREIGN),
    ],
)
def test_a_reply_is_of_this_service_or_foreign(reply, outcome):
    """Only JSON that names the Service counts, whatever the status code."""
    with serving(says(reply)) as at:
        assert port(at).ask().outcome == outcome


def test_what_every_node_should_say_settles():
    """A node with pods, one without, and one that has closed."""
    with ExitStack() as stack:
        two, none = (
            stack.enter_context(serving(says(reply)))
            for reply in (said(2), said(0, status="503 Service Unavailable"))
        )
        shut = stack.enter_context(closed_port())
        assert port(shut).ask().outcome == REFUSED
        assert_healths({port(two): 2, port(none): 0, port(shut): CLOSED})


@pytest.mark.parametrize(
    "reply",
    [
        said(1),
        said(2, weight="1"),
        said(2, status="503 Service Unavailable"),
        said(2, name="another"),
    ],
)
def test_a_node_that_says_something_else_is_marked(reply):
    """Count, weight, status and Service all have to be right."""
    with (
        serving(says(said(1))) as well,
        serving(says(reply)) as at,
        pytest.raises(NotSettledError) as failed,
    ):
        assert_healths({port(well): 1, port(at): 2}, within=0.1)

    lines = str(failed.value).splitlines()
    assert [line[0] for line in lines[1:]] == [" ", "x"]
    assert "want status 200, 2 pods, weight 2, saw" in lines[2]


def test_nobody_asked_proves_nothing():
    """An empty table is a mistake."""
    with pytest.raises(ValueError, match="nothing to judge"):
        assert_healths({})
