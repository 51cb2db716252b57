"""Looks: one attempt gives one reply, and the reply names how the attempt ended."""

from e2e.probe.flow import Flow, Owner, Target, Vantage, draw, look
from e2e.probe.outcome import (
    ANSWERED,
    BLOCKED,
    CLOSED,
    CUT_OFF,
    FOREIGN,
    NO_ROUTE,
    REFUSED,
    SILENT,
    UNSERVED,
    Outcome,
)
from e2e.probe.outside import Outside
from e2e.probe.reply import Reply

__all__ = [
    "ANSWERED",
    "BLOCKED",
    "CLOSED",
    "CUT_OFF",
    "FOREIGN",
    "NO_ROUTE",
    "REFUSED",
    "SILENT",
    "UNSERVED",
    "Flow",
    "Outcome",
    "Outside",
    "Owner",
    "Reply",
    "Target",
    "Vantage",
    "draw",
    "look",
]
