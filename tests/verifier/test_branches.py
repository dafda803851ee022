"""Comparisons: which way a verifier follows, and what it remembers of them."""

from __future__ import annotations

import pytest

from hatch_bpf.objects.insns import Class, Insn, JmpOp
from hatch_bpf.verifier.abilities import Verifier
from hatch_bpf.verifier.values import Settable
from tests.verifier.programs import (
    AT_2,
    CFG,
    DATA,
    EXIT,
    HAZARD,
    RANDOM,
    SKIP_HAZARD,
    W,
    call,
    is_reached,
    jump,
    jump_reg,
    load,
    mov,
    program,
    walk,
)


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


def test_a_jump_without_a_condition_goes_both_ways() -> None:
    """may_goto, whatever happens to be in r0."""
    may_goto = Insn(Class.JMP | JmpOp.JCOND, 0, 0, 1, 0)
    for known in (1, Settable(frozenset({"v"}), 100, 120), CFG):
        for code in ((may_goto, HAZARD, EXIT), (may_goto, EXIT, HAZARD, EXIT)):
            assert walk(program(*DATA, load(W, 0, 0, 2), *code, references=AT_2), data=known).certain


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
