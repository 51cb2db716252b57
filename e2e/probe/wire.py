"""What is said over a bare connection to an echo, and how its answer is read."""

import re
import socket
import struct
from dataclasses import replace

from e2e.probe.outcome import CUT_OFF, FOREIGN
from e2e.probe.reply import Reply, reply_from

IDENTITY_PATH, CLIENT_PATH = "/hostname", "/clientip"
IDENTITY_WORD = b"hostname"
REQUEST = f"GET {IDENTITY_PATH} HTTP/1.0\r\nHost: echo\r\n\r\n".encode()
KEPT_REQUEST = f"GET {IDENTITY_PATH} HTTP/1.1\r\nHost: echo\r\n\r\n".encode()
BEGIN_OF_HEAD, END_OF_HEAD = b"HTTP/1.", b"\r\n\r\n"
# End with a reset when all has been read. A pod remembers each connection that it closed for a
# minute, and of thousands of those some are in the way of new ones; see docs/findings.md.
WITHOUT_LINGERING = struct.pack("ii", 1, 0)
# Of what Linux tells of a connection: microseconds from the packet that was answered to the
# answer, and how many packets were sent again.
TCP_INFO = struct.Struct("68xI28xI")
CONTENT_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


def waited_for(connection: socket.socket, opened: float) -> float | None:
    """How long after its first packet the one was sent that opened a connection.

    None where no system tells. On a slow machine the answer is late, and still one to the first.
    """
    if (told := _told_of(connection)) is None:
        return None
    answered_in, sent_again = told
    return max(opened - answered_in / 1e6, 0.0) if sent_again else 0.0


def repeats(connection: socket.socket) -> int:
    """How many packets were sent again over a connection so far; 0 where no system tells."""
    told = _told_of(connection)
    return told[1] if told else 0


def _told_of(connection: socket.socket) -> tuple[int, int] | None:
    if not hasattr(socket, "TCP_INFO"):
        return None
    told = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO.size)
    return TCP_INFO.unpack(told) if len(told) >= TCP_INFO.size else None


def url(address: str, port: int) -> str:
    """How HTTP is asked of an address, without a path."""
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


def family_for(address: str) -> socket.AddressFamily:
    """The kind of socket that reaches an address."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def reply_of(received: bytes, took: float, opened: float = 0.0) -> Reply:
    """Read all that came over a connection until it ended."""
    if is_cut(received, closed=True):
        return Reply(CUT_OFF, took, detail=f"after {len(received)} bytes" if received else "")
    if not received.startswith((b"HTTP/1.0 200", b"HTTP/1.1 200")):
        return Reply(FOREIGN, took, detail=f"said {received[:60]!r}")
    body = received.partition(END_OF_HEAD)[2].decode(errors="replace")
    return replace(reply_from(body, took), opened=opened)


def is_cut(received: bytes, *, closed: bool) -> bool:
    """Whether a reply lacks something; one that promised no length ends with its connection."""
    if not received.startswith(BEGIN_OF_HEAD):
        # Of replies that follow each other at once, the last may be torn anywhere.
        return BEGIN_OF_HEAD.startswith(received)
    head, end, body = received.partition(END_OF_HEAD)
    if not end:
        return True
    promised = CONTENT_LENGTH.search(head)
    return len(body) < int(promised[1]) if promised else not closed
