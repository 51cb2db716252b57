"""The table of a clause: when it holds, when it does not, and what it prints then."""

import re
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from e2e import timing
from e2e.check import (
    answered_by,
    assert_keeps,
    assert_only,
    assert_serves,
    assert_settles,
    journal,
    replies_in,
)
from e2e.check.table import FlickerError, NotSettledError
from e2e.errors import ProbeBrokenError
from e2e.probe import (
    ANSWERED,
    BLOCKED,
    CUT_OFF,
    FOREIGN,
    REFUSED,
    SILENT,
    Flow,
    Reply,
    Target,
    draw,
    look,
)

ECHO = Reply(ANSWERED, 0.01, "echo-a-0")
NOBODY = Reply(REFUSED, 0.01)

RIGHT = "  outside -> worker-1:30081: want answered, saw answered by echo-a-0 (worker-1)"
WRONG = "x outside -> worker-2:30081: want answered, saw answered by echo-a-0 (worker-1)"
OFTEN = "; wrong in 2 of 5 looks, mostly refused"


@dataclass
class Scripted:
    """A caller that is given its replies; the last of them is repeated.

    Attributes:
        replies: its script.
        takes_at_last: seconds that the last reply of the script takes.
    """

    replies: Sequence[Reply | Exception]
    name: str = "outside"
    calls: int = 0
    takes_at_last: float = 0.0

    def call(self, address: str, port: int) -> Reply:
        reply = self.replies[min(self.calls, len(self.replies) - 1)]
        self.calls += 1
        if self.calls == len(self.replies):
            threading.Event().wait(self.takes_at_last)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def draw(self, address: str, port: int, times: int, at_once: int = 1) -> list[Reply]:
        return [self.call(address, port) for _ in range(times)]


@dataclass
class Pods:
    """Whose pods may answer: those named, each on a node."""

    nodes: dict[str, str] = field(default_factory=lambda: {"echo-a-0": "worker-1"})

    def owns(self, echo: str) -> bool:
        return echo in self.nodes

    def whereabouts(self, echo: str) -> str:
        return self.nodes.get(echo, "")


def flow(*replies: Reply | Exception, to: str = "worker-1") -> Flow:
    """Give a flow whose caller gets these replies, one after the other."""
    return Flow(Scripted(replies), Target(to, "192.0.2.1", 30081, Pods()))


def failure(table, **how) -> str:
    """Give what a table prints that does not hold."""
    with pytest.raises(NotSettledError) as caught:
        assert_settles(table, **how)
    return str(caught.value)


@pytest.fixture
def looks_end_with_the_script(monkeypatch):
    """Let time run out, and as much again, in the last look of the longest script."""
    monkeypatch.setattr(timing, "LOOK_EVERY", 0.001)

    def print_of(table):
        longest = max((flow.caller for flow in table), key=lambda caller: len(caller.replies))
        longest.takes_at_last = 2.1
        return failure(table, within=1)

    return print_of


def test_a_table_holds_when_every_flow_is_right_several_times_in_a_row():
    """Three looks in a row in which all flows agree settle a table, however it began."""
    slow, steady = flow(NOBODY, ECHO, NOBODY, ECHO), flow(ECHO)

    ended = assert_settles({slow: ANSWERED, steady: ANSWERED})

    assert ended.looks == 6
    assert slow.caller.calls == steady.caller.calls == 6


def test_one_wrong_flow_is_enough_to_fail_a_table():
    """A table holds as a whole or not at all."""
    text = failure({flow(ECHO): ANSWERED, flow(ECHO, to="worker-2"): BLOCKED}, within=0)

    assert text.splitlines() == [
        "not settled in 0 s: 0 of 1 looks agreed, never 3 in a row",
        RIGHT,
        "x outside -> worker-2:30081: want refused or silent, saw answered by echo-a-0 (worker-1)",
    ]


def test_flows_that_take_turns_to_be_right_never_settle():
    """Two flows that are each right in every other look, but never both, do not hold."""
    table = {
        flow(*[ECHO, NOBODY] * 1000): ANSWERED,
        flow(*[NOBODY, ECHO] * 1000): ANSWERED,
    }

    text = failure(table, within=0.5)

    assert re.match(r"not settled in 0\.5 s: 0 of \d+ looks agreed, never 3 in a row\n", text)


