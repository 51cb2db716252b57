"""What only the caller outside can do: many requests over one connection, and large payloads."""

import secrets
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event

import requests

from e2e.probe.flow import UDP, Flow
from e2e.probe.outcome import ANSWERED, FOREIGN, outcome_of
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


def draw_kept(flows: Iterable[Flow], times: int, *, idle: float = 0.0) -> dict[Flow, list[Reply]]:
    """Ask `times` times over one connection of each flow, which ends with what is no answer.

    Args:
        flows: each gets a connection of its own, all at the same time.
        times: how often each is asked.
        idle: seconds in which nothing is said between two requests.
    """
    return _each(
        flows, lambda flow: [flow.checked(r) for r in _keep(own_caller(flow), flow, times, idle)]
    )


def carry(flows: Iterable[Flow], sizes: Sequence[int]) -> dict[Flow, list[Reply]]:
    """Let each flow's pod give back payloads of so many bytes, one reply a size.

    What comes back otherwise than it was sent is FOREIGN. Of a datagram the pod gives back the
    beginning only, and nothing if a part of it was lost.
    """
    return _each(flows, lambda flow: [flow.checked(_carry(flow, size)) for size in sizes])


def _each(flows: Iterable[Flow], ask: Callable[[Flow], list[Reply]]) -> dict[Flow, list[Reply]]:
    every = list(flows)
    with ThreadPoolExecutor(max(len(every), 1)) as pool:
        return dict(zip(every, pool.map(ask, every), strict=True))


def _keep(caller: Outside, flow: Flow, times: int, idle: float) -> list[Reply]:
    replies: list[Reply] = []
    target = (flow.target.address, flow.target.port)
    began = time.monotonic()
    try:
        with socket.create_connection(target, timeout=caller.patience) as connection:
            while len(replies) < times and all(r.outcome == ANSWERED for r in replies[-1:]):
                pause(Event(), idle if replies else 0.0)
                began, received = time.monotonic(), b""
                connection.sendall(KEPT_REQUEST)
                while is_cut(received, closed=False) and (chunk := connection.recv(4096)):
                    received += chunk
                replies.append(reply_of(received, time.monotonic() - began))
    except OSError as error:
        replies.append(Reply(outcome_of(error), time.monotonic() - began))
    return replies


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
        said = session.get(there + IDENTITY_PATH, timeout=caller.patience)
        back = session.post(there + ECHO_PATH, data={"msg": sent}, timeout=caller.patience)
    return said.text, sent, back.text


def _exchange_datagrams(caller: Outside, flow: Flow, size: int) -> tuple[str, str, str]:
    """Likewise from one source port."""
    sent = _text(size - len(ECHO_WORD))
    with socket.socket(family_for(flow.target.address), socket.SOCK_DGRAM) as talking:
        talking.settimeout(caller.patience)
        talking.connect((flow.target.address, flow.target.port))
        talking.send(IDENTITY_WORD)
        said = talking.recv(ANY_DATAGRAM).decode(errors="replace")
        talking.send(ECHO_WORD + sent.encode())
        back = talking.recv(ANY_DATAGRAM).decode(errors="replace")
    return said, sent[: READ_OF_DATAGRAM - len(ECHO_WORD)], back


def _text(size: int) -> str:
    """Characters of which no two parts are alike, and which nobody has to encode."""
    return secrets.token_hex(size // 2 + 1)[:size]
