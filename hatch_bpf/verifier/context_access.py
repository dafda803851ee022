"""Where a program may read or write its context: as it was given, or through a pointer that it has moved.

Input: a program. Output: the slots of such loads and stores, rather too many than too few; the walk in `walk.py` says
which of them really are. Few programs do what a verifier refuses there, and only those need the walk.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache

from hatch_bpf.objects.insns import STACK_REGISTER, AluOp, Class, Insn
from hatch_bpf.objects.linked_program import LinkedProgram

_GIVEN, _MOVED = 1, 2
"""What a register may hold: the context as the program was called with it, or moved."""
_NO_REGISTER = STACK_REGISTER + 1
"""For what an instruction does not name. Holds nothing, and nothing is written to it."""
_NOTHING = bytes(_NO_REGISTER + 1)
_AT_START = bytes((0, _GIVEN)).ljust(len(_NOTHING), b"\0")
"""A program is called with the context in r1."""


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

    COPY = auto()
    """Also where nothing that may be the context is written."""
    MOVE = auto()
    SPILL = auto()
    RESTORE = auto()
    CALL = auto()


@lru_cache(maxsize=1 << 14)
def _effect(insn: Insn) -> tuple[_Effect, int, int, int]:
    """The effect, and three registers: the one written, the one that it is made of, and the address accessed."""
    dst, src, cls = insn.dst, insn.src, insn.cls
    if insn.is_call:
        return _Effect.CALL, _NO_REGISTER, _NO_REGISTER, _NO_REGISTER
    if cls is Class.STX and dst == STACK_REGISTER and insn.size == 8:
        return _Effect.SPILL, _NO_REGISTER, src, dst
    if cls in (Class.ST, Class.STX):
        return _Effect.COPY, _NO_REGISTER, _NO_REGISTER, dst
    if cls is Class.LDX:
        is_restore = src == STACK_REGISTER and insn.size == 8
        return _Effect.RESTORE if is_restore else _Effect.COPY, dst, _NO_REGISTER, src
    if cls is Class.ALU64 and insn.op in (AluOp.MOV, AluOp.ADD, AluOp.SUB):
        effect = _Effect.COPY if insn.op == AluOp.MOV else _Effect.MOVE
        return effect, dst, src if insn.uses_register else _NO_REGISTER, _NO_REGISTER
    is_result = cls in (Class.ALU, Class.ALU64) or insn.is_wide
    return _Effect.COPY, dst if is_result else _NO_REGISTER, _NO_REGISTER, _NO_REGISTER


class _Search:
    """Knows, where paths meet, what each register may hold."""

    def __init__(self, linked: LinkedProgram) -> None:
        self._linked = linked
        self._effects = [_effect(insn) for insn in linked.insns]
        self._before: dict[int, bytes] = {}
        self._pending: list[int] = []
        self._spilled = 0
        """What the stack may hold."""
        self.given: set[int] = set()
        self.moved: set[int] = set()

    def run(self) -> None:
        self._reach(0, _AT_START)
        while self._pending:
            self._follow(self._pending.pop())

    def _reach(self, slot: int, held: Sequence[int]) -> None:
        old = self._before.get(slot)
        new = bytes(map(operator.or_, old or _NOTHING, held))
        if new != old:
            self._before[slot] = new
            self._pending.append(slot)

    def _follow(self, slot: int) -> None:
        """Go on from a slot where paths meet up to the next one."""
        linked, effects, insns = self._linked, self._effects, self._linked.insns
        held = bytearray(self._before[slot])
        while slot < len(insns):
            effect, written, source, address = effects[slot]
            if held[address] & _GIVEN:
                self.given.add(slot)
            if held[address] & _MOVED:
                self.moved.add(slot)
            if effect is _Effect.COPY:
                held[written] = held[source]
            elif effect is _Effect.MOVE:
                held[written] = _MOVED if held[written] or held[source] else 0
            elif effect is _Effect.CALL:
                if slot in linked.calls:
                    self._reach(linked.starts[linked.calls[slot]], (0, *held[1:6], *_NOTHING[6:]))
                held[:6] = bytes(6)
            elif effect is _Effect.SPILL:
                self._spill(held[source])
            else:
                held[written] = self._spilled
            insn = insns[slot]
            if insn.is_jump:
                self._reach(slot + 1 + insn.jump, held)
            if insn.is_exit or insn.is_goto:
                return
            slot += 2 if insn.is_wide else 1
            if slot in linked.meetings:
                self._reach(slot, held)
                return

    def _spill(self, held: int) -> None:
        if held | self._spilled != self._spilled:
            self._spilled |= held
            # what was restored before may be the context too
            self._pending.extend(self._before)
