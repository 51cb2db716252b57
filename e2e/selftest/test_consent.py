"""Which cluster may be written to: the mark that forbids it, the one that was allowed before."""

import base64
import os
import stat
from pathlib import Path

import pytest
import yaml

from e2e.cluster.api import Api
from e2e.cluster.consent import admit
from e2e.errors import CannotRunError, RefusedError, UsageError
from e2e.provider.existing import Consent
from e2e.provider.kubeconfig import current_context, default_kubeconfig, pin, read_context
from e2e.provider.steps import Steps
from e2e.provider.wellness import FORBIDDEN
from e2e.report.result import RESULT
from e2e.selftest.programs import environment, only_path, put, python
from e2e.selftest.storing_server import CONTEXT, UID, refused, storing_server
from e2e.upgrade.commands import FOLDER, what_comes_next
from e2e.upgrade.site import site

WRITES = {"POST", "PUT", "PATCH", "DELETE"}
COMMANDS = {
    "run": ("run", "--provider=existing", "--processes=0"),
    "run by pods": ("run", "--provider=existing", "--in-cluster"),
    "prepare": ("prepare", "--no-contract"),
    "clean": ("clean", "--yes"),
    "disturb": ("disturb", "roll-out-proxy"),
}


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("E2E_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def server(tmp_path):
    with storing_server(tmp_path / "api") as running:
        yield running


def system(server):
    return server.objects["/api/v1", "namespaces", "", "kube-system"]["metadata"]


def by_name(*clusters: str, context: str = "prod", server: str = "https://prod") -> Consent:
    return Consent(context, server, by_name=True, clusters=frozenset(clusters))


@pytest.mark.parametrize("how", ["labels", "annotations"])
@pytest.mark.parametrize("value", ["", "true", "false", "payments: ask Ana"])
def test_a_cluster_that_forbids_it_is_refused(server, how, value):
    """The mark on kube-system refuses whatever its value, also on a cluster of this machine."""
    system(server)[how] = {FORBIDDEN: value}

    with pytest.raises(RefusedError, match=FORBIDDEN) as said:
        admit(Api(server.kubeconfig, CONTEXT))

    assert value in said.value.what
    assert not WRITES & {method for method, _ in server.requests}


def test_what_is_not_known_to_be_allowed_is_not_written_to(server):
    """Where kube-system cannot be read, nobody knows whether it forbids it."""
    says = (
        'namespaces "kube-system" is forbidden: User "me" cannot get resource "namespaces" in '
        'API group "" in the namespace "kube-system"'
    )
    server.before = lambda _, path: (
        refused(403, "Forbidden", says) if path.endswith("/kube-system") else None
    )

    with pytest.raises(CannotRunError, match="cannot get resource"):
        admit(Api(server.kubeconfig, CONTEXT))


def test_a_name_that_leads_to_another_cluster_is_refused(tmp_path):
    """The first cluster is remembered; another one of the same name needs to be named itself."""
    with storing_server(tmp_path / "a", uid="aaaa") as a, storing_server(tmp_path / "b") as b:
        first, second = Api(a.kubeconfig, CONTEXT), Api(b.kubeconfig, CONTEXT)
        assert admit(first, by_name()) == "aaaa"
        assert admit(first, by_name(server="https://moved")) == "aaaa", "an address is no identity"
        with pytest.raises(RefusedError, match="leads to another cluster") as said:
            admit(second, by_name(server="https://new"))
        assert f"E2E_ALLOW_CONTEXT=prod@{UID}" in said.value.do
        assert all(word in said.value.what for word in ("aaaa", "https://prod", "https://new"))

        assert admit(second, by_name(UID)) == UID
        assert admit(second, by_name()) == UID
        with pytest.raises(RefusedError, match="leads to another cluster"):
            admit(first, by_name())
        with pytest.raises(RefusedError, match="is what E2E_ALLOW_CONTEXT names"):
            admit(first, by_name(UID))


def test_who_only_looks_remembers_nothing(server, tmp_path):
    """A doctor and a plan leave no trace of a cluster that was not used."""
    admit(Api(server.kubeconfig, CONTEXT), by_name(), remember=False)

    assert not (tmp_path / "cache" / "allowed").exists()


@pytest.mark.parametrize("broken", ["", "[]", "{", '{"prod": 3}', '{"prod": {}}', "null"])
def test_a_broken_memory_is_none(server, tmp_path, broken):
    file = tmp_path / "cache" / "allowed" / "prod.json"
    file.parent.mkdir(parents=True)
    file.write_text(broken)

    assert admit(Api(server.kubeconfig, CONTEXT), by_name()) == UID
    assert UID in file.read_text()


def test_contexts_whose_files_are_called_alike_are_told_apart(tmp_path):
    with storing_server(tmp_path / "a", uid="aaaa") as a, storing_server(tmp_path / "b") as b:
        admit(Api(a.kubeconfig, CONTEXT), by_name(context="a/b"))
        admit(Api(b.kubeconfig, CONTEXT), by_name(context="a:b"))
        assert admit(Api(a.kubeconfig, CONTEXT), by_name(context="a/b")) == "aaaa"


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    """The variables of a user who allowed the context, and has no engine."""
    folder = only_path(tmp_path / "bin")
    put(folder, "docker", "#!/bin/sh\nexit 1\n")
    return environment(tmp_path, folder) | {"E2E_ALLOW_CONTEXT": CONTEXT}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_writes_is_refused(server, variables, tmp_path, command):
    """With the mark each of them ends with 3, nothing was written, and what was there stays."""
    system(server)["labels"] = {FORBIDDEN: "yes"}
    where = [f"--kubeconfig={server.kubeconfig}", f"--kube-context={CONTEXT}"]
    before = put(tmp_path / "out", RESULT, "of the run before")

    ended = python("e2e.cli", *COMMANDS[command], *where, env=variables)

    assert ended.returncode == 3, ended.stdout + ended.stderr
    assert FORBIDDEN in ended.stdout + ended.stderr
    assert not WRITES & {method for method, _ in server.requests}
    assert before.exists()


def test_plain_pytest_is_refused_likewise(server, variables):
    system(server)["labels"] = {FORBIDDEN: "yes"}

    ended = python(
        *("pytest", "-p", "no:cacheprovider", "e2e/contract", "--provider=existing"),
        *(f"--kubeconfig={server.kubeconfig}", f"--kube-context={CONTEXT}"),
        env=variables,
    )

    assert ended.returncode == 3, ended.stdout + ended.stderr
    assert not WRITES & {method for method, _ in server.requests}


# --- the private copy ----------------------------------------------------------------------------


def kubeconfig(file: Path, *, count: int = 3, user: object = None, **cluster: object) -> Path:
    """A kubeconfig of several contexts c0, c1, …, of which the last is current."""
    names = [f"c{n}" for n in range(count)]
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": n, "cluster": {"server": f"https://{n}", **cluster}} for n in names],
        "users": [{"name": n, "user": user or {"token": f"token-{n}"}} for n in names],
        "contexts": [{"name": n, "context": {"cluster": n, "user": n}} for n in names],
        "current-context": names[-1],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(content))
    return file


