"""From the record of a watch to budgets: who was being worked on, and whose pod went."""

from math import inf

import pytest

from e2e.check.budgets import read_budgets
from e2e.check.work import is_within, went, worked_on
from e2e.errors import UsageError
from e2e.probe import ANSWERED, REFUSED, SILENT
from e2e.selftest.clusters import HOME, RUN
from e2e.upgrade.lines import (
    AttemptLine,
    End,
    Ended,
    EventLine,
    Looked,
    PodLine,
    RecorderLine,
    Stretch,
    write,
)
from e2e.upgrade.noticed import read
from e2e.upgrade.plan import Plan, WatchedFlow
from e2e.upgrade.record import RECORD, load
from e2e.upgrade.story import as_text, story_of

BEGAN = 1_800_000_000.0


def event(at, kind, node="worker", name="", **more):
    return EventLine(at=BEGAN + at, kind=kind, node=node, name=name, **more)


def test_a_node_is_worked_on_from_its_cordon_to_its_end():
    spans = worked_on([event(10, "cordoned"), event(40, "uncordoned")])

    assert spans.keys() == {"worker"}
    assert is_within(BEGAN + 9.5, spans["worker"]), "an event may be told late"
    assert is_within(BEGAN + 42, spans["worker"]), "its effects come later"
    assert not is_within(BEGAN + 60, spans["worker"])
    assert not is_within(BEGAN + 5, spans["worker"])


def test_a_node_that_never_came_back_is_worked_on_for_ever():
    assert worked_on([event(10, "node-not-ready")])["worker"][0][1] == inf


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("kubelet-version", ""),
        ("node-restarted", ""),
        ("pod-terminating", "kube-system/kube-proxy-x1y2z"),
    ],
)
def test_what_is_done_to_its_kubelet_or_its_proxy_is_work_on_a_node(kind, name):
    spans = worked_on([event(10, kind, name=name)])

    assert is_within(BEGAN + 11, spans["worker"])


def test_what_a_killed_watch_saw_no_end_of_ends_with_the_next_one():
    """Which tells anew what is not as usual when it begins."""
    events = [event(10, "cordoned"), event(100, "cordoned", node="other")]
    spans = worked_on(events, [BEGAN, BEGAN + 60])
    assert is_within(BEGAN + 59, spans["worker"])
    assert not is_within(BEGAN + 90, spans["worker"])

    again = worked_on([*events, event(61, "cordoned")], [BEGAN, BEGAN + 60])
    assert is_within(BEGAN + 90, again["worker"])


def test_a_step_ends_with_the_command_that_said_it_or_the_next_one():
    steps = [event(10, "step"), event(50, "command-started", node="")]

    assert not is_within(BEGAN + 90, worked_on(steps)["worker"])


def test_pods_that_move_are_no_work_on_a_node():
    assert worked_on([event(10, "pod-terminating", name=f"{HOME}/echo-a-1")]) == {}


def test_a_pod_goes_when_it_is_told_to_end_or_is_gone():
    events = [event(10, "pod-terminating", name=f"{HOME}/echo-a-1")]

    assert went(f"{HOME}/echo-a-1", BEGAN + 16, events), "it lingers"
    assert went(f"{HOME}/", BEGAN + 16, events)
    assert not went(f"{HOME}/echo-a-2", BEGAN + 16, events)
    assert not went(f"{HOME}/echo-a-1", BEGAN + 100, events)
    assert not went(f"{HOME}/echo-a-1", BEGAN + 1, events)


@pytest.mark.parametrize("kind", ["node-restarted", "node-not-ready", "node-removed"])
def test_a_pod_goes_with_its_node(kind):
    """Nobody tells it to end, and what is known of it comes when it is started again."""
    events = [
        event(40, kind, node="worker-2", name="worker-2"),
        event(60, "pod-started", node="worker-2", name=f"{HOME}/echo-a-1"),
        event(10, "pod-started", node="worker-3", name=f"{HOME}/echo-a-2"),
    ]

    assert went(f"{HOME}/echo-a-1", BEGAN + 5, events)
    assert not went(f"{HOME}/echo-a-2", BEGAN + 5, events)
    assert not went(f"{HOME}/echo-a-1", BEGAN + 45, events)


def flow(node, way):
    return WatchedFlow(
        service="cluster",
        node=node,
        family="IPv4",
        address="10.0.0.2",
        port=30080,
        way=way,
        pods="echo-a-",
    )


FLOWS = (
    flow("worker", "new connections"),
    flow("worker-2", "new connections"),
    flow("worker-2", "one connection"),
)


def plan(**more):
    said = {
        "run": RUN,
        "made": "2026-11-28T01:30:00Z",
        "cluster": "4b1d",
        "namespace": HOME,
        "flows": FLOWS,
    }
    return Plan.model_validate(said | more)


def recorded(folder, *lines):
    """A record of a minute in which all is well but for these lines."""
    head = [
        Stretch(
            at=BEGAN, monotonic=0.0, rate=20.0, patience=3.5, run=RUN, namespace=HOME, flows=FLOWS
        ),
        RecorderLine(at=BEGAN, recorder=0, flows=(0, 1, 2)),
        *(PodLine(at=BEGAN, flow=n, pod="echo-a-1") for n in range(3)),
        *(
            Looked(
                at=BEGAN + n,
                to=BEGAN + n + 1,
                recorder=0,
                counts={0: (20, 1.0), 1: (20, 1.0), 2: (20, 1.0)},
            )
            for n in range(60)
        ),
    ]
    (folder / RECORD).write_text("".join(write(line) for line in (*head, *lines)))


