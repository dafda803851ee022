"""The kernels a project declares -> the kernels it is built for, each with where its BTF is.

Input: the entries of `kernels`, the architectures built for, and the archive. Output: a `Matrix`, sorted; or one
`KernelError` with every fault of every entry. No BTF is read here unless two files claim to be the same kernel.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

from hatch_bpf import arch as arches
from hatch_bpf.errors import KernelError
from hatch_bpf.kernels import identity
from hatch_bpf.kernels.archive import ArchivedKernel, list_kernels, read_archived
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.kernels.sources import HOST_BTF, read_btf

PATTERN_FORM = "distro/version/arch/release"


@dataclass(frozen=True)
class Pattern:
    """Kernels of the archive whose four parts match, each by the shell's rules (`*`, `?`, `[...]`)."""

    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Newest:
    """Of the kernels that a pattern matches, the newest `count` of each distro, version and arch."""

    count: int
    of: Pattern

    def __str__(self) -> str:
        return f"newest {self.count} of {self.of}"


@dataclass(frozen=True)
class BtfFile:
    """One kernel whose BTF is in a file of any form that `sources.read_btf` knows."""

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
        return "host"


Entry = Pattern | Newest | BtfFile | Host


@dataclass(frozen=True)
class KernelSource:
    """A kernel of the matrix and where its BTF is. Can be sent to another process."""

    kernel: Kernel
    path: Path
    reader: Callable[[Path], bytes]

    @property
    def origin(self) -> str:
        """Where the BTF is, for messages."""
        return str(self.path)

    def read(self) -> bytes:
        """The kernel's BTF. Raises `KernelError`."""
        return self.reader(self.path)


@dataclass(frozen=True)
class Matrix:
    """The kernels a project is built for."""

    sources: tuple[KernelSource, ...]
    """Sorted by kernel; each kernel once."""
    warnings: tuple[str, ...]
    """What was left out, in sentences for the user."""


def resolve(entries: Sequence[Entry], *, archs: Iterable[str], archive: Path | None) -> Matrix:
    """Find every entry's kernels. Raises `KernelError` that tells all the faults at once."""
    resolver = _Resolver(frozenset(archs), archive)
    sources: dict[Kernel, KernelSource] = {}
    faults: list[str] = []
    for entry in entries:
        try:
            for source in resolver.find(entry):
                _add(sources, source)
        except KernelError as error:
            # an archive that cannot be read fails every pattern alike: say it once
            if str(error) not in faults:
                faults.append(str(error))
    if faults:
        raise KernelError("\n".join(faults))
    if not sources:
        raise KernelError("\n".join([*resolver.warnings, _EMPTY]))
    return Matrix(tuple(sources[kernel] for kernel in sorted(sources)), tuple(resolver.warnings))


_EMPTY = (
    "the kernel matrix is empty: let kernels name at least one kernel, "
    'by a pattern over btf-archive, by a file, or as "host"'
)


class _Resolver:
    """Finds one entry's kernels; keeps the archive's listing between entries."""

    def __init__(self, archs: frozenset[str], archive: Path | None) -> None:
        self._archs = archs
        self._archive = archive
        self.warnings: list[str] = []

    def find(self, entry: Entry) -> list[KernelSource]:
        match entry:
            case Pattern():
                return [KernelSource(found.kernel, found.path, read_archived) for found in self._match(entry)]
            case Newest():
                newest = _newest(self._match(entry.of), entry.count)
                return [KernelSource(found.kernel, found.path, read_archived) for found in newest]
            case BtfFile():
                return [self._file(entry)]
            case Host():
                return self._host()

    def _match(self, pattern: Pattern) -> list[ArchivedKernel]:
        parts = _split(pattern)
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
                f"BTFHUB_ARCHIVE) name a folder that holds {PATTERN_FORM}.btf.tar.xz"
            )
        listing = list_kernels(self._archive)
        if not listing:
            raise KernelError(
                f"the BTF archive at {self._archive} has no kernels: it should hold {PATTERN_FORM}.btf.tar.xz"
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
                f"add the architecture to archs, or take the file out of kernels"
            )
        if not entry.path.is_file():
            raise KernelError(f'"{entry}" is not a file: let btf name a BTF, vmlinux, vmlinuz or kernel package')
        return KernelSource(kernel, entry.path, read_btf)

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
        return [KernelSource(kernel, HOST_BTF, read_btf)]

    @property
    def _archs_text(self) -> str:
        return ", ".join(sorted(self._archs))


def _split(pattern: Pattern) -> tuple[str, ...]:
    parts = pattern.text.split("/")
    if len(parts) < 4 and all(parts):
        full = "/".join([*parts, "*", "*", "*"][:4])
        raise KernelError(f'"{pattern}" has too few parts: a pattern is {PATTERN_FORM}, so write "{full}"')
    if len(parts) != 4 or not all(parts):
        raise KernelError(f'"{pattern}" is not a pattern: write the four parts {PATTERN_FORM}, "*" for any')
    # archives are read with every spelling of an architecture, so patterns are too
    arch = arches.by_machine(parts[2])
    return (parts[0], parts[1], arch.name if arch else parts[2], parts[3])


def _parts(kernel: Kernel) -> list[str]:
    return str(kernel).split("/")


def _matches(kernel: Kernel, parts: Sequence[str]) -> bool:
    return all(fnmatchcase(have, want) for have, want in zip(_parts(kernel), parts, strict=True))


def _nearest(listing: Sequence[ArchivedKernel], parts: Sequence[str]) -> str:
    """The first part of the pattern that nothing has, and the names most like it that are there."""
    left = [_parts(entry.kernel) for entry in listing]
    for place, want in enumerate(parts):
        matching = [names for names in left if fnmatchcase(names[place], want)]
        if not matching:
            there = sorted({names[place] for names in left}, key=identity.natural)
            near = difflib.get_close_matches(want, there, n=4, cutoff=0.0)
            what = PATTERN_FORM.split("/")[place]
            where = f" in {'/'.join(parts[:place])}" if place else ""
            return f'no {what}{where} is "{want}"; the nearest of {len(there)} are {", ".join(near)}'
        left = matching
    raise AssertionError("the pattern matches something")


def _newest(found: Sequence[ArchivedKernel], count: int) -> list[ArchivedKernel]:
    groups: dict[tuple[str, str, str], list[ArchivedKernel]] = {}
    for entry in sorted(found):
        kernel = entry.kernel
        groups.setdefault((kernel.distro, kernel.version, kernel.arch), []).append(entry)
    return [entry for group in groups.values() for entry in group[-count:]]


def _add(sources: dict[Kernel, KernelSource], source: KernelSource) -> None:
    known = sources.setdefault(source.kernel, source)
    if known.path == source.path or known.path.resolve() == source.path.resolve():
        return
    if known.read() != source.read():
        raise KernelError(
            f"{source.kernel} is there twice, with different BTF: in {known.origin} and in {source.origin}; keep one"
        )
