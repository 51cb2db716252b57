"""Compiling pinned Go modules: real Go, and a module proxy that is a folder."""

import json
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from e2e.errors import CannotRunError
from e2e.provider.command import CommandFailedError
from e2e.provider.go_modules import Programs, compile_programs, fetch
from e2e.provider.pins import Module

pytestmark = pytest.mark.skipif(shutil.which("go") is None, reason="there is no Go here")

MAIN = """package main
import "fmt"
import "example.test/dep"
var version = "unset"
func main() { fmt.Println(version, dep.Word) }
"""


class Proxy:
    """A Go module proxy in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def publish(self, path: str, version: str, files: dict[str, str]) -> None:
        place = self.folder / path / "@v"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{version}.info").write_text(json.dumps({"Version": version}))
        (place / f"{version}.mod").write_text(files["go.mod"])
        with zipfile.ZipFile(place / f"{version}.zip", "w") as archive:
            for name, text in files.items():
                archive.writestr(f"{path}@{version}/{name}", text)


@pytest.fixture
def proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A proxy with a program whose dependency is a folder of its repository."""
    monkeypatch.setenv("GOPROXY", f"file://{tmp_path}/proxy")
    monkeypatch.setenv("GOSUMDB", "off")
    monkeypatch.setenv("GOMODCACHE", str(tmp_path / "modules"))
    monkeypatch.setenv("GOFLAGS", "-modcacherw")
    monkeypatch.setenv("GOTOOLCHAIN", "local")
    proxy = Proxy(tmp_path / "proxy")
    proxy.publish(
        "example.test/dep",
        "v0.5.1",
        {"go.mod": "module example.test/dep\n", "dep.go": 'package dep\nconst Word = "staged"\n'},
    )
    proxy.publish(
        "example.test/program",
        "v1.5.1",
        {
            "go.mod": (
                "module example.test/program\n\ngo 1.21\n\n"
                "require example.test/dep v0.0.0\n\n"
                "replace example.test/dep => ./staging/src/example.test/dep\n"
            ),
            "go.sum": "",
            "main.go": MAIN,
        },
    )
    return proxy


def sum_of(path: str, version: str) -> str:
    said = subprocess.run(
        ["go", "mod", "download", "-json", f"{path}@{version}"],
        capture_output=True,
        check=True,
        cwd="/",
    )
    return str(json.loads(said.stdout)["Sum"])


@pytest.fixture
def module(proxy: Proxy) -> Module:
    path = "example.test/program"
    return Module(path, "v1.5.1", sum_of(path, "v1.5.1"))


def test_a_folder_of_the_repository_becomes_the_published_module(
    module: Module, tmp_path: Path
) -> None:
    said: list[str] = []
    programs = Programs("a program", module, {"program": module.path}, {"main.version": "v1.5.1"})
    compile_programs(
        programs, target=tmp_path / "made", work=tmp_path / "work", progress=said.append
    )
    out = subprocess.run([tmp_path / "made/program"], capture_output=True, text=True, check=True)
    assert out.stdout == "v1.5.1 staged\n"
    assert said[0] == "a program: fetching modules"


def test_another_content_than_the_pinned_one_is_refused(module: Module) -> None:
    changed = Module(module.path, module.version, "h1:other=")
    with pytest.raises(CannotRunError, match=r"has the hash h1:.*pins\.toml says h1:other="):
        fetch(changed)


def test_a_module_that_does_not_come_is_named(module: Module) -> None:
    with pytest.raises(CannotRunError, match=r"example\.test/none@v9\.9\.9 does not come") as stop:
        fetch(Module("example.test/none", "v9.9.9", "h1:x="))
    assert "go env GOPROXY" in stop.value.do


def test_an_error_of_the_compiler_is_shown(tmp_path: Path) -> None:
    main = tmp_path / "bad.go"
    main.write_text("package main\nfunc main() { undefined() }\n")
    programs = Programs("bad", None, {"bad": "."}, main=main)
    with pytest.raises(CommandFailedError, match="undefined: undefined"):
        compile_programs(
            programs, target=tmp_path / "made", work=tmp_path / "work", progress=lambda _: None
        )
