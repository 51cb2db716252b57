"""Whether this machine has what it takes to make a cluster and to reach it."""

import gzip
import json
import platform
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from e2e.before.rows import FROM_BESIDE, Row, fails, failure, ok, warns
from e2e.cluster.beside import HOST
from e2e.errors import CannotRunError, StopError
from e2e.fixtures.settings import ROOM
from e2e.provider.cache import cache_folder, ensure_room
from e2e.provider.command import CommandFailedError
from e2e.provider.engine import Engine, refuse_to_install, withheld_capabilities
from e2e.provider.kind import NETWORK
from e2e.provider.kind_binary import find_kind
from e2e.provider.lane import Lane
from e2e.provider.node_image import find_local
from e2e.provider.node_image.build import ensure_possible
from e2e.provider.pins import read_pins

# What kube-proxy's modes ask of a kernel, any of those in a row. iptables is legacy or that of
# nftables; nftables mode is refused by kernels before 5.13 (KEP-3866).
NODES = (("NET_NS",), ("VETH",), ("BRIDGE",), ("OVERLAY_FS",), ("NF_CONNTRACK",))
MODES = {
    "iptables": (
        *(("IP_NF_IPTABLES", "NFT_COMPAT"), ("NETFILTER_XT_MATCH_STATISTIC",)),
        *(("NETFILTER_XT_MATCH_RECENT",), ("NETFILTER_XT_MATCH_ADDRTYPE",)),
        *(("NETFILTER_XT_MATCH_CONNTRACK",), ("NETFILTER_XT_MATCH_COMMENT",)),
    ),
    "nftables": (
        *(("NF_TABLES",), ("NFT_NUMGEN",), ("NFT_MASQ",), ("NFT_NAT",)),
        *(("NFT_CT",), ("NFT_REJECT",), ("NFT_FIB_INET",)),
    ),
}
NFTABLES_SINCE = (5, 13)
# Those of linux/capability.h that nodes of kind are known to use.
CAPABILITIES = {
    12: "CAP_NET_ADMIN",
    13: "CAP_NET_RAW",
    21: "CAP_SYS_ADMIN",
    23: "CAP_SYS_NICE",
    24: "CAP_SYS_RESOURCE",
}
# Of one node of kind, as seen on one that is idle; a worker has 23.
INOTIFY_INSTANCES = 36
# A thousand connections a clause, several clauses at once, each port in use for a minute more.
CALLERS_PORTS = 10_000
# What a node image that has to be built takes, in GB, and one that is pulled, in the engine.
BUILT, PULLED = 12, 3


def rows(lane: Lane, engine: Engine | None, out: Path, outside: str) -> Iterator[Row]:
    """Look at everything that a run of this lane needs here; changes nothing."""
    yield _engine(engine)
    yield from _kind(lane, engine)
    yield from _disk(engine, out)
    if platform.system() == "Linux":
        yield _cgroup()
        yield _capabilities(engine)
        yield _kernel(lane)
        yield _inotify(lane)
        yield _callers_ports()
    else:
        said = f"this is {platform.system()}, so nodes run in the engine's virtual machine"
        yield warns("kernel", said, "nothing, if a cluster comes up: it cannot be seen from here")
    yield _host_ports(lane)
    if engine:
        yield _network(engine, outside)


def _engine(engine: Engine | None) -> Row:
    if engine:
        return ok("engine", f"{engine.command} {engine.version} answers")
    try:
        refuse_to_install()
    except StopError as error:
        return failure("engine", error)
    there = shutil.which("dockerd")
    said = "Docker is installed and not started" if there else "neither Docker nor Podman is here"
    do = "nothing: a run starts it" if there else "nothing: a run installs Docker, and starts it"
    return warns("engine", said, do)


