"""eBPF instructions: bytes -> `Insn`, for analyses and messages.

Input: the instructions of a function, in the object's byte order. Output: one `Insn` per 8-byte slot (a 64-bit
immediate load takes two slots; the second is kept, as `WIDE_TAIL` says). Encoding:
Documentation/bpf/standardization/instruction-set.rst.
"""

from __future__ import annotations

import struct
from enum import Enum, IntEnum
from functools import lru_cache
from typing import Literal, NamedTuple

from hatch_bpf.errors import ObjectError
from hatch_bpf.objects.model import INSN_SIZE


class Class(IntEnum):
    """Low three bits of the opcode: `BPF_CLASS()`."""

    LD = 0
    LDX = 1
    ST = 2
    STX = 3
    ALU = 4
    """32-bit arithmetic."""
    JMP = 5
    JMP32 = 6
    ALU64 = 7


class AluOp(IntEnum):
    """High four bits of an ALU opcode: `BPF_OP()`."""

    ADD = 0x00
    SUB = 0x10
    MUL = 0x20
    DIV = 0x30
    OR = 0x40
    AND = 0x50
    LSH = 0x60
    RSH = 0x70
    NEG = 0x80
    MOD = 0x90
    XOR = 0xA0
    MOV = 0xB0
    ARSH = 0xC0
    END = 0xD0


class JmpOp(IntEnum):
    """High four bits of a JMP or JMP32 opcode."""

    JA = 0x00
    JEQ = 0x10
    JGT = 0x20
    JGE = 0x30
    JSET = 0x40
    JNE = 0x50
    JSGT = 0x60
    JSGE = 0x70
    CALL = 0x80
    EXIT = 0x90
    JLT = 0xA0
    JLE = 0xB0
    JSLT = 0xC0
    JSLE = 0xD0
    JCOND = 0xE0
    """`may_goto`: taken or not at run time, with no condition in the instruction (Linux 6.10)."""


class Mode(IntEnum):
    """High three bits of a load or store opcode: `BPF_MODE()`."""

    IMM = 0x00
    ABS = 0x20
    IND = 0x40
    MEM = 0x60
    MEMSX = 0x80
    """Sign-extending load (-mcpu=v4)."""
    ATOMIC = 0xC0


class InsnSet(Enum):
    """Instructions that not every kernel knows; the value is what messages call them."""

    SHIFT32 = "arithmetic shifts of 32 bits"
    JUMP32 = "32-bit jumps (-mcpu=v3)"
    ATOMIC = "atomic operations other than a plain addition (-mcpu=v3)"
    V4 = "the instructions of -mcpu=v4"
    MAY_GOTO = "may_goto"
    ACQUIRE_RELEASE = "load_acquire and store_release"


class PseudoSrc(IntEnum):
    """What `src` of a 64-bit immediate load or of a call means."""

    CALL = 1
    """`BPF_PSEUDO_CALL`: a call of a subprogram."""
    KFUNC_CALL = 2
    """`BPF_PSEUDO_KFUNC_CALL`: a call of a kfunc."""
    FUNC = 4
    """`BPF_PSEUDO_FUNC`: a load of a subprogram's address."""


LOAD_ACQUIRE = 0x100
"""`imm` of an atomic operation that loads as MEM does, into dst from where src points to (Linux 6.15)."""
STORE_RELEASE = 0x110
"""`imm` of an atomic operation that stores as MEM does."""
LD_IMM64 = 0x18
"""Opcode of the 64-bit immediate load."""
WIDE_TAIL = 0x00
"""Opcode of the second slot of a 64-bit immediate load; no instruction has it."""
SIZES = {0x00: 4, 0x08: 2, 0x10: 1, 0x18: 8}
"""Bytes that a load or store moves, by the two size bits of its opcode."""
STACK_REGISTER = 10
"""r10, the frame pointer: read-only, and the top of the stack, which grows down."""
STACK_SIZE = 512
MAX_CALL_FRAMES = 8
"""Functions of a program that may be active at a time, itself included."""
_LOST_IN_CALLS = range(6)


# an analysis asks what an instruction is a hundred thousand times, so the answers are worked out here
_CLASSES = tuple(Class)
_CALL = int(Class.JMP | JmpOp.CALL)
_INDIRECT_CALL = _CALL | 8
_EXIT = int(Class.JMP | JmpOp.EXIT)
_LONG_GOTO = int(Class.JMP32 | JmpOp.JA)
_GOTOS = frozenset({int(Class.JMP | JmpOp.JA), _LONG_GOTO})
_BRANCHES = frozenset(
    code
    for code in range(0x100)
    if code & 7 in (Class.JMP, Class.JMP32) and code & 0xF0 not in (JmpOp.JA, JmpOp.CALL, JmpOp.EXIT)
)
_JUMPS = _GOTOS | _BRANCHES


