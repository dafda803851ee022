"""Types -> raw BTF, in either byte order: for tests, which make up types and look at what comes of them.

Input: types as plain data, ids and all. Output: the bytes of a blob, laid out as by libbpf's btf__raw_data(): a header
of 24 bytes, the types, the strings.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Literal

from hatch_bpf.btf import types as t
from hatch_bpf.btf.types import VLEN_MASK
from hatch_bpf.btf.writer import blob

if sys.version_info >= (3, 11):
    from typing import assert_never
else:
    from typing import NoReturn

    def assert_never(value: NoReturn) -> NoReturn:
        """As typing's own."""
        raise AssertionError(value)


class BtfBuilder:
    """A new blob. Each string is stored once, in the order of first use, as in libbpf: equal calls give equal bytes."""

    def __init__(self, *, endian: Literal["little", "big"] = "little") -> None:
        self._endian = endian
        self._next_id = 1
        self._words: list[int] = []
        self._offsets = {"": 0}
        self._strings = bytearray(1)

    def string(self, text: str) -> int:
        """The offset of a string, which is added if it isn't there yet."""
        offset = self._offsets.get(text)
        if offset is None:
            offset = self._offsets[text] = len(self._strings)
            self._strings += text.encode("utf-8", "surrogateescape") + b"\0"
        return offset

    def add(self, new: t.Type) -> int:
        """Append a type; its references are ids of this blob. Returns its id."""
        self._words += _encode(new, self.string)
        self._next_id += 1
        return self._next_id - 1

    def build(self) -> bytes:
        return blob(self._words, self._strings, endian=self._endian)


def _encode(found: t.Type, string: Callable[[str], int]) -> list[int]:
    """The 32-bit words of a type, its name looked up before those of its members."""
    head = string(found.name)
    match found:
        case t.Int():
            return [head, _info(found), found.size, found.encoding << 24 | found.bit_offset << 16 | found.bits]
        case t.Float():
            return [head, _info(found), found.size]
        case t.Ptr() | t.Typedef() | t.Volatile() | t.Const() | t.Restrict():
            return [head, _info(found), found.type_id]
        case t.TypeTag():
            return [head, _info(found, flag=found.kind_flag), found.type_id]
        case t.DeclTag():
            return [head, _info(found, flag=found.kind_flag), found.type_id, found.component_idx & 0xFFFFFFFF]
        case t.Fwd():
            return [head, _info(found, flag=found.is_union), 0]
        case t.Func():
            return [head, _info(found, vlen=found.linkage), found.type_id]
        case t.Var():
            return [head, _info(found), found.type_id, found.linkage]
        case t.Array():
            return [head, _info(found), 0, found.type_id, found.index_type_id, found.length]
        case t.FuncProto():
            words = [head, _info(found, vlen=len(found.params)), found.return_type_id]
            for param in found.params:
                words += (string(param.name), param.type_id)
        case t.DataSec():
            words = [head, _info(found, vlen=len(found.variables)), found.size]
            for info in found.variables:
                words += (info.type_id, info.offset, info.size)
        case t.Struct() | t.Union():
            words = [head, _info(found, vlen=len(found.members), flag=found.kind_flag), found.size]
            for member in found.members:
                words += (string(member.name), member.type_id, member.bit_offset | member.bits << 24)
        case t.Enum():
            words = [head, _info(found, vlen=len(found.values), flag=found.signed), found.size]
            for value in found.values:
                words += (string(value.name), value.value & 0xFFFFFFFF)
        case t.Enum64():
            words = [head, _info(found, vlen=len(found.values), flag=found.signed), found.size]
            for value in found.values:
                words += (string(value.name), value.value & 0xFFFFFFFF, value.value >> 32 & 0xFFFFFFFF)
        case t.Void():
            raise AssertionError("void is type 0 of every BTF and cannot be added")
        case _:
            assert_never(found)
    return words


def _info(found: t.Type, *, vlen: int = 0, flag: bool = False) -> int:
    assert vlen <= VLEN_MASK
    return t.KIND_OF[type(found)] << 24 | vlen | flag << 31
