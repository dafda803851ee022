"""A web server on this machine that serves a folder, and misbehaves on request."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from urllib.parse import unquote, urlsplit


@dataclass
class Served:
    """One request that the server received."""

    path: str
    status: int
    authorization: str = ""


@dataclass
class Server:
    """A running server. Tests set its fields to make it misbehave."""

    folder: Path
    url: str
    requests: list[Served] = field(default_factory=list)
    cut: Callable[[str, int], int | None] = lambda *_: None
    """After how many bytes the n-th response for a path breaks off; None for never."""
    answer: Callable[[str, int], tuple[int, dict[str, str]] | None] = lambda *_: None
    """Status and headers of the n-th response for a path, where that is not the file."""
    body: Callable[[str, str], bytes | None] = lambda *_: None
    """Body for a path and a query, instead of the file's bytes."""

    def paths(self) -> list[str]:
        """The paths that were requested."""
        return [request.path for request in self.requests]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, server: Server, *arguments: object) -> None:
        self._server = server
        super().__init__(*arguments)

    def do_GET(self) -> None:
        server, path = self._server, unquote(urlsplit(self.path).path)
        number = server.paths().count(path)
        file = server.folder / path.lstrip("/")
        other, body = server.answer(path, number), server.body(path, urlsplit(self.path).query)
        if other is None and body is None and not file.is_file():
            other = (404, {})
        if other is not None:
            self._note(path, other[0])
            self._head(other[0], {"Content-Length": "0", **other[1]})
            return
        data = file.read_bytes() if body is None else body
        self._note(path, 200)
        self._head(200, {"Content-Length": str(len(data))})
        stop = server.cut(path, number)
        self.wfile.write(data[:stop])
        self.close_connection = True

    def _note(self, path: str, status: int) -> None:
        self._server.requests.append(Served(path, status, self.headers.get("Authorization", "")))

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Log nothing."""


@contextmanager
def serve(folder: Path, *, certificate: tuple[Path, Path] | None = None) -> Iterator[Server]:
    """Serve a folder, over https if there is a certificate (with its key)."""
    server = Server(folder, "")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, server)) as http:
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            http.socket = context.wrap_socket(http.socket, server_side=True)
        server.url = f"{'https' if certificate else 'http'}://127.0.0.1:{http.server_port}"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()


@dataclass
class Proxy:
    """A running proxy, which connects every client to one server on this machine."""

    url: str
    hosts: list[str] = field(default_factory=list)
    """What it was asked for."""


class _ProxyHandler(StreamRequestHandler):
    def __init__(self, proxy: Proxy, port: int, *arguments: object) -> None:
        self._proxy, self._port = proxy, port
        super().__init__(*arguments)

    def handle(self) -> None:
        method, target, _ = self.rfile.readline().decode().split()
        while self.rfile.readline().strip():
            pass
        assert method == "CONNECT"
        self._proxy.hosts.append(target)
        with socket.create_connection(("127.0.0.1", self._port)) as there:
            self.connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=_pump, args=(there, self.connection), daemon=True)
            back.start()
            _pump(self.connection, there)
            back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


@contextmanager
def proxy_to(server: Server) -> Iterator[Proxy]:
    """An https proxy that connects to this server whatever host is asked for."""
    proxy = Proxy("")
    ThreadingTCPServer.daemon_threads = True
    port = urlsplit(server.url).port
    with ThreadingTCPServer(("127.0.0.1", 0), partial(_ProxyHandler, proxy, port)) as listening:
        proxy.url = f"http://127.0.0.1:{listening.server_address[1]}"
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            listening.shutdown()
            thread.join()
