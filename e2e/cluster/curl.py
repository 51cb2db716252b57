"""curl as a caller in a container: what it is told, and what its words mean."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from e2e import timing
from e2e.errors import ProbeBrokenError
from e2e.probe import CUT_OFF, FOREIGN, NO_ROUTE, REFUSED, SILENT, Reply
from e2e.probe.reply import reply_from

# What follows each answer that curl prints.
MARK = "<- "
END = " ->\n"
WRITE_OUT = f"{MARK}%{{exitcode}} %{{http_code}} %{{time_total}} %{{time_connect}}{END}"
LOG = "@@@ log"
NO_CONNECTION = "7"
BY_CODE = {28: SILENT, 52: CUT_OFF, 55: CUT_OFF, 56: CUT_OFF, 18: CUT_OFF, 1: FOREIGN}
BY_WORDS = {
    "Connection refused": REFUSED,
    "No route to host": NO_ROUTE,
    "Host is unreachable": NO_ROUTE,
    "Network is unreachable": NO_ROUTE,
    "Connection timed out": SILENT,
}


@dataclass(frozen=True)
class Said:
    """What curl said of one request: the body, how it ended and why it got no connection.

    Seconds until it had a connection, or 0 over one that was there.
    """

    body: str
    code: str
    status: str
    took: float
    reason: str
    opened: float


def command(
    address: str, port: int, paths: Sequence[str], *, source: str = "", keep: bool = False
) -> list[str]:
    """Ask for paths one after another, and end with the first that fails.

    Args:
        address: of the target.
        port: likewise.
        paths: what to ask for.
        source: the address to call from.
        keep: ask over one connection; otherwise over a fresh one each time.
    """
    host = f"[{address}]" if ":" in address else address
    return [
        *("curl", "--silent", "--verbose", "--globoff", "--noproxy", "*", "--fail-early"),
        *("--connect-timeout", f"{timing.ATTEMPT}", "--max-time", f"{2 * timing.ATTEMPT}"),
        *(["--interface", source] if source else []),
        *([] if keep else ["--header", "Connection: close"]),
        *("--write-out", WRITE_OUT),
        *[f"http://{host}:{port}{path}" for path in paths],
    ]


def read(name: str, output: str) -> list[Said]:
    """Read what curl printed, LOG, and what it logged.

    Raises:
        ProbeBrokenError: it did not even begin.
    """
    said, _, log = output.partition(LOG)
    # curl names only in its log why it did not get a connection, one line each:
    # "connect to ... failed: ..." after a while, "... connect fail for ...: ..." at once.
    reasons = iter(re.findall(r" fail(?:ed| for \S+): (.*)", log))
    found = []
    *answers, _ = said.split(END)
    for answer in answers:
        body, _, figures = answer.rpartition(MARK)
        code, status, took, opened = figures.split()
        reason = next(reasons, "") if code == NO_CONNECTION else ""
        found.append(Said(body, code, status, float(took), reason, float(opened)))
    if not found:
        raise ProbeBrokenError(f"{name}: curl ended with {(said + log)[-300:]!r}")
    return found


def reply(name: str, said: Said, client: str = "") -> Reply:
    """The reply that curl's words stand for.

    Raises:
        ProbeBrokenError: they stand for none.
    """
    if said.code == "0":
        if said.status != "200":
            return Reply(FOREIGN, said.took, detail=f"HTTP status {said.status}")
        return replace(reply_from(said.body, said.took, client), opened=said.opened)
    for words, outcome in BY_WORDS.items():
        if words in said.reason:
            return Reply(outcome, said.took)
    if int(said.code) in BY_CODE:
        return Reply(BY_CODE[int(said.code)], said.took)
    raise ProbeBrokenError(f"{name}: curl ended with {said.code} {said.reason!r}")


def close_reply(name: str, said: Sequence[Said]) -> Reply:
    """The reply of a pod that was asked for its name and then for the caller's address."""
    if said[-1].code != "0" or len(said) == 1:
        return reply(name, said[-1])
    return reply(name, said[0], said[1].body)
