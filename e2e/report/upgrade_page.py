"""The report of an upgrade: one page that needs no network."""

import base64
import hashlib
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from e2e.report.answers import answers
from e2e.report.verdict import Verdict

PAGE = "report.html"
TEMPLATE = "upgrade.html.j2"
STYLE = Path(__file__).parent / "templates" / "upgrade.css"


def upgrade_page(
    verdict: Verdict, *, timeline: str = "", allowed: tuple[str, str] | None = None
) -> str:
    """The page as HTML.

    Args:
        verdict: what was found.
        timeline: the picture of what was watched, as HTML of our own making, in which everything
            that a cluster said is escaped already.
        allowed: the hashes of the style and of the script in it; a browser runs no others.
    """
    environment = Environment(
        loader=PackageLoader("e2e.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = STYLE.read_text()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    styles = [f"sha256-{digest}", *([allowed[0]] if allowed else [])]
    return environment.get_template(TEMPLATE).render(
        verdict=verdict,
        changes=verdict.changes,
        said=answers(verdict),
        style=Markup(style),  # noqa: S704  # a file of this package
        styles=Markup(" ".join(_quoted(each) for each in styles)),  # noqa: S704  # hashes
        scripts=Markup(_quoted(allowed[1]) if allowed else "'none'"),  # noqa: S704  # a hash
        timeline=Markup(timeline),  # noqa: S704  # of our own making
    )


def _quoted(hashed: str) -> str:
    return f"'{hashed}'"
