"""A BTF archive at a URL: BTFHub's layout, and the list of what is in it.

Input: the archive's URL. Output: its kernels, each with its URL and its place in the cache. Raises `KernelError`.
GitHub can list a repository's files. On any other server, wildcard patterns need an `index.txt` at the archive's root,
with one kernel a line: `distro/version/arch/release`.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import quote, urlsplit

from hatch_bpf import arch as arches
from hatch_bpf.errors import KernelError
from hatch_bpf.kernels.archive import SUFFIX, ArchivedKernel, list_kernels, path_of
from hatch_bpf.kernels.identity import Kernel, in_order
from hatch_bpf.kernels.remote.github import GitHubFolder, list_repository, parse_repository
from hatch_bpf.kernels.remote.urls import check_url, shown_url
from hatch_bpf.support.budget import LIST_BYTES, LISTED_KERNELS
from hatch_bpf.support.files import read_regular
from hatch_bpf.support.store import DOWNLOADS, cache_dir

INDEX = "index.txt"
"""The list of an archive's kernels, at its root."""
LISTED_FOR = 3600
"""Seconds for which a list from GitHub is used again: its requests are limited by the hour."""


@dataclass(frozen=True)
class ArchiveUrl:
    """The URL of an archive's root. Raises `KernelError` for one that cannot be downloaded from."""

    text: str

    def __post_init__(self) -> None:
        check_url(self.text)
        if "?" in self.text or "#" in self.text:
            raise KernelError(
                f'"{shown_url(self.text)}" cannot have paths added to it: leave out what begins with "?" or "#"'
            )
        self.repository  # noqa: B018  # reading it checks it

    def __str__(self) -> str:
        return self.text

    @property
    def root(self) -> str:
        """The URL without a slash at its end."""
        return self.text.rstrip("/")

    @cached_property
    def repository(self) -> GitHubFolder | None:
        """The repository, if it is on GitHub. Raises `KernelError`."""
        return parse_repository(self.root)

    @cached_property
    def files(self) -> str:
        """The URL that the paths of its files are added to."""
        return self.repository.files if self.repository else self.root

    @cached_property
    def cache(self) -> Path:
        """Where the archive's files are kept, in the archive's own layout."""
        digest = hashlib.sha256(self.root.encode()).hexdigest()[:16]
        return cache_dir() / DOWNLOADS / f"{urlsplit(self.root).hostname}-{digest}"

    def entry(self, kernel: Kernel) -> ArchivedKernel:
        """Where the archive has a kernel, provided that it has it."""
        path = path_of(kernel)
        return ArchivedKernel(kernel, self.cache / path, f"{self.files}/{quote(path.as_posix())}")

    def list_kernels(self, notify: Callable[[str], None]) -> tuple[ArchivedKernel, ...]:
        """Every kernel of the archive, sorted. Raises `KernelError`."""
        from hatch_bpf.kernels.remote.download import RefusedError, UnreachableError

        path = self.cache / INDEX
        try:
            _renew_list(self, path)
        except (UnreachableError, RefusedError) as error:
            if not path.exists():
                raise
            notify(f"warning: {error}; taking the list of kernels downloaded earlier, {path}")
        try:
            text = read_regular(path, LIST_BYTES.most)
        except OSError as error:
            raise KernelError(f"cannot be read: {error.strerror}; delete it", source=path) from error
        return tuple(self.entry(kernel) for kernel in parse_index(text, source=f"{self.root}/{INDEX}"))


def _renew_list(archive: ArchiveUrl, path: Path) -> None:
    """Bring the list in the cache up to date."""
    from hatch_bpf.kernels.remote.download import NotThereError, download, keep

    if archive.repository:
        if not _is_young(path) and not (archive.repository.is_fixed and path.exists()):
            keep(path, render_index(list_repository(archive.repository)).encode())
        return
    try:
        keep(path, download(f"{archive.root}/{INDEX}", limit=LIST_BYTES))
    except NotThereError as error:
        raise KernelError(
            f"{error}: without that list only kernels named in full can be taken from {archive}, no patterns; "
            f"whoever serves the archive can make it with `hatch-bpf kernels list FOLDER --write-index`"
        ) from error


def _is_young(path: Path) -> bool:
    with suppress(OSError):  # it is not there
        return 0 <= time.time() - path.stat().st_mtime < LISTED_FOR
    return False


def parse_index(data: bytes, *, source: str) -> list[Kernel]:
    """The kernels in a list, sorted. Those of architectures without a BPF target are passed over.

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
        LISTED_KERNELS.check(len(found), source=source)
    return in_order(found)


def render_index(kernels: Iterable[Kernel]) -> str:
    """The list of an archive's kernels."""
    return "".join(f"{kernel}\n" for kernel in in_order(set(kernels)))


def index_of(folder: Path) -> str:
    """The list for a folder that is to be served as an archive: of the files that are where `path_of()` says."""
    return render_index(entry.kernel for entry in list_kernels(folder) if entry.path == folder / path_of(entry.kernel))


def _is_name(text: str) -> bool:
    return text.replace("_", "").replace("-", "").isalnum()
