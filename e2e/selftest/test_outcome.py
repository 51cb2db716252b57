"""Outcomes: what is done to a real connection, and what the caller outside calls it."""

import errno
import http.client
import os
import resource
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import requests
import urllib3

from e2e.errors import ProbeBrokenError
from e2e.probe import (
    ANSWERED,
    BLOCKED,
    CUT_OFF,
    FOREIGN,
    NO_ROUTE,
    REFUSED,
    SILENT,
    Outcome,
    Outside,
    Reply,
)
from e2e.probe.outcome import outcome_of
from e2e.probe.pulse import clock
from e2e.probe.reply import reply_from
from e2e.probe.wire import is_cut
from e2e.selftest.servers import (
    Server,
    closed_port,
    full_backlog,
    http_reply,
    resets,
    says,
    says_and_stays,
    serving,
)

# So long that a busy machine never turns an answer into silence, and short where silence is due.
LONG, SOME, SHORT = 20.0, 2.0, 0.5

# What a server does, and what that is: the same for a look and for a draw.
CASES: dict[str, tuple[Callable[[], AbstractContextManager[Server]], Outcome]] = {
    "closed port": (closed_port, REFUSED),
    "full backlog": (full_backlog, SILENT),
    "never replies": (lambda: serving(says_and_stays("")), SILENT),
    "stops halfway and stays": (
        lambda: serving(says_and_stays(http_reply("echo", promised=9))),
        SILENT,
    ),
    "resets": (lambda: serving(resets()), CUT_OFF),
    "resets halfway": (lambda: serving(resets(http_reply("echo-a", promised=20))), CUT_OFF),
    "closes without a word": (lambda: serving(says("")), CUT_OFF),
    "closes halfway": (lambda: serving(says(http_reply("echo-a", promised=20))), CUT_OFF),
    "status 500": (lambda: serving(says(http_reply("echo-a", status="500 Oops"))), FOREIGN),
    "status 500, halfway": (
        lambda: serving(says(http_reply("no", status="500 Oops", promised=9))),
        CUT_OFF,
    ),
    "status 500 that stays": (
        lambda: serving(says_and_stays(http_reply("no", status="500 Oops"))),
        FOREIGN,
    ),
    "no HTTP that stays": (lambda: serving(says_and_stays("SSH-2.0-OpenSSH_9.2\r\n")), FOREIGN),
    "status 404": (lambda: serving(says(http_reply("echo-a", status="404 Not Found"))), FOREIGN),
    "status 204": (lambda: serving(says("HTTP/1.1 204 No Content\r\n\r\n")), FOREIGN),
    "another's page": (lambda: serving(says(http_reply("<html>It works!</html>"))), FOREIGN),
    "no body": (lambda: serving(says(http_reply(""))), FOREIGN),
    "no text": (lambda: serving(says(http_reply("\x00\xff\xfe"))), FOREIGN),
    "no HTTP": (lambda: serving(says("SSH-2.0-OpenSSH_9.2\r\n")), FOREIGN),
    "no HTTP, and no end of a line": (lambda: serving(says("x" * 70_000)), FOREIGN),
    "another HTTP": (lambda: serving(says("HTTP/2.0 200 OK\r\n\r\n")), FOREIGN),
    "TLS": (lambda: serving(says("\x15\x03\x01\x00\x02\x02\x16")), FOREIGN),
    "an echo": (lambda: serving(says(http_reply("echo-a-0"))), ANSWERED),
    "an echo without a length": (lambda: serving(says("HTTP/1.0 200 OK\r\n\r\necho-a")), ANSWERED),
    "an echo and a reset": (lambda: serving(resets(http_reply("echo-a"))), ANSWERED),
    "an echo that stays": (lambda: serving(says_and_stays(http_reply("echo-a"))), ANSWERED),
}
ASK: dict[str, Callable[[Outside, str, int], Reply]] = {
    "call": lambda outside, address, port: outside.call(address, port),
    "draw": lambda outside, address, port: outside.draw(address, port, 1)[0],
}


@pytest.fixture(params=ASK.values(), ids=ASK.keys())
def ask(request):
    """Ask once, by a look or by a draw."""
    return request.param


