"""What an API server answers: accepted, refused for the right reason, or not there."""

import pytest

from e2e.check import (
    assert_absent,
    assert_accepted,
    assert_answers,
    assert_invalid,
    assert_refused,
)
from e2e.check.refusal import NotRefusedError, WrongAnswerError
from e2e.cluster.api import Answer

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


def test_invalid_means_422_for_a_field():
    """The short form of a refusal wants code, reason, field and words too."""
    assert_invalid(REFUSED, "spec.ports", "Required value")
    with pytest.raises(NotRefusedError, match="want 422 Invalid, saw 404"):
        assert_invalid(ABSENT, "spec.ports", "Required value")
    with pytest.raises(NotRefusedError, match=r"want the field spec\.type named"):
        assert_invalid(REFUSED, "spec.type", "Required value")


def warned(*warnings):
    """An accepted object with warnings."""
    answer = Answer(STORED)
    answer.warnings = list(warnings)
    return answer


def test_a_version_answers_as_its_row_says():
    """A row with words is a refusal, any other an acceptance with exactly its warnings."""
    invalid = {"field": "spec.ports", "says": "Required value"}
    failed = {"kind": "Status", "code": 500, "message": "duplicate nodePort: {TCP 30040}"}

    assert_answers(REFUSED, invalid)
    assert_answers(failed, {"code": 500, "says": "duplicate nodePort"})
    assert assert_answers(warned(), {}) == STORED
    assert_answers(warned("a is deprecated", "b is odd"), {"warns": ["is odd", "is deprecated"]})
    for answer, row, words in (
        (STORED, invalid, "but it was accepted"),
        (failed, invalid, "want 422 Invalid, saw 500 None"),
        (REFUSED, {}, "want it accepted"),
        (warned(), {"warns": ["is odd"]}, r"want the warnings \['is odd'\], saw \[\]"),
        (warned("b is odd"), {}, r"want the warnings \[\], saw \['b is odd'\]"),
        (warned("b is odd"), {"warns": ["is deprecated"]}, "saw .*b is odd"),
    ):
        with pytest.raises(WrongAnswerError, match=words):
            assert_answers(answer, row)
