"""What is worked out of a program once, whatever the kernel."""

from __future__ import annotations

import random

from hatch_bpf.objects.insns import AluOp, JmpOp, decode
from hatch_bpf.objects.linked_program import LinkedProgram
from hatch_bpf.verifier.code import Code, registers_of
from tests.verifier.programs import (
    EXIT,
    HAZARD,
    B,
    W,
    alu_reg,
    encode,
    jump,
    jump_reg,
    load,
    mov,
    mov_reg,
    program,
    store_imm,
)


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
