"""No secret of a kubeconfig comes into anything that a run writes or says."""

import base64
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from e2e.cluster.api import Api
from e2e.errors import CannotRunError
from e2e.provider.kubeconfig import pin, read_context
from e2e.selftest.programs import environment, only_path, put, python
from e2e.selftest.storing_server import CONTEXT, StoringServer, refused, storing_server

TOKEN, PASSWORD, KEY, VARIABLE, IN_URL = (
    *("t0ken-from-file", "passw0rd-of-ana", "k3y-of-client"),
    *("v4riable-of-plugin", "cr3dential-in-url"),
)
SECRETS = (TOKEN, PASSWORD, KEY, VARIABLE, IN_URL)
KUBERNETES = ("run", "--provider=existing", "--processes=0", "--only=objects.rehearsed")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StoringServer]:
    with storing_server(tmp_path / "api") as running:
        yield running


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    folder = only_path(tmp_path / "bin")
    put(folder, "docker", "#!/bin/sh\nexit 1\n")
    return environment(tmp_path, folder) | {"E2E_ALLOW_CONTEXT": CONTEXT}


def planted(server: StoringServer, user: dict[str, object], *, in_url: bool = False) -> Path:
    """The kubeconfig of a user who has secrets of all kinds."""
    content = yaml.safe_load(server.kubeconfig.read_text())
    content["users"][0]["user"] = user
    if in_url:
        cluster = content["clusters"][0]["cluster"]
        cluster["server"] = cluster["server"].replace("http://", f"http://ana:{IN_URL}@")
    server.kubeconfig.write_text(yaml.safe_dump(content))
    return server.kubeconfig


def plugin(tmp_path: Path, script: str) -> dict[str, object]:
    put(tmp_path, "login", f"#!/bin/sh\n{script}\n")
    return {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": str(tmp_path / "login"),
            "env": [{"name": "SECRET", "value": VARIABLE}],
            "interactiveMode": "Never",
        }
    }


def everything(*folders: Path) -> Iterator[tuple[str, bytes]]:
    for folder in folders:
        for file in folder.rglob("*"):
            if file.is_file() and not file.is_symlink():
                yield str(file), file.read_bytes()


def assert_no_secret(said: str, *folders: Path) -> None:
    for name, content in [("what was said", said.encode()), *everything(*folders)]:
        for secret in SECRETS:
            assert secret.encode() not in content, f"{secret} in {name}"
            assert base64.b64encode(secret.encode()) not in content, f"{secret} in {name}"


USERS = {
    "token": lambda _: {"token": TOKEN},
    "basic": lambda _: {"username": "ana", "password": PASSWORD},
    "key": lambda _: {"client-key-data": base64.b64encode(KEY.encode()).decode()},
}


@pytest.mark.parametrize("kind", USERS)
def test_a_run_writes_no_secret(server, variables, tmp_path, kind):
    """Neither results, evidence and terminal, nor the cache once the run has ended."""
    server.before = lambda method, path: (
        refused(403, "Forbidden", "nothing for you") if path.endswith("/services") else None
    )
    file = planted(server, USERS[kind](tmp_path))

    ended = python(
        "e2e.cli", *KUBERNETES, f"--kubeconfig={file}", f"--kube-context={CONTEXT}", env=variables
    )

    out = Path(variables["E2E_OUT"])
    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert (out / "result.json").exists(), ended.stdout + ended.stderr
    assert_no_secret(ended.stdout + ended.stderr, out, tmp_path / "cache", tmp_path / "tmp")


@pytest.mark.parametrize("command", ["run", "prepare", "clean", "doctor", "plan"])
def test_a_plugin_that_chatters_gives_nothing_away(server, variables, tmp_path, command):
    """What it says when it fails is told, without what the kubeconfig gave it."""
    user = plugin(tmp_path, 'echo "cannot log in with $SECRET" >&2; exit 1')
    file = planted(server, user)
    more = ["--provider=existing"] if command in ("run", "doctor", "plan") else []

    ended = python(
        *("e2e.cli", command, *more, f"--kubeconfig={file}", f"--kube-context={CONTEXT}"),
        env=variables,
    )

    said = ended.stdout + ended.stderr
    assert ended.returncode == 2, said
    assert "cannot log in with …" in said
    out = Path(variables["E2E_OUT"])
    assert_no_secret(said, out, tmp_path / "cache", tmp_path / "tmp")


@pytest.mark.parametrize("allowed", [True, False])
def test_an_address_with_a_password_is_told_without(server, variables, tmp_path, allowed):
    file = planted(server, {"token": TOKEN}, in_url=True)
    named = variables if allowed else variables | {"E2E_ALLOW_CONTEXT": ""}

    ended = python(
        *("e2e.cli", "doctor", "--provider=existing"),
        *(f"--kubeconfig={file}", f"--kube-context={CONTEXT}"),
        env=named,
    )

    said = ended.stdout + ended.stderr
    assert "127.0.0.1" in said
    assert_no_secret(said, Path(variables["HOME"]), tmp_path / "cache")


def test_the_copy_and_its_keys_are_for_one_reader(server, tmp_path):
    """They have the secrets, so nobody else may read them."""
    file = planted(server, {"token": TOKEN, **USERS["key"](tmp_path)})
    shared = tmp_path / "run"
    Api(pin(file, CONTEXT, shared), CONTEXT, secrets=shared)

    with_secrets = [
        Path(name)
        for name, content in everything(shared)
        if any(secret.encode() in content for secret in SECRETS)
    ]
    assert with_secrets
    assert all(file.stat().st_mode & 0o077 == 0 for file in with_secrets)


def test_an_error_of_the_api_server_has_no_token(server, tmp_path):
    file = planted(server, {"token": TOKEN}, in_url=True)
    server.before = lambda *_: (500, {}, "no JSON")

    with pytest.raises(CannotRunError) as said:
        Api(file, CONTEXT)

    assert_no_secret(str(said.value))


def test_what_is_redacted_is_known_from_the_kubeconfig(server, tmp_path):
    """So that a plugin may say everything else."""
    user = plugin(tmp_path, "exit 0") | {"token": TOKEN, "username": "ana", "password": PASSWORD}
    found = read_context(planted(server, user, in_url=True), CONTEXT)

    said = found.without_secrets(f"{VARIABLE} {TOKEN} {PASSWORD} {IN_URL} ana {os.sep} login")
    assert said == f"… … … … ana {os.sep} login"
