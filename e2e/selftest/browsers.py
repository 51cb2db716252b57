"""A headless browser, where one is installed."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

# Milliseconds: a busy machine takes its time, and that is no fault of a page.
PATIENCE = 120_000
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def browser() -> Iterator[Browser]:
    """The machine's Chromium; without one the test is skipped, and says so."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip(f"no browser is installed: none of {', '.join(PROGRAMS)}")
    with sync_playwright() as playwright:
        # Root may not have a sandbox, and these pages are our own.
        yield playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])


@dataclass
class Shown:
    """A page as a browser shows it, and what it complained about.

    Attributes:
        page: the page.
        troubles: what went to its console, errors, dialogs, and requests for anything else.
    """

    page: Page
    troubles: list[str] = field(default_factory=list)


def show(browser: Browser, file: Path, *, at: str = "", width: int = 1280, **how) -> Shown:
    """Open a file in a context of its own.

    Args:
        browser: the browser.
        file: the page.
        at: its fragment.
        width: of the window.
        how: further options of a context, such as `color_scheme`.
    """
    page = browser.new_context(viewport={"width": width, "height": 900}, **how).new_page()
    page.set_default_timeout(PATIENCE)
    shown = Shown(page)
    note = shown.troubles.append
    page.on("console", lambda said: note(f"console: {said.text}"))
    page.on("pageerror", lambda error: note(f"error: {error}"))
    page.on("dialog", lambda dialog: (note(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on(
        "request", lambda r: note(f"request: {r.url}") if not r.url.startswith("file:///") else None
    )
    page.goto(file.as_uri() + (f"#{at}" if at else ""))
    return shown


def unnamed(page: Page, *kinds: str) -> int:
    """How many elements of these kinds, as selectors, have no name for a screen reader."""
    return int(
        page.evaluate(
            """kinds => kinds
            .flatMap(kind => [...document.querySelectorAll(kind)])
            .filter(one => !one.getAttribute('aria-label') && !one.getAttribute('aria-labelledby'))
            .length""",
            list(kinds),
        )
    )
