"""What the analysis of a program knows about a register or stack slot, and how arithmetic and comparisons act on it.

Input: abstract values. Output: abstract values, and the outcome of comparisons. This module knows nothing that the
kernel's verifier does not know: it gives up where the verifier does (division, byte swaps). Else it would call a branch
dead that the verifier walks.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from hatch_bpf.btf.types import signed
from hatch_bpf.objects.insns import AluOp, JmpOp
from hatch_bpf.verifier.constants import ARITHMETIC, COMPARISONS, SIGNED_COMPARISONS, arithmetic, holds, mask_of
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


class Opaque:
    """A known number whose value was kept back, to see whether anything depends on it."""


class NonNull:
    """An address that the verifier knows not to be 0, as that of a kfunc."""


class PerhapsStack:
    """Unknown, and perhaps a pointer into the stack."""


class PacketPointer:
    """Into the packet that a program is given, or to its end."""


OPAQUE = Opaque()
NON_NULL = NonNull()
PERHAPS_STACK = PerhapsStack()
PACKET = PacketPointer()

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
    mask = mask_of(8 * size)
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
            return signed(value & mask_of(bits), bits) & U64
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
    if op not in ARITHMETIC or op in gives_up_on:
        return None
    match a, b:
        case int(), int():
            return arithmetic(op, a, b, bits)
        case (Settable(), int() | Settable()) | (int(), Settable()):
            return truncate(_settable(op, a, b, bits), bits // 8)
        case (Settable(), None) | (None, Settable()):
            # with 0, or with all ones, the other operand doesn't matter
            return Settable(_names(a, b)) if op in (AluOp.AND, AluOp.OR, AluOp.MUL) else None
        case (Opaque(), int() | Settable() | Opaque()) | (int() | Settable(), Opaque()):
            return OPAQUE
        case (None, 0) | (0, None) if op == AluOp.AND:
            return 0
        case _:
            return None


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
        delta = signed(b, 64)
        offset = a.offset + delta if op == AluOp.ADD else a.offset - delta
    if isinstance(a, StackPointer):
        return StackPointer(a.frame, offset, varies=a.varies or isinstance(b, Varying))
    return replace(a, offset=offset)


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


def _names(*values: Value) -> frozenset[str]:
    """What the settable ones among some values depend on."""
    return frozenset().union(*(value.names for value in values if isinstance(value, Settable)))


def _settable(op: int, a: Value, b: Value, bits: int) -> Settable:
    """The result's bounds, where they are easy to tell and matter: shifts and masks around a version number."""
    names = _names(a, b)
    if isinstance(a, Settable) and isinstance(b, int):
        match op:
            case AluOp.LSH if b < bits and a.high << b <= U64:
                return Settable(names, a.low << b, a.high << b)
            case AluOp.RSH | AluOp.ARSH if b < bits and (op == AluOp.RSH or not a.high >> (bits - 1)):
                return Settable(names, a.low >> b, a.high >> b)
            case AluOp.AND:
                return Settable(names, 0, min(a.high, b))
            case AluOp.ADD if a.high + b <= U64:
                return Settable(names, a.low + b, a.high + b)
    return Settable(names)


def compare(op: int, a: Value, b: Value, *, bits: int) -> Outcome:
    """Whether a conditional jump is taken."""
    if op not in COMPARISONS:
        return None
    if bits == 32:
        if not isinstance(a, NonNull):
            a = truncate(a, 4)
        b = truncate(b, 4)
    match a, b:
        case int(), int():
            return holds(op, a, b, bits)
        case NonNull(), 0 if bits == 64 and op in (JmpOp.JEQ, JmpOp.JNE):
            return op == JmpOp.JNE
        case ((int() | Settable()), (int() | Settable())):
            return _settable_outcome(op, a, b, bits)
        case (Opaque(), int() | Settable() | Opaque()) | (int() | Settable(), Opaque()):
            return OPAQUE
        case _:
            return None


def _settable_outcome(op: int, a: int | Settable, b: int | Settable, bits: int) -> Outcome:
    """The outcome, if it is the same for every value within the bounds."""
    undecided = Undecided(_names(a, b))
    (a_low, a_high), (b_low, b_high) = (
        (value.low, value.high) if isinstance(value, Settable) else (value, value) for value in (a, b)
    )
    if op in SIGNED_COMPARISONS and max(a_high, b_high) >> (bits - 1):
        return undecided  # bounds are unsigned, and say as much of signed numbers only below the sign bit
    if op == JmpOp.JSET:
        return False if 0 in (a_high, b_high) else undecided
    if op in (JmpOp.JEQ, JmpOp.JNE):
        if a_high < b_low or a_low > b_high:
            return op == JmpOp.JNE
        return op == JmpOp.JEQ if a_low == a_high == b_low == b_high else undecided
    # an order that has the same outcome at both of its extremes has it in between
    outcome = holds(op, a_low, b_high, bits)
    return outcome if outcome == holds(op, a_high, b_low, bits) else undecided
