"""What users noticed: the record of a watch, held against budgets."""

from pathlib import Path

from e2e.check.budgets import Budgets
from e2e.report.verdict import Watched
from e2e.upgrade.plan import Plan

RECORD = "watch.jsonl"


def read(folder: Path, plan: Plan, budgets: Budgets) -> tuple[Watched | None, str]:
    """What was recorded, if anybody watched, and its time line as HTML.

    Raises:
        UsageError: the record is none of this plan, or means nothing.
    """
    del folder, plan, budgets
    return None, ""
