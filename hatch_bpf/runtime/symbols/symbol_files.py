"""Functions of programs and libraries, from the files themselves and from separate debug files. Input: open files.

Output: a `SymbolFile` for each, which is kept by the file's identity and by its build id.
"""

from __future__ import annotations

import mmap
import os
import zlib
from contextlib import ExitStack, contextmanager

from .elf_image import (
    EM_ARM,
    SHT_DYNSYM,
    SHT_SYMTAB,
    STB_GLOBAL,
    STB_WEAK,
    STT_FUNC,
    STT_GNU_IFUNC,
    ElfImage,
)
from .function_table import FunctionTable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Optional

    Candidate = tuple[int, int, bytes]
    """How good a name is, the function's size, the name."""

DEBUG = "/usr/lib/debug"
UNSIZED = 4096
"""The most bytes that a function without a size covers, if no other begins before."""
BINDINGS = {STB_GLOBAL: 0, STB_WEAK: 1}
"""Which of several names of one function is taken: a global one, a weak one, any other."""


class SymbolFile:
    """The functions of a file, by the addresses that its symbols have."""

    def __init__(self, image: ElfImage, path: str, root: str = "") -> None:
        """Debug files are looked for by the file's `path`, below the folder `root` first."""
        self.build_id = image.build_id
        self._image = image
        found: dict[int, Candidate] = {}
        with stripped(image, path, root) as others:
            for each in (image, *others):
                _collect(each, found)
        self.functions = FunctionTable(_with_ends(found))
        self._biases: dict[int, Optional[int]] = {}
        image.data = b""  # from here on only its segments are asked for

    def bias(self, offset: int) -> Optional[int]:
        """What to add to an offset of the file for the address of its symbols; None outside of its code."""
        if offset not in self._biases:
            self._biases[offset] = self._image.bias(offset)
        return self._biases[offset]


@contextmanager
def opened_image(path: str) -> Iterator[ElfImage]:
    """An ELF file, for a `with` block. Raises `OSError`, or `ValueError` with the path if it is none."""
    with open(path, "rb") as file:
        if not os.fstat(file.fileno()).st_size:
            raise ValueError(f"{path} is not an ELF file")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                image = ElfImage(data)
            except ValueError as error:
                raise ValueError(f"{path} is {error}") from None
            yield image


@contextmanager
def stripped(image: ElfImage, path: str, root: str) -> Iterator[list[ElfImage]]:
    """What has the symbols that were stripped from a file, for a `with` block: its debug file, and `.gnu_debugdata`.

    `path` is the file's below the folder `root`.
    """
    if image.has(SHT_SYMTAB):
        yield []
        return
    with _debug_file(image, path, root) as separate:
        yield [other for other in (separate, image.debug_data()) if other is not None]


@contextmanager
def _debug_file(image: ElfImage, path: str, root: str) -> Iterator[Optional[ElfImage]]:
    """The separate file with the symbols of one that was stripped; None if there is none.

    As gdb does, it looks in the folders of build ids, and for the name in `.gnu_debuglink`.
    """
    with ExitStack() as stack:
        for candidate, checksum in _debug_paths(image, path, root):
            try:
                found = stack.enter_context(opened_image(candidate))
            except (OSError, ValueError):
                continue
            theirs = found.build_id
            if theirs == image.build_id if theirs and image.build_id else zlib.crc32(found.data) == checksum:
                yield found
                return
        yield None


def _debug_paths(image: ElfImage, path: str, root: str) -> Iterator[tuple[str, Optional[int]]]:
    """Where a debug file may be, and the checksum that it must have if it has no build id."""
    roots = dict.fromkeys((root, ""))
    build_id = image.build_id.hex()
    if build_id:
        for top in roots:
            yield f"{top}{DEBUG}/.build-id/{build_id[:2]}/{build_id[2:]}.debug", None
    link = image.debug_link
    if link is not None:
        name, checksum = link
        folder = os.path.dirname(path)
        for top in roots:
            for place in (folder, f"{folder}/.debug", f"{DEBUG}{folder}"):
                yield f"{top}{place}/{name}", checksum


def _collect(image: ElfImage, found: dict[int, Candidate]) -> None:
    """Add the functions of an image's symbol tables, by their addresses, each with its best name."""
    mask = ~1 if image.machine == EM_ARM else ~0  # the lowest bit there says that it is Thumb code
    for table in (SHT_SYMTAB, SHT_DYNSYM):
        for name_at, info, home, value, size, section in image.symbols(table):
            if info & 0xF not in (STT_FUNC, STT_GNU_IFUNC) or not home or not value:
                continue
            name = image.string(section, name_at)
            start = value & mask
            candidate = (4 * (not size) + BINDINGS.get(info >> 4, 2), size, name)
            known = found.get(start)
            if name and (known is None or _rank(candidate) < _rank(known)):
                found[start] = candidate


def _rank(candidate: Candidate) -> tuple[int, int, int, bytes]:
    """Its place among the names of one function: the fewer underscores it begins with, the better."""
    rank, _, name = candidate
    return rank, len(name) - len(name.lstrip(b"_")), len(name), name


def _with_ends(found: dict[int, Candidate]) -> Iterator[tuple[int, int, bytes]]:
    starts = sorted(found)
    following = [*starts[1:], starts[-1] + UNSIZED] if starts else []
    for start, end in zip(starts, following):
        _, size, name = found[start]
        yield start, start + size if size else min(end, start + UNSIZED), name


class SymbolFiles:
    """Files that were read already, shared by all processes that map them."""

    def __init__(self) -> None:
        self._by_identity: dict[tuple[int, int, int, int], Optional[SymbolFile]] = {}
        self._by_build_id: dict[bytes, SymbolFile] = {}

    def read(self, opened_path: str, path: str, root: str) -> Optional[SymbolFile]:
        """The symbols of a file that can be opened at `opened_path`, and is at `path` below `root` for its process.

        None if it is no ELF file, or a damaged one. Raises `OSError` if it can't be opened.
        """
        status = os.stat(opened_path)
        identity = status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size
        if identity not in self._by_identity:
            try:
                with opened_image(opened_path) as image:
                    known = self._by_build_id.get(image.build_id) if image.build_id else None
                    self._by_identity[identity] = known or SymbolFile(image, path, root)
            except ValueError:
                self._by_identity[identity] = None
        file = self._by_identity[identity]
        if file is not None and file.build_id:
            self._by_build_id[file.build_id] = file
        return file
