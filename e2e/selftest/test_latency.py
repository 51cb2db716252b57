"""How long a change takes, on flows that are right after so many calls."""

import time
from dataclasses import dataclass

import pytest

from e2e import timing
from e2e.check import answered_by, assert_reaches, journal
from e2e.check.latency import describe
from e2e.check.table import NotSettledError
from e2e.probe import ANSWERED, REFUSED, Flow, Reply, Target, arrivals

NOBODY, ECHO = Reply(REFUSED), Reply(ANSWERED, echo="echo-a-0")


class Everybody:
    """Owns every pod."""

    def owns(self, echo: str) -> bool:
        return bool(echo)

    def whereabouts(self, echo: str) -> str:
        return f"the node of {echo}"


@dataclass
class Late:
    """A caller that is refused so many times first."""

    refused: int
    name: str = "outside"
    calls: int = 0

    def draw(self, address: str, port: int, times: int, at_once: int = 1) -> list[Reply]:
        assert (address, port, times) == ("192.0.2.1", 30081, 1)
        self.calls += 1
        return [ECHO if self.calls > self.refused else NOBODY]


def flow_after(refused: int, node: str = "worker-1") -> Flow:
    return Flow(Late(refused), Target(node, "192.0.2.1", 30081, Everybody()))  # type: ignore[arg-type]


def test_each_flow_is_asked_until_it_is_right_and_no_longer():
    soon, late = flow_after(0), flow_after(3)
    began = time.monotonic()

    came = arrivals({soon: began, late: began - 5}, lambda _, r: r == ECHO_SEEN, within=10)

    assert (soon.caller.calls, late.caller.calls) == (1, 4)  # type: ignore[attr-defined]
    assert 0 < came[soon] < 2
    assert 5 < came[late] < 7


def test_a_flow_that_is_never_right_is_named(monkeypatch):
    monkeypatch.setattr(timing, "SETTLE_WITHIN", 0.2)
    soon, never = flow_after(0), flow_after(10**6, node="worker-2")
    table = dict.fromkeys([soon, never], answered_by())

    with pytest.raises(NotSettledError) as failed:
        assert_reaches(table, since=dict.fromkeys(table, time.monotonic()), what="made")

    assert str(failed.value).splitlines() == [
        "not reached in 0.2 s: 1 of 2 flows",
        "x outside -> worker-2:30081: want answered, saw refused",
    ]
    assert [wrong.flow for wrong in failed.value.wrong] == [never]


def test_the_times_of_each_node_are_kept():
    book = journal.Journal()
    token = journal.current.set(book)
    table = dict.fromkeys([flow_after(0, f"worker-{n}") for n in (1, 2, 2)], answered_by())

    assert_reaches(table, since=dict.fromkeys(table, time.monotonic()), what="made")

    journal.current.reset(token)
    first, second = book.measured
    assert first.startswith("made, worker-1: p50 0.")
    assert second.startswith("made, worker-2: p50 0.")
    assert second.endswith("of 2")


def test_nothing_is_reached_by_nobody():
    with pytest.raises(ValueError, match="no flow"):
        assert_reaches({}, since={}, what="made")


def test_percentiles_are_times_that_were_measured():
    times = [float(n) for n in range(1, 101)]

    assert describe(times) == "p50 50.00 s, p95 95.00 s, max 100.00 s of 100"
    assert describe([0.5]) == "p50 0.50 s, p95 0.50 s, max 0.50 s of 1"


ECHO_SEEN = Reply(ANSWERED, echo="echo-a-0", detail="the node of echo-a-0")
