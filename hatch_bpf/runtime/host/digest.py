"""SHA-256 of the package's files. Input: bytes. Output: their digest in hexadecimal."""

from __future__ import annotations

import sys

from ..errors import PackageError

MODULES = ("_sha2" if sys.version_info >= (3, 12) else "_sha256", "hashlib")
"""CPython's own SHA-256 first: importing OpenSSL's takes as long as opening an object."""


def sha256(data: bytes) -> str:
    """The digest, from the first of `MODULES` that exists."""
    for module in MODULES:
        try:
            return str(__import__(module).sha256(data).hexdigest())
        except (ImportError, AttributeError):
            continue
    raise PackageError("this Python has no SHA-256, so that the package's files can't be verified")
