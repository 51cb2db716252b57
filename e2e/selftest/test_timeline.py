"""The time line: everything is in it, nothing gets out of it, and it stays readable."""

import re
from html.parser import HTMLParser

import pytest

from e2e.probe import Outcome
from e2e.selftest.told import Told, an_upgrade
from e2e.upgrade.record import load
from e2e.upgrade.story import as_text, story_of
from e2e.upgrade.timeline import content_hash, rows_of, script, style, timeline_html, timeline_page

EVIL = '"><script>alert(1)</script>\x1b[31m{{ 7 * 7 }}'


class Page(HTMLParser):
    """What a browser would see."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]


def story(folder, count: int = 3, **how):
    an_upgrade(folder, count, **how)
    return story_of(load(folder))


def test_a_small_cluster_shows_every_path_that_was_lost(tmp_path):
    """At three nodes each is open, with a row for each of its paths that had an outage."""
    lines = rows_of(story(tmp_path))
    shown = [line.label for line in lines if not line.folded]

    assert [line.label for line in lines if line.look == "node"] == [
        "control-plane", "worker-01", "worker-02",
    ]  # fmt: skip
    assert shown.count("web IPv4 new connections") == 3
    assert shown.count("web IPv4 one connection") == 1
    assert [line.label for line in lines if line.look == "band"] == [
        "command", "API server", "leases", "nodes", "kube-proxy", "watched pods",
    ]  # fmt: skip


def test_a_large_cluster_fits_on_a_screen(tmp_path):
    """At fifty nodes those that nobody missed share a row, and paths are folded away."""
    lines = rows_of(story(tmp_path, 50, loud=12))
    shown = [line for line in lines if not line.folded]

    assert len(shown) < 25
    (group,) = (line for line in lines if line.look == "group")
    assert group.label == "37 nodes without an outage"
    assert sum(line.under == group.id for line in lines) == 37


def test_every_outage_is_a_bar_and_a_row_of_the_table(tmp_path):
    """Each is on its path's row, in the colour of its kind, and has its figures in the table."""
    told = story(tmp_path)
    page = Page(timeline_html(told))
    outages = [outage for one in told.flows for outage in one.judged.outages]
    bars = [rect for rect in page.all("rect") if "data-a" in rect and " k-" in rect["class"]]

    assert len(bars) == 2 * len(outages)
    assert sum("data-a" in row for row in page.all("tr")) == len(outages)
    for kind in {outage.kind for outage in outages}:
        assert any(f"k-{kind.replace(' ', '-')}" in bar["class"] for bar in bars)
    assert any("held" in rect["class"] for rect in page.all("rect") if "data-a" in rect)


def test_the_page_needs_nothing_and_allows_nothing(tmp_path):
    """No network, no handler in an attribute, no style in one; the policy names what it brings."""
    page = Page(timeline_page(story(tmp_path)))
    policy = next(m["content"] for m in page.all("meta") if "http-equiv" in m)

    assert content_hash(script()) in policy
    assert content_hash(style()) in policy
    assert policy.startswith("default-src 'none'")
    assert len(page.all("script")) == 1
    for _, attributes in page.tags:
        assert not [
            name for name in attributes if name.startswith("on") or name in ("style", "src", "href")
        ]
    assert "prefers-color-scheme: dark" in style()
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", timeline_page(story(tmp_path)))


def test_hostile_names_are_only_names(tmp_path):
    """Whatever a node, pod or message is called, it makes no tag, and steers no terminal."""
    told = Told([EVIL], 20.0)
    told.outage(0, 5.0, 1.0, Outcome.FOREIGN, pod=EVIL, said=EVIL)
    told.event(5.0, "node-not-ready", node=EVIL, name=EVIL, said=EVIL)
    told.ended(1, 6.0, EVIL)
    told.save(tmp_path)
    story_told = story_of(load(tmp_path))
    page, text = Page(timeline_page(story_told)), as_text(story_told)

    assert len(page.all("script")) == 1
    assert "alert(1)" in page.text
    assert "49" not in re.sub(r"\d\d:\d\d:\d\d", "", text)
    assert "\x1b" not in text


@pytest.mark.parametrize("seconds", [0.0, 0.01, 86400.0 * 3])
def test_any_length_can_be_drawn(tmp_path, seconds):
    """A watch of nothing, and one of three days."""
    Told(["worker-1"], seconds).save(tmp_path)
    page = Page(timeline_page(story_of(load(tmp_path))))

    assert len(page.all("text")) < 40


def test_text_says_first_whether_users_noticed(tmp_path):
    """The first line is the answer; the table has where, how long and why."""
    text = as_text(story(tmp_path))
    head, _, *rows = text.splitlines()

    assert re.match(r"Users noticed: \d+ outages on 3 of 3 nodes, the longest 55\.00 s", head)
    assert any("refused 13" in row for row in rows)
    (why,) = (row for row in rows if "iptables -> nftables" in row)
    assert re.match(r"why \d: kube-proxy of control-plane, worker-01 and worker-02 restarted", why)
    assert any("worker-02 was lost" in row for row in rows)
    assert any(row.startswith("not looked: 3.0 s of it") for row in rows)
    assert any(row.startswith("kept connections ended: 3") for row in rows)

    Told(["worker-1"], 60.0).save(tmp_path)
    assert as_text(story_of(load(tmp_path))) == (
        "Nobody noticed anything in 60 s (1 node, 4 flows, 4,800 attempts)\n"
    )


def test_a_watch_that_hardly_looked_says_so_first(tmp_path):
    """That nobody noticed anything is worth little where nobody looked."""
    told = Told(["worker-1"], 60.0)
    told.held(10.0, 50.0)
    told.save(tmp_path)

    head = as_text(story_of(load(tmp_path))).splitlines()[0]

    assert head.startswith("Nobody noticed anything in 60 s ")
    assert head.endswith(", but for 40 s of it nobody looked")
