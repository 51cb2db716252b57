"""The published schemas of the files that programs may read: docs/schemas, made by `make docs`."""

import inspect
import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from e2e.check.fingerprint import Fingerprint
from e2e.report.conformance import ConformanceReport
from e2e.report.matrix import Matrix
from e2e.report.proofs import DOCS
from e2e.report.result import Result
from e2e.report.verdict import Comparison, Verdict
from e2e.upgrade import lines
from e2e.upgrade.plan import Plan

SCHEMAS = DOCS / "schemas"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
# By the name of the file that each is of; of watch.jsonl it is that of one line.
FILES: Mapping[str, Any] = {
    "plan": Plan,
    "fingerprint": Fingerprint,
    "watch": lines.AnyLine,
    "verdict": Verdict,
    "comparison": Comparison,
    "result": Result,
    "conformance": ConformanceReport,
    "faults": Matrix,
}
ATTRIBUTE = re.compile(r"^ {4}(?P<name>\w+): (?P<says>.+(?:\n {8}.+)*)", re.MULTILINE)


class _AsWritten(GenerateJsonSchema):
    """Describes fields by the docstring of their class; each is written, also by its default."""

    def field_is_required(self, *_: Any, **__: Any) -> bool:
        return True

    def field_title_should_be_set(self, *_: Any, **__: Any) -> bool:
        return False

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        found = super().model_schema(schema)
        says: dict[str, str] = {}
        for each in reversed(schema["cls"].__mro__):
            if issubclass(each, BaseModel):
                says |= _attributes(each)
        head, _, _ = inspect.cleandoc(schema["cls"].__doc__ or "").partition("\n\nAttributes:")
        found["description"] = head
        for name, field in found.get("properties", {}).items():
            if name in says:
                field["description"] = says[name]
        return found


def documents() -> dict[str, str]:
    """The text of each schema, by the name of its file."""
    return {f"{name}.schema.json": text(of) for name, of in FILES.items()}


def text(of: Any) -> str:
    """The schema of what such a file holds, as JSON."""
    adapter: TypeAdapter[Any] = TypeAdapter(of)
    schema = adapter.json_schema(mode="serialization", schema_generator=_AsWritten)
    if "description" not in schema:
        schema["description"] = inspect.getdoc(lines)
    return json.dumps({"$schema": DIALECT} | schema, indent=1) + "\n"


def _attributes(of: type) -> dict[str, str]:
    """What a docstring says of each attribute, in one line."""
    found = ATTRIBUTE.finditer(inspect.cleandoc(of.__doc__ or ""))
    return {each["name"]: " ".join(each["says"].split()) for each in found}
