"""Numbers that surely vary from run to run, and how arithmetic and comparisons change the range of what they may be.

Input: where a program reads something that no verifier knows, such as bytes of a packet. Output: values that a verifier
cannot rule out. What is given up is left out, so that whatever is in a `Varying`, every verifier has to reckon with.
Numbers of which this is not certain (perhaps the verifier knows them) are no `Varying`, but just unknown.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hatch_bpf.objects.insns import AluOp, JmpOp
from hatch_bpf.verifier.constants import arithmetic, mask_of

_LONGEST_TRACE = 16
"""Instructions that a number is followed through: in a loop, there is no end of them."""


@dataclass(frozen=True, slots=True)
class Varying:
    """A number that may be any of low, low + step, ..., high (unsigned)."""

    trace: tuple[int, ...]
    """Slot of the instruction that read it, and of those that calculated with it, or minus the size that it was cut to.
    Copies have the same."""
    low: int
    high: int
    step: int = 1

    @property
    def ends(self) -> tuple[int, int]:
        return self.low, self.high

    def covers(self, low: int, high: int) -> bool:
        """Whether it may be any number from low to high."""
        return self.step == 1 and self.low <= low and high <= self.high


def anything(slot: int, size: int) -> Varying:
    """What the instruction at a slot reads, in `size` bytes."""
    return Varying((slot,), 0, mask_of(8 * size))


def lowest_bytes(value: Varying, size: int) -> Varying | None:
    """The lowest `size` bytes, zero-extended."""
    return _masked(value, mask_of(8 * size), -size)


def with_sign(value: Varying, size: int) -> Varying | None:
    """The lowest `size` bytes as a signed number; of those, what is not negative."""
    half = 1 << (8 * size - 1)
    if value.high < half:
        return value
    return _made(value, -size, 0, half - 1) if value.covers(0, half - 1) else None


def calculate(op: int, value: Varying, operand: int, slot: int, bits: int) -> Varying | None:
    """`value op operand` by the instruction at a slot; None where not even two of the results are known."""
    narrow = lowest_bytes(value, bits // 8)
    if narrow is None:
        return None
    mask = mask_of(bits)
    operand &= mask
    match op:
        case AluOp.ADD | AluOp.SUB:
            return _added(narrow, operand if op == AluOp.ADD else -operand & mask, slot, mask)
        case AluOp.AND:
            return _masked(narrow, operand, slot)
        case AluOp.LSH if operand < bits and not narrow.high << operand > mask:
            return _made(narrow, slot, narrow.low << operand, narrow.high << operand, narrow.step << operand)
        case AluOp.LSH if operand < bits and narrow.covers(0, mask >> operand):
            return _made(narrow, slot, 0, mask >> operand << operand, 1 << operand)
        case AluOp.RSH if operand < bits:
            return _shifted(narrow, operand, slot)
        case AluOp.ARSH if operand < bits and narrow.low >> (bits - 1) == 0:
            first, last = max(_parts(narrow, JmpOp.JSGE, 0, is_true=True, bits=bits), key=_width)
            return _shifted(Varying(narrow.trace, first, last, narrow.step), operand, slot)
        case AluOp.DIV if operand and narrow.step == 1:
            return _made(narrow, slot, narrow.low // operand, narrow.high // operand)
        case AluOp.MOD if operand and narrow.covers(0, operand - 1):
            return _made(narrow, slot, 0, operand - 1)
    ends = [result for end in narrow.ends if (result := arithmetic(op, end, operand, bits)) is not None]
    return _made(narrow, slot, min(ends), max(ends), max(ends) - min(ends)) if ends else None


def subtract_from(operand: int, value: Varying, slot: int, bits: int) -> Varying | None:
    """`operand - value`"""
    operand &= mask_of(bits)
    return None if value.high > operand else _made(value, slot, operand - value.high, operand - value.low, value.step)


def narrowed(value: Varying, op: int, operand: int, *, is_true: bool, bits: int) -> Varying | None:
    """What is left of it where `value op operand` is true, or is not; None if nothing that varies."""
    first, last = max(_parts(value, op, operand, is_true=is_true, bits=bits), key=_width, default=(0, 0))
    return Varying(value.trace, first, last, value.step) if first < last else None


def rules_out(value: Varying, op: int, operand: int, *, is_true: bool, bits: int) -> bool:
    """Whether `value op operand` is never true, or always, of the numbers that it is known to be."""
    parts = list(_parts(value, op, operand, is_true=is_true, bits=bits))
    return bool(parts) and all(first > last for first, last in parts)


def _width(part: tuple[int, int]) -> int:
    return part[1] - part[0]


def _parts(value: Varying, op: int, operand: int, *, is_true: bool, bits: int) -> Iterator[tuple[int, int]]:
    """The least and the largest numbers of it in each of the ranges where a comparison has an outcome."""
    if value.high > mask_of(bits):
        return
    for low, high in _pieces(op, operand & mask_of(bits), is_true=is_true, bits=bits):
        first = value.low + max(0, -(-(low - value.low) // value.step)) * value.step
        last = value.high - max(0, -(-(value.high - high) // value.step)) * value.step
        yield first, last


def _pieces(op: int, operand: int, *, is_true: bool, bits: int) -> Iterator[tuple[int, int]]:
    """Ranges, ends included, in which a comparison has an outcome; none where they are not worked out."""
    most, half = mask_of(bits), 1 << (bits - 1)
    if not is_true:
        op = _OPPOSITE.get(op, op)
    match op:
        case JmpOp.JEQ:
            yield operand, operand
        case JmpOp.JNE:
            yield 0, operand - 1
            yield operand + 1, most
        case JmpOp.JGT:
            yield operand + 1, most
        case JmpOp.JGE:
            yield operand, most
        case JmpOp.JLT:
            yield 0, operand - 1
        case JmpOp.JLE:
            yield 0, operand
        case JmpOp.JSGT | JmpOp.JSGE:
            least = operand + (op == JmpOp.JSGT)
            if operand < half:
                yield least, half - 1
            else:
                yield 0, half - 1
                yield least, most
        case JmpOp.JSLT | JmpOp.JSLE:
            largest = operand - (op == JmpOp.JSLT)
            if operand < half:
                yield 0, largest
                yield half, most
            else:
                yield half, largest


def _both_ways(*pairs: tuple[JmpOp, JmpOp]) -> dict[int, JmpOp]:
    return {one: other for pair in pairs for one, other in (pair, pair[::-1])}


_OPPOSITE = _both_ways(
    (JmpOp.JEQ, JmpOp.JNE),
    (JmpOp.JGT, JmpOp.JLE),
    (JmpOp.JGE, JmpOp.JLT),
    (JmpOp.JSGT, JmpOp.JSLE),
    (JmpOp.JSGE, JmpOp.JSLT),
)
SWAPPED = {op: op for op in (JmpOp.JEQ, JmpOp.JNE, JmpOp.JSET)} | _both_ways(
    (JmpOp.JGT, JmpOp.JLT), (JmpOp.JGE, JmpOp.JLE), (JmpOp.JSGT, JmpOp.JSLT), (JmpOp.JSGE, JmpOp.JSLE)
)
"""The comparison that says the same with its operands exchanged."""


def _made(value: Varying, slot: int, low: int, high: int, step: int = 1) -> Varying | None:
    """What an instruction makes of a number; None if that is a single one."""
    if low >= high or len(value.trace) >= _LONGEST_TRACE:
        return None
    return Varying((*value.trace, slot), low, high, step)


def _added(value: Varying, operand: int, slot: int, mask: int) -> Varying | None:
    low, high, step = value.low + operand, value.high + operand, value.step
    if low > mask:
        low, high = low - mask - 1, high - mask - 1
    if high <= mask:
        return _made(value, slot, low, high, step)
    # the sums begin anew at 0 on the way: either part will do
    last = mask - (mask - low) % step
    first = last + step - mask - 1
    if last - low > high - mask - 1 - first:
        return _made(value, slot, low, last, step)
    return _made(value, slot, first, high - mask - 1, step)


def _shifted(value: Varying, operand: int, slot: int) -> Varying | None:
    """`value >> operand`"""
    low, high, unit = value.low >> operand, value.high >> operand, 1 << operand
    if value.step == 1 or value.step % unit == value.low % unit == 0:
        return _made(value, slot, low, high, max(1, value.step >> operand))
    return _made(value, slot, low, high, high - low)


def _masked(value: Varying, mask: int, slot: int) -> Varying | None:
    """`value & mask`"""
    if not mask:
        return None
    lowest_bit, bound = mask & -mask, (1 << mask.bit_length()) - 1
    if lowest_bit == 1 and mask == bound and value.high <= mask:
        return value
    has_all = mask + lowest_bit == bound + 1
    if has_all and value.low == 0 and value.high >= mask and lowest_bit % value.step == 0:
        return _made(value, slot, 0, mask, lowest_bit)
    if value.covers(0, bound):
        return _made(value, slot, 0, mask, mask)
    one, other = sorted(end & mask for end in value.ends)
    return _made(value, slot, one, other, other - one)
