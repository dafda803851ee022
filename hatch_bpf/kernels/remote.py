"""A BTF archive at a URL: BTFHub's layout, and the file that lists it.

Input: the archive's URL. Output: its kernels, each with where to download it from and where to in the cache; and the
downloads. Raises `KernelError`. A web server cannot be asked what files it has, so patterns with wildcards need a file
`index.txt` at the archive's root: one kernel a line, `distro/version/arch/release`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from hatch_bpf import arch as arches
from hatch_bpf.cache import cache_dir
from hatch_bpf.errors import KernelError
from hatch_bpf.kernels.archive import MAX_TAR, SUFFIX, ArchivedKernel, list_kernels, path_of
from hatch_bpf.kernels.download import NotThereError, UnreachableError, check_url, download
from hatch_bpf.kernels.identity import Kernel

INDEX = "index.txt"
"""The list of an archive's kernels, at its root."""
MAX_INDEX = 64 << 20
"""Largest list taken, in bytes; a million kernels."""


@dataclass(frozen=True)
class ArchiveUrl:
    """The URL of an archive's root. Raises `KernelError` when it is none that is downloaded from."""

    text: str

    def __post_init__(self) -> None:
        check_url(self.text)
        if "?" in self.text or "#" in self.text:
            raise KernelError(f'"{self.text}" cannot have paths added to it: leave out what begins with "?" or "#"')

    def __str__(self) -> str:
        return self.text

    @property
    def root(self) -> str:
        """The URL without a slash at its end."""
        return self.text.rstrip("/")

    @property
    def cache(self) -> Path:
        """Where the archive's files are kept, in the archive's own layout."""
        digest = hashlib.sha256(self.root.encode()).hexdigest()[:16]
        return cache_dir() / "archives" / f"{urlsplit(self.root).hostname}-{digest}"


Archive = Path | ArchiveUrl
"""A BTF archive: a folder, or a URL."""


def parse_archive(text: str, *, root: Path) -> Archive:
    """What `btf-archive` names; a relative folder is against `root`. Raises `KernelError`."""
    return ArchiveUrl(text) if "://" in text else root / text


def entry_of(archive: ArchiveUrl, kernel: Kernel) -> ArchivedKernel:
    """Where an archive has a kernel, if it has it."""
    path = path_of(kernel)
    return ArchivedKernel(kernel, archive.cache / path, f"{archive.root}/{quote(path.as_posix())}")


def list_archive(archive: Archive, notify: Callable[[str], None]) -> tuple[ArchivedKernel, ...]:
    """Every kernel of an archive, sorted. Raises `KernelError`."""
    if isinstance(archive, Path):
        return list_kernels(archive)
    url, path = f"{archive.root}/{INDEX}", archive.cache / INDEX
    try:
        download(url, path, limit=MAX_INDEX)
    except NotThereError as error:
        raise KernelError(
            f"{error}: without that list only kernels named in full can be taken from {archive}, no patterns; "
            f"who serves the archive can make it with `hatch-bpf kernels list FOLDER --write-index`"
        ) from error
    except UnreachableError as error:
        if not path.exists():
            raise
        notify(f"warning: {error}; taking the list of kernels downloaded earlier, {path}")
    try:
        text = path.read_bytes()
    except OSError as error:
        raise KernelError(f"{path} cannot be read: {error.strerror}; delete it") from error
    return tuple(entry_of(archive, kernel) for kernel in parse_index(text, source=url))


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


def fetch(entry: ArchivedKernel) -> None:
    """Download one kernel. Raises `KernelError`."""
    try:
        download(entry.url, entry.path, limit=MAX_TAR)
    except NotThereError as error:
        raise NotThereError(
            f"{error}: the archive has no {entry.kernel}; take it out of kernels, or let btf-archive name another"
        ) from error


def _is_name(text: str) -> bool:
    return text.replace("_", "").replace("-", "").isalnum()
