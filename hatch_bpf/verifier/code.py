"""What the walk asks of a program whatever the kernel: its labels, its live registers, what is around it.

Input: a linked program, its read-only data, and its surroundings. Output: tables by slot, worked out once for all
kernels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from hatch_bpf.objects.insns import LD_IMM64, AluOp, Class, Insn, Mode
from hatch_bpf.objects.linked_program import LinkedProgram
from hatch_bpf.verifier.values import Value

_THROW = "bpf_throw"

ReadGlobal = Callable[[str, int, int], Value]
"""(section, offset, size) -> what is known of those bytes when the program is loaded."""


@dataclass(frozen=True)
class Surroundings:
    """What is around a program's instructions, whatever the kernel: its context, its functions and its maps."""

    packet: frozenset[int] = frozenset()
    """Slots of loads from it that give a pointer to a packet."""
    has_numbers_only: bool = False
    """Whether it holds no pointer of any kind, as registers of a traced function."""
    stack_helper_fills: bool = True
    """Whether bpf_get_stack() fills its buffer, rather than wants one that was written."""
    passed: Mapping[int, tuple[Value, ...]] = field(default_factory=dict)
    """Index of a global function -> what r1 and so on hold when the verifier checks it alone."""
    sizes: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    """Slots of helper calls -> how many bytes the keys and the values of their map have."""


_NOTHING_AROUND = Surroundings()


class Code:
    """What does not depend on the kernel, such as labels and live registers, worked out once for a program."""

    def __init__(self, linked: LinkedProgram, read_global: ReadGlobal, around: Surroundings = _NOTHING_AROUND) -> None:
        self.linked = linked
        self.read_global = read_global
        self.around = around

    @cached_property
    def labels(self) -> frozenset[int]:
        """Slots where paths meet: targets of jumps, and where calls return to."""
        return self.linked.meetings.union(slot + 1 for slot in self.linked.calls)

    @cached_property
    def steps(self) -> bytes:
        """What each slot does to the walk: one of the numbers below."""
        calls = self.linked.calls
        return bytes(CALL if slot in calls else _step_of(insn) for slot, insn in enumerate(self.linked.insns))

    @cached_property
    def throws(self) -> frozenset[int]:
        """Slots of calls that end the program, whatever function they are in."""
        return frozenset(slot for slot, name in self.linked.kfunc_calls.items() if name == _THROW)

    @cached_property
    def end(self) -> int:
        """The slot behind the program's own instructions; those of the functions that it calls follow."""
        return self.linked.starts[1] if len(self.linked.starts) > 1 else len(self.linked.insns)

    @cached_property
    def goes_one_way(self) -> bool:
        """Whether there is one path through the program, whatever the kernel: no branch, and no other function."""
        return len(self.linked.functions) == 1 and BRANCH not in self.steps

    @cached_property
    def live(self) -> tuple[int, ...]:
        """By slot: bit n is set if the value of register n may be read from here on, in the same function."""
        insns, steps = self.linked.insns, self.steps
        effects = [registers_of(insn) for insn in insns]
        live = [0] * (len(insns) + 2)
        jumps_to: dict[int, list[int]] = defaultdict(list)
        for slot, step in enumerate(steps):
            if step in (BRANCH, GOTO):
                jumps_to[slot + 1 + insns[slot].jump].append(slot)

        def update(slot: int) -> bool:
            step, after = steps[slot], 0
            if step in (BRANCH, GOTO):
                after = live[slot + 1 + insns[slot].jump]
            if step not in (EXIT, GOTO):
                after |= live[slot + (2 if insns[slot].code == LD_IMM64 else 1)]
            reads, writes = effects[slot]
            before, live[slot] = live[slot], after & ~writes | reads
            return live[slot] != before

        # what a slot says goes to those before it at once, and to those that jump back to it in a second round
        pending = []
        for slot in range(len(insns) - 1, -1, -1):
            if update(slot):
                pending += [jump for jump in jumps_to.get(slot, ()) if jump >= slot]
        while pending:
            slot = pending.pop()
            if update(slot):
                pending += jumps_to.get(slot, ())
                pending += (before for before in (slot - 1, slot - 2) if before >= 0)
        return tuple(live[:-1])


PLAIN, EXIT, BRANCH, GOTO, CALL, HELPER = range(6)
"""What an instruction does to the walk. A helper may also be a kfunc; a call is one of another function."""


@lru_cache(maxsize=1 << 14)
def _step_of(insn: Insn) -> int:
    if insn.is_exit:
        return EXIT
    if insn.is_branch:
        return BRANCH
    if insn.is_goto:
        return GOTO
    return HELPER if insn.is_call else PLAIN


@lru_cache(maxsize=1 << 14)
def registers_of(insn: Insn) -> tuple[int, int]:
    """Bit sets of the registers that an instruction reads, and of those that it overwrites."""
    dst, src = 1 << insn.dst, 1 << insn.src
    cls = insn.cls
    if cls in (Class.ALU, Class.ALU64):
        reads = src if insn.uses_register else 0
        return (reads, dst) if insn.op == AluOp.MOV else (reads | dst, 0)
    if cls is Class.LDX:
        return src, dst & ~src
    if cls is Class.LD:
        return (0, dst) if insn.is_wide else (1 << 6 | src, 1)
    if cls is Class.ST:
        return dst, 0
    if cls is Class.STX:
        return dst | src | (1 if insn.mode == Mode.ATOMIC else 0), 0
    if insn.is_call:
        return 0b111110, 1
    if insn.is_exit:
        return 1, 0
    if insn.is_branch:
        return dst | (src if insn.uses_register else 0), 0
    return 0, 0
