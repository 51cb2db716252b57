"""The report of an upgrade: its first screen answers, and nothing in it can act."""

import re
import time
import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest

from e2e.report.answers import answers
from e2e.report.upgrade_junit import verdict_junit
from e2e.report.upgrade_page import upgrade_page
from e2e.report.upgrade_text import changes_text, verdict_text
from e2e.report.verdict import (
    Changed,
    ChangedBehaviour,
    ChangedTime,
    Changes,
    ChurnStep,
    KeptBudget,
    MovedNode,
    Outage,
    Reason,
    Verdict,
    Watched,
)

BEGAN = datetime(2026, 11, 28, 1, 30, tzinfo=UTC)
EVIL = "<script>alert(1)</script>\x1b[31m\"'&"


def outage(**more):
    said = {
        "flow": "outside -> worker-2:30080 (cluster IPv4 new connections)",
        "node": "worker-2",
        "path": "cluster IPv4 new connections",
        "began": BEGAN,
        "seconds": 0.91,
        "kind": "refused",
        "lost": 18,
        "why": "kube-proxy on worker-2 was started again in mode nftables",
        "worked_on": False,
    }
    return Outage(**(said | more))


def watched(*outages, kept=True, **more):
    budget = KeptBudget(name="lost on other nodes", allowed="0", used="18", kept=kept)
    reasons = tuple(
        Reason(
            rule="proxy-mode",
            why=why,
            nodes=tuple({each.node for each in outages if each.why == why}),
            outages=sum(each.why == why for each in outages),
            lost=sum(each.lost for each in outages if each.why == why),
        )
        for why in dict.fromkeys(each.why for each in outages)
    )
    said = {"began": BEGAN, "seconds": 600.0, "attempts": 288000, "flows": 24, "reasons": reasons}
    return Watched(**(said | more), outages=outages, budgets=(budget,))


def verdict(**more):
    changes = more.pop("changes", {})
    said = {
        "run": "1234-5-abc",
        "cluster": "4b1d",
        "made": BEGAN,
        "taken": BEGAN,
        "changes": Changes(before="v1.36.3", after="v1.37.2", asked=150, **changes),
        "churn": (ChurnStep(name="everything as it was found", ended="held", seconds=2.0),),
    }
    return Verdict(**(said | more))


LOST_NUMBER = Changed(
    about="Service shop/shop", field="node port of 80/TCP", before="31000", after="nothing",
    counts=True,
)  # fmt: skip
WORSE = ChangedBehaviour(
    clause="reach.all", before="held", after="failed", said="not settled\nx one", counts=True
)
UNKNOWN = WORSE.model_copy(update={"counts": False, "unknown": True})


def test_a_clean_upgrade_is_said_to_be_one():
    found = answers(verdict(watched=watched()))

    assert found.verdict == "The cluster serves node ports as it did before, every budget is kept."
    assert found.noticed == "No: not one of 288,000 attempts over 10.0 min was lost."
    assert verdict(watched=watched()).exit_code == 0


def test_an_outage_is_answered_with_where_how_long_and_why():
    found = answers(verdict(watched=watched(outage(), outage(node="b", lost=2), kept=False)))

    assert found.verdict == "Not as before: users noticed more than the budgets allow."
    assert found.noticed.startswith("Yes, beyond the budgets: 20 of 288,000 attempts")
    assert found.where.startswith("through worker-2 (18 lost), b (2 lost); on cluster IPv4")
    assert found.how_long.startswith(
        "at most 0.91 s (±0.00) at a time (refused, outside -> worker-2:3"
    )
    assert found.why == ("kube-proxy on worker-2 was started again in mode nftables (20 lost)",)


def test_an_outage_within_the_budgets_is_told_and_does_not_make_the_verdict():
    within = verdict(watched=watched(outage(worked_on=True, over=False)))

    assert answers(within).noticed.startswith("Yes, within the budgets")
    assert answers(within).how_long.endswith(
        "in 1 outage of a node on a path; 1 flow never came back"
    )
    assert within.exit_code == 0


def test_what_nobody_saw_is_not_said_to_be_well():
    """Neither of a watch that was killed, nor of one that saw nothing at all."""
    killed = answers(verdict(watched=watched(killed=True, blind=3.0)))
    nothing = verdict(watched=watched(attempts=0))

    assert killed.noticed.endswith(
        "was lost. For 3.0 s nobody looked. The watch was killed, and what came after is not known."
    )
    assert killed.verdict == "Not known: as before as far as was watched, and the watch was killed."
    assert answers(nothing).noticed.startswith("Not known")
    assert answers(nothing).verdict.endswith("could not be judged in full.")
    assert nothing.exit_code == 2


