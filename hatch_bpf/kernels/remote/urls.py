"""Which URLs are downloaded from, how they are shown, and who is asked as whom.

Input: a URL as somebody wrote it, or as a server redirects to it. Output: nothing, or `KernelError`; a text for
messages, without secrets; and the `Authorization` that the user's netrc file has for its host.
"""

from __future__ import annotations

import base64
import ipaddress
import netrc
import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from hatch_bpf.errors import KernelError

NETRC_VARIABLE = "NETRC"
"""Environment variable that names another file than ~/.netrc, as curl and requests know it."""


def check_url(text: str) -> None:
    """Refuse every URL but https, and http of this machine. Raises `KernelError`."""
    parts = _split(text)
    if parts.username is not None:
        raise KernelError(
            f'"{shown(text)}" has a user in it, which everyone can read who reads the file it stands in: leave it out, '
            f"and write a line `machine {parts.hostname} login ... password ...` into ~/.netrc"
        )
    if not parts.hostname or parts.scheme not in ("http", "https"):
        raise KernelError(f'"{shown(text)}" is not a URL that is downloaded from: write https://HOST/PATH')
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise KernelError(
            f'"{shown(text)}" can be changed by anyone on the way here: write https:// instead of http://'
        )


def shown(url: str) -> str:
    """A URL for messages: without a user and password, and without what stands behind `?`, where tokens are passed."""
    without_user = re.sub(r"//[^/?#]*@", "//...@", url)
    path, mark, query = without_user.partition("?")
    return f"{path}?..." if mark and query else without_user


def authorization(url: str, environ: Mapping[str, str] = os.environ) -> str:
    """What ~/.netrc, or the file that NETRC names, has for the URL's host by name; empty for none.

    Raises `KernelError`, which says nothing of what is in the file, for one that NETRC names and that cannot be read.
    ~/.netrc is there for other programs too, and may be none of our business.
    """
    named = environ.get(NETRC_VARIABLE)
    path = Path(named or Path(environ.get("HOME") or "~").expanduser() / ".netrc")
    try:
        known = netrc.netrc(str(path)).hosts.get(urlsplit(url).hostname or "")
    except (OSError, netrc.NetrcParseError, UnicodeDecodeError) as error:
        if not named:
            return ""
        # a parser's own message has words of the file in it
        why = (
            error.strerror
            if isinstance(error, OSError)
            else "it is not lines `machine HOST login USER password SECRET`"
        )
        raise KernelError(f"{NETRC_VARIABLE} names {path}, which cannot be read: {why}") from None
    if known is None:
        return ""
    login, _, password = known
    return "Basic " + base64.b64encode(f"{login}:{password}".encode()).decode()


def _split(text: str) -> SplitResult:
    try:
        if not text.isascii() or not text.isprintable() or " " in text:
            raise ValueError("it has characters that must be written as %XX")
        parts = urlsplit(text)
        parts.port  # noqa: B018  # is checked when it is asked for
    except ValueError as error:
        raise KernelError(f'"{shown(text)}" is not a URL ({error}): write https://HOST/PATH') from error
    return parts


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
