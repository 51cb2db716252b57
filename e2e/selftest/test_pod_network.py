"""The pod network's script on a node, with programs that only look like kubectl, ip and nft."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e.provider.node_image.parts import FILES
from e2e.wait import wait_until

# Seconds on a busy machine.
LONG = 60
# An `ip` that keeps routes in a file, as far as the script uses it.
IP = """#!/bin/bash
family="${1#-}"; shift
case "$1 $2" in
"route replace")
    shift 2; line="$*"
    key="${line#unreachable }"; key="${key%% *}"
    grep -v "^$family [a-z ]*$key " "$ROUTES" > "$ROUTES.new"; mv "$ROUTES.new" "$ROUTES"
    echo "$family $line" >> "$ROUTES" ;;
"route del")
    grep -v "^$family [a-z ]*$3 " "$ROUTES" > "$ROUTES.new"; mv "$ROUTES.new" "$ROUTES" ;;
"route show")
    if [[ "$3" == proto ]]; then grep "^$family .*proto $4" "$ROUTES" | cut -d' ' -f2-
    elif [[ "$family" == 4 ]]; then echo "default via 172.18.0.1 dev lo"; fi ;;
esac
exit 0
"""
# A `kubectl` that lists what a file says, and watches by following another.
KUBECTL = """#!/bin/bash
echo "$*" >> "$CALLS"
case "$*" in
*--watch*) exec tail -n +1 -f "$EVENTS" ;;
*) cat "$NODES" ;;
esac
"""
BOTH = """one|10.244.0.0/24 fd00:10:244::/64|172.18.0.2 fc00::2
two|10.244.1.0/24 fd00:10:244:1::/64|172.18.0.3 fc00::3
"""


class Node:
    """A node on which the script runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.configuration = folder / "cni/10-pod-network.conflist"
        for name in ("routes", "nodes", "events", "calls", "nft"):
            (folder / name).touch()
        (folder / "cni").mkdir()
        (folder / "bin").mkdir()
        programs = {"ip": IP, "kubectl": KUBECTL, "nft": '#!/bin/sh\ncat >> "$NFT"\n'}
        for name, text in programs.items():
            (folder / "bin" / name).write_text(text)
            (folder / "bin" / name).chmod(0o755)
        script = (FILES / "pod-network.sh").read_text()
        script = script.replace("/etc/cni/net.d", str(folder / "cni"))
        (folder / "script").write_text(script)
        self.process: subprocess.Popen[bytes] | None = None

    def set_nodes(self, text: str) -> None:
        (self.folder / "nodes").write_text(text)
        with (self.folder / "events").open("a") as file:
            file.write("node/changed\n")

    def run(self, subnets: str, **more: str) -> None:
        files = {name.upper(): str(self.folder / name) for name in ("routes", "nodes", "events")}
        self.process = subprocess.Popen(
            ["bash", self.folder / "script"],
            env={
                **files,
                "CALLS": str(self.folder / "calls"),
                "NFT": str(self.folder / "nft"),
                "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
                "TMPDIR": str(self.folder),
                "NODE_NAME": "one",
                "POD_SUBNET": subnets,
                "KUBERNETES_SERVICE_HOST": "10.96.0.1",
                "KUBERNETES_SERVICE_PORT": "443",
                **more,
            },
            start_new_session=True,
        )

    def routes(self) -> set[str]:
        return set((self.folder / "routes").read_text().splitlines())

    def await_routes(self, *wanted: str) -> None:
        expected = {f"{route} proto 86" for route in wanted}
        wait_until(
            lambda: self.routes() == expected,
            what="the routes",
            within=LONG,
            every=0.05,
            seen=lambda: str(self.routes() ^ expected),
        )


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path)
    yield node
    if node.process and node.process.poll() is None:
        os.killpg(node.process.pid, signal.SIGKILL)
        node.process.wait()


def await_file(file: Path) -> Callable[[], bool]:
    return lambda: file.exists() and bool(file.read_text())


def test_both_families(node: Node) -> None:
    node.set_nodes(BOTH)
    node.run("10.244.0.0/16,fd00:10:244::/56", CONTROL_PLANE_ENDPOINT="kind-control-plane:6443")
    node.await_routes(
        "4 unreachable 10.244.0.0/16",
        "4 unreachable 10.244.0.0/24",
        "4 10.244.1.0/24 via 172.18.0.3",
        "6 unreachable fd00:10:244::/56",
        "6 unreachable fd00:10:244::/64",
        "6 fd00:10:244:1::/64 via fc00::3",
    )
    wait_until(await_file(node.configuration), what="the configuration", within=LONG)
    plugins = json.loads(node.configuration.read_text())["plugins"]
    assert plugins[0]["ipam"]["ranges"] == [
        [{"subnet": "10.244.0.0/24"}],
        [{"subnet": "fd00:10:244::/64"}],
    ]
    assert plugins[0]["ipam"]["routes"] == [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
    assert plugins[0]["mtu"] == int(Path("/sys/class/net/lo/mtu").read_text())
    rules = (node.folder / "nft").read_text()
    assert "ip saddr 10.244.0.0/16 ip daddr != 10.244.0.0/16 masquerade" in rules
    assert "ip6 saddr fd00:10:244::/56 ip6 daddr != fd00:10:244::/56 masquerade" in rules
    assert "server: https://kind-control-plane:6443" in (node.folder / "kubeconfig").read_text()


def test_a_node_that_comes_and_one_that_goes(node: Node) -> None:
    one = "one|10.244.0.0/24|172.18.0.2\n"
    node.set_nodes(one + "two|10.244.1.0/24|172.18.0.3\n")
    node.run("10.244.0.0/16")
    own = ("4 unreachable 10.244.0.0/16", "4 unreachable 10.244.0.0/24")
    node.await_routes(*own, "4 10.244.1.0/24 via 172.18.0.3")
    node.set_nodes(one + "three|10.244.2.0/24|172.18.0.9\n")
    node.await_routes(*own, "4 10.244.2.0/24 via 172.18.0.9")


def test_a_node_without_a_range_waits_for_one(node: Node) -> None:
    node.set_nodes("one||172.18.0.2\n")
    node.run("10.244.0.0/16")
    node.await_routes("4 unreachable 10.244.0.0/16")
    assert not node.configuration.exists()
    node.set_nodes("one|10.244.0.0/24|172.18.0.2\n")
    wait_until(await_file(node.configuration), what="the configuration", within=LONG)


def test_without_an_endpoint_the_service_is_asked(node: Node) -> None:
    node.set_nodes("one|10.244.0.0/24|172.18.0.2\n")
    node.run("10.244.0.0/16")
    wait_until(await_file(node.folder / "kubeconfig"), what="the kubeconfig", within=LONG)
    assert "server: https://10.96.0.1:443" in (node.folder / "kubeconfig").read_text()


def test_it_ends_when_it_is_told_to(node: Node) -> None:
    node.set_nodes("one|10.244.0.0/24|172.18.0.2\n")
    node.run("10.244.0.0/16")
    calls = node.folder / "calls"
    wait_until(lambda: "--watch" in calls.read_text(), what="the watch", within=LONG)
    assert node.process is not None
    node.process.send_signal(signal.SIGTERM)
    assert node.process.wait(timeout=LONG) == 0