@pytest.mark.parametrize("case", CASES)
def test_an_attempt_ends_as_the_server_ends_it(case, ask):
    """Each thing that a server can do has its outcome, and looks and draws agree on it."""
    server, outcome = CASES[case]
    patience = SHORT if outcome == SILENT else SOME if "stays" in case else LONG

    with server() as at:
        reply = ask(Outside(patience=patience), at.address, at.port)

    assert reply.outcome == outcome
    assert reply.took >= (SHORT if outcome == SILENT else 0)
    assert bool(reply.echo) == (outcome == ANSWERED)


def test_an_open_connection_is_waited_for_as_long_again(ask):
    """A server that needs longer than a connection may take to open has still answered."""

    def behave(connection: socket.socket) -> None:
        threading.Event().wait(1.25 * SOME)
        says(http_reply("echo-a"))(connection)

    with serving(behave) as at:
        reply = ask(Outside(patience=SOME), at.address, at.port)

    assert reply.echo == "echo-a"
    assert reply.took > SOME


def test_an_unreachable_address_is_no_route(ask):
    """An address to which the caller's own system opens no connection is NO_ROUTE."""
    multicast = "224.0.0.1"  # TCP never goes there, so no packet leaves this machine

    assert ask(Outside(patience=LONG), multicast, 80).outcome == NO_ROUTE


def test_a_redirect_is_not_followed(ask):
    """A redirect to a good echo is FOREIGN, and the echo is not asked."""
    with serving(says(http_reply("echo-a"))) as echo:
        to = f"Location: http://{echo.address}:{echo.port}/hostname\r\n"
        with serving(says(http_reply("", status="302 Found", extra=to))) as at:
            reply = ask(Outside(patience=LONG), at.address, at.port)

    assert reply.outcome == FOREIGN
    assert echo.peers == []


def test_ipv6_is_called_by_its_bare_address(ask):
    """An IPv6 address is called without brackets in its name."""
    try:
        with serving(says(http_reply("echo-a")), "::1") as at:
            reply = ask(Outside(patience=LONG), at.address, at.port)
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")

    assert (reply.outcome, reply.echo) == (ANSWERED, "echo-a")


def test_an_echo_may_tell_its_port(ask):
    """`pod@port` names the pod and the port on which it was asked."""
    with serving(says(http_reply("echo-a-0@8081\n"))) as at:
        reply = ask(Outside(patience=LONG), at.address, at.port)

    assert (reply.outcome, reply.echo, reply.port) == (ANSWERED, "echo-a-0", 8081)


def test_a_proxy_of_the_environment_is_not_asked(ask, monkeypatch):
    """With every proxy variable set the node itself is called, and the proxy never."""
    with serving(says(http_reply("proxy"))) as proxy, serving(says(http_reply("echo-a"))) as at:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            for variable in (name, name.upper()):
                monkeypatch.setenv(variable, f"http://{proxy.address}:{proxy.port}")
        for variable in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(variable, raising=False)

        reply = ask(Outside(patience=LONG), at.address, at.port)

    assert reply.echo == "echo-a"
    assert proxy.peers == []


def test_every_request_has_a_connection_of_its_own():
    """Looks and draws never reuse a connection, though the server would let them."""
    outside = Outside(patience=LONG)
    with serving(says(http_reply("echo-a", extra="Connection: keep-alive\r\n"))) as at:
        for _ in range(3):
            outside.call(at.address, at.port)
        replies = outside.draw(at.address, at.port, 4)

    assert [reply.echo for reply in replies] == ["echo-a"] * 4
    assert len(set(at.peers)) == len(at.peers) == 7


def test_a_reply_is_read_before_the_next_request_of_a_draw():
    """Draws come one after another: the order of replies is the order of connections."""
    names = iter(["echo-a", "echo-b", "echo-c"])

    def behave(connection: socket.socket) -> None:
        says(http_reply(next(names)))(connection)

    with serving(behave) as at:
        replies = Outside(patience=LONG).draw(at.address, at.port, 3)

    assert [reply.echo for reply in replies] == ["echo-a", "echo-b", "echo-c"]


