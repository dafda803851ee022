"""Functions in programs and libraries of this machine. Input: a path and names. Output: file offsets.

libbpf looks up one function by its name, or many by a pattern. A list of names works (at least in 1.4 and 1.5) only for
files that still have a `.symtab`, and distributions strip it.
"""

from __future__ import annotations

import mmap
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

HEADER = struct.Struct("=16x2HI3QI6H")
SECTION = struct.Struct("=2I4Q2I2Q")
SYMBOL = struct.Struct("=I2BH2Q")
SHT_SYMTAB, SHT_DYNSYM = 2, 11
STT_FUNC = 2
ELF_64 = b"\x7fELF\x02"


def function_offsets(path: str, names: Sequence[str]) -> list[int]:
    """The offset of each function in the file. Raises `OSError`, `KeyError`, or `ValueError` if it is no ELF file."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[: len(ELF_64)] != ELF_64:
            raise ValueError(f"{path} is not a 64-bit ELF file")
        try:
            found = _functions(data, {name.encode() for name in names})
        except (struct.error, IndexError):
            raise ValueError(f"{path} is a damaged ELF file") from None
    return [found[name.encode()] for name in names]


def _functions(data: mmap.mmap, wanted: set[bytes]) -> dict[bytes, int]:
    header = HEADER.unpack_from(data)
    start, size, count = header[5], header[10], header[11]
    sections = [SECTION.unpack_from(data, start + i * size) for i in range(count)]
    found: dict[bytes, int] = {}
    for _, kind, _, _, at, length, link, *_ in sections:
        if kind not in (SHT_SYMTAB, SHT_DYNSYM):
            continue
        strings = sections[link][4]
        for symbol in range(at, at + length, SYMBOL.size):
            name_at, info, _, home, value, _ = SYMBOL.unpack_from(data, symbol)
            if info & 0xF != STT_FUNC or not 0 < home < count:
                continue
            name = data[strings + name_at : data.find(b"\0", strings + name_at)]
            if name in wanted:
                section = sections[home]
                found[name] = value - section[3] + section[4]
    return found
