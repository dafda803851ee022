"""Fields of maps' values and of global variables that the kernel itself looks after: locks, timers, lists, trees.

Input: a program and its object. Output: the names of such fields' types, and what kernels refuse of their use. Where a
type of map keeps no such field, libbpf makes the map without its types, and the kernel knows nothing of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hatch_bpf.btf import types as t
from hatch_bpf.btf.reader import Btf
from hatch_bpf.objects.linked_program import LinkedProgram, RefersTo
from hatch_bpf.objects.model import MapDef, ObjectModel
from hatch_bpf.objects.uapi import MAPS_OF_MAPS, PARTS_OF_OTHERS, TRACING_PROGRAMS, MapType, helper
from hatch_bpf.runtime.sections import ProgramSection

_SPIN_LOCK, _TIMER = "bpf_spin_lock", "bpf_timer"
_NOT_FOR_TRACING = frozenset({_SPIN_LOCK, _TIMER, "bpf_wq", "bpf_list_head", "bpf_rb_root"})
_SPECIAL = _NOT_FOR_TRACING | {"bpf_refcount"}
"""Types that may not be in a map that user space maps into its memory."""
_KEPT_FROM: Mapping[str, frozenset[str]] = {
    **dict.fromkeys(TRACING_PROGRAMS, _NOT_FOR_TRACING),
    "SOCKET_FILTER": frozenset({_SPIN_LOCK}),
}
"""Types of programs that may use no map with such fields: check_map_prog_compatibility() of Linux 6.18."""
_USERS: Mapping[int, str] = {helper("spin_lock"): _SPIN_LOCK, helper("timer_init"): _TIMER}
"""Helpers that take a field of one of these types."""
_LOCKED = frozenset({
    MapType.ARRAY, MapType.HASH, MapType.CGROUP_STORAGE, MapType.SK_STORAGE, MapType.INODE_STORAGE,
    MapType.TASK_STORAGE, MapType.CGRP_STORAGE,
})  # fmt: skip
_TIMED = frozenset({MapType.ARRAY, MapType.HASH, MapType.LRU_HASH})
"""Types of maps in whose values kernels know a lock, and those in which they know the others."""


def special_fields(btf: Btf, type_id: int) -> frozenset[str]:
    """Names of the types of such fields that a struct has, or is."""
    _, found = btf.resolve(type_id)
    if not isinstance(found, t.Struct):
        return frozenset()
    if found.name in _SPECIAL:
        return frozenset({found.name})
    members = (btf.resolve(member.type_id)[1] for member in found.members)
    return frozenset(one.name for one in members if isinstance(one, t.Struct) and one.name in _SPECIAL)


def _kept_fields(btf: Btf, definition: MapDef) -> frozenset[str]:
    """The fields of a map's values that the kernel knows."""
    if not (definition.value_type_id and definition.key_type_id):
        return frozenset()
    if definition.type == MapType.ARRAY and not is_int32(btf, definition.key_type_id):
        return frozenset()
    found = special_fields(btf, definition.value_type_id)
    return frozenset(name for name in found if definition.type in (_LOCKED if name == _SPIN_LOCK else _TIMED))


def fields_in_use(linked: LinkedProgram, obj: ObjectModel) -> Mapping[str, frozenset[str]]:
    """The types of such fields in what a program uses: by the name of the map, or of the section of globals."""
    used = {one.name for one in linked.references.values() if one.to in (RefersTo.MAP, RefersTo.DATA)}
    fields = {one.name: _kept_fields(obj.btf, one) for one in obj.maps if one.name in used}
    for section in obj.data_sections:
        if section.name in used:
            found = (special_fields(obj.btf, variable.type_id) for variable in section.variables)
            fields[section.name] = frozenset[str]().union(*found)
    return fields


def kept_from(section: ProgramSection | None, fields: Mapping[str, frozenset[str]]) -> Iterator[tuple[str, str, str]]:
    """What kernels until Linux 6.18 keep from a program of a section: the name, the field's type, the section."""
    refused = _KEPT_FROM.get(section.program_type) if section is not None else None
    if section is not None and refused:
        for name, found in fields.items():
            yield from ((name, field, section.name) for field in sorted(found & refused))


def without_field(
    linked: LinkedProgram, obj: ObjectModel, section: ProgramSection | None, fields: Mapping[str, frozenset[str]]
) -> Iterator[tuple[int, int, str]]:
    """Calls that take a lock or a timer, where the program has none: slot, helper and type of the field."""
    types = {one.name: one.type for one in obj.maps}
    of_maps = any(types.get(name) in MAPS_OF_MAPS for name in fields)
    # it may get one from a kfunc, from an inner map, or from the program that it is a part of
    if linked.kfunc_calls or of_maps or section is None or section.program_type in PARTS_OF_OTHERS:
        return
    known = frozenset[str]().union(*fields.values())
    for slot, number in linked.helper_calls.items():
        field = _USERS.get(number)
        if field is not None and field not in known:
            yield slot, number, field


def is_int32(btf: Btf, type_id: int) -> bool:
    """Whether a type is what kernels take for the type of an index."""
    _, found = btf.resolve(type_id)
    return isinstance(found, t.Int) and found.size == 4 and found.bits == 32
