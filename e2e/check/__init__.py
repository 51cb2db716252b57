"""Judges what was seen: tables of flows, distributions and refusals. Pure: acts on nothing."""

from e2e.check.arrived import assert_all_arrive
from e2e.check.delay import assert_none_delayed
from e2e.check.distribution import (
    assert_all_met,
    assert_comes_to,
    assert_one_each,
    assert_some_move,
    assert_spread,
    assert_spread_evenly,
    connections_needed,
    connections_to_meet,
)
from e2e.check.health import assert_healths
from e2e.check.journal import measured
from e2e.check.latency import assert_reaches
from e2e.check.owned import assert_all_owned
from e2e.check.refusal import (
    assert_absent,
    assert_accepted,
    assert_answers,
    assert_invalid,
    assert_refused,
)
from e2e.check.state import assert_becomes
from e2e.check.table import (
    Want,
    answered_by,
    assert_keeps,
    assert_only,
    assert_serves,
    assert_settles,
    replies_in,
)
from e2e.check.watched import (
    assert_follows,
    assert_unnoticed,
    longest_gap,
    note_failing,
    note_first,
    note_handovers,
    note_outages,
)

__all__ = [
    "Want",
    "answered_by",
    "assert_absent",
    "assert_accepted",
    "assert_all_arrive",
    "assert_all_met",
    "assert_all_owned",
    "assert_answers",
    "assert_becomes",
    "assert_comes_to",
    "assert_follows",
    "assert_healths",
    "assert_invalid",
    "assert_keeps",
    "assert_none_delayed",
    "assert_one_each",
    "assert_only",
    "assert_reaches",
    "assert_refused",
    "assert_serves",
    "assert_settles",
    "assert_some_move",
    "assert_spread",
    "assert_spread_evenly",
    "assert_unnoticed",
    "connections_needed",
    "connections_to_meet",
    "longest_gap",
    "measured",
    "note_failing",
    "note_first",
    "note_handovers",
    "note_outages",
    "replies_in",
]
