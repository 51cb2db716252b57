"""Programs that only look like those that the harness runs, and the harness as a program."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
# What a shell script needs.
TOOLS = ("sh", "cat", "dirname", "ls", "mkdir", "mktemp", "rm", "setpriv", "sleep")


def put(folder: Path, name: str, text: str) -> Path:
    """Write a program."""
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text(text)
    program.chmod(0o755)
    return program


def only_path(folder: Path) -> Path:
    """Make a folder that can be the whole PATH: a shell and what a script needs."""
    folder.mkdir()
    for name in TOOLS:
        for place in (Path("/bin"), Path("/usr/bin")):
            if (place / name).exists() and not (folder / name).exists():
                (folder / name).symlink_to(place / name)
    return folder


def python(*argv: str, env: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    """Run a module of the checkout with exactly these variables, until it ends."""
    return subprocess.run(
        [sys.executable, "-m", *argv],
        cwd=CHECKOUT,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def ask(
    folder: Path, clauses: str, conftest: str, *argv: str
) -> "subprocess.CompletedProcess[str]":
    """Let pytest ask clauses that are no clauses of the contract, by some of its fixtures.

    The results are in the folder `out` in the one that is given.
    """
    contract = folder / "contract"
    contract.mkdir()
    (contract / "test_a.py").write_text(clauses)
    (contract / "conftest.py").write_text("import pytest\n@pytest.fixture\ndef _needs(): pass\n")
    (folder / "conftest.py").write_text(conftest)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n  clause\n  family\n  needs\n")
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "contract", "-p", "no:cacheprovider", "--out=out", *argv],
        cwd=folder, env={"PYTHONPATH": str(CHECKOUT), "PATH": "/usr/bin:/bin",
                         "HOME": str(folder)},
        capture_output=True, text=True, check=False, timeout=400,
    )  # fmt: skip
    assert (folder / "out" / "result.json").exists(), ended.stdout + ended.stderr
    return ended


def environment(folder: Path, path: Path) -> dict[str, str]:
    """Give the variables of a user who has nothing: a home in `folder`, and `path` as PATH."""
    for name in ("home", "tmp"):
        (folder / name).mkdir(exist_ok=True)
    return {
        "PATH": str(path),
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "tmp"),
        "E2E_CACHE": str(folder / "cache"),
        "E2E_OUT": str(folder / "out"),
        "E2E_INSTALL_ENGINE": "0",
        "PYTHONDONTWRITEBYTECODE": os.environ.get("PYTHONDONTWRITEBYTECODE", ""),
    }


@contextmanager
def interrupted(is_time: Callable[[], bool]) -> Iterator[None]:
    """Let Ctrl-C come once it is time."""

    def interrupt(*_: object) -> None:
        if is_time():
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
