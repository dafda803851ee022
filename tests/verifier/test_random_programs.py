"""Random programs, against the running kernel's verifier."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

from hatch_bpf.btf.reader import Btf
from hatch_bpf.objects.insns import LOAD_ACQUIRE, STORE_RELEASE, AluOp, Class, Insn, JmpOp, Mode
from hatch_bpf.portability.kernel_features import KernelFeatures
from tests.common import kernel_btfs, needs
from tests.verifier.programs import (
    DW,
    EXIT,
    HAZARD,
    RANDOM,
    STRTOL,
    TRACE_PRINTK,
    B,
    H,
    W,
    alu,
    alu_reg,
    call,
    encode,
    jump,
    jump_reg,
    load,
    mov,
    mov_reg,
    program,
    store,
    store_imm,
    walk,
)


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
