"""A caller of our own beside the nodes: a container with addresses and routes that are only its."""

import ipaddress
import re
import shlex
import subprocess
from collections.abc import Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path

from e2e import timing
from e2e.cluster import curl
from e2e.cluster.node import Node, family_of
from e2e.errors import ProbeBrokenError
from e2e.probe import SILENT, Crowd, Reply
from e2e.probe.reply import reply_from
from e2e.probe.wire import CLIENT_PATH, IDENTITY_PATH
from e2e.provider.cache import cache_folder, only_one
from e2e.provider.engine import Engine

LABEL = "nodeport-e2e/run"
BLOCK_LABEL = "nodeport-e2e/block"
# One block of addresses for each caller, far from where the engine begins to hand them out.
ADDRESSES_EACH = 64
LEFT_TO_ENGINE = 32
# In what docker says of a network, and in what podman says.
SUBNET = re.compile(r'"subnet": *"([^"]+)"', re.IGNORECASE)
USED = re.compile(r'"(?:IPv[46]Address|ipnet|gateway)": *"([^"/]+)', re.IGNORECASE)
DONE = "@@@ done"
ANSWER = "/usr/local/bin/answer"


@dataclass(frozen=True)
class CallerVantage:
    """One address of the container as a caller.

    Attributes:
        container: has the address.
        name: what messages call it.
        source: the address; nothing for whichever the container itself takes.
        crowd: who is asked together with it.
    """

    container: "Caller"
    name: str
    source: str
    crowd: Crowd | None = None

    def call(self, address: str, port: int) -> Reply:
        """Ask once, with curl."""
        return self.draw(address, port, 1)[0]

    def draw(self, address: str, port: int, times: int, at_once: int = 1) -> list[Reply]:
        """Ask `times` times in a row, over fresh connections, in one run of curl.

        Ends with the first connection that fails.
        """
        del at_once
        paths = [IDENTITY_PATH] * times
        argv = curl.command(address, port, paths, source=self.source)
        said = curl.read(self.name, self.container.execute(*argv))
        replies = [curl.reply(self.name, each) for each in said]
        if len(replies) < times and said[-1].code == "0":
            raise ProbeBrokenError(f"{self.name}: curl ended after {len(replies)} of {times}")
        return replies

    def call_closely(self, address: str, port: int) -> Reply:
        """Ask who answers and as whom it sees this address, over one connection."""
        paths = (IDENTITY_PATH, CLIENT_PATH)
        argv = curl.command(address, port, paths, source=self.source, keep=True)
        return curl.close_reply(self.name, curl.read(self.name, self.container.execute(*argv)))

    def call_udp(self, address: str, port: int) -> Reply:
        """Ask once over UDP."""
        said, _, log = self.container.execute(*self.udp_command(address, port)).partition(curl.LOG)
        for words, outcome in curl.BY_WORDS.items():
            if words in log:
                return Reply(outcome)
        return reply_from(said, 0.0) if said.strip() else Reply(SILENT)

    def udp_command(self, address: str, port: int) -> Sequence[str]:
        """By socat, which says nothing of a refusal that it does not hear, and always waits."""
        host = f"[{address}]" if ":" in address else address
        source = f"[{self.source}]" if ":" in address else self.source
        kind = "UDP6" if ":" in address else "UDP4"
        ask = f"timeout {2 * timing.ATTEMPT} socat -t {timing.ATTEMPT}"
        return "sh", "-c", f"printf hostname | {ask} - {kind}:{host}:{port},bind={source}"


