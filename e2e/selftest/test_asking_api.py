"""How an API server is asked: paced, again, through proxies, with plugins, and not too much."""

import json
import socket
import ssl
import stat
import struct
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer
from math import inf
from pathlib import Path
from unittest import mock

import pytest
import urllib3
import yaml

from e2e import timing
from e2e.cluster.api import Api, ApiRefusedError
from e2e.cluster.cap import ALLOWED, Cap, FullError, variable
from e2e.cluster.echo import place
from e2e.cluster.node import Node
from e2e.cluster.pace import NEVER_SENT, Pace, Patience, Pool, missed_at
from e2e.errors import CannotRunError, UsageError
from e2e.probe import Outside
from e2e.provider.kubeconfig import pin
from e2e.selftest.servers import says, serving
from e2e.selftest.storing_server import CONTEXT, refused, storing_server
from e2e.wait import pause


@pytest.fixture
def server(tmp_path):
    with storing_server(tmp_path / "api") as running:
        yield running


@pytest.fixture
def api(server, tmp_path):
    (tmp_path / "run").mkdir()
    return Api(server.kubeconfig, CONTEXT, secrets=tmp_path / "run")


def service(name="s", ports=1, **spec):
    entries = [{"port": 80 + n} for n in range(ports)]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "home"},
        "spec": {"type": "NodePort", "ports": entries, **spec},
    }


def turned_away(server, times, answer):
    """Let the server answer this so often, before it does what it is asked for."""
    left = [times]

    def instead(_, path):
        if not path.endswith(("/nodes", "/services", "/eviction")):
            return None
        left[0] -= 1
        return answer if left[0] >= 0 else None

    server.before = instead
    server.requests.clear()


def meant(server):
    """The methods of the requests that were turned away, and of those that followed."""
    ends = ("/nodes", "/services", "/eviction")
    return [method for method, path in server.requests if path.endswith(ends)]


BUSY = (429, {"Retry-After": "1"}, "Too many requests, please try again later.")


def test_who_is_asked_to_come_back_later_does(server, api):
    """429 is obeyed by reads and writes alike: nothing was done, and the server says when."""
    turned_away(server, 2, BUSY)
    began = time.monotonic()

    stored = api.create(service())

    assert time.monotonic() - began >= 2
    assert stored["metadata"]["name"] == "s"
    assert meant(server) == ["POST", "POST", "POST"]


@pytest.mark.parametrize("code", [500, 502, 503])
def test_reads_are_sent_again_after_a_failure_that_passes(server, api, code):
    turned_away(server, 2, refused(code, "Failure", "no leader"))

    assert len(api.find_all("Node")) == 2
    assert meant(server) == ["GET", "GET", "GET"]


def test_writes_are_not_as_nobody_knows_what_became_of_them(server, api):
    turned_away(server, 1, refused(500, "InternalError", "no leader"))

    with pytest.raises(ApiRefusedError, match="no leader"):
        api.create(service())
    assert meant(server) == ["POST"]


def test_what_is_followed_is_not_as_its_follower_asks_anew(server, api):
    """What happens is told when it happens, and not when a patient request comes back."""
    turned_away(server, 1, refused(503, "ServiceUnavailable", "no leader"))

    with pytest.raises(ApiRefusedError, match="no leader"):
        api.snapshot("Node")
    assert meant(server) == ["GET"]


def test_what_stays_is_told_in_the_end(server, api, monkeypatch):
    """A server that fails each time is not asked for ever."""
    monkeypatch.setattr(timing, "API_AGAIN", 0.01)
    turned_away(server, 1000, refused(503, "ServiceUnavailable", "gone for good"))

    with pytest.raises(ApiRefusedError, match="gone for good"):
        api.find_all("Node")
    assert len(meant(server)) == 6


def test_an_eviction_that_has_no_room_is_an_answer(server, api):
    """It is refused by 429 too, and whoever drains decides what comes next."""
    turned_away(server, 1, (429, {"Retry-After": "10"}, refused(429, "TooManyRequests", "pdb")[2]))

    answer = api.submit_change("Pod", "p", {}, "home", part="eviction")

    assert answer["code"] == 429
    assert meant(server) == ["PATCH"]


