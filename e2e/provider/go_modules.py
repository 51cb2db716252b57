"""Compiles programs from Go modules, each with the dependencies that it pins itself."""

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from e2e import timing
from e2e.errors import CannotRunError
from e2e.provider.command import CommandFailedError, run
from e2e.provider.pins import Module
from e2e.provider.streaming import stream

# What comes out must not depend on this machine's paths; debugging data, which the linker would
# drop, is not made in the first place.
BUILD = ("-mod=mod", "-buildvcs=false", "-trimpath", "-gcflags=all=-dwarf=false")
# The compiler collects garbage less often: a sixth less CPU time for a third more memory.
LESS_GARBAGE_COLLECTION = "400"


@dataclass(frozen=True)
class Programs:
    """Programs that are compiled together.

    Attributes:
        title: what a person calls them.
        module: where their dependencies are pinned; None for a program of ours without any.
        packages: the Go package of each program, by the name that the program gets.
        variables: linker variables, such as versions.
        tags: build tags.
        main: a main package of ours that goes beside go.mod; its package is ".".
        is_test: compile the tests of the one package instead of a main package.
        guest: a module compiled with the dependencies of `module`, for the sake of what is
            compiled already.
    """

    title: str
    module: Module | None
    packages: Mapping[str, str]
    variables: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    main: Path | None = None
    guest: Module | None = None
    is_test: bool = False

    def recipe(self) -> dict[str, object]:
        """Everything that decides what comes out, as plain data."""
        return {
            "modules": [
                [each.path, each.version, each.sum] for each in (self.module, self.guest) if each
            ],
            "packages": dict(self.packages),
            "variables": dict(self.variables),
            "tags": list(self.tags),
            **({"test": True} if self.is_test else {}),
            "main": self.main and self.main.read_text(),
        }


def go_env(name: str) -> str:
    """What Go itself says about one of its settings.

    Raises:
        CannotRunError: there is no Go here.
    """
    if shutil.which("go") is None:
        raise CannotRunError("there is no Go on the PATH", "install Go 1.26 or newer")
    return run(["go", "env", name]).strip()


def fetch(module: Module) -> Path:
    """Bring a module into Go's module cache and return its folder there.

    Raises:
        CannotRunError: it does not come, or it is not what pins.toml says.
    """
    try:
        said = run(["go", "mod", "download", "-json", str(module)], timeout=timing.MODULES_WITHIN)
    except CommandFailedError as error:
        raise CannotRunError(
            f"the Go module {module} does not come\n{error.said.strip()}",
            "see `go env GOPROXY`, and whether its address answers",
        ) from error
    answer = json.loads(said)
    if answer["Sum"] != module.sum:
        raise CannotRunError(
            f"the Go module {module} has the hash {answer['Sum']}, and pins.toml says {module.sum}",
            "find out who changed it; do not use it until then",
        )
    return Path(answer["Dir"])


def compile_programs(
    programs: Programs,
    *,
    target: Path,
    work: Path,
    progress: Callable[[str], None],
    goos: str | None = None,
) -> None:
    """Compile programs into the folder `target`, statically linked.

    Args:
        programs: what to compile.
        target: gets one file for each program.
        work: an empty folder for go.mod and the log.
        progress: told what is being done.
        goos: the operating system that they are for; this machine's by default.

    Raises:
        CannotRunError: a module does not come or is not what is pinned.
        CommandFailedError: Go ends with an error; its last words are in it.
    """
    env = {
        "CGO_ENABLED": "0",
        "GOWORK": "off",
        "GOGC": os.environ.get("GOGC", LESS_GARBAGE_COLLECTION),
        **({"GOOS": goos} if goos else {}),
    }
    work.mkdir(parents=True, exist_ok=True)
    target.mkdir(parents=True, exist_ok=True)
    progress(f"{programs.title}: fetching modules")
    _write_module(programs, work)
    packages = list(programs.packages.values())
    tags = ["-tags", ",".join(programs.tags)] if programs.tags else []
    listed = run(
        ["go", "list", "-deps", *BUILD, *tags, *packages],
        cwd=work,
        env=env,
        timeout=timing.MODULES_WITHIN,
    )
    total = len(listed.splitlines())
    linked = " ".join(f"-X {name}={value}" for name, value in programs.variables.items())
    out = target / next(iter(programs.packages)) if len(packages) == 1 else target
    compiled = 0

    def on_line(line: str) -> None:
        nonlocal compiled
        # `go build -v` names each package when it begins to compile it.
        if re.fullmatch(r"[\w./~-]+", line):
            compiled += 1
            if compiled % 100 == 0:
                progress(f"{programs.title}: compiled {compiled} of at most {total} packages")

    progress(f"{programs.title}: compiling up to {total} packages")
    command = ["test", "-c"] if programs.is_test else ["build", "-v"]
    stream(
        ["go", *command, *BUILD, *tags, "-ldflags", f"-s -w {linked}", "-o",
         f"{out}/" if out == target else str(out), *packages],
        on_line,
        cwd=work,
        env=env,
        log=work / "go-build.log",
        timeout=timing.COMPILE_WITHIN,
    )  # fmt: skip
    missing = [name for name in programs.packages if not (target / name).is_file()]
    if missing:
        raise CannotRunError(f"Go built {programs.title} without {', '.join(missing)}")


def _write_module(programs: Programs, work: Path) -> None:
    """Write a main module with the requirements of the programs' own module.

    Replacements count only in a main module, and so do the sums, so both are taken over.
    A replacement by a folder of the same repository becomes the published module.
    """
    if programs.main:
        shutil.copy(programs.main, work / "main.go")
    if programs.module is None:
        (work / "go.mod").write_text("module nodeport-e2e.local/program\n")
        return
    source = fetch(programs.module)
    for name in ("go.mod", "go.sum"):
        (work / name).write_text((source / name).read_text())
    said = json.loads(run(["go", "mod", "edit", "-json"], cwd=work))
    edits = ["-module=nodeport-e2e.local/program", f"-require={programs.module}"]
    if programs.guest:
        fetch(programs.guest)
        edits.append(f"-require={programs.guest}")
    published = programs.module.version.replace("v1.", "v0.", 1)
    for replace in said.get("Replace") or []:
        old, new = replace["Old"]["Path"], replace["New"]["Path"]
        if new.startswith("./staging/"):
            edits.append(f"-replace={old}={old}@{published}")
        elif new.startswith("."):
            edits.append(f"-dropreplace={old}")
    run(["go", "mod", "edit", *edits], cwd=work)
