"""Many callers that ask in one run of curl, and draws with pauses."""

import shutil

import pytest

from e2e import timing
from e2e.cluster.caller import Caller
from e2e.cluster.crowd import Crowd
from e2e.errors import ProbeBrokenError
from e2e.probe import ANSWERED, FOREIGN, REFUSED, SILENT, Flow, Target, draw, draw_slowly, look
from e2e.selftest.programs import only_path, put
from e2e.selftest.servers import closed_port, full_backlog, http_reply, says, serving
from e2e.selftest.test_caller import Here

pytestmark = pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")


class Anybody:
    """Owns every pod but one."""

    def owns(self, echo: str) -> bool:
        return echo != "echo-foreign"

    def whereabouts(self, echo: str) -> str:
        return ""


def crowd(count: int = 3) -> Crowd:
    sources = [f"127.0.0.{70 + n}" for n in range(count)]
    return Crowd(Caller(Here(), "c0ffee"), {"IPv4": sources})


def flows(callers: Crowd, *servers) -> list[Flow]:
    return [
        Flow(caller, Target("node", at.address, at.port, Anybody()))
        for at in servers
        for caller in callers.vantages("IPv4")
    ]


def test_each_caller_of_a_crowd_asks_from_its_own_address():
    """One run of curl brings each caller as many replies as were asked for, each checked."""
    callers = crowd()
    with (
        serving(says(http_reply("echo-a")), "0.0.0.0") as one,
        serving(says(http_reply("echo-foreign")), "0.0.0.0") as two,
    ):
        one.address = two.address = "127.0.0.1"
        asked = flows(callers, one, two)
        drawn = draw(asked, 2)
        peers = [address for address, _ in one.peers]

    assert list(drawn) == asked
    outcomes = [[reply.outcome for reply in drawn[flow]] for flow in asked]
    assert outcomes == [[ANSWERED] * 2] * 3 + [[FOREIGN] * 2] * 3
    assert peers == [f"127.0.0.{n}" for n in (70, 70, 71, 71, 72, 72)]
    assert callers.container.engine.shells == 1


def test_who_comes_after_a_failure_is_asked_as_well(monkeypatch):
    """One dead target takes no reply from others, and many dead ones do not add up their waits."""
    monkeypatch.setattr(timing, "ATTEMPT", 0.5)
    callers = crowd(2)
    with serving(says(http_reply("echo-a"))) as well, closed_port() as shut, full_backlog() as dead:
        asked = flows(callers, well, shut, well, dead, well)
        seen = list(look(asked).values())

    assert [reply.outcome for reply in seen] == [
        *(ANSWERED, ANSWERED, REFUSED, REFUSED, ANSWERED, ANSWERED),
        *(SILENT, SILENT, ANSWERED, ANSWERED),
    ]


def test_a_crowd_can_be_parted():
    """The first few and all others are everybody."""
    few, rest = crowd(5).first(2), crowd(5).others(2)

    sources = [caller.source for part in (few, rest) for caller in part.vantages("IPv4")]
    assert sources == [caller.source for caller in crowd(5).vantages("IPv4")]


@pytest.mark.parametrize("program", [None, "#!/bin/sh\nexit 2\n", "#!/bin/sh\necho oops\n"])
def test_a_curl_that_is_missing_or_breaks_is_a_broken_probe(tmp_path, monkeypatch, program):
    """A crowd of which nothing is heard has not called."""
    folder = only_path(tmp_path / "bin")
    (folder / "grep").symlink_to(shutil.which("grep"))
    if program:
        put(folder, "curl", program)
    monkeypatch.setenv("PATH", str(folder))

    with closed_port() as at, pytest.raises(ProbeBrokenError, match="callers: curl ended with"):
        look(flows(crowd(), at))


def test_a_slow_draw_pauses_and_says_when_it_was_too_slow():
    """Between two attempts there is the pause, and one that was too long is no draw."""
    with serving(says(http_reply("echo-a"))) as at:
        (flow,) = flows(crowd(1), at)
        drawn = draw_slowly([flow], 3, pause=0.1, at_most=5)
        assert [reply.echo for reply in drawn[flow]] == ["echo-a"] * 3

        with pytest.raises(ProbeBrokenError, match=r"0.15 s is too much"):
            draw_slowly([flow], 2, pause=0.2, at_most=0.15)
