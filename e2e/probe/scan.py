"""Who takes a connection: every port of some addresses, thousands a second."""

import errno
import selectors
import socket
import time
from collections.abc import Iterable
from itertools import islice

from e2e import timing
from e2e.errors import ProbeBrokenError
from e2e.probe.outcome import BY_ERRNO
from e2e.probe.wire import family_for

# Each needs a descriptor, and a process may have 1024 of them.
AT_ONCE = 400
UNDER_WAY = {0, errno.EINPROGRESS}

Place = tuple[str, int]
"""An address and a port."""


def open_among(places: Iterable[Place], *, patience: float = timing.ATTEMPT) -> set[Place]:
    """The places at which a TCP connection opens; it is closed at once, and nothing is said.

    Args:
        places: to be tried, once each.
        patience: seconds after which one that says nothing counts as not open.

    Raises:
        ProbeBrokenError: the attempt itself went wrong, so nothing was learnt.
    """
    left, opened = iter(places), set[Place]()
    # By socket, the longest under way first.
    deadlines: dict[socket.socket, float] = {}
    with selectors.DefaultSelector() as waiting:
        while True:
            for place in islice(left, AT_ONCE - len(deadlines)):
                if connection := _begun(place):
                    deadlines[connection] = time.monotonic() + patience
                    waiting.register(connection, selectors.EVENT_WRITE, place)
            if not deadlines:
                return opened
            first = next(iter(deadlines.values()))
            for key, _ in waiting.select(timeout=max(0.0, first - time.monotonic())):
                assert isinstance(key.fileobj, socket.socket)
                if _ended(key.fileobj, key.data) == 0:
                    opened.add(key.data)
                _forget(key.fileobj, waiting, deadlines)
            for connection, until in list(deadlines.items()):
                if time.monotonic() < until:
                    break
                _forget(connection, waiting, deadlines)


def _begun(place: Place) -> socket.socket | None:
    """A socket on its way to a place; nothing if the way ended at once."""
    try:
        connection = socket.socket(family_for(place[0]), socket.SOCK_STREAM)
    except OSError as error:
        raise ProbeBrokenError(f"no socket to call from: {error}") from error
    connection.setblocking(False)
    code = connection.connect_ex(place)
    if code in UNDER_WAY:
        return connection
    connection.close()
    _demand_verdict(code, place)
    return None


def _ended(connection: socket.socket, place: Place) -> int:
    code = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        _demand_verdict(code, place)
    return code


def _demand_verdict(code: int, place: Place) -> None:
    if code not in BY_ERRNO:
        raise ProbeBrokenError(f"{place}: the attempt itself went wrong: {errno.errorcode[code]}")


def _forget(
    connection: socket.socket,
    waiting: selectors.BaseSelector,
    deadlines: dict[socket.socket, float],
) -> None:
    waiting.unregister(connection)
    del deadlines[connection]
    connection.close()
