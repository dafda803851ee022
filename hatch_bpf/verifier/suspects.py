"""Where a program may do what only newer verifiers take of maps and of the stack.

Input: a program. Output: slots, more of them rather than fewer; the walk in `walk.py` says which of them do it. Few
programs have any, and only those need to be walked for it.
"""

from __future__ import annotations

from collections.abc import Iterator

from hatch_bpf.objects.insns import STACK_REGISTER, AluOp, Class, Insn, Mode
from hatch_bpf.objects.linked_program import LinkedProgram
from hatch_bpf.verifier.walk import BUFFERS, KEYS_AND_VALUES, MAP_LOOKUP

_MOVES = (AluOp.ADD, AluOp.SUB)


def map_values_passed_on(linked: LinkedProgram) -> frozenset[int]:
    """Slots of helper calls whose key or value may be in the value of a map."""
    if MAP_LOOKUP not in linked.helper_calls.values():
        return frozenset()
    return frozenset(
        slot
        for slot, number in linked.helper_calls.items()
        if not all(_is_on_stack(linked, slot, register) for register in KEYS_AND_VALUES.get(number, ()))
    )


def _is_on_stack(linked: LinkedProgram, call: int, register: int) -> bool:
    """Whether straight code before a call says that a register points to the stack."""
    slot = linked.set_before(call, register)
    while slot is not None and register != STACK_REGISTER:
        insn = linked.insns[slot]
        if _is_copy(insn):
            register = insn.src
        elif insn.cls is not Class.ALU64 or insn.op not in _MOVES:
            return False
        slot = linked.set_before(slot, register)
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
        if moved.intersection((*KEYS_AND_VALUES.get(number, ()), BUFFERS.get(number, 0))):
            yield slot
