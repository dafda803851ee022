"""URL -> its bytes, or a file with them: all of it or nothing.

Input: an https URL, or an http one of this very machine. Output: the bytes, or `KernelError`. A download that breaks
off is started anew a few times: files of BTF are small.
The environment names proxies (`https_proxy`, `no_proxy`) and certificates (`SSL_CERT_FILE`, `SSL_CERT_DIR`,
`REQUESTS_CA_BUNDLE`); ~/.netrc has the logins of hosts that want one. The modules for HTTP take long to import: whoever
may have nothing to download imports this one late.
"""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import cast
from urllib.parse import urljoin, urlsplit

from hatch_bpf import __version__
from hatch_bpf.errors import KernelError
from hatch_bpf.kernels.remote.urls import authorization, check_url, shown_url
from hatch_bpf.support.budget import Limit
from hatch_bpf.support.files import put_in_place
from hatch_bpf.support.store import CACHE_VARIABLE

Tell = Callable[[int, int | None], None]
"""Called with the bytes received, and the size of the file if the server gave it."""

ATTEMPTS = 4
"""How often a download is tried before it is given up."""
BACKOFF = 0.5
"""Seconds before the second attempt; doubled before each further one."""
TIMEOUT = 30.0
"""Seconds of silence after which a connection counts as broken."""
LONGEST = 600.0
"""Seconds for all of one attempt, redirects included: a server may send a byte now and then for ever. The largest file
takes that long at 30 kB a second."""
MAX_REDIRECTS = 5
CHUNK = 1 << 16

_REDIRECTS = (301, 302, 303, 307, 308)
_PASSING = (408, 425, 429, 500, 502, 503, 504)
"""Statuses that mean "try again"."""


class NotThereError(KernelError):
    """The server has no such file."""


class UnreachableError(KernelError):
    """The server cannot be reached."""


class RefusedError(KernelError):
    """The server refuses to answer; `status` is the one it sent."""

    def __init__(self, message: str, *, status: int = 0, source: str = "") -> None:
        self.status = status
        super().__init__(message, source=source)


class StoppedError(KernelError):
    """The download was cancelled by another part of the program."""


class _BrokenOffError(Exception):
    """A fault that another attempt may not meet; never leaves this module."""


def download(
    url: str,
    *,
    limit: Limit,
    tell: Tell = lambda _have, _total: None,
    stop: threading.Event | None = None,
) -> bytes:
    """What a URL serves, up to a limit of bytes. Raises `KernelError`; `StoppedError` once `stop` is set."""
    check_url(url)
    wait = time.sleep if stop is None else stop.wait
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _attempt(url, limit, tell, stop or threading.Event())
        except _BrokenOffError as fault:
            if attempt == ATTEMPTS:
                raise UnreachableError(
                    f"{shown_url(url)} cannot be downloaded: {fault} (tried {ATTEMPTS} times); look at the connection, "
                    f"the proxy (https_proxy) and the server, and start again"
                ) from fault
        wait(BACKOFF * 2 ** (attempt - 1))
    raise AssertionError("the last attempt returns or raises")


def keep(path: Path, data: bytes) -> None:
    """Write a file of the cache, whole or not at all. Raises `KernelError`."""
    try:
        try:
            _put(path, data)
        except FileNotFoundError:  # `hatch-bpf cache clear` has just removed the folder
            _put(path, data)
    except OSError as error:
        raise KernelError(
            f"{error.filename or path} cannot be written: {error.strerror}; "
            f"let the environment's {CACHE_VARIABLE} name a folder with room for downloads"
        ) from error


def _put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    put_in_place(path, data)


def _attempt(url: str, limit: Limit, tell: Tell, stop: threading.Event) -> bytes:
    with _Deadline(url) as deadline, _open(url, stop, deadline) as response:
        total = response.length
        limit.check(total or 0, source=shown_url(url))
        data = bytearray()
        tell(0, total)
        while chunk := _read(response):
            _check_wanted(url, stop)
            data += chunk
            limit.check(len(data), source=shown_url(url))
            tell(len(data), total)
    if total is not None and len(data) != total:
        raise _BrokenOffError(f"cut off after {len(data):,} of {total:,} bytes")
    return bytes(data)


def _check_wanted(url: str, stop: threading.Event) -> None:
    """Raise StoppedError if the download was cancelled."""
    if stop.is_set():
        raise StoppedError("the download was stopped", source=shown_url(url))


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(CHUNK)
    # ValueError: the size of a chunk is below zero
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise _BrokenOffError(str(error) or type(error).__name__) from error


