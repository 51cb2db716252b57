"""The report of an upgrade: one page that needs no network."""

from markupsafe import Markup

from e2e.report.answers import answers
from e2e.report.pages import content_hash, environment, text
from e2e.report.verdict import Verdict

PAGE = "report.html"
TEMPLATE = "upgrade.html.j2"
STYLE = "page.css"


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
    styles = [content_hash(text(STYLE)), *([f"'{allowed[0]}'"] if allowed else [])]
    return (
        environment()
        .get_template(TEMPLATE)
        .render(
            verdict=verdict,
            changes=verdict.changes,
            said=answers(verdict),
            style=Markup(text(STYLE)),  # noqa: S704  # a file of this package
            styles=Markup(" ".join(styles)),  # noqa: S704  # hashes
            scripts=Markup(f"'{allowed[1]}'" if allowed else "'none'"),  # noqa: S704  # a hash
            timeline=Markup(timeline),  # noqa: S704  # of our own making
        )
    )