def test_a_draw_uses_even_and_odd_source_ports():
    """A link that loses every other port is seen; connections by themselves take even ones."""
    with serving(says(http_reply("echo-a"))) as at:
        Outside(patience=LONG).draw(at.address, at.port, 60)

    assert {port % 2 for _, port in at.peers} == {0, 1}


def test_a_source_port_without_an_answer_is_not_used_again():
    """A call that went unanswered spends its source port, for that target and for no other."""
    outside = Outside(patience=0.2)
    with full_backlog() as at:
        outside.draw(at.address, at.port, 3)
        stale = outside._stale[at.address, at.port]
        assert len(stale) == 3
        assert all(until > clock() + 100 for until in stale.values())

    half = set(range(32768, 61000, 2)) | set(range(32769, 61000, 4))
    with serving(says(http_reply("echo-a"))) as at:
        outside._stale[at.address, at.port] = dict.fromkeys(half, clock() + 10 * LONG)
        for _ in range(200):
            outside.draw(at.address, at.port, 1)
    assert len(at.peers) == 200
    assert half.isdisjoint(port for _, port in at.peers)


@pytest.mark.skipif(sys.platform != "linux", reason="the rule is Linux's")
def test_a_draw_uses_no_source_port_of_a_lost_look():
    """A single call does not know its port, but draws that follow a lost one use others."""
    outside = Outside(patience=LONG)
    answering = threading.Event()

    def behave(connection: socket.socket) -> None:
        (says(http_reply("echo-a")) if answering.is_set() else resets())(connection)

    with serving(behave) as at:
        for _ in range(20):
            outside.call(at.address, at.port)
        answering.set()
        outside.draw(at.address, at.port, 200)

    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert {(port - lowest) % 2 for _, port in at.peers[:20]} == {0}
    assert {(port - lowest) % 2 for _, port in at.peers[20:]} == {1}


