"""What a doctor says of a machine and of a cluster: how each thing is, and what to do."""

import json
from pathlib import Path

import pytest

from e2e.before import machine
from e2e.before.doctor import examine
from e2e.before.rows import FAILS, OK, WARNS, exit_code, fails, ok, rows_text, warns
from e2e.errors import RefusedError
from e2e.provider.engine import Engine
from e2e.provider.kind import Record
from e2e.provider.lane import Lane
from e2e.provider.node_image import AGNHOST
from e2e.selftest.api_server import CONTEXT, NODES, api_server, kube_proxy, node
from e2e.selftest.programs import environment, only_path, put, python
from e2e.selftest.test_plan import ASKED, PROXY

REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
LANE = Lane("v1.37.2")
# An engine as docker is one, whose network of kind has this machine's loopback as its gateway.
DOCKER = """\
#!/bin/sh
case "$1 $2" in
  "version --format") echo 28.2.2 ;;
  "info --format") echo '{"OperatingSystem": "%s", "DockerRootDir": "/"}' ;;
  "network inspect") echo '[{"IPAM": {"Config": [{"Gateway": "%s"}]}}]' ;;
  *) exit 1 ;;
esac
"""
ENGINE = Engine("docker", "28.2.2")


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with no engine and no kept cluster; the folder of its programs."""
    folder = only_path(tmp_path / "bin")
    monkeypatch.setenv("E2E_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("E2E_INSTALL_ENGINE", "0")
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("E2E_ALLOW_CONTEXT", CONTEXT)
    return folder


def by_name(rows):
    return {row.what: row for row in rows}


def of_machine(lane=LANE, engine=None, out=Path("/tmp"), outside="auto"):  # noqa: S108  # nothing is written there
    return by_name(machine.rows(lane, engine, out, outside))


def of_cluster(server, **more):
    asked = {"provider": "existing", "kubeconfig": server.kubeconfig, "kube_context": CONTEXT}
    return by_name(examine({**ASKED, "out": "out", **asked, **more}))


def review(*denied):
    """An answer to reviews that allows all but these verbs and resources."""

    def answer(asked):
        wish = asked["spec"]["resourceAttributes"]
        said = f"{wish['verb']} {wish['resource']}"
        return asked | {"status": {"allowed": said not in denied}}

    return answer


def test_a_machine_without_an_engine_is_told_what_to_do(tmp_path):
    """No engine that answers, and none that may be installed, ends with 2 and changes nothing."""
    env = environment(tmp_path, tmp_path / "bin")

    done = python("e2e.cli", "doctor", env=env)

    assert done.returncode == 2, done.stderr
    assert "x engine " in done.stdout
    assert "what to do: start Docker or Podman" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("no run can begin: ")
    assert not Path(env["E2E_CACHE"]).exists()
    assert list(Path(env["TMPDIR"]).iterdir()) == []


def test_rows_are_printed_for_programs(tmp_path):
    """With --json there is nothing but a list of rows."""
    done = python("e2e.cli", "doctor", "--json", env=environment(tmp_path, tmp_path / "bin"))

    rows = by_name_json(done.stdout)
    assert rows["engine"]["ends"] == "fails"
    assert rows["cluster"]["said"] == "nodeport-e2e is not there; a run makes it"
    assert done.returncode == rows["engine"]["exit_code"] == 2


def by_name_json(text):
    return {row["what"]: row for row in json.loads(text)}


def test_every_row_that_is_not_well_says_what_to_do():
    """Text has one line a row and one for what to do, and ends with whether a run may begin."""
    rows = [ok("a", "fine"), warns("longer", "so", "nothing"), fails("b", "bad\nworse", "mend")]

    assert rows_text(rows).splitlines() == [
        "✓ a       ok     fine",
        "- longer  warns  so",
        "    what to do: nothing",
        "x b       fails  bad",
        "    worse",
        "    what to do: mend",
        "no run can begin: 1 ok, 1 warns, 1 fails",
    ]
    assert [exit_code(rows), exit_code(rows[:2])] == [2, 0]


def test_this_machine_is_looked_at_in_every_respect():
    """There is a row for each thing, and nothing raises, whatever this machine is."""
    rows = of_machine()

    assert rows.keys() >= {"engine", "kind", "disk: results", "disk: cache", "ports: nodes"}
    assert all(row.do for row in rows.values() if row.ends != OK)


@pytest.mark.parametrize(
    ("system", "gateway", "outside", "ends"),
    [
        ("Debian GNU/Linux 12", "127.0.0.1", "auto", OK),
        ("Debian GNU/Linux 12", "192.0.2.1", "auto", WARNS),
        ("Docker Desktop", "192.0.2.1", "auto", WARNS),
        ("Docker Desktop", "192.0.2.1", "host", FAILS),
    ],
)
def test_nodes_out_of_reach_are_foreseen(bare, system, gateway, outside, ends):
    """Whoever has the address of the network's gateway is in it; who is outside is told."""
    put(bare, "docker", DOCKER % (system, gateway))

    row = of_machine(engine=ENGINE, outside=outside)["nodes' network"]

    assert row.ends == ends
    assert ("calls from a container" in row.do) == (system == "Docker Desktop" and ends == WARNS)


