"""The page of faults in a real browser: it leads, fits, can be read, and lets nothing run."""

from datetime import UTC, datetime

import pytest

from e2e.report.clauses import contract
from e2e.report.faults import faults
from e2e.report.faults_page import faults_page, rows
from e2e.report.matrix import Matrix, Trial
from e2e.selftest.browsers import PATIENCE, browser, show, unnamed
from e2e.selftest.test_run_page import CONTRAST, EVIL, SCHEMES
from e2e.wait import wait_until

LANE = "v1.37.2 iptables ipv4 two-workers"
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


def trial(fault, **fields):
    """One that all had to notice, and did."""
    noticed = dict.fromkeys(fault.clauses, "failed")
    also = {clause: "failed" if n % 2 else "held" for n, clause in enumerate(fault.also)}
    known = {"fault": fault.name, "lane": LANE, "ended": "detected", "noticed": noticed}
    return Trial(**{**known, "also": also, "why": ("worker2 lacks rules",), **fields})


def matrix(*trials, untried=()):
    return Matrix(began=MOMENT, seconds=90.0, trials=trials, untried=untried)


EVERY = [each for each in faults() if each.way("iptables")]
MISSED = trial(
    EVERY[0], ended="missed", noticed=dict.fromkeys(EVERY[0].clauses, "held"), named=False
)
PAGES = {
    "whole": matrix(*map(trial, EVERY)),
    "red": matrix(
        MISSED,
        trial(EVERY[1], ended="error", said="it was not in force", noticed={}),
        trial(EVERY[2], spared={"udp.every-node": "failed"}, specs={"a spec": "failed"}),
    ),
    "hostile": matrix(
        Trial(fault=EVIL, lane=EVIL, ended="partly", said=EVIL, node=EVIL, noticed={EVIL: "held"},
              also={EVIL: "failed"}, why=(EVIL,), specs={EVIL: "failed"}, explained=False),
    ),
    "ended early": matrix(*map(trial, EVERY[:2]), untried=("not-tried", EVIL)),
    "empty": matrix(),
}  # fmt: skip


@pytest.fixture(scope="module")
def chromium():
    with browser() as found:
        yield found


@pytest.fixture
def opened(chromium, tmp_path):
    """Opens pages by name, and closes them when the test is over."""
    every = []

    def open_page(name, **how):
        file = tmp_path / f"{name}.html"
        file.write_text(faults_page(PAGES[name]))
        every.append(show(chromium, file, **how))
        return every[-1]

    yield open_page
    for shown in every:
        shown.page.context.close()


def test_the_matrix_has_what_was_asked_in_the_order_of_the_contract():
    """One row a clause, one cell a fault; what had to fail is told from what might."""
    found = rows(PAGES["whole"].trials)
    order = [clause.id for clause in contract()]
    column = [each.name for each in EVERY].index("no-forwarding")
    by_clause = {row.clause: row.cells[column] for row in found}

    assert [row.clause for row in found] == [i for i in order if i in by_clause]
    assert by_clause["reach.pods-on-one-node"] == ("failed", True)
    assert by_clause["range.ends-serve"] == ("held", False)
    assert by_clause["udp.every-node"] is None
    assert sum(row.failed for row in found) == sum(len(t.proved) for t in PAGES["whole"].trials)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", list(PAGES))
def test_a_browser_has_nothing_to_complain_about(opened, name, scheme):
    """No error, no warning, no dialog, and no request for anything but the file itself."""
    shown = opened(name, color_scheme=scheme)

    assert shown.page.title() != "owned"
    assert shown.page.locator("script, img").count() == 0
    assert shown.troubles == []


def test_the_first_screen_says_what_was_not_noticed(opened):
    page = opened("red").page

    assert page.locator("h1").inner_text() == "The contract notices 1 of 3 faults"
    said = page.locator("dl.answers").first.inner_text()
    assert f"{EVERY[0].name}: missed, not by {EVERY[0].clauses[0]}" in said
    assert "error, it was not in force" in said
    assert (
        "failed, and had not to: udp.every-node"
        in page.locator("#faults ~ article").nth(2).inner_text()
    )
    assert opened("whole").page.locator("h1").inner_text() == (
        f"The contract notices all {len(EVERY)} faults"
    )


