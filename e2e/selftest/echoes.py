"""Echoes of loopback addresses that can go away for a known time, as a node's proxy lets them."""

import ctypes
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from e2e.probe.wire import END_OF_HEAD, WITHOUT_LINGERING
from e2e.upgrade.plan import Plan, WatchedFlow
from e2e.upgrade.recorder import go_first

WAYS = ("new connections", "one connection", "UDP", "UDP from new ports")
POD = "echo-a-0"
BACKLOG = 4096
# From Linux' headers; Python does not have them.
SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27
IP_PKTINFO = 8
DROP_ALL = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))


def deaf(ears: socket.socket) -> None:
    """Let the kernel drop what comes to this socket, before TCP or UDP sees it."""
    program = struct.pack("HxxxxxxP", 1, ctypes.addressof(DROP_ALL))
    ears.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


@dataclass
class Echo:
    """A pod's two ports, TCP and UDP of one number, served by one thread.

    Attributes:
        address: where it listens; empty for all of IPv4.
        pod: what it says its name is.
        port: the number.
    """

    address: str
    pod: str = POD
    port: int = 0
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    _kept: dict[socket.socket, bytes] = field(default_factory=dict)
    _orders: list[Callable[[], None]] = field(default_factory=list)
    _done: threading.Event = field(default_factory=threading.Event)
    _done_at: float = 0.0
    _over: bool = False

    def start(self) -> None:
        self._open()
        self._bell, self._ring = socket.socketpair()
        self._selector.register(self._bell, selectors.EVENT_READ, self._obey)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over = True
        self._ring.send(b"!")
        self._thread.join()
        self._close()
        self._bell.close()
        self._ring.close()
        self._selector.close()

    def vanish(self) -> float:
        """From now on connections are reset, and new ones and datagrams are refused; gives when."""
        return self._do(self._close)

    def come_back(self) -> float:
        return self._do(self._open)

    def drop(self) -> float:
        """From now on lose every packet."""
        return self._do(lambda: [deaf(ears) for ears in (self._tcp, self._udp, *self._kept)])

    def drop_no_more(self) -> float:
        def listen() -> None:
            for ears in (self._tcp, self._udp, *self._kept):
                with suppress(OSError):
                    ears.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)

        return self._do(listen)

    def end_connections(self) -> None:
        """Close what is open, and nothing else."""
        self._do(lambda: [self._hang_up(one) for one in list(self._kept)])

    def rename(self, pod: str) -> None:
        self._do(lambda: setattr(self, "pod", pod))

    def _do(self, order: Callable[[], object]) -> float:
        self._done.clear()
        self._orders.append(order)
        self._ring.send(b"!")
        self._done.wait(10)
        return self._done_at

    def _obey(self) -> None:
        self._bell.recv(64)
        while self._orders:
            self._orders.pop(0)()
            self._done_at = time.monotonic()
            self._done.set()

    def _open(self) -> None:
        self._tcp = socket.socket()
        self._tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._tcp.bind((self.address, self.port))
        self.port = self._tcp.getsockname()[1]
        self._udp = socket.socket(type=socket.SOCK_DGRAM)
        # The answer comes from the address that was asked, also where this is all of them.
        self._udp.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        self._udp.bind((self.address, self.port))
        self._tcp.listen(BACKLOG)
        for each, do in ((self._tcp, self._accept), (self._udp, self._answer)):
            each.setblocking(False)
            self._selector.register(each, selectors.EVENT_READ, do)

    def _close(self) -> None:
        for each in (self._tcp, self._udp):
            if each.fileno() >= 0:
                self._selector.unregister(each)
                each.close()
        for one in list(self._kept):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, WITHOUT_LINGERING)
            self._hang_up(one)

    def _serve(self) -> None:
        # Who is starved here would look as if it were away for longer.
        go_first()
        while not self._over:
            for key, _ in self._selector.select():
                if key.fileobj.fileno() >= 0:
                    key.data()

    def _accept(self) -> None:
        with suppress(BlockingIOError):
            while True:
                one, _ = self._tcp.accept()
                one.setblocking(False)
                self._kept[one] = b""
                self._selector.register(one, selectors.EVENT_READ, lambda one=one: self._read(one))

    def _read(self, one: socket.socket) -> None:
        try:
            chunk = one.recv(4096)
        except OSError:
            chunk = b""
        if not chunk:
            self._hang_up(one)
            return
        *requests, self._kept[one] = (self._kept[one] + chunk).split(END_OF_HEAD)
        length = len(self.pod)
        reply = f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{self.pod}".encode()
        with suppress(OSError):
            one.send(reply * len(requests))

    def _hang_up(self, one: socket.socket) -> None:
        if one in self._kept:
            del self._kept[one]
            self._selector.unregister(one)
            one.close()

    def _answer(self) -> None:
        with suppress(OSError):
            while True:
                said, called, _, peer = self._udp.recvmsg(4096, 64)
                name = said == b"hostname"
                answer = self.pod.encode() if name else said.removeprefix(b"echo ")
                self._udp.sendmsg([answer], called, 0, peer)


@contextmanager
def echoing(address: str = "127.0.0.1", port: int = 0) -> Iterator[Echo]:
    """Serve for as long as the context lasts."""
    echo = Echo(address, port=port)
    echo.start()
    try:
        yield echo
    finally:
        echo.stop()


def watched(
    node: str, address: str, port: int, ways: tuple[str, ...] = WAYS, **more: str
) -> list[WatchedFlow]:
    """Write the flows of one node."""
    return [
        WatchedFlow(
            service="web", node=node, family="IPv4", address=address, port=port, way=way,
            **{"pods": "echo-a", **more},
        )
        for way in ways
    ]  # fmt: skip


def planned(folder: Path, flows: list[WatchedFlow]) -> Plan:
    """Save a plan of these flows."""
    plan = Plan(
        run="abcdef", made=datetime.now(UTC), cluster="0000", namespace="nodeport-e2e-abcdef",
        flows=tuple(flows),
    )  # fmt: skip
    plan.save(folder)
    return plan
