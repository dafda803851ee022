"""URL -> a file, whole or not at all.

Input: an https URL, or an http one of this very machine. Output: the file at the path given, or `KernelError`. What has
come before the connection broke is kept beside it as `NAME.part`, and the next attempt asks only for the rest.
The environment names proxies (`https_proxy`, `no_proxy`) and certificates (`SSL_CERT_FILE`, `SSL_CERT_DIR`,
`REQUESTS_CA_BUNDLE`); ~/.netrc has the users and passwords of hosts that ask for them.
"""

from __future__ import annotations

import fcntl
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import urljoin, urlsplit

from hatch_bpf import __version__
from hatch_bpf.errors import KernelError
from hatch_bpf.kernels.remote.urls import authorization, check_url, shown
from hatch_bpf.support.store import CACHE_VARIABLE

# what speaks HTTP takes longer to import than all else that a build without a URL needs
if TYPE_CHECKING:
    import http.client
    import ssl
    import urllib.error
    import urllib.request

Tell = Callable[[int, int | None], None]
"""Told how many bytes of a file have come, and how many it has if the server said so."""

ATTEMPTS = 4
"""How often a download is tried before it is given up."""
BACKOFF = 0.5
"""Seconds before the second attempt; twice as many before each further one."""
TIMEOUT = 30.0
"""Seconds of silence after which a connection counts as broken."""
MAX_REDIRECTS = 5
CHUNK = 1 << 16

_REDIRECTS = (301, 302, 303, 307, 308)
_PASSING = (408, 425, 429, 500, 502, 503, 504)
"""Statuses that say "try again"."""


class NotThereError(KernelError):
    """The server has no such file."""


class UnreachableError(KernelError):
    """The server cannot be asked at all."""


class RefusedError(KernelError):
    """The server has an answer, but not for us; `status` is its own."""

    def __init__(self, message: str, status: int) -> None:
        self.status = status
        super().__init__(message)


class StoppedError(KernelError):
    """Another part of the program said that the download is not wanted any more."""


class _BrokenOffError(Exception):
    """A fault that another attempt may not meet; never leaves this module."""


class _WrongRangeError(_BrokenOffError):
    """What has come so far is not the beginning of what the server has now."""


@dataclass(frozen=True)
class _Request:
    """One download, and who has an interest in it."""

    url: str
    limit: int
    tell: Tell
    stop: threading.Event | None

    def check(self) -> None:
        """Raise `StoppedError` if nobody has any more."""
        if self.stop is not None and self.stop.is_set():
            raise StoppedError(f"{shown(self.url)}: the download was stopped")

    def wait(self, seconds: float) -> None:
        """Let time pass, unless the download is stopped meanwhile."""
        if self.stop is None:
            time.sleep(seconds)
        else:
            self.stop.wait(seconds)


def download(
    url: str,
    path: Path,
    *,
    limit: int,
    tell: Tell = lambda _have, _total: None,
    stop: threading.Event | None = None,
) -> None:
    """Put what a URL serves, `limit` bytes at the most, at a path. Raises `KernelError`.

    Once `stop` is set, it is given up with `StoppedError`; what has come is kept for the next time.
    """
    check_url(url)
    request = _Request(url, limit, tell, stop)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _part_file(path) as part:
            if not _is_named(part):  # another process has just finished this very download
                return
            _download_part(request, part)
            os.replace(part.name, path)
    except OSError as error:
        raise KernelError(
            f"{error.filename or path} cannot be written: {error.strerror}; "
            f"let the environment's {CACHE_VARIABLE} name a folder with room for downloads"
        ) from error


@contextmanager
def _part_file(path: Path) -> Iterator[FileIO]:
    """The file that a download grows in. Only one process at a time has it."""
    with open(path.with_name(path.name + ".part"), "ab", buffering=0) as part:
        fcntl.flock(part, fcntl.LOCK_EX)
        try:
            yield part
        except OSError:
            # a disk that is full should get its room back
            part.truncate(0)
            raise


def _is_named(part: FileIO) -> bool:
    """Whether an open file still has its name."""
    try:
        return os.path.samestat(os.stat(part.name), os.fstat(part.fileno()))
    except FileNotFoundError:
        return False


def _download_part(request: _Request, part: FileIO) -> None:
    for attempt in range(1, ATTEMPTS + 1):
        request.check()
        try:
            _continue(request, part)
            return
        except _BrokenOffError as fault:
            if isinstance(fault, _WrongRangeError):
                part.truncate(0)
            if attempt == ATTEMPTS:
                raise UnreachableError(
                    f"{shown(request.url)} cannot be downloaded: {fault} (tried {ATTEMPTS} times); look at the "
                    f"connection, the proxy (https_proxy) and the server, and start again: the download goes on where "
                    f"it stopped"
                ) from fault
        request.wait(BACKOFF * 2 ** (attempt - 1))


