"""The lease of a kind cluster: who makes it, who shares it, who removes it, whatever happens."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from e2e import timing
from e2e.errors import CannotRunError, InUseError, RefusedError, UsageError
from e2e.provider import kind
from e2e.provider.engine import Engine
from e2e.provider.lane import Lane
from e2e.provider.steps import Steps
from e2e.provider.wellness import FORBIDDEN
from e2e.selftest.programs import CHECKOUT, only_path, put
from e2e.upgrade.site import site
from e2e.wait import wait_until

NAME = "nodeport-e2e-test"
LANE = Lane("v1.37.2")
USERS_OWN = "current-context: production\n"

# kind, as far as it is asked here: a cluster is a folder, with a file that lists its nodes. Like
# the real one it writes the user's kubeconfig unless it is told another.
KIND = """\
#!/bin/sh
state=@STATE@
echo "kind $*" >>$state/calls
kubeconfig=${KUBECONFIG:-$HOME/.kube/config}
for word in "$@"; do
  case $word in
    --name=*) name=${word#*=} ;;
    --kubeconfig=*) kubeconfig=${word#*=} ;;
    --config=*) cat "${word#*=}" >$state/config ;;
  esac
done
cluster=$state/clusters/$name
mkdir -p "$(dirname "$kubeconfig")"
case "$1 $2" in
  "get clusters") ls $state/clusters ;;
  "get nodes") cat $cluster/nodes ;;
  "create cluster")
    if [ -d $cluster ]; then echo "ERROR: node(s) already exist" >&2; exit 1; fi
    mkdir $cluster
    rm -f $state/stopped
    : >$state/network
    echo " • Preparing nodes 📦  ..."
    if [ -e $state/hangs ]; then : >$state/hanging; sleep 60; fi
    if [ -e $state/fails ]; then echo "ERROR: failed to init node" >&2; exit 1; fi
    printf '%s\\n' $name-control-plane $name-worker >$cluster/nodes
    cat $state/kubeconfig >"$kubeconfig" ;;
  "export kubeconfig") [ -d $cluster ] && cat $state/kubeconfig >"$kubeconfig" ;;
  "export logs") mkdir -p "$3/node" && echo "it says why" >"$3/node/kubelet.log" ;;
  "delete cluster")
    while [ -e $state/deletes-slowly ]; do : >$state/deleting; sleep 0.05; done
    rm -rf $cluster; echo "nothing: here" >>"$kubeconfig" ;;
  *) exit 1 ;;
