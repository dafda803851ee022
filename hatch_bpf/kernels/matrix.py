"""The kernels a project declares -> the kernels it is built for, each with where its BTF is.

Input: the entries of `kernels`, the architectures built for, and the archive. Output: a `Matrix`, sorted; or one
`KernelError` with every fault of every entry. No BTF is read here unless two files claim to be the same kernel. An
archive at a URL is asked only for its list of kernels, and only if a pattern has wildcards.
"""

from __future__ import annotations

import difflib
import heapq
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from itertools import groupby
from operator import attrgetter
from os.path import commonprefix
from pathlib import Path

from hatch_bpf import arch as arches
from hatch_bpf.errors import KernelError
from hatch_bpf.kernels import HOST, HOST_BTF, identity
from hatch_bpf.kernels.any_archive import Archive
from hatch_bpf.kernels.archive import ArchivedKernel, list_kernels, read_archived
from hatch_bpf.kernels.formats.kernel_file import read_btf
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.kernels.locked import check_locked
from hatch_bpf.support.progress import Downloaded

PATTERN_FORM = "distro/version/arch/release"


@dataclass(frozen=True)
class Pattern:
    """Kernels of the archive whose four parts match, each by the shell's rules (`*`, `?`, `[...]`, `[!...]`)."""

    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Newest:
    """The newest `count` kernels of each distro, version and arch that a pattern matches."""

    count: int
    of: Pattern

    def __str__(self) -> str:
        return f"newest {self.count} of {self.of}"


@dataclass(frozen=True)
class BtfFile:
    """One kernel whose BTF is in a file of any form that `read_btf()` knows."""

    path: Path
    release: str
    arch: str
    distro: str = ""
    version: str = ""

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class Host:
    """The running machine's kernel."""

    def __str__(self) -> str:
        return HOST


Entry = Pattern | Newest | BtfFile | Host


def named_entry(text: str) -> Pattern | Host:
    """The entry that a text is short for: the running kernel's, or a pattern."""
    return Host() if text == HOST else Pattern(text)


@dataclass(frozen=True)
class KernelSource(ArchivedKernel):
    """A kernel of the matrix and where its BTF is. Can be sent to another process."""

    reader: Callable[[Path], bytes] = read_btf
    sha256: str = ""
    """The BTF's digest in the lock; empty without one."""
    image_sha256: str | None = None
    """The image's digest in the lock; empty if the lock has images and not this one; None if it has none."""
    config_sha256: str | None = None
    """The same of the kernel's configuration."""

    @property
    def origin(self) -> str:
        """Where the BTF is, for messages."""
        return self.url or str(self.path)

    @property
    def is_host(self) -> bool:
        """Whether it is the running kernel's, which is never locked."""
        return self.path == HOST_BTF

    def read(self) -> bytes:
        """The kernel's BTF, downloaded if need be. Raises `KernelError`."""
        if not self.url:
            return self._read()
        spoiled = ""
        if self.path.exists():
            try:
                return self._read()
            except KernelError as error:  # damaged in the cache, or older than the lock
                spoiled = f"{error}\n"
        from hatch_bpf.kernels.remote.fetch import fetch

        try:
            fetch(self)
        except KernelError as error:
            raise KernelError(f"{spoiled}{error}", kernel=self.kernel) from error
        try:
            return self._read()
        except KernelError as error:
            self.path.unlink(missing_ok=True)
            raise KernelError(
                f"what was downloaded cannot be used: {error}", source=self.url, kernel=self.kernel
            ) from error

    def _read(self) -> bytes:
        data = self.reader(self.path)
        if self.sha256:
            check_locked(f"{self.kernel}: the BTF in {self.origin}", data, self.sha256, kernel=self.kernel)
        return data


@dataclass(frozen=True)
class Matrix:
    """The kernels a project is built for."""

    sources: tuple[KernelSource, ...]
    """Sorted by kernel; each kernel once."""
    warnings: tuple[str, ...]
    """What was left out and why, for the user."""

    def warn(self, notify: Callable[[str], None]) -> None:
        """Report what was left out."""
        for warning in self.warnings:
            notify(f"warning: {warning}")

    def download(self, notify: Callable[[str], None], progress: Callable[[Downloaded], None] = lambda _: None) -> None:
        """Get what is not in the cache yet. Raises `KernelError` that names everything the server lacks."""
        missing = [source for source in self.sources if source.url and not source.path.exists()]
        if missing:
            from hatch_bpf.kernels.remote.fetch import fetch_all

            fetch_all(missing, notify, progress)


