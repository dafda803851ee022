"""The cache: results that are kept between builds, to save making them again.

Input: the environment; for the store a kind, a key and bytes. Output: the folder, which may be deleted at any time; the
same bytes, or None. A failure here never stops a build: what cannot be kept is made again.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from hatch_bpf.support import templating

CACHE_VARIABLE = "HATCH_BPF_CACHE"
"""Environment variable that names the cache folder."""
RESULTS = "results"
"""The folder of results in the cache folder."""
DOWNLOADS = "archives"
"""The folder of files that were downloaded from archives."""
INCLUDE = "include"
"""The folder of headers for editors."""
LIMIT = 1 << 30
"""Bytes of results kept; `Store.prune()` removes the least recently used ones."""
_FRESH = 3600
"""Seconds for which a result counts as just used, so that not every read has to record one."""


def cache_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """The cache folder: the one that is named, otherwise the platform's usual place; without a home nothing is kept."""
    if environ.get(CACHE_VARIABLE):
        return Path(environ[CACHE_VARIABLE]).absolute()
    from platformdirs import user_cache_path  # late, for builds that name a folder

    try:
        folder = user_cache_path("hatch-bpf", appauthor=False)
    except RuntimeError:  # a user without a home, for whom older versions make it a folder called "~"
        folder = Path()
    return folder if folder.is_absolute() else Path(os.devnull, "hatch-bpf")


class Usage(NamedTuple):
    """How much of one kind the cache folder holds."""

    kind: str
    entries: int
    size: int
    """Bytes."""


class Store:
    """Results by kind and key. Any number of processes may use it at once. Each result is whole or absent.

    A result carries its own sha256: a damaged one is removed and counts as absent. Results of another version
    of hatch-bpf count as not there either.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = cache_dir() / RESULTS if folder is None else folder

    def get(self, kind: str, key: str) -> bytes | None:
        """What was kept, or None."""
        path = self._path(kind, key)
        try:
            with path.open("rb") as file:
                content = file.read()
                used = os.fstat(file.fileno()).st_mtime
        except OSError:
            return None
        digest, data = content[:32], content[32:]
        if hashlib.sha256(data).digest() != digest:
            with suppress(OSError):
                path.unlink()
            return None
        if abs(time.time() - used) > _FRESH:
            with suppress(OSError):
                os.utime(path)
        return data

    def put(self, kind: str, key: str, data: bytes) -> None:
        """Keep a result, if possible."""
        path = self._path(kind, key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
        except OSError:
            return
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(data).digest() + data)
            os.replace(name, path)
        except BaseException as error:
            with suppress(OSError):
                os.unlink(name)
            if not isinstance(error, OSError):
                raise

    def text(self, kind: str, key: str, make: Callable[[], str]) -> str:
        """The text that was kept, or that `make` makes and is kept from now on."""
        kept = self.get(kind, key)
        if kept is not None:
            return kept.decode()
        text = make()
        self.put(kind, key, text.encode())
        return text

    def prune(self, limit: int = LIMIT) -> None:
        """Remove the least recently used results until `limit` bytes stay, and what interrupted writes left."""
        found = []
        for path in _files(self.folder):
            with suppress(OSError):
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
        abandoned = time.time() - 24 * _FRESH
        kept = 0
        for used, size, path in sorted(found, reverse=True):
            kept += size
            if kept > limit or (path.name.startswith(".") and used < abandoned):
                with suppress(OSError):
                    path.unlink()

    def _path(self, kind: str, key: str) -> Path:
        whole = f"{_engine_digest()} {key}"
        digest = hashlib.sha256(whole.encode("utf-8", "surrogateescape")).hexdigest()
        return self.folder.joinpath(kind, digest[:2], digest[2:])


@lru_cache(maxsize=1)
def _engine_digest() -> str:
    """A digest of hatch-bpf's own code and templates: another version may make something else of the same input."""
    digest = hashlib.sha256()
    for folder, ending in ((str(Path(__file__).parents[1]), ".py"), *((str(f), ".j2") for f in templating.FOLDERS)):
        # strings and plain reads, since this is done in every build
        names = (os.path.join(parent, name) for parent, _, files in os.walk(folder) for name in files)
        for path in sorted(name for name in names if name.endswith(ending)):
            with open(path, "rb", buffering=0) as file:
                digest.update(file.read())
    return digest.hexdigest()


def usage(folder: Path) -> tuple[Usage, ...]:
    """How much the cache folder holds: downloads, headers for editors, and each kind of result."""
    places = {name: folder / name for name in (DOWNLOADS, INCLUDE) if (folder / name).is_dir()}
    places |= {f"{RESULTS}/{path.name}": path for path in _folders(folder / RESULTS)}
    found = []
    for name, place in sorted(places.items()):
        sizes = [_size(path) for path in _files(place)]
        found.append(Usage(name, len(sizes), sum(sizes)))
    return tuple(found)


def clear(folder: Path) -> None:
    """Remove everything of ours from the cache folder. Raises `OSError` for what cannot be removed.

    Nothing else: somebody may have named a folder that holds other things. Builds may go on meanwhile: what they write
    next goes into new folders.
    """
    for name in (DOWNLOADS, INCLUDE, RESULTS):
        if (folder / name).exists():
            _move_aside(folder, name)
        for path in folder.glob(f".{name}-????????"):  # of a clear that was killed, too
            _remove(path)


def _move_aside(folder: Path, name: str) -> None:
    aside = tempfile.mkdtemp(dir=folder, prefix=f".{name}-")
    try:
        os.rename(f"{folder / name}/", aside)
    except FileNotFoundError:  # another `clear()` was here first
        pass
    except OSError:
        os.rmdir(aside)
        raise


def _remove(folder: Path) -> None:
    """Remove a folder, into which a file may still come that was begun earlier. Raises `OSError`."""
    for _ in range(3):
        try:
            return shutil.rmtree(folder)
        except FileNotFoundError:  # another `clear()` is at it, too
            if not folder.exists():
                return None
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
    return shutil.rmtree(folder, ignore_errors=True)


def _files(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        for name in names:
            yield Path(parent, name)


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # another process has just removed it
        return 0
