"""A BTF archive at a URL: BTFHub's layout, and the list of what is in it.

Input: the archive's URL. Output: its kernels, each with where to download it from and where to in the cache. Raises
`KernelError`. A web server cannot be asked what files it has, so patterns with wildcards need a file `index.txt` at the
archive's root: one kernel a line, `distro/version/arch/release`. GitHub can be asked.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import quote, urlsplit

from hatch_bpf import arch as arches
from hatch_bpf.errors import KernelError
from hatch_bpf.kernels.archive import SUFFIX, ArchivedKernel, list_kernels, path_of
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.kernels.remote.download import NotThereError, RefusedError, UnreachableError, download
from hatch_bpf.kernels.remote.github import Repository, list_repository, parse_repository
from hatch_bpf.kernels.remote.urls import check_url, shown
from hatch_bpf.support.files import write_whole
from hatch_bpf.support.store import CACHE_VARIABLE, DOWNLOADS, cache_dir

INDEX = "index.txt"
"""The list of an archive's kernels, at its root."""
MAX_INDEX = 64 << 20
"""Largest list taken, in bytes; a million kernels."""
LISTED_FOR = 3600
"""Seconds for which GitHub is not asked again for a repository's files: it answers so many times an hour."""


@dataclass(frozen=True)
class ArchiveUrl:
    """The URL of an archive's root. Raises `KernelError` when it is none that is downloaded from."""

    text: str

    def __post_init__(self) -> None:
        check_url(self.text)
        if "?" in self.text or "#" in self.text:
            raise KernelError(
                f'"{shown(self.text)}" cannot have paths added to it: leave out what begins with "?" or "#"'
            )
        self.repository  # noqa: B018  # is checked when it is asked for

    def __str__(self) -> str:
        return self.text

    @property
    def root(self) -> str:
        """The URL without a slash at its end."""
        return self.text.rstrip("/")

    @cached_property
    def repository(self) -> Repository | None:
        """The repository on GitHub that it is, if it is one. Raises `KernelError`."""
        return parse_repository(self.root)

    @property
    def files(self) -> str:
        """The URL that the paths of its files are added to."""
        return self.repository.files if self.repository else self.root

    @property
    def cache(self) -> Path:
        """Where the archive's files are kept, in the archive's own layout."""
        digest = hashlib.sha256(self.root.encode()).hexdigest()[:16]
        return cache_dir() / DOWNLOADS / f"{urlsplit(self.root).hostname}-{digest}"


Archive = Path | ArchiveUrl
"""A BTF archive: a folder, or a URL."""


def parse_archive(text: str, *, root: Path) -> Archive:
    """What `btf-archive` names; a relative folder is against `root`. Raises `KernelError`."""
    return ArchiveUrl(text) if "://" in text else root / text


def entry_of(archive: ArchiveUrl, kernel: Kernel) -> ArchivedKernel:
    """Where an archive has a kernel, if it has it."""
    path = path_of(kernel)
    return ArchivedKernel(kernel, archive.cache / path, f"{archive.files}/{quote(path.as_posix())}")


def list_archive(archive: Archive, notify: Callable[[str], None]) -> tuple[ArchivedKernel, ...]:
    """Every kernel of an archive, sorted. Raises `KernelError`."""
    if isinstance(archive, Path):
        return list_kernels(archive)
    path = archive.cache / INDEX
    try:
        _renew_list(archive, path)
    except (UnreachableError, RefusedError) as error:
        if not path.exists():
            raise
        notify(f"warning: {error}; taking the list of kernels downloaded earlier, {path}")
    try:
        text = path.read_bytes()
    except OSError as error:
        raise KernelError(f"{path} cannot be read: {error.strerror}; delete it") from error
    return tuple(entry_of(archive, kernel) for kernel in parse_index(text, source=f"{archive.root}/{INDEX}"))


def _renew_list(archive: ArchiveUrl, path: Path) -> None:
    """Let a file of the cache have the list as it is now."""
    if archive.repository:
        if _is_young(path) or (archive.repository.is_fixed and path.exists()):
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            kernels = list_repository(archive.repository, path.parent)
        except OSError as error:
            raise KernelError(
                f"{error.filename or path.parent} cannot be written: {error.strerror}; "
                f"let the environment's {CACHE_VARIABLE} name a folder with room for downloads"
            ) from error
        write_whole(path, render_index(kernels).encode())
        return
    try:
        download(f"{archive.root}/{INDEX}", path, limit=MAX_INDEX)
    except NotThereError as error:
        raise KernelError(
            f"{error}: without that list only kernels named in full can be taken from {archive}, no patterns; "
            f"who serves the archive can make it with `hatch-bpf kernels list FOLDER --write-index`"
        ) from error


def _is_young(path: Path) -> bool:
    try:
        return 0 <= time.time() - path.stat().st_mtime < LISTED_FOR
    except OSError:
        return False


def parse_index(data: bytes, *, source: str) -> list[Kernel]:
    """The kernels that a list has, sorted; those of architectures that BPF has no target for are passed over.

    A line may also be the path of the kernel's file. Raises `KernelError` that names `source` and the line.
    """
    found = set()
    for number, line in enumerate(data.decode(errors="replace").splitlines(), 1):
        name = line.strip().removeprefix("./").removesuffix(SUFFIX)
        if not name or name.startswith("#"):
            continue
        parts = name.split("/")
        try:
            if len(parts) == 4 and arches.by_machine(parts[2]) is None and _is_name(parts[2]):
                continue
            found.add(Kernel.parse(name))
        except KernelError as error:
            raise KernelError(
                f"{source}, line {number}: {line[:80]!r} is not a kernel; a line is distro/version/arch/release"
            ) from error
    return sorted(found)


def render_index(kernels: Iterable[Kernel]) -> str:
    """The list of an archive's kernels."""
    return "".join(f"{kernel}\n" for kernel in sorted(set(kernels)))


def index_of(folder: Path) -> str:
    """The list for an archive in a folder that is to be served: of the files whose place follows from the kernel."""
    return render_index(entry.kernel for entry in list_kernels(folder) if entry.path == folder / path_of(entry.kernel))


def _is_name(text: str) -> bool:
    return text.replace("_", "").replace("-", "").isalnum()
