"""Program + the subprograms it calls -> `LinkedProgram`: one stream of instructions, as libbpf hands it to the kernel.

Input: an `ObjectModel` and one of its programs. Output: the program's instructions, followed by those of every
subprogram that it calls or takes the address of, and what each ELF relocation refers to. CO-RE relocations are listed,
not applied.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from operator import itemgetter
from typing import NamedTuple

from hatch_bpf.errors import ObjectError
from hatch_bpf.objects.insns import STACK_REGISTER, Insn, PseudoSrc, changes, decode
from hatch_bpf.objects.model import (
    ARENA_SECTION,
    INSN_SIZE,
    OLD_MAPS,
    OLD_MAPS_FAULT,
    OLD_MAPS_REMEDY,
    Function,
    ObjectModel,
    SymbolRelocation,
    is_data,
)
from hatch_bpf.support.budget import Budget

JUMP_TABLES = ".jumptables"
"""Section of the jump tables that clang 22 compiles large switches to with -mcpu=v4."""


class RefersTo(Enum):
    """What kind of thing an instruction's relocation names."""

    MAP = "map"
    DATA = "global variable"
    KCONFIG = "kconfig extern"
    KSYM = "kernel symbol"
    FUNCTION = "function"


@dataclass(frozen=True)
class Reference:
    """What one 64-bit immediate load refers to."""

    to: RefersTo
    name: str
    """Name of the map, extern or function; for data, of its section."""
    offset: int = 0
    """Offset in a section of data, in bytes."""

    def map_in(self, obj: ObjectModel) -> str:
        """The map that the object declares and this refers to: by itself, or for a variable in it; or empty."""
        if self.to is RefersTo.DATA and self.name == ARENA_SECTION:
            return obj.arena
        return self.name if self.to is RefersTo.MAP else ""


@dataclass(frozen=True)
class LinkedProgram:
    """A program and its subprograms. Instructions are known by their slot, from 0 on, subprograms after the program."""

    program: Function
    functions: tuple[Function, ...]
    """The program first."""
    starts: tuple[int, ...]
    """First slot of each function."""
    insns: tuple[Insn, ...]
    references: Mapping[int, Reference]
    """By slot of a 64-bit immediate load (its first)."""
    calls: Mapping[int, int]
    """Slot of a subprogram call -> index of the function called."""
    addresses: Mapping[int, int]
    """Slot of a load of a subprogram's address -> index of that function."""
    kfunc_calls: Mapping[int, str]
    """Slot of a call of an extern -> its name."""
    core_relos: tuple[tuple[int, int], ...]
    """Slot, and index in `ObjectModel.core_relos`, of each CO-RE relocation, in the object's order."""

    def origin(self, slot: int) -> tuple[str, int]:
        """ELF section of a slot, and byte offset in it."""
        index = bisect_right(self.starts, slot) - 1
        function = self.functions[index]
        return function.section, function.offset + (slot - self.starts[index]) * INSN_SIZE

    @cached_property
    def depth(self) -> int | None:
        """Functions that are active at a time, the program included, along its longest chain of calls; None where they
        call each other in a circle. Calls that are never reached count, as for the kernel."""
        callees: dict[int, set[int]] = {index: set() for index in range(len(self.functions))}
        for slot, index in self.calls.items():
            callees[bisect_right(self.starts, slot) - 1].add(index)
        try:
            order = tuple(TopologicalSorter(callees).static_order())
        except CycleError:
            return None
        depths: dict[int, int] = {}
        for index in order:
            depths[index] = 1 + max((depths[callee] for callee in callees[index]), default=0)
        return depths[0]

    @cached_property
    def meetings(self) -> frozenset[int]:
        """Slots where paths may meet: functions begin there, or jumps lead there."""
        return frozenset(
            (*self.starts, *(slot + 1 + insn.jump for slot, insn in enumerate(self.insns) if insn.is_jump))
        )

    @cached_property
    def jumps_back(self) -> bool:
        """Whether any jump goes back; without one there are no loops."""
        return any(insn.jump < 0 for insn in self.insns if insn.is_jump)

    @cached_property
    def loop(self) -> int | None:
        """Slot of a jump that closes a loop, which may be one that is never entered; None where there is none."""
        done: set[int] = set()
        for start in self.starts:
            # depth first; an edge to a slot that is still being followed closes a loop
            following: dict[int, Iterator[int]] = {start: iter(self.after(start))}
            while following:
                slot, successors = next(reversed(following.items()))
                successor = next(successors, None)
                if successor is None:
                    del following[slot]
                    done.add(slot)
                elif successor in following:
                    return slot
                elif successor not in done:
                    following[successor] = iter(self.after(successor))
        return None

    def after(self, slot: int) -> tuple[int, ...]:
        """The slots that may run next in the same function."""
        insn = self.insns[slot]
        if insn.is_exit:
            return ()
        after = slot + (2 if insn.is_wide else 1)
        there = slot + 1 + insn.jump
        if insn.is_goto:
            return (there,)
        ways = (after, there) if insn.is_branch else (after,)
        return tuple(way for way in ways if way < len(self.insns))

    @cached_property
    def helper_calls(self) -> Mapping[int, int]:
        """Slot of a helper call -> the helper's number."""
        return {
            slot: insn.imm
            for slot, insn in enumerate(self.insns)
            if insn.is_helper_call and slot not in self.kfunc_calls and slot not in self.calls
        }

    def set_before(self, slot: int, register: int, *, of: int) -> int | None:
        """Slot of the last instruction before `slot` that changed a register; None unless straight code, not too far
        before the slot `of`, shows it."""
        for before in range(slot - 1, max(-1, of - 1 - _FOLLOWED_BACK), -1):
            insn = self.insns[before]
            if before + 1 in self.meetings or insn.is_goto or insn.is_exit:
                return None
            if changes(insn, register):
                return before
        return None