def _kind(lane: Lane, engine: Engine | None) -> Iterator[Row]:
    program, said = find_kind()
    how = "builds it with Go" if shutil.which("go") else "downloads it"
    yield ok("kind", said) if program else warns("kind", said, f"nothing: a run {how}")
    if engine is None:
        return
    if local := find_local(lane.version, engine):
        yield ok("node image", f"{local.reference} is here ({local.why})")
        return
    pulls = f"a run pulls kindest/node:{lane.version}"
    try:
        ensure_possible(read_pins())
        do = f"nothing: {pulls}, or builds one, which takes minutes"
    except CannotRunError as error:
        do = f"{pulls}; it could not build one: {error.what}"
    yield warns("node image", f"none of {lane.version} is here", do)


def _disk(engine: Engine | None, out: Path) -> Iterator[Row]:
    wanted: list[tuple[str, Path, float, str]] = [
        ("results", out, ROOM, "E2E_OUT"),
        ("cache", cache_folder(), ROOM, "E2E_CACHE"),
    ]
    if engine and engine.command == "docker":
        root = Path(_of_engine(engine).get("DockerRootDir") or "/nowhere")
        # In the virtual machine of an engine it is no folder of this one.
        wanted += [("images", root, PULLED, "")] if root.is_dir() else []
    for name, folder, gigabytes, variable in wanted:
        what = f"disk: {name}"
        try:
            ensure_room(folder, gigabytes=gigabytes, what="a run", variable=variable)
        except CannotRunError as error:
            full = f"free some space, such as by: {engine and engine.command} image prune"
            yield failure(what, error) if variable else warns(what, error.what, full)
        else:
            yield ok(what, f"there is room in {folder}")
    try:
        ensure_room(cache_folder(), gigabytes=BUILT, what="a node image that has to be built")
    except CannotRunError as error:
        yield warns("disk: building", error.what, error.do)


def _cgroup() -> Row:
    if Path("/sys/fs/cgroup/cgroup.controllers").exists():
        return ok("cgroup", "version 2")
    do = "nothing: nodes are told to bear it, as Kubernetes 1.35 and later refuse it otherwise"
    return warns("cgroup", "version 1", do)


def _capabilities(engine: Engine | None) -> Row:
    if not (withheld := withheld_capabilities()):
        return ok("capabilities", "none is withheld from this machine")
    if engine:
        do = "nothing, if nodes come up; else stop that engine and let a run start its own"
    else:
        do = "nothing: an engine that a run starts asks for no more than there is"
    names = [CAPABILITIES.get(n, str(n)) for n in range(64) if withheld >> n & 1]
    said = f"this machine withholds some even from root: {', '.join(names)}"
    return warns("capabilities", said, do)


def _kernel(lane: Lane) -> Row:
    release = platform.release()
    numbers = tuple(map(int, re.findall(r"\d+", release)[:2]))
    if lane.proxy == "nftables" and numbers < NFTABLES_SINCE:
        said = f"{release}; kube-proxy's mode nftables needs 5.13 or newer"
        return fails("kernel", said, "use PROXY=iptables, or a newer kernel")
    config = _kernel_config(release)
    if config is None:
        do = "nothing, if a cluster comes up; modprobe what its logs find missing"
        return warns("kernel", f"{release}; how it was built cannot be read", do)
    has = set(re.findall(r"^CONFIG_(\w+)=[ym]$", config, re.MULTILINE))
    families = () if lane.family == "ipv4" else (("IPV6",),)
    missing = _missing((*NODES, *MODES[lane.proxy], *families), has)
    if missing:
        do = "use another kernel" + (", or FAMILY=ipv4" if missing == ["IPV6"] else "")
        return fails("kernel", f"{release} was built without {', '.join(missing)}", do)
    others = {name: _missing(rows, has) for name, rows in MODES.items() if name != lane.proxy}
    less = [f"{name} ({', '.join(lacks)})" for name, lacks in others.items() if lacks]
    if less:
        said = f"{release} has what this lane needs, and not all of {', '.join(less)}"
        return warns("kernel", said, "nothing, unless you want that lane")
    return ok("kernel", f"{release} has what {' and '.join(MODES)} mode need")


