"""The safety gate: a cluster that nobody named or allowed is never even connected to."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from e2e.errors import RefusedError, UsageError
from e2e.provider.engine import Engine
from e2e.provider.existing import check_allowed, kind_cluster_at
from e2e.provider.kubeconfig import default_kubeconfig, shown
from e2e.selftest.programs import environment, only_path, put, python
from e2e.selftest.servers import Server, says, serving

KIND_PORT, OTHER_PORT = 37921, 16443
# What `docker ps` and `docker inspect` print, cut to what is asked for: a control plane and a
# worker of kind, and a container of somebody else that publishes the same port of its own.
DOCKER = """\
#!/bin/sh
here=$(dirname "$0")/../containers
case "$1 $*" in
  version*) echo 28.2.2 ;;
  ps*label=io.x-k8s.kind.cluster*) echo c0ffee; echo decade ;;
  ps*label=*) ;;
  ps*) echo c0ffee; echo decade; echo facade ;;
  inspect*)
    shift
    printf '['
    for id in "$@"; do printf "$comma"; cat "$here/$id.json" || exit 1; comma=,; done
    printf ']'
    ;;
  *) exit 1 ;;
esac
"""


def container(labels: dict[str, str], ports: dict[str, list[dict[str, str]] | None]) -> dict:
    return {
        "State": {"Status": "running", "Running": True},
        "Config": {"Image": "kindest/node:v1.37.2", "Labels": labels},
        "NetworkSettings": {"Ports": ports, "Networks": {"kind": {"IPAddress": "172.18.0.2"}}},
    }


def node(role: str) -> dict[str, str]:
    return {"io.x-k8s.kind.cluster": "mine", "io.x-k8s.kind.role": role}


def published(port: int, at: str = "127.0.0.1") -> list[dict[str, str]]:
    return [{"HostIp": at, "HostPort": str(port)}]


@pytest.fixture
def publish(tmp_path: Path) -> Callable[[list[dict[str, str]]], None]:
    """Say where the API server of the kind cluster is published."""
    folder = tmp_path / "containers"
    folder.mkdir()

    def write(bindings: list[dict[str, str]]) -> None:
        for name, described in {
            "decade": container(node("worker"), {}),
            "c0ffee": container(node("control-plane"), {"6443/tcp": bindings, "80/tcp": None}),
            "facade": container({}, {"6443/tcp": published(OTHER_PORT)}),
        }.items():
            (folder / f"{name}.json").write_text(json.dumps(described))

    write(published(KIND_PORT))
    return write


@pytest.fixture
def docker(tmp_path: Path, publish: object, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """An engine with a kind cluster, and no other program on the PATH."""
    folder = only_path(tmp_path / "bin")
    put(folder, "docker", DOCKER)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("E2E_ALLOW_CONTEXT", raising=False)
    return Engine("docker", "28.2.2")


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Callable[..., Path]:
    """Write a kubeconfig whose contexts lead to these servers; the last one is the current."""

    def write(**contexts: str | dict[str, str]) -> Path:
        clusters = {
            name: said if isinstance(said, dict) else {"server": said}
            for name, said in contexts.items()
        }
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": f"at-{name}", "cluster": c} for name, c in clusters.items()],
            "users": [{"name": "me", "user": {"token": "secret"}}],
            "contexts": [
                {"name": name, "context": {"cluster": f"at-{name}", "user": "me"}}
                for name in clusters
            ],
            "current-context": list(contexts)[-1],
        }
        file = tmp_path / "kubeconfig"
        file.write_text(yaml.safe_dump(content))
        return file

    return write


@pytest.mark.parametrize("context", [None, ""])
def test_without_a_context_nothing_is_allowed(docker, kubeconfig, context):
    """The current context is never used, not even where it is a kind cluster of this machine."""
    with pytest.raises(RefusedError, match="no context was named") as refused:
        check_allowed(kubeconfig(mine=f"https://127.0.0.1:{KIND_PORT}"), context, docker)

    assert refused.value.exit_code == 3
    assert "--kube-context=NAME" in refused.value.do


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_kind_cluster_of_this_machine_is_allowed(docker, kubeconfig, host):
    """A server at the port that a kind cluster's API server is published at is ours to change."""
    check_allowed(kubeconfig(mine=f"https://{host}:{KIND_PORT}"), "mine", docker)

    assert kind_cluster_at(f"https://{host}:{KIND_PORT}", docker) == "mine"


