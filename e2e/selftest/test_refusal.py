"""What an API server answers: accepted, refused for the right reason, or not there."""

import pytest

from e2e.check import assert_absent, assert_accepted, assert_refused
from e2e.check.refusal import NotRefusedError, WrongAnswerError

STORED = {"kind": "Service", "metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}}
REFUSED = {
    "kind": "Status",
    "code": 422,
    "reason": "Invalid",
    "message": 'Service "web" is invalid: spec.ports: Required value',
    "details": {"causes": [{"field": "spec.ports"}]},
}
ABSENT = {"kind": "Status", "code": 404, "reason": "NotFound", "message": "no web"}
SAID = r'saw 422 Invalid: Service "web" is invalid'


def test_what_was_stored_is_accepted():
    """A stored object is given back; a Status is told in its own words."""
    assert assert_accepted(STORED) is STORED
    with pytest.raises(WrongAnswerError, match=f"want it accepted, {SAID}"):
        assert_accepted(REFUSED)


def test_only_what_is_not_found_is_absent():
    """An object that is there is named with its ports, and another Status is no absence."""
    assert_absent(ABSENT)
    with pytest.raises(WrongAnswerError, match=r"want no Service web, saw one with ports \[.*80"):
        assert_absent(STORED)
    with pytest.raises(WrongAnswerError, match=f"want 404 NotFound, {SAID}"):
        assert_absent(REFUSED)


def test_a_refusal_counts_for_its_own_reason_only():
    """Code, reason, field and words all have to be the ones that were named."""
    right = {"code": 422, "reason": "Invalid", "field": "spec.ports", "says": "Required value"}

    assert_refused(REFUSED, **right)
    for answer, other, words in (
        (STORED, {}, "but it was accepted"),
        (REFUSED, {"code": 409}, "want 409 Invalid, saw 422"),
        (REFUSED, {"reason": "Conflict"}, "want 422 Conflict, saw 422 Invalid"),
        (REFUSED, {"field": "spec.type"}, "want the field spec.type named"),
        (REFUSED, {"says": ["Required value", "30008"]}, "want the words '30008'"),
    ):
        with pytest.raises(NotRefusedError, match=words):
            assert_refused(answer, **(right | other))