def resolve(
    entries: Sequence[Entry], *, archs: Iterable[str], archive: Archive | None, known: Iterable[Kernel] | None = None
) -> Matrix:
    """Find every entry's kernels. Raises `KernelError` with all the faults at once.

    `known` are the kernels that an archive at a URL is taken to have; the server is not asked then.
    """
    finder = _Finder(frozenset(archs), archive, known)
    sources: dict[Kernel, KernelSource] = {}
    faults: list[str] = []
    for entry in entries:
        try:
            for source in finder.find(entry):
                _add(sources, source)
        except KernelError as error:
            # an archive that cannot be read fails every pattern in the same way: say it once
            if str(error) not in faults:
                faults.append(str(error))
    if faults:
        raise KernelError("\n".join(faults))
    if not sources:
        raise KernelError("\n".join([*finder.warnings, _EMPTY]))
    return Matrix(tuple(sources[kernel] for kernel in identity.in_order(sources)), tuple(finder.warnings))


_WILDCARD = re.compile(r"[*?[]")

_COMPARED = 256
"""Names that a mistyped one is compared with."""
_EMPTY = (
    "the kernel matrix is empty: let kernels name at least one kernel, "
    'by a pattern over btf-archive, by a file, or as "host"'
)


class _Finder:
    """Finds one entry's kernels, and reads the archive's list once for all entries."""

    def __init__(self, archs: frozenset[str], archive: Archive | None, known: Iterable[Kernel] | None) -> None:
        self._archs = archs
        self._archive = archive
        self._known = known
        self.warnings: list[str] = []

    def find(self, entry: Entry) -> list[KernelSource]:
        match entry:
            case Pattern():
                return [_archived(found) for found in self._match(entry)]
            case Newest():
                return [_archived(found) for found in _newest(self._match(entry.of), entry.count)]
            case BtfFile():
                return [self._file(entry)]
            case Host():
                return self._host()

    def _match(self, pattern: Pattern) -> list[ArchivedKernel]:
        parts = _split(pattern)
        archive = self._archive
        if archive and not isinstance(archive, Path) and self._known is None and not _WILDCARD.search(pattern.text):
            found = [archive.entry(Kernel.parse("/".join(parts)))]
        else:
            found = [entry for entry in self._listing if _matches(entry.kernel, parts)]
        chosen = [entry for entry in found if entry.kernel.arch in self._archs]
        if chosen:
            return chosen
        if found:
            there = ", ".join(sorted({entry.kernel.arch for entry in found}))
            raise KernelError(
                f'"{pattern}" matches only kernels of {there}, and archs is {self._archs_text}: '
                f"add the architecture to archs, or take the pattern out of kernels"
            )
        raise KernelError(f'"{pattern}" matches no kernel in {self._archive}: {_nearest(self._listing, parts)}')

    @cached_property
    def _listing(self) -> tuple[ArchivedKernel, ...]:
        if self._archive is None:
            raise KernelError(
                "kernels has patterns, but there is no archive to look in: let btf-archive (or the environment's "
                f"BTFHUB_ARCHIVE) name a folder or URL that holds {PATTERN_FORM}.btf.tar.xz"
            )
        if isinstance(self._archive, Path):
            listing = list_kernels(self._archive)
        elif self._known is None:
            listing = self._archive.list_kernels(self.warnings.append)
        else:
            return tuple(map(self._archive.entry, identity.in_order(self._known)))
        if not listing:
            raise KernelError(
                f"this BTF archive has no kernels: it should hold {PATTERN_FORM}.btf.tar.xz", source=str(self._archive)
            )
        return listing

    def _file(self, entry: BtfFile) -> KernelSource:
        try:
            kernel = Kernel(entry.distro, entry.version, entry.arch, entry.release)
        except KernelError as error:
            raise KernelError(f'"{entry}": {error}') from error
        if kernel.arch not in self._archs:
            raise KernelError(
                f'"{entry}" is a kernel of {kernel.arch}, and archs is {self._archs_text}: '
                f"add the architecture to archs, or take the file out of kernels",
                kernel=kernel,
            )
        if not entry.path.is_file():
            raise KernelError(f'"{entry}" is not a file: let btf name a BTF, vmlinux, vmlinuz or kernel package')
        return KernelSource(kernel, entry.path)

    def _host(self) -> list[KernelSource]:
        kernel = identity.host()
        if kernel.arch not in self._archs:
            self.warnings.append(
                f"{kernel}, the running kernel, is left out: it is {kernel.arch}, and archs is {self._archs_text}"
            )
            return []
        if not HOST_BTF.exists():
            self.warnings.append(f"{kernel}, the running kernel, is left out: it has no BTF at {HOST_BTF}")
            return []
        return [KernelSource(kernel, HOST_BTF)]

    @property
    def _archs_text(self) -> str:
        return ", ".join(sorted(self._archs))


