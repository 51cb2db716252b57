"""Somebody between callers of an API server and the server, who alters what is said on the way."""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import urllib3
import yaml
from kubernetes import config
from kubernetes.client import ApiClient, Configuration

from e2e import timing
from e2e.report.faults import Altered

NAME = "between"
# Of one connection alone; whoever passes a message on says these anew.
OF_CONNECTION = {"connection", "content-length", "host", "accept-encoding", "transfer-encoding"}


@contextmanager
def between(
    altered: Altered, kubeconfig: Path, context: str | None, folder: Path
) -> Iterator[tuple[Path, Callable[[], int]]]:
    """Stand between callers and an API server while the context lasts.

    Args:
        altered: what is done to what they say.
        kubeconfig: leads to the API server.
        context: in that file; its current one by default.
        folder: gets a kubeconfig that leads here, and the keys of the other one.

    Yields:
        the kubeconfig that leads here, and what counts how often something was altered.
    """
    settings = Configuration()
    settings.connection_pool_maxsize = 64
    config.load_kube_config(
        str(kubeconfig), context, client_configuration=settings, temp_file_path=str(folder)
    )
    pool = ApiClient(settings).rest_client.pool_manager
    alterations: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def pass_on(self) -> None:
            with suppress(OSError, urllib3.exceptions.HTTPError):
                self._pass_on()
                return
            # One of the two has gone, and the other one is to see that.
            self.close_connection = True

        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked = f"{self.command} {self.path}"
            is_meant = bool(re.search(altered.asked, asked))
            path = self.path
            if is_meant and altered.sent:
                path = re.sub(altered.sent, "", path)
                self._note(asked, changed=path != self.path)
            answer = pool.request(
                self.command,
                f"{settings.host}{path}",
                body=body or None,
                headers=_kept(self.headers.items()),
                timeout=timing.FOLLOW_LISTENS,
                preload_content=False,
                retries=False,
                redirect=False,
            )
            is_meant = is_meant and altered.code in (None, answer.status)
            becomes = altered.becomes if is_meant and altered.becomes else answer.status
            self._note(asked, changed=becomes != answer.status)
            self.send_response(becomes)
            for name, value in _kept(answer.headers.items()).items():
                self.send_header(name, value)
            if "watch=true" in self.path:
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for line in _lines(answer.stream(65536)):
                    self._write_chunk(self._altered(line, asked) if is_meant else line)
                self.wfile.write(b"0\r\n\r\n")
            else:
                said = answer.read()
                said = self._altered(said, asked) if is_meant else said
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)
            answer.release_conn()

        def _write_chunk(self, said: bytes) -> None:
            # An empty one would be the end.
            if said.strip():
                self.wfile.write(b"%x\r\n%s\r\n" % (len(said), said))

        def _altered(self, said: bytes, asked: str) -> bytes:
            if not altered.find:
                return said
            changed = re.sub(altered.find.encode(), altered.put.encode(), said)
            self._note(asked, changed=changed != said)
            return changed

        def _note(self, asked: str, *, changed: bool) -> None:
            alterations.extend([asked] if changed else [])

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = pass_on  # noqa: N815  # as it is called

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        file = folder / f"{NAME}.kubeconfig"
        file.write_text(_leading_to(f"http://127.0.0.1:{server.server_address[1]}"))
        try:
            yield file, lambda: len(alterations)
        finally:
            server.shutdown()
            thread.join()
            pool.clear()
            file.unlink()


def _kept(headers: Iterable[tuple[str, str]]) -> urllib3.HTTPHeaderDict:
    """Headers without those that are of one connection."""
    kept = urllib3.HTTPHeaderDict()
    for name, value in headers:
        if name.lower() not in OF_CONNECTION:
            kept.add(name, value)
    return kept


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Whole lines, each with its end, as soon as they are there."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line + b"\n" for line in lines)
    yield rest


def _leading_to(server: str) -> str:
    """A kubeconfig for a server that asks nobody who they are."""
    where = {"cluster": NAME, "user": NAME}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": NAME,
        "clusters": [{"name": NAME, "cluster": {"server": server}}],
        "users": [{"name": NAME, "user": {}}],
        "contexts": [{"name": NAME, "context": where}],
    }
    return yaml.safe_dump(content)
