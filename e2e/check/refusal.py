"""How an API server says no."""

from collections.abc import Mapping, Sequence
from typing import Any


class WrongAnswerError(AssertionError):
    """The API server did not answer as it should; says what it said."""


class NotRefusedError(WrongAnswerError):
    """The API server accepted, or refused in another way; says what it did."""


def assert_accepted(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """The API server stored what it was asked to store; gives that.

    Raises:
        WrongAnswerError: it refused; says why.
    """
    if answer.get("kind") == "Status":
        raise WrongAnswerError(f"want it accepted, saw {_said(answer)}")
    return answer


def assert_absent(answer: Mapping[str, Any]) -> None:
    """The API server has no object of this name.

    Raises:
        WrongAnswerError: it has one, or said something else; says what.
    """
    if answer.get("kind") != "Status":
        name = answer.get("metadata", {}).get("name")
        ports = answer.get("spec", {}).get("ports")
        raise WrongAnswerError(f"want no {answer.get('kind')} {name}, saw one with ports {ports}")
    if answer.get("code") != 404:
        raise WrongAnswerError(f"want 404 NotFound, saw {_said(answer)}")


def assert_refused(
    answer: Mapping[str, Any],
    *,
    code: int,
    reason: str | None,
    field: str | None = None,
    says: Sequence[str] | str = (),
) -> None:
    """The API server refused, for this reason, in these words.

    Args:
        answer: what it sent back: a Status, or the stored object if it did not refuse.
        code: the HTTP status code.
        reason: the Status' reason, such as `Invalid` or `AlreadyExists`; None if it gives none.
        field: the field that one of its causes must name.
        says: words that its message must contain.

    Raises:
        NotRefusedError: it did something else; says what.
    """
    if answer.get("kind") != "Status":
        kept = answer.get("spec", {}).get("ports")
        raise NotRefusedError(f"want {code} {reason}, but it was accepted with ports {kept}")
    said, got = answer.get("message", ""), _said(answer)
    if (answer.get("code"), answer.get("reason")) != (code, reason):
        raise NotRefusedError(f"want {code} {reason}, saw {got}")
    fields = [cause.get("field") for cause in answer.get("details", {}).get("causes", [])]
    if field is not None and field not in fields:
        raise NotRefusedError(f"want the field {field} named, saw {fields} in {got}")
    for words in [says] if isinstance(says, str) else says:
        if words not in said:
            raise NotRefusedError(f"want the words {words!r}, saw {got}")


def assert_invalid(answer: Mapping[str, Any], field: str, says: Sequence[str] | str) -> None:
    """The API server refused with 422 Invalid, for this field, in these words.

    Raises:
        NotRefusedError: it did something else; says what.
    """
    assert_refused(answer, code=422, reason="Invalid", field=field, says=says)


def assert_answers(answer: Mapping[str, Any], expected: Mapping[str, Any]) -> Mapping[str, Any]:
    """The API server answered as a row of `versions.toml` says; gives what it sent back.

    A row with `says` is a refusal, by default 422 Invalid; any other one is an acceptance, with
    one warning for each of its `warns`, which hold words of it.

    Raises:
        WrongAnswerError: it did something else; says what.
    """
    if "says" in expected:
        code = expected.get("code", 422)
        reason = expected.get("reason", "Invalid" if code == 422 else None)
        field, says = expected.get("field"), expected["says"]
        assert_refused(answer, code=code, reason=reason, field=field, says=says)
        return answer
    assert_accepted(answer)
    warned, wanted = list(getattr(answer, "warnings", ())), expected.get("warns", [])
    all_said = all(any(words in warning for warning in warned) for words in wanted)
    if len(warned) != len(wanted) or not all_said:
        raise WrongAnswerError(f"want the warnings {wanted}, saw {warned}")
    return answer


def _said(status: Mapping[str, Any]) -> str:
    return f"{status.get('code')} {status.get('reason')}: {status.get('message', '')}"
