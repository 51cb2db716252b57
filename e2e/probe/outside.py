"""The vantage of this process: a caller outside the cluster."""

import re
import socket
import struct
import time
from dataclasses import replace

import requests

from e2e import timing
from e2e.errors import ProbeBrokenError
from e2e.probe.outcome import CUT_OFF, FOREIGN, outcome_of
from e2e.probe.reply import Reply, is_enough, reply_from

IDENTITY_PATH, CLIENT_PATH = "/hostname", "/clientip"
IDENTITY_WORD = b"hostname"
REQUEST = f"GET {IDENTITY_PATH} HTTP/1.0\r\nHost: echo\r\n\r\n".encode()
KEPT_REQUEST = f"GET {IDENTITY_PATH} HTTP/1.1\r\nHost: echo\r\n\r\n".encode()
END_OF_HEAD = b"\r\n\r\n"
# End with a reset when all has been read. A pod remembers each connection that it closed for a
# minute, and of thousands of those some are in the way of new ones; see docs/findings.md.
WITHOUT_LINGERING = struct.pack("ii", 1, 0)
# Of what Linux tells of a connection: microseconds from the packet that was answered to the
# answer, and how many packets were sent again.
TCP_INFO = struct.Struct("68xI28xI")
CONTENT_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class Outside:
    """Calls from this process, over this machine's own network."""

    name = "outside"

    def __init__(self, *, patience: float = timing.ATTEMPT) -> None:
        """Wait at most `patience` seconds for a connection, and as long again for the reply."""
        self.patience = patience
        self._unanswered: set[tuple[str, int, int]] = set()

    def call(self, address: str, port: int) -> Reply:
        """Ask once with a real HTTP client, over a connection of its own."""
        return self._ask(address, port, IDENTITY_PATH)

    def call_closely(self, address: str, port: int) -> Reply:
        """Ask who answers and as whom it sees this process, over one connection."""
        return self._ask(address, port, IDENTITY_PATH, CLIENT_PATH)

    def _ask(self, address: str, port: int, *paths: str) -> Reply:
        began = time.monotonic()
        said: list[str] = []
        # Without trust_env a proxy named in the environment would be asked instead of the node.
        with requests.Session() as session:
            session.trust_env = False
            for path in paths:
                last = path == paths[-1]
                try:
                    response = session.get(
                        url(address, port) + path,
                        headers={"Connection": "close" if last else "keep-alive"},
                        timeout=self.patience,
                        allow_redirects=False,
                    )
                except requests.RequestException as error:
                    outcome = outcome_of(error)
                    return Reply(outcome, time.monotonic() - began, detail=_why(error, outcome))
                if response.status_code != requests.codes.ok:
                    took = time.monotonic() - began
                    return Reply(FOREIGN, took, detail=f"HTTP status {response.status_code}")
                said.append(response.content.decode(errors="replace"))
        return reply_from(said[0], time.monotonic() - began, *said[1:])

    def call_udp(self, address: str, port: int) -> Reply:
        """Ask once over UDP; an answer from any other address or port is not heard."""
        began = time.monotonic()
        try:
            with socket.socket(family_for(address), socket.SOCK_DGRAM) as asking:
                asking.settimeout(self.patience)
                asking.connect((address, port))
                asking.send(IDENTITY_WORD)
                said = asking.recv(4096)
        except OSError as error:
            return Reply(outcome_of(error), time.monotonic() - began)
        return reply_from(said.decode(errors="replace"), time.monotonic() - began)

    @staticmethod
    def source_towards(address: str) -> str:
        """The address that this machine calls another one from."""
        with socket.socket(family_for(address), socket.SOCK_DGRAM) as asking:
            asking.connect((address, 9))
            return str(asking.getsockname()[0])

    def draw(self, address: str, port: int, times: int) -> list[Reply]:
        """Ask `times` times in a row over bare sockets: thousands of connections in seconds.

        Ends after three in a row that brought no answer.
        """
        replies: list[Reply] = []
        while len(replies) < times and not is_enough(replies):
            replies.append(self._ask_bare((address, port)))
        return replies

    def _ask_bare(self, target: tuple[str, int]) -> Reply:
        began, opened = time.monotonic(), 0.0
        received, waited = b"", None
        connection = self._new_socket(target)
        source = connection.getsockname()[1]
        try:
            with connection:
                connection.settimeout(self.patience)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, WITHOUT_LINGERING)
                connection.connect(target)
                opened = time.monotonic() - began
                waited = waited_for(connection, opened)
                connection.sendall(REQUEST)
                while chunk := connection.recv(4096):
                    received += chunk
        except OSError as error:
            # A reply that came whole counts, whatever becomes of its connection afterwards.
            if is_cut(received, closed=False):
                self._unanswered.add((*target, source))
                return Reply(outcome_of(error), time.monotonic() - began, opened=opened)
        return replace(reply_of(received, time.monotonic() - began, opened), waited=waited)

    def _new_socket(self, target: tuple[str, int]) -> socket.socket:
        """Open a socket at a port from which no call to this target has gone unanswered.

        A node sends what comes from such a port to the same pod again for two minutes, though it
        be gone (nf_conntrack_tcp_timeout_syn_sent), and so the port would not be a new client.
        """
        while True:
            try:
                new = socket.socket(family_for(target[0]), socket.SOCK_STREAM)
                new.bind(("", 0))
            except OSError as error:
                raise ProbeBrokenError(f"no socket to call from: {error}") from error
            if (*target, new.getsockname()[1]) not in self._unanswered:
                return new
            new.close()


def waited_for(connection: socket.socket, opened: float) -> float | None:
    """How long after its first packet the one was sent that opened a connection.

    None where no system tells. On a slow machine the answer is late, and still one to the first.
    """
    if not hasattr(socket, "TCP_INFO"):
        return None
    told = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO.size)
    if len(told) < TCP_INFO.size:
        return None
    answered_in, repeats = TCP_INFO.unpack(told)
    return max(opened - answered_in / 1e6, 0.0) if repeats else 0.0


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
    if not received.startswith(b"HTTP/1."):
        return not received
    head, _, body = received.partition(END_OF_HEAD)
    promised = CONTENT_LENGTH.search(head)
    return len(body) < int(promised[1]) if promised else not closed


def _why(error: requests.RequestException, outcome: object) -> str:
    return f"said {error.args[0]!r:.60}" if outcome == FOREIGN and error.args else ""
