"""Object with DWARF -> the same object without it: `llvm-strip -g` for the one kind of ELF that compilers make for BPF.

Input: a relocatable 64-bit ELF. Output: the same without .debug_* sections, their relocations and their symbols;
nothing else changes. GNU strip refuses BPF objects, and most distributions package llvm-strip separately.
"""

from __future__ import annotations

import io
import struct

from elftools.common.exceptions import ELFError
from elftools.elf.constants import SHN_INDICES
from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import Section, SymbolTableSection

from hatch_bpf.errors import ObjectError
from hatch_bpf.objects.elf import RELOCATION_ROWS, STB_LOCAL, SYMBOL_ROW, whole_rows

_HEADER = "16sHHIQQQIHHHHHH"
_SECTION_HEADER = "IIQQQQIIQQ"
_DEBUG = (".debug", ".rel.debug", ".rela.debug")
"""How the names of the sections that go begin."""
_MOST_ALIGNED = 4096
"""Largest alignment of a section, in bytes; compilers ask for 8 or 16."""


def strip_debug(data: bytes, *, path: str) -> bytes:
    """Strip an object. `path` names it in errors. Raises `ObjectError`."""
    try:
        elf = ELFFile(io.BytesIO(data))
        return _strip(elf, data)
    except (ELFError, struct.error, LookupError, OverflowError) as error:
        raise ObjectError(f"{path}: not an ELF object: {error}") from error


def _strip(elf: ELFFile, data: bytes) -> bytes:
    order = "<" if elf.little_endian else ">"
    sections = list(elf.iter_sections())
    kept = [index for index, section in enumerate(sections) if not section.name.startswith(_DEBUG)]
    new_index = {old: new for new, old in enumerate(kept)}
    contents = {index: _contents(sections[index]) for index in kept}
    symbol_map: dict[int, int] = {}
    locals_left = 0
    for index in kept:
        if isinstance(sections[index], SymbolTableSection):
            contents[index], symbol_map, locals_left = _strip_symbols(contents[index], new_index, order)
    for index in kept:
        table = sections[index]
        if isinstance(table, RelocationSection):
            contents[index] = _renumber(table, contents[index], symbol_map, order)

    header_size = struct.calcsize(order + _HEADER)
    body = bytearray(data[:header_size])
    headers = bytearray()
    for index in kept:
        section = sections[index]
        # as numbers, which pyelftools hides behind names
        name, kind, flags, address, _, size, link, info, alignment, entry_size = struct.unpack_from(
            order + _SECTION_HEADER, data, elf["e_shoff"] + index * elf["e_shentsize"]
        )
        if alignment > _MOST_ALIGNED:
            raise ELFError(f"section {section.name} is to be aligned to {alignment} bytes")
        body += bytes(-len(body) % max(alignment, 1))
        if section["sh_type"] != "SHT_NOBITS":
            size = len(contents[index])
        if isinstance(section, SymbolTableSection):
            info = locals_left
        elif isinstance(section, RelocationSection):
            info = new_index[info]
        place, link = len(body) if index else 0, new_index.get(link, 0)
        headers += struct.pack(
            order + _SECTION_HEADER, name, kind, flags, address, place, size, link, info, alignment, entry_size
        )
        body += contents[index]
    body += bytes(-len(body) % 8)
    fields = list(struct.unpack_from(order + _HEADER, data))
    fields[6], fields[12], fields[13] = len(body), len(kept), new_index[elf["e_shstrndx"]]
    body[:header_size] = struct.pack(order + _HEADER, *fields)
    return bytes(body + headers)


def _contents(section: Section) -> bytes:
    if section.compressed:
        raise ELFError(f"section {section.name} is compressed")
    return b"" if section["sh_type"] in ("SHT_NOBITS", "SHT_NULL") else bytes(section.data())


def _strip_symbols(table: bytes, new_index: dict[int, int], order: str) -> tuple[bytes, dict[int, int], int]:
    """Drop the symbols of dropped sections; return the new table, old index -> new, and how many are local."""
    rows: list[bytes] = []
    mapping: dict[int, int] = {}
    local = 0
    for old, (name, info, other, home, value, length) in enumerate(whole_rows(order + SYMBOL_ROW, table)):
        if 0 < home < SHN_INDICES.SHN_LORESERVE:
            if home not in new_index:
                continue
            home = new_index[home]
        mapping[old] = len(rows)
        local += info >> 4 == STB_LOCAL
        rows.append(struct.pack(order + SYMBOL_ROW, name, info, other, home, value, length))
    return b"".join(rows), mapping, local


def _renumber(table: RelocationSection, raw: bytes, symbol_map: dict[int, int], order: str) -> bytes:
    """Point a section's relocations at the symbols' new indices."""
    layout = order + RELOCATION_ROWS[table["sh_type"]]
    return b"".join(
        struct.pack(layout, offset, symbol_map[info >> 32] << 32 | info & 0xFFFFFFFF, *addend)
        for offset, info, *addend in struct.iter_unpack(layout, raw)
    )
