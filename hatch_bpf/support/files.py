"""Bytes -> a file, whole or not at all; files -> bytes, within a limit; disk errors -> ours, with a remedy."""

from __future__ import annotations

import errno
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from hatch_bpf.errors import OutputError

_TEMPORARY = re.compile(r"\.(.+)\.[a-z0-9_]{8}")
_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "; make room there"),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "; let it be written, or build from a copy"),
}


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading. Raises `OSError` for a pipe, which may never be written to, or a device without end."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return os.fdopen(handle, "rb")


def read_regular(path: Path, limit: int) -> bytes:
    """All of a file. Raises `OSError` for one that is no regular file or has more than `limit` bytes."""
    with open_regular(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"it has more than {limit:,} bytes", str(path))
    return data


def write_whole(path: Path, data: bytes, *, staging: Path | None = None) -> None:
    """Write through a temporary file, so that an interruption leaves the old contents or the new.

    The temporary file lies in the folder `staging`, else beside the file. Raises `OutputError`.
    """
    with _writing(path):
        put_in_place(path, data, staging=staging)


def write_new(path: Path, data: bytes) -> None:
    """Write a new file, in a folder that is removed if the build is interrupted. Raises `OutputError`."""
    with _writing(path), path.open("xb") as file:
        file.write(data)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}{_REMEDIES.get(error.errno or 0, '')}") from error


def put_in_place(path: Path, data: bytes, *, staging: Path | None = None) -> None:
    """What `write_whole()` does, for callers with a remedy of their own. Raises `OSError`."""
    handle, name = tempfile.mkstemp(dir=staging or path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(name)
        raise


def final_name(path: Path) -> str:
    """The name that `write_whole()` would have given to a temporary file; empty for any other file."""
    match = _TEMPORARY.fullmatch(path.name)
    return match[1] if match else ""


def remove_leftovers(path: Path, folder: Path) -> None:
    """Remove the temporary files of a `write_whole()` that was killed. Nobody else may be writing that file."""
    for temporary in folder.iterdir() if folder.is_dir() else ():
        if final_name(temporary) == path.name:
            temporary.unlink()


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Let other builds wait for their turn in a folder. Where there are no locks, go on without."""
    import fcntl  # slow to import, and few builds get here

    try:
        handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        yield
        return
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def disk_errors() -> Iterator[None]:
    """Turn errors of the file system into an `OutputError`."""
    try:
        yield
    except BrokenPipeError:  # the reader of the output has gone
        raise
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise OutputError(f"{where}{error.strerror or error}{_REMEDIES.get(error.errno or 0, '')}") from error
