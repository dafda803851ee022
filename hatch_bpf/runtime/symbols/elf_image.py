"""An ELF file, as far as symbols need it. Input: its bytes. Output: sections, segments, build id, debug link, symbols.

The file may be forged, so its offsets and sizes count only as far as its bytes go.
"""

from __future__ import annotations

import mmap
import struct

from ..plain_data import PlainData

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Optional

MAGIC = b"\x7fELF"
IDENT = 16
"""Bytes of `e_ident`; what follows is wider in a 64-bit file."""
SHT_SYMTAB, SHT_NOTE, SHT_NOBITS, SHT_DYNSYM, SHT_GNU_VERSYM = 2, 7, 8, 11, 0x6FFFFFFF
PT_LOAD = 1
PF_X = 1
NT_GNU_BUILD_ID = 3
STT_FUNC, STT_GNU_IFUNC = 2, 10
STB_GLOBAL, STB_WEAK = 1, 2
EM_ARM = 40
NOTE = struct.Struct("=3I")
MOST_DEBUG_DATA = 1 << 24
"""Bytes that a `.gnu_debugdata` may unpack to; those of real programs have some hundred thousand."""
MOST_READ = 4
"""How many times its own size is read from a file: forged ones have many sections in one place, or endless names."""
SMALL = 1 << 16
"""Bytes that may be read from a file of any size."""


class _Layout(PlainData):
    """Where the fields are in files of 32 or 64 bits."""

    header: struct.Struct
    section: struct.Struct
    segment: struct.Struct
    symbol: struct.Struct


LAYOUTS = {
    1: _Layout(*map(struct.Struct, ("=2HI3I I6H", "=10I", "=8I", "=3I2BH"))),
    2: _Layout(*map(struct.Struct, ("=2HI3Q I6H", "=2I4Q2I2Q", "=2I6Q", "=I2BH2Q"))),
}
"""By the file's class, which is its fifth byte."""


class ElfSection(PlainData):
    """A section's header."""

    name: int
    """Where its name is in the section of names."""
    kind: int
    """`SHT_*`."""
    offset: int
    size: int
    link: int
    """For symbols, the number of the section with their names."""


