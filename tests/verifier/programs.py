"""Programs written by hand, instruction by instruction, and whether the verifier would reach a hazard in them."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from hatch_bpf.objects.insns import AluOp, Class, Insn, JmpOp, Mode
from hatch_bpf.objects.linked_program import LinkedProgram, Reference, RefersTo
from hatch_bpf.objects.model import Function
from hatch_bpf.verifier.abilities import Verifier
from hatch_bpf.verifier.code import Code
from hatch_bpf.verifier.facts import Facts
from hatch_bpf.verifier.reach import Reach
from hatch_bpf.verifier.values import Settable, Value
from hatch_bpf.verifier.walk import analyse

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
"""r2 = address of a global. `references` of `program()` say which."""


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
CFG = Settable(frozenset({"cfg"}))
AT_2 = {0: Reference(RefersTo.DATA, ".rodata", 0)}
