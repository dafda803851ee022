"""SHA-256 of the package's files. Input: bytes. Output: their digest in hexadecimal."""

from __future__ import annotations

from .errors import PackageError


def sha256(data: bytes) -> str:
    """SHA-256, without OpenSSL where CPython has its own: to import that takes as long as to open an object."""
    for module in ("_sha2", "_sha256", "hashlib"):  # Python 3.12 and later; earlier; anywhere else
        try:
            return str(__import__(module).sha256(data).hexdigest())
        except (ImportError, AttributeError):
            continue
    raise PackageError("this Python has no SHA-256, so that the package's files can't be verified")