def _continue(request: _Request, part: FileIO) -> None:
    """One attempt: ask for what is missing, and append it."""
    validator = Path(f"{part.name}.etag")
    have = os.fstat(part.fileno()).st_size
    # without something that tells versions apart, the rest could be of another file than the beginning
    known = validator.read_text() if have and validator.exists() else ""
    headers = {"Range": f"bytes={have}-", "If-Range": known} if known else {}
    with _open(request.url, headers) as response:
        start, total = _extent(response, have)
        if total is not None and total > request.limit:
            raise _too_large(request, total)
        if start != have:
            part.truncate(start)
        # a weak ETag may stand for other bytes
        etag = response.headers.get("ETag", "")
        validator.write_text(response.headers.get("Last-Modified", "") if etag.startswith("W/") else etag)
        end = _append(response, part, request, start=start, total=total)
    if total is not None and end != total:
        raise _BrokenOffError(f"cut off after {end:,} of {total:,} bytes")
    validator.unlink()


def _append(
    response: http.client.HTTPResponse, part: FileIO, request: _Request, *, start: int, total: int | None
) -> int:
    """Append the body to the part; returns the part's size."""
    size = start
    request.tell(size, total)
    while chunk := _read(response):
        request.check()
        size += len(chunk)
        if size > request.limit:
            raise _too_large(request, None)
        rest = memoryview(chunk)
        while rest:
            rest = rest[part.write(rest) :]
        request.tell(size, total)
    return size


def _too_large(request: _Request, size: int | None) -> KernelError:
    has = f"{size >> 20} MiB" if size is not None else f"more than {request.limit >> 20} MiB"
    return KernelError(f"{shown(request.url)} has {has}, more than such a file can have; name another archive")


def _read(response: http.client.HTTPResponse) -> bytes:
    import http.client

    try:
        return response.read(CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenOffError(str(error) or type(error).__name__) from error


def _extent(response: http.client.HTTPResponse, have: int) -> tuple[int, int | None]:
    """Where in the file the body starts, and the file's whole size if the server says it."""
    if response.status == 206:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if not match or int(match[1]) != have:
            raise _WrongRangeError("the server sent another part of the file than it was asked for")
        return have, None if match[2] == "*" else int(match[2])
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else None


def _open(url: str, headers: dict[str, str]) -> http.client.HTTPResponse:
    """Ask, and go where the server redirects to, if that is as safe as where it came from."""
    import http.client
    import ssl
    import urllib.error
    import urllib.request

    opener = _opener()
    for _ in range(MAX_REDIRECTS + 1):
        request = urllib.request.Request(url, headers={"User-Agent": f"hatch-bpf/{__version__}", **headers})
        # asked for anew at each step: what is meant for one host must not come to another
        known = authorization(url)
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
                    f"{shown(url)}: the server's certificate is not trusted ({error.reason.verify_message}); "
                    f"let SSL_CERT_FILE or REQUESTS_CA_BUNDLE name the certificates of your organization"
                ) from error
            raise _BrokenOffError(str(error.reason)) from error
        except (OSError, http.client.HTTPException) as error:
            raise _BrokenOffError(str(error) or type(error).__name__) from error
    raise KernelError(f"{shown(url)}: redirected more than {MAX_REDIRECTS} times; name the archive's final address")


def _redirected(url: str, location: str) -> str:
    try:
        target = urljoin(url, location)
        check_url(target)
    except (ValueError, KernelError) as error:
        raise KernelError(
            f"{shown(url)} redirects to {shown(location)}, where no BTF is taken from: {error}"
        ) from error
    if urlsplit(url).scheme == "https" and urlsplit(target).scheme == "http":
        raise KernelError(
            f"{shown(url)} redirects to {shown(target)}, which is not https; name the archive's final address"
        )
    return target


def _refusal(url: str, error: urllib.error.HTTPError) -> Exception:
    said = f"{error.code} {error.reason}"
    if error.code in (404, 410):
        return NotThereError(f"{shown(url)} is not there ({said})")
    if error.code == 416:
        return _WrongRangeError(f"the server says {said}")
    if error.code in _PASSING:
        return _BrokenOffError(f"the server says {said}")
    if error.code in (401, 403):
        host = urlsplit(url).hostname
        return RefusedError(
            f"{shown(url)} is refused ({said}); look whether btf-archive is right and public, or let a line "
            f"`machine {host} login ... password ...` in ~/.netrc say who asks",
            error.code,
        )
    return RefusedError(f"{shown(url)} is refused ({said}); look whether btf-archive is right and public", error.code)


def _opener() -> urllib.request.OpenerDirector:
    """urllib without its handlers for files, FTP, data URLs and redirects."""
    import urllib.request

    names = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")
    context = _context(*(os.environ.get(name, "") for name in names))
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=context),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
    ):
        opener.add_handler(handler)
    return opener


@lru_cache(maxsize=4)
def _context(_file: str, _folder: str, bundle: str) -> ssl.SSLContext:
    """Which certificates are trusted: OpenSSL looks at the first two itself. Dear to make, so one for all downloads."""
    import ssl

    context = ssl.create_default_context()
    if bundle:
        try:
            context.load_verify_locations(**{"capath" if os.path.isdir(bundle) else "cafile": bundle})
        except (OSError, ssl.SSLError) as error:
            raise KernelError(f"REQUESTS_CA_BUNDLE names {bundle}, which cannot be read: {error}") from error
    return context
