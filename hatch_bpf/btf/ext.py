""".BTF.ext -> func_info, line_info and CO-RE relocation records, per ELF section.

Input: the bytes of a .BTF.ext section and the object's `Btf`, whose string section it shares.
Output: a `BtfExt`, or `BtfError`. Layout: Documentation/bpf/btf.rst, ".BTF.ext section".
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TypeVar

from hatch_bpf.btf.header import MAGIC, VERSION
from hatch_bpf.btf.reader import Btf
from hatch_bpf.errors import BtfError

_HEADER_WITHOUT_RELOS = 24
_HEADER_WITH_RELOS = 32


class CoreReloKind(IntEnum):
    """`enum bpf_core_relo_kind` of include/uapi/linux/bpf.h."""

    FIELD_BYTE_OFFSET = 0
    FIELD_BYTE_SIZE = 1
    FIELD_EXISTS = 2
    FIELD_SIGNED = 3
    FIELD_LSHIFT_U64 = 4
    FIELD_RSHIFT_U64 = 5
    TYPE_ID_LOCAL = 6
    TYPE_ID_TARGET = 7
    TYPE_EXISTS = 8
    TYPE_SIZE = 9
    ENUMVAL_EXISTS = 10
    ENUMVAL_VALUE = 11
    TYPE_MATCHES = 12


@dataclass(frozen=True, slots=True)
class FuncInfo:
    """A function begins here (`struct bpf_func_info`)."""

    insn_off: int
    """Bytes from the section's start."""
    type_id: int
    """Id of its FUNC."""


@dataclass(frozen=True, slots=True)
class LineInfo:
    """The source line of the instructions from here on (`struct bpf_line_info`)."""

    insn_off: int
    """Bytes from the section's start."""
    file: str
    text: str
    """The source line itself."""
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class CoreRelo:
    """One CO-RE relocation record (`struct bpf_core_relo`)."""

    insn_off: int
    """Bytes from the section's start."""
    type_id: int
    """The root type, in the object's own BTF."""
    access_str: str
    """`0:1:2`: array index and member indices; an enumerator's index; or `0` for type relocations."""
    kind: CoreReloKind


@dataclass(frozen=True)
class BtfExt:
    """The records of one object, by the name of the ELF section they belong to."""

    func_infos: Mapping[str, tuple[FuncInfo, ...]] = field(default_factory=dict)
    line_infos: Mapping[str, tuple[LineInfo, ...]] = field(default_factory=dict)
    core_relos: Mapping[str, tuple[CoreRelo, ...]] = field(default_factory=dict)


def read_btf_ext(data: bytes, btf: Btf) -> BtfExt:
    """Parse a .BTF.ext section. Raises `BtfError`."""
    source = btf.source
    if len(data) < _HEADER_WITHOUT_RELOS:
        raise BtfError(f"{source}: {len(data)} bytes cannot be .BTF.ext; the header alone has {_HEADER_WITHOUT_RELOS}")
    order = "<" if data[0] == MAGIC & 0xFF else ">"
    magic, version, _flags, hdr_len = struct.unpack_from(order + "HBBI", data)
    if magic != MAGIC or version != VERSION:
        raise BtfError(f"{source}: .BTF.ext starts with {data[:4].hex(' ')} instead of 9f eb 01 00")
    if not _HEADER_WITHOUT_RELOS <= hdr_len <= len(data):
        raise BtfError(f"{source}: .BTF.ext has a header of {hdr_len} bytes, which does not fit")
    func_off, func_len, line_off, line_len = struct.unpack_from(order + "4I", data, 8)
    relo_off, relo_len = struct.unpack_from(order + "2I", data, 24) if hdr_len >= _HEADER_WITH_RELOS else (0, 0)

    def func(record: tuple[int, ...]) -> FuncInfo:
        return FuncInfo(record[0], record[1])

    def line(record: tuple[int, ...]) -> LineInfo:
        insn_off, file_off, text_off, line_col = record
        return LineInfo(insn_off, btf.string(file_off), btf.string(text_off), line_col >> 10, line_col & 0x3FF)

    def relo(record: tuple[int, ...]) -> CoreRelo:
        insn_off, type_id, access_off, kind = record
        if kind > max(CoreReloKind):
            raise BtfError(f"{source}: CO-RE relocation kind {kind} is not known")
        return CoreRelo(insn_off, type_id, btf.string(access_off), CoreReloKind(kind))

    def table(offset: int, length: int, words: int, make: Callable[[tuple[int, ...]], _T]) -> dict[str, tuple[_T, ...]]:
        start = hdr_len + offset
        if not length:
            return {}
        if start + length > len(data):
            raise BtfError(f"{source}: .BTF.ext is cut off: a table ends at byte {start + length} of {len(data)}")
        records: dict[str, tuple[_T, ...]] = {}
        for section_off, rows in _sections(data[start : start + length], order, words, source):
            section = btf.string(section_off)
            records[section] = records.get(section, ()) + tuple(make(row) for row in rows)
        return records

    return BtfExt(
        func_infos=table(func_off, func_len, 2, func),
        line_infos=table(line_off, line_len, 4, line),
        core_relos=table(relo_off, relo_len, 4, relo),
    )


_T = TypeVar("_T")


def _sections(data: bytes, order: str, words: int, source: str) -> Iterator[tuple[int, list[tuple[int, ...]]]]:
    """Walk one table: its record size, then for each section its name's offset, a count and the records."""
    (record_size,) = struct.unpack_from(order + "I", data) if len(data) >= 4 else (0,)
    if record_size < 4 * words or record_size % 4:
        raise BtfError(f"{source}: .BTF.ext has records of {record_size} bytes; at least {4 * words} are needed")
    at = 4
    while at < len(data):
        if at + 8 > len(data):
            raise BtfError(f"{source}: .BTF.ext is cut off inside a section's header")
        section_off, count = struct.unpack_from(order + "II", data, at)
        at += 8
        if at + count * record_size > len(data):
            raise BtfError(f"{source}: .BTF.ext is cut off: {count} records of {record_size} bytes do not fit")
        # a newer compiler may append fields to a record; those known come first
        rows = [struct.unpack_from(f"{order}{words}I", data, at + i * record_size) for i in range(count)]
        yield section_off, rows
        at += count * record_size
