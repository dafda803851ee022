"""What is known of values: arithmetic on constants, on what is fixed at load, on pointers."""

from __future__ import annotations

import pytest

from hatch_bpf.objects.insns import AluOp, Class, Insn, JmpOp, Mode
from hatch_bpf.verifier import walk as walking
from hatch_bpf.verifier.abilities import Verifier
from hatch_bpf.verifier.values import Settable, truncate
from tests.verifier.programs import (
    AT_2,
    CFG,
    DATA,
    DW,
    EXIT,
    HAZARD,
    RANDOM,
    SKIP_HAZARD,
    W,
    alu,
    alu_reg,
    call,
    is_reached,
    jump,
    load,
    mov,
    mov_reg,
    program,
    store,
    walk,
)


def test_32_bits_are_zero_extended() -> None:
    minus_one = alu(AluOp.MOV, 1, -1, Class.ALU)
    assert is_reached(minus_one, jump(JmpOp.JEQ, 1, -1, 1), *SKIP_HAZARD)
    assert not is_reached(minus_one, jump(JmpOp.JEQ, 1, -1, 1, Class.JMP32), *SKIP_HAZARD)
    assert not is_reached(minus_one, alu(AluOp.RSH, 1, 31), jump(JmpOp.JEQ, 1, 1, 1), *SKIP_HAZARD)


@pytest.mark.parametrize(
    ("op", "imm", "result"),
    [
        (AluOp.ADD, 3, 9),
        (AluOp.SUB, 7, -1),
        (AluOp.MUL, 3, 18),
        (AluOp.AND, 4, 4),
        (AluOp.OR, 1, 7),
        (AluOp.XOR, 2, 4),
        (AluOp.LSH, 2, 24),
        (AluOp.RSH, 1, 3),
        (AluOp.ARSH, 1, 3),
    ],
)
def test_arithmetic_on_constants(op: AluOp, imm: int, result: int) -> None:
    assert not is_reached(mov(1, 6), alu(op, 1, imm), jump(JmpOp.JEQ, 1, result, 1), *SKIP_HAZARD)
    assert is_reached(mov(1, 6), alu(op, 1, imm), jump(JmpOp.JEQ, 1, result + 1, 1), *SKIP_HAZARD)


@pytest.mark.parametrize("op", [AluOp.DIV, AluOp.MOD, AluOp.NEG, AluOp.END])
def test_arithmetic_that_verifiers_give_up_on(op: AluOp) -> None:
    imm = {AluOp.END: 64, AluOp.NEG: 0}.get(op, 1)
    cls = Class.ALU if op is AluOp.END else Class.ALU64
    for value in range(-6, 7, 6):
        assert is_reached(mov(1, value), alu(op, 1, imm, cls), jump(JmpOp.JEQ, 1, value, 1), *SKIP_HAZARD)


def test_exclusive_or_depends_on_the_verifier() -> None:
    negated = (mov(1, 1), alu(AluOp.XOR, 1, 1), jump(JmpOp.JEQ, 1, 0, 1), *SKIP_HAZARD)
    assert not is_reached(*negated)
    assert is_reached(*negated, verifier=Verifier(follows_xor=False))


def test_arithmetic_shifts_depend_on_the_verifier() -> None:
    shifted = (mov(1, -4), alu(AluOp.ARSH, 1, 1), jump(JmpOp.JEQ, 1, -2, 1), *SKIP_HAZARD)
    assert not is_reached(*shifted)
    assert is_reached(*shifted, verifier=Verifier(follows_arithmetic_shifts=False))


def test_moves_and_loads_that_extend_the_sign() -> None:
    for bits, value, extended in ((8, 0xFF, -1), (16, 0x8000, -0x8000), (32, 0x7F, 0x7F)):
        move = (mov(1, value), Insn(Class.ALU64 | AluOp.MOV | 8, 2, 1, bits, 0))
        assert not is_reached(*move, jump(JmpOp.JEQ, 2, extended, 1), *SKIP_HAZARD)
        assert is_reached(*move, jump(JmpOp.JEQ, 2, extended + 1, 1), *SKIP_HAZARD)
    narrow = (mov(1, 0xFF), Insn(Class.ALU | AluOp.MOV | 8, 2, 1, 8, 0), alu(AluOp.RSH, 2, 31))
    assert not is_reached(*narrow, jump(JmpOp.JEQ, 2, 1, 1), *SKIP_HAZARD)
    for value in (-1, 0x7F):
        spill = (alu(AluOp.MOV, 1, value, Class.ALU), store(W, -8, 1), Insn(Class.LDX | Mode.MEMSX | W, 2, 10, -8, 0))
        assert not is_reached(*spill, jump(JmpOp.JEQ, 2, value, 1), *SKIP_HAZARD)


