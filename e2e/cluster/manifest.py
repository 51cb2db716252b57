"""Reads the plain YAML in `manifests/`."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[1] / "manifests"


@cache
def _text(name: str) -> str:
    return (FOLDER / name).read_text()


def load(name: str) -> dict[str, Any]:
    """A fresh copy of the one object in `manifests/<name>`."""
    content: dict[str, Any] = yaml.safe_load(_text(name))
    return content
