"""A program's own functions: what they take, what they return, how deep they call each other.

Input: a linked program and its BTF. Output: what kernels refuse of that; the global functions that they cannot check;
what the verifier knows of the arguments of those that it checks alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import islice

from hatch_bpf.btf import types as t
from hatch_bpf.btf.reader import Btf
from hatch_bpf.objects.insns import changes
from hatch_bpf.objects.linked_program import LinkedProgram
from hatch_bpf.portability.context_check import CONTEXTS
from hatch_bpf.runtime.sections import ProgramSection
from hatch_bpf.verifier.values import ContextPointer, Value
from hatch_bpf.verifier.varying import anything

_MAY_RETURN_NOTHING = frozenset({"LSM", "STRUCT_OPS"})
"""Types of programs in place of functions that may return nothing."""
_CONTEXTS = frozenset({*CONTEXTS.values(), "user_pt_regs", "bpf_raw_tracepoint_args"})
"""What a global function may take a pointer to, as the context of the program that calls it."""


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


def takes_pointer(btf: Btf, name: str, *, to_context: bool) -> bool:
    """Whether an object's function has an argument that points to a program's context, or to anything else."""
    pointers = (param for param in _parameters(btf, name) if isinstance(param, t.Ptr))
    return any((btf.resolve(pointer.type_id)[1].name in _CONTEXTS) == to_context for pointer in pointers)


def _parameters(btf: Btf, name: str) -> Iterator[t.Type]:
    """The types of the arguments of an object's function."""
    for type_id in btf.find(name, t.Kind.FUNC):
        proto = btf.prototype(type_id)
        for param in proto.params if proto else ():
            yield btf.resolve(param.type_id)[1]


def passed_values(btf: Btf, name: str, index: int) -> Iterator[Value]:
    """What a verifier knows of the arguments of a global function, the object's function of that `index`."""
    for at, param in enumerate(islice(_parameters(btf, name), 5)):
        if isinstance(param, (t.Int, t.Enumeration)):
            yield anything(-8 * index - at, 8)  # no slot has that number
        elif isinstance(param, t.Ptr) and btf.resolve(param.type_id)[1].name in _CONTEXTS:
            yield ContextPointer(0)
        else:
            yield None
