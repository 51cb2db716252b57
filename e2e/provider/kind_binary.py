"""kind itself: the one on the PATH, else built from its Go module, else the released program."""

import hashlib
import os
import platform
import re
import shutil
import tempfile
from pathlib import Path

import requests

from e2e import timing
from e2e.errors import CannotRunError
from e2e.provider.cache import cache_folder, holder_of, only_one
from e2e.provider.command import CommandFailedError, run
from e2e.provider.go_modules import Programs, compile_programs
from e2e.provider.pins import read_pins
from e2e.provider.steps import Step, Steps


def ensure_kind(steps: Steps) -> Path:
    """Give the absolute path of a kind that is as new as the pinned one.

    Raises:
        CannotRunError: there is none, and it can neither be built nor downloaded.
    """
    with steps.step("kind", "it makes the cluster") as step:
        program, said = find_kind()
        if program:
            step.skip(said)
            return program
        pinned, kept = read_pins().kind.version, _kept()
        kept.parent.mkdir(parents=True, exist_ok=True)
        lock = kept.parent / "lock"
        with only_one(
            lock,
            waiting=lambda: step.progress(f"{holder_of(lock)} is making it; waiting for it"),
            within=timing.KIND_LOCK_WITHIN,
        ):
            if kept.exists():
                step.skip(f"kind {pinned} was made by another run in {kept.parent}")
                return kept
            how = _make(kept, step)
        step.done(f"{how} kind {pinned} in {kept.parent}, as {said}")
        return kept


def find_kind() -> tuple[Path | None, str]:
    """A kind that is as new as the pinned one if it is here, with where; else what is missing."""
    pinned, kept = read_pins().kind.version, _kept()
    found = shutil.which("kind")
    version = found and _version_of(Path(found))
    if found and version and _as_numbers(version) >= _as_numbers(pinned):
        return Path(found).resolve(), f"kind {version} is on the PATH ({found})"
    older = f" (the one on the PATH is {version})" if version else ""
    if kept.exists():
        return kept, f"kind {pinned} is there already in {kept.parent}{older}"
    return None, f"no kind {pinned} or newer is here{older}"


def _kept() -> Path:
    return cache_folder() / "kind" / f"{read_pins().kind.version}-{_platform()}" / "kind"


def _make(kept: Path, step: Step) -> str:
    with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
        work = Path(folder)
        if shutil.which("go"):
            _build(work, step)
            how = "built"
        else:
            _download(work / "kind", step)
            how = "downloaded"
        (work / "kind").chmod(0o755)
        (work / "kind").rename(kept)
    return how


def _build(work: Path, step: Step) -> None:
    module = read_pins().kind
    programs = Programs(f"kind {module.version}", module, {"kind": module.path})
    compile_programs(programs, target=work, work=work / "src", progress=step.progress)


def _download(target: Path, step: Step) -> None:
    """Download the released program and check it.

    Raises:
        CannotRunError: it does not come, none is pinned for this platform, or it is another one.
    """
    pins = read_pins()
    wanted = pins.kind_released.get(_platform())
    do = "install Go, or put a kind of that version on the PATH"
    if wanted is None:
        raise CannotRunError(f"no released kind is pinned for {_platform()}", do)
    address = pins.kind_address.format(version=pins.kind.version, platform=_platform())
    address = os.environ.get("E2E_KIND_ADDRESS", address)
    step.progress(f"downloading {address}")
    try:
        answer = requests.get(address, timeout=timing.DOWNLOAD)
        answer.raise_for_status()
    except requests.RequestException as error:
        raise CannotRunError(f"kind does not come from {address}: {error}", do) from error
    seen = hashlib.sha256(answer.content).hexdigest()
    if seen != wanted:
        raise CannotRunError(
            f"{address} has the SHA-256 {seen}, and pins.toml says {wanted}",
            "find out who changed it; do not use it until then",
        )
    target.write_bytes(answer.content)


def _platform() -> str:
    machine = platform.machine().lower()
    names = {"x86_64": "amd64", "aarch64": "arm64"}
    return f"{platform.system().lower()}-{names.get(machine, machine)}"


def _version_of(kind: Path) -> str | None:
    try:
        said = run([str(kind), "version"], timeout=timing.COMMAND)
    except CommandFailedError:
        return None
    found = re.search(r"\bv\d+\.\d+\.\d+\S*", said)
    return found.group() if found else None


def _as_numbers(version: str) -> tuple[int, ...]:
    """Compare by number; a pre-release counts as older than its release."""
    core, _, extra = version.lstrip("v").partition("-")
    return (*(int(part) for part in core.split("+")[0].split(".")), 0 if extra else 1)