@pytest.mark.parametrize(
    ("lane", "built", "ends", "said"),
    [
        (LANE, "all", OK, "has what iptables and nftables mode need"),
        (LANE, "iptables", WARNS, "not all of nftables (NF_TABLES"),
        (Lane("v1.37.2", "nftables"), "iptables", FAILS, "was built without NF_TABLES"),
        (Lane("v1.37.2", family="dual"), "iptables", FAILS, "was built without IPV6"),
        (LANE, None, WARNS, "how it was built cannot be read"),
    ],
)
def test_what_a_kernel_lacks_is_named(monkeypatch, lane, built, ends, said):
    """What the lane needs fails, what another lane would need warns, what is not told warns."""
    has = [*machine.NODES, *machine.MODES["iptables"]]
    has += [*machine.MODES["nftables"], ("IPV6",)] if built == "all" else []
    config = "".join(f"CONFIG_{any_of[0]}=m\n" for any_of in has) if built else None
    monkeypatch.setattr(machine, "_kernel_config", lambda _: config)
    monkeypatch.setattr(machine.platform, "release", lambda: "6.1.0-18-amd64")

    row = machine._kernel(lane)

    assert (row.ends, said in row.said) == (ends, True), row


def test_a_kernel_that_is_too_old_for_nftables_is_named(monkeypatch):
    """Mode nftables needs 5.13."""
    monkeypatch.setattr(machine.platform, "release", lambda: "5.10.0-28-amd64")

    assert machine._kernel(Lane("v1.37.2", "nftables")).ends == FAILS


def test_a_port_that_a_shape_maps_and_somebody_has_is_named(tmp_path):
    """Ports of this machine that a shape asks for are tried before a cluster is made."""
    with machine.socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        shape = tmp_path / "mapped.yaml"
        mapping = f"{{containerPort: 30080, hostPort: {port}, listenAddress: 127.0.0.1}}"
        shape.write_text(f"kind: Cluster\nnodes: [{{extraPortMappings: [{mapping}]}}]\n")
        row = of_machine(Lane("v1.37.2", shape=str(shape)))["ports: nodes"]

    assert row.ends == WARNS
    assert f"127.0.0.1:{port}" in row.said


def test_withheld_capabilities_are_told_by_name(monkeypatch):
    """A machine that withholds some says which, and what follows."""
    monkeypatch.setattr(machine, "withheld_capabilities", lambda: 1 << 24 | 1 << 40)

    row = machine._capabilities(None)

    assert row.said.endswith(": CAP_SYS_RESOURCE, 40")


def test_too_few_inotify_instances_are_told(monkeypatch):
    """More nodes than the limit is good for have their command."""
    monkeypatch.setattr(machine, "INOTIFY_INSTANCES", 1e9)

    assert "sysctl -w fs.inotify.max_user_instances" in machine._inotify(LANE).do


def test_a_cluster_that_is_well_has_no_failing_row(tmp_path, monkeypatch):
    """Version, nodes, proxy, range, image, permissions and reach each have a row."""
    monkeypatch.setattr("e2e.before.cluster.is_heard", lambda _: True)
    images = [{"names": [AGNHOST]}]
    there = [node("worker", "127.0.0.2", images=images)]
    answers = {"/api/v1/nodes": {"kind": "NodeList", "items": there}, REVIEWS: review()}
    with api_server(tmp_path, answers) as server:
        rows = of_cluster(server)

    assert {row.what: row.said for row in rows.values() if row.ends == OK} == {
        "safety": "fake may be written to; it leads to the cluster 4b1d",
        "cluster": f"http://127.0.0.1:{server.port} answers",
        "version": "v1.37.2",
        "nodes": "1 Ready, IPv4, all v1.37.2",
        "service proxy": "kube-proxy nftables",
        "node ports": "30000 to 32767",
        "echo's image": f"{AGNHOST} is on every node",
        "permissions": "all",
        "reach": "127.0.0.2 answer here",
    }
    assert server.methods == {"GET", "POST"}
    assert {path for method, path in server.requests if method == "POST"} == {REVIEWS}


