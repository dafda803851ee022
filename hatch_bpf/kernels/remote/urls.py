"""Which URLs may be downloaded from, how messages show them, and the login that ~/.netrc has for a host.

Input: a URL that somebody wrote or that a server redirects to. Output: nothing, or `KernelError`; a text for messages,
without secrets; and the value of the header `Authorization`.
"""

from __future__ import annotations

import base64
import ipaddress
import netrc
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from hatch_bpf.errors import KernelError

NETRC_VARIABLE = "NETRC"
"""Environment variable that names a file to read in place of ~/.netrc, as with curl and requests."""


def check_url(text: str) -> None:
    """Accept https, and http of this machine. Raises `KernelError` for any other URL."""
    parts = _split(text)
    if parts.username is not None:
        raise KernelError(
            f'"{shown_url(text)}" has a user in it, which everyone can see who reads this file: leave it out, '
            f"and write a line `machine {parts.hostname} login ... password ...` into ~/.netrc"
        )
    if not parts.hostname or parts.scheme not in ("http", "https"):
        raise KernelError(f'"{shown_url(text)}" is not a URL that can be downloaded from: write https://HOST/PATH')
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise KernelError(
            f'"{shown_url(text)}" can be changed by anyone on the way here: write https:// instead of http://'
        )


def shown_url(url: str) -> str:
    """A URL for messages: without user and password, and without the query, which may hold a token."""
    without_user = re.sub(r"//[^/?#]*@", "//...@", url)
    path, mark, query = without_user.partition("?")
    return f"{path}?..." if mark and query else without_user


def authorization(url: str, environ: Mapping[str, str] = os.environ) -> str:
    """The header's value for the URL's host, from ~/.netrc or the file that NETRC names; empty if it has none.

    Raises `KernelError`, which quotes nothing of the file, if NETRC names one that cannot be read. A broken ~/.netrc is
    ignored: it may be meant for other programs.
    """
    named = environ.get(NETRC_VARIABLE)
    path = Path(named or Path(environ.get("HOME") or "~").expanduser() / ".netrc")
    try:
        known = netrc.netrc(str(path)).hosts.get(urlsplit(url).hostname or "")
    except (OSError, netrc.NetrcParseError, UnicodeDecodeError) as error:
        if not named:
            return ""
        # the parser's own message quotes the file
        why = (
            error.strerror
            if isinstance(error, OSError)
            else "it is not lines `machine HOST login USER password SECRET`"
        )
        raise KernelError(f"cannot be read, though {NETRC_VARIABLE} names it: {why}", source=path) from None
    if known is None:
        return ""
    login, _, password = known
    return "Basic " + base64.b64encode(f"{login}:{password}".encode()).decode()


def _split(text: str) -> SplitResult:
    try:
        if not text.isascii() or not text.isprintable() or " " in text:
            raise ValueError("some of its characters must be written as %XX")
        parts = urlsplit(text)
        parts.port  # noqa: B018  # reading it checks it
    except ValueError as error:
        raise KernelError(f'"{shown_url(text)}" is not a URL ({error}): write https://HOST/PATH') from error
    return parts


def _is_loopback(host: str) -> bool:
    with suppress(ValueError):  # a name
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"
