"""kernels/remote/download.py: servers that send what no server does, or never end."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hatch_bpf.errors import KernelError
from hatch_bpf.kernels.remote import download
from hatch_bpf.support.budget import LIST_BYTES

OK = b"HTTP/1.1 200 OK\r\n"


@contextmanager
def server(answer: bytes, *, again: bytes | None = None) -> Iterator[str]:
    """The URL of a server that answers every request so. With `again` it sends that until nobody listens any more; if
    that is empty, it just waits for that."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def run() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    try:
                        connection.recv(1 << 16)
                        connection.sendall(answer)
                        while again:
                            connection.sendall(again)
                        if again is not None:
                            connection.recv(1)
                    except OSError:
                        pass

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/index.txt"


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nabc\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5;" + b"a" * 100_000,
        OK + b"X: y\r\n" * 200,
        OK + b"X: " + b"a" * 100_000,
        b"HTTP/1.1 " + b"9" * 5000 + b" OK\r\n\r\n",
        b"\x1b[31m" * 100,
        b"",
    ],
    ids=["below zero", "no number", "long chunk size", "many headers", "long header", "status", "garbage", "nothing"],
)
def test_an_answer_that_is_none(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "BACKOFF", 0.0)
    with server(answer) as url, pytest.raises(download.UnreachableError, match="cannot be downloaded") as caught:
        download.download(url, limit=LIST_BYTES)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "again"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (OK + b"\r\n" + b"a" * 100, b""),
    ],
    ids=["only wait a moment", "the last byte never comes"],
)
def test_what_never_ends_is_cut(answer: bytes, again: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here at once. What came, which without a size looks like a whole file, does not count."""
    monkeypatch.setattr(download, "LONGEST", 0.0)
    with server(answer, again=again) as url, pytest.raises(KernelError, match="was not downloaded within 0 seconds"):
        download.download(url, limit=LIST_BYTES)
