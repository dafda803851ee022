"""ELF file -> its sections, symbols and relocations, as far as the file really holds them.

Input: the bytes of an object. Output: sections, symbols and relocations as plain tuples; or `ElfError`, or
`ObjectError` for more of anything than real objects have. The layout is that of elf(5). No library reads it: to import
one takes longer than to read an object, and it believes what a file claims, such as that thousands of symbols have one
very long name.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Literal, NamedTuple

from hatch_bpf.errors import ObjectError
from hatch_bpf.support.budget import SECTIONS, Budget

MAGIC = b"\x7fELF"
HEADER = "16sHHIQQQIHHHHHH"
"""`Elf64_Ehdr`."""
SECTION_HEADER = "IIQQQQIIQQ"
"""`Elf64_Shdr`."""
SYMBOL = "IBBHQQ"
"""`Elf64_Sym`."""
SHT_NULL, SHT_SYMTAB, SHT_STRTAB, SHT_RELA, SHT_NOBITS, SHT_REL = 0, 2, 3, 4, 8, 9
SHF_EXECINSTR = 0x4
SHN_LORESERVE, SHN_XINDEX = 0xFF00, 0xFFFF
STT_NOTYPE, STT_OBJECT, STT_FUNC = 0, 1, 2
STB_LOCAL, STB_GLOBAL, STB_WEAK = 0, 1, 2
STV_DEFAULT, STV_INTERNAL, STV_HIDDEN = 0, 1, 2
_SHF_COMPRESSED = 0x800
_RELOCATION_SIZES = {SHT_REL: 16, SHT_RELA: 24}


class ElfError(Exception):
    """Says what is wrong with an ELF file; `ObjectError` tells the user."""


class Section(NamedTuple):
    """One section, with the numbers of its header (`Elf64_Shdr`)."""

    name: str
    name_at: int
    """Where the name is in the section of names."""
    type: int
    """`SHT_*`."""
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int
    entry_size: int

    @property
    def is_in_file(self) -> bool:
        return self.type not in (SHT_NULL, SHT_NOBITS)


class Symbol(NamedTuple):
    """One entry of a symbol table (`Elf64_Sym`)."""

    name: str
    type: int
    """`STT_*`."""
    bind: int
    """`STB_*`."""
    visibility: int
    """`STV_*`."""
    section: int | None
    """Index of the section that it is in; 0 if it is undefined, None if its value is none of a section's."""
    value: int
    size: int


