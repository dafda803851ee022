"""What the analysis of a program knows about a register or stack slot, and how arithmetic and comparisons act on it.

Input: abstract values. Output: abstract values, and the outcome of comparisons. This module knows nothing that the
kernel's verifier does not know: it gives up where the verifier does (division, byte swaps). Else it would call a branch
dead that the verifier walks.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from hatch_bpf.objects.insns import AluOp, JmpOp
from hatch_bpf.verifier.varying import Varying, anything, calculate, lowest_bytes, subtract_from, with_sign

U32 = 0xFFFFFFFF
U64 = 0xFFFFFFFFFFFFFFFF


@dataclass(frozen=True, slots=True)
class Settable:
    """A number that is fixed when the program is loaded, but not known at build time: a read-only global that the
    application may set, a value of the kernel's configuration."""

    names: frozenset[str]
    """The globals or configuration values that it depends on."""
    low: int = 0
    """Least value it can have, unsigned."""
    high: int = U64


@dataclass(frozen=True, slots=True)
class StackPointer:
    frame: int
    """0 is the program's own."""
    offset: int | None
    """From the top of the frame, so 0 or less; None if unknown."""
    varies: bool = False
    """Whether the offset surely varies from run to run."""


@dataclass(frozen=True, slots=True)
class ContextPointer:
    """What a program is called with in r1: for tracing programs, an array of their target's arguments."""

    offset: int | None


@dataclass(frozen=True, slots=True)
class DataPointer:
    """Into a section of global data, or to a kconfig extern."""

    name: str
    """The section's, or the extern's."""
    offset: int | None
    is_kconfig: bool = False


@dataclass(frozen=True, slots=True)
class MapValue:
    """Where a lookup in a map led to, or an address at some distance from there."""

    call: int
    """Slot of the lookup."""
    is_checked: bool = False
    """Whether it is known not to be null."""


@dataclass(frozen=True, slots=True)
class RingBufferSpace:
    """What bpf_ringbuf_reserve() returned, or an address at some distance from there."""

    is_lost: bool = False
    """Whether it was on the stack, where the first kernels with ring buffers take it for a number."""


@dataclass(frozen=True, slots=True)
class FunctionPointer:
    """The address of a subprogram: index in `LinkedProgram.functions`."""

    index: int


class _NamedValue:
    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


class Opaque(_NamedValue):
    """A known number whose value was kept back, to see whether anything depends on it."""


class NonNull(_NamedValue):
    """An address that the verifier knows not to be 0, as that of a kfunc."""


class PerhapsStack(_NamedValue):
    """Unknown, and perhaps a pointer into the stack."""


class PacketPointer(_NamedValue):
    """Into the packet that a program is given, or to its end."""


OPAQUE = Opaque("OPAQUE")
NON_NULL = NonNull("NON_NULL")
PERHAPS_STACK = PerhapsStack("PERHAPS_STACK")
PACKET = PacketPointer("PACKET")

Value = (
    int
    | Settable
    | StackPointer
    | ContextPointer
    | DataPointer
    | MapValue
    | RingBufferSpace
    | PacketPointer
    | FunctionPointer
    | Varying
    | Opaque
    | NonNull
    | PerhapsStack
    | None
)
"""A number is an unsigned 64-bit constant; None is unknown, and may change from run to run."""


@dataclass(frozen=True, slots=True)
class Undecided:
    """A comparison whose outcome is fixed at load, but unknown before."""

    names: frozenset[str]


Outcome = bool | Undecided | Opaque | None
"""Outcome of a comparison: known; known at load; dependent on an opaque number; or unknown, so both ways are walked."""


def join(a: Value, b: Value) -> Value:
    """What two values have in common: all that is known where paths meet."""
    if a == b:
        return a
    match a, b:
        case (StackPointer(), StackPointer()) if a.frame == b.frame:
            return StackPointer(a.frame, None, varies=a.varies and b.varies)
        case (StackPointer() | PerhapsStack(), _) | (_, StackPointer() | PerhapsStack()):
            return PERHAPS_STACK
        case (DataPointer(), DataPointer()) if a.name == b.name and a.is_kconfig == b.is_kconfig:
            return DataPointer(a.name, None, a.is_kconfig)
        case (ContextPointer(), ContextPointer()):
            return ContextPointer(None)
        case (Settable(), Settable()):
            return Settable(a.names | b.names)
        case (Opaque(), int() | Opaque() | Settable()) | (int() | Settable(), Opaque()):
            return OPAQUE
        case _:
            return None


def truncate(value: Value, size: int) -> Value:
    """The lowest `size` bytes of a value, zero-extended: what a store of that size keeps."""
    if size == 8:
        return value
    mask = (1 << 8 * size) - 1
    match value:
        case int():
            return value & mask
        case Settable():
            return value if value.high <= mask else Settable(value.names, 0, mask)
        case Opaque():
            return value
        case Varying():
            return lowest_bytes(value, size)
        case _:
            return None


