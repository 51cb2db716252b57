"""What one attempt brought."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from e2e import timing
from e2e.probe.outcome import ANSWERED, FOREIGN, Outcome

# After so many a draw ends, or when most of this many waited for nothing, or for too long.
NO_ANSWERS_IN_A_ROW = 3
LATELY = 100
# An echo says `<pod name>`, or `<pod name>@<port>` where one pod listens on several ports.
IDENTITY = re.compile(r"(?P<echo>[a-z0-9]([-a-z0-9.]*[a-z0-9])?)(@(?P<port>\d+))?")


@dataclass(frozen=True)
class Reply:
    """What one attempt brought.

    Attributes:
        outcome: how it ended.
        took: seconds from the first packet to the end.
        echo: the name of the pod that replied, if one did.
        port: the port on which that pod was asked, if it said so.
        seen_as: the address that the pod saw as the caller's, if it was asked for it.
        opened: seconds until the connection was open, where that is known.
        waited: seconds from the first packet to the one that was answered, where that is known;
            another one is sent if the first is lost.
        detail: what else is known, for the reader of a failure.
        carried: bytes of payload, if they were more than a question has.
        idle: seconds for which nothing had been said before this attempt, where that is meant.
    """

    outcome: Outcome
    took: float = 0.0
    echo: str | None = None
    port: int | None = None
    detail: str = ""
    seen_as: str | None = None
    opened: float = 0.0
    waited: float | None = None
    carried: int = 0
    idle: float = 0.0

    @property
    def is_delayed(self) -> bool:
        """Whether it is a connection that opened and whose first packet had been lost."""
        waited = self.opened if self.waited is None else self.waited
        return self.outcome == ANSWERED and waited >= timing.SYN_AGAIN

    def __str__(self) -> str:
        by = f" by {self.echo}" if self.echo else ""
        at = f" on port {self.port}" if self.port else ""
        at += f" seen as {self.seen_as}" if self.seen_as else ""
        return f"{self.outcome}{by}{at}" + (f" ({self.detail})" if self.detail else "")


def is_enough(replies: Sequence[Reply]) -> bool:
    """Whether a target looks dead: one must not cost thousands of attempts that wait in vain."""
    if not replies or not _is_vain(replies[-1]):
        return False
    lately = replies[-NO_ANSWERS_IN_A_ROW:]
    if len(lately) == NO_ANSWERS_IN_A_ROW and all(r.outcome != ANSWERED for r in lately):
        return True
    return sum(map(_is_vain, replies[-LATELY:])) > LATELY // 2


def _is_vain(reply: Reply) -> bool:
    return reply.outcome != ANSWERED or reply.is_delayed


def reply_from(body: str, took: float, client: str = "") -> Reply:
    """Read what an echo said about itself; anything that no echo says is FOREIGN.

    Args:
        body: what it said when it was asked for its name.
        took: seconds.
        client: what it said over the same connection when it was asked who calls, if it was.
    """
    said = IDENTITY.fullmatch(body.strip())
    if said is None:
        return Reply(FOREIGN, took, detail=f"said {body[:60]!r}")
    port = said["port"]
    return Reply(
        ANSWERED, took, said["echo"], int(port) if port else None, seen_as=_address(client) or None
    )


def _address(client: str) -> str:
    """The address of `address:port` or `[address]:port`, IPv4 also where it is written as IPv6."""
    return client.strip().rpartition(":")[0].strip("[]").removeprefix("::ffff:")