class ElfObject:
    """A 64-bit ELF file; of any other only `machine` and `bits` are known. Raises `ElfError`."""

    def __init__(self, data: bytes, path: str) -> None:
        self.path = path
        self._budget = Budget(path, len(data), error=ObjectError)
        self._data = data
        if not data.startswith(MAGIC) or len(data) < 20:
            raise ElfError("it does not begin as one")
        if data[4] not in (1, 2) or data[5] not in (1, 2):
            raise ElfError(f"its class is {data[4]} and its byte order {data[5]}, and there are only 1 and 2")
        self.bits = 32 * data[4]
        self.little_endian = data[5] == 1
        self.order = "<" if self.little_endian else ">"
        """As `struct` writes it."""
        self.machine = int.from_bytes(data[18:20], self.endian)
        """`EM_*`."""
        self._symbols: dict[int, Sequence[Symbol]] = {}
        """By the place of their table."""

    @property
    def endian(self) -> Literal["little", "big"]:
        return "little" if self.little_endian else "big"

    @cached_property
    def sections(self) -> Sequence[Section]:
        headers, names_index = self._section_headers()
        if not headers:
            return []
        if names_index >= len(headers):
            raise ElfError(f"the names of its sections are in section {names_index} of {len(headers)}")
        strings = headers[names_index][4]
        sections = [Section(self._name(strings + header[0]), *header) for header in headers]
        if sections[0].type != SHT_NULL:
            raise ElfError("its first section is not the empty one that every file has")
        # sections that overlap, or go beyond the file, could take any time and memory
        total = sum(section.size for section in sections if section.is_in_file)
        if total > len(self._data):
            raise ElfError(f"its sections claim to have {total} bytes, and the file has {len(self._data)}")
        return sections

    def _section_headers(self) -> tuple[list[tuple[int, ...]], int]:
        """The headers as they are in the file, and the index of the section that has the names."""
        if self.bits != 64:
            raise ElfError(f"it is a {self.bits}-bit file")
        header = struct.Struct(self.order + SECTION_HEADER)
        try:
            *_, start, _, _, _, _, size, count, names_index = struct.unpack_from(self.order + HEADER, self._data)
            if not start:
                return [], 0
            # the first section has the numbers that are too large for the file's header
            first = header.unpack_from(self._data, start)
            count = count or first[5]
            names_index = first[6] if names_index == SHN_XINDEX else names_index
            SECTIONS.check(count, source=self.path, error=ObjectError)
            if size != header.size:
                raise ElfError(f"its section headers have {size} bytes, not {header.size}")
            found = [header.unpack_from(self._data, start + size * index) for index in range(count)]
        except (struct.error, OverflowError) as error:  # the latter for byte 2**63 and beyond
            raise ElfError("its headers are beyond the end of the file") from error
        return found, names_index

    def _name(self, at: int) -> str:
        end = self._data.find(b"\0", at) if at < len(self._data) else -1
        if end < 0:
            raise ElfError("the name of a section is beyond the end of the file")
        self._budget.unpack(end - at)
        return self._data[at:end].decode("utf-8", "replace")

    def contents(self, section: Section) -> bytes:
        """The bytes of a section. Compilers neither compress the sections that are read here nor leave them out."""
        if section.flags & _SHF_COMPRESSED:
            raise ElfError(f"section {section.name} is compressed")
        if not section.is_in_file:
            raise ElfError(f"section {section.name} is not in the file")
        if section.offset + section.size > len(self._data):
            raise ElfError(f"section {section.name} is beyond the end of the file")
        return self._data[section.offset : section.offset + section.size]

    def section(self, index: int, *, user: str = "relocations refer to") -> Section:
        """The section with an index; `user` is the subject of the message if there is none."""
        if index >= len(self.sections):
            raise ObjectError(f"{self.path}: {user} section {index}, which isn't there")
        return self.sections[index]

    @cached_property
    def symbols(self) -> Sequence[Symbol]:
        """All symbols, of all symbol tables: an object has one."""
        tables = (section for section in self.sections if section.type == SHT_SYMTAB)
        return [symbol for table in tables for symbol in self.symbols_of(table)]

    def symbols_of(self, table: Section) -> Sequence[Symbol]:
        """The symbols of one table, by their index in it."""
        if table.type != SHT_SYMTAB:
            raise ObjectError(f"{self.path}: relocations use section {table.name} as a symbol table, and it is none")
        if table.offset not in self._symbols:
            self._symbols[table.offset] = list(self._read_symbols(table))
        return self._symbols[table.offset]

    def _read_symbols(self, table: Section) -> Iterator[Symbol]:
        home = self.section(table.link, user="the names of symbols are in")
        if home.type != SHT_STRTAB:
            raise ElfError(f"the names of symbols are in section {home.name}, which holds no strings")
        strings = self.contents(home)
        rows = self.contents(table)
        names: dict[int, str] = {}
        symbol = struct.Struct(self.order + SYMBOL)
        whole = rows[: len(rows) // symbol.size * symbol.size]
        for name, info, other, index, value, size in symbol.iter_unpack(whole):
            self._budget.work()
            if name not in names:
                end = strings.find(b"\0", name)
                if end < 0:
                    raise ElfError(f"the name of a symbol is beyond section {table.name}'s strings")
                self._budget.unpack(end - name)
                names[name] = strings[name:end].decode("utf-8", "replace")
            section = index if index < SHN_LORESERVE else None
            yield Symbol(names[name], info & 0xF, info >> 4, other & 3, section, value, size)

    def relocations(self, table: Section) -> Iterator[tuple[int, Symbol]]:
        """The offset of each relocation of a table, and its symbol."""
        size = _RELOCATION_SIZES[table.type]
        symbols = self.symbols_of(self.section(table.link))
        rows = self.contents(table)
        for row in struct.iter_unpack(f"{self.order}{size // 8}Q", rows[: len(rows) // size * size]):
            self._budget.work()
            if row[1] >> 32 >= len(symbols):
                raise ElfError(f"a relocation of {table.name} names symbol {row[1] >> 32} of {len(symbols)}")
            yield row[0], symbols[row[1] >> 32]

    def relocation_tables(self) -> Iterator[tuple[Section, Section]]:
        """Tables of relocations, each with the section that they are for."""
        for table in self.sections:
            if table.type in _RELOCATION_SIZES:
                yield table, self.section(table.info)
