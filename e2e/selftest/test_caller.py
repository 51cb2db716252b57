"""Callers beside the nodes and in them: what curl and agnhost say, and what that is called."""

import ipaddress
import json
import os
import shutil
import socket
import subprocess
from dataclasses import dataclass, field

import pytest
from kubernetes.dynamic.exceptions import BadRequestError, InternalServerError, NotFoundError

from e2e import timing
from e2e.cluster.api import NotInTimeError
from e2e.cluster.caller import ADDRESSES_EACH, Caller, CallerVantage, answer_as, pick_block
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
from e2e.probe.wire import REQUEST, reply_of
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
    shells: int = 0

    def run(self, *args: str) -> str:
        verb, container, *argv = args
        assert (verb, container) == ("exec", "c0ffee")
        self.ran.append(tuple(argv))
        return run(argv)

    def open_shell(self, container: str) -> "subprocess.Popen[str]":
        assert container == "c0ffee"
        self.shells += 1
        return subprocess.Popen(
            ["sh"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


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
    oops = http_reply("", status="500 Oops")
    sayings = [http_reply("echo-a"), oops, http_reply("echo-b@8081"), http_reply("e\nf")]
    script = iter([*sayings, http_reply("echo-c")])

    def behave(connection: socket.socket) -> None:
        says(next(script))(connection)

    with serving(behave) as at:
        replies = caller().draw(at.address, at.port, 5)

    assert [(reply.outcome, reply.echo, reply.port) for reply in replies] == [
        (ANSWERED, "echo-a", None),
        (FOREIGN, None, None),
        (ANSWERED, "echo-b", 8081),
        (FOREIGN, None, None),
        (ANSWERED, "echo-c", None),
    ]
    assert len(set(at.peers)) == len(at.peers) == 5


@needs_curl
def test_a_shell_is_entered_once_and_used_again():
    """Calls one after another share a shell, and one that is gone is no answer of a server."""
    vantage = caller()
    with serving(says(http_reply("echo-a"))) as at:
        replies = [vantage.call(at.address, at.port) for _ in range(3)]
        assert [reply.echo for reply in replies] == ["echo-a"] * 3
        assert vantage.container.engine.shells == 1

        (shell,) = vantage.container._shells
        shell.kill()
        shell.wait()
        with pytest.raises(ProbeBrokenError, match="the caller c0ffee is gone"):
            vantage.call(at.address, at.port)
        assert vantage.call(at.address, at.port).echo == "echo-a", "in a shell of its own"


@needs_curl
def test_a_draw_ends_with_the_first_connection_that_fails():
    """A dead target costs one attempt, however many were asked for; what was answered counts."""
    with closed_port() as at:
        replies = caller().draw(at.address, at.port, 100)
    assert [reply.outcome for reply in replies] == [REFUSED]

    script = iter([http_reply("echo-a"), "", http_reply("echo-a")])

    def behave(connection: socket.socket) -> None:
        says(next(script))(connection)

    with serving(behave) as at:
        replies = caller().draw(at.address, at.port, 3)
    assert [reply.outcome for reply in replies] == [ANSWERED, CUT_OFF]


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
    at: dict[str, str] = field(default_factory=dict)
    asked: list[object] = field(default_factory=list)

    def ask_pod(self, *what: object) -> str:
        self.asked.append(what)
        if (path := str(what[3])) in self.at:
            return self.at[path]
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


def call_from_pod(said: str | Exception) -> Reply:
    api = PodThatSays(said)
    reply = PodVantage(api, "pod on worker-1", "echo-a-0", "home", 8080).call("2001:db8::7", 80)
    query = {"host": "2001:db8::7", "port": "80", "request": "hostname", "protocol": "http",
             "tries": "1"}  # fmt: skip
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


@dataclass
class Refusal:
    """An answer of the API server, or of a pod that it passes on."""

    status: int
    reason: str
    body: bytes
    headers: dict[str, str] = field(default_factory=lambda: {"Audit-Id": "7bff"})


def test_a_pod_that_is_not_there_is_a_broken_probe():
    """If the API server knows no such pod, nothing was learnt of the target."""
    says = "could not be asked to call: 404 Not Found no such pod$"
    with pytest.raises(ProbeBrokenError, match=says):
        call_from_pod(NotFoundError(Refusal(404, "Not Found", b"no such pod")))


def test_a_name_that_leads_nowhere_is_no_route():
    """Whether a Service's name leads to it is asked too, so that an unknown name is an answer."""
    says = b"host and/or port param are invalid. lookup echo.home.svc on 10.96.0.10:53: refused\n"

    reply = call_from_pod(BadRequestError(Refusal(400, "Bad Request", says)))

    assert str(reply) == "no route (lookup echo.home.svc on 10.96.0.10:53: refused)"


def test_a_name_for_which_nobody_answers_is_no_route():
    """A resolver tries for longer than a request lasts; of an address nothing would be known."""
    late, well = NotInTimeError("late"), {"/hostname": "echo-a-0"}
    vantage = PodVantage(PodThatSays(late, well), "pod", "echo-a-0", "home", 8080)

    assert "lookup echo.home.svc: nobody answered" in str(vantage.call("echo.home.svc", 80))
    with pytest.raises(NotInTimeError):
        vantage.call("192.0.2.1", 80)
    silent = PodVantage(PodThatSays(late), "pod", "echo-a-0", "home", 8080)
    with pytest.raises(NotInTimeError):
        silent.call("echo.home.svc", 80)


def test_a_name_that_the_api_server_does_not_know_is_a_broken_probe():
    """It finds the node of the pod by name; nothing was learnt of the target."""
    says = b"error dialing backend: dial tcp: lookup worker-1 on 10.0.0.2:53: no such host"

    with pytest.raises(ProbeBrokenError, match="lookup worker-1"):
        call_from_pod(InternalServerError(Refusal(500, "Internal Server Error", says)))


@dataclass
class PodThatDials:
    """An API server through which a pod says what each of its calls brought.

    It says it as agnhost does: answers and errors apart, no answers if the last call brought none,
    and nothing of a reply that ended in the middle.
    """

    brings: list[str | None]
    tries: list[int] = field(default_factory=list)

    def ask_pod(self, pod: str, namespace: str, port: int, path: str, query: dict[str, str]) -> str:
        self.tries.append(int(query["tries"]))
        got = [self.brings.pop(0) for _ in range(self.tries[-1])]
        said = {}
        if got[-1]:
            said["responses"] = [body for body in got if body is not None]
        if None in got:
            said["errors"] = ["EOF"] * got.count(None)
        return json.dumps(said)


def draw_from_pod(brings: list[str | None], times: int) -> tuple[list[Reply], list[int]]:
    api = PodThatDials(brings)
    return PodVantage(api, "pod", "echo-a-0", "home", 8080).draw("192.0.2.1", 80, times), api.tries


def test_a_pod_draws_some_at_a_time():
    """A pod calls five times for each request that is made to it, in all as often as asked for."""
    replies, tries = draw_from_pod(["echo-b-0", "echo-b-1", "echo-b-0", *["echo-b-2"] * 9], 12)

    assert [reply.echo for reply in replies[:4]] == ["echo-b-0", "echo-b-1", "echo-b-0", "echo-b-2"]
    assert len(replies) == 12
    assert tries == [5, 5, 2]


def test_a_pod_that_gets_no_answer_is_asked_no_more():
    """A draw from a pod ends with three calls in a row that brought nothing."""
    replies, tries = draw_from_pod([*["echo-b-0"] * 5, *[None] * 100], 50)

    assert [reply.outcome for reply in replies] == [ANSWERED] * 5 + [CUT_OFF] * 5
    assert tries == [5, 5]


def test_no_failure_in_a_pod_s_draw_is_lost():
    """A call that brought nothing is counted among those that brought an answer."""
    replies, _ = draw_from_pod(["echo-b-0", None, "", "echo-b-0", "echo-b-0"], 5)

    assert sorted(reply.outcome for reply in replies) == [ANSWERED] * 3 + [CUT_OFF] * 2


def test_callers_take_addresses_from_the_far_end_of_a_network():
    """Each caller has a block of addresses for each family, which nobody else has."""
    subnets = ["172.18.0.0/16", "fc00:f853:ccd:e793::/64"]

    first, addresses = pick_block(subnets, set(), set())
    second, others = pick_block(subnets, set(), {first})

    assert addresses["IPv4"][0] == "172.18.255.254"
    assert addresses["IPv6"][0] == "fc00:f853:ccd:e793::ffff:fffe"
    for family in ("IPv4", "IPv6"):
        assert len(set(addresses[family])) == len(set(others[family])) == ADDRESSES_EACH
        assert set(addresses[family]).isdisjoint(others[family])
    assert (first, second) == (0, 1)


@pytest.mark.parametrize("prefix", [16, 20, 22, 24])
def test_all_addresses_are_in_the_network(prefix):
    """However small the network is, an address is in it, is free, and is not the engine's next."""
    network = ipaddress.ip_network(f"10.1.0.0/{prefix}")
    last = str(network[-2])

    _, addresses = pick_block([str(network)], {"10.1.0.1", "10.1.0.2", last}, set())

    assert len(addresses["IPv4"]) == ADDRESSES_EACH
    assert last not in addresses["IPv4"]
    assert all(ipaddress.ip_address(a) in network for a in addresses["IPv4"])
    assert all(ipaddress.ip_address(a) > network[32] for a in addresses["IPv4"])


@pytest.mark.parametrize(("subnet", "taken"), [("10.1.0.0/26", set()), ("10.1.0.0/24", {0, 1, 2})])
def test_a_network_that_is_too_small_is_said_to_be(subnet, taken):
    """Where no block is left, the caller is broken, and the network is named."""
    with pytest.raises(ProbeBrokenError, match=f"network {subnet} is too small"):
        pick_block([subnet], set(), taken)


def test_no_more_addresses_are_taken_than_a_caller_has():
    """A caller whose addresses are used up says so."""
    with pytest.raises(ProbeBrokenError, match="only 2 addresses of IPv4 left"):
        Caller(Here(), "c0ffee", {"IPv4": ["10.1.0.9", "10.1.0.8"]}).vantages(3, "IPv4")


@needs_curl
def test_a_server_that_is_no_pod_answers_like_one():
    asked = subprocess.run(
        ["sh", "-c", answer_as("off-cluster-1")], input=REQUEST, capture_output=True, check=True
    )

    reply = reply_of(asked.stdout, 0.1)
    assert (reply.outcome, reply.echo) == (ANSWERED, "off-cluster-1")


def test_nothing_is_left_of_curl_s_log(tmp_path, monkeypatch):
    """A call leaves no file behind where it ran."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    with closed_port() as at:
        caller().call(at.address, at.port)

    assert list(tmp_path.iterdir()) == []


def with_ip(script: str, folder, monkeypatch) -> Caller:
    """Give a caller whose `ip` is this script."""
    put(folder, "ip", script)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return Caller(Here(), "c0ffee", {"IPv4": ["192.0.2.1", "192.0.2.2"]})


def test_an_address_is_given_and_called_from(tmp_path, monkeypatch):
    """What ip is told for a new address is one line for it, and the caller bears its name."""
    it = with_ip(f"cat >>{tmp_path}/told; echo $* >>{tmp_path}/how", tmp_path, monkeypatch)

    first, second = it.vantages(2, "IPv4")

    assert (first.source, second.name) == ("192.0.2.1", "caller 192.0.2.2")
    told = (tmp_path / "told").read_text().splitlines()
    assert told == [f"address add 192.0.2.{n}/32 dev eth0" for n in (1, 2)]
    assert (tmp_path / "how").read_text() == "-4 -batch -\n"
    it.leave()


def test_an_address_that_is_not_taken_is_an_error(tmp_path, monkeypatch):
    """A caller that could not be given its address says nothing about the cluster."""
    it = with_ip("cat >/dev/null; echo 'RTNETLINK answers: No' >&2; exit 1", tmp_path, monkeypatch)

    with pytest.raises(ProbeBrokenError, match="RTNETLINK answers: No"):
        it.vantages(1, "IPv4")
    it.leave()
