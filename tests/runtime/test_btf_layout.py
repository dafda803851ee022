"""The runtime's own table of BTF's record layout, against the build's reader: it may import nothing from there."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from hatch_bpf.btf import types as t
from hatch_bpf.btf.reader import Btf
from hatch_bpf.runtime.host.embedded import kind_of, roles
from tests.common import needs
from tests.common.btf_builder import RawBtf


def one_of_each_kind() -> bytes:
    btf = RawBtf()
    number = btf.integer()
    for kind in (t.Kind.TYPEDEF, t.Kind.VOLATILE, t.Kind.CONST, t.Kind.RESTRICT, t.Kind.TYPE_TAG):
        btf.mod(kind, number, "named" if kind in (t.Kind.TYPEDEF, t.Kind.TYPE_TAG) else "")
    btf.ptr(number)
    btf.array(number, 3)
    btf.struct("a_struct", 8, ("first", number, 0), ("second", number, 32))
    btf.union("a_union", 4, ("either", number, 0), ("or_this", number, 0))
    btf.enum("an_enum", ONE=1, TWO=2)
    btf.enum64("wide_enum", HUGE=1 << 40, SMALL=-1)
    btf.fwd("a_fwd")
    proto = btf.func_proto(number, ("argument", number), ("", 0))
    btf.func("a_function", proto)
    variable = btf.var("a_variable", number)
    btf.datasec(".data", 4, (variable, 0, 4), (variable, 4, 4))
    btf.floating("double", 8)
    btf.decl_tag("a_tag", number)
    return btf.build()


def described(found: Any) -> Iterator[tuple[str, Any]]:
    """Names and types of a decoded record, in no order: (`s`, name) and (`r`, type id)."""
    for field in dataclasses.fields(found):
        value = getattr(found, field.name)
        if field.name == "name":
            yield "s", value
        elif field.name.endswith("type_id"):
            yield "r", value
        elif isinstance(value, tuple):
            for item in value:
                yield from described(item)


def described_by_the_runtime(data: bytes) -> Iterator[tuple[int, list[tuple[str, Any]]]]:
    """The same of each record, by the runtime's table: its kind, names and types."""
    start, size, text, length = struct.unpack_from("<4I", data, 8)
    words = struct.unpack_from(f"<{size // 4}I", data, 24 + start)
    strings = data[24 + text : 24 + text + length]
    at = 0
    while at < len(words):
        record, parts = roles(words[at + 1]), []
        for word, role in zip(words[at : at + len(record)], record, strict=True):
            if role == "s":
                parts.append((role, strings[word : strings.index(b"\0", word)].decode()))
            elif role == "r":
                parts.append((role, word))
        yield kind_of(words[at + 1]), parts
        at += len(record)
    assert at == len(words)


@pytest.mark.thorough
@pytest.mark.parametrize("source", ["one of each kind", "the running kernel"])
def test_every_record_is_laid_out_as_the_reader_has_it(source: str) -> None:
    data = one_of_each_kind() if source == "one of each kind" else needs.host_btf().read_bytes()
    btf = Btf(data, source=source)
    records = list(described_by_the_runtime(data))
    assert len(records) == len(btf) - 1
    for type_id, (kind, parts) in enumerate(records, 1):
        found = btf[type_id]
        assert kind == t.KIND_OF[type(found)]
        wanted = list(described(found))
        assert sorted(map(repr, parts)) == sorted(map(repr, wanted)), (type_id, found)
    if source == "one of each kind":
        assert {kind for kind, _ in records} == set(t.Kind) - {t.Kind.VOID}
