"""Archives, packages, ELF files and BTFs put together field by field, so that every field can lie."""

from __future__ import annotations

import struct
from collections.abc import Iterable


def ar(*members: tuple[bytes, bytes], size: bytes = b"") -> bytes:
    """A Debian package, whose members may all claim one size."""
    parts = [b"!<arch>\n"]
    for name, data in members:
        head = name.ljust(16) + b"0".ljust(12) + b"0".ljust(6) * 2 + b"100644".ljust(8)
        parts.append(head + (size or b"%d" % len(data)).ljust(10) + b"`\n" + data + b"\n" * (len(data) % 2))
    return b"".join(parts)


def tar_header(name: bytes, size: int, kind: bytes = b"0") -> bytes:
    """A header of a tar, with the right checksum."""
    header = name[:100].ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + b"%011o\0" % size + b"0" * 11 + b"\0"
    header += b" " * 8 + kind + bytes(100) + b"ustar\x0000" + bytes(247)
    return header[:148] + b"%06o\0 " % sum(header) + header[156:]


def padded(data: bytes, to: int = 512) -> bytes:
    """Data with zeros behind it."""
    return data + bytes(-len(data) % to)


def pax(records: bytes) -> bytes:
    """A header of a tar that says more of the next member."""
    return tar_header(b"PaxHeaders/x", len(records), b"x") + padded(records)


def pax_record(key: bytes, value: bytes) -> bytes:
    """A line of such a header, with the right length."""
    length = len(key) + len(value) + 3
    length += len(str(length + len(str(length))))
    return b"%d %s=%s\n" % (length, key, value)


def rpm_header(tags: bytes = b"", store: bytes = b"", count: int = 0, size: int | None = None) -> bytes:
    """A header of an RPM package, which may claim another size of its strings."""
    return b"\x8e\xad\xe8\1" + bytes(4) + struct.pack(">II", count, len(store) if size is None else size) + tags + store


def rpm(payload: bytes, header: bytes) -> bytes:
    """An RPM package."""
    return b"\xed\xab\xee\xdb".ljust(96, b"\0") + rpm_header() + header + payload


def cpio(name: bytes, content: bytes = b"", *, size: int | None = None, name_size: int | None = None) -> bytes:
    """A file of an RPM package's payload, which may claim other sizes."""
    sizes = (len(content) if size is None else size, len(name) if name_size is None else name_size)
    fields = (0, 0o100644, 0, 0, 1, 0, sizes[0], 0, 0, 0, 0, sizes[1], 0)
    return padded(b"070701" + b"%08x" * 13 % fields + name, 4) + padded(content, 4)


def elf(names: bytes, sections: Iterable[tuple[int, int, int, int, int]], *, machine: int = 62) -> bytes:
    """An ELF file of sections, given as (name, type, flags, offset, size); the names are the last section."""
    rows = list(sections)
    start = 64 + len(names)
    rows.append((0, 3, 0, 64, len(names)))
    counts = (64, len(rows), len(rows) - 1)
    head = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, machine, 1, 0, 0, start, 0, 64, 0, 0, *counts)
    table = b"".join(
        struct.pack("<IIQQQQIIQQ", name, kind, flags, 0, offset, size, 0, 0, 1, 0)
        for name, kind, flags, offset, size in rows
    )
    return head + names + table


def btf(types: bytes, strings: bytes) -> bytes:
    """A BTF."""
    return struct.pack("<HBBI4I", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings)) + types + strings