def test_a_flicker_is_marked_even_if_the_last_look_was_right(looks_end_with_the_script):
    """A flow that was wrong in one of the last three looks is marked, whatever it brought last."""
    good = flow(ECHO)
    bad = flow(NOBODY, *[ECHO] * 2, NOBODY, ECHO, to="worker-2")

    text = looks_end_with_the_script({good: ANSWERED, bad: ANSWERED})

    assert text.splitlines() == [
        "not settled in 1 s: 3 of 5 looks agreed, never 3 in a row",
        RIGHT,
        WRONG + OFTEN,
    ]


def test_of_a_flicker_what_was_wrong_is_noted(looks_end_with_the_script):
    """A right reply at last would stand in the report as one that is wrong."""
    book = journal.Journal()
    token = journal.current.set(book)
    try:
        looks_end_with_the_script({flow(NOBODY, *[ECHO] * 2, NOBODY, ECHO): ANSWERED})
    finally:
        journal.current.reset(token)

    (noted,) = book.flows
    assert (noted.saw, noted.right) == ("refused; wrong in 2 of 5 looks", False)


def test_a_flicker_is_not_marked_beside_what_is_mostly_wrong(looks_end_with_the_script):
    """Where somebody is silent, looks are few, and the first ones count for much."""
    flickers = flow(NOBODY, ECHO, ECHO, NOBODY, ECHO)

    text = looks_end_with_the_script({flickers: ANSWERED, flow(NOBODY, to="worker-2"): ANSWERED})

    assert text.splitlines() == [
        "not settled in 1 s: 0 of 5 looks agreed, never 3 in a row",
        RIGHT + OFTEN,
        "x outside -> worker-2:30081: want answered, saw refused",
    ]


def test_a_flow_that_was_wrong_only_at_first_is_not_marked(looks_end_with_the_script):
    """A flow that came right keeps its figures but not the mark, which is for what stays wrong."""
    late, never = flow(NOBODY, NOBODY, *[ECHO] * 3), flow(NOBODY, to="worker-2")

    text = looks_end_with_the_script({late: ANSWERED, never: ANSWERED})

    assert text.splitlines() == [
        "not settled in 1 s: 0 of 5 looks agreed, never 3 in a row",
        RIGHT + OFTEN,
        "x outside -> worker-2:30081: want answered, saw refused",
    ]


def test_a_flow_that_came_late_is_marked_only_if_nobody_else_is_to_blame(looks_end_with_the_script):
    """Where looks take long, the last three begin before some nodes have the rules."""
    late = flow(NOBODY, NOBODY, NOBODY, ECHO, ECHO)
    beside = looks_end_with_the_script({late: ANSWERED, flow(NOBODY, to="worker-2"): ANSWERED})
    late = flow(NOBODY, NOBODY, NOBODY, ECHO, ECHO)
    alone = looks_end_with_the_script({late: ANSWERED})

    assert [line[0] for line in beside.splitlines()] == ["n", " ", "x"]
    assert [line[0] for line in alone.splitlines()] == ["n", "x"]


def test_looks_that_agree_but_are_too_few_are_not_settled():
    """Fewer looks than are asked for prove nothing, even if all agreed, and no line is marked."""
    text = failure({flow(ECHO): ANSWERED}, within=0, times=2)

    assert text.splitlines() == [
        "not settled in 0 s: 1 of 1 looks agreed, never 2 in a row",
        RIGHT,
    ]


@pytest.mark.parametrize(
    "wanted", [[], [REFUSED], [BLOCKED, SILENT], [frozenset({CUT_OFF, FOREIGN})]]
)
def test_a_table_in_which_nobody_has_to_answer_proves_nothing(wanted):
    """An empty table, and one of only "no", is a mistake of the clause; nobody is called."""
    table = {flow(NOBODY): want for want in wanted}

    with pytest.raises(ValueError, match="proves nothing"):
        assert_settles(table)

    assert [flow.caller.calls for flow in table] == [0] * len(wanted)


