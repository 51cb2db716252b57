"""The vantage of this process: a caller outside the cluster."""

import socket
import time

import requests

from e2e import timing
from e2e.errors import ProbeBrokenError
from e2e.probe.asking import Stale
from e2e.probe.connections import NewConnections
from e2e.probe.flow import Flow
from e2e.probe.outcome import FOREIGN, outcome_of
from e2e.probe.pulse import Pulse
from e2e.probe.reply import Reply, is_enough, reply_from
from e2e.probe.wire import CLIENT_PATH, IDENTITY_PATH, IDENTITY_WORD, family_for, url

OUTSIDE = "outside"
# Stands for ports that are not known: one that a connect() was given. Who avoids any port binds
# first, and Linux keeps every other port for those who do (inet_csk_find_open_port).
SOME_PORT = 0


class Outside:
    """Calls from this process, over this machine's own network."""

    def __init__(self, name: str = OUTSIDE, *, patience: float = timing.ATTEMPT) -> None:
        """Wait at most `patience` seconds for a connection, and twice as long for the reply.

        Args:
            name: what messages call it.
            patience: as said.
        """
        self.name = name
        self.patience = patience
        self._stale: dict[tuple[str, int], Stale] = {}

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
                        timeout=(self.patience, 2 * self.patience),
                        allow_redirects=False,
                    )
                except requests.RequestException as error:
                    outcome = outcome_of(error)
                    self.stale_towards(address, port)[SOME_PORT] = 0.0
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
                asking.settimeout(2 * self.patience)  # nothing is sent again
                asking.connect((address, port))
                asking.send(IDENTITY_WORD)
                said = asking.recv(4096)
        except OSError as error:
            return Reply(outcome_of(error), time.monotonic() - began)
        return reply_from(said.decode(errors="replace"), time.monotonic() - began)

    def replier(self, address: str, port: int) -> str:
        """The address from which a datagram to this one is answered; nothing if it is not."""
        with socket.socket(family_for(address), socket.SOCK_DGRAM) as asking:
            asking.settimeout(2 * self.patience)
            try:
                asking.sendto(IDENTITY_WORD, (address, port))
                _, (replier, *_) = asking.recvfrom(4096)
            except OSError:
                return ""
        return str(replier)

    @staticmethod
    def why_no_way(address: str) -> str:
        """Why this machine cannot even send to an address; nothing if it can, and nothing is sent.

        It has no route that leads there, or no address of that IP family to send from.
        """
        try:
            Outside.source_towards(address)
        except OSError as error:
            return error.strerror or str(error)
        return ""

    @staticmethod
    def source_towards(address: str) -> str:
        """The address that this machine calls another one from."""
        with socket.socket(family_for(address), socket.SOCK_DGRAM) as asking:
            asking.connect((address, 9))
            return str(asking.getsockname()[0])

    def stale_towards(self, address: str, port: int) -> Stale:
        """The ports from which something was lost on the way there, to add to and to avoid."""
        return self._stale.setdefault((address, port), {})

    def draw(self, address: str, port: int, times: int, at_once: int = 1) -> list[Reply]:
        """Ask `times` times over bare sockets: thousands of connections in seconds.

        Ends after three in a row that brought no answer, and when most of a hundred did not or
        had lost their first packet.
        """
        drawing = _Drawing()
        with Pulse(self.patience) as pulse:
            asker = NewConnections(
                *(0, (address, port), pulse, drawing),
                patience=self.patience,
                for_reply=self.patience,
                hears_late=False,
                stale=self.stale_towards(address, port),
            )
            begun = 0
            while drawing.count < times:
                while (
                    begun < times
                    and begun - drawing.count < at_once
                    and not is_enough(drawing.ended_so_far)
                ):
                    begun += 1
                    asker.beat()
                if begun == drawing.count:
                    break
                pulse.hear()
        return drawing.replies()


def own_caller(flow: Flow) -> Outside:
    """The caller of a flow that has to be this process, as it wants a socket to itself.

    Raises:
        TypeError: it is another one, and its clause does not say that it needs own-sockets.
    """
    if not isinstance(flow.caller, Outside):
        raise TypeError(f"{flow}: only the caller outside that is this process can do this")
    return flow.caller


class _Drawing:
    """Gathers what is drawn."""

    def __init__(self) -> None:
        self.ended_so_far: list[Reply] = []
        self._began: list[float] = []

    @property
    def count(self) -> int:
        return len(self.ended_so_far)

    def replies(self) -> list[Reply]:
        """In the order in which they were asked for."""
        drawn = zip(self._began, self.ended_so_far, strict=True)
        return [reply for _, reply in sorted(drawn, key=lambda each: each[0])]

    def ended(self, _: int, began: float, reply: Reply) -> None:
        self._began.append(began)
        self.ended_so_far.append(reply)

    def unasked(self, _: int, why: str) -> None:
        raise ProbeBrokenError(why)

    def came_late(self, key: int, began: float, reply: Reply, *, lost: bool) -> None:
        """Never called, as nobody listens for longer than it takes to be called silent."""

    def closed(self, key: int, pod: str, how: str) -> None:
        """Never called, as no connection is kept."""


def _why(error: requests.RequestException, outcome: object) -> str:
    return f"said {error.args[0]!r:.60}" if outcome == FOREIGN and error.args else ""
