"""The root file system of a node, from the packages of this machine's own distribution."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from e2e import timing
from e2e.errors import CannotRunError
from e2e.provider.command import CommandFailedError, end_group
from e2e.provider.streaming import start

TOOL = "mmdebstrap"
# Not needed in a node, and a quarter of its size.
LEFT_OUT = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/info/*")


@dataclass(frozen=True)
class Distribution:
    """The distribution of this machine, and where its packages come from."""

    name: str
    suite: str
    sources: Path


def this_distribution(allowed: tuple[str, ...], root: Path = Path("/")) -> Distribution:
    """Find out which distribution this is.

    Raises:
        CannotRunError: it is not one of those that a node can be made of.
    """
    do = (
        "name an image by NODE_IMAGE=..., or build it on Debian or Ubuntu "
        f"({', '.join(allowed)}) as root"
    )
    release = root / "etc/os-release"
    text = release.read_text() if release.exists() else ""
    said = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', text, re.MULTILINE))
    suite = said.get("VERSION_CODENAME", "")
    if suite not in allowed:
        what = said.get("PRETTY_NAME", "no distribution that is known")
        raise CannotRunError(f"a node image cannot be built here: this is {what}", do)
    names = ("sources.list.d/debian.sources", "sources.list.d/ubuntu.sources", "sources.list")
    for name in names:
        sources = root / "etc/apt" / name
        if sources.exists() and re.search(r"^(deb |Types:.*\bdeb\b)", sources.read_text(), re.M):
            return Distribution(said["ID"], suite, sources)
    raise CannotRunError("a node image cannot be built here: apt has no package sources", do)


def refuse_to_install() -> None:
    """Raise unless the program that makes root file systems is there or may be installed.

    Raises:
        CannotRunError: with the reason.
    """
    if not has_tool() and os.environ.get("E2E_INSTALL_ENGINE") == "0":
        raise CannotRunError(
            f"a node image is built with {TOOL}, which is missing, and E2E_INSTALL_ENGINE=0",
            f"apt-get install {TOOL}",
        )


def has_tool() -> bool:
    """Whether the program that makes root file systems is there."""
    return shutil.which(TOOL) is not None


class RootfsBuild:
    """Makes the root file system beside whatever else is done: it waits for the network most."""

    def __init__(
        self, distribution: Distribution, packages: tuple[str, ...], made: Path, scratch: Path
    ) -> None:
        """Start; `made` gets rootfs.tar."""
        self._log = scratch / "mmdebstrap.log"
        temporary = scratch / "tmp"
        temporary.mkdir()
        self._argv = [
            TOOL,
            "--mode=root",
            "--variant=minbase",
            *(f"--dpkgopt=path-exclude={path}" for path in LEFT_OUT),
            f"--include={','.join(packages)}",
            distribution.suite,
            str(made / "rootfs.tar"),
            str(distribution.sources),
        ]
        self._process: subprocess.Popen[bytes] = start(
            self._argv, env={"TMPDIR": str(temporary)}, log=self._log
        )

    def finish(self) -> None:
        """Wait for the end.

        Raises:
            CommandFailedError: it failed, or took too long.
        """
        try:
            code = self._process.wait(timing.ROOTFS_WITHIN)
        except subprocess.TimeoutExpired:
            raise CommandFailedError(self._argv, "no end in time", self._last_words()) from None
        if code:
            raise CommandFailedError(self._argv, code, self._last_words())

    def stop(self) -> None:
        """End it, if it still runs."""
        if self._process.poll() is None:
            end_group(self._process)

    def _last_words(self) -> str:
        return self._log.read_text(errors="replace")[-4000:]
