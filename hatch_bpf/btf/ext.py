""".BTF.ext -> source lines and CO-RE relocation records, per ELF section.

Input: the bytes of a .BTF.ext section and the object's `Btf`, whose string section it shares.
Output: a `BtfExt`, or `BtfError`. Layout: Documentation/bpf/btf.rst, ".BTF.ext section".
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property, partial
from operator import attrgetter
from typing import NamedTuple

from hatch_bpf.btf.header import MAGIC, VERSION, words_of
from hatch_bpf.btf.reader import Btf
from hatch_bpf.errors import BtfError

_HEADER_WITHOUT_RELOS = 24
_HEADER_WITH_RELOS = 32
_WORDS = 4
"""Known words of a record, be it a source line or a relocation."""


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
class LineInfo:
    """A source line (`struct bpf_line_info`)."""

    insn_off: int
    """Where its instructions begin: bytes from the section's start."""
    file: str
    text: str
    """The source line itself."""
    line: int
    column: int


class LineTable:
    """The source lines of one section, by rising offset. A large object has 100,000, so each is decoded when asked for.

    Records that name line 0 are left out: clang writes them for instructions that belong to no line.
    """

    def __init__(self, btf: Btf, words: array[int]) -> None:
        """`words` are the section's records, four words each."""
        self._btf = btf
        self._words = words

    @cached_property
    def _places(self) -> array[int]:
        """Which records these are, in order. Raises `BtfError`."""
        for column in (1, 2):
            if max(self._words[column::_WORDS]) >= len(self._btf.strings):
                raise BtfError(f"{self._btf.source}: the file or text of a source line is beyond the string section")
        kept = [place for place, number in enumerate(self._words[3::_WORDS]) if number >> 10]
        kept.sort(key=self._words[0::_WORDS].__getitem__)
        return array("I", kept)

    @cached_property
    def offsets(self) -> array[int]:
        """Where each line's instructions begin."""
        return array("I", map(self._words[0::_WORDS].__getitem__, self._places))

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> LineInfo:
        at = _WORDS * self._places[index]
        insn_off, file, text, line_col = self._words[at : at + _WORDS]
        return LineInfo(insn_off, self._btf.string(file), self._btf.string(text), line_col >> 10, line_col & 0x3FF)

    def at(self, offset: int) -> LineInfo | None:
        """The line of the instruction at a byte of the section; None before the first."""
        index = bisect_right(self.offsets, offset) - 1
        return self[index] if index >= 0 else None

    def texts(self) -> array[int]:
        """String offset of each line's text: few, since functions are inlined and macros expanded many times."""
        return array("I", map(self._words[2::_WORDS].__getitem__, self._places))


class CoreRelo(NamedTuple):
    """One CO-RE relocation record (`struct bpf_core_relo`). Objects have tens of thousands, and tuples are quick."""

    insn_off: int
    """From the section's start, in bytes."""
    type_id: int
    """The root type, in the object's own BTF."""
    access_str: str
    """`0:1:2`: array index and member indices; an enumerator's index; or `0` for type relocations."""
    kind: CoreReloKind


access_of: Callable[[CoreRelo], tuple[int, str, CoreReloKind]] = attrgetter("type_id", "access_str", "kind")
"""What a record asks for, wherever it stands."""


@dataclass(frozen=True)
class BtfExt:
    """The records of one object, by the name of the ELF section they belong to."""

    lines: Mapping[str, LineTable] = field(default_factory=dict)
    core_relos: Mapping[str, tuple[CoreRelo, ...]] = field(default_factory=dict)


def read_btf_ext(data: bytes, btf: Btf) -> BtfExt:
    """Parse a .BTF.ext section. Raises `BtfError`."""
    source = btf.source
    if len(data) < _HEADER_WITHOUT_RELOS:
        raise BtfError(f"{source}: {len(data)} bytes cannot be .BTF.ext; the header alone has {_HEADER_WITHOUT_RELOS}")
    order = "<" if btf.endian == "little" else ">"
    magic, version, _flags, hdr_len = struct.unpack_from(order + "HBBI", data)
    if magic != MAGIC or version != VERSION:
        raise BtfError(f"{source}: .BTF.ext starts with {data[:4].hex(' ')} instead of 9f eb 01 00")
    if not _HEADER_WITHOUT_RELOS <= hdr_len <= len(data):
        raise BtfError(f"{source}: .BTF.ext has a header of {hdr_len} bytes, which does not fit")
    line_off, line_len = struct.unpack_from(order + "2I", data, 16)
    relo_off, relo_len = struct.unpack_from(order + "2I", data, 24) if hdr_len >= _HEADER_WITH_RELOS else (0, 0)

    def table(offset: int, length: int) -> Iterator[tuple[str, array[int]]]:
        """The records of one table as 32-bit words, by the name of their section."""
        start = hdr_len + offset
        if start + length > len(data):
            raise BtfError(f"{source}: .BTF.ext is cut off: a table ends at byte {start + length} of {len(data)}")
        joined: dict[int, array[int]] = {}
        for name, records in _sections(data[start : start + length], btf) if length else ():
            joined.setdefault(name, array("I")).extend(records)
        for name, records in joined.items():
            if records:
                yield btf.string(name), records

    relos = {section: _relos(btf, records) for section, records in table(relo_off, relo_len)}
    lines = {section: LineTable(btf, records) for section, records in table(line_off, line_len)}
    return BtfExt(lines, relos)


_RELO_KINDS = {int(kind): kind for kind in CoreReloKind}


def _relos(btf: Btf, words: array[int]) -> tuple[CoreRelo, ...]:
    insn_offs, type_ids, accesses, kinds = (words[column::_WORDS] for column in range(_WORDS))
    for kind in sorted(set(kinds) - _RELO_KINDS.keys()):
        raise BtfError(f"{btf.source}: CO-RE relocation kind {kind} is not known")
    texts = {access: btf.string(access) for access in set(accesses)}
    columns = insn_offs, type_ids, map(texts.__getitem__, accesses), map(_RELO_KINDS.__getitem__, kinds)
    # as CoreRelo._make() does, which takes longer than the rest of reading an object
    return tuple(map(partial(tuple.__new__, CoreRelo), zip(*columns, strict=True)))


def _sections(data: bytes, btf: Btf) -> Iterator[tuple[int, array[int]]]:
    """Walk one table: its record size, then for each section its name's offset, a count and the records."""
    source = btf.source
    (record_size,) = words_of(data[:4], btf.endian) if len(data) >= 4 else (0,)
    if record_size < 4 * _WORDS or record_size % 4:
        raise BtfError(f"{source}: .BTF.ext has records of {record_size} bytes; at least {4 * _WORDS} are needed")
    at = 4
    while at < len(data):
        if at + 8 > len(data):
            raise BtfError(f"{source}: .BTF.ext is cut off inside a section's header")
        section_off, count = words_of(data[at : at + 8], btf.endian)
        at += 8
        if at + count * record_size > len(data):
            raise BtfError(f"{source}: .BTF.ext is cut off: {count} records of {record_size} bytes do not fit")
        records = words_of(data[at : at + count * record_size], btf.endian)
        # a newer compiler may append words to a record; those known come first
        yield section_off, _known_columns(records, record_size // 4)
        at += count * record_size


def _known_columns(records: array[int], width: int) -> array[int]:
    """The first words of each record."""
    if width == _WORDS:
        return records
    kept = array("I", bytes(4 * _WORDS * (len(records) // width)))
    for column in range(_WORDS):
        kept[column::_WORDS] = records[column::width]
    return kept