_FOLLOWED_BACK = 64
"""Instructions that a register is followed back through."""


class Linker:
    """Puts the programs of one object together."""

    def __init__(self, obj: ObjectModel) -> None:
        self._obj = obj
        self._relocations = {(r.section, r.offset): r for r in obj.relocations}
        self._externs = {extern.name: RefersTo.KCONFIG for extern in obj.kconfig}
        self._externs |= {extern.name: RefersTo.KSYM for extern in obj.ksyms}
        self._code: dict[Place, _FunctionCode] = {}
        # programs share subprograms, and each program counts those that it calls
        self._budget = Budget(obj.path, len(obj.elf), error=ObjectError)

    def link(self, program: Function) -> LinkedProgram:
        """Put a program together. Raises `ObjectError` for a call that leads nowhere."""
        functions, starts = [program], list[int]()
        indices = {(program.section, program.offset): 0}
        insns: list[Insn] = []
        references: dict[int, Reference] = {}
        calls: dict[int, int] = {}
        addresses: dict[int, int] = {}
        kfunc_calls: dict[int, str] = {}
        core_relos: list[tuple[int, int]] = []

        def index_of(place: Place, slot: int) -> int:
            if place not in indices:
                indices[place] = len(functions)
                functions.append(self._function(place, program, slot))
            return indices[place]

        for function in functions:  # which grows on the way
            start = len(insns)
            starts.append(start)
            code = self._decoded(function)
            self._budget.work(len(code.insns))
            insns += code.insns
            core_relos += ((start + position, index) for position, index in code.core_relos)
            for position in code.marked:
                slot, insn = start + position, code.insns[position]
                at = function.offset + position * INSN_SIZE
                relocation = self._relocations.get((function.section, at))
                if insn.is_call and relocation is not None and not relocation.target_section:
                    kfunc_calls[slot] = relocation.symbol
                elif insn.is_subprogram_call:
                    section = relocation.target_section if relocation else function.section
                    base = relocation.value if relocation else at
                    calls[slot] = index_of((section, base + (insn.imm + 1) * INSN_SIZE), slot)
                elif insn.is_wide and relocation is not None:
                    reference = _reference(relocation, insn, self._externs)
                    references[slot] = reference
                    if reference.to is RefersTo.FUNCTION:
                        addresses[slot] = index_of((relocation.target_section, relocation.value + insn.imm), slot)
                elif insn.is_wide and insn.src == PseudoSrc.FUNC:
                    addresses[slot] = index_of((function.section, at + (insn.imm + 1) * INSN_SIZE), slot)
        return LinkedProgram(
            program=program,
            functions=tuple(functions),
            starts=tuple(starts),
            insns=tuple(insns),
            references=references,
            calls=calls,
            addresses=addresses,
            kfunc_calls=kfunc_calls,
            core_relos=tuple(sorted(core_relos, key=itemgetter(1))),
        )

    def _function(self, place: Place, program: Function, slot: int) -> Function:
        """The function that begins at a place, which an instruction of a program calls or holds the address of."""
        section, offset = place
        where = f"{self._obj.path}: program {program.name}"
        if section == JUMP_TABLES:
            raise ObjectError(
                f"{where} has a jump table, which only libbpf 1.7 and newer kernels take, and hatch-bpf does not "
                f"follow: compile with -fno-jump-tables"
            )
        found = self._obj.function_at(section, offset)
        if found is None and all(function.section != section for function in self._obj.functions):
            if section == OLD_MAPS:
                raise ObjectError(f"{where} cannot be loaded: {OLD_MAPS_FAULT}; {OLD_MAPS_REMEDY}")
            raise ObjectError(
                f"{where} refers to section {section}, of which libbpf makes nothing: globals belong into .data, "
                f'.bss, .rodata, or a section like .data.{section.lstrip(".")}, and maps into SEC(".maps")'
            )
        if found is None or found.offset != offset:
            raise ObjectError(f"{where}: instruction {slot} calls byte {offset} of {section}, where no function begins")
        return found

    def _decoded(self, function: Function) -> _FunctionCode:
        key = function.section, function.offset
        if key not in self._code:
            self._code[key] = _decode(self._obj, function)
        return self._code[key]


