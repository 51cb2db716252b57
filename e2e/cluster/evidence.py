"""Saves what can be known about a failure, before anything of it is deleted."""

import shlex
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import yaml

from e2e.cluster.api import Api, ApiRefusedError
from e2e.cluster.namespace import of_run
from e2e.cluster.node import Node
from e2e.errors import StopError
from e2e.provider.engine import Engine

KINDS = ("Pod", "Service", "EndpointSlice", "Event")
LOG_LINES = 200
# Of the node's own network and of each of its pods'.
COUNTERS = """
for net in "" $(ip netns | cut -d" " -f1); do
    at=${net:+ip netns exec $net}
    echo "== ${net:-the node}"
    $at ip -o address show eth0 scope global
    $at grep -hE "^Udp(6In|6Rcv|6NoP|:)" /proc/net/snmp /proc/net/snmp6
    $at ip -s link show eth0
    $at cat /proc/net/stat/nf_conntrack
done
echo "== all networks of the machine"
cat /proc/net/softnet_stat
"""
STATE = {
    "iptables.txt": "iptables-save",
    "ip6tables.txt": "ip6tables-save",
    "nftables.txt": "nft list ruleset",
    # A connection that is known keeps its pod, whatever the rules say now. There are thousands
    # that have ended well.
    "conntrack.txt": "sh -c 'conntrack -L | grep -v TIME_WAIT || true'",
    "routes.txt": "ip route show table all",
    # Who lost a packet: a pod that did not read in time, a full queue, connection tracking.
    "counters.txt": shlex.join(["sh", "-c", COUNTERS]),
}


def save(
    folder: Path,
    table: str,
    *,
    api: Api,
    run: str,
    nodes: Sequence[Node],
    engine: Engine | None,
) -> None:
    """Save the table, the objects of a run, and what each node knows.

    That is kube-proxy's log, the rules, the connections that are known, the routes, and what was
    counted, lost packets too.

    Args:
        folder: where to; made if it is not there.
        table: what the clause printed.
        api: the cluster.
        run: whose namespaces are saved.
        nodes: whose kube-proxy and state are saved.
        engine: runs the nodes; without one no node's state is saved.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.txt").write_text(table + "\n")

    def keep(name: str, give: Callable[[], str]) -> None:
        try:
            text = give()
        except (StopError, ApiRefusedError) as error:
            text = f"could not be read: {error}"
        (folder / name).write_text(text)

    def objects(kind: str) -> str:
        # Of the whole cluster they may be hundreds of megabytes, and each failure asks for them.
        found = [item for name in of_run(api, run) for item in api.find_all(kind, name)]
        return yaml.safe_dump_all(found, sort_keys=False)

    for kind in KINDS:
        keep(f"{kind.lower()}s.yaml", partial(objects, kind))
    try:
        proxies = api.find_all("Pod", "kube-system", **{"k8s-app": "kube-proxy"})
    except ApiRefusedError:
        proxies = []  # whoever may not list them may not read their logs
    for pod in proxies:
        name, node = pod["metadata"]["name"], pod["spec"].get("nodeName")
        keep(f"kube-proxy.{node}.log", partial(api.logs, name, "kube-system", lines=LOG_LINES))
    if engine is None:
        return
    for node in nodes:
        for file, command in STATE.items():
            argv = ("exec", node.name, *shlex.split(command))
            keep(f"{node}.{file}", partial(engine.run, *argv))