def test_a_kind_cluster_may_be_published_everywhere(docker, publish, kubeconfig):
    """A port that is published at all addresses is reached at the loopback address too."""
    publish([*published(KIND_PORT, "0.0.0.0"), *published(KIND_PORT, "::")])

    for host in ("127.0.0.1", "[::1]", "localhost"):
        check_allowed(kubeconfig(mine=f"https://{host}:{KIND_PORT}"), "mine", docker)


ELSEWHERE = {
    "a remote server": "https://cluster.example.com:6443",
    "a remote address with the same port": f"https://192.0.2.7:{KIND_PORT}",
    "a name that only begins like this machine": f"https://127.0.0.1.example.com:{KIND_PORT}",
    "this machine as a user name": f"https://127.0.0.1:{KIND_PORT}@example.com",
    "another port of this machine": "https://127.0.0.1:6443",
    "a container that is no node of kind": f"https://127.0.0.1:{OTHER_PORT}",
    "no port": "https://127.0.0.1",
    "no such port": "https://127.0.0.1:99999999",
    "half an address": "https://[::1",
    "a path": "/var/run/kubernetes",
}


@pytest.mark.parametrize("case", ELSEWHERE)
def test_any_other_server_is_refused(docker, kubeconfig, case):
    """What is not surely a kind cluster of this machine is refused, and the way out is named."""
    with pytest.raises(RefusedError) as refused:
        check_allowed(kubeconfig(prod=ELSEWHERE[case]), "prod", docker)

    assert f"the context prod ({shown(ELSEWHERE[case])}) is no kind" in refused.value.what
    assert refused.value.do == "if it may: E2E_ALLOW_CONTEXT=prod"


def test_a_port_published_at_another_address_is_refused(docker, publish, kubeconfig):
    """A tunnel may listen at the loopback address with the port of a kind cluster beside it."""
    publish(published(KIND_PORT, "192.0.2.1"))

    with pytest.raises(RefusedError):
        check_allowed(kubeconfig(tunnel=f"https://127.0.0.1:{KIND_PORT}"), "tunnel", docker)


def test_a_cluster_behind_a_proxy_is_refused(docker, kubeconfig):
    """The loopback address of a kubeconfig with a proxy is the proxy's, not this machine's."""
    server = f"https://127.0.0.1:{KIND_PORT}"
    file = kubeconfig(far={"server": server, "proxy-url": "http://proxy.example.com:3128"})

    with pytest.raises(RefusedError):
        check_allowed(file, "far", docker)


def test_without_an_engine_no_cluster_is_ours(kubeconfig):
    """Where no engine answers, a loopback server may be anything, such as a tunnel."""
    file = kubeconfig(mine=f"https://127.0.0.1:{KIND_PORT}")

    with pytest.raises(RefusedError):
        check_allowed(file, "mine", None)


def test_an_engine_that_breaks_allows_nothing(docker, tmp_path, kubeconfig):
    """A container that cannot be inspected is no proof."""
    (tmp_path / "containers" / "decade.json").unlink()

    with pytest.raises(RefusedError):
        check_allowed(kubeconfig(mine=f"https://127.0.0.1:{KIND_PORT}"), "mine", docker)


@pytest.mark.parametrize(
    ("allowed", "passes"),
    [
        ("prod", True),
        ("dev prod", True),
        ("dev,prod", True),
        ("", False),
        ("dev", False),
        ("production", False),
        ("pro", False),
        ("*", False),
    ],
)
def test_a_context_may_be_allowed_by_its_whole_name(
    docker, kubeconfig, monkeypatch, allowed, passes
):
    """E2E_ALLOW_CONTEXT names the contexts that may be changed; a part of a name is no name."""
    monkeypatch.setenv("E2E_ALLOW_CONTEXT", allowed)
    file = kubeconfig(prod="https://cluster.example.com")

    if passes:
        check_allowed(file, "prod", None)
    else:
        with pytest.raises(RefusedError):
            check_allowed(file, "prod", docker)


def test_an_allowed_context_must_be_there(kubeconfig, monkeypatch):
    """Allowing a context does not make one up: the file has to know it."""
    monkeypatch.setenv("E2E_ALLOW_CONTEXT", "prod")

    with pytest.raises(UsageError, match="no context prod in") as unknown:
        check_allowed(kubeconfig(dev="https://a", test="https://b"), "prod", None)

    assert unknown.value.do == "it has: dev, test"
    assert unknown.value.exit_code == 4


