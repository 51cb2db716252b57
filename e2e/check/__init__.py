"""Judges what was seen: tables of flows, distributions and refusals. Pure: acts on nothing."""

from e2e.check.distribution import (
    assert_one_each,
    assert_spread,
    assert_spread_evenly,
    connections_needed,
)
from e2e.check.refusal import assert_refused
from e2e.check.table import Want, answered_by, assert_settles

__all__ = [
    "Want",
    "answered_by",
    "assert_one_each",
    "assert_refused",
    "assert_settles",
    "assert_spread",
    "assert_spread_evenly",
    "connections_needed",
]
