"""Where a program may do what only newer verifiers take of maps and of the stack.

Input: a program. Output: slots, more of them rather than fewer; the walk in `walk.py` says which of them do it. Few
programs have any, and only those need to be walked for it.
"""

from __future__ import annotations

from collections.abc import Iterator

from hatch_bpf.objects.insns import STACK_REGISTER, AluOp, Class, Insn, Mode
from hatch_bpf.objects.linked_program import LinkedProgram
from hatch_bpf.verifier.helper_memory import BUFFERS, KEYS_AND_VALUES, NEVER_EMPTY, RESERVE, SUBMIT

_MOVES = (AluOp.ADD, AluOp.SUB)


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
    """Slots of calls of helpers whose buffer must not be empty, with a size that straight code does not tell."""
    calls = ((slot, number) for slot, number in linked.helper_calls.items() if number in NEVER_EMPTY)
    return frozenset(slot for slot, number in calls if not _is_constant(linked, slot, BUFFERS[number] + 1))


def uses_of_reserved_space(linked: LinkedProgram) -> frozenset[int]:
    """Slots of accesses and helper calls that may use space in a ring buffer whose address was on the stack."""
    spills = any(i.cls is Class.STX and i.dst == STACK_REGISTER and i.size == 8 for i in linked.insns)
    if not spills or RESERVE not in linked.helper_calls.values():
        return frozenset()
    accesses = (slot for slot, i in enumerate(linked.insns) if i.cls in (Class.LDX, Class.ST, Class.STX))
    submits = (slot for slot, number in linked.helper_calls.items() if number in SUBMIT)
    return frozenset((*accesses, *submits))


def _registers(number: int) -> tuple[int, ...]:
    """What tells a helper where its memory is."""
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


def accesses_at_variable_offsets(linked: LinkedProgram) -> frozenset[int]:
    """Slots of loads, stores and helper calls that may access the stack at an offset that varies.

    Where in the program a register holds such an address does not matter here.
    """
    moved = _moved_on_stack(linked)
    return frozenset(_accesses(linked, moved) if moved else ())


def _moved_on_stack(linked: LinkedProgram) -> frozenset[int]:
    """Registers that may hold an address on the stack that a register was added to."""
    insns = [insn for insn in linked.insns if insn.cls in (Class.ALU64, Class.LDX, Class.STX)]
    if not any(insn.cls is Class.ALU64 and insn.op in _MOVES and insn.uses_register for insn in insns):
        return frozenset()
    fixed, moved = {STACK_REGISTER}, set[int]()
    spilled: set[bool] = set()
    size = -1
    while size != (size := len(fixed) + len(moved) + len(spilled)):
        for insn in insns:
            is_on_stack = insn.mode == Mode.MEM and insn.size == 8 if insn.cls is not Class.ALU64 else False
            if _is_copy(insn):
                fixed |= {insn.dst} if insn.src in fixed else set()
                moved |= {insn.dst} if insn.src in moved else set()
            elif insn.cls is Class.ALU64 and insn.op in _MOVES and insn.uses_register:
                moved |= {insn.dst} if {insn.dst, insn.src} & (fixed | moved) else set()
            elif is_on_stack and insn.cls is Class.STX and insn.dst == STACK_REGISTER:
                spilled |= {insn.src in moved} if insn.src in fixed | moved else set()
            elif is_on_stack and insn.cls is Class.LDX and insn.src == STACK_REGISTER:
                fixed |= {insn.dst} if spilled else set()
                moved |= {insn.dst} if True in spilled else set()
    return frozenset(moved)


def _accesses(linked: LinkedProgram, moved: frozenset[int]) -> Iterator[int]:
    for slot, insn in enumerate(linked.insns):
        address = insn.src if insn.cls is Class.LDX else insn.dst
        if insn.cls in (Class.LDX, Class.ST, Class.STX) and address in moved:
            yield slot
    for slot, number in linked.helper_calls.items():
        if moved.intersection(_registers(number)):
            yield slot