def test_the_copy_has_one_context_and_is_for_one_reader(tmp_path):
    """Of a hundred contexts one is copied, with no token of another, for this user alone."""
    file = kubeconfig(tmp_path / "config", count=100)

    copy = pin(file, "c42", tmp_path / "run")

    said = copy.read_text()
    assert "token-c42" in said
    assert said.count("token-") == 1
    assert current_context(copy) == "c42"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600


def test_an_edit_in_the_middle_changes_nothing(tmp_path):
    """Who moves the context, or its certificates, does not move a run that is under way."""
    (tmp_path / "ca.pem").write_text("first")
    file = kubeconfig(tmp_path / "config", **{"certificate-authority": "ca.pem"})
    copy = pin(file, "c0", tmp_path / "run")
    before = read_context(copy, "c0")

    kubeconfig(file, server="https://elsewhere")
    (tmp_path / "ca.pem").write_text("second")

    assert read_context(copy, "c0").cluster == before.cluster
    assert before.server == "https://c0"
    assert base64.b64decode(before.cluster["certificate-authority-data"]) == b"first"


def test_what_is_beside_the_file_is_found_from_elsewhere(tmp_path):
    """Keys come along, a token's file and a plugin are named in full, bare names stay."""
    folder = tmp_path / "there"
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": "bin/login"}
    user = {"client-key": "key.pem", "tokenFile": "token", "exec": plugin}
    file = kubeconfig(folder / "config", user=user)
    (folder / "key.pem").write_text("k")

    found = read_context(pin(file, "c1", tmp_path / "run"), "c1").user

    assert found["client-key-data"] == base64.b64encode(b"k").decode()
    assert "client-key" not in found
    assert found["tokenFile"] == str(folder / "token")
    assert found["exec"]["command"] == str(folder / "bin" / "login")
    plugin["command"] = "login"
    bare = kubeconfig(folder / "config", user={"exec": plugin})
    assert read_context(pin(bare, "c1", tmp_path / "run"), "c1").user["exec"] == plugin