class Back(BaseHTTPRequestHandler):
    """An API server that is there again, for one request."""

    def do_GET(self):  # as it is called
        body = json.dumps({"kind": "Namespace", "metadata": {"uid": "back"}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_): ...


def test_an_api_server_that_starts_again_is_waited_for(tmp_path):
    """What was never sent is sent when somebody listens again."""
    with storing_server(tmp_path / "away") as server:
        api = Api(server.kubeconfig, CONTEXT)
        api.find("Namespace", "kube-system")
    port = int(api.server.rpartition(":")[2])

    def come_back():
        pause(threading.Event(), 1.5)
        with HTTPServer(("127.0.0.1", port), Back) as back:
            back.handle_request()

    thread = threading.Thread(target=come_back)
    thread.start()
    began = time.monotonic()

    assert api.get("Namespace", "kube-system")["metadata"]["uid"] == "back"

    assert time.monotonic() - began > 1
    thread.join()


def test_one_that_stays_away_is_waited_for_once(tmp_path, monkeypatch):
    """A run that ends without its API server asks for many things; only the first one waits."""
    monkeypatch.setattr(timing, "API_BACK_WITHIN", 2.0)
    with storing_server(tmp_path / "gone") as server:
        api = Api(server.kubeconfig, CONTEXT)
        api.find_all("Node")
    took = []
    for _ in range(3):
        began = time.monotonic()
        with pytest.raises(CannotRunError, match="does not answer"):
            api.find_all("Node")
        took.append(time.monotonic() - began)

    assert took[0] > 1.0
    assert max(took[1:]) < 1.0


@pytest.fixture
def taker():
    """Takes connections for a server that is away; gives the socket."""
    with socket.create_server(("127.0.0.1", 0)) as taking:
        yield taking


@pytest.mark.parametrize("how", ["closes", "resets"])
def test_what_was_taken_for_a_server_that_is_away_was_never_sent(taker, how):
    """As by docker's proxy, which stands before the API servers of kind."""

    def take():
        taken, _ = taker.accept()
        if how == "resets":
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        taken.close()

    thread = threading.Thread(target=take)
    thread.start()

    with pytest.raises(NEVER_SENT):
        Pool(*taker.getsockname(), retries=False).request("POST", "/", timeout=20.0)
    thread.join()


def test_nor_was_what_a_server_that_is_held_did_not_hear(taker):
    with pytest.raises(NEVER_SENT):
        Pool(*taker.getsockname(), retries=False).request("POST", "/", timeout=0.2)


@pytest.mark.parametrize(("code", "word"), [(401, "Unauthorized"), (403, "Forbidden")])
def test_credentials_that_nobody_knows_are_no_absence(server, tmp_path, code, word):
    """A token that has run out is answered all the same."""
    server.before = lambda *_: refused(code, word, word)

    with pytest.raises(
        CannotRunError, match=f"lets nobody in with these credentials: {code}"
    ) as it:
        Api(server.kubeconfig, CONTEXT)

    assert "log in anew" in it.value.do


def test_a_certificate_that_is_wrong_is_no_absence(taker, monkeypatch):
    """It stays so, however often it is asked."""
    wrong = mock.Mock(side_effect=ssl.SSLCertVerificationError("no"))
    monkeypatch.setattr("urllib3.connection.HTTPSConnection.connect", wrong)

    with pytest.raises(urllib3.exceptions.SSLError):
        Pool(*taker.getsockname(), retries=False).request("GET", "/")


def test_when_it_was_missed_is_noted_for_all_of_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(timing, "API_BACK_WITHIN", 0.2)
    with storing_server(tmp_path / "gone") as server:
        (tmp_path / "run").mkdir()
        api = Api(server.kubeconfig, CONTEXT, secrets=tmp_path / "run")
        api.find_all("Node")
    assert missed_at(tmp_path / "run") == -inf

    with pytest.raises(CannotRunError, match="does not answer") as said:
        api.find_all("Node")

    assert time.monotonic() - 60 < missed_at(tmp_path / "run") <= time.monotonic()
    assert "Traceback" not in said.value.what
    assert "\n" not in said.value.what


def test_a_server_that_was_held_was_missed(server, api, tmp_path, monkeypatch):
    monkeypatch.setattr(timing, "API_HELD_AFTER", 0.2)
    server.before = lambda _, path: pause(threading.Event(), 0.3) if "/nodes" in path else None
    api.find_all("Service")
    assert missed_at(tmp_path / "run") == -inf

    api.find_all("Node")

    assert missed_at(tmp_path / "run") > time.monotonic() - 60


@pytest.mark.parametrize(
    ("asks", "how", "missed"),
    [
        ("pod", "cut off", True),
        ("pod", "late", False),
        ("create", "cut off", True),
        ("create", "late", True),
    ],
)
def test_a_server_that_ends_in_the_middle_was_missed(asks, how, missed, server, api, tmp_path):
    """Though nothing is asked again; but what a pod does not say in time says nothing of it."""
    error = {
        "cut off": urllib3.exceptions.ProtocolError("Connection aborted."),
        "late": urllib3.exceptions.ReadTimeoutError(None, "/", "late"),
    }[how]

    def send(*_, **__):
        raise error

    # What it serves is known by then.
    assert api.find_all("Pod") == api.find_all("Service") == []
    api._client.request = send
    with pytest.raises(CannotRunError, match="does not answer"):
        api.ask_pod("p", "home", 80, "/", {}) if asks == "pod" else api.submit(service("a"))

    assert (missed_at(tmp_path / "run") > -inf) == missed


@pytest.mark.parametrize(("method", "again"), [("get", True), ("delete", True), ("post", False)])
def test_a_read_or_deletion_that_is_not_answered_comes_again(method, again, monkeypatch):
    """And a write does not."""
    monkeypatch.setattr(timing, "API_AGAIN", 0.0)
    late = urllib3.exceptions.ReadTimeoutError(None, "/", "late")

    assert Patience().again(late, method, 1, time.monotonic()) == again


@pytest.mark.parametrize(
    ("method", "asked", "missed"), [("get", 1, False), ("get", 2, True), ("post", 1, True)]
)
def test_a_kept_connection_that_had_ended_is_no_absence(
    method, asked, missed, tmp_path, monkeypatch
):
    """Unless the request cannot be sent again, or meets the same then."""
    monkeypatch.setattr(timing, "API_AGAIN", 0.0)
    ended = urllib3.exceptions.ProtocolError("Connection aborted.")

    Patience(tmp_path).again(ended, method, asked, time.monotonic())

    assert (missed_at(tmp_path) > -inf) == missed


def test_whether_it_is_ready_is_not_asked_twice(tmp_path):
    """Who watches wants to know when it went, and not whether it comes back."""
    with storing_server(tmp_path / "gone") as server:
        api = Api(server.kubeconfig, CONTEXT)
    began = time.monotonic()

    assert not api.is_ready()
    assert time.monotonic() - began < 1


def test_requests_keep_a_pace():
    """So many at once, and then so many a second, whoever asks."""
    pace = Pace(rate=10, burst=10)
    began = time.monotonic()
    for _ in range(10):
        pace.keep()
    assert time.monotonic() - began < 0.9
    threads = [threading.Thread(target=pace.keep) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 1.5 < time.monotonic() - began < 60


# --- how much ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "objects"),
    [
        ("services", [service("a"), service("b"), service("c")]),
        ("node-ports", [service("a", 2), service("b")]),
        (
            "pods",
            [
                {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "home"}},
                {
                    "apiVersion": "apps/v1",
                    "kind": "Deployment",
                    "metadata": {"name": "d", "namespace": "home"},
                    "spec": {"replicas": 2},
                },
            ],
        ),
    ],
)
def test_no_more_than_allowed_is_in_use_at_once(server, api, tmp_path, monkeypatch, what, objects):
    """The one too many is not asked for, and is named with what allows it."""
    monkeypatch.setenv(variable(what), "2")
    limited = Api(server.kubeconfig, CONTEXT, secrets=tmp_path / "run")
    *first, last = objects
    for each in first:
        limited.create(each)
    before = len(server.requests)

    with pytest.raises(CannotRunError, match=f"3 {what} would be in use at once") as said:
        limited.create(last)

    assert variable(what) in said.value.do
    assert len(server.requests) == before
    where = first[0]["metadata"]
    limited.delete(first[0]["kind"], where["name"], where["namespace"])
    limited.create(last)


