"""How fast an API server is asked, and when it is asked again."""

import os
import ssl
import threading
import time
from collections.abc import Mapping
from math import inf
from pathlib import Path

import urllib3
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic.exceptions import DynamicApiError
from urllib3.connection import HTTPSConnection
from urllib3.connectionpool import HTTPSConnectionPool

from e2e import timing
from e2e.wait import pause

# A process may begin with so many requests at once, as kubectl may.
BURST = 300
READS = ("get", "head")
TOO_MANY = 429
# What passes by itself: a server that is just coming up or going, or one before it that misses it.
# 504 is how one says that it has not heard yet of what it is asked for.
PASSING = (500, 502, 503)
# So often within eight seconds; what is there for longer will stay.
ASKED_AGAIN = 5
NEVER_SENT = (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError)
LOST = (urllib3.exceptions.ProtocolError, urllib3.exceptions.ReadTimeoutError)
# Says when the server was missed last, by whichever process of the run.
MISSED = "api-server-missed"
_NEVER = threading.Event()


class Connection(HTTPSConnection):
    """One that says whether it was never there, so that nothing was sent by it.

    What stands before a server that is away may take connections for it, as docker's proxy does,
    and a server that is held takes them and says nothing.
    """

    def connect(self) -> None:
        """Open it, with all that comes before the first request.

        Raises:
            NewConnectionError: it was closed before.
            ConnectTimeoutError: nothing came.
        """
        try:
            super().connect()
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionError) as error:
            why = f"closed before anything was sent: {error}"
            raise urllib3.exceptions.NewConnectionError(self, why) from error
        except TimeoutError as error:
            why = f"{self.host} took the connection, and says nothing"
            raise urllib3.exceptions.ConnectTimeoutError(self, why) from error


class Pool(HTTPSConnectionPool):
    """Connections of that kind."""

    ConnectionCls = Connection


def missed_at(shared: Path) -> float:
    """When a process of the run last missed the API server, as time.monotonic(); -inf if never."""
    noted = shared / MISSED
    return float(noted.read_text()) if noted.exists() else -inf


def note_missed(shared: Path) -> None:
    """Note that it is missed now, for all processes of the run, whatever happens to the clock."""
    draft = shared / f"{MISSED}.{os.getpid()}-{threading.get_ident()}"
    draft.write_text(str(time.monotonic()))
    draft.replace(shared / MISSED)


class Pace:
    """So many requests a second on average, and a burst of some more."""

    def __init__(self, rate: float = timing.API_RATE, burst: int = BURST) -> None:
        self._rate, self._burst = rate, float(burst)
        self._left, self._at = self._burst, time.monotonic()
        self._lock = threading.Lock()

    def keep(self) -> None:
        """Wait until one more request may be sent."""
        with self._lock:
            now = time.monotonic()
            self._left = min(self._burst, self._left + (now - self._at) * self._rate) - 1
            self._at = now
            seconds = max(0.0, -self._left / self._rate)
        if seconds:
            pause(_NEVER, seconds)


class Patience:
    """Asks again what was not asked for, as long as that makes sense."""

    def __init__(self, shared: Path | None = None) -> None:
        """Note in a folder of the run, if there is one, when the server was missed."""
        self._is_away = False
        self._shared = shared

    def again(self, error: Exception, method: str, asked: int, began: float) -> bool:
        """Wait until a request is worth being sent again; False if it is not.

        Args:
            error: how it ended.
            method: of HTTP.
            asked: how often it was sent.
            began: when first, by `time.monotonic`.
        """
        never_sent = isinstance(error, NEVER_SENT)
        seconds = _seconds_until(error, method, asked)
        # A kept connection may have ended by itself; then the same goes through at once.
        is_ended = isinstance(error, urllib3.exceptions.ProtocolError) and asked == 1
        if isinstance(error, (*NEVER_SENT, *LOST)) and (seconds is None or not is_ended):
            self._note()
        if seconds is None:
            return False
        # Who waited in vain once does not do so for each of the requests that follow.
        if never_sent and self._is_away:
            return False
        if time.monotonic() - began + seconds > timing.API_BACK_WITHIN:
            self._is_away = never_sent
            return False
        pause(_NEVER, seconds)
        return True

    def answered(self, took: float) -> None:
        """Note that the server is there; one that took so many seconds for it had been held."""
        self._is_away = False
        if took > timing.API_HELD_AFTER:
            self._note()

    def missed(self, error: Exception) -> None:
        """Note that the server was missed, if this is how a request to a pod behind it ends then.

        What a pod does not answer in time says nothing of the server.
        """
        if isinstance(error, (*NEVER_SENT, urllib3.exceptions.ProtocolError)):
            self._note()

    def _note(self) -> None:
        if self._shared:
            note_missed(self._shared)


def _seconds_until(error: Exception, method: str, asked: int) -> float | None:
    """After how many seconds a request is worth being sent again; None if it is not."""
    usual: float = min(timing.API_AGAIN * 2 ** (asked - 1), timing.API_AGAIN_AT_MOST)
    if isinstance(error, NEVER_SENT):
        return usual
    if isinstance(error, LOST):
        # A kept connection that had ended, or nothing came; whether the server read what was sent
        # is not known.
        return usual if method in (*READS, "delete") else None
    if not isinstance(error, DynamicApiError | ApiException):
        return None
    named = _retry_after(error.headers or {})
    if error.status == TOO_MANY or (error.status in PASSING and named is not None):
        return max(named or 0.0, usual)
    passes = error.status in PASSING and method in READS and asked <= ASKED_AGAIN
    return usual if passes else None


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """What a server asks for, in seconds; a date or anything else is no number."""
    said = str(headers.get("Retry-After") or "")
    return float(said) if said.isdecimal() else None
