"""The BTF reader: every kind, both byte orders, names, sizes, split BTF, and what is not BTF."""

from __future__ import annotations

import json
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hatch_bpf.btf import types as t
from hatch_bpf.btf.reader import Btf
from hatch_bpf.btf.types import Kind
from hatch_bpf.errors import BtfError
from tests.common import kernel_btfs, needs
from tests.common.btf_builder import RawBtf

SIGNED = t.IntEncoding.SIGNED


def every_kind(order: str = "<") -> RawBtf:
    btf = RawBtf(order)
    number = btf.integer()
    btf.ptr(number)
    btf.array(number, 3)
    btf.struct("s", 8, ("a", number, 0), ("b", number, 35, 5))
    btf.union("u", 4, ("a", number, 0), ("", 4, 0))
    btf.enum("e", signed=True, LOW=-1, HIGH=7)
    btf.fwd("f", union=True)
    btf.typedef("td", number)
    for kind in (Kind.VOLATILE, Kind.CONST, Kind.RESTRICT):
        btf.mod(kind, number)
    btf.func_proto(number, ("x", number), ("", 0))
    btf.func("function", 12, linkage=1)
    btf.var("variable", number)
    btf.datasec(".data", 4, (14, 0, 4))
    btf.floating("double", 8)
    btf.decl_tag("tag", 4, 1)
    btf.mod(Kind.TYPE_TAG, number, "user")
    btf.enum64("wide", WIDE=1 << 40)
    btf.enum("unsigned", TOP=0xFFFFFFFF)
    btf.enum64("negative", signed=True, LOW=-5)
    return btf


EVERY_KIND: list[t.Type] = [
    t.Void(),
    t.Int("int", 4, SIGNED, 0, 32),
    t.Ptr(1),
    t.Array(1, 1, 3),
    t.Struct("s", 8, (t.Member("a", 1, 0, 0), t.Member("b", 1, 35, 5)), kind_flag=True),
    t.Union("u", 4, (t.Member("a", 1, 0, 0), t.Member("", 4, 0, 0))),
    t.Enum("e", 4, (t.Enumerator("LOW", -1), t.Enumerator("HIGH", 7)), signed=True),
    t.Fwd("f", is_union=True),
    t.Typedef("td", 1),
    t.Volatile(1),
    t.Const(1),
    t.Restrict(1),
    t.FuncProto(1, (t.Param("x", 1), t.Param("", 0))),
    t.Func("function", 12, 1),
    t.Var("variable", 1, 1),
    t.DataSec(".data", 4, (t.SecInfo(14, 0, 4),)),
    t.Float("double", 8),
    t.DeclTag("tag", 4, 1),
    t.TypeTag("user", 1),
    t.Enum64("wide", 8, (t.Enumerator("WIDE", 1 << 40),)),
    t.Enum("unsigned", 4, (t.Enumerator("TOP", 0xFFFFFFFF),)),
    t.Enum64("negative", 8, (t.Enumerator("LOW", -5),), signed=True),
]


@pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])
def test_every_kind(order: str) -> None:
    btf = Btf(every_kind(order).build())
    assert btf.endian == ("little" if order == "<" else "big")
    assert list(btf) == EVERY_KIND
    assert [btf[type_id] for type_id in range(len(btf))] == EVERY_KIND
    assert {btf.kind(type_id) for type_id in range(len(btf))} == set(Kind)
    assert [btf.name(type_id) for type_id in range(len(btf))] == [item.name for item in EVERY_KIND]
    assert {type(item) for item in EVERY_KIND} == set(t.KIND_OF)


@pytest.mark.parametrize("name", kernel_btfs.EXAMPLES[:1])
def test_a_kernel_is_read_as_bpftool_reads_it(name: str, tmp_path: Path) -> None:
    path = tmp_path / "kernel.btf"
    path.write_bytes(kernel_btfs.read(name))
    command = [needs.tool("bpftool"), "--json", "btf", "dump", "file", str(path)]
    dumped = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["types"]
    btf = Btf(path.read_bytes(), source=name)
    assert len(btf) == len(dumped) + 1
    for theirs in dumped[:: 1 if kernel_btfs.FULL else 37]:
        _same(btf[theirs["id"]], theirs)