def test_what_is_to_be_typed_names_the_file_and_not_the_copy(server, tmp_path, monkeypatch):
    """The copy is gone by then."""
    monkeypatch.setenv("E2E_ALLOW_CONTEXT", CONTEXT)
    monkeypatch.setattr("e2e.upgrade.site.find_engine", lambda: None)

    with site(server.kubeconfig, CONTEXT, None, Steps(quiet=True)) as here:
        copy = Path(here.api.kubeconfig)
        assert copy.exists()
        typed = what_comes_next(here, FOLDER)

    assert not copy.exists()
    assert f"verify --kubeconfig={server.kubeconfig} --kube-context={CONTEXT}" in typed


def test_a_file_that_is_named_and_not_there_is_told(tmp_path):
    file = kubeconfig(tmp_path / "config", user={"client-certificate": "gone.pem"})

    with pytest.raises(UsageError, match=r"gone.pem as client-certificate of c0: No such file"):
        pin(file, "c0", tmp_path / "run")


def several(monkeypatch, *files):
    """Let KUBECONFIG name these; gives what is read then."""
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join(map(str, files)))
    return default_kubeconfig()


def test_of_several_files_the_first_of_a_name_counts(tmp_path, monkeypatch):
    """As with kubectl; one that is not there is left out, and a context may be in any of them."""
    kubeconfig(tmp_path / "a", count=1, server="https://first")
    kubeconfig(tmp_path / "b", count=3)
    file = several(monkeypatch, *(tmp_path / name for name in ("none", "a", "b")))

    assert read_context(file, "c0").server == "https://first"
    assert read_context(file, "c2").server == "https://c2"
    assert current_context(file) == current_context(tmp_path / "a")
    with pytest.raises(UsageError, match=f"no context c9 in {tmp_path}/a:{tmp_path}/b") as said:
        read_context(file, "c9")
    assert said.value.do == "it has: c0, c1, c2"
    assert several(monkeypatch, tmp_path / "none", tmp_path / "b") == tmp_path / "b"