def test_processes_of_one_run_count_together(server, tmp_path, monkeypatch):
    """And what goes with its namespace, or by its labels, counts no longer."""
    monkeypatch.setenv(variable("services"), "3")
    (tmp_path / "run").mkdir()
    one, other = (Api(server.kubeconfig, CONTEXT, secrets=tmp_path / "run") for _ in range(2))
    one.create(service("a"))
    one.create(service("b"))
    other.create(service("c"))
    with pytest.raises(CannotRunError):
        other.create(service("d"))
    assert other.submit(service("d"), dry_run=True)["kind"] == "Service"

    one.delete_all("Service", "home")
    other.create(service("d"))
    other.create(service("e"))
    server.put("/api/v1", "namespaces", {"metadata": {"name": "home"}})
    other.delete("Namespace", "home")
    assert [one.create(service(f"n{n}"))["kind"] for n in range(3)] == ["Service"] * 3


@pytest.mark.parametrize("full", [True, False])
def test_of_echoes_that_cannot_all_be_there_none_stays(server, tmp_path, monkeypatch, full):
    """Else they would count until the end, though no clause knows them."""
    nodes = [Node(f"n{n}", {"IPv4": f"10.0.0.{n}"}, False) for n in range(3)]
    monkeypatch.setenv(variable("pods"), "2" if full else "3")
    limited = Api(server.kubeconfig, CONTEXT, secrets=tmp_path / "run")

    def refuse(method, path):
        if not full and method == "POST" and len(server.of("pods")) == 2:
            return refused(403, "Forbidden", "exceeded quota")
        return None

    server.before = refuse
    with pytest.raises(FullError if full else ApiRefusedError):
        place(limited, "home", nodes)

    assert server.of("pods") == []
    assert len(place(limited, "home", nodes[:2]).pods) == 2


