"""Runs a program and hands on each line as it comes."""

import os
import selectors
import shutil
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from e2e.provider.command import CommandFailedError, end_group, tied

TAIL = 30


def stream(
    argv: Sequence[str],
    on_line: Callable[[str], None],
    *,
    timeout: float,
    first_word_within: float | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    log: Path | None = None,
    started: Callable[["subprocess.Popen[bytes]"], None] = lambda _: None,
) -> None:
    """Run a program to its end and call `on_line` with each line that it prints.

    The program ends when this process ends, however that happens.

    Args:
        argv: the program and its arguments.
        on_line: gets each line of stdout and stderr.
        timeout: seconds; then the whole process group is killed.
        first_word_within: seconds within which it must print its first line.
        cwd: where it runs.
        env: variables added to the present ones.
        log: a file that gets every line.
        started: gets the program when it has begun, for whoever may have to end it.

    Raises:
        CommandFailedError: it is missing, ended with another code than 0, or took too long.
    """
    tail: deque[str] = deque(maxlen=TAIL)
    process = start(argv, cwd=cwd, env=env)
    try:
        started(process)
        _read_lines(
            process,
            argv,
            on_line,
            tail=tail,
            timeout=timeout,
            first_word_within=first_word_within,
            log=log,
        )
    except BaseException:
        end_group(process)
        raise
    code = process.wait()
    if code:
        raise CommandFailedError(argv, code, "\n".join(tail))


def start(
    argv: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    log: Path | None = None,
) -> "subprocess.Popen[bytes]":
    """Start a program that ends with this process; its output goes to `log` or to a pipe.

    Raises:
        CommandFailedError: it is missing.
    """
    if shutil.which(argv[0]) is None:
        raise CommandFailedError(argv, "no such program", "")
    sink = log.open("ab") if log else subprocess.PIPE
    try:
        return subprocess.Popen(
            # Also when we are killed without a chance to end it ourselves.
            [*tied("KILL"), *argv],
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    finally:
        if not isinstance(sink, int):
            sink.close()


def _read_lines(
    process: "subprocess.Popen[bytes]",
    argv: Sequence[str],
    on_line: Callable[[str], None],
    *,
    tail: deque[str],
    timeout: float,
    first_word_within: float | None,
    log: Path | None,
) -> None:
    began = time.monotonic()
    limit = timeout if first_word_within is None else min(first_word_within, timeout)
    rest = b""
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            left = began + limit - time.monotonic()
            if left <= 0 or not selector.select(left):
                word = "word" if limit != timeout else "end"
                raise CommandFailedError(argv, f"no {word} within {limit:g} s", "\n".join(tail))
            block = os.read(process.stdout.fileno(), 65536)
            if not block:
                return
            limit = timeout
            if log:
                with log.open("ab") as file:
                    file.write(block)
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                text = line.decode(errors="replace").rstrip()
                tail.append(text)
                on_line(text)