class _Deadline:
    """Cuts an attempt's connections once it has taken too long. Raises `UnreachableError` then, whatever came of it."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._sockets: list[socket.socket] = []
        self._is_over = False
        self._timer = threading.Timer(LONGEST, self._cut)
        self._timer.daemon = True

    def __enter__(self) -> _Deadline:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        if self._is_over:
            raise UnreachableError(
                f"{shown_url(self._url)} was not downloaded within {LONGEST:.0f} seconds; look at the connection and "
                "the server, and start again"
            )

    def handlers(self, context: ssl.SSLContext) -> tuple[urllib.request.BaseHandler, ...]:
        """What opens connections that the deadline counts for."""
        watch = self._watch

        class Plain(http.client.HTTPConnection):
            def connect(self) -> None:
                super().connect()
                watch(self.sock)

        class Encrypted(http.client.HTTPSConnection):
            def connect(self) -> None:
                super().connect()
                watch(self.sock)

        class OpenPlain(urllib.request.HTTPHandler):
            def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
                return self.do_open(Plain, req)

        class OpenEncrypted(urllib.request.HTTPSHandler):
            def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
                return self.do_open(Encrypted, req, context=context)

        return OpenPlain(), OpenEncrypted(context=context)

    def _watch(self, opened: socket.socket) -> None:
        self._sockets.append(opened)
        if self._is_over:
            self._cut()

    def _cut(self) -> None:
        self._is_over = True
        for opened in self._sockets:
            # past the encryption, whose state is the reading thread's
            with suppress(OSError):
                socket.socket.shutdown(opened, socket.SHUT_RDWR)


def _open(url: str, stop: threading.Event, deadline: _Deadline) -> http.client.HTTPResponse:
    """Send the request, and follow redirects that are as safe as the URL they come from."""
    opener = _opener(deadline)
    first = url
    for _ in range(MAX_REDIRECTS + 1):
        _check_wanted(url, stop)
        request = urllib.request.Request(url, headers={"User-Agent": f"hatch-bpf/{__version__}"})
        known = authorization(url) if _may_have_login(url, first) else ""
        if known:
            request.add_unredirected_header("Authorization", known)
        try:
            return cast(http.client.HTTPResponse, opener.open(request, timeout=TIMEOUT))
        except urllib.error.HTTPError as error:
            error.close()
            if error.code not in _REDIRECTS:
                raise _refusal(url, error) from error
            url = _redirected(url, error.headers.get("Location", ""))
        except urllib.error.URLError as error:
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                raise UnreachableError(
                    f"the server's certificate is not trusted ({error.reason.verify_message}); "
                    "let SSL_CERT_FILE or REQUESTS_CA_BUNDLE name the certificates of your organization",
                    source=shown_url(url),
                ) from error
            raise _BrokenOffError(str(error.reason)) from error
        # ValueError: a host name that no DNS can have
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise _BrokenOffError(str(error) or type(error).__name__) from error
    raise KernelError(
        f"redirected more than {MAX_REDIRECTS} times; name the archive's final address", source=shown_url(url)
    )


def _may_have_login(url: str, first: str) -> bool:
    """Whether ~/.netrc may be consulted for a URL that the first one may have redirected to.

    A netrc file knows hosts only. So a password goes to the port the user named, or to another host's usual one, but
    never to another port of the same host, where somebody else may listen.
    """
    have, asked = urlsplit(url), urlsplit(first)
    if have.hostname == asked.hostname:
        return (have.scheme, have.port) == (asked.scheme, asked.port)
    return have.scheme == "https" and have.port in (None, 443)


def _redirected(url: str, location: str) -> str:
    try:
        target = urljoin(url, location)
        check_url(target)
    except (ValueError, KernelError) as error:
        raise KernelError(
            f"{shown_url(url)} redirects to {shown_url(location)}, where no BTF is taken from: {error}"
        ) from error
    if urlsplit(url).scheme == "https" and urlsplit(target).scheme == "http":
        raise KernelError(
            f"{shown_url(url)} redirects to {shown_url(target)}, which is not https; name the archive's final address"
        )
    return target


def _refusal(url: str, error: urllib.error.HTTPError) -> Exception:
    said = f"{error.code} {error.reason}"
    if error.code in (404, 410):
        return NotThereError(f"{shown_url(url)} is not there ({said})")
    if error.code in _PASSING:
        return _BrokenOffError(f"the server says {said}")
    remedy = "look whether btf-archive is right and public"
    if error.code in (401, 403):
        host = urlsplit(url).hostname
        remedy += f", or put a login into ~/.netrc: a line `machine {host} login ... password ...`"
    return RefusedError(f"{shown_url(url)} is refused ({said}); {remedy}", status=error.code)


def _opener(deadline: _Deadline) -> urllib.request.OpenerDirector:
    """urllib without its handlers for files, FTP, data URLs and redirects."""
    names = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")
    context = _context(*(os.environ.get(name, "") for name in names))
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        *deadline.handlers(context),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
    ):
        opener.add_handler(handler)
    return opener


@lru_cache(maxsize=4)
def _context(_file: str, _folder: str, bundle: str) -> ssl.SSLContext:
    """Which certificates are trusted. OpenSSL reads the first two itself. Slow to make, so all downloads share one."""
    context = ssl.create_default_context()
    if bundle:
        try:
            context.load_verify_locations(**{"capath" if os.path.isdir(bundle) else "cafile": bundle})
        except (OSError, ssl.SSLError) as error:
            raise KernelError(f"REQUESTS_CA_BUNDLE names {bundle}, which cannot be read: {error}") from error
    return context
