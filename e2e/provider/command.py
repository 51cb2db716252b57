"""Runs other programs; one that takes too long, or is interrupted, ends with all its children."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from e2e import timing
from e2e.errors import CannotRunError
from e2e.provider.interrupts import shielded

# The folder that has this package. Where somebody works there may be another one called e2e.
ROOT = Path(__file__).parents[2]
START = (
    "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); "
    "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)


def own_program(module: str) -> list[str]:
    """The beginning of a command that runs a module, and finds this package wherever it starts."""
    return [sys.executable, "-P", "-c", START, str(ROOT), module]


def tied(sign: str) -> list[str]:
    """What goes before a command to which the kernel gives a signal when this process is killed.

    Nothing where there is no program for that; it is this thread that counts.
    """
    return ["setpriv", "--pdeathsig", sign] if shutil.which("setpriv") else []


def begin(
    argv: Sequence[str],
    output: IO[bytes] | int | None = None,
    env: Mapping[str, str] | None = None,
) -> "subprocess.Popen[bytes]":
    """Begin a program that cleans up when it is interrupted: by us, or when this process is killed.

    Args:
        argv: the program and its arguments.
        output: where what it prints goes, if not to the terminal.
        env: its whole environment, if not that of this process.
    """
    return subprocess.Popen(
        [*tied("INT"), *argv],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=None if output is None else subprocess.STDOUT,
        env=env,
        # A Ctrl-C at the terminal is handed on to it once.
        start_new_session=True,
    )


def interrupt(processes: Iterable["subprocess.Popen[bytes]"], say: Callable[[str], None]) -> None:
    """Ask programs to end as Ctrl-C does, and wait until they have cleaned up, whoever asks again.

    Args:
        processes: they.
        say: tells a person why it takes so long.
    """
    every = list(processes)
    with shielded(say):
        for process in every:
            process.send_signal(signal.SIGINT)
        for process in every:
            process.wait()


def run_to_its_end(
    argv: Sequence[str], say: Callable[[str], None], log: IO[bytes] | None = None
) -> int:
    """Run a command to its end, also when somebody stops this process: it has to clean up.

    Args:
        argv: the program and its arguments.
        say: tells a person why it takes so long.
        log: where what it prints goes, if not to the terminal.
    """
    process = begin(argv, log)
    try:
        return process.wait()
    except KeyboardInterrupt:
        interrupt([process], say)
        raise


class CommandFailedError(CannotRunError):
    """A program ended with an error; `what` holds its command line and its last words."""

    def __init__(self, argv: Sequence[str], code: int | str, said: str) -> None:
        tail = "\n".join(f"    {line}" for line in said.strip().splitlines()[-15:])
        how = f"ended with {code}" if isinstance(code, int) else f"failed: {code}"
        super().__init__(f"`{shlex.join(argv)}` {how}\n{tail}".rstrip())
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
        end_group(process)
        if isinstance(error, subprocess.TimeoutExpired):
            said = _last_words(log, error.stderr, error.stdout)
            raise CommandFailedError(argv, f"no end within {timeout:g} s", said) from None
        raise
    if process.returncode:
        raise CommandFailedError(argv, process.returncode, _last_words(log, err, out))
    return (out or b"").decode(errors="replace")


def _last_words(log: Path | None, err: bytes | None, out: bytes | None) -> str:
    """Return what a program said last: the end of its log, else its errors, else its output."""
    said = log.read_bytes()[-4000:] if log else err or out or b""
    return said.decode(errors="replace")


def end_group(process: "subprocess.Popen[bytes]") -> None:
    """Ask a process group to end, then make those end that are left.

    The second step is for the group, not for its leader: a leader that ended when it was asked
    may leave children that did not.
    """
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, PermissionError):  # macOS, of a group that has ended
            os.killpg(process.pid, sign)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timing.PROGRAM_END_WITHIN)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe:
            with suppress(OSError):  # what was not yet written to a program that is gone
                pipe.close()


def kill_group(process: "subprocess.Popen[bytes]") -> None:
    """Make a process group end at once, while somebody else waits for its leader."""
    if process.poll() is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