def sign_extend(value: Value, size: int) -> Value:
    """The lowest `size` bytes of a value as a signed number, in 64 bits."""
    bits = 8 * size
    match value:
        case int():
            value &= (1 << bits) - 1
            return (value - (1 << bits)) & U64 if value >> (bits - 1) else value
        case Settable():
            return value if value.high < 1 << (bits - 1) else Settable(value.names)
        case Opaque():
            return value
        case Varying():
            return with_sign(value, size)
        case _:
            return None


def alu(op: int, a: Value, b: Value, *, bits: int, slot: int = 0, gives_up_on: Collection[int] = ()) -> Value:
    """`a op b` in 64 or 32 bits by the instruction at a slot; MOV gives b. Results of 32 bits are zero-extended."""
    if op == AluOp.MOV:
        return truncate(b, bits // 8)
    if bits == 64 and op in (AluOp.ADD, AluOp.SUB):
        moved = _move_pointer(op, a, b)
        if moved is not None:
            return moved
    if isinstance(a, Varying) or isinstance(b, Varying):
        return _vary(op, a, b, bits, slot, gives_up_on)
    if bits == 32:
        a, b = truncate(a, 4), truncate(b, 4)
    if op not in _FOLLOWED or op in gives_up_on:
        return None
    match a, b:
        case int(), int():
            return _number(op, a, b, bits)
        case (Settable(), int() | Settable()) | (int(), Settable()):
            result = _settable(op, a, b, bits)
            return truncate(result, bits // 8)
        case (Settable(), None) | (None, Settable()):
            # with 0, or with all ones, the other operand doesn't matter
            names = a.names if isinstance(a, Settable) else b.names  # type: ignore[union-attr]
            return Settable(names) if op in (AluOp.AND, AluOp.OR, AluOp.MUL) else None
        case (Opaque(), int() | Settable() | Opaque()) | (int() | Settable(), Opaque()):
            return OPAQUE
        case (None, 0) | (0, None) if op == AluOp.AND:
            return 0
        case _:
            return None


_FOLLOWED = frozenset(
    {AluOp.ADD, AluOp.SUB, AluOp.MUL, AluOp.AND, AluOp.OR, AluOp.XOR, AluOp.LSH, AluOp.RSH, AluOp.ARSH}
)
"""Arithmetic whose result on constants verifiers know; none knows those of divisions, negations and byte swaps."""


def _move_pointer(op: int, a: Value, b: Value) -> Value:
    """Pointer plus or minus a number; None where that is not what this is."""
    if not isinstance(a, _POINTERS):
        if op != AluOp.ADD or not isinstance(b, _POINTERS):
            return PERHAPS_STACK if PERHAPS_STACK in (a, b) else None
        a, b = b, a
    if isinstance(b, _POINTERS):
        return None
    if isinstance(a, (MapValue, PacketPointer, RingBufferSpace)):
        return a
    offset: int | None = None
    if isinstance(b, int) and a.offset is not None:
        delta = b - (1 << 64) if b >> 63 else b
        offset = a.offset + delta if op == AluOp.ADD else a.offset - delta
    if isinstance(a, StackPointer):
        return StackPointer(a.frame, offset, varies=a.varies or isinstance(b, Varying))
    if isinstance(a, ContextPointer):
        return ContextPointer(offset)
    return DataPointer(a.name, offset, a.is_kconfig)


_POINTERS = (StackPointer, DataPointer, ContextPointer, MapValue, PacketPointer, RingBufferSpace)


def _vary(op: int, a: Value, b: Value, bits: int, slot: int, gives_up_on: Collection[int]) -> Value:
    """The result where an operand varies."""
    if op in gives_up_on and isinstance(a, (int, Varying)) and isinstance(b, (int, Varying)):
        return anything(slot, bits // 8)
    match a, b:
        case (Varying(), 0) | (0, Varying()) if op == AluOp.AND:
            return 0
        case Varying(), int():
            return calculate(op, a, b, slot, bits)
        case int(), Varying() if op in _COMMUTATIVE:
            return calculate(op, b, a, slot, bits)
        case int(), Varying() if op == AluOp.SUB:
            return subtract_from(a, b, slot, bits)
        case Settable(), _:
            return alu(op, a, None, bits=bits)
        case _, Settable():
            return alu(op, None, b, bits=bits)
        case _:
            return None


_COMMUTATIVE = frozenset({AluOp.ADD, AluOp.AND, AluOp.OR, AluOp.XOR, AluOp.MUL})


def _number(op: int, a: int, b: int, bits: int) -> int | None:
    mask = (1 << bits) - 1
    match op:
        case AluOp.ADD:
            return (a + b) & mask
        case AluOp.SUB:
            return (a - b) & mask
        case AluOp.MUL:
            return a * b & mask
        case AluOp.AND:
            return a & b
        case AluOp.OR:
            return a | b
        case AluOp.XOR:
            return a ^ b
    if b >= bits:
        return None
    match op:
        case AluOp.LSH:
            return a << b & mask
        case AluOp.RSH:
            return a >> b
        case _:  # ARSH
            return _signed(a, bits) >> b & mask


def _settable(op: int, a: Value, b: Value, bits: int) -> Settable:
    """The result's bounds, where they are easy to tell and matter: shifts and masks around a version number."""
    names: frozenset[str] = frozenset()
    for value in (a, b):
        if isinstance(value, Settable):
            names |= value.names
    if isinstance(a, Settable) and isinstance(b, int):
        match op:
            case AluOp.LSH if b < bits and a.high << b <= U64:
                return Settable(names, a.low << b, a.high << b)
            case AluOp.RSH if b < bits:
                return Settable(names, a.low >> b, a.high >> b)
            case AluOp.ARSH if b < bits and not a.high >> (bits - 1):
                return Settable(names, a.low >> b, a.high >> b)
            case AluOp.AND:
                return Settable(names, 0, min(a.high, b))
            case AluOp.ADD if a.high + b <= U64:
                return Settable(names, a.low + b, a.high + b)
    return Settable(names)


def compare(op: int, a: Value, b: Value, *, bits: int) -> Outcome:
    """Whether a conditional jump is taken."""
    if op not in _COMPARISONS:
        return None
    if bits == 32:
        if not isinstance(a, NonNull):
            a = truncate(a, 4)
        b = truncate(b, 4)
    match a, b:
        case int(), int():
            return _holds(op, a, b, bits)
        case NonNull(), 0 if bits == 64 and op in (JmpOp.JEQ, JmpOp.JNE):
            return op == JmpOp.JNE
        case (Settable(), int() | Settable()) | (int(), Settable()):
            return _settable_outcome(op, a, b, bits)
        case (Opaque(), int() | Settable() | Opaque()) | (int() | Settable(), Opaque()):
            return OPAQUE
        case _:
            return None


_COMPARISONS = frozenset(JmpOp) - {JmpOp.JA, JmpOp.CALL, JmpOp.EXIT, JmpOp.JCOND}


def _holds(op: int, a: int, b: int, bits: int) -> bool:
    match op:
        case JmpOp.JEQ:
            return a == b
        case JmpOp.JNE:
            return a != b
        case JmpOp.JGT:
            return a > b
        case JmpOp.JGE:
            return a >= b
        case JmpOp.JLT:
            return a < b
        case JmpOp.JLE:
            return a <= b
        case JmpOp.JSET:
            return bool(a & b)
    a, b = _signed(a, bits), _signed(b, bits)
    match op:
        case JmpOp.JSGT:
            return a > b
        case JmpOp.JSGE:
            return a >= b
        case JmpOp.JSLT:
            return a < b
        case _:  # JSLE
            return a <= b


def _settable_outcome(op: int, a: Value, b: Value, bits: int) -> Outcome:
    """Decided where every value in bounds compares alike."""
    names: frozenset[str] = frozenset()
    ranges = []
    for value in (a, b):
        if isinstance(value, Settable):
            names |= value.names
            ranges.append((value.low, value.high))
        elif isinstance(value, int):
            ranges.append((value, value))
    (a_low, a_high), (b_low, b_high) = ranges
    if op in (JmpOp.JSGT, JmpOp.JSGE, JmpOp.JSLT, JmpOp.JSLE):
        # bounds are unsigned, and say as much of signed numbers only below the sign bit
        if max(a_high, b_high) >> (bits - 1):
            return Undecided(names)
        op = _UNSIGNED[JmpOp(op)]
    if op in (JmpOp.JEQ, JmpOp.JNE) and a_low == a_high == b_low == b_high:
        return op == JmpOp.JEQ
    if op == JmpOp.JSET:
        return False if 0 in (a_high, b_high) else Undecided(names)
    if a_high < b_low:
        return op in (JmpOp.JLT, JmpOp.JLE, JmpOp.JNE)
    if a_low > b_high:
        return op in (JmpOp.JGT, JmpOp.JGE, JmpOp.JNE)
    if op == JmpOp.JGE and a_low >= b_high:
        return True
    if op == JmpOp.JLE and a_high <= b_low:
        return True
    if op == JmpOp.JLT and a_low >= b_high:
        return False
    if op == JmpOp.JGT and a_high <= b_low:
        return False
    return Undecided(names)


_UNSIGNED = {JmpOp.JSGT: JmpOp.JGT, JmpOp.JSGE: JmpOp.JGE, JmpOp.JSLT: JmpOp.JLT, JmpOp.JSLE: JmpOp.JLE}


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value
