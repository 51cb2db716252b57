"""Callers beside the nodes and in them: what curl and agnhost say, and what that is called."""

import json
import shutil
import socket
from dataclasses import dataclass, field

import pytest
from kubernetes.dynamic.exceptions import NotFoundError

from e2e import timing
from e2e.cluster.caller import Caller, CallerVantage
from e2e.cluster.vantage import PodVantage
from e2e.errors import ProbeBrokenError
from e2e.probe import (
    ANSWERED,
    CUT_OFF,
    FOREIGN,
    NO_ROUTE,
    REFUSED,
    SILENT,
    Reply,
)
from e2e.provider.command import run
from e2e.selftest.programs import only_path, put
from e2e.selftest.servers import (
    closed_port,
    full_backlog,
    http_reply,
    resets,
    says,
    says_and_stays,
    serving,
)

needs_curl = pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")


@dataclass
class Here:
    """An engine whose only container is this machine."""

    ran: list[tuple[str, ...]] = field(default_factory=list)

    def run(self, *args: str) -> str:
        verb, container, *argv = args
        assert (verb, container) == ("exec", "c0ffee")
        self.ran.append(tuple(argv))
        return run(argv)


def caller(source: str = "127.0.0.1") -> CallerVantage:
    return CallerVantage(Caller(Here(), "c0ffee"), f"caller {source}", source)


CASES = {
    "closed port": (closed_port, REFUSED),
    "full backlog": (full_backlog, SILENT),
    "never replies": (lambda: serving(says_and_stays("")), SILENT),
    "resets": (lambda: serving(resets()), CUT_OFF),
    "resets halfway": (lambda: serving(resets(http_reply("echo-a", promised=20))), CUT_OFF),
    "closes without a word": (lambda: serving(says("")), CUT_OFF),
    "closes halfway": (lambda: serving(says(http_reply("echo-a", promised=20))), CUT_OFF),
    "status 500": (lambda: serving(says(http_reply("echo-a", status="500 Oops"))), FOREIGN),
    "a redirect": (
        lambda: serving(says(http_reply("", status="302 Found", extra="Location: /\r\n"))),
        FOREIGN,
    ),
    "another's page": (lambda: serving(says(http_reply("<p>It\nworks</p>\n"))), FOREIGN),
    "a page that ends like an echo": (lambda: serving(says(http_reply("Hi\necho-a"))), FOREIGN),
    "no HTTP": (lambda: serving(says("SSH-2.0-OpenSSH_9.2\r\n")), FOREIGN),
    "an echo": (lambda: serving(says(http_reply("echo-a"))), ANSWERED),
    "an echo that ends its line": (lambda: serving(says(http_reply("echo-a\n"))), ANSWERED),
}


@needs_curl
@pytest.mark.parametrize("case", CASES)
def test_curl_s_words_are_understood(case, monkeypatch):
    """What curl says of each thing that a server can do is given its outcome."""
    server, outcome = CASES[case]
    if outcome == SILENT:
        monkeypatch.setattr(timing, "ATTEMPT", 0.5)

    with server() as at:
        reply = caller().call(at.address, at.port)

    assert reply.outcome == outcome
    assert reply.echo == ("echo-a" if outcome == ANSWERED else None)
    assert reply.took >= (0.4 if outcome == SILENT else 0)


@needs_curl
def test_an_address_that_cannot_be_reached_is_no_route():
    """The system of the caller says at once that there is no way, and that is NO_ROUTE."""
    assert caller().call("224.0.0.1", 80).outcome == NO_ROUTE


@needs_curl
def test_a_draw_brings_as_many_replies_as_were_asked_for():
    """Each reply of a draw has its own connection and outcome, in the order of the requests."""
    sayings = [http_reply("echo-a"), "", http_reply("echo-b@8081"), "nonsense", http_reply("e\nf")]
    script = iter([*sayings, http_reply("echo-c")])

    def behave(connection: socket.socket) -> None:
        says(next(script))(connection)

    with serving(behave) as at:
        replies = caller().draw(at.address, at.port, 6)

    assert [(reply.outcome, reply.echo, reply.port) for reply in replies] == [
        (ANSWERED, "echo-a", None),
        (CUT_OFF, None, None),
        (ANSWERED, "echo-b", 8081),
        (FOREIGN, None, None),
        (FOREIGN, None, None),
        (ANSWERED, "echo-c", None),
    ]
    assert len(set(at.peers)) == len(at.peers) == 6


@needs_curl
def test_a_draw_at_a_closed_port_is_refused_each_time():
    """The reasons in curl's log are matched with the requests that failed, one by one."""
    with closed_port() as at:
        replies = caller().draw(at.address, at.port, 3)

    assert [reply.outcome for reply in replies] == [REFUSED] * 3


@needs_curl
def test_the_caller_s_own_address_is_the_source():
    """Requests come from the address of the vantage, which a node with affinity goes by."""
    with serving(says(http_reply("echo-a")), "0.0.0.0") as at:
        caller("127.0.0.77").call("127.0.0.1", at.port)

    assert [address for address, _ in at.peers] == ["127.0.0.77"]


@needs_curl
def test_ipv6_is_called_in_brackets():
    """An IPv6 address is called from an IPv6 address."""
    try:
        with serving(says(http_reply("echo-a")), "::1") as at:
            reply = caller("::1").call(at.address, at.port)
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")

    assert (reply.outcome, reply.echo) == (ANSWERED, "echo-a")