def test_what_is_changed_counts_as_it_is_then(server, api, monkeypatch, tmp_path):
    monkeypatch.setenv(variable("node-ports"), "2")
    limited = Api(server.kubeconfig, CONTEXT, secrets=tmp_path / "run")
    limited.create(service("a", 2))
    limited.change("Service", "a", {"spec": {"type": "ClusterIP"}}, "home")

    assert limited.create(service("b", 2))


@pytest.mark.parametrize("wrong", ["many", "-1", "1.5"])
def test_a_limit_is_a_number(monkeypatch, wrong):
    monkeypatch.setenv(variable("pods"), wrong)
    with pytest.raises(UsageError, match="E2E_MAX_PODS"):
        Cap(None)


@pytest.mark.parametrize("spec", [None, [], "text", {"ports": 5}, {"ports": None, "type": 3}])
def test_what_is_no_service_is_sent_all_the_same(api, spec):
    """Clauses ask for nonsense, to see it refused."""
    assert set(ALLOWED) == {"services", "pods", "node-ports"}
    body = {**service(), "spec": spec}
    assert api.submit(body)["kind"] == "Service"


# --- how it is reached ---------------------------------------------------------------------------


@pytest.fixture
def proxy(monkeypatch):
    """A proxy that the whole environment names, and that answers everything itself."""
    with serving(says("a proxy")) as running:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            for each in (name, name.lower()):
                monkeypatch.setenv(each, f"http://127.0.0.1:{running.port}")
        for each in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(each, raising=False)
        yield running


def test_no_proxy_is_asked_for_nodes(proxy):
    """A node port is asked of the node; what a proxy says of it would be no answer."""
    with serving(says("a pod")) as pod:
        reply = Outside().call("127.0.0.1", pod.port)

    assert "a pod" in str(reply)
    assert pod.peers != []
    assert proxy.peers == []


def test_no_proxy_is_asked_for_this_machine(proxy, server):
    """The API server of a kind cluster is at a loopback address, where kubectl asks none either."""
    Api(server.kubeconfig, CONTEXT).find_all("Node")

    assert proxy.peers == []