BROKEN = {
    "empty": b"",
    "no YAML": b"contexts: [\n",
    "no text": b"\xff\xfe\x00",
    "a list": b"- contexts\n",
    "no contexts": b"apiVersion: v1\nclusters: []\n",
    "contexts of nothing": b"contexts: null\nclusters: null\n",
    "a context of nothing": b"contexts: [{name: mine, context: null}]\nclusters: []\n",
    "a cluster without a server": (
        b"contexts: [{name: mine, context: {cluster: c}}]\nclusters: [{name: c, cluster: {}}]\n"
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_kubeconfig_is_named_in_one_line(tmp_path, case):
    """A file that is no kubeconfig is a usage error of one line with its name."""
    file = tmp_path / "kubeconfig"
    file.write_bytes(BROKEN[case])

    with pytest.raises(UsageError, match=f"^{file} is no kubeconfig: ") as broken:
        check_allowed(file, "mine", None)

    assert len(str(broken.value).splitlines()) == 1
    assert "Error" not in str(broken.value)


@pytest.mark.parametrize(
    ("clusters", "gone"),
    [("[]", "cluster c"), ("[{name: c, cluster: {server: 'https://far'}}]", "user u")],
)
def test_what_a_context_names_and_nothing_is_is_told(tmp_path, clusters, gone):
    file = tmp_path / "kubeconfig"
    context = "contexts: [{name: mine, context: {cluster: c, user: u}}]"
    file.write_text(f"{context}\nclusters: {clusters}\n")

    with pytest.raises(UsageError, match=f"^the context mine names the {gone}, of which nothing "):
        check_allowed(file, "mine", None)


def test_a_missing_kubeconfig_is_named(tmp_path):
    """A file that is not there, or is a folder, is a usage error that says how to name another."""
    for file, why in ((tmp_path / "none", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(UsageError, match=f"no kubeconfig at {file}: {why}") as missing:
            check_allowed(file, "mine", None)
        assert missing.value.do == "name one: --kubeconfig=FILE"


def test_the_default_file_is_kubectl_s(monkeypatch):
    """Where KUBECONFIG names none that is there, it is the first, else the one in the home."""
    monkeypatch.setenv("KUBECONFIG", "/first:/second")
    assert default_kubeconfig() == Path("/first")
    monkeypatch.setenv("KUBECONFIG", "")
    assert default_kubeconfig() == Path.home() / ".kube" / "config"


@pytest.fixture
def variables(tmp_path: Path, docker: Engine) -> dict[str, str]:
    """The variables of a user with a docker and a kubeconfig in the usual place."""
    return environment(tmp_path, tmp_path / "bin") | {"KUBECONFIG": str(tmp_path / "kubeconfig")}


@pytest.fixture
def server():
    """A server of somebody else, which notes every connection and answers nothing."""
    with serving(says("")) as running:
        yield running


CLI = ("e2e.cli", "run", "--processes=0")
PYTEST = ("pytest", "-p", "no:cacheprovider", "e2e/contract")


def in_context(entry: tuple[str, ...], context: str | None) -> list[str]:
    named = [] if context is None else [f"--kube-context={context}"]
    return [*entry, "--provider=existing", *named]


@pytest.mark.parametrize("context", [None, "prod"])
@pytest.mark.parametrize("entry", [CLI, PYTEST], ids=["cli", "pytest"])
def test_a_refused_run_connects_nowhere(variables, kubeconfig, server, entry, context):
    """Without a context, or with one that is not ours, a run ends with 3 before any connection."""
    kubeconfig(mine=f"https://127.0.0.1:{KIND_PORT}", prod=f"http://127.0.0.1:{server.port}")

    ended = python(*in_context(entry, context), env=variables)

    assert ended.returncode == 3, ended.stdout + ended.stderr
    assert ("no kind cluster" if context else "no context was named") in (
        ended.stdout + ended.stderr
    )
    assert "Traceback" not in ended.stdout + ended.stderr
    assert server.peers == []


@pytest.mark.parametrize("entry", [CLI, PYTEST], ids=["cli", "pytest"])
def test_the_same_run_does_connect_where_it_is_allowed(
    variables, kubeconfig, server: Server, entry
):
    """The proof that the server would have noticed: allowed, the same run comes to it."""
    file = kubeconfig(prod=f"http://127.0.0.1:{server.port}")
    variables |= {"E2E_ALLOW_CONTEXT": "prod"}

    ended = python(*in_context(entry, "prod"), f"--kubeconfig={file}", env=variables)

    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert server.peers != []


def test_cleaning_up_is_refused_likewise(variables, kubeconfig, server):
    """`clean` with the context of somebody else's cluster ends with 3 before any connection."""
    kubeconfig(prod=f"http://127.0.0.1:{server.port}")

    ended = python("e2e.cli", "clean", "--kube-context=prod", env=variables)

    assert ended.returncode == 3, ended.stdout + ended.stderr
    assert server.peers == []
