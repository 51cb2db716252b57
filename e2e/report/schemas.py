"""The published schemas of what programs may read, made from its models."""

import inspect
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.alias_generators import to_camel

from e2e.report.conformance import ConformanceReport
from e2e.report.contract_document import DOCS
from e2e.report.result import Result

SCHEMAS = DOCS / "schemas"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
# By the name of the file without its ending. What an older reader would not understand gets
# another `format`, and thereby another schema; the older one stays.
PUBLISHED: dict[str, type[BaseModel]] = {
    "conformance": ConformanceReport,
    "result": Result,
}
ATTRIBUTE = re.compile(r"^    (\w+): (.+(?:\n        .+)*)", re.MULTILINE)


def texts() -> dict[Path, str]:
    """Every schema as it has to be, by its file."""
    return {
        SCHEMAS / f"{name}-v{model.model_fields['format'].default}.schema.json": _text(model)
        for name, model in PUBLISHED.items()
    }


def _text(model: type[BaseModel]) -> str:
    schema = {"$schema": DIALECT, **model.model_json_schema(mode="serialization")}
    for part in (schema, *schema.get("$defs", {}).values()):
        _describe(part)
    return json.dumps(schema, indent=1) + "\n"


def _describe(part: dict[str, Any]) -> None:
    """Say of each property what the docstring of its class says, and not all of it in one place."""
    said, _, attributes = inspect.cleandoc(part.get("description", "")).partition("\nAttributes:\n")
    part["description"] = " ".join(said.split())
    for name, text in _told(attributes):
        properties = part["properties"]
        properties[name if name in properties else to_camel(name)]["description"] = text


def _told(attributes: str) -> Iterable[tuple[str, str]]:
    for name, text in ATTRIBUTE.findall(attributes):
        yield name, " ".join(text.split())
