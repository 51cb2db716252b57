"""Was a connection held up? A first packet that is lost is sent again after a second."""

from collections.abc import Mapping, Sequence

from e2e.check.journal import measured
from e2e.check.wrong import Wrong, WrongFlowsError
from e2e.probe import ANSWERED, Flow, Reply


class DelayedError(WrongFlowsError):
    """Connections that opened late or not at all; the message has a line for each flow."""


def assert_none_delayed(draws: Mapping[Flow, Sequence[Reply]]) -> None:
    """Every connection was answered, and none waited for a first packet that was lost.

    A connection that opened late on a slow machine did not wait, nor did one whose first packet
    was sent again at once, as is done where its pod took it for an old connection. Where no system
    tells what it sent, late is enough.

    Raises:
        DelayedError: there is such a connection; shows every flow with its times, the wrong marked.
        ValueError: nothing was drawn.
    """
    if not draws or not all(draws.values()):
        raise ValueError("nothing was drawn, so there is nothing to judge")
    wrong, lines = [], []
    for flow, replies in draws.items():
        failed = [reply for reply in replies if reply.outcome != ANSWERED]
        late = [reply for reply in replies if reply.is_delayed]
        again = sum(bool(reply.waited) for reply in replies)
        line = f"{flow}: {len(replies)} connections, open after {_times(replies)}"
        line += f", {again} with a second first packet" if again else ""
        measured(line)
        line += f"; {len(failed)} not answered" if failed else ""
        line += f"; {len(late)} waited for a lost first packet" if late else ""
        if failed or late:
            lost = Wrong.of(flow, failed, asked=len(replies))
            wrong.append(lost if failed else Wrong.held_up(flow, replies))
        lines.append(f"{'x' if failed or late else ' '} {line}")
    if wrong:
        head = "want every connection to open at the first attempt"
        raise DelayedError("\n".join([head, *lines]), wrong)


def _times(replies: Sequence[Reply]) -> str:
    opened = sorted(reply.opened * 1000 for reply in replies)
    middle, late = opened[len(opened) // 2], opened[min(len(opened) * 999 // 1000, len(opened) - 1)]
    return f"{middle:.1f} ms, 99.9 % {late:.1f} ms, slowest {opened[-1]:.1f} ms"
