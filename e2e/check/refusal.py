"""How an API server says no."""

from collections.abc import Mapping, Sequence
from typing import Any


class NotRefusedError(AssertionError):
    """The API server accepted, or refused in another way; says what it did."""


def assert_refused(
    answer: Mapping[str, Any],
    *,
    code: int,
    reason: str,
    field: str | None = None,
    says: Sequence[str] | str = (),
) -> None:
    """The API server refused, for this reason, in these words.

    Args:
        answer: what it sent back: a Status, or the stored object if it did not refuse.
        code: the HTTP status code.
        reason: the Status' reason, such as `Invalid` or `AlreadyExists`.
        field: the field that one of its causes must name.
        says: words that its message must contain.

    Raises:
        NotRefusedError: it did something else; says what.
    """
    if answer.get("kind") != "Status":
        kept = answer.get("spec", {}).get("ports")
        raise NotRefusedError(f"want {code} {reason}, but it was accepted with ports {kept}")
    said = answer.get("message", "")
    got = f"{answer.get('code')} {answer.get('reason')}: {said}"
    if (answer.get("code"), answer.get("reason")) != (code, reason):
        raise NotRefusedError(f"want {code} {reason}, saw {got}")
    fields = [cause.get("field") for cause in answer.get("details", {}).get("causes", [])]
    if field is not None and field not in fields:
        raise NotRefusedError(f"want the field {field} named, saw {fields} in {got}")
    for words in [says] if isinstance(says, str) else says:
        if words not in said:
            raise NotRefusedError(f"want the words {words!r}, saw {got}")
