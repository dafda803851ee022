"""Walking programs as the verifier does: by hand-written instructions, and against the running kernel's verifier."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import cycle

import pytest

from hatch_bpf.btf.reader import Btf
from hatch_bpf.objects.insns import LOAD_ACQUIRE, STORE_RELEASE, AluOp, Class, Insn, JmpOp, Mode, decode
from hatch_bpf.objects.linked_program import LinkedProgram, Reference, RefersTo
from hatch_bpf.objects.model import Function
from hatch_bpf.objects.uapi import helper_name
from hatch_bpf.portability.kernel_features import KernelFeatures
from hatch_bpf.verifier import walk as walking
from hatch_bpf.verifier.abilities import Verifier
from hatch_bpf.verifier.code import Code, registers_of
from hatch_bpf.verifier.facts import Facts
from hatch_bpf.verifier.helper_memory import BUFFERS, READING_HELPERS
from hatch_bpf.verifier.reach import Reach
from hatch_bpf.verifier.values import NON_NULL, OPAQUE, Settable, Value, truncate
from hatch_bpf.verifier.walk import analyse
from tests.common import kernel_btfs, needs

NO_HELPER = 9999
"""A call that stands for whatever the verifier refuses."""
RANDOM = 7
"""bpf_get_prandom_u32()"""
TRACE_PRINTK = 6
"""bpf_trace_printk(format, size)"""
STRTOL = 105
"""bpf_strtol(text, size, flags, result)"""
DW, W, H, B = 0x18, 0x00, 0x08, 0x10


def mov(dst: int, imm: int) -> Insn:
    return Insn(Class.ALU64 | AluOp.MOV, dst, 0, 0, imm)


def mov_reg(dst: int, src: int) -> Insn:
    return Insn(Class.ALU64 | AluOp.MOV | 8, dst, src, 0, 0)


def alu(op: AluOp, dst: int, imm: int, cls: Class = Class.ALU64) -> Insn:
    return Insn(cls | op, dst, 0, 0, imm)


def alu_reg(op: AluOp, dst: int, src: int, cls: Class = Class.ALU64) -> Insn:
    return Insn(cls | op | 8, dst, src, 0, 0)


def jump(op: JmpOp, dst: int, imm: int, off: int, cls: Class = Class.JMP) -> Insn:
    return Insn(cls | op, dst, 0, off, imm)


def jump_reg(op: JmpOp, dst: int, src: int, off: int, cls: Class = Class.JMP) -> Insn:
    return Insn(cls | op | 8, dst, src, off, 0)


def store(size: int, off: int, src: int) -> Insn:
    return Insn(Class.STX | Mode.MEM | size, 10, src, off, 0)


def store_imm(size: int, off: int, imm: int) -> Insn:
    return Insn(Class.ST | Mode.MEM | size, 10, 0, off, imm)


def load(size: int, dst: int, off: int, src: int = 10) -> Insn:
    return Insn(Class.LDX | Mode.MEM | size, dst, src, off, 0)


def call(helper: int) -> Insn:
    return Insn(Class.JMP | JmpOp.CALL, 0, 0, 0, helper)


HAZARD = call(NO_HELPER)
EXIT = Insn(Class.JMP | JmpOp.EXIT, 0, 0, 0, 0)
DATA = (Insn(0x18, 2, 0, 0, 0), Insn(0, 0, 0, 0, 0))
"""r2 = address of a global; what it is, `program()` is told."""


def encode(insns: Sequence[Insn]) -> bytes:
    return b"".join(struct.pack("<BBhi", i.code, i.src << 4 | i.dst, i.off, i.imm) for i in insns)


def program(
    *insns: Insn,
    functions: Sequence[tuple[int, bool]] = (),
    calls: dict[int, int] | None = None,
    addresses: dict[int, int] | None = None,
    references: dict[int, Reference] | None = None,
) -> LinkedProgram:
    """`functions`: first slot of each subprogram, and whether it is global."""
    starts = [0, *(start for start, _ in functions)]
    ends = [*starts[1:], len(insns)]
    linked = tuple(
        Function(f"f{n}", "test", 8 * start, encode(insns[start:end]), is_global)
        for n, (start, end, is_global) in enumerate(
            zip(starts, ends, [False, *(is_global for _, is_global in functions)], strict=True)
        )
    )
    return LinkedProgram(
        program=linked[0],
        functions=linked,
        starts=tuple(starts),
        insns=tuple(insns),
        references=references or {},
        calls=calls or {},
        addresses=addresses or {},
        kfunc_calls={},
        core_relos=(),
    )


def walk(
    linked: LinkedProgram,
    *,
    verifier: Verifier | None = None,
    externs: dict[str, Value] | None = None,
    data: Value | dict[int, Value] = None,
    immediates: dict[int, Value] | None = None,
) -> Reach:
    hazards = frozenset(slot for slot, insn in enumerate(linked.insns) if insn == HAZARD)
    facts = Facts(hazards, immediates or {}, externs or {}, verifier or Verifier())

    def read(_section: str, offset: int, _size: int) -> Value:
        return data.get(offset) if isinstance(data, dict) else data

    return analyse(Code(linked, read), facts)


def is_reached(*insns: Insn, verifier: Verifier | None = None) -> bool:
    reach = walk(program(*insns, EXIT), verifier=verifier)
    assert reach.certain == bool(reach.hazards)
    return reach.certain


SKIP_HAZARD = (HAZARD, mov(0, 0))


@pytest.mark.parametrize(
    ("op", "left", "right", "taken"),
    [
        (JmpOp.JEQ, 1, 1, True),
        (JmpOp.JEQ, 1, 2, False),
        (JmpOp.JNE, 1, 2, True),
        (JmpOp.JGT, -1, 1, True),  # unsigned
        (JmpOp.JSGT, -1, 1, False),
        (JmpOp.JGE, 3, 3, True),
        (JmpOp.JSGE, -3, -4, True),
        (JmpOp.JLT, 2, 3, True),
        (JmpOp.JSLT, -2, 3, True),
        (JmpOp.JLE, 3, 3, True),
        (JmpOp.JSLE, 3, -3, False),
        (JmpOp.JSET, 6, 2, True),
        (JmpOp.JSET, 6, 1, False),
    ],
)
@pytest.mark.parametrize("cls", [Class.JMP, Class.JMP32])
def test_comparisons_of_constants(op: JmpOp, left: int, right: int, taken: bool, cls: Class) -> None:
    assert is_reached(mov(1, left), jump(op, 1, right, 1, cls), HAZARD, mov(0, 0)) != taken
    assert is_reached(mov(1, left), mov(2, right), jump_reg(op, 1, 2, 1, cls), HAZARD, mov(0, 0)) != taken


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


def test_what_differs_from_run_to_run_goes_both_ways() -> None:
    assert is_reached(call(RANDOM), jump(JmpOp.JEQ, 0, 5, 1), *SKIP_HAZARD)
    assert is_reached(call(RANDOM), jump(JmpOp.JNE, 0, 5, 1), *SKIP_HAZARD)


def test_a_helper_forgets_its_arguments_and_keeps_the_rest() -> None:
    assert not is_reached(mov(6, 1), call(RANDOM), jump(JmpOp.JEQ, 6, 1, 1), *SKIP_HAZARD)
    assert is_reached(mov(0, 1), call(RANDOM), jump(JmpOp.JEQ, 0, 1, 1), *SKIP_HAZARD)


def test_spilled_constants() -> None:
    spill = (mov(1, 1), store(DW, -8, 1), call(RANDOM), load(DW, 2, -8), jump(JmpOp.JEQ, 2, 1, 1), *SKIP_HAZARD)
    assert not is_reached(*spill)
    assert is_reached(*spill, verifier=Verifier(follows_spills=False))


def test_spilled_zeros_are_known_to_more_verifiers() -> None:
    spill = (mov(1, 0), store(DW, -8, 1), call(RANDOM), load(DW, 2, -8), jump(JmpOp.JEQ, 2, 0, 1), *SKIP_HAZARD)
    no_spills = Verifier(follows_spills=False, follows_small_spills=False, follows_immediate_stores=False)
    assert not is_reached(*spill, verifier=no_spills)
    assert is_reached(*spill, verifier=replace(no_spills, follows_spilled_zeros=False))
    part = (mov(1, 0), store(DW, -8, 1), load(H, 2, -6), jump(JmpOp.JEQ, 2, 0, 1), *SKIP_HAZARD)
    assert not is_reached(*part)


def test_a_write_forgets_the_eight_bytes_around_it_and_no_others() -> None:
    zero = (mov(1, 0), store(DW, -8, 1), store(DW, -16, 1), store(H, -2, 1))
    assert is_reached(*zero, load(W, 2, -8), jump(JmpOp.JEQ, 2, 0, 1), *SKIP_HAZARD)
    assert not is_reached(*zero, load(H, 2, -2), jump(JmpOp.JEQ, 2, 0, 1), *SKIP_HAZARD)
    assert not is_reached(*zero, load(W, 2, -12), jump(JmpOp.JEQ, 2, 0, 1), *SKIP_HAZARD)


def test_small_spills_depend_on_the_verifier() -> None:
    spill = (mov(1, 1), store(W, -8, 1), load(W, 2, -8), jump(JmpOp.JEQ, 2, 1, 1), *SKIP_HAZARD)
    assert not is_reached(*spill)
    assert is_reached(*spill, verifier=Verifier(follows_small_spills=False))
    in_the_middle = (mov(1, 1), store(W, -4, 1), load(W, 2, -4), jump(JmpOp.JEQ, 2, 1, 1), *SKIP_HAZARD)
    assert is_reached(*in_the_middle)


def test_a_part_of_a_constant_is_forgotten() -> None:
    for stored in (store(B, -8, 1), store_imm(B, -8, 256), store_imm(B, -5, 256)):
        assert is_reached(mov(1, 256), stored, load(B, 2, stored.off), jump(JmpOp.JEQ, 2, 0, 1), *SKIP_HAZARD)


def test_stores_of_immediates_depend_on_the_verifier() -> None:
    spill = (store_imm(DW, -8, 1), load(DW, 2, -8), jump(JmpOp.JEQ, 2, 1, 1), *SKIP_HAZARD)
    assert not is_reached(*spill)
    assert is_reached(*spill, verifier=Verifier(follows_immediate_stores=False))


def test_exclusive_or_depends_on_the_verifier() -> None:
    negated = (mov(1, 1), alu(AluOp.XOR, 1, 1), jump(JmpOp.JEQ, 1, 0, 1), *SKIP_HAZARD)
    assert not is_reached(*negated)
    assert is_reached(*negated, verifier=Verifier(follows_xor=False))


def test_arithmetic_shifts_depend_on_the_verifier() -> None:
    shifted = (mov(1, -4), alu(AluOp.ARSH, 1, 1), jump(JmpOp.JEQ, 1, -2, 1), *SKIP_HAZARD)
    assert not is_reached(*shifted)
    assert is_reached(*shifted, verifier=Verifier(follows_arithmetic_shifts=False))


V4_15 = Verifier(decides_unequal=False, decides_order=False, decides_registers=False)
V4_16 = Verifier(decides_order=False, decides_registers=False)
V4_20 = Verifier(decides_registers=False)
V5_3 = Verifier()


@pytest.mark.parametrize(
    ("comparison", "first"),
    [
        ((mov(1, 1), jump(JmpOp.JEQ, 1, 1, 1)), V4_15),
        ((mov(1, 1), jump(JmpOp.JNE, 1, 1, 1), jump(JmpOp.JA, 0, 0, 1)), V4_15),
        ((mov(1, 1), jump(JmpOp.JNE, 1, 0, 1)), V4_16),
        ((mov(1, 1), jump(JmpOp.JEQ, 1, 0, 1), jump(JmpOp.JA, 0, 0, 1)), V4_16),
        ((mov(1, 1), jump(JmpOp.JGT, 1, 0, 1)), V4_20),
        ((mov(1, 1), jump(JmpOp.JSLE, 1, 1, 1)), V4_20),
        ((mov(1, 3), jump(JmpOp.JSET, 1, 2, 1)), V4_20),
        ((mov(1, 1), jump(JmpOp.JNE, 1, 0, 1, Class.JMP32)), V4_16),
        ((mov(1, 1), mov(2, 1), jump_reg(JmpOp.JEQ, 1, 2, 1)), V5_3),
        ((mov(1, 1), mov(2, 0), jump_reg(JmpOp.JGT, 1, 2, 1)), V5_3),
    ],
)
def test_the_first_verifier_that_decides_a_comparison(comparison: tuple[Insn, ...], first: Verifier) -> None:
    """As the four ways of check_cond_jmp_op() have it: up to Linux 4.15, from 4.16, 4.20 and 5.3 on."""
    verifiers = [V4_15, V4_16, V4_20, V5_3]
    reached = [is_reached(*comparison, *SKIP_HAZARD, verifier=verifier) for verifier in verifiers]
    assert reached == [verifiers.index(verifier) < verifiers.index(first) for verifier in verifiers]


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


def test_a_jump_without_a_condition_goes_both_ways() -> None:
    """may_goto, whatever happens to be in r0."""
    may_goto = Insn(Class.JMP | JmpOp.JCOND, 0, 0, 1, 0)
    for known in (1, Settable(frozenset({"v"}), 100, 120), CFG):
        for code in ((may_goto, HAZARD, EXIT), (may_goto, EXIT, HAZARD, EXIT)):
            assert walk(program(*DATA, load(W, 0, 0, 2), *code, references=AT_2), data=known).certain


def test_old_packet_loads_leave_nothing_in_the_registers_of_calls() -> None:
    """LD_ABS: r0 has bytes of the packet, and r1 to r5 are lost."""
    packet = Insn(Class.LD | Mode.ABS | B, 0, 0, 0, 0)
    assert is_reached(mov(6, 0), mov(0, 1), packet, jump(JmpOp.JEQ, 0, 1, 1), *SKIP_HAZARD)
    assert is_reached(mov(6, 0), mov(3, 1), packet, jump(JmpOp.JEQ, 3, 1, 1), *SKIP_HAZARD)
    assert not is_reached(mov(6, 1), packet, jump(JmpOp.JEQ, 6, 1, 1), *SKIP_HAZARD)


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


def test_a_pointer_to_one_of_two_places_is_written_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which, is lost where states are joined; so all of the frame is."""
    monkeypatch.setattr(walking, "MAX_STATES", 0)
    code = (
        mov(6, 1),
        store(DW, -8, 6),
        store(DW, -16, 6),
        mov_reg(7, 10),
        call(RANDOM),
        jump(JmpOp.JEQ, 0, 1, 2),
        alu(AluOp.ADD, 7, -8),
        jump(JmpOp.JNE, 0, 1, 1),
        alu(AluOp.ADD, 7, -16),
        Insn(Class.STX | Mode.MEM | DW, 7, 7, 0, 0),
    )
    for slot in (-8, -16):
        assert is_reached(*code, load(DW, 3, slot), jump(JmpOp.JEQ, 3, 1, 1), *SKIP_HAZARD)
    assert not is_reached(*code, jump(JmpOp.JEQ, 6, 1, 1), *SKIP_HAZARD)


