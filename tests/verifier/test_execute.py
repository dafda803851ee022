"""What instructions change: the stack, what helpers read and write, what loads bring."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hatch_bpf.objects.insns import AluOp, Class, Insn, JmpOp, Mode
from hatch_bpf.objects.linked_program import Reference, RefersTo
from hatch_bpf.verifier import walk as walking
from hatch_bpf.verifier.abilities import Verifier
from hatch_bpf.verifier.code import Code
from hatch_bpf.verifier.facts import Facts
from hatch_bpf.verifier.values import NON_NULL, OPAQUE
from hatch_bpf.verifier.walk import analyse
from tests.verifier.programs import (
    CFG,
    DATA,
    DW,
    EXIT,
    RANDOM,
    SKIP_HAZARD,
    TRACE_PRINTK,
    B,
    H,
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
    store_imm,
    walk,
)


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


def test_old_packet_loads_leave_nothing_in_the_registers_of_calls() -> None:
    """LD_ABS: r0 has bytes of the packet, and r1 to r5 are lost."""
    packet = Insn(Class.LD | Mode.ABS | B, 0, 0, 0, 0)
    assert is_reached(mov(6, 0), mov(0, 1), packet, jump(JmpOp.JEQ, 0, 1, 1), *SKIP_HAZARD)
    assert is_reached(mov(6, 0), mov(3, 1), packet, jump(JmpOp.JEQ, 3, 1, 1), *SKIP_HAZARD)
    assert not is_reached(mov(6, 1), packet, jump(JmpOp.JEQ, 6, 1, 1), *SKIP_HAZARD)


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


def test_an_address_of_the_kernel_is_not_null() -> None:
    """As of a kfunc, for bpf_ksym_exists(); of its lower half, nothing is known."""
    symbol = {0: Reference(RefersTo.KSYM, "sym")}
    for op, reached in ((JmpOp.JEQ, True), (JmpOp.JNE, False)):
        linked = program(*DATA, jump(op, 2, 0, 1), *SKIP_HAZARD, EXIT, references=symbol)
        assert bool(walk(linked, externs={"sym": NON_NULL}).hazards) == reached
        half = program(*DATA, jump(op, 2, 0, 1, Class.JMP32), *SKIP_HAZARD, EXIT, references=symbol)
        assert walk(half, externs={"sym": NON_NULL}).certain


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