@needs_curl
def test_a_proxy_of_the_environment_is_not_asked(monkeypatch):
    """The node itself is called by curl, whatever the environment says."""
    with serving(says(http_reply("proxy"))) as proxy, serving(says(http_reply("echo-a"))) as at:
        monkeypatch.setenv("http_proxy", f"http://{proxy.address}:{proxy.port}")
        monkeypatch.setenv("all_proxy", f"http://{proxy.address}:{proxy.port}")
        monkeypatch.delenv("no_proxy", raising=False)
        reply = caller().call(at.address, at.port)

    assert reply.echo == "echo-a"
    assert proxy.peers == []


@needs_curl
def test_a_caller_without_its_address_is_a_broken_probe():
    """If curl cannot take the address of the vantage, nothing was learnt of the node."""
    with closed_port() as at, pytest.raises(ProbeBrokenError, match=r"caller 192.0.2.55: curl"):
        caller("192.0.2.55").call(at.address, at.port)


@pytest.mark.parametrize("program", [None, "#!/bin/sh\nexit 2\n", "#!/bin/sh\necho oops\n"])
def test_a_curl_that_is_missing_or_breaks_is_a_broken_probe(tmp_path, monkeypatch, program):
    """A caller that says less than was asked for has not called."""
    folder = only_path(tmp_path / "bin")
    if program:
        put(folder, "curl", program)
    monkeypatch.setenv("PATH", str(folder))

    with pytest.raises(ProbeBrokenError, match=r"caller 127.0.0.1: curl ended with"):
        caller().draw("127.0.0.1", 1, 2)


@dataclass
class PodThatSays:
    """An API server through which a pod says what agnhost says of a call."""

    says: str | Exception
    asked: list[object] = field(default_factory=list)

    def ask_pod(self, *what: object) -> str:
        self.asked.append(what)
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


def call_from_pod(said: str | Exception) -> Reply:
    api = PodThatSays(said)
    reply = PodVantage(api, "pod on worker-1", "echo-a-0", "home", 8080).call("2001:db8::7", 80)
    query = {"host": "2001:db8::7", "port": "80", "request": "hostname", "protocol": "http"}
    assert api.asked == [("echo-a-0", "home", 8080, "/dial", query)]
    return reply


# Each of them as Go 1.26 printed it, of a server that did this.
GO_SAYS = {
    "dial tcp 127.0.0.1:48617: connect: connection refused": REFUSED,
    "context deadline exceeded (Client.Timeout exceeded while awaiting headers)": SILENT,
    "context deadline exceeded (Client.Timeout or context cancellation while reading body)": SILENT,
    "dial tcp 10.96.0.9:80: i/o timeout": SILENT,
    "dial tcp 10.96.0.9:80: connect: connection timed out": SILENT,
    "read tcp 127.0.0.1:56794->127.0.0.1:44817: read: connection reset by peer": CUT_OFF,
    "EOF": CUT_OFF,
    "unexpected EOF": CUT_OFF,
    "dial tcp 198.51.100.1:80: connect: no route to host": NO_ROUTE,
    "dial tcp 224.0.0.1:80: connect: network is unreachable": NO_ROUTE,
    (
        "net/http: HTTP/1.x transport connection broken: "
        'malformed HTTP response "SSH-2.0-OpenSSH_9.2"'
    ): FOREIGN,
    (
        "net/http: HTTP/1.x transport connection broken: "
        'malformed HTTP response "connection refused: EOF"'
    ): FOREIGN,
}


@pytest.mark.parametrize("words", GO_SAYS)
def test_go_s_words_are_understood(words):
    """What agnhost reports of a call that brought no reply is given its outcome."""
    said = json.dumps({"errors": [f'Get "http://[2001:db8::7]:80/hostname": {words}']})

    assert call_from_pod(said).outcome == GO_SAYS[words]


@pytest.mark.parametrize(
    ("said", "outcome", "echo"),
    [
        ({"responses": ["echo-a-0"]}, ANSWERED, "echo-a-0"),
        ({"responses": ["<html>"]}, FOREIGN, None),
        ({"responses": [""]}, FOREIGN, None),
        ({}, CUT_OFF, None),
    ],
)
def test_what_a_pod_was_told_is_read_as_everywhere(said, outcome, echo):
    """A reply that a pod passes on is checked like any other; a lost one was cut off."""
    reply = call_from_pod(json.dumps(said))

    assert (reply.outcome, reply.echo) == (outcome, echo)


@pytest.mark.parametrize(
    "said",
    [
        '{"errors": ["dial tcp: lookup node: no such host"]}',
        '{"errors": ["dial tcp 127.0.0.1:80: socket: too many open files"]}',
        "<html>502 Bad Gateway</html>",
        "",
    ],
)
def test_a_pod_that_could_not_call_is_a_broken_probe(said):
    """Words that say nothing of the target, and words of somebody else, are no outcome."""
    with pytest.raises(ProbeBrokenError, match="pod on worker-1"):
        call_from_pod(said)


def test_a_pod_that_is_not_there_is_a_broken_probe():
    """If the API server knows no such pod, nothing was learnt of the target."""

    class Gone:
        status, reason, body, headers = 404, "Not Found", "", {}

    with pytest.raises(ProbeBrokenError, match="could not be asked to call"):
        call_from_pod(NotFoundError(Gone()))


def test_a_pod_draws_one_after_another():
    """A draw from a pod is as many calls as were asked for."""
    api = PodThatSays('{"responses": ["echo-b-0"]}')

    replies = PodVantage(api, "pod", "echo-a-0", "home", 8080).draw("192.0.2.1", 80, 5)

    assert [reply.echo for reply in replies] == ["echo-b-0"] * len(api.asked)
    assert len(api.asked) == 5


@needs_curl
def test_nothing_is_left_of_curl_s_log(tmp_path, monkeypatch):
    """A call leaves no file behind where it ran."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    with closed_port() as at:
        caller().call(at.address, at.port)

    assert list(tmp_path.iterdir()) == []
