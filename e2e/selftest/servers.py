"""Local sockets that do what a node port may do."""

import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field

Behaviour = Callable[[socket.socket], None]
"""What is done with a connection whose request was read."""

# Connections of one test at the same time, and some to spare.
BACKLOG = 64


@dataclass
class Server:
    """A server of this process.

    Attributes:
        address: where it listens.
        port: likewise.
        peers: the callers' ends of all connections so far, in their order.
    """

    address: str
    port: int
    peers: list[tuple[str, int]] = field(default_factory=list)


@contextmanager
def serving(behave: Behaviour, address: str = "127.0.0.1") -> Iterator[Server]:
    """Serve on a free port for as long as the context lasts; each connection in its own thread."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    held: list[socket.socket] = []
    threads: list[threading.Thread] = []
    with socket.create_server((address, 0), family=family, backlog=BACKLOG) as listening:
        server = Server(address, listening.getsockname()[1])

        def handle(connection: socket.socket) -> None:
            with suppress(OSError):
                connection.recv(65536)
                behave(connection)

        def accept() -> None:
            with suppress(OSError):  # the listening socket was shut down
                while True:
                    connection, peer = listening.accept()
                    held.append(connection)
                    server.peers.append(peer[:2])
                    thread = threading.Thread(target=handle, args=(connection,))
                    thread.start()
                    threads.append(thread)

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield server
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for connection in held:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()
            for connection in held:
                connection.close()


@contextmanager
def full_backlog() -> Iterator[Server]:
    """Listen, never accept, and have the queue full, so that a further SYN gets no answer."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening, ExitStack() as held:
        target = listening.getsockname()
        for _ in range(BACKLOG):
            filler = held.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(target)
            if not select.select([], [filler], [], 0.3)[1]:
                break
        yield Server(*target)


@contextmanager
def closed_port() -> Iterator[Server]:
    """Own a port on which nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield Server(*bound.getsockname())


def http_reply(
    body: str, *, status: str = "200 OK", promised: int | None = None, extra: str = ""
) -> str:
    """Write an HTTP reply; `promised` is the length that it claims to have."""
    length = len(body) if promised is None else promised
    return f"HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{extra}\r\n{body}"


def says(reply: str) -> Behaviour:
    """Say this and close the connection."""

    def behave(connection: socket.socket) -> None:
        connection.sendall(reply.encode("latin-1"))
        connection.shutdown(socket.SHUT_RDWR)

    return behave


def says_and_stays(reply: str) -> Behaviour:
    """Say this and leave the connection open, until the caller closes it or the server ends."""

    def behave(connection: socket.socket) -> None:
        connection.sendall(reply.encode("latin-1"))
        connection.recv(1)

    return behave


def resets(after: str = "") -> Behaviour:
    """Say this, wait until it was taken, and reset the connection."""

    def behave(connection: socket.socket) -> None:
        connection.sendall(after.encode("latin-1"))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    return behave
