"""Where kind comes from, with programs that only look like it, and a real local web server."""

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.errors import CannotRunError
from e2e.provider import kind_binary, pins
from e2e.provider.steps import Steps

PINNED = pins.read_pins().kind.version


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the whole PATH: no Go, and no kind but a test's own."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "sh").symlink_to("/bin/sh")
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("E2E_CACHE", str(tmp_path / "cache"))
    return folder


def put_kind(folder: Path, version: str) -> Path:
    file = folder / "kind"
    file.write_text(f"#!/bin/sh\necho kind {version} go1.26.8 linux/amd64\n")
    file.chmod(0o755)
    return file


@pytest.fixture
def released(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """A web server; what it answers is the value of "kind", None is 404."""
    answers: dict[str, bytes] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name that http.server calls
            body = answers.get("kind")
            self.send_response(200 if body else 404)
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("E2E_KIND_ADDRESS", f"http://127.0.0.1:{server.server_port}/kind")
        yield answers
        server.shutdown()


@pytest.fixture
def pinned_sum(monkeypatch: pytest.MonkeyPatch):
    """Pin the SHA-256 of these bytes for this platform."""

    def pin(content: bytes) -> None:
        known = pins.read_pins().kind_released
        monkeypatch.setitem(known, kind_binary._platform(), hashlib.sha256(content).hexdigest())

    return pin


def test_the_pinned_kind_on_the_path_is_used(programs: Path) -> None:
    there = put_kind(programs, PINNED)
    assert kind_binary.ensure_kind(Steps(quiet=True)) == there.resolve()


def test_a_newer_kind_on_the_path_is_used(programs: Path) -> None:
    put_kind(programs, "v0.100.0")
    assert kind_binary.ensure_kind(Steps(quiet=True)).is_absolute()


@pytest.mark.parametrize("version", ["v0.9.0", f"{PINNED}-alpha"])
def test_an_older_kind_is_not_used(
    programs: Path, version: str, released: dict[str, bytes], pinned_sum
) -> None:
    put_kind(programs, version)
    released["kind"] = b"#!/bin/sh\n"
    pinned_sum(b"#!/bin/sh\n")
    made = kind_binary.ensure_kind(Steps(quiet=True))
    assert made.read_bytes() == b"#!/bin/sh\n"
    assert made.stat().st_mode & 0o111


def test_it_is_downloaded_once(programs: Path, released: dict[str, bytes], pinned_sum) -> None:
    released["kind"] = b"#!/bin/sh\n"
    pinned_sum(b"#!/bin/sh\n")
    first = kind_binary.ensure_kind(Steps(quiet=True))
    released.clear()
    assert kind_binary.ensure_kind(Steps(quiet=True)) == first


def test_another_program_than_the_pinned_one_is_refused(
    programs: Path, tmp_path: Path, released: dict[str, bytes], pinned_sum
) -> None:
    released["kind"] = b"something else"
    pinned_sum(b"#!/bin/sh\n")
    with pytest.raises(CannotRunError, match=r"pins\.toml says"):
        kind_binary.ensure_kind(Steps(quiet=True))
    assert not list((tmp_path / "cache").rglob("kind/kind"))


def test_no_go_and_no_release_says_what_to_do(programs: Path, released: dict[str, bytes]) -> None:
    with pytest.raises(CannotRunError, match="404") as stopped:
        kind_binary.ensure_kind(Steps(quiet=True))
    assert "install Go" in stopped.value.do


def test_an_unknown_platform_says_what_to_do(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kind_binary, "_platform", lambda: "plan9-mips")
    with pytest.raises(CannotRunError, match="no released kind is pinned for plan9-mips"):
        kind_binary.ensure_kind(Steps(quiet=True))