def _missing(rows: tuple[tuple[str, ...], ...], has: set[str]) -> list[str]:
    return [" or ".join(any_of) for any_of in rows if not has.intersection(any_of)]


def _kernel_config(release: str) -> str | None:
    """How the kernel was built, from wherever it is told; None if nowhere."""
    for file in (Path("/proc/config.gz"), Path(f"/boot/config-{release}"),
                 Path(f"/lib/modules/{release}/config")):  # fmt: skip
        try:
            return (
                gzip.decompress(file.read_bytes()).decode()
                if file.suffix == ".gz"
                else (file.read_text())
            )
        except OSError:
            continue
    return None


def _inotify(lane: Lane) -> Row:
    limit = int(Path("/proc/sys/fs/inotify/max_user_instances").read_text())
    nodes = len(_kind_config(lane).get("nodes") or [{}])
    needed = nodes * INOTIFY_INSTANCES
    said = f"{limit} instances a user; {nodes} nodes take about {needed}"
    if limit >= 2 * needed:
        return ok("inotify", said)
    return warns("inotify", said, "should nodes not come up, or beside other clusters: "
                 "sysctl -w fs.inotify.max_user_instances=1024")  # fmt: skip


def _callers_ports() -> Row:
    first, last = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    count = int(last) - int(first) + 1
    said = f"{count} ports to call from ({first} to {last})"
    if count >= CALLERS_PORTS:
        return ok("ports: callers", said)
    return warns("ports: callers", said, "sysctl -w net.ipv4.ip_local_port_range='32768 60999'")


def _host_ports(lane: Lane) -> Row:
    """Whether the ports of this machine that a shape maps to nodes are free."""
    mapped = [
        (str(each.get("listenAddress") or "0.0.0.0"), int(each["hostPort"]))  # noqa: S104  # kind's
        for node in _kind_config(lane).get("nodes") or []
        for each in node.get("extraPortMappings") or []
        if each.get("hostPort")
    ]
    taken = [f"{address}:{port}" for address, port in mapped if not _is_free(address, port)]
    if taken:
        do = "free them, or choose other hostPorts in the shape; a cluster that is kept has its own"
        return warns("ports: nodes", f"{', '.join(taken)} of the shape are taken", do)
    return ok("ports: nodes", f"{len(mapped)} are mapped by the shape {lane.shape}, all free")


def _is_free(address: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as asked:
        asked.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            asked.bind((address, port))
        except OSError:
            return False
    return True


def _network(engine: Engine, outside: str) -> Row:
    """Whether this machine is where the nodes' network is: it has the address of its gateway."""
    what = "nodes' network"
    system = str(_of_engine(engine).get("OperatingSystem", ""))
    for name in (NETWORK, "bridge", "podman"):
        try:
            (found,) = json.loads(engine.run("network", "inspect", name))
        except (CommandFailedError, ValueError):
            continue
        gateways = re.findall(r'"gateway": *"([^"/]+)"', json.dumps(found), re.IGNORECASE)
        if any(_is_own(gateway) for gateway in gateways):
            return ok(what, f"this machine is {gateways[0]} in it, so it reaches nodes")
        if gateways and name == NETWORK:
            break
    if "Docker Desktop" in system or platform.system() != "Linux":
        said = f"it is inside of {system or 'a virtual machine'}, out of reach"
        if outside == HOST:
            return fails(what, said, "leave E2E_OUTSIDE=host out, or run this on Linux")
        return warns(what, said, FROM_BESIDE)
    do = "nothing, if a run goes on: it asks each node before the first clause"
    return warns(what, "this machine has no address in it that is known", do)


def _is_own(address: str) -> bool:
    """Whether this machine has an address: only then may one listen there."""
    return _is_free(address, 0)


def _of_engine(engine: Engine) -> dict[str, Any]:
    try:
        said = json.loads(engine.run("info", "--format", "{{json .}}"))
    except (CommandFailedError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def _kind_config(lane: Lane) -> dict[str, Any]:
    return dict(yaml.safe_load(lane.kind_config()))
