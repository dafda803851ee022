"""A folder for the temporary files of one build. If the build is killed, a later one removes it.

Input: nothing. Output: a new folder among the system's temporary files, locked for as long as the process lives. Each
new one first removes the folders of this user whose process is gone.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

_PREFIX = "hatch-bpf-build-"


class Scratch:
    """A temporary folder, removed by `remove()`, at the end of a `with` block, or by a later build."""

    def __init__(self) -> None:
        _remove_abandoned()
        while True:
            self.folder = tempfile.mkdtemp(prefix=_PREFIX)
            with suppress(FileNotFoundError):
                self._lock = os.open(self.folder, os.O_RDONLY | os.O_CLOEXEC)
                if _is_kept(self.folder, self._lock):
                    return
                os.close(self._lock)
            # another build takes it for an abandoned one, since it was not locked yet

    def __enter__(self) -> str:
        return self.folder

    def __exit__(self, *_: object) -> None:
        self.remove()

    def remove(self) -> None:
        """Remove the folder and all that is in it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)


def _is_kept(folder: str, handle: int) -> bool:
    """Lock a new folder, and say whether it stays: another build may have locked it first, to remove it."""
    try:
        is_locked = _try_to_lock(handle)
    except OSError:
        is_locked = True  # there are no locks here, so that nobody removes anything
    with suppress(FileNotFoundError):
        return is_locked and os.path.samestat(os.stat(folder), os.fstat(handle))
    return False


def _remove_abandoned() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if os.fstat(handle).st_uid == os.getuid() and _try_to_lock(handle):
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(handle)


def _try_to_lock(handle: int) -> bool:
    """Lock an open folder; False if another process has the lock. Raises `OSError` where there are no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
