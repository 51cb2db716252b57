"""What all pages have in common: one file that needs no network, in which nothing foreign runs."""

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, *, styles: tuple[str, ...], script: str = "", **data: Any) -> str:
    """A page as HTML.

    Args:
        template: the name of its file, which gets `style`, `script` and `allowed`, a
            Content-Security-Policy with the hashes of both: a browser runs nothing else.
        styles: names of files in the folder of templates.
        script: likewise; none if nothing is to run.
        data: what the template is given; it escapes all of it.
    """
    style = "".join(text(name) for name in styles)
    code = text(script) if script else ""
    ran = content_hash(code) if code else "'none'"
    allowed = f"default-src 'none'; style-src {content_hash(style)}; script-src {ran}"
    return (
        environment()
        .get_template(template)
        .render(
            style=Markup(style),  # noqa: S704  # a file of this package
            script=Markup(code),  # noqa: S704  # likewise
            allowed=Markup(allowed),  # noqa: S704  # hashes
            **data,
        )
    )


@cache
def environment() -> Environment:
    """Where templates are; what is put into them is escaped, and what is missing is an error."""
    return Environment(
        loader=PackageLoader("e2e.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def text(name: str) -> str:
    """A file beside the templates."""
    return (TEMPLATES / name).read_text()


def content_hash(text: str) -> str:
    """What a Content-Security-Policy calls a style or a script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
