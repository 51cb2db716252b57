"""Talk: many requests over one connection, and payloads that must come back as they were sent."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import pytest

from e2e.cluster.stranger import Stranger
from e2e.probe import (
    ANSWERED,
    CUT_OFF,
    FOREIGN,
    SILENT,
    UDP,
    Flow,
    Outside,
    Target,
    carry,
    draw_half_closed,
    draw_kept,
    watching,
)
from e2e.selftest.servers import says, says_and_stays, serving

ECHO = Stranger("echo-0", 0)
Harm = Callable[[bytes], bytes]


@contextmanager
def echoing(harm: Harm = bytes) -> Iterator[tuple[Flow, set[int]]]:
    """Give back what is posted, after harm was done to it; and the source ports of the callers."""
    callers = set()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            callers.add(self.client_address[1])
            self.answer(b"echo-0")

        def do_POST(self):
            sent = parse_qs(self.rfile.read(int(self.headers["Content-Length"])))
            callers.add(self.client_address[1])
            self.answer(harm(sent[b"msg"][0]))

        def answer(self, body):
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield flow_to(*server.server_address), callers
        server.shutdown()
        thread.join()


@contextmanager
def echoing_datagrams(harm: Harm = bytes) -> Iterator[Flow]:
    """Answer as agnhost does, which reads no more than 2048 bytes of a datagram."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))

        def answer():
            while (asked := server.recvfrom(2048))[0] != b"end":
                said, caller = asked
                word, _, rest = said.partition(b" ")
                server.sendto(harm(rest) if word == b"echo" else b"echo-0", caller)

        thread = threading.Thread(target=answer)
        thread.start()
        yield flow_to(*server.getsockname(), protocol="UDP")
        server.sendto(b"end", server.getsockname())
        thread.join()


def flow_to(address: str, port: int, protocol: str = "TCP") -> Flow:
    return Flow(Outside(), Target("here", address, port, ECHO, protocol))


def test_a_payload_that_comes_back_is_an_answer():
    """A megabyte comes back over the connection over which its echo said who it is."""
    with echoing() as (flow, callers):
        replies = carry([flow], [10, 1 << 20])[flow]

    assert [(r.outcome, r.echo) for r in replies] == [(ANSWERED, "echo-0")] * 2
    assert len(callers) == 2


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda said: said[:-1], "of 100 bytes what came back has 99"),
        (lambda said: said[:50] + b"x" + said[51:], "of 100 bytes what came back differs after 50"),
        (lambda said: said + b"more", "of 100 bytes what came back has 104"),
    ],
)
def test_a_harmed_payload_is_foreign(harm, words):
    """A payload that comes back shorter, longer or otherwise is no answer, and says how."""
    with echoing(harm) as (flow, _):
        (reply,) = carry([flow], [100])[flow]

    assert (reply.outcome, reply.detail, reply.carried) == (FOREIGN, words, 100)


def test_datagrams_come_back_as_far_as_an_echo_reads_them():
    """A datagram that an echo reads in part comes back in part, and a harmed one is foreign."""
    with echoing_datagrams() as flow:
        replies = carry([flow], [1400, 2000, 8000])[flow]
    with echoing_datagrams(lambda said: said[:-1]) as flow:
        (harmed,) = carry([flow], [8000])[flow]

    assert [reply.outcome for reply in replies] == [ANSWERED] * 3
    assert (harmed.outcome, harmed.detail) == (FOREIGN, "of 2043 bytes what came back has 2042")


def test_many_requests_share_one_connection():
    """All requests go over one connection, and each answer is checked for whose it is."""
    with echoing() as (flow, callers):
        replies = draw_kept([flow], 20)[flow]
        strange = draw_kept([flow.owned_by(Stranger("echo-1", 0))], 2).popitem()[1]

    assert [r.outcome for r in replies] == [ANSWERED] * 20
    assert len(callers) == 2
    assert [r.outcome for r in strange] == [FOREIGN] * 2


@pytest.mark.parametrize("behave", [says(""), says_and_stays("HTTP/1.1 200 OK\r\n\r\n")])
def test_a_connection_that_ends_is_not_replaced(behave):
    """What is no answer ends the connection, and no other one is opened in its place."""
    with serving(behave) as server:
        flow = Flow(Outside(patience=0.5), Target("here", server.address, server.port, ECHO))
        (reply,) = draw_kept([flow], 5)[flow]

    assert reply.outcome != ANSWERED
    assert len(server.peers) == 1


def test_a_connection_that_is_closed_is_cut_off():
    """An end without a word is no silence."""
    with serving(says("")) as server:
        flow = flow_to(server.address, server.port)

        assert draw_kept([flow], 5)[flow][-1].outcome == CUT_OFF


def test_datagrams_of_one_source_port_are_a_connection_too():
    """After a pause it is the same port that speaks, and what is lost is silence after a pause."""
    with echoing_datagrams() as flow:
        replies = draw_kept([flow], 3, idle=0.1)[flow]
    deaf = replace(flow, caller=Outside(patience=0.2))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", flow.target.port))
        lost = draw_kept([deaf], 3, idle=0.1)[deaf]

    assert [(r.outcome, r.echo, r.idle) for r in replies] == [
        (ANSWERED, "echo-0", idle) for idle in (0.0, 0.1, 0.1)
    ]
    assert [(r.outcome, r.idle) for r in lost] == [(SILENT, 0.0)]


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        ('HTTP/1.1 200 OK\r\nContent-Length: 19\r\n\r\n{"output":"echo-0"}', ANSWERED),
        ('HTTP/1.1 200 OK\r\nContent-Length: 19\r\n\r\n{"output":"ec', CUT_OFF),
        ('HTTP/1.1 200 OK\r\nContent-Length: 19\r\n\r\n{"error":"no shell"}', FOREIGN),
        ("", CUT_OFF),
    ],
)
def test_an_answer_comes_over_a_half_closed_connection(said, outcome):
    """The caller has said that it will say no more, and hears what comes then."""
    heard = []

    def answer(connection):
        heard.append(connection.recv(4096))
        connection.sendall(said.encode())
        connection.shutdown(socket.SHUT_WR)

    with serving(answer) as server:
        flow = flow_to(server.address, server.port)
        (reply,) = draw_half_closed([flow], idle=0.3)[flow]

    assert (reply.outcome, reply.idle) == (outcome, 0.3)
    assert heard == [b""]


def test_a_flow_that_is_given_twice_is_no_second_connection():
    """Of two draws of one flow only one could be told."""
    flow = flow_to("127.0.0.1", 9)
    with pytest.raises(ValueError, match="given twice"):
        draw_kept([flow, flow], 1)


def test_only_the_caller_outside_talks_so():
    """Another vantage would be another caller, and its clause has to say what it needs."""
    flow = Flow(ECHO, Target("here", "127.0.0.1", 9, ECHO))
    datagrams = Flow(ECHO, Target("here", "127.0.0.1", 9, ECHO, UDP))
    for ask in (
        lambda: carry([flow], [1]),
        lambda: draw_kept([flow], 1),
        lambda: draw_half_closed([flow], idle=1.0),
        lambda: watching([], kept=[flow]).__enter__(),
        lambda: watching([datagrams]).__enter__(),
    ):
        with pytest.raises(TypeError, match="only the caller outside"):
            ask()
