"""Relocated instructions, form by form."""

from __future__ import annotations

import struct

import pytest

from hatch_bpf.btf.ext import CoreRelo
from hatch_bpf.btf.ext import CoreReloKind as K
from hatch_bpf.btf.reader import Btf
from hatch_bpf.core_relo.patch import patch_insn
from hatch_bpf.core_relo.resolve import Matcher, Resolution
from hatch_bpf.errors import RelocationError
from tests.common.btf_builder import EXIT, RawBtf
from tests.core_relo.relocations import resolve_alone

_POISON = struct.pack("<BBhi", 0x85, 0, 0, 195896080)


def _offset_resolution(order: str = "<", *, target_offset: int = 5) -> Resolution:
    local, target = RawBtf(order), RawBtf(order)
    found = local.struct("thing", 8, ("a", local.integer(), 32))
    target.struct("thing", 8, ("a", target.integer(), 8 * target_offset))
    return resolve_alone(
        Matcher(Btf(target.build())), Btf(local.build()), CoreRelo(0, found, "0:0", K.FIELD_BYTE_OFFSET)
    )


@pytest.mark.parametrize("order", ["<", ">"])
def test_each_form_of_instruction_is_patched(order: str) -> None:
    resolution = _offset_resolution(order)
    for before, after in (
        (("BBhi", 0xB7, 1, 0, 4), ("BBhi", 0xB7, 1, 0, 5)),
        (("BBhi", 0x04, 1, 0, 4), ("BBhi", 0x04, 1, 0, 5)),
        (("BBhi", 0x61, 0x21, 4, 0), ("BBhi", 0x61, 0x21, 5, 0)),
        (("BBhi", 0x63, 0x21, 4, 0), ("BBhi", 0x63, 0x21, 5, 0)),
        (("BBhi", 0x62, 0x01, 4, 9), ("BBhi", 0x62, 0x01, 5, 9)),
        (("BBhIBBhI", 0x18, 0x01 if order == "<" else 0x10, 0, 4, 0, 0, 0, 0),) * 1
        + (("BBhIBBhI", 0x18, 0x01 if order == "<" else 0x10, 0, 5, 0, 0, 0, 0),),
    ):
        code = struct.pack(order + before[0], *before[1:])
        assert patch_insn(EXIT + code, 8, resolution) == EXIT + struct.pack(order + after[0], *after[1:])


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (struct.pack("<BBhi", 0xB7, 1, 0, 3), "holds 3 where 4 was expected"),
        (struct.pack("<BBhi", 0x61, 1, -4, 0), "has offset -4 where 4 was expected"),
        (struct.pack("<BBhIBBhI", 0x18, 1, 0, 4, 0, 0, 0, 1), "holds 4294967300 where 4 was expected"),
        (struct.pack("<BBhIBBhI", 0x18, 0x11, 0, 4, 0, 0, 0, 0), "not a plain 64-bit load"),
        (struct.pack("<BBhI", 0x18, 1, 0, 4), "half a 64-bit load"),
        (struct.pack("<BBhi", 0xBF, 1, 0, 4), "takes its operand from a register"),
        (struct.pack("<BBhi", 0x85, 0, 0, 4), "of a class that cannot be relocated"),
        (b"", "there is no instruction at byte 0"),
    ],
)
def test_an_instruction_that_does_not_fit_its_record(code: bytes, message: str) -> None:
    with pytest.raises(RelocationError, match=message):
        patch_insn(code, 0, _offset_resolution())


@pytest.mark.parametrize(
    ("code", "size", "message"),
    [
        (0x79, 2, "accesses 8 bytes of a field of 4, so it cannot be changed to one of 2"),
        (0x61, 16, "cannot access 16 bytes at once"),
    ],
)
def test_a_width_that_no_load_can_be_given(code: int, size: int, message: str) -> None:
    local, target = RawBtf(), RawBtf()
    found = local.struct("thing", 16, ("a", local.integer(signed=False), 32))
    target.struct("thing", 16, ("a", target.integer("int", size, signed=False), 32))
    record = CoreRelo(0, found, "0:0", K.FIELD_BYTE_OFFSET)
    resolution = resolve_alone(Matcher(Btf(target.build())), Btf(local.build()), record)
    with pytest.raises(RelocationError, match=message):
        patch_insn(struct.pack("<BBhi", code, 0x12, 4, 0), 0, resolution)


def test_an_offset_too_large_for_a_load() -> None:
    load = struct.pack("<BBhi", 0x61, 1, 4, 0)
    with pytest.raises(RelocationError, match="does not fit 16 bits"):
        patch_insn(load, 0, _offset_resolution(target_offset=40_000))


def test_poisoning_takes_both_halves_of_a_64_bit_load() -> None:
    local = RawBtf()
    found = local.struct("gone", 8, ("a", local.integer(), 0))
    resolution = resolve_alone(
        Matcher(Btf(RawBtf().build())), Btf(local.build()), CoreRelo(0, found, "0:0", K.FIELD_BYTE_OFFSET)
    )
    assert patch_insn(struct.pack("<BBhIQ", 0x18, 1, 0, 0, 0) + EXIT, 0, resolution) == _POISON * 2 + EXIT
    assert patch_insn(struct.pack("<BBhI", 0xBF, 1, 0, 0), 0, resolution) == _POISON