@pytest.mark.parametrize("how", ["kubeconfig", "environment"])
def test_a_remote_api_server_may_be_behind_a_proxy(tmp_path, server, monkeypatch, how):
    """By the proxy-url of the kubeconfig, or by the environment, as kubectl does."""
    content = yaml.safe_load(server.kubeconfig.read_text())
    cluster = content["clusters"][0]["cluster"]
    through = cluster["server"]
    cluster["server"] = "http://api.prod.example.com:6443"
    if how == "kubeconfig":
        cluster["proxy-url"] = through
    else:
        monkeypatch.setenv("HTTP_PROXY", through)
        monkeypatch.setenv("http_proxy", through)
    file = tmp_path / "proxied"
    file.write_text(yaml.safe_dump(content))
    heard = []
    server.before = lambda _, path: heard.append(path) or refused(403, "Forbidden", "heard")

    with pytest.raises(CannotRunError):
        Api(file, CONTEXT)

    assert heard[0].startswith("http://api.prod.example.com:6443") or heard == ["/version"]


# --- who asks ------------------------------------------------------------------------------------


def with_plugin(server, folder: Path, script: str, **more: object) -> Path:
    content = yaml.safe_load(server.kubeconfig.read_text())
    plugin = folder / "login"
    plugin.write_text(f"#!/bin/sh\n{script}\n")
    plugin.chmod(plugin.stat().st_mode | stat.S_IXUSR)
    content["users"][0]["user"] = {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": "./login",
            "interactiveMode": "Never",
            **more,
        }
    }
    file = folder / "with-plugin"
    file.write_text(yaml.safe_dump(content))
    return file


def credential(token: str, expires: str = "") -> str:
    status = {"token": token} | ({"expirationTimestamp": expires} if expires else {})
    kind = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential"}
    return f"echo '{json.dumps({**kind, 'status': status})}'"


def test_a_credential_plugin_is_run(server, tmp_path):
    """Found beside the kubeconfig, with its variables, also through the private copy."""
    script = 'test "$WHO" = ana || exit 1\n' + credential("from-plugin")
    file = with_plugin(server, tmp_path, script, env=[{"name": "WHO", "value": "ana"}])
    copy = pin(file, CONTEXT, tmp_path / "elsewhere")

    Api(copy, CONTEXT).find_all("Node")

    assert server.headers[-1]["authorization"] == "Bearer from-plugin"


def test_it_is_run_again_when_what_it_gave_is_over(server, tmp_path):
    """Tokens of clouds last for minutes, and runs for longer."""
    script = f"echo x >> {tmp_path}/runs\n" + credential("short", "2020-01-01T00:00:00Z")
    api = Api(with_plugin(server, tmp_path, script), CONTEXT)
    before = (tmp_path / "runs").read_text().count("x")

    api.find_all("Node")

    assert (tmp_path / "runs").read_text().count("x") > before


@pytest.mark.parametrize(
    ("script", "says_why"),
    [
        ("echo 'log in at https://sso' >&2; exit 7", "log in at https://sso"),
        ("echo no json", "failed to decode"),
        ("echo '{}'", "missing key"),
        ("rm login; exit 0", ""),
    ],
)
def test_a_plugin_that_fails_is_told(server, tmp_path, script, says_why):
    """A client that goes on without a name would be refused for reasons that are none."""
    file = with_plugin(server, tmp_path, script)

    with pytest.raises(CannotRunError, match="the credential plugin of fake") as said:
        Api(file, CONTEXT)

    assert says_why in said.value.what
    assert server.requests == []


def test_a_plugin_that_is_not_there_is_told(server, tmp_path):
    file = with_plugin(server, tmp_path, "")
    (tmp_path / "login").unlink()

    with pytest.raises(CannotRunError, match="No such file"):
        Api(file, CONTEXT)


@pytest.mark.parametrize("ahead", [0.0, 3600.0, -3600.0])
def test_a_clock_that_differs_is_known(api, monkeypatch, ahead):
    """By the time that stands in each of its answers."""
    monkeypatch.setattr(
        BaseHTTPRequestHandler,
        "date_time_string",
        lambda *_: formatdate(time.time() + ahead, usegmt=True),
    )

    assert api.clock_ahead() == pytest.approx(ahead, abs=10.0 if ahead else 0.0)
