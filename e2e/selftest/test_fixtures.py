"""The fixture modules, taken together."""

import ast
from collections import Counter
from pathlib import Path

from e2e import fixtures

FOLDER = Path(fixtures.__file__).parent


def test_no_two_fixtures_have_one_name():
    """Pytest would take the one that was loaded last, and say nothing."""
    names = Counter(
        node.name
        for file in FOLDER.glob("*.py")
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef) and any(map(_makes_a_fixture, node.decorator_list))
    )

    assert len(names) > 20
    assert [name for name, often in names.items() if often > 1] == []


def _makes_a_fixture(decorator: ast.expr) -> bool:
    return ast.unparse(decorator).startswith("pytest.fixture")