class ElfImage:
    """An ELF file of this machine's byte order, of 32 or 64 bits."""

    def __init__(self, data: Any) -> None:
        """`data` is bytes-like and can be searched: bytes or an mmap. Raises `ValueError` if it is no such file."""
        self.data = data
        self._left = MOST_READ * len(data) + SMALL
        layout = LAYOUTS.get(data[4]) if data[:4] == MAGIC and len(data) > IDENT else None
        if layout is None:
            raise ValueError("not an ELF file")
        self.bits = 32 * data[4]
        self._layout = layout
        try:
            _, self.machine, _, _, phoff, shoff, _, _, phsize, phnum, shsize, shnum, names = layout.header.unpack_from(
                data, IDENT
            )
            self.sections = [self._section(shoff + i * shsize) for i in range(shnum)]
            self._segments = [self._segment(phoff + i * phsize) for i in range(phnum)]
        except (struct.error, OverflowError):
            raise ValueError("a damaged ELF file") from None
        self._names = self.sections[names] if names < len(self.sections) else None

    def _section(self, at: int) -> ElfSection:
        name, kind, _, _, offset, size, link, *_ = self._layout.section.unpack_from(self.data, at)
        length = len(self.data)
        return ElfSection(name, kind, min(offset, length), min(size, length), link)

    def _segment(self, at: int) -> tuple[int, int, int, int, int]:
        """Type, flags, offset, address and size in the file."""
        fields = self._layout.segment.unpack_from(self.data, at)
        if self.bits == 64:
            kind, flags, offset, address, _, size, *_ = fields
        else:
            kind, offset, address, _, size, _, flags, _ = fields
        return kind, flags, offset, address, size

    def contents(self, section: ElfSection) -> bytes:
        """The bytes of a section, as far as the file has them."""
        if section.kind == SHT_NOBITS:
            return b""
        return self._spend(self.data[section.offset : section.offset + section.size])

    def _spend(self, read: bytes) -> bytes:
        """Count what was read. Raises `ValueError` if it is more than any real file takes."""
        self._left -= len(read)
        if self._left < 0:
            raise ValueError("a damaged ELF file")
        return read

    def contents_of(self, kind: int) -> bytes:
        """The bytes of the first section of this type."""
        return next((self.contents(section) for section in self.sections if section.kind == kind), b"")

    def string(self, strings: ElfSection, at: int) -> bytes:
        """A name out of a section of names."""
        first = strings.offset + at
        return self._spend(self.data[first : self.data.find(b"\0", first)])

    def find(self, name: bytes) -> Optional[ElfSection]:
        """The section of this name."""
        if self._names is not None:
            wanted = name + b"\0"
            for section in self.sections:
                at = self._names.offset + section.name
                if self.data[at : at + len(wanted)] == wanted:
                    return section
        return None

    def notes(self) -> Iterator[tuple[bytes, int, bytes]]:
        """Every note: the owner's name, the type, the contents."""
        for section in self.sections:
            if section.kind == SHT_NOTE:
                data, at = self.contents(section), 0
                while at + NOTE.size <= len(data):
                    name_size, size, kind = NOTE.unpack_from(data, at)
                    first = at + NOTE.size + (name_size + 3 & ~3)
                    name = data[at + NOTE.size : at + NOTE.size + name_size]
                    yield name.rstrip(b"\0"), kind, data[first : first + size]
                    at = first + (size + 3 & ~3)

    @property
    def build_id(self) -> bytes:
        """The build id, or nothing."""
        return next((data for name, kind, data in self.notes() if name == b"GNU" and kind == NT_GNU_BUILD_ID), b"")

    @property
    def debug_link(self) -> Optional[tuple[str, int]]:
        """Name and CRC32 of the file with the debug information, as `.gnu_debuglink` says."""
        section = self.find(b".gnu_debuglink")
        data = self.contents(section) if section is not None else b""
        name, end, _ = data.partition(b"\0")
        if not end or len(data) < 8 or b"/" in name:
            return None
        return name.decode("utf-8", "surrogateescape"), struct.unpack_from("=I", data, len(data) - 4)[0]

    def debug_data(self) -> Optional[ElfImage]:
        """The small ELF file in `.gnu_debugdata`, which has the symbols that were stripped (Fedora)."""
        section = self.find(b".gnu_debugdata")
        if section is None:
            return None
        import lzma

        try:
            return ElfImage(lzma.LZMADecompressor().decompress(self.contents(section), MOST_DEBUG_DATA))
        except (lzma.LZMAError, ValueError, EOFError):
            return None

    def has(self, kind: int) -> bool:
        """Whether it has a section of this type, with contents."""
        return any(section.kind == kind and section.size for section in self.sections)

    def bias(self, offset: int) -> Optional[int]:
        """What to add to an offset of the file near this one for the address that the file's symbols have there.

        The kernel maps a segment from the page on in which it begins.
        """
        for kind, flags, start, address, size in self._segments:
            if kind == PT_LOAD and flags & PF_X and start & -mmap.PAGESIZE <= offset < start + size:
                return address - start
        return None

    def offset_of(self, address: int) -> Optional[int]:
        """Where in the file an address is."""
        for kind, _, start, first, size in self._segments:
            if kind == PT_LOAD and first <= address < first + size:
                return address - first + start
        return None

    def symbols(self, kind: int) -> Iterator[tuple[int, int, int, int, int, ElfSection]]:
        """What the tables of this type hold: name, info, section, value and size, and the section of the names."""
        size = self._layout.symbol.size
        for section in self.sections:
            if section.kind == kind and section.link < len(self.sections):
                strings = self.sections[section.link]
                data = self.contents(section)
                entries = self._layout.symbol.iter_unpack(data[: len(data) // size * size])
                if self.bits == 64:
                    for name, info, _, home, value, length in entries:
                        yield name, info, home, value, length, strings
                else:
                    for name, value, length, info, _, home in entries:
                        yield name, info, home, value, length, strings
