"""Bytes -> a file, whole or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from hatch_bpf.errors import OutputError


def write_whole(path: Path, data: bytes) -> None:
    """Write through a file of another name, so that an interruption leaves the old contents or the new.

    Raises `OutputError`.
    """
    try:
        _replace(path, data)
    except OSError as error:
        remedy = "; make room there" if error.errno == errno.ENOSPC else ""
        raise OutputError(f"{path} cannot be written: {error.strerror}{remedy}") from error


def _replace(path: Path, data: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