@pytest.mark.parametrize(("count", "left", "says"), [
    (2, 2, "The contract notices all 2 faults that were tried; 2 were not"),
    (2, 1, "The contract notices all 2 faults that were tried; 1 was not"),
    (1, 2, "The fault that was tried is noticed; 2 were not"),
    (1, 0, "The fault is noticed"),
])  # fmt: skip
def test_faults_that_were_not_tried_are_not_noticed(count, left, says):
    """They are named, and whatever became of the others nothing looks as if all were well."""
    names = ("cluster-lost", "ctrl-c")[:left]

    page = faults_page(matrix(*map(trial, EVERY[:count]), untried=names))

    assert f"<h1>{says}</h1>" in page
    assert ('class="answers is-good"' in page) is (not left)
    named = ", ".join(f"<code>{name}</code>" for name in names)
    assert (f"<dt>Not tried</dt><dd>{named}</dd>" in page) is bool(left)
    assert (f"; {left} not tried</dd>" in page) is bool(left)
    missed = faults_page(matrix(MISSED, trial(EVERY[1]), untried=names or ("ctrl-c",)))
    assert "<h1>The contract notices 1 of 2 faults that were tried; " in missed


def test_every_link_leads_to_something(opened):
    for name in ("whole", "red", "hostile"):
        lost = opened(name).page.evaluate(
            """() => [...document.querySelectorAll('a[href^="#"]')].map(one => one.getAttribute(
            'href').slice(1)).filter(id => !document.getElementById(decodeURIComponent(id)))"""
        )
        assert lost == []


def test_a_column_leads_to_its_fault_with_how_it_is_made(opened):
    page = opened("whole").page
    page.locator(".matrix thead a", has_text="kube-proxy-frozen").click()

    fault = page.locator("[id='kube-proxy-frozen']")
    assert page.url.endswith("#kube-proxy-frozen")
    fault.locator("summary").click()
    assert "pkill -STOP -x kube-proxy" in fault.inner_text()
    assert "pkill -CONT -x kube-proxy" in fault.inner_text()
    assert fault.get_by_role("link", name="kubernetes#38372").count() == 1


def test_names_stay_while_the_matrix_is_scrolled(opened):
    """By a keyboard too, which gets into its box."""
    page = opened("whole").page
    box = page.locator(".box")
    box.focus()
    page.keyboard.press("End")
    wait_until(
        lambda: page.evaluate("document.querySelector('.box').scrollTop") > 100,
        what="the box to scroll",
        within=PATIENCE / 1000,
    )
    box.evaluate("box => box.scrollLeft = 500")

    left, top = box.bounding_box()["x"], box.bounding_box()["y"]
    assert page.locator(".matrix thead th").nth(20).bounding_box()["y"] < top + 5
    assert page.locator(".matrix tbody th").last.bounding_box()["x"] < left + 5


@pytest.mark.parametrize("name", ["whole", "red", "hostile"])
def test_a_narrow_screen_scrolls_only_down(opened, name):
    page = opened(name, width=360).page

    assert page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize("scheme", SCHEMES)
def test_everything_can_be_read_in_both_schemes(opened, scheme):
    """Text has the contrast that WCAG AA asks for, 4.5 to 1, on whatever it stands."""
    assert opened("red", color_scheme=scheme).page.evaluate(CONTRAST) == []


def test_a_screen_reader_is_told_what_things_are(opened):
    page = opened("red").page

    assert unnamed(page, "[role=img]", "[role=region]", "nav") == 0
    assert page.locator("th:not([scope])").count() == 0
    assert page.get_by_label("held, though it had to fail").count() == len(EVERY[0].clauses)


def test_a_whole_matrix_stays_small():
    assert len(faults_page(PAGES["whole"])) < 1_000_000
