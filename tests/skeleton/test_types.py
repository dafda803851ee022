"""Declarations of types that clang does not always make: hand-built BTF in, declarations out."""

from __future__ import annotations

import pytest

from hatch_bpf.btf.reader import Btf
from hatch_bpf.errors import SkeletonError
from hatch_bpf.skeleton.names import Scope
from hatch_bpf.skeleton.types import EnumDecl, StructDecl, TypeDecls
from tests.common.btf_builder import RawBtf


def decls(raw: RawBtf) -> TypeDecls:
    return TypeDecls(Btf(raw.build()), Scope(), where="x.bpf.o")


def test_enum64() -> None:
    raw = RawBtf()
    wanted = raw.enum64("flags", HIGH=1 << 40, LOW=1, MIDDLE=1 << 20)
    types = decls(raw)
    assert types.codec(wanted).ctype == "_t.c_uint64"
    (declared,) = types.declared()
    assert isinstance(declared, EnumDecl)
    assert (declared.is_flag, declared.base) == (True, "_t.U64")
    assert declared.values == (("HIGH", 1 << 40), ("LOW", 1), ("MIDDLE", 1 << 20))


def test_signed_enums_keep_their_sign() -> None:
    raw = RawBtf()
    wanted = raw.enum("state", signed=True, GONE=-1, HERE=0)
    types = decls(raw)
    assert types.codec(wanted).ctype == "_t.c_int32"
    (declared,) = types.declared()
    assert isinstance(declared, EnumDecl)
    assert declared.values == (("GONE", -1), ("HERE", 0))
    assert not declared.is_flag


@pytest.mark.parametrize(
    ("size", "values", "declared_base", "declared"),
    [
        (4, {"GONE": 0xFFFFFFFF, "HERE": 5}, "_t.S32", (-1, 5)),
        (1, {"GONE": 0xFFFFFFFE, "HERE": 0x7F}, "_t.S8", (-2, 0x7F)),
        (4, {"HIGH": 1 << 31, "ALL": 0xFFFFFFFF}, "_t.U32", (1 << 31, 0xFFFFFFFF)),
        (1, {"HIGH": 0xFF, "LOW": 1}, "_t.U8", (0xFF, 1)),
    ],
)
def test_enums_of_compilers_that_tell_no_sign(
    size: int, values: dict[str, int], declared_base: str, declared: tuple[int, ...]
) -> None:
    raw = RawBtf()
    wanted = raw.enum("state", size, **values)
    types = decls(raw)
    types.codec(wanted)
    (found,) = types.declared()
    assert isinstance(found, EnumDecl)
    assert (found.base, tuple(value for _, value in found.values)) == (declared_base, declared)


def test_enums_of_compilers_that_tell_signs_are_as_they_say() -> None:
    raw = RawBtf()
    wanted, _ = raw.enum("mask", ALL=0xFFFFFFFF), raw.enum("state", signed=True, GONE=-1)
    types = decls(raw)
    assert types.codec(wanted).ctype == "_t.c_uint32"
    (declared,) = types.declared()
    assert isinstance(declared, EnumDecl)
    assert declared.values == (("ALL", 0xFFFFFFFF),)


def test_an_enum_whose_enumerators_were_cut_is_an_integer() -> None:
    raw = RawBtf()
    wanted = raw.enum("wide", 8, SMALL=1, HUGE=0x34567890)  # 0x1234567890 in the source
    types = decls(raw)
    assert types.codec(wanted).expression == "_t.U64"
    assert types.declared() == ()


def test_an_enum_without_enumerators_is_an_integer() -> None:
    raw = RawBtf()
    wanted = raw.enum("opaque")
    types = decls(raw)
    assert types.codec(wanted).expression == "_t.U32"
    assert types.declared() == ()


def test_an_enum_of_a_size_that_c_does_not_have_is_refused() -> None:
    raw = RawBtf()
    wanted = raw.enum("odd", 3, A=1)
    with pytest.raises(SkeletonError, match="enum odd has 3 bytes"):
        decls(raw).codec(wanted)


