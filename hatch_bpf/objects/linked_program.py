"""Program + the subprograms it calls -> `LinkedProgram`: one stream of instructions, as libbpf hands it to the kernel.

Input: an `ObjectModel` and one of its programs. Output: the program's instructions with every subprogram that it
reaches by a call or takes the address of behind them, and what each ELF relocation refers to. CO-RE relocations are not
applied here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from hatch_bpf.errors import ObjectError
from hatch_bpf.objects.insns import STACK_REGISTER, Insn, PseudoSrc, decode
from hatch_bpf.objects.model import INSN_SIZE, Function, ObjectModel, SymbolRelocation

JUMP_TABLES = ".jumptables"
"""Section of what clang 22 makes of a large switch with -mcpu=v4."""


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
    """Of the map or extern; of the section, for data; of the function."""
    offset: int = 0
    """Into a section of data, in bytes."""


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

    def origin(self, slot: int) -> tuple[str, int]:
        """ELF section of a slot, and byte offset in it."""
        function = self.function_of(slot)
        index = self.functions.index(function)
        return function.section, function.offset + (slot - self.starts[index]) * INSN_SIZE

    def function_of(self, slot: int) -> Function:
        index = max(i for i, start in enumerate(self.starts) if start <= slot)
        return self.functions[index]

    def slot(self, section: str, offset: int) -> int | None:
        """The slot of byte `offset` of an ELF section; None where that is not part of this program."""
        for function, start in zip(self.functions, self.starts, strict=True):
            if function.section == section and function.offset <= offset < function.offset + len(function.insns):
                return start + (offset - function.offset) // INSN_SIZE
        return None

    @cached_property
    def jumps_back(self) -> bool:
        """Whether any jump does; without one there are no loops."""
        return any(insn.jump < 0 for insn in self.insns if insn.is_goto or insn.is_branch)

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
        """Where a function may go on behind a slot."""
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


def link(obj: ObjectModel, program: Function) -> LinkedProgram:
    """Put a program together. Raises `ObjectError` for a call that leads nowhere."""
    relocations = {(r.section, r.offset): r for r in obj.relocations}
    externs = {extern.name: RefersTo.KCONFIG for extern in obj.kconfig}
    externs |= {extern.name: RefersTo.KSYM for extern in obj.ksyms}
    functions, starts = [program], [0]
    insns: list[Insn] = []
    references: dict[int, Reference] = {}
    calls: dict[int, int] = {}
    addresses: dict[int, int] = {}
    kfunc_calls: dict[int, str] = {}

    def index_of(section: str, offset: int, slot: int) -> int:
        if section == JUMP_TABLES:
            raise ObjectError(
                f"{obj.path}: program {program.name} has a jump table, which only libbpf 1.7 and newer kernels take, "
                f"and hatch-bpf does not follow: compile with -fno-jump-tables"
            )
        found = obj.function_at(section, offset)
        if found is None and all(function.section != section for function in obj.functions):
            old = ", as libbpf took before 1.0" if section == "maps" else ""
            raise ObjectError(
                f"{obj.path}: program {program.name} refers to section {section}{old}, of which libbpf makes nothing: "
                f"globals belong into .data, .bss, .rodata, or a section like .data.{section.lstrip('.')}, and maps "
                f'into SEC(".maps")'
            )
        if found is None or found.offset != offset:
            raise ObjectError(
                f"{obj.path}: program {program.name}: instruction {slot} calls byte {offset} of {section}, "
                f"where no function begins"
            )
        if found not in functions:
            functions.append(found)
            starts.append(0)
        return functions.index(found)

    done = 0
    while done < len(functions):
        function = functions[done]
        starts[done] = len(insns)
        for position, insn in enumerate(decode(function.insns, endian=obj.endian)):
            slot = len(insns)
            _check(insn, position, function, obj.path)
            insns.append(insn)
            at = function.offset + position * INSN_SIZE
            relocation = relocations.get((function.section, at))
            if insn.is_call and relocation is not None and not relocation.target_section:
                kfunc_calls[slot] = relocation.symbol
            elif insn.is_subprogram_call:
                section = relocation.target_section if relocation else function.section
                base = relocation.value if relocation else at
                calls[slot] = index_of(section, base + (insn.imm + 1) * INSN_SIZE, slot)
            elif insn.is_wide and relocation is not None:
                reference = _reference(relocation, insn, externs)
                references[slot] = reference
                if reference.to is RefersTo.FUNCTION:
                    addresses[slot] = index_of(relocation.target_section, relocation.value + insn.imm, slot)
            elif insn.is_wide and insn.src == PseudoSrc.FUNC:
                addresses[slot] = index_of(function.section, at + (insn.imm + 1) * INSN_SIZE, slot)
        done += 1
    return LinkedProgram(
        program=program,
        functions=tuple(functions),
        starts=tuple(starts),
        insns=tuple(insns),
        references=references,
        calls=calls,
        addresses=addresses,
        kfunc_calls=kfunc_calls,
    )


def _check(insn: Insn, position: int, function: Function, path: str) -> None:
    """Refuse what no compiler makes, so that analyses need not mind it."""
    where = f"{path}: function {function.name}: instruction {position}"
    if max(insn.dst, insn.src) > STACK_REGISTER:
        raise ObjectError(f"{where} names register {max(insn.dst, insn.src)}; the last is r{STACK_REGISTER}")
    if insn.is_goto or insn.is_branch:
        target = position + 1 + insn.jump
        if not 0 <= target < len(function.insns) // INSN_SIZE:
            raise ObjectError(f"{where} jumps to instruction {target}, which is outside of the function")


def _reference(relocation: SymbolRelocation, insn: Insn, externs: Mapping[str, RefersTo]) -> Reference:
    section = relocation.target_section
    if not section:
        return Reference(externs.get(relocation.symbol, RefersTo.KSYM), relocation.symbol)
    if section == ".maps":
        return Reference(RefersTo.MAP, relocation.symbol)
    if section.split(".")[1:2] and section.split(".")[1] in ("data", "bss", "rodata"):
        return Reference(RefersTo.DATA, section, relocation.value + insn.imm)
    return Reference(RefersTo.FUNCTION, relocation.symbol)