def test_an_answer_of_anybody_else_is_foreign():
    """A reply with status 200 from a pod that is not the service's is not an answer."""
    stranger = Reply(ANSWERED, 0.01, "nginx-1")

    text = failure({flow(stranger): ANSWERED}, within=0)

    assert text.splitlines()[1] == (
        "x outside -> worker-1:30081: want answered, "
        "saw foreign by nginx-1 (not a pod of this service)"
    )


def test_draws_are_checked_for_whose_pod_it_is_too():
    """In a draw an answer of anybody else is foreign, and one of ours has its node."""
    mixed = flow(ECHO, Reply(ANSWERED, 0.01, "nginx-1"), NOBODY)

    replies = draw([mixed], 3)[mixed]

    assert [reply.outcome for reply in replies] == [ANSWERED, FOREIGN, REFUSED]
    assert [reply.detail for reply in replies] == ["worker-1", "not a pod of this service", ""]


def test_a_broken_probe_passes_through():
    """A probe that breaks ends the look with its own error, and is never counted as a "no"."""
    broken = ProbeBrokenError("curl is missing")

    with pytest.raises(ProbeBrokenError) as caught:
        assert_settles({flow(ECHO): ANSWERED, flow(broken, to="worker-2"): BLOCKED})

    assert caught.value is broken


def test_all_flows_of_a_look_are_called_at_the_same_time():
    """A look waits for its slowest flow and not for the sum of all."""
    meeting = threading.Barrier(5, timeout=20)

    class Meets(Scripted):
        def call(self, address, port):
            meeting.wait()
            return super().call(address, port)

    flows = [Flow(Meets([ECHO]), Target(f"w-{n}", "192.0.2.1", 1, Pods())) for n in range(5)]

    assert [reply.echo for reply in look(flows).values()] == ["echo-a-0"] * 5


def test_a_look_at_nothing_is_nothing():
    """No flows give no replies, and no error."""
    assert look([]) == draw([], 3) == {}


@pytest.mark.parametrize(
    ("want", "reply", "holds"),
    [
        (answered_by(), ECHO, True),
        (answered_by("echo-a-0"), ECHO, True),
        (answered_by("echo-a-0", "echo-a-1"), ECHO, True),
        (answered_by("echo-a-1"), ECHO, False),
        (answered_by("echo-a-0"), NOBODY, False),
        (answered_by(port=8081), Reply(ANSWERED, 0.01, "echo-a-0", 8081), True),
        (answered_by(port=8081), Reply(ANSWERED, 0.01, "echo-a-0", 8080), False),
        (answered_by(port=8081), ECHO, False),
        (answered_by("echo-a-0", port=8081), Reply(ANSWERED, 0.01, "echo-a-0", 8081), True),
    ],
)
def test_a_clause_may_want_certain_pods_and_a_certain_port(want, reply, holds):
    """`answered_by` wants one of the named pods, if any is named, and the port, if one is."""
    if holds:
        assert_settles({flow(reply): want})
    else:
        assert f"want {want}, saw {reply}"[:40] in failure({flow(reply): want}, within=0)


def test_a_want_is_written_as_it_was_meant():
    """A line shows outcomes, pods and port that a flow may bring, in an order that never varies."""
    assert str(answered_by()) == "answered"
    assert str(answered_by("b", "a")) == "answered by a or b"
    assert str(answered_by("b", "a", "c")) == "answered by one of 3 pods"
    assert str(answered_by("a", port=8081)) == "answered by a on port 8081"


@pytest.mark.parametrize(("want", "seldom"), [(REFUSED, True), (BLOCKED, False)])
def test_a_refusal_is_looked_for_seldom(monkeypatch, want, seldom):
    """Where only a refusal will do, looks are so far apart that the node may refuse each."""
    monkeypatch.setattr(timing, "LOOK_FOR_REFUSAL_EVERY", 0.6)
    began = time.monotonic()

    assert_settles({flow(ECHO): ANSWERED, flow(NOBODY): want})

    assert (time.monotonic() - began >= 2 * 0.6) == seldom