def test_what_is_not_allowed_is_named(tmp_path, monkeypatch):
    """Each verb and resource that is denied is told, and ends with 2."""
    monkeypatch.setattr("e2e.before.cluster.is_heard", lambda at: at != "127.0.0.3")
    answers = {REVIEWS: review("* *", "get pods", "create namespaces"), PROXY: kube_proxy(mode="")}
    with api_server(tmp_path, answers) as server:
        rows = of_cluster(server)

    assert rows["permissions"].said == (
        "this user may not create namespaces, get pods, get pods/proxy, get pods/log in kube-system"
    )
    assert exit_code(list(rows.values())) == 2
    assert rows["echo's image"].ends == WARNS
    assert rows["reach"].said == "nothing is heard from worker-2 (127.0.0.3)"


@pytest.mark.parametrize(
    ("items", "said"),
    [
        ([], "there is none"),
        ([node("worker", "127.0.0.2", conditions=[])], "not Ready: worker"),
    ],
)
def test_a_cluster_that_is_not_well_fails(tmp_path, items, said):
    """Nodes that are not Ready end the look at a cluster."""
    with api_server(tmp_path, {"/api/v1/nodes": {"kind": "NodeList", "items": items}}) as server:
        rows = of_cluster(server)

    assert (rows["nodes"].ends, rows["nodes"].said) == (FAILS, said)
    assert "permissions" not in rows


def test_kubelets_of_another_version_are_told(tmp_path, monkeypatch):
    """Half an upgrade is worth a warning."""
    monkeypatch.setattr("e2e.before.cluster.is_heard", lambda _: True)
    older = node("old", "127.0.0.9", nodeInfo={"kubeletVersion": "v1.36.3"})
    answers = {"/api/v1/nodes": {"kind": "NodeList", "items": [*NODES, older]}, REVIEWS: review()}
    with api_server(tmp_path, answers) as server:
        row = of_cluster(server)["nodes"]

    assert (row.ends, row.said) == (WARNS, "4 Ready, IPv4, kubelets v1.36.3, v1.37.2")


def test_a_cluster_that_may_not_be_written_to_fails_with_3(tmp_path, monkeypatch):
    """What a run would refuse is a failing row, and the rest is looked at all the same."""
    monkeypatch.setattr("e2e.before.cluster.is_heard", lambda _: True)
    monkeypatch.delenv("E2E_ALLOW_CONTEXT")
    with api_server(tmp_path, {REVIEWS: review()}) as server:
        rows = of_cluster(server)
        unnamed = of_cluster(server, kube_context=None)

    assert exit_code(list(rows.values())) == RefusedError.exit_code
    assert rows["permissions"].ends == OK
    assert list(unnamed) == ["safety"]


def test_a_cluster_that_does_not_answer_fails(tmp_path):
    """Nobody at the address of a cluster that exists ends with 2; of a kept one it is no matter."""
    with api_server(tmp_path) as server:
        pass
    assert of_cluster(server)["cluster"].ends == FAILS
    record = Record(str(LANE), "docker", "kind", keep=True, complete=True)
    record.folders = [str(server.kubeconfig.parent)]
    record.write(LANE.cluster_name)

    row = by_name(examine(ASKED | {"out": "out"}))["cluster"]

    assert (row.ends, row.do) == (WARNS, "nothing: a run starts it again, or makes it anew")


def test_a_kept_cluster_that_was_changed_is_told(tmp_path):
    """As by a fault: a run that met it in somebody's hands would be refused."""
    record = Record(str(LANE), "docker", "kind", keep=True, complete=True, changed="the fault x")
    (Record.file(LANE.cluster_name).parent).mkdir(parents=True)
    record.write(LANE.cluster_name)

    row = by_name(examine(ASKED | {"out": "out"}))["cluster"]

    assert row.ends == WARNS
    assert "is no longer as it was made (the fault x)" in row.said
