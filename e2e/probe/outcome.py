"""The closed list of ways in which an attempt can end."""

import errno
import http.client
from collections.abc import Iterator
from enum import StrEnum

from e2e.errors import ProbeBrokenError


class Outcome(StrEnum):
    """How one attempt ended."""

    ANSWERED = "answered"
    """A pod of the service replied."""
    REFUSED = "refused"
    """The address said at once that nothing listens (TCP reset or ICMP port unreachable)."""
    SILENT = "silent"
    """Nothing came within the limit."""
    CUT_OFF = "cut off"
    """The connection was open and ended before a whole reply."""
    NO_ROUTE = "no route"
    """A router, or the caller's own system, said that the address cannot be reached."""
    FOREIGN = "foreign"
    """Somebody replied who is not a pod of the service."""


ANSWERED, REFUSED, SILENT = Outcome.ANSWERED, Outcome.REFUSED, Outcome.SILENT
CUT_OFF, NO_ROUTE, FOREIGN = Outcome.CUT_OFF, Outcome.NO_ROUTE, Outcome.FOREIGN

BLOCKED = frozenset({REFUSED, SILENT})
"""Nothing was passed on, and which of the two ways is the implementation's choice."""
CLOSED = BLOCKED | {NO_ROUTE}
"""Nobody is there, and nobody has promised how a caller finds that out."""
UNSERVED = frozenset(Outcome) - {ANSWERED}
"""No pod of the service is there, at an address that may lead out of the cluster to anybody."""

BY_ERRNO = {
    errno.ECONNREFUSED: REFUSED,
    errno.ETIMEDOUT: SILENT,
    errno.EAGAIN: SILENT,
    errno.ECONNRESET: CUT_OFF,
    errno.EPIPE: CUT_OFF,
    errno.ECONNABORTED: CUT_OFF,
    errno.EHOSTUNREACH: NO_ROUTE,
    errno.ENETUNREACH: NO_ROUTE,
}
# Every other error of the HTTP client means that what came was no HTTP that it knows.
OF_THE_CALLER = (http.client.InvalidURL, http.client.ImproperConnectionState)


def outcome_of(error: BaseException) -> Outcome:
    """Name the outcome that an error stands for, however deep a library wrapped it.

    Raises:
        ProbeBrokenError: the error speaks of the caller and not of what it called.
    """
    for cause in _causes(error):
        if isinstance(cause, http.client.RemoteDisconnected | http.client.IncompleteRead):
            return CUT_OFF
        if isinstance(cause, http.client.HTTPException) and not isinstance(cause, OF_THE_CALLER):
            return FOREIGN
        if isinstance(cause, TimeoutError) and cause.errno is None:
            return SILENT
        if isinstance(cause, OSError) and cause.errno in BY_ERRNO:
            return BY_ERRNO[cause.errno]
    raise ProbeBrokenError(f"the attempt itself went wrong: {error!r}") from error


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Walk from an error to what it wraps, the innermost first.

    Not to its `__context__`, which may be an error that was handled before the attempt began.
    """
    wrapped = [arg for arg in error.args if isinstance(arg, BaseException)]
    reason = getattr(error, "reason", None)  # urllib3's MaxRetryError
    for inner in (*wrapped, reason, error.__cause__):
        if isinstance(inner, BaseException):
            yield from _causes(inner)
    yield error