@pytest.mark.parametrize("says", ["", "# nothing yet\n"])
def test_an_empty_one_of_several_files_says_nothing(tmp_path, monkeypatch, says):
    """As with kubectl, wherever it stands; alone it is no kubeconfig."""
    good, other = (kubeconfig(tmp_path / name, count=n) for name, n in (("a", 1), ("b", 2)))
    (empty := tmp_path / "empty").write_text(says)

    assert several(monkeypatch, good, empty) == good
    assert several(monkeypatch, empty, good, other) == Path(f"{good}:{other}")
    # As an option may name them.
    for named in (Path(f"{empty}:{good}"), Path(f"{good}:{empty}")):
        assert current_context(named) == current_context(good)
        assert read_context(named, "c0").server == "https://c0"
    alone = several(monkeypatch, tmp_path / "none", empty, empty)
    assert alone == empty
    for read in (current_context, lambda file: read_context(file, "c0")):
        with pytest.raises(UsageError, match="empty is no kubeconfig: it is empty"):
            read(alone)


@pytest.mark.parametrize("broken", ["[", "\0", "[" * 5000])
def test_a_broken_one_of_several_files_is_not_taken_for_an_empty_one(tmp_path, monkeypatch, broken):
    good, bad = kubeconfig(tmp_path / "a"), tmp_path / "bad"
    bad.write_text(broken)
    file = several(monkeypatch, good, bad)

    with pytest.raises(UsageError, match=f"^{bad} is no kubeconfig"):
        read_context(file, "c0")


@pytest.fixture
def split(tmp_path, monkeypatch):
    """A context, its cluster and its user, each in a file of its own in a folder of its own."""

    def make(cluster, user):
        parts = {"contexts": {"context": {"cluster": "k", "user": "u"}, "name": "mine"},
                 "clusters": {"cluster": cluster, "name": "k"},
                 "users": {"user": user, "name": "u"}}  # fmt: skip
        files = [tmp_path / part / "config" for part in parts]
        for file, (part, item) in zip(files, parts.items(), strict=True):
            file.parent.mkdir()
            file.write_text(yaml.safe_dump({"kind": "Config", part: [item]}))
        return several(monkeypatch, *files)

    return make


def test_a_context_is_put_together_of_several_files(split, tmp_path):
    """And what its cluster and its user name stands beside each of them."""
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": "bin/login"}
    user = {"tokenFile": "token", "client-key": "key.pem", "exec": plugin}
    file = split({"server": "https://far", "certificate-authority": "ca.pem"}, user)
    (tmp_path / "clusters" / "ca.pem").write_text("ca")
    (tmp_path / "users" / "key.pem").write_text("k")

    found = read_context(pin(file, "mine", tmp_path / "run"), "mine")

    assert found.server == "https://far"
    assert base64.b64decode(found.cluster["certificate-authority-data"]) == b"ca"
    assert base64.b64decode(found.user["client-key-data"]) == b"k"
    assert found.user["tokenFile"] == str(tmp_path / "users" / "token")
    assert found.user["exec"]["command"] == str(tmp_path / "users" / "bin" / "login")


def test_several_files_lead_to_the_api_server(server, split):
    """Also where no copy is made, as by a plan."""
    address = read_context(server.kubeconfig, CONTEXT).server
    file = split({"server": address}, {"token": "t"})

    assert Api(file, "mine").version() == "v1.37.2"


def test_what_none_of_several_files_has_is_told(split, tmp_path):
    file = split({"server": "https://far"}, {})
    (tmp_path / "clusters" / "config").write_text("kind: Config\n")

    with pytest.raises(UsageError, match="the context mine names the cluster k, of which") as said:
        read_context(file, "mine")
    assert str(file) in said.value.what


def test_of_several_files_the_broken_one_is_named(split, tmp_path):
    file = split({"server": "https://far"}, {})
    (tmp_path / "clusters" / "config").write_text("[")

    with pytest.raises(UsageError, match=f"^{tmp_path}/clusters/config is no kubeconfig"):
        read_context(file, "mine")


def test_a_context_without_a_user_is_nobody_s(tmp_path):
    file = kubeconfig(tmp_path / "config")
    content = yaml.safe_load(file.read_text())
    del content["contexts"][0]["context"]["user"]
    file.write_text(yaml.safe_dump(content))

    assert read_context(pin(file, "c0", tmp_path / "run"), "c0").user == {}
