"""Vantages inside the cluster: a pod on a node, or a pod on a node's own network."""

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from kubernetes.dynamic.exceptions import DynamicApiError

from e2e import timing
from e2e.cluster import curl
from e2e.cluster.api import Api, NotInTimeError
from e2e.errors import ProbeBrokenError
from e2e.probe import CUT_OFF, FOREIGN, NO_ROUTE, REFUSED, SILENT, Outcome, Reply
from e2e.probe.reply import is_enough, reply_from
from e2e.probe.wire import CLIENT_PATH, IDENTITY_PATH

# The words of Go's net package, in which agnhost reports how a call ended.
BY_WORDS: Sequence[tuple[str, Outcome]] = (
    ("malformed HTTP", FOREIGN),
    ("connection refused", REFUSED),
    ("deadline exceeded", SILENT),
    ("i/o timeout", SILENT),
    ("connection timed out", SILENT),
    ("no route to host", NO_ROUTE),
    ("network is unreachable", NO_ROUTE),
    # What Linux says of a route of the type blackhole.
    ("connect: invalid argument", NO_ROUTE),
    ("connection reset by peer", CUT_OFF),
    ("EOF", CUT_OFF),
)

# What a pod says of a name that it was to call; the API server looks up names of nodes itself.
NAME_NOT_FOUND = re.compile(r"param are invalid\. (lookup .*)")

# A command that only asks something ends at once; longer ones say so.
RUN_WITHIN = 20
# In one request to the pod. Should all wait for agnhost's 5 s, the API server still waits for them.
TRIES = 5


@dataclass(frozen=True)
class PodVantage:
    """An echo pod as a caller; asked to call through the API server, so that it works anywhere.

    Attributes:
        name: what messages call it.
        pod: the pod that calls.
        namespace: where it lives.
        port: the port on which it takes the request to call.
    """

    api: Api
    name: str
    pod: str
    namespace: str
    port: int

    def call(self, address: str, port: int) -> Reply:
        """Let the pod ask once; it gives up after 5 s, which is agnhost's own limit."""
        return self._dial(address, port, 1)[0]

    def draw(self, address: str, port: int, times: int, at_once: int = 1) -> list[Reply]:
        """Let the pod ask `times` times in a row.

        Ends after three in a row that brought no answer.
        """
        del at_once
        replies: list[Reply] = []
        while len(replies) < times and not is_enough(replies):
            replies += self._dial(address, port, min(TRIES, times - len(replies)))
        return replies

    def run(self, command: str, *, within: int = RUN_WITHIN) -> str:
        """Run a shell command in the pod, however it ends; gives what it printed, errors too.

        Args:
            command: for `sh -c`.
            within: seconds, after which the pod ends it.

        Raises:
            ProbeBrokenError: the pod could not be asked.
        """
        query = {"shellCommand": f"timeout {within} sh -c {shlex.quote(command)} 2>&1 || true"}
        try:
            said = self.api.ask_pod(self.pod, self.namespace, self.port, "/shell", query)
            result = json.loads(said)
        except (DynamicApiError, json.JSONDecodeError) as error:
            raise ProbeBrokenError(
                f"{self.name} could not be asked to run: {_said(error)}"
            ) from error
        return str(result.get("output", ""))

    def call_closely(self, address: str, port: int) -> Reply:
        """Let the pod ask who answers and as whom it sees the pod, over one connection of curl."""
        argv = curl.command(address, port, (IDENTITY_PATH, CLIENT_PATH), keep=True)
        log = "/tmp/log.$$"  # noqa: S108  # of the pod
        said = self.run(f"{shlex.join(argv)} 2>{log}; echo '{curl.LOG}'; cat {log}; rm {log}")
        return curl.close_reply(self.name, curl.read(self.name, said))

    def call_udp(self, address: str, port: int) -> Reply:
        """Let the pod ask once over UDP; it gives up after 5 s, which is agnhost's own limit."""
        return self._dial(address, port, 1, "udp")[0]

    def _dial(self, address: str, port: int, times: int, protocol: str = "http") -> list[Reply]:
        """The answers first, and then what was no answer.

        agnhost keeps the answers for itself if the last call brought none.
        """
        query = {"host": address, "port": str(port), "request": "hostname", "protocol": protocol,
                 "tries": str(times)}  # fmt: skip
        try:
            said = self.api.ask_pod(self.pod, self.namespace, self.port, "/dial", query)
            result = json.loads(said)
        except (DynamicApiError, json.JSONDecodeError) as error:
            # The pod looks a name up before it calls.
            if unknown := NAME_NOT_FOUND.search(_said(error)):
                return [Reply(NO_ROUTE, detail=unknown[1])]
            raise ProbeBrokenError(
                f"{self.name} could not be asked to call: {_said(error)}"
            ) from error
        except NotInTimeError:
            # Calls end after 5 s each, but not what a resolver tries for a name.
            if not _is_name(address):
                raise
            # So that it is the name for which it waits, and neither the pod nor who passes this on.
            self.api.ask_pod(self.pod, self.namespace, self.port, IDENTITY_PATH, {})
            within = f"{timing.API_REQUEST:.0f} s"
            return [Reply(NO_ROUTE, detail=f"lookup {address}: nobody answered within {within}")]
        # agnhost loses the error of a reply that ends in the middle.
        bodies = result.get("responses", [])
        answers = [reply_from(body, 0.0) if body else Reply(CUT_OFF) for body in bodies]
        failures = [Reply(self._outcome(words)) for words in result.get("errors", [])]
        return answers + failures or [Reply(CUT_OFF)]

    def _outcome(self, words: str) -> Outcome:
        for sign, outcome in BY_WORDS:
            if sign in words:
                return outcome
        raise ProbeBrokenError(f"{self.name} ended its call in an unknown way: {words!r}")


def _is_name(address: str) -> bool:
    try:
        ip_address(address)
    except ValueError:
        return True
    return False


def _said(error: DynamicApiError | json.JSONDecodeError) -> str:
    """The words of a pod that refused, or of who answered instead, without their headers."""
    if isinstance(error, json.JSONDecodeError):
        return str(error)
    body = error.body.decode(errors="replace") if isinstance(error.body, bytes) else error.body
    return " ".join(f"{error.status} {error.reason} {body or ''}".split())
