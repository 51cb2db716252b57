"""What only the caller outside can do: keep a connection, close a half of it, carry a lot."""

import re
import secrets
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from threading import Event
from urllib.parse import quote

import requests

from e2e.probe.flow import UDP, Flow, all_different
from e2e.probe.outcome import ANSWERED, CUT_OFF, FOREIGN, outcome_of
from e2e.probe.outside import Outside, own_caller
from e2e.probe.reply import Reply, reply_from
from e2e.probe.wire import (
    IDENTITY_PATH,
    IDENTITY_WORD,
    KEPT_REQUEST,
    family_for,
    is_cut,
    reply_of,
    url,
)
from e2e.wait import pause

ECHO_PATH, ECHO_WORD = "/echo", b"echo "
# All that agnhost reads of a datagram; it gives back what comes after the word.
READ_OF_DATAGRAM = 2048
# What a datagram may have, and some to spare.
ANY_DATAGRAM = 65536
# agnhost lets a shell answer, and says what that printed.
SLOW_REQUEST = "GET /shell?cmd={} HTTP/1.1\r\nHost: echo\r\nConnection: close\r\n\r\n"
SLOWLY = "sleep {:g}; printf %s $HOSTNAME"
PRINTED = re.compile(rb'"output":"([^"]*)"')


def draw_kept(flows: Iterable[Flow], times: int, *, idle: float = 0.0) -> dict[Flow, list[Reply]]:
    """Ask `times` times over one connection of each flow, which ends with what is no answer.

    Over UDP that is one source port.

    Args:
        flows: each gets a connection of its own, all at the same time.
        times: how often each is asked.
        idle: seconds in which nothing is said between two requests.
    """
    return _each(
        flows, lambda flow: [flow.checked(r) for r in _keep(own_caller(flow), flow, times, idle)]
    )


def draw_half_closed(flows: Iterable[Flow], *, idle: float) -> dict[Flow, list[Reply]]:
    """Ask once over a connection of each flow, close the caller's half, and hear the answer then.

    Args:
        flows: each gets a connection of its own, all at the same time.
        idle: seconds that the pod waits before it answers.
    """
    return _each(flows, lambda flow: [flow.checked(_half_close(own_caller(flow), flow, idle))])


def carry(flows: Iterable[Flow], sizes: Sequence[int]) -> dict[Flow, list[Reply]]:
    """Let each flow's pod give back payloads of so many bytes, one reply a size.

    What comes back otherwise than it was sent is FOREIGN. Of a datagram the pod gives back the
    beginning only, and nothing if a part of it was lost.
    """
    return _each(flows, lambda flow: [flow.checked(_carry(flow, size)) for size in sizes])


def _each(flows: Iterable[Flow], ask: Callable[[Flow], list[Reply]]) -> dict[Flow, list[Reply]]:
    every = all_different(flows)
    with ThreadPoolExecutor(max(len(every), 1)) as pool:
        return dict(zip(every, pool.map(ask, every), strict=True))


def _keep(caller: Outside, flow: Flow, times: int, idle: float) -> list[Reply]:
    replies: list[Reply] = []
    ask = _ask_datagram if flow.target.protocol == UDP else _ask
    began, silent_for = time.monotonic(), 0.0
    try:
        with _connected(caller, flow) as connection:
            while len(replies) < times and all(r.outcome == ANSWERED for r in replies[-1:]):
                silent_for = idle if replies else 0.0
                pause(Event(), silent_for)
                began = time.monotonic()
                replies.append(replace(ask(connection, began), idle=silent_for))
    except OSError as error:
        replies.append(Reply(outcome_of(error), time.monotonic() - began, idle=silent_for))
    return replies


