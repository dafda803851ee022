"""Where a program may do with maps and the stack what only newer verifiers accept.

Input: a program. Output: slots, rather too many than too few; the walk in `walk.py` says which of them really do it.
Few programs have any, and only those need the walk.
"""

from __future__ import annotations

from collections.abc import Container, Iterator

from hatch_bpf.objects.insns import STACK_REGISTER, AluOp, Class, Insn
from hatch_bpf.objects.linked_program import LinkedProgram
from hatch_bpf.verifier.helper_memory import BUFFERS, KEYS_AND_VALUES, NEVER_EMPTY, RESERVE, SUBMIT

_MOVES = (AluOp.ADD, AluOp.SUB)
_FIXED, _MOVED = 1, 2
"""What a register may hold: an address on the stack, or one that a register was added to."""
_SPILLED = STACK_REGISTER + 1
"""Where what the stack may hold is noted, behind the registers."""


def passed_from_elsewhere(linked: LinkedProgram) -> frozenset[int]:
    """Slots of helper calls whose key, value or buffer may be anywhere but on the stack."""
    return frozenset(
        slot
        for slot, number in linked.helper_calls.items()
        if not all(_is_on_stack(linked, slot, register) for register in _registers(number))
    )


def reads_of_stack(linked: LinkedProgram) -> frozenset[int]:
    """Slots of loads and of helper calls that may read what was never written."""
    loads = (slot for slot, i in enumerate(linked.insns) if i.cls is Class.LDX and i.src == STACK_REGISTER)
    return calls_with_memory(linked).union(loads)


def calls_with_memory(linked: LinkedProgram) -> frozenset[int]:
    """Slots of calls of helpers that take a key, a value or a buffer."""
    return frozenset(slot for slot, number in linked.helper_calls.items() if _registers(number))


def sized_by_numbers(linked: LinkedProgram) -> frozenset[int]:
    """Slots of calls of helpers whose buffer must not be empty, with a size that straight code does not show."""
    calls = ((slot, number) for slot, number in linked.helper_calls.items() if number in NEVER_EMPTY)
    return frozenset(slot for slot, number in calls if not _is_constant(linked, slot, BUFFERS[number] + 1))


def uses_of_reserved_space(linked: LinkedProgram) -> frozenset[int]:
    """Slots of accesses and helper calls that may use space in a ring buffer whose address was on the stack."""
    if RESERVE not in linked.helper_calls.values() or not any(map(_is_spill, linked.insns)):
        return frozenset()
    submits = (slot for slot, number in linked.helper_calls.items() if number in SUBMIT)
    return frozenset((*_accesses(linked, range(_SPILLED)), *submits))


def _registers(number: int) -> tuple[int, ...]:
    """Registers that hold the addresses of a helper's memory."""
    return KEYS_AND_VALUES.get(number) or ((BUFFERS[number],) if number in BUFFERS else ())


def _is_constant(linked: LinkedProgram, call: int, register: int) -> bool:
    slot = linked.set_before(call, register, of=call)
    insn = linked.insns[slot] if slot is not None else None
    return insn is not None and insn.op == AluOp.MOV and not insn.uses_register and insn.imm > 0


def _is_on_stack(linked: LinkedProgram, call: int, register: int) -> bool:
    """Whether straight code before a call says that a register points to the stack."""
    slot = linked.set_before(call, register, of=call)
    while slot is not None and register != STACK_REGISTER:
        insn = linked.insns[slot]
        if _is_copy(insn):
            register = insn.src
        elif insn.cls is not Class.ALU64 or insn.op not in _MOVES:
            return False
        slot = linked.set_before(slot, register, of=call)
    return register == STACK_REGISTER


def _is_copy(insn: Insn) -> bool:
    return insn.cls is Class.ALU64 and insn.op == AluOp.MOV and insn.uses_register


def _is_spill(insn: Insn) -> bool:
    return insn.cls is Class.STX and insn.dst == STACK_REGISTER and insn.size == 8


def _adds_register(insn: Insn) -> bool:
    return insn.cls is Class.ALU64 and insn.op in _MOVES and insn.uses_register


def accesses_at_variable_offsets(linked: LinkedProgram) -> frozenset[int]:
    """Slots of loads, stores and helper calls that may access the stack at an offset that varies.

    Where in the program a register holds such an address does not matter here.
    """
    moved = _moved_on_stack(linked)
    if not moved:
        return frozenset()
    calls = (slot for slot, number in linked.helper_calls.items() if moved.intersection(_registers(number)))
    return frozenset((*_accesses(linked, moved), *calls))


def _moved_on_stack(linked: LinkedProgram) -> frozenset[int]:
    """Registers that may hold an address on the stack that a register was added to."""
    insns = [insn for insn in linked.insns if insn.cls in (Class.ALU64, Class.LDX, Class.STX)]
    if not any(map(_adds_register, insns)):
        return frozenset()
    held = bytearray(_SPILLED + 1)
    held[STACK_REGISTER] = _FIXED
    before = b""
    while before != (before := bytes(held)):
        for insn in insns:
            if _is_copy(insn):
                held[insn.dst] |= held[insn.src]
            elif _is_spill(insn):
                held[_SPILLED] |= held[insn.src]
            elif insn.cls is Class.LDX and insn.src == STACK_REGISTER and insn.size == 8:
                held[insn.dst] |= held[_SPILLED]
            elif _adds_register(insn) and (held[insn.dst] or held[insn.src]):
                held[insn.dst] |= _MOVED
    return frozenset(register for register in range(_SPILLED) if held[register] & _MOVED)


def _accesses(linked: LinkedProgram, registers: Container[int]) -> Iterator[int]:
    """Slots of loads and stores whose address is in one of some registers."""
    for slot, insn in enumerate(linked.insns):
        address = insn.src if insn.cls is Class.LDX else insn.dst
        if insn.cls in (Class.LDX, Class.ST, Class.STX) and address in registers:
            yield slot