def test_shifts_by_more_than_a_register_has_are_not_known() -> None:
    for cls, bits in ((Class.ALU64, 64), (Class.ALU, 32)):
        for op in (AluOp.LSH, AluOp.RSH, AluOp.ARSH):
            shift = (mov(1, 1), mov(2, bits), alu_reg(op, 1, 2, cls))
            assert is_reached(*shift, jump(JmpOp.JEQ, 1, 0, 1), *SKIP_HAZARD)
            assert is_reached(*shift, jump(JmpOp.JEQ, 1, 1, 1), *SKIP_HAZARD)


def test_a_number_plus_a_pointer_is_a_pointer() -> None:
    spill = (mov(6, 1), store(DW, -8, 6), mov(1, -8), alu_reg(AluOp.ADD, 1, 10))
    write = (Insn(Class.STX | Mode.MEM | DW, 1, 10, 0, 0), load(DW, 3, -8))
    assert is_reached(*spill, *write, jump(JmpOp.JEQ, 3, 1, 1), *SKIP_HAZARD)
    elsewhere = (Insn(Class.STX | Mode.MEM | DW, 1, 10, -8, 0), load(DW, 3, -8))
    assert not is_reached(*spill, *elsewhere, jump(JmpOp.JEQ, 3, 1, 1), *SKIP_HAZARD)


def test_the_distance_of_two_pointers_is_not_known() -> None:
    distance = (mov_reg(1, 10), alu(AluOp.ADD, 1, -8), mov_reg(2, 10), alu_reg(AluOp.SUB, 2, 1))
    assert is_reached(*distance, jump(JmpOp.JEQ, 2, 8, 1), *SKIP_HAZARD)


@pytest.mark.parametrize(
    ("op", "imm", "verdict"),
    [
        (JmpOp.JLT, 100, "hazard"),  # all values are 100 or more
        (JmpOp.JLT, 121, "none"),
        (JmpOp.JLT, 110, "condition"),
        (JmpOp.JGE, 100, "none"),
        (JmpOp.JGE, 121, "hazard"),
        (JmpOp.JSGE, 100, "none"),
        (JmpOp.JGT, 120, "hazard"),
        (JmpOp.JEQ, 99, "hazard"),
        (JmpOp.JEQ, 105, "condition"),
        (JmpOp.JNE, 99, "none"),
    ],
)
@pytest.mark.parametrize("extended", [False, True])
def test_bounds_of_what_is_fixed_at_load(op: JmpOp, imm: int, verdict: str, extended: bool) -> None:
    """As for LINUX_KERNEL_VERSION where the patch level isn't known; clang zero-extends by two shifts."""
    shifts = (alu(AluOp.LSH, 1, 32), alu(AluOp.RSH, 1, 32)) if extended else ()
    linked = program(*DATA, load(W, 1, 0, 2), *shifts, jump(op, 1, imm, 1), *SKIP_HAZARD, EXIT, references=AT_2)
    reach = walk(linked, data=Settable(frozenset({"v"}), 100, 120))
    found = "hazard" if reach.certain else "condition" if reach.hazards else "none"
    assert found == verdict


def test_a_single_value_that_is_left_decides() -> None:
    """As of LINUX_KERNEL_VERSION >> 8, whatever the patch level is."""
    for op, taken in ((JmpOp.JEQ, True), (JmpOp.JNE, False), (JmpOp.JLE, True), (JmpOp.JGT, False)):
        code = (*DATA, load(W, 1, 0, 2), alu(AluOp.RSH, 1, 8), jump(op, 1, 6, 1), *SKIP_HAZARD, EXIT)
        reach = walk(program(*code, references=AT_2), data=Settable(frozenset({"v"}), 0x600, 0x6FF))
        assert (reach.certain, bool(reach.hazards)) == (not taken, not taken)