esac
"""
# docker, likewise: the network of kind is a file, and each cluster uses it. What the control plane
# answers is the first of the files in `answers`, once, and then `objects`.
DOCKER = """\
#!/bin/sh
state=@STATE@
echo "docker $*" >>$state/calls
case "$*" in
  "network ls --format {{.Name}}") echo bridge; if [ -e $state/network ]; then echo kind; fi ;;
  "network rm kind") rm $state/network ;;
  "ps -aq --filter network=kind") ls $state/clusters; cat $state/others ;;
  "ps --all --quiet --filter label=io.x-k8s.kind.cluster="*)
    name=${5##*=}
    if [ -e $state/clusters/$name ]; then echo c-$name w-$name; fi ;;
  "inspect c-"*)
    if [ -e $state/stopped ]; then is=exited; else is=running; fi
    for each in $2=control-plane $3=worker; do
      role=${each#*=}; name=${each%%=*}; comma=$(test $role = worker && echo ,)
      echo "${comma:-[}"
      echo '{"Name": "/'${name#?-}-$role'",'
      echo ' "Config": {"Labels": {"io.x-k8s.kind.role": "'$role'"}},'
      echo ' "State": {"Status": "'$is'", "StartedAt": "'$(cat $state/started)'"}}'
    done
    echo "]" ;;
  "start "*)
    if [ -e $state/cannot-start ]; then echo "port is already allocated" >&2; exit 1; fi
    rm $state/stopped ;;
  "image inspect --format {{.Id}} "*) cat $state/image ;;
  "exec $(ls $state/clusters)-control-plane sh -c "*kubectl*)
    echo 2026-11-25T12:00:00Z
    for answer in $state/answers/* $state/objects; do
      if [ -e $answer ]; then
        cat $answer
        if [ $answer != $state/objects ]; then rm $answer; fi
        exit
      fi
    done ;;
  "exec $(ls $state/clusters)-control-plane kubectl "*" get namespace kube-system --output=json")
    if [ -e $state/forbids ]; then labels='"e2e.nodeport/forbidden": "yes"'; fi
    echo '{"metadata": {"labels": {'"$labels"'}}}' ;;
  "exec $(ls $state/clusters)-"*" sh -ec ip -"*" route replace unreachable "*) ;;
  *) echo "what is $*?" >&2; exit 1 ;;
esac
"""
STARTED = "2026-11-25T11:00:00.5Z"
# A process that takes a lease, says so, and leaves when it is told to.
TENANT = """
import signal, sys
from pathlib import Path
from e2e.errors import StopError
from e2e.provider import kind
from e2e.provider.engine import Engine
from e2e.provider.lane import Lane
from e2e.provider.steps import Steps

signal.signal(signal.SIGINT, signal.default_int_handler)
program, name, keep = sys.argv[1:]
tools = kind.Tools(Engine("docker", ""), Path(program), "kindest/node:v1.37.2")
how = {"name": name, "keep": keep == "keep", "evidence": Path("evidence")}
try:
    with kind.lease(Lane("v1.37.2"), tools, Steps(), **how):
        print("in", flush=True)
        sys.stdin.readline()
    print("out")
except StopError as error:
    print(type(error).__name__, error.what)
except KeyboardInterrupt:
    print("interrupted")
"""


def objects(*, name: str = NAME, **other: object) -> str:
    """What the API server of a cluster that is well says, or one whose worker is otherwise."""
    items = []
    for node in (f"{name}-control-plane", f"{name}-worker"):
        ready = {
            "type": "Ready",
            "status": "True",
            "message": "it is posting",
            "lastHeartbeatTime": "2026-11-25T11:58:00Z",
        }
        if node.endswith("worker"):
            ready |= other
        lease = {"renewTime": "2026-11-25T11:59:55.000000Z", "leaseDurationSeconds": 40}
        items += [
            {
                "kind": "Node",
                "metadata": {"name": node},
                "spec": {},
                "status": {"conditions": [ready]},
            },
            {
                "kind": "Lease",
                "metadata": {"name": node, "namespace": "kube-node-lease"},
                "spec": lease,
            },
        ]
    return json.dumps({"items": items})


@dataclass
class Machine:
    """A machine with a kind and a docker that only look like those."""

    state: Path
    program: Path
    tenants: list["subprocess.Popen[str]"] = field(default_factory=list)

    @property
    def clusters(self) -> list[str]:
        return sorted(path.name for path in (self.state / "clusters").iterdir())

    @property
    def network(self) -> bool:
        return (self.state / "network").exists()

    def has(self, fact: str) -> bool:
        return (self.state / fact).exists()

    def let(self, fact: str, *, be: bool = True) -> None:
        (self.state / fact).touch() if be else (self.state / fact).unlink()

    def asked(self, what: str) -> list[str]:
        calls = self.state / "calls"
        every = calls.read_text().splitlines() if calls.exists() else []
        return [call for call in every if call.startswith(what)]

    def run_kind(self, *argv: str) -> None:
        subprocess.run([self.program, *argv], check=True, stdout=subprocess.DEVNULL)

    @contextmanager
    def lease(
        self, lane: Lane = LANE, *, keep: bool = False, breaks: str = ""
    ) -> Iterator[kind.Cluster]:
        tools = kind.Tools(Engine("docker", ""), self.program, "kindest/node:v1.37.2")
        how = {"name": NAME, "keep": keep, "evidence": Path("evidence"), "breaks": breaks}
        with kind.lease(lane, tools, Steps(quiet=True), **how) as cluster:
            yield cluster

    def tenant(self, *, keep: bool = False) -> "subprocess.Popen[str]":
        """Start a process that takes a lease; it leaves when it reads a line."""
        argv = [sys.executable, "-c", TENANT, str(self.program), NAME, "keep" if keep else "-"]
        process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.tenants.append(process)
        return process

    def answer(self, *answers: str) -> None:
        """Let the control plane give these answers, one after another, before the usual one."""
        for number, answer in enumerate(answers):
            (self.state / "answers" / f"{number:03}").write_text(answer)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    state = tmp_path / "state"
    (state / "clusters").mkdir(parents=True)
    (state / "others").touch()
    (tmp_path / "home" / ".kube").mkdir(parents=True)
    (tmp_path / "home" / ".kube" / "config").write_text(USERS_OWN)
    (tmp_path / "work").mkdir()
    folder = only_path(tmp_path / "bin")
    program = put(folder, "kind", KIND.replace("@STATE@", str(state)))
    put(folder, "docker", DOCKER.replace("@STATE@", str(state)))
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("E2E_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(CHECKOUT))
    for name in ("KUBECONFIG", "KIND_EXPERIMENTAL_PROVIDER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path / "work")
    (state / "answers").mkdir()
    (state / "objects").write_text(objects())
    (state / "started").write_text(STARTED)
    (state / "image").write_text("sha256:1234\n")
    kubeconfig = {
        "current-context": f"kind-{NAME}",
        "contexts": [{"name": f"kind-{NAME}", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {}}],
    }
    (state / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
    machine = Machine(state, program)
    yield machine
    for tenant in machine.tenants:
        tenant.kill()
        tenant.communicate()
    assert (tmp_path / "home" / ".kube" / "config").read_text() == USERS_OWN


def told(tenant: "subprocess.Popen[str]") -> str:
    return tenant.stdout.readline().strip()


def leave(tenant: "subprocess.Popen[str]") -> str:
    """Tell a tenant to leave, and give what it said after that."""
    said, _ = tenant.communicate("leave\n", timeout=60)
    return said.strip()


def await_fact(machine: Machine, fact: str) -> None:
    wait_until(lambda: machine.has(fact), what=f"the fact {fact}", within=60, every=0.01)


def test_a_cluster_is_made_for_the_lease_and_removed_after_it(machine):
    """The first lease makes the cluster of its lane and the last one leaves no trace of it."""
    with machine.lease() as cluster:
        assert machine.clusters == [NAME]
        assert cluster.kubeconfig_path == Path.cwd() / ".pytest-kind" / NAME / "kubeconfig"
        assert cluster.kubeconfig_path.exists()
        config = yaml.safe_load((machine.state / "config").read_text())
        assert config["networking"] == {"kubeProxyMode": "iptables", "ipFamily": "ipv4"}
        (created,) = machine.asked("kind create cluster")
        assert "--image=kindest/node:v1.37.2" in created

    assert machine.clusters == []
    assert not machine.network
    assert list(Path.cwd().iterdir()) == []
    assert not kind.Record.file(NAME).exists()


@pytest.mark.parametrize("family", kind.IP_FLAGS)
def test_packets_to_documentation_networks_end_at_the_nodes(machine, family):
    """Each node gets an unreachable route for addresses that nobody has, at each lease."""
    lane = Lane("v1.37.2", family=family)
    for _ in range(2):
        with machine.lease(lane, keep=True):
            pass

    routes = machine.asked(f"docker exec {NAME}-worker sh -ec")
    assert len(routes) == 2
    for route in routes:
        assert ("ip -4 route replace unreachable 192.0.2.0/24" in route) == (family != "ipv6")
        assert ("ip -6 route replace unreachable 2001:db8::/32" in route) == (family != "ipv4")


def test_several_processes_share_one_cluster(machine):
    """Of several processes one makes the cluster, all use it, and the last to leave removes it."""
    tenants = [machine.tenant() for _ in range(3)]

    assert [told(tenant) for tenant in tenants] == ["in"] * 3
    assert len(machine.asked("kind create")) == 1
    for tenant in tenants[:2]:
        assert leave(tenant) == "out"
        assert machine.clusters == [NAME]
        assert machine.asked("kind delete") == []
    assert leave(tenants[2]) == "out"
    assert machine.clusters == []
    assert len(machine.asked("kind delete")) == 1


def test_who_holds_a_cluster_keeps_it_between_leases(machine):
    """A run that holds the cluster, as the controller of several workers does, is a user too."""
    with kind.hold(NAME, Steps(quiet=True)):
        with machine.lease():
            pass
        assert machine.clusters == [NAME]
        with machine.lease():
            assert len(machine.asked("kind create")) == 1

    assert machine.clusters == []


def test_holding_a_cluster_that_is_not_there_does_nothing(machine):
    """A hold makes no cluster and removes none."""
    with kind.hold(NAME, Steps(quiet=True)):
        pass

    assert machine.asked("") == []


def test_a_cluster_that_was_found_is_never_removed(machine):
    """A cluster that somebody else made is used with its own kubeconfig, and stays."""
    machine.run_kind("create", "cluster", f"--name={NAME}", "--kubeconfig=theirs")

    with machine.lease() as cluster:
        assert cluster.kubeconfig_path.exists()
    kind.sweep(Steps(quiet=True))

    assert machine.clusters == [NAME]
    assert machine.network
    assert len(machine.asked("kind create")) == 1


def test_of_kept_clusters_the_one_that_is_named_is_removed(machine):
    """Others are of other checkouts, and stay."""
    with machine.lease(keep=True):
        pass
    kind.sweep(Steps(quiet=True), "another")
    assert machine.clusters == [NAME]

    kind.sweep(Steps(quiet=True), NAME)
    assert machine.clusters == []


def test_a_cluster_is_kept_for_the_next_lease(machine):
    """With `keep` the cluster stays, the next lease takes it, and it stays kept after that one."""
    with machine.lease(keep=True):
        pass
    assert machine.clusters == [NAME]

    with machine.lease() as cluster:
        assert cluster.api.url.startswith("http://127.0.0.1:")

    assert machine.clusters == [NAME]
    assert len(machine.asked("kind create")) == 1


def test_any_user_may_keep_the_cluster(machine):
    """If one of several users asks to keep it, it is kept, whoever made it and whoever is last."""
    with machine.lease(), machine.lease(keep=True):
        pass

    assert machine.clusters == [NAME]


def test_a_kept_cluster_of_another_lane_is_not_taken(machine):
    """A cluster of that name but of another configuration is an error that names both; it stays."""
    with machine.lease(keep=True):
        pass

    with pytest.raises(UsageError) as caught, machine.lease(Lane("v1.37.2", proxy="nftables")):
        pass

    assert caught.value.what == (
        f"the cluster {NAME} is v1.37.2 iptables ipv4 two-workers, "
        "and v1.37.2 nftables ipv4 two-workers is asked for"
    )
    assert machine.clusters == [NAME]


def test_a_kept_cluster_that_was_changed_is_made_anew(machine):
    """Of one that was upgraded nobody gets what it was; who undid that may have it again."""
    with machine.lease(keep=True):
        kind.note_change(NAME, "an upgrade to v1.37.2")
        with pytest.raises(CannotRunError, match="in use by others"):
            machine.lease().__enter__()
    kind.note_change(NAME, "")
    with machine.lease():
        pass
    assert len(machine.asked("kind create")) == 1

    kind.note_change(NAME, "an upgrade to v1.37.2")
    with machine.lease():
        pass

    assert len(machine.asked("kind create")) == 2


def test_who_breaks_a_cluster_has_it_alone(machine):
    """Neither is it broken under somebody, nor met by somebody while it is."""
    with machine.lease(keep=True):
        with pytest.raises(InUseError, match="in use by another run, which would meet that it"):
            machine.lease(breaks="it is broken").__enter__()
        assert kind.changed(NAME) == ""
    others = pytest.raises(CannotRunError, match=r"in use by others, .*\(it is broken\)")
    with machine.lease(breaks="it is broken"), others:
        machine.lease().__enter__()
    with machine.lease():
        pass
    assert len(machine.asked("kind create")) == 1


def test_no_kept_cluster_is_upgraded_while_somebody_breaks_it(machine):
    """By its name, that is; and what was done to it before, and lasts, is no hindrance."""
    others = pytest.raises(InUseError, match=rf"{NAME} is in use by another run: it is broken\n")
    with machine.lease(keep=True, breaks="it is broken"), others:
        site(None, None, NAME, Steps(quiet=True)).__enter__()

    kind.note_change(NAME, "an upgrade to v1.37.2")
    kind.demand_whole(NAME)


def test_what_breaks_a_cluster_for_good_is_not_forgotten(machine):
    with machine.lease(keep=True, breaks="it is broken"):
        kind.note_change(NAME, "it stays broken")

    assert kind.changed(NAME) == "it stays broken"


def test_a_cluster_that_forbids_it_is_never_removed(machine):
    """Neither for being no longer as it was made, nor as one that nobody keeps, nor by a sweep."""
    with machine.lease():
        machine.let("forbids")
    assert machine.clusters == [NAME]
    with pytest.raises(RefusedError, match=FORBIDDEN):
        machine.lease().__enter__()
    kind.sweep(Steps(quiet=True))
    machine.let("forbids", be=False)
    with machine.lease(keep=True):
        machine.let("forbids")
        kind.note_change(NAME, "an upgrade to v1.37.2")
    with pytest.raises(RefusedError, match=FORBIDDEN):
        machine.lease().__enter__()

    assert machine.clusters == [NAME]
    assert len(machine.asked("kind delete")) == 1


def test_a_kept_cluster_that_is_gone_is_made_again(machine):
    """A kept cluster that somebody removed with kind itself is made anew, and kept again."""
    with machine.lease(keep=True):
        pass
    machine.run_kind("delete", "cluster", f"--name={NAME}", "--kubeconfig=/dev/null")

    with machine.lease(keep=True):
        assert machine.clusters == [NAME]

    assert machine.clusters == [NAME]
    assert len(machine.asked("kind create")) == 2


def test_the_kubeconfig_of_an_earlier_cluster_is_not_used(machine):
    """A kept cluster that was made again from another folder is reached by its new address."""
    with machine.lease(keep=True) as cluster:
        kubeconfig = cluster.kubeconfig_path
    old = kubeconfig.read_text().replace("127.0.0.1", "127.0.0.9")
    kind.sweep(Steps(quiet=True))
    os.chdir(machine.state)
    with machine.lease(keep=True):
        pass
    os.chdir(kubeconfig.parents[2])
    kubeconfig.parent.mkdir(parents=True)
    kubeconfig.write_text(old)
    os.utime(kubeconfig, (1, 1))

    with machine.lease() as cluster:
        assert cluster.api.url.startswith("http://127.0.0.1:")


def test_a_cluster_that_does_not_come_up_is_removed_with_its_logs_saved(machine):
    """A failed creation says so, saves what the nodes say, and leaves nothing in the way."""
    machine.let("fails")

    with pytest.raises(CannotRunError) as caught, machine.lease(keep=True):
        pass

    assert f"the cluster {NAME} does not come up" in caught.value.what
    assert "ERROR: failed to init node" in caught.value.what
    assert "evidence" in caught.value.do
    assert Path("evidence/node/kubelet.log").read_text() == "it says why\n"
    assert (machine.clusters, machine.network) == ([], False)

    machine.let("fails", be=False)
    with machine.lease():
        assert machine.clusters == [NAME]


UNREADY = objects(status="False", message="the network is not ready")
# What stands in the API server from before the nodes were stopped.
STALE = objects(lastHeartbeatTime="2026-11-25T10:59:00Z")


def test_nodes_that_are_not_ready_are_waited_for(machine):
    """A lease begins when every node is Ready."""
    machine.answer(UNREADY, UNREADY)

    with machine.lease():
        assert len(machine.asked(f"docker exec {NAME}-control-plane sh -c")) == 3


def test_nodes_that_never_become_ready_are_named(machine, monkeypatch):
    """A node that stays not Ready ends the lease with its own word why, and the logs."""
    (machine.state / "objects").write_text(UNREADY)
    monkeypatch.setattr(timing, "NODES_READY_WITHIN", 0.3)

    with pytest.raises(CannotRunError, match="worker: the network is not ready"), machine.lease():
        pass

    assert Path("evidence/node/kubelet.log").exists()
    assert machine.clusters == []


def test_a_kept_cluster_that_was_stopped_is_started_and_waited_for(machine):
    """What was true before a node was started again is no sign that it is well now."""
    with machine.lease(keep=True):
        pass
    machine.let("stopped")
    machine.answer("The connection to the server was refused", STALE, UNREADY)
    before = len(machine.asked(f"docker exec {NAME}-control-plane sh -c"))

    with machine.lease():
        asked = machine.asked(f"docker exec {NAME}-control-plane sh -c")
        assert len(asked) == before + 4

    assert machine.asked("docker start") == [
        f"docker start {NAME}-control-plane {NAME}-worker",
    ]
    assert len(machine.asked("kind create")) == 1
    assert machine.clusters == [NAME]


@pytest.mark.parametrize("how", ["does not become well", "cannot be started", "of an old image"])
def test_a_kept_cluster_that_is_of_no_use_is_made_anew(machine, monkeypatch, capsys, how):
    """One of ours that does not become well is removed, a new one is made, and that is said."""
    monkeypatch.setattr(timing, "CLUSTER_RECOVER_WITHIN", 0.3)
    with machine.lease(keep=True):
        pass
    if how == "of an old image":
        (machine.state / "image").write_text("sha256:5678")
        why = "in place of one that was made of another image"
    elif how == "cannot be started":
        machine.let("stopped")
        machine.let("cannot-start")
        why = "in place of one that cannot be started: port is already allocated"
    else:
        machine.answer(*[STALE] * 3)
        monkeypatch.setattr(timing, "POLL_EVERY", 1)
        why = "in place of one that is not well"
    tools = kind.Tools(Engine("docker", ""), machine.program, "kindest/node:v1.37.2")
    steps = Steps()
    again = kind.lease(LANE, tools, steps, name=NAME, keep=False, evidence=Path("evidence"))

    with again:
        assert len(machine.asked("kind create")) == 2

    assert why in steps.results["cluster"]
    assert machine.clusters == [NAME], "it is kept as the one before was"


def test_a_found_cluster_that_is_not_well_is_named_and_left(machine, monkeypatch):
    """One that somebody else made is neither started nor removed; what is not well is said."""
    monkeypatch.setattr(timing, "CLUSTER_RECOVER_WITHIN", 0.3)
    machine.run_kind("create", "cluster", f"--name={NAME}", "--kubeconfig=theirs")
    machine.let("stopped")

    with pytest.raises(CannotRunError, match=f"{NAME}-worker is exited"), machine.lease():
        pass

    assert machine.asked("docker start") == []
    assert machine.clusters == [NAME]


def test_only_the_first_of_several_users_asks_whether_it_is_well(machine):
    """Processes of one run do not all ask what one has asked, unless a node was started since."""
    with machine.lease(keep=True):
        pass
    asked = f"docker exec {NAME}-control-plane sh -c"

    with kind.hold(NAME, Steps(quiet=True)):
        before = len(machine.asked(asked))
        with machine.lease(), machine.lease():
            assert len(machine.asked(asked)) == before + 1
        (machine.state / "started").write_text("2026-11-25T11:00:02Z")
        with machine.lease():
            assert len(machine.asked(asked)) == before + 2


def test_a_cluster_in_use_is_not_removed_when_it_is_not_well(machine, monkeypatch):
    """A second run that meets a broken cluster of a first one says so, and leaves it."""
    monkeypatch.setattr(timing, "CLUSTER_RECOVER_WITHIN", 0.3)
    with machine.lease(keep=True):
        (machine.state / "started").write_text("2026-11-25T11:59:00Z")

        with pytest.raises(CannotRunError, match="in use by others, and is not well"):
            machine.lease().__enter__()

        assert machine.clusters == [NAME]


def test_nobody_takes_a_cluster_that_did_not_come_up(machine):
    """As long as a run holds a ruin, its other processes neither take it nor try to make it."""
    machine.let("fails")
    with kind.hold(NAME, Steps(quiet=True)):
        with pytest.raises(CannotRunError, match="does not come up"), machine.lease():
            pass
        assert machine.clusters == [NAME]

        with (
            pytest.raises(CannotRunError, match="did not come up in another process"),
            machine.lease(),
        ):
            pass

    assert machine.clusters == []
    assert len(machine.asked("kind create")) == 1


def test_an_interrupt_in_the_middle_of_creation_removes_what_is_there(machine):
    """Ctrl-C while kind works ends kind, and removes the nodes that there are."""
    machine.let("hangs")
    tenant = machine.tenant(keep=True)
    await_fact(machine, "hanging")

    tenant.send_signal(signal.SIGINT)

    assert told(tenant) == "interrupted"
    assert tenant.wait(60) == 0
    assert (machine.clusters, machine.network) == ([], False)
    assert not kind.Record.file(NAME).exists()


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_a_second_interrupt_does_not_stop_the_removal(machine, sign):
    """Pressing Ctrl-C again while the cluster is removed does not leave a part of it."""
    machine.let("deletes-slowly")
    tenant = machine.tenant()
    assert told(tenant) == "in"
    tenant.send_signal(signal.SIGINT)
    await_fact(machine, "deleting")

    tenant.send_signal(sign)

    said = tenant.stderr.readline()
    while said and "still removing what was made" not in said:
        said = tenant.stderr.readline()
    assert sign.name in said
    assert machine.clusters == [NAME]
    machine.let("deletes-slowly", be=False)
    assert told(tenant) == "interrupted"
    assert tenant.wait(60) == 0
    assert (machine.clusters, machine.network) == ([], False)


@pytest.fixture(params=["idle", "in creation, to be kept"])
def killed(request, machine) -> None:
    """A cluster whose only user was killed, while it used it or while it made it."""
    if request.param == "idle":
        tenant = machine.tenant()
        assert told(tenant) == "in"
    else:
        machine.let("hangs")
        tenant = machine.tenant(keep=True)
        await_fact(machine, "hanging")
        machine.let("hangs", be=False)
    tenant.kill()
    tenant.wait()
    assert machine.clusters == [NAME]


@pytest.mark.usefixtures("killed")
def test_the_next_lease_removes_what_a_killed_one_left(machine):
    """After kill -9 the cluster is nobody's; the next lease removes it and makes its own."""
    with machine.lease():
        assert len(machine.asked("kind delete")) == 1
        assert len(machine.asked("kind create")) == 2

    assert (machine.clusters, machine.network) == ([], False)


@pytest.mark.usefixtures("killed")
def test_a_sweep_removes_what_a_killed_lease_left(machine):
    """After kill -9 `make clean` finds the cluster and removes it."""
    kind.sweep(Steps(quiet=True))

    assert (machine.clusters, machine.network) == ([], False)
    assert not kind.Record.file(NAME).exists()


def test_a_sweep_removes_kept_clusters_and_leaves_those_in_use(machine):
    """A sweep takes what nobody uses, kept or not; a cluster in use stays and stays usable."""
    with machine.lease(keep=True):
        kind.sweep(Steps(quiet=True))
        assert machine.clusters == [NAME]

    kind.sweep(Steps(quiet=True))

    assert machine.clusters == []


def test_a_sweep_goes_on_after_a_failure(machine):
    """A cluster that cannot be removed is named, and the others are removed all the same."""
    with machine.lease(keep=True):
        pass
    record = kind.Record.read(NAME)
    record.engine = "no-such-engine"
    record.made_network = True
    (machine.state / "clusters" / "a-first").mkdir()
    (kind._states() / "a-first").mkdir()
    record.write("a-first")

    (failure,) = kind.sweep(Steps(quiet=True))

    assert failure.what.startswith("the cluster a-first stays: `no-such-engine network ls")
    assert NAME not in machine.clusters
    assert kind.recorded() == ["a-first"]


def test_a_sweep_removes_the_kubeconfig_in_other_checkouts(machine):
    """Wherever a cluster was used, its kubeconfig goes with it."""
    first, second = Path.cwd(), machine.state / "second"
    second.mkdir()
    for folder in (first, second):
        os.chdir(folder)
        with machine.lease(keep=True):
            pass
    os.chdir(machine.state)

    kind.sweep(Steps(quiet=True))

    assert list(first.iterdir()) == list(second.iterdir()) == []


def test_who_is_waited_for_is_said(machine):
    """While another process has the cluster in hand, its number and name are told."""
    machine.let("hangs")
    tenant = machine.tenant()
    await_fact(machine, "hanging")
    waiting = machine.tenant()

    said = waiting.stderr.readline()

    assert f"process {tenant.pid} (" in said
    assert f"has {NAME} in hand; waiting for it" in said


def test_a_sweep_finds_another_kind_if_its_maker_is_gone(machine):
    """A cluster made by a kind that was replaced since then is removed by the one on the PATH."""
    with machine.lease(keep=True):
        pass
    record = kind.Record.read(NAME)
    record.kind = "/opt/kind-0.1/bin/kind"
    record.write(NAME)

    kind.sweep(Steps(quiet=True))

    assert machine.clusters == []


def test_a_network_that_was_there_before_stays(machine):
    """The network of kind is removed only by who brought it into being."""
    machine.let("network")

    with machine.lease():
        pass

    assert machine.clusters == []
    assert machine.network


def test_a_network_that_somebody_uses_stays(machine):
    """The network of kind stays while a container of anybody is on it."""
    with machine.lease():
        (machine.state / "others").write_text("their-container\n")

    assert machine.clusters == []
    assert machine.network


def test_the_user_s_kubeconfig_is_never_written(machine, monkeypatch):
    """Neither the file that KUBECONFIG names nor the one in the home is touched in a whole life."""
    named = machine.state / "named"
    named.write_text(USERS_OWN)
    monkeypatch.setenv("KUBECONFIG", str(named))

    with machine.lease(keep=True):
        pass
    shutil.rmtree(".pytest-kind")
    with machine.lease():
        pass
    kind.sweep(Steps(quiet=True))

    assert [call.split()[1] for call in machine.asked("kind")].count("export") == 1
    assert named.read_text() == USERS_OWN


def test_clusters_of_several_names_are_apart(machine):
    """Each name has its own record, lock and users."""
    tools = kind.Tools(Engine("docker", ""), machine.program, "kindest/node:v1.37.2")
    lease: Callable = lambda name: kind.lease(  # noqa: E731
        LANE, tools, Steps(quiet=True), name=name, keep=False, evidence=Path("evidence")
    )
    (machine.state / "objects").write_text(objects(name=f"{NAME}-1"))
    with ExitStack() as first:
        first.enter_context(lease(f"{NAME}-1"))
        first.close()
        assert machine.clusters == []
        (machine.state / "objects").write_text(objects(name=f"{NAME}-2"))
        with lease(f"{NAME}-2"):
            assert machine.clusters == [f"{NAME}-2"]