def test_what_settled_may_not_go_wrong_once_afterwards():
    """One wrong connection in a sample fails a table that settled, and says which and how often."""
    flickers = flow(*[ECHO] * 30, NOBODY, ECHO, to="worker-2")

    with pytest.raises(FlickerError) as caught:
        assert_serves({flow(ECHO): answered_by("echo-a-0"), flickers: ANSWERED})

    assert str(caught.value).splitlines() == [
        "not always: some connections went wrong",
        "  outside -> worker-1:30081: want answered by echo-a-0, saw it 50 times",
        "x outside -> worker-2:30081: want answered, saw 1 of 50 wrong: 1 refused",
    ]


def test_what_serves_is_drawn_and_what_is_closed_is_not():
    """The sample is of the flows that have to be answered; the others were looked at before."""
    serves, closed = flow(ECHO), flow(NOBODY, to="worker-2")

    assert_serves({serves: ANSWERED, closed: BLOCKED})

    assert (serves.caller.calls, closed.caller.calls) == (3 + 50, 3)


def test_what_does_not_settle_is_not_drawn_from():
    """A table that does not settle says so as always."""
    dead = flow(NOBODY)

    with pytest.raises(NotSettledError, match="not settled in 0 s"):
        assert_serves({dead: ANSWERED}, within=0)

    assert dead.caller.calls == 1


def test_a_pod_that_may_not_answer_is_a_flicker_too():
    """A draw is judged by the table: another pod than the wanted one is wrong."""
    one = flow(ECHO)
    replies = [ECHO, Reply(ANSWERED, 0.01, "echo-a-1")]

    assert_only({one: replies}, {one: ANSWERED})
    with pytest.raises(FlickerError, match="saw 1 of 2 wrong: 1 answered by echo-a-1"):
        assert_only({one: replies}, {one: answered_by("echo-a-0")})


@pytest.mark.parametrize("draws", [{}, {flow(ECHO): []}])
def test_a_draw_of_nothing_proves_nothing(draws):
    """No flows and a flow without replies are a mistake of the clause."""
    with pytest.raises(ValueError, match="nothing was drawn"):
        assert_only(draws, dict.fromkeys(draws, ANSWERED))


def test_what_is_to_stay_is_watched_all_the_time():
    """A single wrong look in the time of watching is enough to fail."""
    steady = flow(ECHO)
    began = time.monotonic()
    assert_keeps({steady: ANSWERED}, during=0.7)
    assert time.monotonic() - began >= 0.7
    assert steady.caller.calls >= 2

    with pytest.raises(FlickerError, match=r"x outside -> worker-1:30081: .* wrong: 1 refused"):
        assert_keeps({flow(ECHO, NOBODY, ECHO): ANSWERED}, during=0.7)


def test_every_look_can_be_read_afterwards():
    """What each flow brought on the way to settling is kept, in its order."""
    one = flow(NOBODY, ECHO)

    looked = assert_settles({one: ANSWERED, flow(ECHO): ANSWERED}, every=0.0)

    assert replies_in(looked)[one] == [NOBODY, *[replace(ECHO, detail="worker-1")] * 3]


def test_an_interrupt_does_not_wait_for_callers():
    """Who interrupts a look or a draw gets out at once, though callers still wait."""
    over, began = threading.Event(), time.monotonic()

    class Waits(Scripted):
        def call(self, address, port):
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            over.wait(20)
            return super().call(address, port)

    stuck = Flow(Waits([ECHO]), Target("worker-1", "192.0.2.1", 1, Pods()))
    # Processes of xdist ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            look([stuck])
        assert time.monotonic() - began < 10
    finally:
        over.set()
        signal.signal(signal.SIGINT, before)


def test_the_journal_gets_what_was_measured():
    """A table that holds leaves its time, flows and looks."""
    book = journal.Journal()
    token = journal.current.set(book)
    try:
        ended = assert_settles({flow(NOBODY, ECHO): ANSWERED, flow(ECHO): ANSWERED})
        failure({flow(NOBODY): ANSWERED}, within=0)
    finally:
        journal.current.reset(token)

    assert book.settled == [(ended.took, 2, 4)]
    assert ended.took > 0


def test_without_a_journal_nothing_is_kept():
    """Outside a clause a table is judged all the same."""
    assert journal.current.get() is None
    assert assert_settles({flow(ECHO): ANSWERED}).settled
