"""Looks: one attempt gives one reply, and the reply names how the attempt ended."""

from e2e.probe.arrival import arrivals
from e2e.probe.flow import AT_ONCE, TCP, UDP, Crowd, Flow, Owner, Target, Vantage, draw, look
from e2e.probe.health import Health, HealthPort
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
from e2e.probe.sampler import Sample, Track, Watch, watching
from e2e.probe.scan import open_among
from e2e.probe.slowly import draw_slowly
from e2e.probe.talk import carry, draw_half_closed, draw_kept

__all__ = [
    "ANSWERED",
    "AT_ONCE",
    "BLOCKED",
    "CLOSED",
    "CUT_OFF",
    "FOREIGN",
    "NO_ROUTE",
    "REFUSED",
    "SILENT",
    "TCP",
    "UDP",
    "UNSERVED",
    "Crowd",
    "Flow",
    "Health",
    "HealthPort",
    "Outcome",
    "Outside",
    "Owner",
    "Reply",
    "Sample",
    "Target",
    "Track",
    "Vantage",
    "Watch",
    "arrivals",
    "carry",
    "draw",
    "draw_half_closed",
    "draw_kept",
    "draw_slowly",
    "look",
    "open_among",
    "watching",
]