@pytest.mark.parametrize(
    ("step", "op", "imm", "verdict"),
    [
        (alu(AluOp.ADD, 1, 50), JmpOp.JLE, 149, "hazard"),
        (alu(AluOp.ADD, 1, 50), JmpOp.JLE, 170, "none"),
        (alu(AluOp.ADD, 1, 50), JmpOp.JLE, 160, "condition"),
        (alu(AluOp.ADD, 1, -101), JmpOp.JGT, 20, "condition"),  # below 0 for the least of them
        (alu(AluOp.MOV, 2, 0), JmpOp.JSET, 0, "hazard"),
        (alu(AluOp.MOV, 2, 0), JmpOp.JSET, 4, "condition"),
        (Insn(Class.ALU64 | AluOp.MOV | 8, 1, 1, 8, 0), JmpOp.JGE, 100, "none"),
        (Insn(Class.ALU64 | AluOp.MOV | 8, 1, 1, 8, 0), JmpOp.JGE, 121, "hazard"),
        (alu(AluOp.MUL, 1, 3), JmpOp.JEQ, 1, "condition"),
    ],
)
def test_bounds_after_arithmetic(step: Insn, op: JmpOp, imm: int, verdict: str) -> None:
    linked = program(*DATA, load(W, 1, 0, 2), step, jump(op, 1, imm, 1), *SKIP_HAZARD, EXIT, references=AT_2)
    reach = walk(linked, data=Settable(frozenset({"v"}), 100, 120))
    assert ("hazard" if reach.certain else "condition" if reach.hazards else "none") == verdict


@pytest.mark.parametrize("bits", [8, 16, 32])
def test_bounds_that_have_a_sign_bit_are_lost_when_it_is_extended(bits: int) -> None:
    """-1 is among the values, though no unsigned bound says so."""
    move = Insn(Class.ALU64 | AluOp.MOV | 8, 1, 1, bits, 0)
    linked = program(*DATA, load(DW, 1, 0, 2), move, jump(JmpOp.JEQ, 1, -1, 1), *SKIP_HAZARD, EXIT, references=AT_2)
    assert walk(linked, data=Settable(frozenset({"v"}), 0, (1 << bits) - 1)).hazards[5].conditions == {"v"}


def test_an_arithmetic_shift_of_32_bits_keeps_their_sign() -> None:
    """`cfg >> 31 == -1` of an int that the application sets."""
    shift = alu(AluOp.ARSH, 1, 31, Class.ALU)
    minus_one = jump(JmpOp.JNE, 1, -1, 1, Class.JMP32)
    linked = program(*DATA, load(W, 1, 0, 2), shift, minus_one, HAZARD, mov(0, 0), EXIT, references=AT_2)
    assert walk(linked, data=truncate(CFG, 4)).hazards[5].conditions == {"cfg"}
    assert walk(linked, data=Settable(frozenset({"cfg"}), 0, 0x7FFFFFFF)).hazards == {}


def test_of_joined_values_no_more_is_known_than_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walking, "MAX_STATES", 0)
    code = program(
        *DATA,
        load(W, 6, 0, 2),
        load(W, 7, 4, 2),
        call(RANDOM),
        jump(JmpOp.JEQ, 0, 5, 1),
        mov_reg(6, 7),
        jump(JmpOp.JEQ, 6, 1, 1),
        *SKIP_HAZARD,
        EXIT,
        references=AT_2,
    )
    both = {0: Settable(frozenset({"a"}), 0, 0), 4: Settable(frozenset({"b"}), 1, 1)}
    reach = walk(code, data=both)
    assert reach.hazards[8].conditions == {"a", "b"}
    assert not reach.certain


def test_a_mask_that_is_fixed_at_load_decides_where_it_is_0() -> None:
    code = (
        *DATA,
        load(W, 6, 0, 2),
        call(RANDOM),
        alu_reg(AluOp.AND, 0, 6),
        jump(JmpOp.JEQ, 0, 0, 1),
        *SKIP_HAZARD,
        EXIT,
    )
    assert walk(program(*code, references=AT_2), data=CFG).hazards[6].conditions == {"cfg"}
    assert walk(program(*code, references=AT_2), data=0).hazards == {}
    assert walk(program(*code, references=AT_2), data=1).certain
