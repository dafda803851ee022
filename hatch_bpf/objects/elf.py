"""ELF file -> its sections, symbols and relocations, as far as the file really holds them.

Input: the bytes of an object. Output: pyelftools' sections, and symbols and relocations as plain tuples; or `ELFError`,
or `ObjectError` for more of anything than real objects have. pyelftools believes what a file claims: that a few bytes
unpack to gigabytes, or that thousands of symbols have one very long name. It also needs a second for the tables of a
large object, which `struct` reads at once.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Literal, NamedTuple

from elftools.common.exceptions import ELFError
from elftools.elf.constants import SHN_INDICES
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import Section

from hatch_bpf.errors import ObjectError
from hatch_bpf.support.budget import SECTIONS, Budget

SYMBOL_ROW = "IBBHQQ"
"""`Elf64_Sym`, as struct writes it."""
RELOCATION_ROWS = {"SHT_REL": "QQ", "SHT_RELA": "QQq"}
"""`Elf64_Rel` and `Elf64_Rela`, by the type of their table."""
STT_NOTYPE, STT_OBJECT, STT_FUNC = 0, 1, 2
STB_LOCAL, STB_GLOBAL, STB_WEAK = 0, 1, 2
STV_DEFAULT = 0
STV_INTERNAL = 1
STV_HIDDEN = 2


def whole_rows(layout: str, table: bytes) -> Iterator[tuple[int, ...]]:
    """The rows of a table, without a part of one at its end."""
    size = struct.calcsize(layout)
    return struct.iter_unpack(layout, table[: len(table) // size * size])


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
    """Index of its section; 0 if it is undefined, None if its value is not an offset in a section."""
    value: int
    size: int


class ElfObject:
    """A 64-bit ELF file."""

    def __init__(self, data: bytes, path: str) -> None:
        self.path = path
        self._budget = Budget(path, len(data), error=ObjectError)
        self._data = data
        self._elf = ELFFile(io.BytesIO(data))
        self.machine: str | int = self._elf.header["e_machine"]
        self.bits: int = self._elf.elfclass
        self.endian: Literal["little", "big"] = "little" if self._elf.little_endian else "big"
        self.order = "<" if self._elf.little_endian else ">"
        """The same as struct writes it."""
        self._symbols: dict[int, Sequence[Symbol]] = {}
        """By the place of their table."""

    @cached_property
    def sections(self) -> Sequence[Section]:
        SECTIONS.check(self._elf.num_sections(), source=self.path, error=ObjectError)
        self._check_names()
        sections = list(self._elf.iter_sections())
        # sections that overlap, or go beyond the file, could take any time and memory
        in_file = (section for section in sections if section["sh_type"] not in ("SHT_NOBITS", "SHT_NULL"))
        total = sum(section["sh_size"] for section in in_file)
        if total > len(self._data):
            raise ELFError(f"its sections claim to have {total} bytes, and the file has {len(self._data)}")
        return sections

    def _check_names(self) -> None:
        """Charge for the sections' names before pyelftools reads them."""
        header = self._elf.header

        def of_header(index: int, at: int, form: str) -> int:
            (value,) = struct.unpack_from(
                self.order + form, self._data, header["e_shoff"] + index * header["e_shentsize"] + at
            )
            return int(value)

        try:
            strings = of_header(header["e_shstrndx"], 24, "Q")
            for index in range(self._elf.num_sections()):
                name = strings + of_header(index, 0, "I")
                self._budget.unpack(max(self._data.find(b"\0", name) - name, 0))
        except struct.error as error:
            raise ELFError("its section headers are beyond the end of the file") from error

    @staticmethod
    def contents(section: Section) -> bytes:
        """The bytes of a section. Compilers neither compress the sections that are read here nor leave them out."""
        if section.compressed:
            raise ELFError(f"section {section.name} is compressed")
        if section["sh_type"] == "SHT_NOBITS":
            raise ELFError(f"section {section.name} is not in the file")
        return section.data()

    def section(self, index: int, *, user: str = "relocations refer to") -> Section:
        """The section with an index; `user` is the subject of the message if there is none."""
        if index >= len(self.sections):
            raise ObjectError(f"{self.path}: {user} section {index}, which isn't there")
        return self.sections[index]

    @cached_property
    def symbols(self) -> Sequence[Symbol]:
        """All symbols, of all symbol tables: an object has one."""
        tables = (section for section in self.sections if section["sh_type"] == "SHT_SYMTAB")
        return [symbol for table in tables for symbol in self.symbols_of(table)]

    def symbols_of(self, table: Section) -> Sequence[Symbol]:
        """The symbols of one table, by their index in it."""
        if table["sh_type"] != "SHT_SYMTAB":
            raise ObjectError(f"{self.path}: relocations use section {table.name} as a symbol table, and it is none")
        if table["sh_offset"] not in self._symbols:
            self._symbols[table["sh_offset"]] = list(self._read_symbols(table))
        return self._symbols[table["sh_offset"]]

    def _read_symbols(self, table: Section) -> Iterator[Symbol]:
        strings = self.contents(self.section(table["sh_link"], user="the names of symbols are in"))
        names: dict[int, str] = {}
        for name, info, other, index, value, size in whole_rows(self.order + SYMBOL_ROW, self.contents(table)):
            self._budget.work()
            if name not in names:
                end = strings.find(b"\0", name)
                if end < 0:
                    raise ELFError(f"the name of a symbol is beyond section {table.name}'s strings")
                self._budget.unpack(end - name)
                names[name] = strings[name:end].decode("utf-8", "replace")
            section = index if index < SHN_INDICES.SHN_LORESERVE else None
            yield Symbol(names[name], info & 0xF, info >> 4, other & 3, section, value, size)

    def relocations(self, table: Section) -> Iterator[tuple[int, Symbol]]:
        """The offset of each relocation of a table, and its symbol."""
        symbols = self.symbols_of(self.section(table["sh_link"]))
        for offset, info, *_ in whole_rows(self.order + RELOCATION_ROWS[table["sh_type"]], self.contents(table)):
            self._budget.work()
            if info >> 32 >= len(symbols):
                raise ELFError(f"a relocation of {table.name} names symbol {info >> 32} of {len(symbols)}")
            yield offset, symbols[info >> 32]

    def relocation_tables(self) -> Iterator[tuple[Section, Section]]:
        """Tables of relocations, each with the section that they are for."""
        for table in self.sections:
            if table["sh_type"] in RELOCATION_ROWS:
                yield table, self.section(table["sh_info"])
