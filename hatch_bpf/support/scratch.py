"""A folder for the temporary files of one build, which goes even if the build is killed.

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
                _try_to_lock(self._lock)
                if os.path.samestat(os.stat(self.folder), os.fstat(self._lock)):
                    return
            # another build took it for an abandoned one, before it was locked

    def __enter__(self) -> str:
        return self.folder

    def __exit__(self, *_: object) -> None:
        self.remove()

    def remove(self) -> None:
        """Remove the folder and all that is in it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)


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
    """Lock an open folder; False if another process has the lock, or where there are no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
