"""Installs packages of the distribution, where that is Debian or Ubuntu."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from e2e import timing
from e2e.errors import CannotRunError
from e2e.provider.command import CommandFailedError, run

REPAIR = ("dpkg", "--configure", "-a")


def install(
    names: tuple[str, ...],
    *,
    log: Path,
    progress: Callable[[str], None],
    env: Mapping[str, str] | None = None,
) -> None:
    """Install packages; an installation that was interrupted earlier is finished first.

    Args:
        names: of the packages.
        log: a file that gets what apt and dpkg say; emptied before.
        progress: gets what is being done.
        env: variables added to the present ones.

    Raises:
        CannotRunError: they cannot be installed.
    """
    log.unlink(missing_ok=True)
    progress(f"installing {' and '.join(names)} from the distribution")
    do = partial(
        run,
        env={"DEBIAN_FRONTEND": "noninteractive", **(env or {})},
        log=log,
        timeout=timing.ENGINE_INSTALL_WITHIN,
    )
    wanted = ("apt-get", "install", "--yes", "--no-install-recommends", *names)
    try:
        do(("apt-get", "update"))
        try:
            do(wanted)
        except CommandFailedError as error:
            if " ".join(REPAIR) not in error.said:
                raise
            progress(f"an installation was interrupted earlier; finishing it: {' '.join(REPAIR)}")
            do(REPAIR)
            do(wanted)
    except CommandFailedError as error:
        raise CannotRunError(
            error.what,
            f"see {log}; install {' and '.join(names)} yourself, and run this again",
        ) from error
