"""Functions and USDTs in programs and libraries of this machine. Input: a path and names. Output: file offsets, names.

libbpf looks up one function by its name, or many by a pattern. A list of names works (at least in 1.4 and 1.5) only for
files that still have a `.symtab`, and distributions strip it.
"""

from __future__ import annotations

import mmap
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HEADER = struct.Struct("=16x2HI3QI6H")
SECTION = struct.Struct("=2I4Q2I2Q")
SYMBOL = struct.Struct("=I2BH2Q")
HALF = struct.Struct("=H")
NOTE = struct.Struct("=3I")
SHT_SYMTAB, SHT_NOTE, SHT_DYNSYM, SHT_GNU_VERSYM = 2, 7, 11, 0x6FFFFFFF
NT_STAPSDT = 3
STAPSDT_ADDRESSES = 3 * 8
"""Bytes of the addresses before the names."""
STT_FUNC = 2
STB_WEAK = 2
VERSYM_HIDDEN = 1 << 15
"""Set for the versions of a symbol that only programs linked against them get."""
ELF_64 = b"\x7fELF\x02"


def function_offsets(path: str, names: Sequence[str]) -> list[int]:
    """The offset of each function in the file, which must be unambiguous.

    Raises `OSError`, `KeyError` if there is no such function, or `ValueError` for an ambiguous one and for what is no
    ELF file. As in libbpf the dynamic symbols come first, a default version precedes older ones, and a strong symbol
    a weak one.
    """
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[: len(ELF_64)] != ELF_64:
            raise ValueError(f"{path} is not a 64-bit ELF file")
        wanted = {name.encode() for name in names}
        try:
            found = _functions(data, wanted, SHT_DYNSYM)
            found.update(_functions(data, wanted - found.keys(), SHT_SYMTAB))
        except (struct.error, IndexError):
            raise ValueError(f"{path} is a damaged ELF file") from None
    return [_only_one(found[name.encode()], name, path) for name in names]


def usdt_names(path: str) -> list[str]:
    """The USDTs of a file, as PROVIDER:NAME. Raises `OSError`, or `ValueError` for what is no ELF file."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[: len(ELF_64)] != ELF_64:
            raise ValueError(f"{path} is not a 64-bit ELF file")
        try:
            return sorted(set(_usdts(data)))
        except (struct.error, IndexError, ValueError):
            raise ValueError(f"{path} is a damaged ELF file") from None


def _usdts(data: mmap.mmap) -> Iterator[str]:
    """What the notes of `sys/sdt.h` name."""
    header = HEADER.unpack_from(data)
    for number in range(header[11]):
        _, kind, _, _, at, length, *_ = SECTION.unpack_from(data, header[5] + number * header[10])
        end = at + length
        while kind == SHT_NOTE and at < end:
            name_size, size, note = NOTE.unpack_from(data, at)
            first = at + NOTE.size + (name_size + 3 & ~3)
            if data[at + NOTE.size : at + NOTE.size + name_size] == b"stapsdt\0" and note == NT_STAPSDT:
                provider, name, _ = data[first + STAPSDT_ADDRESSES : first + size].split(b"\0", 2)
                yield f"{provider.decode('utf-8', 'backslashreplace')}:{name.decode('utf-8', 'backslashreplace')}"
            at = first + (size + 3 & ~3)


def _only_one(offsets: set[int], name: str, path: str) -> int:
    if len(offsets) > 1:
        raise ValueError(
            f'{name} is ambiguous: {len(offsets)} functions of {path} have this name; pattern="{name}" takes them all'
        )
    return next(iter(offsets))


def _functions(data: mmap.mmap, wanted: set[bytes], table: int) -> dict[bytes, set[int]]:
    """The offsets of the wanted functions that have symbols in the tables of this type, only the best of each name."""
    header = HEADER.unpack_from(data)
    start, size, count = header[5], header[10], header[11]
    sections = [SECTION.unpack_from(data, start + i * size) for i in range(count)]
    found: dict[bytes, set[int]] = {}
    ranks: dict[bytes, tuple[bool, bool]] = {}
    for number, (_, kind, _, _, at, length, link, *_) in enumerate(sections):
        if kind != table:
            continue
        strings = sections[link][4]
        versions = next((s[4] for s in sections if s[1] == SHT_GNU_VERSYM and s[6] == number), None)
        for index, symbol in enumerate(range(at, at + length, SYMBOL.size)):
            name_at, info, _, home, value, _ = SYMBOL.unpack_from(data, symbol)
            if info & 0xF != STT_FUNC or not 0 < home < count:
                continue
            name = data[strings + name_at : data.find(b"\0", strings + name_at)]
            if name not in wanted:
                continue
            is_old = versions is not None and bool(HALF.unpack_from(data, versions + 2 * index)[0] & VERSYM_HIDDEN)
            rank = is_old, info >> 4 == STB_WEAK
            if rank < ranks.get(name, (True, True)) or name not in found:
                ranks[name], found[name] = rank, set()
            if rank == ranks[name]:
                section = sections[home]
                found[name].add(value - section[3] + section[4])
    return found
