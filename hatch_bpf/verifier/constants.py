"""Arithmetic and comparisons of constants, as far as the kernel's verifier knows their results.

Input: unsigned numbers of 32 or 64 bits. Output: the same, or whether a comparison holds.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping

from hatch_bpf.btf.types import signed
from hatch_bpf.objects.insns import AluOp, JmpOp

ARITHMETIC: Mapping[int, Callable[[int, int], int]] = {
    AluOp.ADD: operator.add,
    AluOp.SUB: operator.sub,
    AluOp.MUL: operator.mul,
    AluOp.AND: operator.and_,
    AluOp.OR: operator.or_,
    AluOp.XOR: operator.xor,
    AluOp.LSH: operator.lshift,
    AluOp.RSH: operator.rshift,
    AluOp.ARSH: operator.rshift,
}
"""Operations whose results verifiers know; none knows those of divisions, negations and byte swaps."""
_SHIFTS = frozenset({AluOp.LSH, AluOp.RSH, AluOp.ARSH})
COMPARISONS: Mapping[int, Callable[[int, int], object]] = {
    JmpOp.JEQ: operator.eq,
    JmpOp.JNE: operator.ne,
    JmpOp.JGT: operator.gt,
    JmpOp.JGE: operator.ge,
    JmpOp.JLT: operator.lt,
    JmpOp.JLE: operator.le,
    JmpOp.JSET: operator.and_,
    JmpOp.JSGT: operator.gt,
    JmpOp.JSGE: operator.ge,
    JmpOp.JSLT: operator.lt,
    JmpOp.JSLE: operator.le,
}
SIGNED_COMPARISONS = frozenset({JmpOp.JSGT, JmpOp.JSGE, JmpOp.JSLT, JmpOp.JSLE})


def mask_of(bits: int) -> int:
    """The largest unsigned number of some bits."""
    return (1 << bits) - 1


def arithmetic(op: int, a: int, b: int, bits: int) -> int | None:
    """`a op b`; None where no verifier knows the result."""
    if op not in ARITHMETIC or (op in _SHIFTS and b >= bits):
        return None
    return ARITHMETIC[op](signed(a, bits) if op == AluOp.ARSH else a, b) & mask_of(bits)


def holds(op: int, a: int, b: int, bits: int) -> bool:
    """Whether `a op b` is true, for one of `COMPARISONS`."""
    if op in SIGNED_COMPARISONS:
        a, b = signed(a, bits), signed(b, bits)
    return bool(COMPARISONS[op](a, b))