Place = tuple[str, int]
"""A section, and an offset in it in bytes."""


class _FunctionCode(NamedTuple):
    insns: tuple[Insn, ...]
    marked: tuple[int, ...]
    """Positions of the calls and 64-bit loads: what may refer to something else."""
    core_relos: tuple[tuple[int, int], ...]
    """Position, and index in `ObjectModel.core_relos`, of each CO-RE relocation."""


def _decode(obj: ObjectModel, function: Function) -> _FunctionCode:
    """A function's instructions. What no compiler makes is refused, so that analyses need not look for it."""
    insns = decode(function.insns, endian=obj.endian)
    marked = []
    for position, insn in enumerate(insns):
        if insn.dst > STACK_REGISTER or insn.src > STACK_REGISTER:
            last = f"names register {max(insn.dst, insn.src)}; the last is r{STACK_REGISTER}"
            raise ObjectError(f"{obj.path}: function {function.name}: instruction {position} {last}")
        if insn.is_wide or insn.is_call:
            marked.append(position)
        elif insn.is_jump and not 0 <= position + 1 + insn.jump < len(insns):
            target = f"jumps to instruction {position + 1 + insn.jump}, which is outside of the function"
            raise ObjectError(f"{obj.path}: function {function.name}: instruction {position} {target}")
    places = ((obj.core_relos[index][1].insn_off, index) for index in obj.core_relos_of(function))
    core_relos = tuple(((offset - function.offset) // INSN_SIZE, index) for offset, index in places)
    return _FunctionCode(insns, tuple(marked), core_relos)


def _reference(relocation: SymbolRelocation, insn: Insn, externs: Mapping[str, RefersTo]) -> Reference:
    section = relocation.target_section
    if not section:
        return Reference(externs.get(relocation.symbol, RefersTo.KSYM), relocation.symbol)
    if section == ".maps":
        return Reference(RefersTo.MAP, relocation.symbol)
    if is_data(section):
        return Reference(RefersTo.DATA, section, relocation.value + insn.imm)
    return Reference(RefersTo.FUNCTION, relocation.symbol)
