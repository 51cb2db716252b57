"""What commands have in common in their options."""

from collections.abc import Callable
from typing import Any

import click

# More processes than cores is right: most of a clause is waiting.
PROCESSES = 8


def option(name: str, variable: str, **how: Any) -> Callable[..., Any]:
    """An option that is an environment variable too, and whose help says so."""
    return click.option(name, envvar=f"E2E_{variable}", show_envvar=True, show_default=True, **how)
