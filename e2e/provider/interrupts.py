"""Lets clean-up finish when somebody presses Ctrl-C again."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def shielded(say: Callable[[str], None]) -> Iterator[None]:
    """Hold back SIGINT and SIGTERM while clean-up runs, and say so when one comes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def hold_back(number: int, _: FrameType | None) -> None:
        say(f"{signal.Signals(number).name}: still removing what was made; that may take minutes")

    before = {
        number: signal.signal(number, hold_back) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
