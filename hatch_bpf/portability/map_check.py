"""Maps of an object on a kernel: which it can create.

Input: an object and the kernel's features. Output: reasons, by the name of the map.
"""

from __future__ import annotations

from collections.abc import Iterator

from hatch_bpf.btf import types as t
from hatch_bpf.btf.reader import Btf
from hatch_bpf.objects.model import MapDef, ObjectModel
from hatch_bpf.objects.uapi import MapType
from hatch_bpf.portability import reasons as because
from hatch_bpf.portability.kernel_features import KernelFeatures, member_type
from hatch_bpf.portability.verdicts import Reason

_KEYLESS_MAPS = frozenset({
    MapType.QUEUE, MapType.STACK, MapType.STRUCT_OPS, MapType.RINGBUF, MapType.BLOOM_FILTER, MapType.USER_RINGBUF,
    MapType.ARENA,
})  # fmt: skip
"""Types whose maps have no keys, or get them from libbpf: queues, stacks, struct_ops, ring buffers, blooms, arenas."""
_VALUELESS_MAPS = frozenset({
    MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS, MapType.STRUCT_OPS, MapType.RINGBUF, MapType.USER_RINGBUF,
    MapType.ARENA,
})  # fmt: skip
"""Types whose maps have no values, or get them from libbpf, as maps of maps do."""
_COUNTLESS_MAPS = frozenset({
    MapType.PERF_EVENT_ARRAY, MapType.CGROUP_STORAGE, MapType.PERCPU_CGROUP_STORAGE, MapType.SK_STORAGE,
    MapType.STRUCT_OPS, MapType.INODE_STORAGE, MapType.TASK_STORAGE, MapType.CGRP_STORAGE, MapType.ARENA,
})  # fmt: skip
"""Types whose max_entries may be 0: perf event arrays, which libbpf sizes, local storage, struct_ops and arenas."""
_INDEXED_MAPS = frozenset({
    MapType.ARRAY, MapType.PROG_ARRAY, MapType.PERF_EVENT_ARRAY, MapType.PERCPU_ARRAY, MapType.STACK_TRACE,
    MapType.CGROUP_ARRAY, MapType.ARRAY_OF_MAPS, MapType.DEVMAP, MapType.SOCKMAP, MapType.CPUMAP, MapType.XSKMAP,
    MapType.REUSEPORT_SOCKARRAY, MapType.DEVMAP_HASH,
})  # fmt: skip
"""Types whose keys are indices."""
_INDEX_SIZE = 4


def map_reasons(obj: ObjectModel, features: KernelFeatures) -> Iterator[tuple[str, Reason]]:
    """Why a kernel creates a map not or not yet, with the map's name."""
    for definition in obj.maps:
        found: MapDef | None = definition
        while found is not None:
            if features.has_map_type(found.type) is False:
                yield definition.name, because.map_type_missing(found)
            for flag in (1 << bit for bit in range(32) if found.map_flags >> bit & 1):
                if not features.has_map_flag(flag):
                    yield definition.name, because.map_flag_missing(found, flag)
            lacking = _lacking(found)
            if lacking:
                yield definition.name, because.map_unsized(found, lacking)
            elif found.type in _INDEXED_MAPS and found.key_size != _INDEX_SIZE:
                yield definition.name, because.map_index_differs(found)
            found = found.inner


def struct_ops_reasons(obj: ObjectModel, features: KernelFeatures) -> Iterator[Reason]:
    """Why libbpf or the kernel refuses the object's struct_ops maps."""
    for section, type_id in _struct_ops_types(obj.btf):
        name = obj.btf.name(type_id).split("___")[0]
        if not features.has_struct(name) or not features.has_struct(f"bpf_struct_ops_{name}"):
            yield because.struct_ops_missing(name)
            continue
        if section == ".struct_ops.link" and not features.has_struct("bpf_struct_ops_link"):
            yield because.struct_ops_link_missing(name)
        struct = obj.btf[type_id]
        for member in struct.members if isinstance(struct, t.Struct) else ():
            there = features.member_type(name, member.name)
            if there is None:
                yield because.struct_ops_member_missing(name, member.name)
            elif there != member_type(obj.btf, member.type_id):
                yield because.struct_ops_member_differs(name, member.name)


def _struct_ops_types(btf: Btf) -> tuple[tuple[str, int], ...]:
    """Sections of its struct_ops maps, and the ids of their types."""
    found = []
    for section in (".struct_ops", ".struct_ops.link"):
        for type_id in btf.find(section, t.Kind.DATASEC):
            data_sec = btf[type_id]
            for info in data_sec.variables if isinstance(data_sec, t.DataSec) else ():
                var = btf[info.type_id]
                if isinstance(var, t.Var):
                    found.append((section, btf.resolve(var.type_id)[0]))
    return tuple(dict.fromkeys(found))


def _lacking(definition: MapDef) -> list[str]:
    """Which sizes a map lacks that its type cannot be created without."""
    needed = {
        "key_size": definition.key_size or definition.type in _KEYLESS_MAPS,
        "value_size": definition.value_size or definition.type in _VALUELESS_MAPS,
        "max_entries": definition.max_entries or definition.type in _COUNTLESS_MAPS,
    }
    return [name for name, is_there in needed.items() if not is_there]
