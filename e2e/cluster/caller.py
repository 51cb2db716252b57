"""A caller of our own beside the nodes: a container with addresses and routes that are only its."""

import ipaddress
import json
import re
from dataclasses import dataclass, field

from e2e import timing
from e2e.cluster.node import Node, family_of
from e2e.errors import ProbeBrokenError
from e2e.probe import CUT_OFF, FOREIGN, NO_ROUTE, REFUSED, SILENT, Reply
from e2e.probe.reply import reply_from
from e2e.provider.command import CommandFailedError
from e2e.provider.engine import Engine

LABEL = "nodeport-e2e/run"
# Far from where the engine begins to hand out addresses, and one block for each container.
ADDRESSES_EACH = 64
# What follows each answer that curl prints.
MARK = "<- "
END = " ->\n"
WRITE_OUT = f"{MARK}%{{exitcode}} %{{http_code}} %{{time_total}}{END}"
LOG = "@@@ log"
NO_CONNECTION = "7"
BY_CURL_CODE = {28: SILENT, 52: CUT_OFF, 55: CUT_OFF, 56: CUT_OFF, 18: CUT_OFF, 1: FOREIGN}
BY_WORDS = {
    "Connection refused": REFUSED,
    "No route to host": NO_ROUTE,
    "Host is unreachable": NO_ROUTE,
    "Network is unreachable": NO_ROUTE,
    "Connection timed out": SILENT,
}


@dataclass(frozen=True)
class CallerVantage:
    """One address of the container as a caller."""

    container: "Caller"
    name: str
    source: str

    def call(self, address: str, port: int) -> Reply:
        """Ask once, with curl."""
        return self.draw(address, port, 1)[0]

    def draw(self, address: str, port: int, times: int) -> list[Reply]:
        """Ask `times` times in a row, over fresh connections, in one run of curl."""
        host = f"[{address}]" if ":" in address else address
        said, _, log = self.container.execute(
            *("curl", "--silent", "--verbose", "--globoff", "--noproxy", "*"),
            *("--connect-timeout", f"{timing.ATTEMPT}", "--max-time", f"{2 * timing.ATTEMPT}"),
            *("--interface", self.source, "--header", "Connection: close"),
            *("--write-out", WRITE_OUT),
            *[f"http://{host}:{port}/hostname"] * times,
        ).partition(LOG)
        # curl names only in its log why it did not get a connection, one line each:
        # "connect to ... failed: ..." after a while, "... connect fail for ...: ..." at once.
        reasons = iter(re.findall(r" fail(?:ed| for \S+): (.*)", log))
        replies = []
        *answers, _ = said.split(END)
        for answer in answers:
            body, _, figures = answer.rpartition(MARK)
            code, status, took = figures.split()
            reason = next(reasons, "") if code == NO_CONNECTION else ""
            replies.append(self._reply(body, reason, code, status, float(took)))
        if len(replies) != times:
            raise ProbeBrokenError(f"{self.name}: curl ended with {(said + log)[-300:]!r}")
        return replies

    def _reply(self, body: str, reason: str, code: str, status: str, took: float) -> Reply:
        if code == "0":
            if status != "200":
                return Reply(FOREIGN, took, detail=f"HTTP status {status}")
            return reply_from(body, took)
        for words, outcome in BY_WORDS.items():
            if words in reason:
                return Reply(outcome, took)
        if int(code) in BY_CURL_CODE:
            return Reply(BY_CURL_CODE[int(code)], took)
        raise ProbeBrokenError(f"{self.name}: curl ended with {code} {reason!r}")


@dataclass
class Caller:
    """A container on the nodes' network."""

    engine: Engine
    id: str
    _own: dict[str, tuple[str, int]] = field(default_factory=dict)
    _used: dict[str, int] = field(default_factory=dict)

    @classmethod
    def start(cls, engine: Engine, network: str, image: str, run: str) -> "Caller":
        """Start it from an image that is there and has curl and ip, such as a node image."""
        options = ("--detach", "--network", network, "--label", f"{LABEL}={run}")
        process = ("--cap-add", "NET_ADMIN", "--entrypoint", "sleep", image, "infinity")
        return cls(engine, engine.run("run", *options, *process).strip())

    def stop(self) -> None:
        """Remove it."""
        self.engine.run("rm", "--force", "--volumes", self.id)

    def execute(self, *argv: str) -> str:
        """Run a program in it, however it ends; returns its output, LOG, and its errors."""
        script = f"log=$(mktemp); \"$@\" 2>$log; echo '{LOG}'; cat $log; rm $log"
        return self.engine.run("exec", self.id, "sh", "-c", script, "sh", *argv)

    def vantages(self, count: int, family: str) -> list[CallerVantage]:
        """Callers with an address of their own each."""
        sources = [self._new_address(family) for _ in range(count)]
        # Duplicate address detection would take a second.
        nodad = " nodad" if family == "IPv6" else ""
        self._ip(
            family, *(f"address add {self._single(source)} dev eth0{nodad}" for source in sources)
        )
        return [CallerVantage(self, f"caller {source}", source) for source in sources]

    def routing(self, to: str, *, via: Node) -> CallerVantage:
        """A caller with an address of its own, which routes the address `to` through a node."""
        family = family_of(to)
        (caller,) = self.vantages(1, family)
        table = 1000 + self._used[family]
        self._ip(
            family,
            f"route add {self._single(to)} via {via.addresses[family]} table {table}",
            f"rule add from {caller.source} lookup {table}",
        )
        return caller

    def _ip(self, family: str, *commands: str) -> None:
        """Run ip's commands in one go."""
        argv = ("ip", "-6" if family == "IPv6" else "-4", "-batch", "-")
        text = "".join(f"{command}\n" for command in commands)
        self.engine.run("exec", "--interactive", self.id, *argv, input=text)

    @staticmethod
    def _single(address: str) -> str:
        """An address as a network of its own."""
        return f"{address}/128" if ":" in address else f"{address}/32"

    def _new_address(self, family: str) -> str:
        if family not in self._own:
            self._own[family] = self._own_address(family)
        own, prefix = self._own[family]
        network = ipaddress.ip_network(f"{own}/{prefix}", strict=False)
        block = int(ipaddress.ip_address(own)) - int(network.network_address)
        used = self._used[family] = self._used.get(family, 0) + 1
        if used > ADDRESSES_EACH:
            raise ProbeBrokenError(f"a caller has {ADDRESSES_EACH} addresses at most")
        size = min(network.num_addresses, 1 << 32)
        number = size - 1 - block * ADDRESSES_EACH - used
        return str(network.network_address + number)

    def _own_address(self, family: str) -> tuple[str, int]:
        try:
            found = json.loads(self.engine.run("inspect", self.id))[0]["NetworkSettings"]
        except CommandFailedError as error:
            raise ProbeBrokenError(f"the caller's container is gone: {error}") from error
        network = next(iter(found["Networks"].values()))
        key, bits = (
            ("GlobalIPv6Address", "GlobalIPv6PrefixLen")
            if family == "IPv6"
            else ("IPAddress", "IPPrefixLen")
        )
        if not network[key]:
            raise ProbeBrokenError(f"the caller's network has no {family}")
        assert family_of(network[key]) == family
        return network[key], network[bits]
