"""Types wanted -> the definitions that C needs for them, in an order that C accepts.

Input: the tables of a BTF and ids. Output: ids of named structs, unions, enums, typedefs and forward declarations (and
of anonymous enums that stand by themselves), each after those it holds by value; or `BtfError` for types that hold
themselves. The order is libbpf's.
"""

from __future__ import annotations

from collections.abc import Iterable

from hatch_bpf.btf.c_types import (
    ARRAY,
    BASES,
    COMPOSITES,
    ENUMS,
    FUNC_PROTO,
    FWD,
    MAX_CHAIN,
    MODIFIERS,
    NOT_C,
    PTR,
    TYPEDEF,
    CTypes,
)  # fmt: skip
from hatch_bpf.btf.types import VLEN_MASK

_NEW, _OPEN, _DONE = 0, 1, 2


def order(types: CTypes, wanted: Iterable[int]) -> list[int]:
    """Ids of the definitions that the wanted types need, themselves included, in order."""
    return _Order(types).sort(wanted)


class _Order:
    """A type held by value must be complete before its holder; one that is only pointed to may come later, if it has a
    name to declare it by. An anonymous type is written inside what mentions it, so what it holds counts as held there.

    A kernel has some 70,000 types that matter here, so what most of them are, pointers, is seen to where it is met.
    """

    def __init__(self, types: CTypes) -> None:
        self._types = types
        self._state = bytearray(len(types))
        """`_DONE` says that a visit would queue nothing and return True."""
        self._state[0] = _DONE
        self._queue: list[int] = []
        self._holders = 0
        """Definitions, and pointers, inside which the walk is."""
        self._inlined: set[int] = set()
        """Anonymous enums that are written inside a definition. All others stand by themselves, also where libbpf
        leaves them out because a variable, say, has the type: their enumerators are as good as any."""
        self._prototypes_left = 1000 + 16 * len(types)
        """Prototypes are walked each time they are met, which is a few times for those of a real kernel."""

    def sort(self, wanted: Iterable[int]) -> list[int]:
        kinds, state, words, starts = self._types.kinds, self._state, self._types.words, self._types.starts
        for type_id in wanted:
            if state[type_id] == _DONE:
                continue
            kind = kinds[type_id]
            if kind == FUNC_PROTO:
                # a quarter of a kernel's types, which need nothing but what they mention: what they return comes first
                at = starts[type_id]
                for mentioned in words[at + 2 : at + 3 + 2 * (words[at + 1] & VLEN_MASK) : 2]:
                    if state[mentioned] != _DONE:
                        self._visit(mentioned, False, 1)
            elif kind == PTR:
                target = words[starts[type_id] + 2]
                if state[target] == _DONE or (kinds[target] in COMPOSITES and words[starts[target]]):
                    state[type_id] = _DONE
                else:
                    self._visit_pointer(type_id, 0)
            elif kind in COMPOSITES:
                self._visit_composite(type_id, 0)
            elif kind not in NOT_C:
                self._visit(type_id, False, 0)
        return [type_id for type_id in self._queue if type_id not in self._inlined]

    def _visit(self, type_id: int, through_ptr: bool, depth: int) -> bool:
        """Queue what a type needs, then the type. False if a forward declaration is all that is needed here."""
        types, state = self._types, self._state
        if state[type_id] == _DONE:
            return True
        kind, at = types.kinds[type_id], types.starts[type_id]
        named = types.words[at] != 0
        if state[type_id] == _OPEN:
            if through_ptr and named:
                return False
            raise types.fail(type_id, "holds itself")
        if depth > MAX_CHAIN:
            raise types.fail(type_id, f"is more than {MAX_CHAIN} steps deep inside others")
        if kind in COMPOSITES:
            if through_ptr and named:
                return False
            self._visit_composite(type_id, depth)
        elif kind == PTR:
            return self._visit_pointer(type_id, depth)
        elif kind == TYPEDEF:
            target = types.words[at + 2]
            self._holders += 1
            strong = state[target] == _DONE or self._visit(target, through_ptr, depth + 1)
            self._holders -= 1
            if through_ptr and not strong:
                return False
            self._queue.append(type_id)
        elif kind == ARRAY or kind in MODIFIERS:
            target = types.target(type_id)
            strong = state[target] == _DONE or self._visit(target, through_ptr and kind != ARRAY, depth + 1)
            if state[target] == _DONE:
                state[type_id] = _DONE
            return strong
        elif kind == FUNC_PROTO:
            return self._visit_prototype(type_id, through_ptr, depth)
        elif kind in ENUMS and not named:
            if self._holders:
                self._inlined.add(type_id)
            else:
                self._queue.append(type_id)
            # never done: each mention has to come by here
            return True
        elif kind in BASES:
            state[type_id] = _DONE
            return False
        elif kind == FWD or kind in ENUMS:
            self._queue.append(type_id)
        else:
            raise types.fail(type_id, "is a function or a variable where a type belongs")
        state[type_id] = _DONE
        return True

    def _visit_pointer(self, type_id: int, depth: int) -> bool:
        types, state = self._types, self._state
        target = types.words[types.starts[type_id] + 2]
        strong = state[target] == _DONE
        if not strong and not (types.kinds[target] in COMPOSITES and types.words[types.starts[target]]):
            self._holders += 1
            strong = self._visit(target, True, depth + 1)
            self._holders -= 1
        state[type_id] = _DONE
        return strong

    def _visit_composite(self, type_id: int, depth: int) -> None:
        state, kinds, words, starts = self._state, self._types.kinds, self._types.words, self._types.starts
        state[type_id] = _OPEN
        self._holders += 1
        at = starts[type_id]
        for member in words[at + 4 : at + 3 + 3 * (words[at + 1] & VLEN_MASK) : 3]:
            if state[member] != _DONE:
                if kinds[member] == PTR:
                    self._visit_pointer(member, depth + 1)
                else:
                    self._visit(member, False, depth + 1)
        self._holders -= 1
        if words[at]:
            self._queue.append(type_id)
        state[type_id] = _DONE

    def _visit_prototype(self, type_id: int, through_ptr: bool, depth: int) -> bool:
        types, state = self._types, self._state
        self._prototypes_left -= 1
        if self._prototypes_left < 0:
            raise types.fail(type_id, "is a prototype among too many inside each other")
        returned = types.target(type_id)
        strong, done = self._visit(returned, through_ptr, depth + 1), state[returned] == _DONE
        for parameter in types.referred(type_id):
            # most parameters are: a call less for each
            if state[parameter] == _DONE:
                strong = True
            else:
                strong |= self._visit(parameter, through_ptr, depth + 1)
                done &= state[parameter] == _DONE
        if done:
            state[type_id] = _DONE
        return strong
