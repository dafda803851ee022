"""What a verifier knows of a comparison's outcome, and what either outcome says of the numbers that were compared.

Input: a comparison, its outcome and its operands. Output: the outcome, as far as the verifier knows it; a `State` with
what holds on one way of the branch.
"""

from __future__ import annotations

from dataclasses import replace

from hatch_bpf.objects.insns import Insn, JmpOp
from hatch_bpf.verifier.abilities import Verifier
from hatch_bpf.verifier.state import State
from hatch_bpf.verifier.values import MapValue, Outcome, Value
from hatch_bpf.verifier.varying import SWAPPED, Varying, narrowed, rules_out


def decided(outcome: Outcome, insn: Insn, verifier: Verifier) -> Outcome:
    """What a verifier knows of a comparison's outcome; None if it follows both ways."""
    if insn.uses_register:
        return outcome if verifier.decides_registers else None
    if insn.op not in (JmpOp.JEQ, JmpOp.JNE):
        return outcome if verifier.decides_order else None
    are_unequal = isinstance(outcome, bool) and outcome != (insn.op == JmpOp.JEQ)
    return None if are_unequal and not verifier.decides_unequal else outcome


def learn(state: State, op: int, left: Value, right: Value, *, is_true: bool, bits: int, is_old: bool) -> None:
    """Note what a comparison's outcome says of its operands, on a way that the verifier may follow.

    A verifier that `is_old` (from before Linux 5.12) learns nothing from two numbers being unequal, from a comparison
    with what is no constant, and of numbers that the compared one was made from. Others may, and they may know that a
    lookup in an array always leads somewhere.
    """
    if isinstance(left, int) and isinstance(right, Varying) and op in SWAPPED:
        left, op, right = right, SWAPPED[op], left
    is_equal = is_true == (op == JmpOp.JEQ) if op in (JmpOp.JEQ, JmpOp.JNE) else None
    is_null = is_equal if right == 0 and bits == 64 else None
    if isinstance(left, MapValue) and not left.is_checked and is_null is not None:
        checked = 0 if is_null else replace(left, is_checked=True)
        state.replace(lambda value: checked if value == left else value)
        state.is_doubtful |= is_null and not is_old
    elif isinstance(left, Varying) and isinstance(right, int):
        if rules_out(left, op, right, is_true=is_true, bits=bits):
            state.is_doubtful = True
        if not (is_old and is_equal is False):
            _narrow(state, left, narrowed(left, op, right, is_true=is_true, bits=bits), is_old=is_old)
    elif isinstance(left, Varying) or isinstance(right, Varying):
        varying = [value for value in (left, right) if isinstance(value, Varying)]
        if len({value.trace[0] for value in varying}) < len(varying):
            state.is_doubtful = True  # one may say enough of the other
        for value in varying if not is_old else ():
            _narrow(state, value, None, is_old=is_old)
    elif is_null:
        # what is compared may be a pointer that the verifier knows not to be 0
        state.is_doubtful = True


def _narrow(state: State, value: Varying, rest: Varying | None, *, is_old: bool) -> None:
    """Note what is left of a number. Newer verifiers may know by that more of others that were made of the same one."""

    def change(other: Value) -> Value:
        if other == value:
            return rest
        is_related = isinstance(other, Varying) and other.trace[0] == value.trace[0]
        return None if is_related and not is_old else other

    state.replace(change)
