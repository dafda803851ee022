"""Maps of an object on a kernel: which it can create.

Input: an object and the kernel's features. Output: reasons, by the name of the map.
"""

from __future__ import annotations

from collections.abc import Iterator, Set

from hatch_bpf.btf.reader import Btf
from hatch_bpf.objects.model import MapDef, ObjectModel
from hatch_bpf.objects.uapi import MAPS_OF_MAPS, MapFlag
from hatch_bpf.portability import reasons as because
from hatch_bpf.portability.kernel_features import KernelFeatures, member_type
from hatch_bpf.portability.map_rules import broken, has_typed_keys, unset_sizes
from hatch_bpf.portability.special_fields import is_int32
from hatch_bpf.portability.verdicts import Reason

_DESCRIPTOR = 4
"""Bytes of a file descriptor."""


def map_reasons(obj: ObjectModel, features: KernelFeatures) -> Iterator[tuple[str, Reason]]:
    """Why a kernel creates a map not or not yet, with the map's name."""
    used = {relocation.symbol for relocation in obj.relocations if relocation.target_section == ".maps"}
    for definition in obj.maps:
        yield from ((definition.name, reason) for reason in _of_map(obj, definition, features, used))


def _of_map(obj: ObjectModel, definition: MapDef, features: KernelFeatures, used: Set[str]) -> Iterator[Reason]:
    found: MapDef | None = definition
    while found is not None:
        if features.has_map_type(found.type) is False:
            yield because.map_type_missing(found)
        for flag in (1 << bit for bit in range(32) if found.map_flags >> bit & 1):
            if not features.has_map_flag(flag):
                yield because.map_flag_missing(found, flag)
        if found.value_size > _DESCRIPTOR and not features.has_wide_values(found.type):
            yield because.map_values_too_wide(found, _DESCRIPTOR)
        for what, remedy in broken(found, is_inner=found is not definition):
            yield because.map_refused(found, what, remedy)
        if has_typed_keys(found) and not is_int32(obj.btf, found.key_type_id):
            yield because.map_refused(found, "its keys have a type other than int", "declare them by __type(key, int)")
        if found.map_flags & MapFlag.NUMA_NODE and found.numa_node:
            yield because.numa_node(found)
        missing = unset_sizes(found)
        if missing:
            yield because.map_unsized(found, missing)
        found = found.inner
    if definition.type not in MAPS_OF_MAPS:
        return
    if definition.inner is None:
        yield because.no_inner_map(definition, is_used=definition.name in used)
    elif not features.has_dots_in_names:
        yield because.inner_map_refused(definition)


def struct_ops_reasons(obj: ObjectModel, features: KernelFeatures) -> Iterator[Reason]:
    """Why libbpf or the kernel refuses the object's struct_ops maps."""
    for section, type_id in _struct_ops_types(obj.btf):
        name = obj.btf.name(type_id).split("___")[0]
        if not features.has_struct(name) or not features.has_struct(f"bpf_struct_ops_{name}"):
            yield because.struct_ops_missing(name)
            continue
        if section == ".struct_ops.link" and not features.has_struct("bpf_struct_ops_link"):
            yield because.struct_ops_link_missing(name)
        for member in obj.btf.members(type_id):
            there = features.member_type(name, member.name)
            if there is None:
                yield because.struct_ops_member_missing(name, member.name)
            elif there != member_type(obj.btf, member.type_id):
                yield because.struct_ops_member_differs(name, member.name)


def _struct_ops_types(btf: Btf) -> tuple[tuple[str, int], ...]:
    """Sections of its struct_ops maps, and the ids of their types."""
    return tuple(
        dict.fromkeys(
            (section, btf.resolve(var.type_id)[0])
            for section in (".struct_ops", ".struct_ops.link")
            for var in btf.variables(section)
        )
    )