def _connected(caller: Outside, flow: Flow) -> socket.socket:
    """A socket that speaks to a flow's target, and waits for answers as long as its caller does.

    Raises:
        OSError: there is no connection.
    """
    family = family_for(flow.target.address)
    kind = socket.SOCK_DGRAM if flow.target.protocol == UDP else socket.SOCK_STREAM
    with ExitStack() as failing:
        talking = failing.enter_context(socket.socket(family, kind))
        talking.settimeout(caller.patience)
        talking.connect((flow.target.address, flow.target.port))
        talking.settimeout(2 * caller.patience)
        failing.pop_all()
    return talking


def _ask(connection: socket.socket, began: float) -> Reply:
    connection.sendall(KEPT_REQUEST)
    return reply_of(_hear(connection), time.monotonic() - began)


def _hear(connection: socket.socket) -> bytes:
    """One answer over HTTP, or what there is of it when the connection ends."""
    received = b""
    while is_cut(received, closed=False) and (chunk := connection.recv(4096)):
        received += chunk
    return received


def _ask_datagram(talking: socket.socket, began: float) -> Reply:
    talking.send(IDENTITY_WORD)
    said = talking.recv(ANY_DATAGRAM).decode(errors="replace")
    return reply_from(said, time.monotonic() - began)


def _half_close(caller: Outside, flow: Flow, idle: float) -> Reply:
    began = time.monotonic()
    try:
        with _connected(caller, flow) as connection:
            connection.settimeout(idle + 2 * caller.patience)
            connection.sendall(SLOW_REQUEST.format(quote(SLOWLY.format(idle))).encode())
            connection.shutdown(socket.SHUT_WR)
            received = _hear(connection)
    except OSError as error:
        return Reply(outcome_of(error), time.monotonic() - began, idle=idle)
    took, printed = time.monotonic() - began, PRINTED.search(received)
    if is_cut(received, closed=True):
        return Reply(CUT_OFF, took, idle=idle)
    if printed is None:
        return Reply(FOREIGN, took, detail=f"said {received[-60:]!r}", idle=idle)
    return replace(reply_from(printed[1].decode(errors="replace"), took), idle=idle)


def _carry(flow: Flow, size: int) -> Reply:
    caller, began = own_caller(flow), time.monotonic()
    exchange = _exchange_datagrams if flow.target.protocol == UDP else _exchange
    try:
        said, sent, received = exchange(caller, flow, size)
    except OSError as error:  # also all that requests raises
        took = time.monotonic() - began
        return Reply(outcome_of(error), took, detail=f"{size} bytes", carried=size)
    reply = replace(reply_from(said, time.monotonic() - began), carried=size)
    if received == sent:
        return reply
    alike = next((n for n, (a, b) in enumerate(zip(sent, received, strict=False)) if a != b), None)
    where = f"differs after {alike}" if alike is not None else f"has {len(received)}"
    return replace(reply, outcome=FOREIGN, detail=f"of {len(sent)} bytes what came back {where}")


def _exchange(caller: Outside, flow: Flow, size: int) -> tuple[str, str, str]:
    """Who answers, what was sent to it, and what it gave back over the same connection."""
    sent, there = _text(size), url(flow.target.address, flow.target.port)
    with requests.Session() as session:
        session.trust_env = False
        limits = (caller.patience, 2 * caller.patience)
        said = session.get(there + IDENTITY_PATH, timeout=limits)
        back = session.post(there + ECHO_PATH, data={"msg": sent}, timeout=limits)
    return said.text, sent, back.text


def _exchange_datagrams(caller: Outside, flow: Flow, size: int) -> tuple[str, str, str]:
    """Likewise from one source port."""
    sent = _text(size - len(ECHO_WORD))
    with _connected(caller, flow) as talking:
        talking.send(IDENTITY_WORD)
        said = talking.recv(ANY_DATAGRAM).decode(errors="replace")
        talking.send(ECHO_WORD + sent.encode())
        back = talking.recv(ANY_DATAGRAM).decode(errors="replace")
    return said, sent[: READ_OF_DATAGRAM - len(ECHO_WORD)], back


def _text(size: int) -> str:
    """Characters of which no two parts are alike, and which nobody has to encode."""
    return secrets.token_hex(size // 2 + 1)[:size]