def test_a_draw_keeps_the_order_of_its_connections():
    """Two that are under way together are told in the order in which they were begun."""
    second = [threading.Event() for _ in range(5)]

    def behave(connection):
        # A port may be used again.
        number = max(n for n, peer in enumerate(at.peers) if peer == connection.getpeername())
        # The first of each two is answered only after the other one.
        if number % 2 == 0:
            assert second[number // 2].wait(LONG)
        connection.sendall(http_reply(f"echo-{number}").encode())
        second[number // 2].set()

    with serving(behave) as at:
        replies = Outside(patience=LONG).draw(at.address, at.port, 10, 2)

    assert [reply.echo for reply in replies] == [f"echo-{number}" for number in range(10)]


@pytest.mark.parametrize("body", ["", " ", "Echo-A", "echo_a", "-echo", "echo-", "a b", "e@", "@1"])
def test_what_no_echo_says_is_foreign(body):
    """Only a pod's name, with or without a port, is an answer; the rest is shown as it was said."""
    reply = reply_from(body, 0.1)

    assert reply.outcome == FOREIGN
    assert reply.echo is None
    assert repr(body) in str(reply)


def test_a_reply_is_written_as_the_table_shows_it():
    """A reply is its outcome, who answered, on which port, and what else is known."""
    assert str(Reply(SILENT, 2.0)) == "silent"
    assert str(Reply(ANSWERED, 0.1, "echo-a")) == "answered by echo-a"
    assert str(Reply(ANSWERED, 0.1, "echo-a", 81, "worker")) == (
        "answered by echo-a on port 81 (worker)"
    )


def test_blocked_is_refused_or_silent_and_nothing_else():
    """A connection that was opened, misrouted or answered was not blocked."""
    assert set(Outcome) - BLOCKED == {ANSWERED, CUT_OFF, FOREIGN, NO_ROUTE}


def raised(error: Exception, *, of: BaseException | None = None) -> Exception:
    """Give an error as it is when it was raised because of another."""
    try:
        raise error from of
    except type(error) as caught:
        return caught


WRAPPED = {
    "refused, in four wrappers": (
        requests.ConnectionError(
            urllib3.exceptions.MaxRetryError(
                None,
                "/hostname",
                raised(
                    urllib3.exceptions.NewConnectionError(None, "Failed to connect"),
                    of=ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
                ),
            )
        ),
        REFUSED,
    ),
    "a reset in urllib3": (
        urllib3.exceptions.ProtocolError(
            "Connection aborted.", ConnectionResetError(errno.ECONNRESET, "reset by peer")
        ),
        CUT_OFF,
    ),
    "silence in requests": (
        requests.ReadTimeout(
            raised(
                urllib3.exceptions.ReadTimeoutError(None, "/", "Read timed out."),
                of=TimeoutError("timed out"),
            )
        ),
        SILENT,
    ),
    "half a body in requests": (
        requests.exceptions.ChunkedEncodingError(
            urllib3.exceptions.ProtocolError("broken", urllib3.exceptions.IncompleteRead(2, 18))
        ),
        CUT_OFF,
    ),
    "a server that left": (http.client.RemoteDisconnected("closed without response"), CUT_OFF),
    "the kernel gave up": (TimeoutError(errno.ETIMEDOUT, "Connection timed out"), SILENT),
    "written to a closed end": (BrokenPipeError(errno.EPIPE, "Broken pipe"), CUT_OFF),
    "aborted": (ConnectionAbortedError(errno.ECONNABORTED, "Software caused abort"), CUT_OFF),
    "a router says no": (OSError(errno.EHOSTUNREACH, "No route to host"), NO_ROUTE),
    "no way to the network": (OSError(errno.ENETUNREACH, "Network is unreachable"), NO_ROUTE),
}


@pytest.mark.parametrize("case", WRAPPED)
def test_an_error_is_named_by_what_is_inside_it(case):
    """However deep a library wrapped the error of the system, its outcome is found."""
    error, outcome = WRAPPED[case]

    assert outcome_of(error) == outcome


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address"),
        PermissionError(errno.EACCES, "Permission denied"),
        socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
        requests.exceptions.InvalidURL("http://127.0.0.1:99999"),
        http.client.InvalidURL("control characters"),
        http.client.CannotSendRequest("Request-sent"),
        ValueError("something else"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_of_the_caller_is_no_outcome(error):
    """An error that says nothing of what was called is a broken probe, and holds that error."""
    with pytest.raises(ProbeBrokenError, match="the attempt itself went wrong") as caught:
        outcome_of(error)

    assert caught.value.__cause__ is error


def test_an_error_that_was_handled_before_is_no_outcome():
    """An attempt that breaks while another error is handled is not named after that one."""
    try:
        raise ConnectionRefusedError(errno.ECONNREFUSED, "of something else")
    except ConnectionRefusedError:
        with pytest.raises(ProbeBrokenError):
            Outside().call("127.0.0.1", 99999)


def test_a_caller_without_sockets_is_a_broken_probe(ask):
    """A caller that cannot even open a socket has learnt nothing, so it raises."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    with closed_port() as at:
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
        try:
            with pytest.raises(ProbeBrokenError, match="Too many open files"):
                ask(Outside(), at.address, at.port)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_replies_in_a_row_may_be_torn_anywhere():
    """A reader that was held up finds many at once, and the last one as far as there was room."""
    one = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n echo-abc-0\n"
    for end in range(len(one)):
        assert is_cut(one[:end], closed=False), one[:end]
        assert is_cut(one[:end], closed=True), one[:end]
    assert not is_cut(one, closed=False)
    assert not is_cut(b"SSH-2.0", closed=False)
    unsized = b"HTTP/1.0 200 OK\r\n\r\necho"
    assert is_cut(unsized, closed=False)
    assert not is_cut(unsized, closed=True)
    assert is_cut(b"HTTP/1.0 200 OK\r\n", closed=True)


def test_who_answers_from_another_address_is_found():
    """An answer from elsewhere is none to a caller, and says whence it came to who asks that."""
    outside = Outside(patience=0.2)
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as heard,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as elsewhere,
    ):
        heard.bind(("127.0.0.1", 0))
        elsewhere.bind(("127.0.0.2", 0))
        port = heard.getsockname()[1]

        def answer():
            for _ in range(2):
                elsewhere.sendto(b"echo-a", heard.recvfrom(4096)[1])

        answering = threading.Thread(target=answer)
        answering.start()
        assert outside.call_udp("127.0.0.1", port).outcome == SILENT
        assert outside.replier("127.0.0.1", port) == "127.0.0.2"
        answering.join()
        assert outside.replier("127.0.0.1", port) == ""