@dataclass
class Caller:
    """A container on the nodes' network.

    Attributes:
        engine: runs it.
        id: of the container.
        addresses: those that it may still take, by IP family.
    """

    engine: Engine
    id: str
    addresses: dict[str, list[str]] = field(default_factory=dict)
    _tables: int = 1000
    _has_no_loopback: bool = False
    # Idle ones. To enter a container costs more than a call from it, so they are kept.
    _shells: "list[subprocess.Popen[str]]" = field(default_factory=list)

    @classmethod
    def start(cls, engine: Engine, network: str, image: str, run: str) -> "Caller":
        """Start it from an image that is there and has curl and ip, such as a node image.

        Raises:
            ProbeBrokenError: the network is too small for one more caller.
        """
        # Who has started before is seen by its label, which outlives its process.
        with only_one(addresses_lock(), waiting=lambda: None, within=timing.COMMAND):
            network_says = engine.run("network", "inspect", network)
            subnets, used = SUBNET.findall(network_says), set(USED.findall(network_says))
            there = engine.run("ps", "--all", "--filter", f"label={BLOCK_LABEL}", "--format",
                               f'{{{{.Label "{BLOCK_LABEL}"}}}}')  # fmt: skip
            block, addresses = pick_block(subnets, used, set(map(int, there.split())))
            # It may send to loopback addresses of others, and hear from them; nodes must not mind.
            options = ("--detach", "--network", network, "--label", f"{LABEL}={run}",
                       "--label", f"{BLOCK_LABEL}={block}",
                       "--sysctl", "net.ipv4.conf.all.route_localnet=1")  # fmt: skip
            process = ("--cap-add", "NET_ADMIN", "--entrypoint", "sleep", image, "infinity")
            caller = cls(engine, engine.run("run", *options, *process).strip(), addresses)
        # Nodes remember for a while who had an address last, and would answer that one.
        mac = f"02:e2:e0:00:{block >> 8:02x}:{block & 0xFF:02x}"
        engine.run("exec", caller.id, "ip", "link", "set", "dev", "eth0", "address", mac)
        return caller

    def stop(self) -> None:
        """Remove it, and with it all that runs in it."""
        self.engine.run("rm", "--force", "--volumes", self.id)
        self.leave()

    def leave(self) -> None:
        """End the shells of this process in it."""
        for shell in self._shells:
            with shell:
                shell.kill()

    def execute(self, *argv: str) -> str:
        """Run a program in it, however it ends; returns its output, curl's LOG, and its errors.

        Raises:
            ProbeBrokenError: the container is gone.
        """
        try:
            shell = self._shells.pop()
        except IndexError:
            shell = self.engine.open_shell(self.id)
        assert shell.stdin is not None
        assert shell.stdout is not None
        log = "/tmp/log.$$"  # noqa: S108  # of the container
        script = (
            f"{shlex.join(argv)} 2>{log} </dev/null; "
            f"echo '{curl.LOG}'; cat {log}; rm {log}; printf '\\n{DONE}\\n'"
        )
        said = ""
        with suppress(OSError):  # what is left of a shell that is gone tells why
            shell.stdin.write(script + "\n")
            shell.stdin.flush()
        for line in shell.stdout:
            if line.strip() == DONE:
                self._shells.append(shell)
                return said
            said += line
        raise ProbeBrokenError(f"the caller {self.id[:12]} is gone: {said.strip()[-300:]}")

    def vantages(self, count: int, family: str) -> list[CallerVantage]:
        """Callers with an address of their own each.

        Raises:
            ProbeBrokenError: there are not so many addresses left.
        """
        left = self.addresses.get(family, [])
        if len(left) < count:
            raise ProbeBrokenError(f"a caller has only {len(left)} addresses of {family} left")
        sources = [left.pop(0) for _ in range(count)]
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
        self._tables += 1
        self._ip(
            family,
            f"route add {self._single(to)} via {via.addresses[family]} table {self._tables}",
            f"rule add from {caller.source} lookup {self._tables}",
        )
        return caller

    def serve(self, name: str, port: int) -> dict[str, str]:
        """Answer as an echo of this name at a port of own addresses, until it is removed.

        Returns:
            an address of each IP family.
        """
        self.engine.run("exec", "--interactive", self.id, "sh", "-c",
                        f"cat >{ANSWER}; chmod +x {ANSWER}", input=answer_as(name))  # fmt: skip
        served = {}
        for family in self.addresses:
            (at,) = self.vantages(1, family)
            where = (
                f"TCP6-LISTEN:{port},bind=[{at.source}]"
                if family == "IPv6"
                else (f"TCP4-LISTEN:{port},bind={at.source}")
            )
            self.engine.run("exec", "--detach", self.id, "socat",
                            f"{where},fork,reuseaddr,backlog=128", f"EXEC:{ANSWER}")  # fmt: skip
            served[family] = at.source
        return served

    def routing_loopback(self, *, via: Node) -> CallerVantage:
        """A caller that sends to a node what is for 127.0.0.1, as a malicious neighbour would."""
        if not self._has_no_loopback:
            self._ip("IPv4", "address delete 127.0.0.1/8 dev lo")
            self._has_no_loopback = True
        return self.routing("127.0.0.1", via=via)

    def _ip(self, family: str, *commands: str) -> None:
        """Run ip's commands in one go.

        Raises:
            ProbeBrokenError: ip does not take one of them.
        """
        lines = "".join(f"{command}\n" for command in commands)
        ip = f"printf %s {shlex.quote(lines)} | ip {'-6' if family == 'IPv6' else '-4'} -batch -"
        _, _, errors = self.execute("sh", "-c", ip).partition(curl.LOG)
        if errors.strip():
            raise ProbeBrokenError(f"the caller {self.id[:12]} is not set up: {errors.strip()}")

    @staticmethod
    def _single(address: str) -> str:
        """An address as a network of its own."""
        return f"{address}/128" if ":" in address else f"{address}/32"


def answer_as(name: str) -> str:
    """A shell script that reads one HTTP request and answers as an echo of this name."""
    answer = f"HTTP/1.0 200 OK\r\nContent-Length: {len(name)}\r\n\r\n{name}"
    # What is not read would end the connection by a reset before the answer is.
    return f"""#!/bin/sh
while IFS= read -r line && [ "${{#line}}" -gt 1 ]; do :; done
printf '%s' '{answer}'
"""


def addresses_lock() -> Path:
    """The file that whoever may take an address of the nodes' network locks meanwhile."""
    return cache_folder() / "callers.lock"


def pick_block(
    subnets: Sequence[str], used: Set[str], taken: Set[int]
) -> tuple[int, dict[str, list[str]]]:
    """The first free block of addresses, from the end of a network downwards.

    Args:
        subnets: the network's, one for each IP family.
        used: addresses that somebody has.
        taken: numbers of blocks that other callers have.

    Returns:
        the number of the block, and its addresses by IP family.

    Raises:
        ProbeBrokenError: no block is left, so the network is too small.
    """
    for number in count():
        block = {family_of(subnet): _block(subnet, number) for subnet in subnets}
        if not all(block.values()):
            raise ProbeBrokenError(
                f"the nodes' network {', '.join(subnets)} is too small for one more caller with "
                f"{ADDRESSES_EACH} addresses of its own"
            )
        if number not in taken and used.isdisjoint(chain(*block.values())):
            return number, block
    raise AssertionError("counting does not end")


def _block(subnet: str, number: int) -> list[str]:
    network = ipaddress.ip_network(subnet)
    # The last address of IPv4 is for broadcast.
    last = min(network.num_addresses, 1 << 32) - 2 - number * ADDRESSES_EACH
    if last - ADDRESSES_EACH < LEFT_TO_ENGINE:
        return []
    return [str(network[last - offset]) for offset in range(ADDRESSES_EACH)]
