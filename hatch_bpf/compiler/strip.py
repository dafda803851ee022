"""Object with DWARF -> the same object without it: `llvm-strip -g` for the one kind of ELF that compilers make for BPF.

Input: a relocatable 64-bit ELF. Output: the same without .debug_* sections, their relocations and their symbols;
nothing else changes. GNU strip refuses BPF objects, and most distributions package llvm-strip separately.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from hatch_bpf.errors import ObjectError
from hatch_bpf.objects.elf import (
    HEADER,
    SECTION_HEADER,
    SHN_LORESERVE,
    SHT_NOBITS,
    SHT_REL,
    SHT_RELA,
    SHT_SYMTAB,
    STB_LOCAL,
    SYMBOL,
    ElfError,
    ElfObject,
    Section,
)

_MOST_ALIGNED = 4096
"""Largest alignment of a section, in bytes; compilers ask for 8 or 16."""


_RELOCATIONS = {SHT_REL: "QQ", SHT_RELA: "QQq"}
"""Types of sections that hold relocations, and how one is laid out."""


def strip_debug(data: bytes, *, path: str) -> bytes:
    """Strip an object. `path` names it in errors. Raises `ObjectError`."""
    try:
        return _strip(ElfObject(data, path), data)
    except (ElfError, struct.error, LookupError) as error:
        raise ObjectError(f"{path}: not an ELF object: {error}") from error


def _is_debug(section: Section) -> bool:
    return section.name.startswith((".debug", ".rel.debug", ".rela.debug"))


def _strip(elf: ElfObject, data: bytes) -> bytes:
    order, sections = elf.order, elf.sections
    kept = [index for index, section in enumerate(sections) if not _is_debug(section)]
    new_index = {old: new for new, old in enumerate(kept)}
    symbol_map: dict[int, int] = {}
    contents = {index: elf.contents(sections[index]) if sections[index].is_in_file else b"" for index in kept}
    locals_left = 0
    for index in kept:
        if sections[index].type == SHT_SYMTAB:
            contents[index], symbol_map, locals_left = _strip_symbols(contents[index], new_index, order)
    for index in kept:
        if sections[index].type in _RELOCATIONS:
            layout = order + _RELOCATIONS[sections[index].type]
            contents[index] = _renumber(contents[index], symbol_map, layout)

    header_size = struct.calcsize(order + HEADER)
    body = bytearray(data[:header_size])
    headers = bytearray()
    for index in kept:
        section = sections[index]
        alignment = max(section.alignment, 1)
        if alignment > _MOST_ALIGNED:
            raise ElfError(f"section {section.name} is to be aligned to {alignment} bytes")
        body += bytes(-len(body) % alignment)
        is_symbols, is_relocations = section.type == SHT_SYMTAB, section.type in _RELOCATIONS
        _, *header = section._replace(
            offset=len(body) if index else 0,
            size=section.size if section.type == SHT_NOBITS else len(contents[index]),
            link=new_index.get(section.link, 0),
            info=locals_left if is_symbols else new_index[section.info] if is_relocations else section.info,
        )
        headers += struct.pack(order + SECTION_HEADER, *header)
        body += contents[index]
    body += bytes(-len(body) % 8)
    fields = list(struct.unpack_from(order + HEADER, data))
    fields[6], fields[12], fields[13] = len(body), len(kept), new_index[fields[13]]
    body[:header_size] = struct.pack(order + HEADER, *fields)
    return bytes(body + headers)


def _strip_symbols(raw: bytes, new_index: dict[int, int], order: str) -> tuple[bytes, dict[int, int], int]:
    """Drop the symbols of dropped sections; return the new table, old index -> new, and how many are local."""
    size = struct.calcsize(order + SYMBOL)
    rows: list[bytes] = []
    mapping: dict[int, int] = {}
    local = 0
    for old in range(len(raw) // size):
        name, info, other, home, value, length = struct.unpack_from(order + SYMBOL, raw, old * size)
        if 0 < home < SHN_LORESERVE:
            if home not in new_index:
                continue
            home = new_index[home]
        mapping[old] = len(rows)
        local += info >> 4 == STB_LOCAL
        rows.append(struct.pack(order + SYMBOL, name, info, other, home, value, length))
    return b"".join(rows), mapping, local


def _renumber(raw: bytes, symbol_map: dict[int, int], layout: str) -> bytes:
    """Point a section's relocations at the symbols' new indices."""
    rows: Sequence[tuple[int, ...]] = list(struct.iter_unpack(layout, raw))
    return b"".join(
        struct.pack(layout, row[0], symbol_map[row[1] >> 32] << 32 | row[1] & 0xFFFFFFFF, *row[2:]) for row in rows
    )
