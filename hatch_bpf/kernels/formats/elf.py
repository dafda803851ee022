"""An ELF file -> one section of it, by name.

Input: the file's bytes. Output: the section's, or `KernelError`. pyelftools is not used: it decodes every section's
header and name, in tens of microseconds each, and a name as long as the file for each if the file says so.
"""

from __future__ import annotations

import struct
from mmap import mmap

from hatch_bpf.errors import KernelError
from hatch_bpf.support.budget import Budget

MAGIC = b"\x7fELF"
EM_BPF = 247
"""The machine of BPF objects."""
_NOBITS = 8
_COMPRESSED = 0x800


def machine(data: bytes | mmap) -> int:
    """The number of the architecture that the file is for; 0 if the file is too short."""
    if len(data) < 20:
        return 0
    return int.from_bytes(data[18:20], "big" if data[5] == 2 else "little")


def find_section(data: bytes | mmap, name: str, budget: Budget) -> bytes | None:
    """The content of the first section of that name; None if there is none. Raises `KernelError`."""
    try:
        return _find(data, name.encode(), budget)
    except (struct.error, OverflowError):  # the latter for an offset that no file has
        raise _broken("its section headers are cut off", budget) from None


def _find(data: bytes | mmap, name: bytes, budget: Budget) -> bytes | None:
    order = ">" if data[5:6] == b"\2" else "<"
    is_64_bit = data[4:5] == b"\2"
    word, table_at, counts_at = ("Q", 40, 58) if is_64_bit else ("I", 32, 46)
    (start,) = struct.unpack_from(order + word, data, table_at)
    size, count, names_index = struct.unpack_from(f"{order}HHH", data, counts_at)
    # name, type, flags, address, offset, size, link, info, alignment, entry size
    header = struct.Struct(f"{order}II{word * 4}II{word * 2}")
    if count and size != header.size:
        raise _broken("its section headers have another size", budget)
    headers = [header.unpack_from(data, start + size * index) for index in range(count)]
    budget.work(count)
    if names_index >= count:
        return None
    _, _, _, _, names_at, names_size, *_ = headers[names_index]
    names = data[names_at : names_at + names_size]
    for name_at, kind, flags, _, offset, length, *_ in headers:
        if not names.startswith(name + b"\0", name_at):
            continue
        if flags & _COMPRESSED:
            raise _broken(f"section {name.decode()} is compressed", budget)
        if kind == _NOBITS or offset + length > len(data):
            raise _broken(f"section {name.decode()} is not in the file", budget)
        return data[offset : offset + length]
    return None


def _broken(why: str, budget: Budget) -> KernelError:
    return KernelError(f"a broken ELF file ({why}); get it anew", source=budget.source)