def test_the_same_enum_twice_is_declared_once() -> None:
    raw = RawBtf()
    one, other, another = raw.enum("e", A=1), raw.enum("e", A=1), raw.enum("e", A=2)
    types = decls(raw)
    assert types.codec(one) == types.codec(other) != types.codec(another)
    assert len(types.declared()) == 2


def test_a_bitfield_without_a_name_is_padding() -> None:
    raw = RawBtf()
    number = raw.integer()
    wanted = raw.struct("padded", 4, ("a", number, 0, 3), ("", number, 3, 5), ("b", number, 8, 3))
    types = decls(raw)
    types.codec(wanted)
    (declared,) = types.declared()
    assert isinstance(declared, StructDecl)
    assert [(member.c_name, "bit=8" in member.descriptor) for member in declared.members] == [("a", False), ("b", True)]


def test_bitfields_of_old_compilers_carry_their_width_in_the_integer() -> None:
    raw = RawBtf()
    narrow = raw.integer("int", 4, bits=3)
    wanted = raw.struct("old", 4, ("a", narrow, 0), ("b", narrow, 3))
    types = decls(raw)
    types.codec(wanted)
    (declared,) = types.declared()
    assert isinstance(declared, StructDecl)
    assert [member.descriptor for member in declared.members] == [
        '_t.Bits("_bits_0", bit=0, width=3, signed=True)',
        '_t.Bits("_bits_0", bit=3, width=3, signed=True)',
    ]
    assert declared.fields == (("_bits_0", "_t.c_uint8 * 1"), ("_pad_1", "_t.c_uint8 * 3"))


def test_two_types_of_one_name_get_two_names() -> None:
    raw = RawBtf()
    number = raw.integer()
    one = raw.struct("same", 4, ("a", number, 0))
    other = raw.struct("same", 8, ("a", number, 0), ("b", number, 32))
    types = decls(raw)
    assert [types.codec(wanted).python for wanted in (one, other, one)] == ["same", "same_", "same"]


def test_odd_floats_are_bytes() -> None:
    raw = RawBtf()
    wanted = raw.floating("long double", 16)
    assert decls(raw).codec(wanted).expression == "_t.Bytes(16)"


@pytest.mark.parametrize("kind", ["fwd", "func_proto"])
def test_what_has_no_value_is_refused(kind: str) -> None:
    raw = RawBtf()
    wanted = raw.fwd("later") if kind == "fwd" else raw.func_proto(0)
    with pytest.raises(SkeletonError, match=r"x\.bpf\.o: .* of which there can be no value"):
        decls(raw).codec(wanted)


@pytest.mark.parametrize(
    ("size", "offsets", "message"),
    [
        (8, (0, 16), "member b overlaps the one before it"),
        (4, (0, 32), "member b ends at byte 8 of 4"),
        (8, (0, 33), "starts at bit 33"),
    ],
)
def test_layouts_that_cannot_be_are_refused(size: int, offsets: tuple[int, int], message: str) -> None:
    raw = RawBtf()
    number = raw.integer()
    wanted = raw.struct("odd", size, ("a", number, offsets[0]), ("b", number, offsets[1]))
    with pytest.raises(SkeletonError, match=message):
        decls(raw).codec(wanted)


def test_types_of_absurd_size_are_refused() -> None:
    raw = RawBtf()
    wanted = raw.array(raw.array(raw.integer(), 1 << 31), 1 << 31)
    with pytest.raises(SkeletonError, match="is the most that is declared"):
        decls(raw).codec(wanted)


def test_an_array_that_contains_itself_is_refused() -> None:
    raw = RawBtf()
    raw.integer()
    loop = raw.array(2, 3)
    with pytest.raises(SkeletonError, match=r"x.bpf.o: array contains itself, or nests deeper than"):
        decls(raw).codec(loop)
