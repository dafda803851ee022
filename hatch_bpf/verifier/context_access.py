"""Where a program may read or write its context through a pointer that it has moved: verifiers refuse that.

Input: a program. Output: the slots of such loads and stores, more of them rather than fewer; the walk in `walk.py` says
for which of them it is so. Most programs have none, and need not be walked for it.
"""

from __future__ import annotations

from hatch_bpf.objects.insns import STACK_REGISTER, AluOp, Class, Insn
from hatch_bpf.objects.linked_program import LinkedProgram

_CONTEXT = 1 << 1
"""The program is called with it in r1."""
_SAVED = 0b1111 << 6
"""Registers that outlive a call."""
_MOVES = frozenset({AluOp.ADD, AluOp.SUB})


def suspects(linked: LinkedProgram) -> frozenset[int]:
    """Slots of loads and stores whose address may be the context, moved."""
    search = _Search(linked)
    search.run()
    return frozenset(search.found)


class _Search:
    """For each slot, bit sets of the registers that may hold the context as it was given, and the context moved."""

    def __init__(self, linked: LinkedProgram) -> None:
        self._linked = linked
        self._before: dict[int, tuple[int, int]] = {}
        self._pending: list[int] = []
        self._spilled = [False, False]
        """Whether the stack may hold the context: as it was given, and moved."""
        self.found: set[int] = set()

    def run(self) -> None:
        self._reach(0, (_CONTEXT, 0))
        while self._pending:
            slot = self._pending.pop()
            insn, before = self._linked.insns[slot], self._before[slot]
            address = insn.src if insn.cls is Class.LDX else insn.dst
            if insn.cls in (Class.LDX, Class.ST, Class.STX) and before[1] >> address & 1:
                self.found.add(slot)
            after = self._step(insn, before)
            if slot in self._linked.calls:
                start = self._linked.starts[self._linked.calls[slot]]
                self._reach(start, (before[0] & 0b111110, before[1] & 0b111110))
            for successor in self._linked.after(slot):
                self._reach(successor, after)

    def _reach(self, slot: int, held: tuple[int, int]) -> None:
        old = self._before.get(slot)
        new = held if old is None else (old[0] | held[0], old[1] | held[1])
        if new != old:
            self._before[slot] = new
            self._pending.append(slot)

    def _step(self, insn: Insn, before: tuple[int, int]) -> tuple[int, int]:
        given, moved = before
        dst, cls = 1 << insn.dst, insn.cls
        if insn.is_call:
            return given & _SAVED, moved & _SAVED
        if cls is Class.STX and insn.dst == STACK_REGISTER and insn.size == 8:
            self._spill(bool(given >> insn.src & 1), bool(moved >> insn.src & 1))
        if cls is Class.LDX or insn.is_wide:
            restores = cls is Class.LDX and insn.src == STACK_REGISTER and insn.size == 8
            held = self._spilled if restores else [False, False]
            return _put(given, dst, held[0]), _put(moved, dst, held[1])
        if cls is Class.ALU:
            return given & ~dst, moved & ~dst
        if cls is not Class.ALU64:
            return given, moved
        source = 1 << insn.src if insn.uses_register else 0
        if insn.op == AluOp.MOV:
            return _put(given, dst, given & source), _put(moved, dst, moved & source)
        is_pointer = (given | moved) & (dst | source)
        return given & ~dst, _put(moved, dst, insn.op in _MOVES and is_pointer)

    def _spill(self, given: bool, moved: bool) -> None:
        spilled = [self._spilled[0] or given, self._spilled[1] or moved]
        if spilled != self._spilled:
            self._spilled = spilled
            # what was restored before may be the context too
            self._pending.extend(self._before)


def _put(held: int, register: int, is_there: object) -> int:
    return held | register if is_there else held & ~register
