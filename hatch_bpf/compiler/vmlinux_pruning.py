"""A kernel's BTF and the names in a program -> a header with only the types that the program can use.

Input: the tables of a BTF, and names. Output: C; None if naming one of the types takes all the others; or `BtfError`.
Every type that a program can reach from the names it uses has the same definition as in the whole header, so that it
compiles to the same code and relocations in a fraction of the time.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Set
from itertools import compress, count

from hatch_bpf.btf.c_dump import write_c
from hatch_bpf.btf.c_types import (
    ARRAY,
    COMPOSITES,
    ENUM,
    ENUM64,
    ENUMS,
    FWD,
    INT,
    MAX_CHAIN,
    MODIFIERS,
    PTR,
    TYPEDEF,
    CTypes,
)

_TAGS_AND_TYPEDEFS = frozenset((FWD, TYPEDEF)) | COMPOSITES | ENUMS


def write_pruned(types: CTypes, names: Set[str]) -> str | None:
    """The header; None if one of the names has two meanings. Raises `BtfError`."""
    with types.checked_ids():
        named = _named(types, names)
        meanings: dict[tuple[bool, str], set[object]] = defaultdict(set)
        for type_id in named:
            if types.kinds[type_id] != FWD:
                meanings[types.kinds[type_id] == TYPEDEF, types.name(type_id)].add(_meaning(types, type_id))
        if any(name and len(meant) > 1 for (_, name), meant in meanings.items()):
            return None
        kfuncs = [func for func in types.kfuncs() if types.name(func) in names]
        mentioned = {type_id for func in kfuncs for type_id in _mentioned(types, types.target(func))}
        roots = named | _reached(types, named | mentioned, names)
    return write_c(types, roots, kfuncs)


def _mentioned(types: CTypes, prototype: int) -> list[int]:
    """The types of a function's parameters, and what it returns."""
    return [types.target(prototype), *(parameter for parameter in types.referred(prototype) if parameter)]


def _named(types: CTypes, names: Set[str]) -> set[int]:
    """Types whose tag, name or enumerator is one of the names."""
    words, starts, kinds = types.words, types.starts, types.kinds
    ids = types.ids(_TAGS_AND_TYPEDEFS)
    found = set(compress(ids, types.names.among([words[starts[type_id]] for type_id in ids], names)))
    for kind, width in ((ENUM, 2), (ENUM64, 3)):
        enums = [type_id for type_id in ids if kinds[type_id] == kind]
        offsets, ends = array("I"), []
        for type_id in enums:
            offsets.extend(types.column(type_id, 0, width=width))
            ends.append(len(offsets))
        wanted = compress(count(), types.names.among(offsets, names))
        found.update(enums[bisect_right(ends, enumerator)] for enumerator in wanted)
    return found


def _meaning(types: CTypes, type_id: int) -> object:
    """The same for all typedefs of one integer; kernels have two or three of `u8`."""
    behind = types.unqualified(type_id)
    if types.kinds[behind] != INT:
        return behind
    return types.size(behind), types.words[types.starts[behind] + 3]


def _reached(types: CTypes, named: Set[int], names: Set[str]) -> set[int]:
    """The structs and unions that a program can reach from the types it names, through members it also names.

    In `task->mm->owner`, only `mm` shows that struct mm_struct must be complete.
    """
    reached: set[int] = set()
    waiting = list(named)
    while waiting:
        type_id = _behind(types, waiting.pop())
        if type_id in reached or types.kinds[type_id] not in COMPOSITES:
            continue
        reached.add(type_id)
        for offset, member in zip(types.column(type_id, 0, width=3), types.referred(type_id), strict=True):
            if types.names[offset] in names or not offset:
                waiting.append(member)
    return {type_id for type_id in reached if types.name(type_id)}


def _behind(types: CTypes, type_id: int) -> int:
    """The type behind its pointers, arrays, typedefs and qualifiers."""
    for _ in range(MAX_CHAIN):
        kind = types.kinds[type_id]
        if kind != PTR and kind != ARRAY and kind != TYPEDEF and kind not in MODIFIERS:
            return type_id
        type_id = types.target(type_id)
    raise types.fail(type_id, f"is at the end of more than {MAX_CHAIN} pointers, arrays and typedefs")
