"""The report of an upgrade: one page that needs no network."""

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from e2e.report.answers import answers
from e2e.report.verdict import Verdict

PAGE = "report.html"
TEMPLATE = "upgrade.html.j2"


def upgrade_page(verdict: Verdict, *, timeline: str = "") -> str:
    """The page as HTML.

    Args:
        verdict: what was found.
        timeline: the picture of what was watched, as HTML of our own making, in which everything
            that a cluster said is escaped already.
    """
    environment = Environment(
        loader=PackageLoader("e2e.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE).render(
        verdict=verdict,
        changes=verdict.changes,
        said=answers(verdict),
        timeline=Markup(timeline),  # noqa: S704  # of our own making
    )
