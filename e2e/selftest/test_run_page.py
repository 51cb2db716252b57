"""The report of a run in a real browser: it leads, filters, fits, and lets nothing foreign run."""

import re
from itertools import pairwise

import pytest

from e2e.report.clauses import contract
from e2e.report.run_page import run_page
from e2e.selftest.browsers import browser, show, unnamed
from e2e.selftest.runs import NODES, TABLE, failed, flow, held, load, run, skipped, whole_run

EVIL = "<img src=x onerror=alert(1)>\"'><script>document.title='owned'</script>{{ 7 * 7 }}"
WRONG = (
    failed("reach.pods-on-every-node"),
    failed("balance.uniform-and-random", loads=(load(), load("worker2", (261, 469, 261)))),
    failed("udp.every-node", ended="broken", said="pod echo-a-0 was not Ready", flows=()),
)
SCHEMES = ("light", "dark")
CLAUSES = len(contract())


@pytest.fixture(scope="module")
def chromium():
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The pages of a green run, a red one, a large one and one in which every name is hostile."""
    folder = tmp_path_factory.mktemp("pages")
    hostile = failed(
        EVIL, said=f"{EVIL}\nx {EVIL}\nwhy: {EVIL}", topic=EVIL, claim=EVIL, covers=(EVIL,),
        known_bug=f"javascript:{EVIL}", where=EVIL, families=(EVIL,), chosen=(EVIL,),
        flows=(flow(EVIL, EVIL, want=EVIL, saw=EVIL, right=False), flow(EVIL, EVIL)),
        loads=(load(EVIL, problem=EVIL),), evidence=f"evidence/{EVIL}",
    )  # fmt: skip
    many = [held(f"many.clause-{n}", claim=f"Claim {n}.", flows=(flow(),)) for n in range(2000)]
    made = {
        "green": whole_run(),
        "red": whole_run(*WRONG),
        "large": run(*many),
        "hostile": run(hostile, skipped(EVIL, EVIL), where=f"cluster: {EVIL}", reproduce="make e2e",
                       environment={EVIL: EVIL}, run=EVIL),
        "empty": run(),
    }  # fmt: skip
    for name, result in made.items():
        (folder / f"{name}.html").write_text(run_page(result))
    return folder


@pytest.fixture
def opened(chromium, pages):
    """Opens pages by name, and closes them when the test is over."""
    every = []

    def open_page(name, **how):
        every.append(show(chromium, pages / f"{name}.html", **how))
        return every[-1]

    yield open_page
    for shown in every:
        shown.page.context.close()


def shown_ids(page):
    return page.locator(".clause").evaluate_all(
        "all => all.filter(one => one.checkVisibility()).map(one => one.id)"
    )


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", ["green", "red", "large", "hostile", "empty"])
def test_a_browser_has_nothing_to_complain_about(opened, name, scheme):
    """No error, no warning, no dialog, and no request for anything but the file itself."""
    shown = opened(name, color_scheme=scheme)

    assert shown.page.title() != "owned"
    assert shown.troubles == []


def test_hostile_names_are_shown_as_they_are_and_lead_nowhere(opened):
    page = opened("hostile").page

    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 1
    assert EVIL in page.locator("article.clause .name").first.inner_text()
    links = page.locator("a").evaluate_all("all => all.map(one => one.getAttribute('href'))")
    assert all(link.startswith(("#", "evidence/")) for link in links)


def test_every_link_leads_to_something(opened):
    for name in ("green", "red", "hostile"):
        lost = opened(name).page.evaluate(
            """() => [...document.querySelectorAll('a[href^="#"]')].map(one => one.getAttribute(
            'href').slice(1)).filter(id => !id.startsWith('?') && !document.getElementById(
            decodeURIComponent(id)))"""
        )
        assert lost == []


def test_the_first_screen_says_what_it_is_and_what_to_do(opened):
    page = opened("red").page

    assert page.locator("h1").inner_text().startswith("The NodePort contract is broken: 2 of ")
    for words in ("lane: v1.37.2 nftables", "Why?", "What to do?", "How long", "KEEP=1 ONLY=",
                  "worker2 answers the node port to itself"):  # fmt: skip
        box = page.get_by_text(words).first.bounding_box()
        assert box
        assert box["y"] + box["height"] < 900, words
    assert page.locator(".tiles").inner_text().split() == [
        *(str(CLAUSES - 7), "held", "2", "did", "not", "hold", "1", "could", "not", "be", "judged"),
        *("4", "skipped"),
    ]


def test_words_choose_clauses_and_give_the_choice_an_address(opened):
    page = opened("green").page
    page.get_by_label("words, ids, nodes").fill("affinity timeout")

    chosen = shown_ids(page)
    assert "affinity.timeout" in chosen
    assert len(chosen) < 20
    assert page.locator(".filter output").inner_text() == f"{len(chosen)} of {CLAUSES} clauses"
    assert page.url.endswith("#?q=affinity+timeout")
    page.reload()
    assert shown_ids(page) == chosen
    page.get_by_role("button", name="all").click()
    page.locator(".clause[hidden]").first.wait_for(state="detached")


def test_words_with_signs_of_their_own_are_kept_in_the_address(opened):
    page = opened("green").page
    words = page.get_by_label("words, ids, nodes")
    words.fill("a&b+c 100%")
    page.reload()

    assert words.input_value() == "a&b+c 100%"


def test_an_address_that_means_nothing_is_no_error(opened):
    shown = opened("green", at="100%")

    assert shown.page.get_by_label("words, ids, nodes").input_value() == ""
    assert shown.troubles == []


def test_a_tile_leads_to_its_clauses(opened):
    page = opened("red").page
    page.get_by_role("link", name="2 did not hold").click()

    assert shown_ids(page) == ["balance.uniform-and-random", "reach.pods-on-every-node"]
    page.locator("[name=ended]").select_option("skipped")
    assert len(shown_ids(page)) == 4
    assert page.locator(".topic:visible").count() < 5


def test_an_address_leads_to_a_clause_and_opens_it(opened):
    page = opened("green", at="affinity.timeout").page
    clause = page.locator("[id='affinity.timeout']")

    assert clause.locator("details").get_attribute("open") is not None
    assert 0 <= clause.bounding_box()["y"] < 300
    # It is found though a filter was set that hides it.
    page.get_by_label("words, ids, nodes").fill("zzz")
    assert shown_ids(page) == []
    page.evaluate("location.hash = '#reach.pods-on-every-node'")
    page.locator("[id='reach.pods-on-every-node']:not([hidden])").wait_for(state="attached")


def test_a_cell_of_the_truth_table_leads_to_its_flows(opened):
    page = opened("red").page
    wrong = page.locator(".truth .is-bad-back")

    assert re.fullmatch(r"✗ 2 of \d+ wrong", wrong.inner_text())
    wrong.click()
    cell = page.locator(wrong.get_attribute("href"))
    assert "outside → worker2, IPv4" in cell.locator("summary").inner_text()
    first = cell.locator("tbody tr").first.inner_text()
    assert "refused" in first
    assert "outside -> worker2:32530" in first
    assert page.locator(".truth tbody tr").count() == 14
    assert page.locator(".truth thead th").all_inner_texts() == ["callers", "family", *NODES]


def test_a_pod_beyond_chance_is_marked(opened):
    page = opened("red", at="loads").page

    assert page.locator(".loads .bar").count() == 6
    assert page.locator(".loads .bar.off").count() == 1
    assert page.locator(".loads td:has-text('469')").get_by_label("beyond chance").count() == 1


@pytest.mark.parametrize("name", ["green", "red", "hostile", "large"])
def test_a_narrow_screen_scrolls_only_down(opened, name):
    page = opened(name, width=360).page

    assert page.evaluate("document.documentElement.scrollWidth") <= 360


CONTRAST = """() => {
  const shine = (color) => {
    const [r, g, b] = color.match(/[\\d.]+/g).map(Number)
      .map((n) => n / 255).map((n) => n <= 0.03928 ? n / 12.92 : ((n + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const back = (one) => {
    for (; one; one = one.parentElement) {
      const color = getComputedStyle(one).backgroundColor;
      if (!color.endsWith(", 0)")) return color;
    }
  };
  const poor = [];
  const told = "h1, p, dd, a, b, code, .good, .bad, .unsure, .soft, th, td";
  for (const one of document.querySelectorAll(told)) {
    if (!one.checkVisibility()) continue;
    const [a, b] = [shine(getComputedStyle(one).color), shine(back(one))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push(`${ratio.toFixed(1)} ${one.outerHTML.slice(0, 90)}`);
  }
  return poor;
}"""


@pytest.mark.parametrize("scheme", SCHEMES)
def test_everything_can_be_read_in_both_schemes(opened, scheme):
    """Text has the contrast that WCAG AA asks for, 4.5 to 1, on whatever it stands."""
    page = opened("red", color_scheme=scheme).page

    assert page.evaluate(CONTRAST) == []
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(13, 17, 23)"
    assert dark == (scheme == "dark")


def test_a_keyboard_gets_everywhere(opened):
    page = opened("red").page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the verdict"
    cell = page.locator("details.cell").first
    cell.locator("summary").focus()
    page.keyboard.press("Enter")
    assert cell.get_attribute("open") is not None


def test_a_screen_reader_is_told_what_things_are(opened):
    page = opened("red").page

    named = ("svg:not([aria-hidden])", "[role=img]", "[role=region]", "form", "nav")
    assert unnamed(page, *named) == 0
    assert page.locator("th:not([scope])").count() == 0
    levels = page.locator("h1, h2, h3").evaluate_all("all => all.map(one => +one.tagName[1])")
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))


def test_thousands_of_rows_stay_quick_and_small(opened, pages):
    """A full run takes less than 1 MB; of 2,000 clauses the one that is meant is found at once."""
    for name in ("green", "red"):
        assert (pages / f"{name}.html").stat().st_size < 1_000_000
    page = opened("large").page
    took = page.evaluate(
        """() => { const began = performance.now(), field = document.querySelector('[name=q]');
        field.value = 'clause-1999'; field.dispatchEvent(new Event('input', { bubbles: true }));
        document.body.offsetHeight; return performance.now() - began; }"""
    )

    assert shown_ids(page) == ["many.clause-1999"]
    # A busy machine takes its time.
    assert took < 5000


def test_without_a_script_everything_is_there(opened):
    page = opened("red", java_script_enabled=False).page

    assert page.locator(".filter").is_visible() is False
    assert page.locator(".clause:visible").count() == CLAUSES
    assert TABLE.splitlines()[3] in page.locator("#wrong ~ article pre").nth(1).inner_text()