def attempts(number, begin, count, outcome=REFUSED):
    """A row of lost attempts, and its answered neighbours."""
    at = [BEGAN + begin + n * 0.05 for n in range(-1, count + 1)]
    ends = [ANSWERED, *[outcome] * count, ANSWERED]
    return [
        AttemptLine(at=t, flow=number, outcome=end, pod="echo-a-1" if end == ANSWERED else "")
        for t, end in zip(at, ends, strict=True)
    ]


def budgets(folder):
    found, timeline = read(folder, plan(), read_budgets())
    assert 'class="timeline"' in timeline
    return found, [each.kept for each in found.budgets]


def test_a_quiet_watch_keeps_every_budget(tmp_path):
    recorded(tmp_path)

    found, kept = budgets(tmp_path)

    assert (found.attempts, found.outages, found.ended) == (3600, (), ())
    assert kept == [True] * 6


def test_an_outage_where_nobody_worked_is_beyond_the_budget(tmp_path):
    recorded(tmp_path, *attempts(1, 20.0, 18))

    found, kept = budgets(tmp_path)

    (outage,) = found.outages
    assert (outage.node, outage.kind, outage.lost) == ("worker-2", "refused", 18)
    assert outage.seconds == pytest.approx(0.9, abs=0.06)
    assert kept == [False] + [True] * 5


def test_the_same_outage_while_its_node_is_worked_on_is_within(tmp_path):
    worked = event(18, "cordoned", node="worker-2"), event(40, "uncordoned", node="worker-2")
    recorded(tmp_path, *attempts(1, 20.0, 18), *worked)

    found, kept = budgets(tmp_path)

    assert found.outages[0].worked_on
    assert kept == [True] * 6


@pytest.mark.parametrize("kind", ["node-restarted", "node-not-ready", "node-removed"])
def test_a_node_that_goes_without_a_word_is_worked_on_from_the_beginning(tmp_path, kind):
    """That it went is known later than what it cost, as nobody had cordoned it."""
    recorded(tmp_path, *attempts(1, 5.0, 800, SILENT), event(44, kind, node="worker-2"))

    found, kept = budgets(tmp_path)

    assert [each.worked_on for each in found.outages] == [True]
    assert kept == [True] * 6


def test_work_on_one_node_excuses_no_other(tmp_path):
    recorded(tmp_path, *attempts(1, 20.0, 18), event(18, "cordoned", node="worker"))

    assert budgets(tmp_path)[1] == [False] + [True] * 5


@pytest.mark.parametrize("goes", [True, False])
def test_a_conversation_may_end_only_where_its_pod_went(tmp_path, goes):
    pod = f"{HOME}/echo-a-{1 if goes else 2}"
    ended = Ended(at=BEGAN + 20, flow=2, pod="echo-a-1", how="closed")
    recorded(tmp_path, ended, event(15, "pod-terminating", node="worker", name=pod))

    found, kept = budgets(tmp_path)

    assert [each.why for each in found.ended] == ["echo-a-1 went" if goes else ""]
    assert kept == [True, True, True, True, goes, True]


def test_the_command_is_told_with_its_end(tmp_path):
    recorded(
        tmp_path,
        event(1, "command-started", node="", name="./upgrade.sh"),
        event(50, "command-ended", node="", said="exit code 0"),
    )

    assert budgets(tmp_path)[0].command == "./upgrade.sh, exit code 0"


def test_a_command_whose_watch_was_killed_has_no_end_that_is_known(tmp_path):
    first = event(1, "command-started", node="", name="./upgrade.sh")
    again = event(30, "command-started", node="", name="./upgrade.sh --go-on")
    recorded(tmp_path, first)
    assert budgets(tmp_path)[0].command == "./upgrade.sh, whose end was not seen"

    recorded(tmp_path, first, again, event(50, "command-ended", node="", said="exit code 0"))
    assert budgets(tmp_path)[0].command == (
        "./upgrade.sh, whose end was not seen; ./upgrade.sh --go-on, exit code 0"
    )


def test_a_watch_that_was_killed_is_told_from_one_that_was_ended(tmp_path):
    recorded(tmp_path)
    assert budgets(tmp_path)[0].killed
    assert "the watch was killed at" in as_text(story_of(load(tmp_path)))

    recorded(tmp_path, End(at=BEGAN + 60, why="the command ended"))
    assert not budgets(tmp_path)[0].killed
    assert "killed" not in as_text(story_of(load(tmp_path)))


@pytest.mark.parametrize("text", ["", '{"at":18'])
def test_a_watch_that_was_killed_at_once_saw_nothing(tmp_path, text):
    """That is not known to be well, and no reason not to verify the rest."""
    (tmp_path / RECORD).write_text(text)

    found, timeline = read(tmp_path, plan(), read_budgets())

    assert (found.attempts, found.killed, timeline) == (0, True, "")


def test_without_a_record_nobody_watched(tmp_path):
    assert read(tmp_path, plan(), read_budgets()) == (None, "")


def test_the_record_of_another_plan_is_refused(tmp_path):
    recorded(tmp_path)

    with pytest.raises(UsageError, match=f"is of {HOME}, and the plan of nodeport-e2e-y"):
        read(tmp_path, plan(namespace="nodeport-e2e-y"), read_budgets())
