"""The published schemas: up to date, and saying what each field is."""

import json

import pytest

from e2e.commands import schemas

PUBLISHED = {name: json.loads(text) for name, text in schemas.documents().items()}


def test_the_published_schemas_are_those_of_the_files():
    """As `make docs` writes them, and no other is there."""
    there = {file.name: file.read_text() for file in schemas.SCHEMAS.glob("*.json")}

    assert there == schemas.documents()


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_field_is_described(name):
    schema = PUBLISHED[name]
    objects = [schema, *schema["$defs"].values()]
    fields = {
        f"{each.get('title')}.{field}": says
        for each in objects
        for field, says in each.get("properties", {}).items()
    }

    assert len(fields) > 10
    assert [field for field, says in fields.items() if "description" not in says] == []


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_file_says_its_format(name):
    """Of a record it is the first line that does, as of each stretch."""
    schema = PUBLISHED[name]
    first = schema["$defs"]["Stretch"] if name.startswith("watch") else schema

    assert first["properties"]["format"]["const"] >= 1
    assert "format" in first["required"]