def test_which_nodes_joined_or_left_is_said_with_what_is_not_counted():
    came = MovedNode(
        node="c",
        addresses=("10.0.0.9",),
        joined=BEGAN,
        first=0.9,
        served=1.24,
        never=("local",),
        unpromised=1,
    )
    left = MovedNode(node="b", addresses=("10.0.0.2", "fd00::2"), gone=BEGAN, unpromised=40)
    never = MovedNode(node=EVIL, addresses=("10.0.0.7",), joined=BEGAN, gone=BEGAN, never=("a",))
    told = verdict(watched=watched(moved=(came, left, never)))
    at = BEGAN.astimezone().strftime("%H:%M:%S")

    first, second, third = answers(told).moved
    assert first == (
        f"c (10.0.0.9) joined at {at}, answered on all other paths 1.2 s later, never on local "
        "(not counted: 1 attempt without an answer then)"
    )
    assert second == (
        f"b (10.0.0.2 and fd00::2) left at {at} and did not come back "
        "(not counted: 40 attempts without an answer then)"
    )
    slowly = came.model_copy(update={"served": 22.6, "last": "local IPv4", "never": ()})
    assert (
        "answered 0.9 s later, on every path 22.6 s later (the last: local IPv4) (not"
        in (answers(verdict(watched=watched(moved=(slowly,)))).moved[0])
    )
    assert third.endswith(f"joined at {at}, never answered, left at {at} and did not come back")
    assert "nodes that joined or left meanwhile:\n  c (10.0.0.9) joined" in verdict_text(told)
    page = upgrade_page(told)
    assert "Which nodes joined or left?" in page
    assert "<script>alert" not in page


def test_where_no_node_port_was_asked_nothing_is_claimed_of_them():
    left_out = (ChurnStep(name="a restart", ended="left out", said="not ours"),)
    found = answers(verdict(contract=False, churn=left_out))

    assert found.verdict.endswith("is as before; no node port was asked now.")


def test_without_a_record_nothing_is_claimed_of_users():
    found = answers(verdict())

    assert found.noticed == "Not known: there is no record of a watch."
    assert "budget" not in found.verdict


@pytest.mark.parametrize(
    ("more", "code", "since"),
    [
        ({"churn": (ChurnStep(name="a rollout", ended="failed", said="no\nx a:1"),)}, 1,
         "a rollout: a:1"),
        ({"churn": (ChurnStep(name="a rollout", ended="broken", said="in vain"),)}, 2,
         "a rollout could not be judged: in vain"),
        ({"churn": (ChurnStep(name="a restart", ended="left out", said="x"),)}, 0, None),
        ({"changes": {"behaviours": (WORSE,)}}, 1, "reach.all held, and now it does not"),
        ({"changes": {"allocations": (LOST_NUMBER,)}}, 1,
         "Service shop/shop, node port of 80/TCP: 31000, and now nothing"),
        ({"changes": {"behaviours": (UNKNOWN,)}},
         2, "1 clause could not be judged"),
        ({"changes": {"versions": (LOST_NUMBER.model_copy(update={"counts": False}),)}}, 0, None),
    ],
)  # fmt: skip
def test_what_is_otherwise_now_makes_the_verdict(more, code, since):
    found = verdict(**more)

    assert found.exit_code == code
    assert answers(found).since == ((since,) if since else ())


def full(text=EVIL):
    """A verdict in which everything that a cluster can name is called so."""
    changed = Changed(about=text, field=text, before=text, after=text, counts=True)
    clause = ChangedBehaviour(
        clause=text, before=text, after=text, said=text, counts=True, claim=text
    )
    time = ChangedTime(what=text, before=1.0, after=2.0, p=0.001, counts=True)
    parts = ("allocations", "objects", "defaults", "versions", "setup")
    steps = tuple(ChurnStep(name=text, ended=e, said=text) for e in ("failed", "left out"))
    budget = KeptBudget(name=text, allowed=text, used=text, kept=False, where=(text,))
    hostile = outage(flow=text, node=text, path=text, kind=text, why=text)
    return verdict(
        run=text,
        cluster=text,
        changes={"behaviours": (clause,), "times": (time,), **dict.fromkeys(parts, (changed,))},
        churn=steps,
        watched=watched(hostile, command=text).model_copy(update={"budgets": (budget,)}),
    )


