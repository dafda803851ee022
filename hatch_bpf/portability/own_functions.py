"""A program's own functions, as every kernel wants them: what they return, how deep they call each other.

Input: a linked program. Output: what kernels refuse of that; the global functions that they cannot check.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from hatch_bpf.btf import types as t
from hatch_bpf.btf.reader import Btf
from hatch_bpf.objects.insns import changes
from hatch_bpf.objects.linked_program import LinkedProgram
from hatch_bpf.runtime.sections import ProgramSection

MAX_CALL_FRAMES = 8
"""Functions of a program that may be active at a time, itself included."""
_MAY_RETURN_NOTHING = frozenset({"LSM", "STRUCT_OPS"})
"""Types of programs in place of functions that may return nothing."""


def never_sets_r0(linked: LinkedProgram, section: ProgramSection | None) -> bool:
    """Whether no instruction of a program itself sets r0, where kernels want it set."""
    if section is None or section.program_type in _MAY_RETURN_NOTHING:
        return False
    end = linked.starts[1] if len(linked.starts) > 1 else len(linked.insns)
    return not any(changes(insn, 0) for insn in linked.insns[:end])


def unchecked_calls(linked: LinkedProgram, btf: Btf) -> Iterator[tuple[int, str, str]]:
    """Calls of global functions that kernels from Linux 5.6 to 6.18 cannot check: slot, function and what is wrong."""
    faults = {
        index: fault
        for index, function in enumerate(linked.functions)
        if index and function.is_global and (fault := _unchecked(btf, function.name))
    }
    for slot, index in linked.calls.items():
        if index in faults:
            yield slot, linked.functions[index].name, faults[index]


def _unchecked(btf: Btf, name: str) -> str:
    """What in a global function's declaration keeps kernels from checking it by itself; empty for nothing."""
    for type_id in btf.find(name, t.Kind.FUNC):
        proto = btf.prototype(type_id)
        if proto is None:
            continue
        _, returned = btf.resolve(proto.return_type_id)
        if isinstance(returned, t.Void):
            return "returns nothing"
        if not isinstance(returned, (t.Int, t.Enumeration)):
            return "does not return a number"
        pointers = (btf.resolve(param.type_id)[1] for param in proto.params)
        is_vague = any(isinstance(one, t.Ptr) and isinstance(btf.resolve(one.type_id)[1], t.Void) for one in pointers)
        if is_vague and type_id not in _tagged(btf):
            return "takes a void *"
    return ""


@lru_cache(maxsize=1)
def _tagged(btf: Btf) -> frozenset[int]:
    """Ids of types and functions with a tag, which may say what a pointer is."""
    return frozenset(one.type_id for one in btf if isinstance(one, t.DeclTag))