@pytest.mark.parametrize(("start", "step"), [(0, 8), (8, -8)])
def test_an_argument_that_may_be_one_of_two_is_not_called_missing(
    start: int, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    choice = (mov_reg(6, 1), alu(AluOp.ADD, 6, start), call(RANDOM), jump(JmpOp.JEQ, 0, 1, 1), alu(AluOp.ADD, 6, step))
    read = (*choice, load(DW, 2, 0, 6), EXIT)
    facts = Facts(frozenset(), arguments=1)
    code = Code(program(*read), lambda *_: None)
    assert analyse(code, facts).missing_arguments == {5: 1}
    monkeypatch.setattr(walking, "MAX_STATES", 0)
    assert analyse(code, facts).missing_arguments == {}


def guarded_by_stack(helper: int, *, kept: int = -8, given: int = -8) -> tuple[Insn, ...]:
    """Skips the hazard if a 1 at `kept` is known to be there still after a helper got 8 bytes at `given`."""
    return (
        mov(6, 1),
        store(DW, kept, 6),
        mov_reg(1, 10),
        alu(AluOp.ADD, 1, given),
        mov(2, 8),
        call(helper),
        load(DW, 3, kept),
        jump(JmpOp.JEQ, 3, 1, 1),
        *SKIP_HAZARD,
    )


def test_what_a_helper_reads_is_forgotten_by_older_verifiers() -> None:
    old = Verifier(spares_what_is_read=False)
    assert not is_reached(*guarded_by_stack(TRACE_PRINTK))
    assert is_reached(*guarded_by_stack(TRACE_PRINTK), verifier=old)
    assert not is_reached(*guarded_by_stack(TRACE_PRINTK, kept=-16), verifier=old)


def test_what_comes_behind_an_address_need_not_be_its_size() -> None:
    """bpf_check_mtu(ctx, ifindex, mtu_len, len_diff, flags) writes to mtu_len, though len_diff is 0."""
    code = (
        mov(6, 0),
        store(DW, -8, 6),
        mov(2, 0),
        mov_reg(3, 10),
        alu(AluOp.ADD, 3, -8),
        mov(4, 0),
        mov(5, 0),
        call(163),
        load(W, 3, -8),
        jump(JmpOp.JEQ, 3, 0, 1),
    )
    assert is_reached(*code, *SKIP_HAZARD)


def test_a_buffer_ends_where_its_size_says() -> None:
    """bpf_read_branch_records(ctx, buf, size, flags) writes to buf alone."""
    for size, overwrites in ((8, False), (16, True)):
        code = (
            mov(6, 1),
            store(DW, -8, 6),
            mov_reg(2, 10),
            alu(AluOp.ADD, 2, -16),
            mov(3, size),
            mov(4, 0),
            call(119),
            load(DW, 3, -8),
            jump(JmpOp.JEQ, 3, 1, 1),
        )
        assert is_reached(*code, *SKIP_HAZARD) == overwrites


def test_a_pointer_to_the_stack_lets_a_helper_write_there() -> None:
    probe_read, lookup = 113, 1
    for helper, overwrites in ((probe_read, True), (lookup, False)):
        assert is_reached(*guarded_by_stack(helper)) == overwrites
    assert not is_reached(*guarded_by_stack(probe_read, given=-16))


def test_a_store_at_an_unknown_place_forgets_the_stack() -> None:
    code = (
        mov(6, 1),
        store(DW, -8, 6),
        call(RANDOM),
        alu(AluOp.AND, 0, 8),
        mov_reg(1, 10),
        alu_reg(AluOp.SUB, 1, 0),
        Insn(Class.STX | Mode.MEM | DW, 1, 0, -8, 0),
        load(DW, 3, -8),
        jump(JmpOp.JEQ, 3, 1, 1),
    )
    assert is_reached(*code, *SKIP_HAZARD)


def test_a_pointer_that_only_one_path_has_may_still_be_written_through() -> None:
    """Where states are joined, `perhaps a pointer to the stack` must not become `no pointer`."""
    one_path = [
        mov(6, 1),
        store(DW, -8, 6),
        mov_reg(7, 10),
        alu(AluOp.ADD, 7, -8),
        mov(9, 0),
    ]
    branches = []
    for number in range(2 * walking.MAX_STATES):
        branches += [call(RANDOM), jump(JmpOp.JEQ, 0, number, 1), alu(AluOp.ADD, 9, 1 << number)]
    write = [
        call(RANDOM),
        jump(JmpOp.JEQ, 0, 77, 1),
        mov(7, 0),
        jump(JmpOp.JEQ, 7, 0, 1),
        Insn(Class.STX | Mode.MEM | DW, 7, 0, 0, 0),
        load(DW, 3, -8),
        alu_reg(AluOp.ADD, 3, 9),
        alu_reg(AluOp.SUB, 3, 9),
        load(DW, 3, -8),
        jump(JmpOp.JEQ, 3, 1, 1),
    ]
    assert is_reached(*one_path, *branches, *write, *SKIP_HAZARD)


def test_loops_end() -> None:
    counted = (mov(6, 0), call(RANDOM), alu(AluOp.ADD, 6, 1), jump(JmpOp.JLT, 6, 1000, -3))
    assert is_reached(*counted, HAZARD)
    assert is_reached(call(RANDOM), jump(JmpOp.JNE, 0, 5, -2), HAZARD)
    assert not is_reached(*counted, mov(7, 3), jump(JmpOp.JEQ, 7, 3, 1), *SKIP_HAZARD)


def test_joining_at_once_still_comes_to_all(monkeypatch: pytest.MonkeyPatch) -> None:
    code = (call(RANDOM), jump(JmpOp.JEQ, 0, 1, 1), mov(6, 1), jump(JmpOp.JEQ, 6, 1, 1), *SKIP_HAZARD)
    guarded = (mov(6, 1), call(RANDOM), jump(JmpOp.JEQ, 0, 1, 0), jump(JmpOp.JEQ, 6, 1, 1), *SKIP_HAZARD)
    monkeypatch.setattr(walking, "MAX_SEGMENTS", 1)
    assert is_reached(mov(6, 0), *code)
    assert not is_reached(*guarded)


CFG = Settable(frozenset({"cfg"}))
AT_2 = {0: Reference(RefersTo.DATA, ".rodata", 0)}


def test_a_branch_fixed_at_load_makes_a_condition() -> None:
    linked = program(*DATA, load(W, 1, 0, 2), jump(JmpOp.JEQ, 1, 0, 1), *SKIP_HAZARD, EXIT, references=AT_2)
    reach = walk(linked, data=CFG)
    assert not reach.certain
    (exposure,) = reach.hazards.values()
    assert not exposure.certain
    assert exposure.conditions == {"cfg"}
    assert walk(linked, data=0).hazards == {}
    assert walk(linked, data=1).certain
    # an old verifier reads nothing from the map, so for it the value differs from run to run
    assert walk(linked, data=CFG, verifier=Verifier(reads_frozen_maps=False)).certain


def test_a_hazard_on_each_side_of_a_condition_is_certain() -> None:
    linked = program(
        *DATA,
        load(W, 1, 0, 2),
        jump(JmpOp.JEQ, 1, 0, 2),
        HAZARD,
        jump(JmpOp.JEQ, 10, 0, 1),
        HAZARD,
        mov(0, 0),
        EXIT,
        references=AT_2,
    )
    reach = walk(linked, data=CFG)
    assert reach.certain
    assert [exposure.certain for exposure in reach.hazards.values()] == [False, True]


def test_a_condition_that_is_tested_again_is_remembered() -> None:
    again = program(
        *DATA,
        load(W, 6, 0, 2),
        jump(JmpOp.JNE, 6, 0, 2),
        call(RANDOM),
        jump(JmpOp.JNE, 6, 0, 1),
        mov(0, 0),
        jump(JmpOp.JNE, 6, 0, 1),
        jump(JmpOp.JEQ, 6, 0, 1),
        *SKIP_HAZARD,
        EXIT,
        references=AT_2,
    )
    reach = walk(again, data=CFG)
    assert not reach.certain
    assert {name for exposure in reach.hazards.values() for name in exposure.conditions} == {"cfg"}


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


def test_a_number_that_is_kept_back_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through arithmetic, the stack, sign extension and joins: any of them may hand it on to a branch."""
    guard = (jump(JmpOp.JEQ, 6, 1, 1), *SKIP_HAZARD, EXIT)
    extend = Insn(Class.ALU64 | AluOp.MOV | 8, 6, 6, 8, 0)
    join = (call(RANDOM), jump(JmpOp.JEQ, 0, 5, 1), mov(6, 8))
    steps: list[tuple[Insn, ...]] = [
        (alu(AluOp.ADD, 6, 1),),
        (alu(AluOp.ADD, 6, 1, Class.ALU),),
        (store(W, -8, 6), load(W, 6, -8)),
        (extend,),
        join,
    ]
    monkeypatch.setattr(walking, "MAX_STATES", 0)
    for step in steps:
        assert walk(program(mov(6, 8), *step, *guard), immediates={0: OPAQUE}).depends_on_opaque, step


def test_an_address_of_the_kernel_is_not_null() -> None:
    """As of a kfunc, for bpf_ksym_exists(); of its lower half, nothing is known."""
    symbol = {0: Reference(RefersTo.KSYM, "sym")}
    for op, reached in ((JmpOp.JEQ, True), (JmpOp.JNE, False)):
        linked = program(*DATA, jump(op, 2, 0, 1), *SKIP_HAZARD, EXIT, references=symbol)
        assert bool(walk(linked, externs={"sym": NON_NULL}).hazards) == reached
        half = program(*DATA, jump(op, 2, 0, 1, Class.JMP32), *SKIP_HAZARD, EXIT, references=symbol)
        assert walk(half, externs={"sym": NON_NULL}).certain


def test_a_loop_that_hangs_on_a_condition_names_it() -> None:
    """Both ways lead to the hazard, though one of them comes round for ever."""
    linked = program(*DATA, load(W, 1, 0, 2), jump(JmpOp.JEQ, 1, 0, -1), HAZARD, EXIT, references=AT_2)
    assert walk(linked, data=CFG).hazards[4].conditions == {"cfg"}


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


def test_what_a_load_stands_for_that_no_relocation_explains_is_not_known() -> None:
    """As of a map by its descriptor: the number in the instruction is none that the program gets."""
    of_map = (Insn(0x18, 2, 1, 0, 5), Insn(0, 0, 0, 0, 0))
    assert is_reached(*of_map, jump(JmpOp.JEQ, 2, 5, 1), *SKIP_HAZARD)
    plain = (Insn(0x18, 2, 0, 0, 5), Insn(0, 0, 0, 0, 0))
    assert not is_reached(*plain, jump(JmpOp.JEQ, 2, 5, 1), *SKIP_HAZARD)


def test_externs() -> None:
    symbol = {0: Reference(RefersTo.KSYM, "sym")}
    linked = program(*DATA, jump(JmpOp.JEQ, 2, 0, 1), *SKIP_HAZARD, EXIT, references=symbol)
    assert walk(linked, externs={"sym": 0}).hazards == {}
    assert walk(linked, externs={"sym": None}).certain
    assert walk(linked, externs={"sym": CFG}).hazards[3].conditions == {"cfg"}
    version = {0: Reference(RefersTo.KCONFIG, "V")}
    linked = program(*DATA, load(W, 1, 0, 2), jump(JmpOp.JEQ, 1, 5, 1), *SKIP_HAZARD, EXIT, references=version)
    assert walk(linked, externs={"V": 5}).hazards == {}
    assert walk(linked, externs={"V": 6}).certain
    assert walk(linked).hazards[4].conditions == {"V"}


def test_numbers_that_relocation_puts_in() -> None:
    linked = program(mov(1, 1), jump(JmpOp.JEQ, 1, 1, 1), *SKIP_HAZARD, EXIT)
    assert walk(linked).hazards == {}
    assert walk(linked, immediates={0: 0}).certain
    kept_back = walk(linked, immediates={0: OPAQUE})
    assert kept_back.depends_on_opaque
    assert kept_back.certain
    unused = program(mov(1, 1), mov(2, 2), jump(JmpOp.JEQ, 2, 2, 1), *SKIP_HAZARD, EXIT)
    assert not walk(unused, immediates={0: OPAQUE}).depends_on_opaque


def _with_subprogram(argument: int, *, is_global: bool) -> LinkedProgram:
    """Calls f1(argument), which meets the hazard unless the argument is 1."""
    pseudo = Insn(Class.JMP | JmpOp.CALL, 0, 1, 0, 1)
    main = (mov(1, argument), pseudo, EXIT)
    return program(*main, jump(JmpOp.JEQ, 1, 1, 1), HAZARD, mov(0, 0), EXIT, functions=[(3, is_global)], calls={1: 1})


def test_a_static_subprogram_is_walked_with_its_arguments() -> None:
    assert walk(_with_subprogram(1, is_global=False)).hazards == {}
    assert walk(_with_subprogram(0, is_global=False)).certain


def test_a_global_subprogram_is_walked_for_any_arguments() -> None:
    assert walk(_with_subprogram(1, is_global=True)).certain


def test_old_verifiers_walk_a_global_subprogram_as_a_static_one() -> None:
    old = Verifier(checks_globals_alone=False, skips_uncalled_globals=False)
    assert walk(_with_subprogram(1, is_global=True), verifier=old).hazards == {}
    assert walk(_with_subprogram(0, is_global=True), verifier=old).certain


def test_a_global_subprogram_that_is_not_called() -> None:
    pseudo = Insn(Class.JMP | JmpOp.CALL, 0, 1, 0, 3)
    linked = program(
        mov(1, 1),
        jump(JmpOp.JEQ, 1, 1, 1),
        pseudo,
        mov(0, 0),
        EXIT,
        HAZARD,
        mov(0, 0),
        EXIT,
        functions=[(5, True)],
        calls={2: 1},
    )
    assert walk(linked).hazards == {}
    assert walk(linked, verifier=Verifier(skips_uncalled_globals=False)).certain
    assert walk(linked, verifier=Verifier(checks_globals_alone=False, skips_uncalled_globals=False)).hazards == {}


def test_a_subprogram_returns_to_each_caller_with_what_it_has() -> None:
    """f1 returns its argument; the callers compare what they get, and r6, which is theirs."""
    linked = program(
        mov(6, 5),
        mov(1, 3),
        Insn(Class.JMP | JmpOp.CALL, 0, 1, 0, 7),
        jump(JmpOp.JNE, 0, 3, 5),
        mov(1, 4),
        Insn(Class.JMP | JmpOp.CALL, 0, 1, 0, 4),
        jump(JmpOp.JNE, 0, 4, 2),
        jump(JmpOp.JEQ, 6, 5, 1),
        HAZARD,
        EXIT,
        mov_reg(0, 1),
        mov(6, 9),
        EXIT,
        functions=[(10, False)],
        calls={2: 1, 5: 1},
    )
    assert walk(linked).hazards == {}


def test_a_subprogram_writes_into_its_callers_frame() -> None:
    linked = program(
        mov(1, 1),
        store(DW, -8, 1),
        mov_reg(1, 10),
        alu(AluOp.ADD, 1, -8),
        Insn(Class.JMP | JmpOp.CALL, 0, 1, 0, 4),
        load(DW, 2, -8),
        jump(JmpOp.JEQ, 2, 1, 1),
        HAZARD,
        EXIT,
        mov(2, 2),
        Insn(Class.STX | Mode.MEM | DW, 1, 2, 0, 0),
        mov(0, 0),
        EXIT,
        functions=[(9, False)],
        calls={4: 1},
    )
    assert walk(linked).certain


def test_a_subprogram_hands_its_caller_no_pointer_into_its_own_frame() -> None:
    """Not as what it returns, nor on its caller's stack: the verifier refuses both, and the frame is gone."""
    call_it = Insn(Class.JMP | JmpOp.CALL, 0, 1, 0, 5)
    for got in (mov_reg(6, 0), load(DW, 6, -8)):
        use_it = (Insn(Class.STX | Mode.MEM | DW, 6, 6, -8, 0), load(DW, 3, 0, 6), HAZARD, EXIT)
        leave_it = (Insn(Class.STX | Mode.MEM | DW, 1, 10, -8, 0), mov_reg(0, 10), EXIT)
        code = (mov_reg(1, 10), call_it, got, *use_it, *leave_it)
        assert walk(program(*code, functions=[(7, False)], calls={1: 1})).certain


@pytest.mark.parametrize("is_on_the_stack", [False, True])
def test_a_global_subprogram_writes_into_its_callers_frame(
    is_on_the_stack: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through a pointer that it is given, or that may be one."""
    monkeypatch.setattr(walking, "MAX_STATES", 0)
    maybe = (call(RANDOM), jump(JmpOp.JEQ, 0, 5, 1), mov(6, 0))
    call_it = Insn(Class.JMP | JmpOp.CALL, 0, 1, 0, 0)
    guarded = (
        mov(7, 1),
        store(DW, -8, 7),
        mov_reg(6, 10),
        alu(AluOp.ADD, 6, -8),
        *(() if is_on_the_stack else maybe),
        mov_reg(1, 6),
        call_it,
        load(DW, 2, -8),
        jump(JmpOp.JEQ, 2, 1, 1),
        *SKIP_HAZARD,
        EXIT,
    )
    at = guarded.index(call_it)
    linked = program(*guarded, mov(0, 0), EXIT, functions=[(len(guarded), True)], calls={at: 1})
    assert walk(linked).certain


def test_recursion_ends() -> None:
    linked = program(
        Insn(Class.JMP | JmpOp.CALL, 0, 1, 0, 1), EXIT, Insn(Class.JMP | JmpOp.CALL, 0, 1, 0, -1), HAZARD, EXIT,
        functions=[(2, False)], calls={0: 1, 2: 1},
    )  # fmt: skip
    assert walk(linked).certain


def test_a_callback_is_walked_if_its_helper_is_called() -> None:
    def linked(guard: int) -> LinkedProgram:
        return program(
            mov(6, guard),
            jump(JmpOp.JEQ, 6, 0, 3),
            *DATA,
            call(181),
            mov(0, 0),
            EXIT,
            HAZARD,
            EXIT,
            functions=[(7, False)],
            addresses={2: 1},
        )

    assert walk(linked(1)).certain
    assert walk(linked(0)).hazards == {}


def test_a_callback_writes_wherever_what_it_is_given_leads() -> None:
    """bpf_loop(count, callback, context, flags): the context may hold a pointer to another place on the stack."""
    spill = (mov(6, 1), store(DW, -8, 6), store(DW, -32, 6))
    loop = (*DATA, mov_reg(3, 10), alu(AluOp.ADD, 3, -16), mov(1, 2), mov(4, 0), call(181))
    callback = (mov(0, 0), EXIT)
    for slot in (-8, -32):
        guard = (load(DW, 3, slot), jump(JmpOp.JEQ, 3, 1, 1), *SKIP_HAZARD, EXIT)
        main = (*spill, *loop, *guard)
        linked = program(*main, *callback, functions=[(len(main), False)], addresses={len(spill): 1})
        assert walk(linked).certain
        # a subprogram loops, whose context holds the address of what its caller has spilled
        call_it = (mov_reg(1, 10), Insn(Class.JMP | JmpOp.CALL, 0, 1, 0, 0))
        outer = (*spill, *call_it, *guard)
        inner = (store(DW, -16, 1), *loop, mov(0, 0), EXIT)
        starts = [len(outer), len(outer) + len(inner)]
        linked = program(
            *outer,
            *inner,
            *callback,
            functions=[(start, False) for start in starts],
            calls={len(spill) + 1: 1},
            addresses={len(outer) + 1: 2},
        )
        assert walk(linked).certain


def test_a_callback_is_walked_whatever_is_set_before_the_load() -> None:
    """Also where a branch that is decided at load follows at once."""
    main = (
        *DATA,
        load(W, 6, 0, 2),
        *DATA,
        call(181),
        jump(JmpOp.JEQ, 6, 1, 1),
        *SKIP_HAZARD,
        EXIT,
    )
    callback = (HAZARD, mov(0, 0), EXIT)
    linked = program(*main, *callback, functions=[(len(main), False)], addresses={3: 1}, references=AT_2)
    reach = walk(linked, data=CFG)
    assert {slot: exposure.certain for slot, exposure in reach.hazards.items()} == {7: False, len(main): True}
    assert reach.certain


def test_helpers_that_take_sizes_are_the_ones_that_are_meant() -> None:
    names = sorted(map(helper_name, BUFFERS))
    assert names == [
        "bpf_get_current_comm",
        "bpf_get_stack",
        "bpf_perf_event_output",
        "bpf_probe_read",
        "bpf_probe_read_kernel",
        "bpf_probe_read_kernel_str",
        "bpf_probe_read_str",
        "bpf_probe_read_user",
        "bpf_probe_read_user_str",
        "bpf_read_branch_records",
        "bpf_ringbuf_output",
        "bpf_skb_load_bytes",
        "bpf_skb_store_bytes",
        "bpf_trace_printk",
    ]


def test_helpers_that_only_read_are_the_ones_that_are_meant() -> None:
    names = sorted(helper_name(number) for number in READING_HELPERS)
    assert names == [
        "bpf_map_delete_elem",
        "bpf_map_lookup_elem",
        "bpf_map_push_elem",
        "bpf_map_update_elem",
        "bpf_perf_event_output",
        "bpf_ringbuf_output",
        "bpf_trace_printk",
    ]


@dataclass
class _Generator:
    """Random programs that use registers and the stack in order, so that only the hazard is refused.

    With few registers, slots and steps, what one step does is likely to matter to the guard at the end.
    """

    random: random.Random
    registers: Sequence[int] = (6, 7)
    slots: Sequence[int] = (-8,)
    steps: int = 5
    branches: float = 0.1
    """Share of steps that are jumps."""
    rarities: float = 0.0
    """Share of steps that few programs have; a kernel that is older than such an instruction refuses the program."""

    def program(self) -> list[Insn]:
        """With a harmless call, behind a guard, where the hazard is to be."""
        choose = self.random.choice
        head = [call(RANDOM)]
        for register in self.registers:
            head.append(choose([mov(register, self.number()), mov(register, self.number()), mov_reg(register, 0)]))
        head += [mov(0, 0), *(store(DW, slot, choose(self.registers)) for slot in self.slots)]
        body: list[Insn] = []
        for _ in range(self.random.randint(1, self.steps)):
            is_rare = self.rarities and self.random.random() < self.rarities
            body += self.rare() if is_rare else [self.step()]
        body += [self.jump(1), call(RANDOM)]
        # jumps lead forward, and never behind the end
        body = [
            insn._replace(off=min(insn.off, len(body) - at - 1)) if insn.is_branch else insn
            for at, insn in enumerate(body)
        ]
        return [*head, *body, mov(0, 0), EXIT]

    def number(self) -> int:
        return self.random.choice([0, 0, 1, 1, 2, 3, 5, 8, 64, 255, 4096, -1, -2, -8, 0x7FFFFFFF, -0x80000000])

    def step(self) -> Insn:
        choose = self.random.choice
        dst, src = choose(self.registers), choose(self.registers)
        cls = choose([Class.ALU64, Class.ALU64, Class.ALU])
        size = choose([DW, DW, DW, W, W, H, B])
        width = {DW: 8, W: 4, H: 2, B: 1}[size]
        place = choose(self.slots) + width * self.random.randrange(8 // width)
        kind = self.random.random()
        if kind < self.branches:
            return self.jump(self.random.randint(0, 3))
        kind = self.random.random()
        if kind < 0.15:
            return mov(dst, self.number())
        if kind < 0.35:
            op = choose([AluOp.ADD, AluOp.SUB, AluOp.MUL, AluOp.AND, AluOp.OR, AluOp.XOR, AluOp.MOV])
            return choose([alu(op, dst, self.number(), cls), alu_reg(op, dst, src, cls)])
        if kind < 0.45:
            op = choose([AluOp.LSH, AluOp.RSH, AluOp.ARSH])
            return alu(op, dst, self.random.randrange(64 if cls is Class.ALU64 else 32), cls)
        if kind < 0.50:
            return choose([alu(AluOp.DIV, dst, 3, cls), alu(AluOp.MOD, dst, 7, cls), alu(AluOp.NEG, dst, 0, cls)])
        if kind < 0.75:
            return choose([store(size, place, src), store_imm(size, place, self.number())])
        return load(size, dst, place)

    def rare(self) -> list[Insn]:
        choose = self.random.choice
        dst, src, slot = choose(self.registers), choose(self.registers), choose(self.slots)
        wide, bytes_ = choose([(DW, 8), (W, 4)])
        place = slot + self.random.randrange(0, 8, bytes_)
        address = [mov_reg(1, 10), alu(AluOp.ADD, 1, slot)]
        match self.random.randrange(7):
            case 0:
                cls, bits = choose([(Class.ALU64, 8), (Class.ALU64, 16), (Class.ALU64, 32), (Class.ALU, 8)])
                return [Insn(cls | AluOp.MOV | 8, dst, src, bits, 0)]
            case 1:
                size, width = choose([(W, 4), (H, 2), (B, 1)])
                at = slot + self.random.randrange(0, 8, width)
                return [Insn(Class.LDX | Mode.MEMSX | size, dst, 10, at, 0)]
            case 2:
                fetch_add, exchange, compare_and_exchange = 0x01, 0xE1, 0xF1
                operation = choose([0x00, fetch_add, exchange, compare_and_exchange])
                atomic = Insn(Class.STX | Mode.ATOMIC | wide, 10, src, place, operation)
                return [mov(0, self.number()), atomic, mov_reg(dst, 0)]
            case 3:
                if choose([True, False]):
                    return [Insn(Class.STX | Mode.ATOMIC | wide, dst, 10, place, LOAD_ACQUIRE)]
                return [Insn(Class.STX | Mode.ATOMIC | wide, 10, src, place, STORE_RELEASE)]
            case 4:
                return [mov(0, self.number()), Insn(Class.JMP | JmpOp.JCOND, 0, 0, self.random.randint(0, 2), 0)]
            case 5:
                return [*address, mov(2, 8), call(TRACE_PRINTK)]
            case _:
                text = [mov_reg(4, 1), store_imm(DW, -64, 0), alu(AluOp.ADD, 1, -64 - slot)]
                return [*address, *text, mov(2, 8), mov(3, 0), mov(5, 0), call(STRTOL)]

    def jump(self, ahead: int) -> Insn:
        choose = self.random.choice
        dst, src = choose(self.registers), choose(self.registers)
        cls = choose([Class.JMP, Class.JMP, Class.JMP32])
        op = choose([JmpOp.JEQ, JmpOp.JNE, JmpOp.JEQ, JmpOp.JNE, JmpOp.JGT, JmpOp.JGE, JmpOp.JLT, JmpOp.JLE,
                     JmpOp.JSGT, JmpOp.JSGE, JmpOp.JSLT, JmpOp.JSLE, JmpOp.JSET])  # fmt: skip
        return choose([jump(op, dst, self.number(), ahead, cls), jump_reg(op, dst, src, ahead, cls)])


def _compared(generators: Sequence[_Generator], number: int) -> dict[tuple[bool, bool], int]:
    """How many programs the kernel walked up to the hazard, and we, of `number`; fail if it did and we did not."""
    needs.root_bpf()
    libbpf = needs.libbpf()
    verifier = KernelFeatures(Btf(needs.host_btf().read_bytes(), source="host")).verifier
    counts = {(walked, reached): 0 for walked in (False, True) for reached in (False, True)}
    for _, generator in zip(range(25 * number if kernel_btfs.FULL else number), cycle(generators), strict=False):
        harmless = generator.program()
        at = max(slot for slot, insn in enumerate(harmless) if insn.is_call)
        harmful = [*harmless[:at], HAZARD, *harmless[at + 1 :]]
        reached = walk(program(*harmful), verifier=verifier).certain
        walked = not libbpf.takes_socket_filter(encode(harmful))
        if walked and not libbpf.takes_socket_filter(encode(harmless)):
            continue  # refused for another reason
        counts[walked, reached] += 1
        assert reached or not walked, "\n".join(map(str, harmful))
    return counts


def test_never_says_dead_of_what_the_kernel_walks() -> None:
    """Random programs with one instruction that the kernel refuses if it comes to it, and knows to be dead else."""
    seed = random.Random(20240229)
    small = _Generator(seed)
    large = _Generator(seed, registers=(6, 7, 8, 9), slots=(-8, -16, -24), steps=25, branches=0.3)
    counts = _compared([large, small, small, small], 4_000)
    # both happen often, and most of what the kernel knows to be dead is known to be dead here
    assert counts[True, True] > 1_000
    assert counts[False, False] > 1_000
    assert counts[False, False] > 3 * counts[False, True]


def test_never_says_dead_of_what_the_kernel_walks_with_instructions_that_few_programs_have() -> None:
    counts = _compared([_Generator(random.Random(20240301), rarities=0.5)], 2_000)
    # a kernel without the newest of them takes fewer programs
    assert counts[True, True] > 100
    assert counts[False, False] > 100


def test_instructions_survive_encoding() -> None:
    insns = [mov(1, -1), alu_reg(AluOp.ADD, 1, 2), load(B, 3, -7), store_imm(W, -4, 1 << 30), HAZARD, EXIT]
    assert decode(encode(insns)) == tuple(insns)


def _live_by_definition(linked: LinkedProgram) -> tuple[int, ...]:
    """The least solution, found by looking at every slot until nothing changes."""
    live = [0] * (len(linked.insns) + 1)
    while True:
        before = list(live)
        for slot, insn in enumerate(linked.insns):
            ways = [] if insn.is_exit or insn.is_goto else [min(slot + (2 if insn.is_wide else 1), len(linked.insns))]
            ways += [slot + 1 + insn.jump] if insn.is_jump else []
            reads, writes = registers_of(insn)
            live[slot] = reads
            for way in ways:
                live[slot] |= live[way] & ~writes
        if live == before:
            return tuple(live)


def test_live_registers_are_those_of_the_definition() -> None:
    rng = random.Random(13)
    for _ in range(300):
        insns = []
        length = rng.randrange(2, 40)
        for slot in range(length - 1):
            target = rng.randrange(length) - slot - 1
            a, b = rng.randrange(10), rng.randrange(10)
            insns.append(
                rng.choice(
                    (mov(a, 1), mov_reg(a, b), alu_reg(AluOp.ADD, a, b), jump_reg(JmpOp.JEQ, a, b, target),
                     jump(JmpOp.JA, 0, 0, target), EXIT)
                )
            )  # fmt: skip
        linked = program(*insns, EXIT)
        assert Code(linked, lambda *_: None).live == _live_by_definition(linked)
