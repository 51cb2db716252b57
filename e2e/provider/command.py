"""Runs other programs, and leaves none of them behind."""

import os
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from e2e import timing
from e2e.errors import CannotRunError


class CommandFailedError(CannotRunError):
    """A program ended with an error; `what` holds its command line and its last words."""

    def __init__(self, argv: Sequence[str], code: int | str, said: str) -> None:
        tail = "\n".join(f"    {line}" for line in said.strip().splitlines()[-15:])
        super().__init__(f"`{shlex.join(argv)}` ended with {code}\n{tail}".rstrip())
        self.code = code
        self.said = said


def run(
    argv: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    input: str | bytes | None = None,  # noqa: A002  # the name that subprocess uses
    timeout: float = timing.COMMAND,
    log: Path | None = None,
) -> str:
    """Run a program to its end and return what it printed.

    Args:
        argv: the program and its arguments.
        cwd: where it runs.
        env: variables added to the present ones.
        input: what it reads; nothing by default.
        timeout: seconds; then its whole process group is killed.
        log: a file that gets stdout and stderr as they come; then nothing is returned.

    Raises:
        CommandFailedError: it is missing, ended with another code than 0, or took too long.
    """
    data = input.encode() if isinstance(input, str) else input
    sink = log.open("ab") if log else None
    try:
        process = subprocess.Popen(
            argv,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.PIPE if data is not None else subprocess.DEVNULL,
            stdout=sink or subprocess.PIPE,
            stderr=subprocess.STDOUT if sink else subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise CommandFailedError(argv, error.strerror or str(error), "") from error
    finally:
        if sink:
            sink.close()
    try:
        out, err = process.communicate(data, timeout=timeout)
    except BaseException as error:
        _end_group(process)
        if isinstance(error, subprocess.TimeoutExpired):
            raise CommandFailedError(argv, f"no end within {timeout:g} s", "") from None
        raise
    if process.returncode:
        said = log.read_bytes()[-4000:] if log else err or out
        raise CommandFailedError(argv, process.returncode, said.decode(errors="replace"))
    return (out or b"").decode(errors="replace")


def _end_group(process: "subprocess.Popen[bytes]") -> None:
    """Ask a process group to end, then make it."""
    for sign, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        try:
            os.killpg(process.pid, sign)
            process.wait(patience)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
        return
