"""Everything that a run leaves in its folder of results beside evidence and junit.xml."""

from importlib import metadata
from pathlib import Path

from e2e.report.result import RESULT, Result
from e2e.report.run_page import PAGE, run_page

# What an earlier run left must not be taken for that of this one; its history stays.
MADE = ("junit.xml", "summary.md", RESULT, PAGE)


def write(result: Result, out: Path) -> Path:
    """Write all of them; gives the one that people look at.

    Raises:
        OSError: the folder cannot be written to.
    """
    out.mkdir(parents=True, exist_ok=True)
    result.save(out)
    page = out / PAGE
    page.write_text(run_page(result))
    return page


def version() -> str:
    """Which harness this is."""
    try:
        return f"nodeport-e2e {metadata.version('nodeport-e2e')}"
    except metadata.PackageNotFoundError:
        return "nodeport-e2e, run from a checkout"