class Elements(HTMLParser):
    """Notes what a page is made of."""

    VOID = ("meta", "br")

    def __init__(self, text):
        super().__init__()
        self.tags, self.ids, self.links, self.open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append(tag)
        self.ids += [found["id"]] if "id" in found else []
        self.links += [v for k, v in attrs if k in ("href", "src", "aria-labelledby")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_whatever_an_object_is_called_it_is_no_part_of_the_page():
    page = upgrade_page(full())

    assert "script" not in Elements(page).tags
    assert "<script" not in page


def test_whatever_an_object_is_called_a_terminal_is_given_no_order():
    text = verdict_text(full())

    assert "\x1b" not in text
    assert "\\x1b[31m" in text
    assert "\x1b" not in changes_text(full().changes)


def test_the_page_needs_no_network_and_is_well_formed():
    page = upgrade_page(full("a"), timeline="<svg role='img'></svg>")
    found = Elements(page)

    assert found.open == []
    assert re.findall(r"https?://", page) == []
    assert all(link.startswith("#") or link in found.ids for link in found.links)
    assert {link[1:] for link in found.links if link.startswith("#")} <= set(found.ids)
    assert len(found.ids) == len(set(found.ids))
    assert "svg" in found.tags


def test_the_page_can_be_read_without_eyes_or_mouse():
    page = upgrade_page(full("a"))

    assert '<html lang="en">' in page
    assert page.count("<h1>") == 1
    assert page.index("Skip to the answers") < page.index("<main")
    assert page.count("<th ") == page.count("<th scope=")
    assert "prefers-color-scheme: dark" in page


def test_the_first_screen_answers_before_anything_else():
    page = upgrade_page(verdict(watched=watched(outage(), kept=False)))

    told = [page.index(word) for word in ("<h1>", "Did users notice?", "Where?", "How long?",
                                          "Why?", 'id="budgets"', 'id="behaviours"')]  # fmt: skip
    assert told == sorted(told)


def test_all_clocks_of_the_page_are_that_of_this_machine(monkeypatch):
    """As that of the time line is; two of them an hour apart would hide what belongs together."""
    monkeypatch.setenv("TZ", "XXX-5")
    time.tzset()
    page = upgrade_page(verdict(watched=watched(outage())))
    monkeypatch.undo()
    time.tzset()

    assert "06:30:00.00" in page
    assert "2026-11-28 06:30:00 XXX" in page


def test_the_text_says_the_same():
    said = {"behaviours": (WORSE,), "allocations": (LOST_NUMBER,)}
    text = verdict_text(verdict(changes=said, watched=watched(outage(), kept=False)))

    for line in (
        "Not as before: users noticed more than the budgets allow, 2 things that may not",
        "x lost on other nodes: 18, allowed 0",
        "✓ everything as it was found",
        "x reach.all: held -> failed: not settled",
        "x Service shop/shop, node port of 80/TCP: 31000 -> nothing",
    ):
        assert line in text, text


BROKEN_STEP = ChurnStep(name="a rollout", ended="broken", said="in vain", seconds=1.5)


@pytest.mark.parametrize(
    "found",
    [
        verdict(watched=watched()),
        verdict(watched=watched(outage(), kept=False)),
        verdict(changes={"behaviours": (WORSE,)}),
        verdict(changes={"behaviours": (UNKNOWN,)}),
        verdict(churn=(BROKEN_STEP,)),
        verdict(watched=watched(attempts=0)),
        verdict(watched=watched(killed=True)),
        verdict(watched=watched(outage(), kept=False, killed=True)),
        verdict(churn=(BROKEN_STEP,), watched=watched(outage(), kept=False)),
    ],
)
def test_as_junit_it_ends_as_verify_does(found):
    suite = ET.fromstring(verdict_junit(found))[0]  # noqa: S314  # ours
    failures, errors = int(suite.attrib["failures"]), int(suite.attrib["errors"])

    assert (1 if failures else 2 if errors else 0) == found.exit_code
    assert suite.get("tests") == str(len(suite))


def test_as_junit_every_budget_step_and_change_is_a_case_and_what_was_not_looked_at_is_skipped():
    left_out = ChurnStep(name="a restart", ended="left out", said="not ours")
    found = verdict(
        churn=(BROKEN_STEP, left_out), contract=False, changes={"allocations": (LOST_NUMBER,)}
    )
    suite = ET.fromstring(verdict_junit(found))[0]  # noqa: S314  # ours

    assert [
        (case.get("classname"), case.get("name"), case[0].tag, case[0].get("message"))
        for case in suite
    ] == [
        ("budget", "what users noticed", "skipped", "there is no record of a watch"),
        ("churn", "a rollout", "error", "in vain"),
        ("churn", "a restart", "skipped", "not ours"),
        ("behaviour", "every clause", "skipped", "the contract was not asked both times"),
        ("allocations", "Service shop/shop node port of 80/TCP", "failure", "31000 -> nothing"),
    ]
    assert suite[1].get("time") == "1.500"


def test_whatever_an_object_is_called_the_junit_file_is_xml():
    (suite,) = ET.fromstring(verdict_junit(full()))  # noqa: S314  # ours

    assert "alert(1)" in suite.attrib["name"] + suite[0].attrib["name"]
    assert len(suite) == 10


def test_a_verdict_is_read_back_as_it_was(tmp_path):
    full("a").save(tmp_path)

    assert Verdict.model_validate_json((tmp_path / "verdict.json").read_text()) == full("a")
