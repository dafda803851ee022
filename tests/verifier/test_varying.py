"""Numbers that vary, compared with calculating each single one of them."""

from __future__ import annotations

from itertools import product

import pytest

from hatch_bpf.objects.insns import AluOp, JmpOp
from hatch_bpf.verifier.values import U64, alu
from hatch_bpf.verifier.varying import SWAPPED, Varying, lowest_bytes, narrowed, rules_out, subtract_from, with_sign

RANGES = [
    Varying((1,), 0, 0xFF),
    Varying((1,), 0, 7),
    Varying((1,), 5, 9),
    Varying((1,), 8, 40, 8),
    Varying((1,), 0xFFFF_FFF0, 0x1_0000_0010),
    Varying((1,), U64 - 9, U64),
]
OPERANDS = [0, 1, 2, 3, 4, 6, 7, 8, 12, 15, 31, 32, 63, 0xFF, 0xFFFF_FFFF, U64 - 4, U64]
OPERATORS = [*(op for op in AluOp if op not in (AluOp.MOV, AluOp.END, AluOp.NEG))]
COMPARISONS = [op for op in JmpOp if op in SWAPPED]


def members(value: Varying) -> set[int]:
    return set(range(value.low, value.high + 1, value.step))


def calculated(op: AluOp, value: int, operand: int, bits: int) -> int:
    if op in (AluOp.DIV, AluOp.MOD):  # of which verifiers know nothing
        value, operand = value % (1 << bits), operand % (1 << bits)
        return value // operand if op == AluOp.DIV else value % operand
    found = alu(op, value, operand, bits=bits)
    assert isinstance(found, int)
    return found


def signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value


def holds(op: JmpOp, value: int, operand: int, bits: int) -> bool:
    value, operand = value % (1 << bits), operand % (1 << bits)
    if op in (JmpOp.JSGT, JmpOp.JSGE, JmpOp.JSLT, JmpOp.JSLE):
        value, operand = signed(value, bits), signed(operand, bits)
    match op:
        case JmpOp.JEQ:
            return value == operand
        case JmpOp.JNE:
            return value != operand
        case JmpOp.JSET:
            return bool(value & operand)
        case JmpOp.JGT | JmpOp.JSGT:
            return value > operand
        case JmpOp.JGE | JmpOp.JSGE:
            return value >= operand
        case JmpOp.JLT | JmpOp.JSLT:
            return value < operand
        case _:
            return value <= operand


@pytest.mark.parametrize("op", OPERATORS)
@pytest.mark.parametrize("bits", [32, 64])
def test_results_are_possible(op: AluOp, bits: int) -> None:
    known = 0
    for value, operand in product(RANGES, OPERANDS):
        narrow = operand % (1 << bits)
        if (op in (AluOp.LSH, AluOp.RSH, AluOp.ARSH) and narrow >= bits) or (
            op in (AluOp.DIV, AluOp.MOD) and not narrow
        ):
            continue
        found = alu(op, value, operand, bits=bits, slot=2)
        possible = {calculated(op, member, operand, bits) for member in members(value)}
        if isinstance(found, Varying):
            known += 1
            assert members(found) <= possible, (value, operand, found)
            assert len(members(found)) > 1
        elif found is not None:
            assert {found} == possible
    assert known > 10


def test_what_most_programs_do_loses_nothing() -> None:
    byte = Varying((1,), 0, 0xFF)
    exact = [(AluOp.AND, 7), (AluOp.AND, 0xF0), (AluOp.RSH, 4), (AluOp.LSH, 2), (AluOp.ADD, 14), (AluOp.SUB, 0)]
    for op, operand in exact:
        found = alu(op, byte, operand, bits=64, slot=2)
        assert isinstance(found, Varying)
        assert members(found) == {calculated(op, member, operand, 64) for member in members(byte)}


def test_shifts_keep_a_range() -> None:
    found = alu(AluOp.LSH, Varying((1,), 0, U64), 32, bits=64, slot=2)
    assert found == Varying((1, 2), 0, 0xFFFF_FFFF << 32, 1 << 32)
    header = alu(AluOp.LSH, Varying((1,), 0, 0xFF), 2, bits=64, slot=2)
    assert alu(AluOp.AND, header, 60, bits=64, slot=3) == Varying((1, 2, 3), 0, 60, 4)
    assert alu(AluOp.RSH, Varying((1,), 0, 0xFFFF_FFFF), 31, bits=64, slot=2) == Varying((1, 2), 0, 1)


def test_a_number_from_which_one_is_subtracted() -> None:
    for value in RANGES:
        found = subtract_from(0xFFFF_FFFF_FFFF, value, 2, 64)
        if value.high < 0xFFFF_FFFF_FFFF:
            assert found is not None
            assert members(found) == {0xFFFF_FFFF_FFFF - member for member in members(value)}
        else:
            assert found is None


def test_parts_and_signs_are_possible() -> None:
    for value, size in product(RANGES, (1, 2, 4)):
        part, extended = lowest_bytes(value, size), with_sign(value, size)
        cut = {member % (1 << 8 * size) for member in members(value)}
        assert part is None or members(part) <= cut
        assert extended is None or members(extended) <= {signed(one, 8 * size) % (1 << 64) for one in cut}


def test_a_mask_of_nothing_leaves_0() -> None:
    assert alu(AluOp.AND, RANGES[0], 0, bits=64) == 0
    assert alu(AluOp.AND, 0, RANGES[0], bits=64) == 0


def test_the_rest_is_not_known() -> None:
    one, other = RANGES[0], Varying((2,), 0, 7)
    assert alu(AluOp.ADD, one, other, bits=64) is None
    assert alu(AluOp.ADD, one, None, bits=64) is None
    for _ in range(20):
        found = alu(AluOp.ADD, one, 1, bits=64, slot=2)
        if not isinstance(found, Varying):
            break
        one = found
    else:
        pytest.fail("a loop is followed for ever")


@pytest.mark.parametrize("op", COMPARISONS)
@pytest.mark.parametrize("bits", [32, 64])
def test_what_a_comparison_leaves_is_possible(op: JmpOp, bits: int) -> None:
    for value, operand, is_true in product(RANGES, OPERANDS, (True, False)):
        kept = {member for member in members(value) if holds(op, member, operand, bits) == is_true}
        found = narrowed(value, op, operand, is_true=is_true, bits=bits)
        if found is not None:
            assert found.trace == value.trace
            assert members(found) <= kept, (value, operand, is_true)
        if rules_out(value, op, operand, is_true=is_true, bits=bits):
            assert not kept, (value, operand, is_true)


def test_bounds_are_exact() -> None:
    byte = Varying((1,), 0, 0xFF)
    assert narrowed(byte, JmpOp.JGT, 15, is_true=False, bits=64) == Varying((1,), 0, 15)
    assert narrowed(byte, JmpOp.JSGT, 15, is_true=True, bits=64) == Varying((1,), 16, 0xFF)
    assert narrowed(Varying((1,), 0, U64), JmpOp.JSLT, 0, is_true=True, bits=64) == Varying((1,), 1 << 63, U64)
    assert narrowed(byte, JmpOp.JEQ, 15, is_true=True, bits=64) is None
    assert not rules_out(byte, JmpOp.JEQ, 15, is_true=True, bits=64)
    assert rules_out(byte, JmpOp.JEQ, 0x100, is_true=True, bits=64)


def test_operands_exchanged() -> None:
    for op, value, operand in product(COMPARISONS, (0, 1, 7, U64), (0, 1, 7, U64)):
        assert holds(op, value, operand, 64) == holds(SWAPPED[op], operand, value, 64)