def _same(ours: t.Type, theirs: dict[str, Any]) -> None:
    """Compare a type with bpftool's JSON of it."""
    assert t.KIND_OF[type(ours)].name == theirs["kind"]
    assert (ours.name or "(anon)") == theirs["name"]
    match ours:
        case t.Int():
            assert (ours.size, ours.bit_offset, ours.bits) == (theirs["size"], theirs["bits_offset"], theirs["nr_bits"])
        case t.Ptr() | t.Typedef() | t.Const() | t.Volatile() | t.Restrict() | t.Func() | t.TypeTag():
            assert ours.type_id == theirs["type_id"]
        case t.Array():
            expected = (theirs["type_id"], theirs["index_type_id"], theirs["nr_elems"])
            assert (ours.type_id, ours.index_type_id, ours.length) == expected
        case t.Struct() | t.Union():
            assert ours.size == theirs["size"]
            members = [
                {"name": member.name or "(anon)", "type_id": member.type_id, "bits_offset": member.bit_offset}
                | ({"bitfield_size": member.bits} if member.bits else {})
                for member in ours.members
            ]
            assert members == theirs["members"]
        case t.Enum() | t.Enum64():
            # bpftool 7.1 sign-extends the unsigned ones, too; an ENUM may have 8 bytes, but its values have 32 bits
            mask = (1 << (64 if isinstance(ours, t.Enum64) else 32)) - 1
            assert [(value.name, value.value & mask) for value in ours.values] == [
                (value["name"], value["val"] & mask) for value in theirs["values"]
            ]
        case t.FuncProto():
            params = [{"name": param.name or "(anon)", "type_id": param.type_id} for param in ours.params]
            assert (ours.return_type_id, params) == (theirs["ret_type_id"], theirs["params"])
        case _:
            pass


# --- names


def test_find_by_name_and_kind() -> None:
    btf = RawBtf()
    number = btf.integer("thing")
    struct_ = btf.struct("thing", 4)
    btf.struct("something", 4)
    btf.struct("thing_else", 4)
    read = Btf(btf.build())
    assert read.find("thing") == [number, struct_]
    assert read.find("thing", Kind.STRUCT) == [struct_]
    assert read.find("thing", Kind.STRUCT, Kind.INT) == [number, struct_]
    assert read.find("thin") == read.find("hing") == read.find("") == []


def test_a_name_may_be_the_tail_of_another_string() -> None:
    btf = RawBtf()
    offset = btf.string("something")
    btf.struct("something", 4)
    data = bytearray(btf.build())
    struct.pack_into("<I", data, 24, offset + len("some"))
    assert Btf(bytes(data)).find("thing") == [1]
    assert Btf(bytes(data)).find("something") == []


def test_find_agrees_with_a_plain_search_over_a_kernel() -> None:
    btf = Btf(kernel_btfs.read(kernel_btfs.EXAMPLES[0]))
    names: dict[str, list[int]] = {}
    for type_id in range(1, len(btf)):
        names.setdefault(btf.name(type_id), []).append(type_id)
    for name in ["task_struct", "list_head", "int", "u8", "sock", "bpf_func_id", "no_such_type", *sorted(names)[::997]]:
        assert btf.find(name) == (names.get(name, []) if name else [])


@pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])
def test_enumerators_by_their_prefix(order: str) -> None:
    btf = Btf(every_kind(order).build())
    enums = {found.name: type_id for type_id, found in enumerate(btf) if isinstance(found, (t.Enum, t.Enum64))}
    asked = {"e": "LO", "wide": "W", "unsigned": "TOP", "negative": "LOW"}
    assert {name: btf.enum_values(enums[name], prefix) for name, prefix in asked.items()} == {
        "e": [-1], "wide": [1 << 40], "unsigned": [0xFFFFFFFF], "negative": [-5]
    }  # fmt: skip
    assert [btf.enum_values(type_id, "TOPMOST") for type_id in enums.values()] == [[], [], [], []]
    assert btf.enum_values(enums["e"], "") == [-1, 7]
    assert btf.enum_values(btf.find("s")[0], "") == []


def test_helpers_of_a_kernel_by_their_prefix() -> None:
    btf = Btf(kernel_btfs.read(kernel_btfs.EXAMPLES[0]))
    (type_id,) = btf.find("bpf_func_id")
    found = btf[type_id]
    assert isinstance(found, t.Enum)
    helpers = [one.value for one in found.values if one.name != "__BPF_FUNC_MAX_ID"]
    assert btf.enum_values(type_id, "BPF_FUNC_") == helpers == list(range(len(helpers)))


def test_whether_a_name_is_among_others() -> None:
    btf = Btf(every_kind().build())
    members = btf.entry_names(btf.find("s")[0])
    assert [name for name in ("a", "b", "c", "", "ab") if btf.is_among(name, members)] == ["a", "b"]
    assert btf.is_among("", btf.entry_names(btf.find("u")[0]))


def test_flavors() -> None:
    btf = RawBtf()
    for name in ("thing", "thing___a", "thing___b___c", "thin___g", "thing__x"):
        btf.struct(name, 4)
    assert Btf(btf.build()).flavors("thing") == ["thing___a", "thing___b___c"]


def test_bytes_that_are_not_utf8_survive() -> None:
    btf = RawBtf()
    btf.struct("caf?", 4)
    read = Btf(btf.build().replace(b"caf?", b"caf\xe9"))
    assert read.name(1).encode("utf-8", "surrogateescape") == b"caf\xe9"
    assert read.find(read.name(1)) == [1]


# --- sizes and chains


def test_sizes() -> None:
    btf = RawBtf()
    number = btf.integer("long", 8)
    pointer = btf.ptr(number)
    table = btf.array(btf.typedef("td", pointer), 3)
    nested = btf.array(table, 2)
    read = Btf(btf.build())
    assert [read.size_of(item) for item in (number, pointer, table, nested)] == [8, 8, 24, 48]
    assert read.resolve(3) == (pointer, t.Ptr(number))