def _split(pattern: Pattern) -> tuple[str, ...]:
    # fnmatch takes `[^1]` for "^ or 1", where bash means all but 1
    parts = pattern.text.replace("[^", "[!").split("/")
    if len(parts) < 4 and all(parts):
        full = "/".join([*parts, "*", "*", "*"][:4])
        raise KernelError(f'"{pattern}" has too few parts: a pattern is {PATTERN_FORM}, so write "{full}"')
    if len(parts) != 4 or not all(parts):
        raise KernelError(f'"{pattern}" is not a pattern: write the four parts {PATTERN_FORM}, "*" for any')
    # an archive may spell an architecture in any way, and so may a pattern
    arch = arches.by_machine(parts[2])
    return (parts[0], parts[1], arch.name if arch else parts[2], parts[3])


def matching(sources: Iterable[KernelSource], patterns: Iterable[str]) -> tuple[KernelSource, ...]:
    """The sources whose kernel matches one of the patterns. Raises `KernelError`."""
    wanted = [_split(Pattern(text)) for text in patterns]
    return tuple(source for source in sources if any(_matches(source.kernel, parts) for parts in wanted))


def find_archived(archive: Archive, kernel: Kernel) -> KernelSource | None:
    """One kernel of an archive; None if a folder lacks it. At a URL, reading it shows that. Raises `KernelError`."""
    if not isinstance(archive, Path):
        return _archived(archive.entry(kernel))
    return next((_archived(entry) for entry in list_kernels(archive) if entry.kernel == kernel), None)


def _archived(entry: ArchivedKernel) -> KernelSource:
    return KernelSource(entry.kernel, entry.path, entry.url, read_archived)


def _parts(kernel: Kernel) -> list[str]:
    return str(kernel).split("/")


def _matches(kernel: Kernel, parts: Sequence[str]) -> bool:
    return all(fnmatchcase(have, want) for have, want in zip(_parts(kernel), parts, strict=True))


def _nearest(listing: Sequence[ArchivedKernel], parts: Sequence[str]) -> str:
    """The first part of the pattern that matches nothing, and the names that are most like it."""
    left = [_parts(entry.kernel) for entry in listing]
    for place, want in enumerate(parts):
        matching = [names for names in left if fnmatchcase(names[place], want)]
        if not matching:
            there = sorted({names[place] for names in left}, key=identity.natural)
            # comparing takes long, and an archive may have thousands of names
            alike = heapq.nlargest(_COMPARED, there, key=lambda name: len(commonprefix([name, want])))  # noqa: RUF071
            near = difflib.get_close_matches(want, alike, n=4, cutoff=0.0)
            what = PATTERN_FORM.split("/")[place]
            where = f" in {'/'.join(parts[:place])}" if place else ""
            return f'no {what}{where} is "{want}"; the nearest of {len(there)} are {", ".join(near)}'
        left = matching
    raise AssertionError("the pattern matches something")


def _newest(found: Sequence[ArchivedKernel], count: int) -> list[ArchivedKernel]:
    kernels = identity.in_order({entry.kernel for entry in found})
    groups = groupby(kernels, attrgetter("distro", "version", "arch"))
    chosen = {kernel for _, group in groups for kernel in [*group][-count:]}
    # a kernel may have two files, and is chosen with both
    return [entry for entry in found if entry.kernel in chosen]


def _add(sources: dict[Kernel, KernelSource], source: KernelSource) -> None:
    known = sources.setdefault(source.kernel, source)
    if known.path == source.path or known.path.resolve() == source.path.resolve():
        return
    if known.read() != source.read():
        raise KernelError(
            f"{source.kernel} is there twice, with different BTF: in {known.origin} and in {source.origin}; keep one",
            kernel=source.kernel,
        )
