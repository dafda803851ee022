"""Where a program may read or write its context: as it was given, or through a pointer that it has moved.

Input: a program. Output: the slots of such loads and stores, more of them rather than fewer; the walk in `walk.py` says
for which of them it is so. Few programs do what a verifier refuses there, and only those need to be walked for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache

from hatch_bpf.objects.insns import STACK_REGISTER, AluOp, Class, Insn
from hatch_bpf.objects.linked_program import LinkedProgram

_CONTEXT = 1 << 1
"""The program is called with it in r1."""
_SAVED = 0b1111 << 6
"""Registers that outlive a call."""
_ARGUMENTS = 0b111110
_MOVES = frozenset({AluOp.ADD, AluOp.SUB})


@dataclass(frozen=True)
class ContextAccesses:
    """Slots of loads and stores whose address may be the context."""

    given: frozenset[int]
    """As the program was called with it: what is accessed is at the instruction's own offset."""
    moved: frozenset[int]


def context_accesses(linked: LinkedProgram) -> ContextAccesses:
    """Find the loads and stores of a program that may access its context."""
    search = _Search(linked)
    search.run()
    return ContextAccesses(frozenset(search.given), frozenset(search.moved))


class _Effect(Enum):
    """What an instruction does to what registers hold."""

    NONE = auto()
    CLEAR = auto()
    COPY = auto()
    MOVE = auto()
    SPILL = auto()
    RESTORE = auto()
    CALL = auto()


@lru_cache(maxsize=1 << 14)
def _effect(insn: Insn) -> tuple[_Effect, int, int, int]:
    """The effect, and as bits: the register that is written, the one that it is made of, and the address accessed."""
    dst, src, cls = 1 << insn.dst, 1 << insn.src, insn.cls
    on_stack = insn.size == 8
    if insn.is_call:
        return _Effect.CALL, 0, 0, 0
    if cls is Class.STX:
        is_spill = insn.dst == STACK_REGISTER and on_stack
        return _Effect.SPILL if is_spill else _Effect.NONE, 0, src, dst
    if cls is Class.LDX:
        is_restore = insn.src == STACK_REGISTER and on_stack
        return _Effect.RESTORE if is_restore else _Effect.CLEAR, dst, 0, src
    if cls is Class.ST:
        return _Effect.NONE, 0, 0, dst
    if cls is Class.ALU or insn.is_wide:
        return _Effect.CLEAR, dst, 0, 0
    if cls is not Class.ALU64:
        return _Effect.NONE, 0, 0, 0
    source = src if insn.uses_register else 0
    if insn.op == AluOp.MOV:
        return _Effect.COPY, dst, source, 0
    return _Effect.MOVE if insn.op in _MOVES else _Effect.CLEAR, dst, source, 0


class _Search:
    """Where paths meet, bit sets of the registers that may hold the context as it was given, and the context moved."""

    def __init__(self, linked: LinkedProgram) -> None:
        self._linked = linked
        self._effects = [_effect(insn) for insn in linked.insns]
        self._before: dict[int, tuple[int, int]] = {}
        self._pending: list[int] = []
        self._spilled = (False, False)
        """Whether the stack may hold the context: as it was given, and moved."""
        self.given: set[int] = set()
        self.moved: set[int] = set()

    def run(self) -> None:
        self._reach(0, _CONTEXT, 0)
        while self._pending:
            self._follow(self._pending.pop())

    def _reach(self, slot: int, given: int, moved: int) -> None:
        old = self._before.get(slot)
        new = (given, moved) if old is None else (old[0] | given, old[1] | moved)
        if new != old:
            self._before[slot] = new
            self._pending.append(slot)

    def _follow(self, slot: int) -> None:
        """Go on from a slot where paths meet up to the next one."""
        linked, effects, insns = self._linked, self._effects, self._linked.insns
        given, moved = self._before[slot]
        while slot < len(insns):
            effect, written, source, address = effects[slot]
            if given & address:
                self.given.add(slot)
            if moved & address:
                self.moved.add(slot)
            if effect is _Effect.CLEAR:
                given, moved = given & ~written, moved & ~written
            elif effect is _Effect.COPY:
                given = given | written if given & source else given & ~written
                moved = moved | written if moved & source else moved & ~written
            elif effect is _Effect.MOVE:
                is_pointer = (given | moved) & (written | source)
                given, moved = given & ~written, moved | written if is_pointer else moved & ~written
            elif effect is _Effect.CALL:
                if slot in linked.calls:
                    self._reach(linked.starts[linked.calls[slot]], given & _ARGUMENTS, moved & _ARGUMENTS)
                given, moved = given & _SAVED, moved & _SAVED
            elif effect is _Effect.SPILL:
                self._spill(bool(given & source), bool(moved & source))
            elif effect is _Effect.RESTORE:
                given = given | written if self._spilled[0] else given & ~written
                moved = moved | written if self._spilled[1] else moved & ~written
            insn = insns[slot]
            if insn.is_jump:
                self._reach(slot + 1 + insn.jump, given, moved)
            if insn.is_exit or insn.is_goto:
                return
            slot += 2 if insn.is_wide else 1
            if slot in linked.meetings:
                self._reach(slot, given, moved)
                return

    def _spill(self, given: bool, moved: bool) -> None:
        spilled = (self._spilled[0] or given, self._spilled[1] or moved)
        if spilled != self._spilled:
            self._spilled = spilled
            # what was restored before may be the context too
            self._pending.extend(self._before)