@pytest.mark.parametrize(("size", "pointer_size"), [(4, 4), (8, 8), (2, 8)])
def test_pointers_are_as_wide_as_long(size: int, pointer_size: int) -> None:
    btf = RawBtf()
    btf.integer("long unsigned int", size)
    assert Btf(btf.build()).pointer_size == pointer_size
    assert Btf(RawBtf().build()).pointer_size == 8


def test_what_has_no_size() -> None:
    btf = RawBtf()
    forward = btf.fwd("f")
    loop = btf.typedef("loop", 2)
    endless = btf.array(3, 1)
    huge = btf.array(btf.struct("huge", 0xFFFFFFFF), 2)
    read = Btf(btf.build(), source="kernel")
    for type_id in (0, forward, loop, endless, huge, 99):
        with pytest.raises(BtfError, match="kernel: "):
            read.size_of(type_id)
    with pytest.raises(BtfError, match="loop of typedefs"):
        read.resolve(loop)


# --- headers and sections


def test_a_header_of_32_bytes_has_a_layout_section() -> None:
    """Linux 7.1: info_sz, elem_sz and flags of each kind. The types are read as ever."""
    layout = struct.pack("<BBH", 4, 0, 0) * 20
    btf = Btf(every_kind().build(layout=layout))
    assert list(btf) == EVERY_KIND
    assert (btf.header.type_start, btf.data[btf.header.str_end :]) == (32, layout)


def test_a_longer_header_still() -> None:
    assert list(Btf(every_kind().build(layout=b"\0" * 4, tail=b"unknown!"))) == EVERY_KIND


def test_more_than_65535_members() -> None:
    """Linux 7.1 gave vlen 24 bits instead of 16."""
    btf = RawBtf()
    number = btf.integer()
    many = [(f"m{index}", number, 32 * index) for index in range(70_000)]
    btf.struct("many", 4 * len(many), *many)
    read = Btf(btf.build())
    assert len(read) == 3
    found = read[2]
    assert isinstance(found, t.Struct)
    assert len(found.members) == 70_000


# --- what is not BTF


def _header(**changes: int) -> bytes:
    fields = {"magic": 0xEB9F, "version": 1, "flags": 0, "size": 24, "type_off": 0, "type_len": 12} | changes
    fields = {"str_off": 12, "str_len": 1} | fields
    order = ("magic", "version", "flags", "size", "type_off", "type_len", "str_off", "str_len")
    return struct.pack("<HBBI4I", *(fields[key] for key in order)) + struct.pack("<III", 0, Kind.PTR << 24, 0) + b"\0"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "0 bytes cannot be BTF"),
        (b"\x7fELF" + bytes(60), "not BTF: it starts with 7f 45 4c 46"),
        (_header(version=2), "BTF version 2 is not known"),
        (_header(size=16), "a header of 16 bytes does not fit"),
        (_header(size=999), "a header of 999 bytes does not fit"),
        (_header(type_len=0x1000), "the type section ends at byte 4120 of 37"),
        (_header(str_len=2), "the string section ends at byte 38 of 37"),
        (_header(type_len=11), "not a whole number of 32-bit words"),
        (_header(type_len=8), "type 0 is cut off|type 1 is cut off"),
        (_header(str_len=0), "the string section is empty"),
        (_header(str_off=7), "does not start and end with a NUL"),
    ],
)
def test_it_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(BtfError, match=f"^kernel: .*({message})"):
        Btf(data, source="kernel")


def test_an_unknown_kind_and_a_huge_vlen() -> None:
    btf = RawBtf()
    btf.add(20, "new")
    with pytest.raises(BtfError, match="type 1 has kind 20, which is not known"):
        Btf(btf.build())
    btf = RawBtf()
    btf.add(Kind.STRUCT, "huge", vlen=0xFFFF)
    with pytest.raises(BtfError, match="type 1 is cut off"):
        Btf(btf.build())


def test_references_to_nowhere() -> None:
    btf = RawBtf()
    btf.typedef("td", 77)
    read = Btf(btf.build(), source="kernel")
    with pytest.raises(BtfError, match="kernel: there is no type 77; the last is 1"):
        read.resolve(1)
    with pytest.raises(BtfError, match="string offset 500 is beyond"):
        read.string(500)
    with pytest.raises(BtfError, match="there is no type -1"):
        read[-1]


_VALID = every_kind().build()


@settings(max_examples=3000 if kernel_btfs.FULL else 300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(_VALID) - 1), st.integers(0, 255)), min_size=1, max_size=6), st.booleans())
def test_damage_ends_in_btf_error(changes: list[tuple[int, int]], is_short: bool) -> None:
    data = bytearray(_VALID)
    for position, value in changes:
        data[position] = value
    if is_short:
        del data[changes[0][0] :]
    try:
        btf = Btf(bytes(data))
    except BtfError:
        return
    for type_id in range(len(btf)):
        for use in (btf.__getitem__, btf.size_of, btf.resolve, btf.name):
            try:
                use(type_id)
            except BtfError:
                pass
    btf.find("int")
    btf.flavors("int")