class Insn(NamedTuple):
    """One slot of eight bytes, as encoded (`struct bpf_insn`)."""

    code: int
    dst: int
    src: int
    off: int
    """Signed."""
    imm: int
    """Signed."""

    @property
    def cls(self) -> Class:
        return _CLASSES[self.code & 7]

    @property
    def op(self) -> int:
        """The `AluOp` or `JmpOp` of an ALU or a JMP instruction."""
        return self.code & 0xF0

    @property
    def mode(self) -> int:
        """The `Mode` of a load or store."""
        return self.code & 0xE0

    @property
    def size(self) -> int:
        """Bytes that a load or store moves."""
        return SIZES[self.code & 0x18]

    @property
    def uses_register(self) -> bool:
        """Whether the operand of an ALU or a JMP instruction is `src` instead of `imm` (`BPF_X`)."""
        return bool(self.code & 8)

    @property
    def is_wide(self) -> bool:
        """A 64-bit immediate load: the slot after it is its second half."""
        return self.code == LD_IMM64

    @property
    def is_call(self) -> bool:
        return self.code == _CALL

    @property
    def is_indirect_call(self) -> bool:
        """A call through a register, for which no kernel has an instruction."""
        return self.code == _INDIRECT_CALL

    @property
    def is_helper_call(self) -> bool:
        """A call of a helper; `imm` is its number in `enum bpf_func_id`."""
        return self.code == _CALL and self.src == 0

    @property
    def is_subprogram_call(self) -> bool:
        return self.code == _CALL and self.src == PseudoSrc.CALL

    @property
    def is_exit(self) -> bool:
        return self.code == _EXIT

    @property
    def is_goto(self) -> bool:
        """An unconditional jump: `goto`, or the long `gotol` (-mcpu=v4)."""
        return self.code in _GOTOS

    @property
    def is_branch(self) -> bool:
        """A jump that may be taken or not."""
        return self.code in _BRANCHES

    @property
    def is_jump(self) -> bool:
        """A jump within a function, whether or not it is always taken."""
        return self.code in _JUMPS

    @property
    def jump(self) -> int:
        """Slots from the next one to where a jump goes."""
        return self.imm if self.code == _LONG_GOTO else self.off


@lru_cache(maxsize=1 << 14)
def insn_set(insn: Insn) -> InsnSet | None:
    """The set that an instruction belongs to; None if every kernel with BTF knows it."""
    cls, op = insn.cls, insn.op
    if cls is Class.STX and insn.mode == Mode.ATOMIC:
        if insn.imm in (LOAD_ACQUIRE, STORE_RELEASE):
            return InsnSet.ACQUIRE_RELEASE
        return InsnSet.ATOMIC if insn.imm else None
    if insn.code == _LONG_GOTO or (cls is Class.LDX and insn.mode == Mode.MEMSX):
        return InsnSet.V4
    if cls in (Class.ALU, Class.ALU64):
        if op == AluOp.END:
            return InsnSet.V4 if cls is Class.ALU64 else None
        if op == AluOp.ARSH and cls is Class.ALU:
            return InsnSet.SHIFT32
        is_signed = (op == AluOp.MOV and insn.off in (8, 16, 32)) or (op in (AluOp.DIV, AluOp.MOD) and insn.off == 1)
        return InsnSet.V4 if is_signed else None
    if cls in (Class.JMP, Class.JMP32) and op == JmpOp.JCOND:
        return InsnSet.MAY_GOTO
    return InsnSet.JUMP32 if cls is Class.JMP32 else None


def is_known_by_opcode(insn: Insn) -> bool:
    """Whether an instruction of an `InsnSet` has the opcode of an older one: a kernel that does not know it refuses it
    only where its verifier reaches it. It refuses any other wherever it is in the program."""
    is_arithmetic = insn.cls in (Class.ALU, Class.ALU64) and insn.op != AluOp.END
    return is_arithmetic or insn_set(insn) is InsnSet.ACQUIRE_RELEASE


def changes(insn: Insn, register: int) -> bool:
    """Whether an instruction may change a register."""
    if insn.is_call or insn.is_indirect_call or (insn.cls is Class.LD and insn.mode in (Mode.ABS, Mode.IND)):
        return register in _LOST_IN_CALLS
    if insn.cls is Class.STX and insn.mode == Mode.ATOMIC:
        return register in (insn.src, 0)  # those that fetch do
    # the second half of a 64-bit immediate load says nothing of registers
    is_result = insn.cls in (Class.ALU, Class.ALU64, Class.LDX, Class.LD)
    return is_result and insn.dst == register and insn.code != WIDE_TAIL


def decode(insns: bytes, *, endian: Literal["little", "big"] = "little") -> tuple[Insn, ...]:
    """Split instructions into slots. Raises `ObjectError` for half an instruction, or half a 64-bit load."""
    if len(insns) % INSN_SIZE:
        raise ObjectError(f"{len(insns)} bytes are not a whole number of {INSN_SIZE}-byte instructions")
    # most instructions of a program occur many times
    known: dict[bytes, Insn] = {}
    slots = []
    for (raw,) in struct.iter_unpack(f"{INSN_SIZE}s", insns):
        if raw not in known:
            known[raw] = _decode(raw, endian)
        slots.append(known[raw])
    left = enumerate(slots)
    for at, insn in left:
        if insn.is_wide and next(left, (at, insn))[1].code != WIDE_TAIL:  # which also steps over the second half
            raise ObjectError(f"instruction {at} is the first half of a 64-bit load, and the second is missing")
    return tuple(slots)


def _decode(raw: bytes, endian: Literal["little", "big"]) -> Insn:
    little = endian == "little"
    code, registers, off, imm = struct.unpack("<BBhi" if little else ">BBhi", raw)
    low, high = registers & 0xF, registers >> 4
    # the two nibbles are bitfields of C, so they lie the other way round in a big-endian object
    return Insn(code, low if little else high, high if little else low, off, imm)


def wide_immediate(first: Insn, second: Insn) -> int:
    """The value of a 64-bit immediate load, unsigned."""
    return first.imm & 0xFFFFFFFF | (second.imm & 0xFFFFFFFF) << 32
