"""Where downloads and built things are kept between runs."""

import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from e2e import timing
from e2e.errors import CannotRunError
from e2e.wait import WaitedInVainError, wait_until

# So much of a command line tells which program it is.
CALLED_AS = 100


def cache_folder() -> Path:
    """The folder named by E2E_CACHE, else one in the user's cache."""
    named = os.environ.get("E2E_CACHE")
    return Path(named).absolute() if named else Path.home() / ".cache" / "nodeport-e2e"


def file_name(said: str) -> str:
    """What a server is called, as the name of a file."""
    return re.sub(r"[^a-z0-9.]+", "-", said)


def ensure_room(folder: Path, *, gigabytes: float, what: str, variable: str = "E2E_CACHE") -> None:
    """Check the free space on the disk of a folder before something is written there.

    Args:
        folder: where to; need not exist yet.
        gigabytes: how much will be needed.
        what: who needs it, for the message.
        variable: the one that names another folder.

    Raises:
        CannotRunError: there is too little; says how much is needed and how much is there.
    """
    present = folder
    while not present.exists():
        present = present.parent
    free = shutil.disk_usage(present).free / 1e9
    if free < gigabytes:
        raise CannotRunError(
            f"{what} needs {gigabytes:g} GB on the disk of {folder}, and {free:.2f} GB are free",
            f"free some space there, or set {variable} to a folder on another disk",
        )


@contextmanager
def only_one(lock: Path, *, waiting: Callable[[], None], within: float) -> Iterator[None]:
    """Hold a lock file, so that two runs never make the same thing at once.

    The lock goes with the process that holds it, however that process ends.

    Args:
        lock: the file.
        waiting: called once when somebody else holds it.
        within: seconds of patience.

    Raises:
        CannotRunError: somebody else held it all that time.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a+") as file:
        if not _try_lock(file.fileno()):
            waiting()
            try:
                wait_until(
                    lambda: _try_lock(file.fileno()),
                    what=f"the lock {lock}, which is held by {holder_of(lock)}",
                    within=within,
                    every=timing.LOCK_EVERY,
                )
            except WaitedInVainError as error:
                raise CannotRunError(
                    str(error), f"see what it does, or end it; fuser -v {lock} names it too"
                ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def holder_of(lock: Path) -> str:
    """Who took a lock last, as words: the process, and what it was called with."""
    number = lock.read_text()
    try:
        called = Path(f"/proc/{number}/cmdline").read_text(errors="replace")
    except OSError:
        return f"process {number}" if number else "another process"
    return f"process {number} ({' '.join(called.replace(chr(0), ' ').split())[:CALLED_AS]})"


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
