"""What every kernel refuses of a map, by its type: the rules of the kernel's map_alloc_check() functions as a table.

Input: a map's definition, as libbpf passes it on. Output: the rules that it breaks. Sizes that a map lacks are not
among them, as the application may set those before the load. Limits are those of the newest kernels, which are the
widest; the tests compare them with the running kernel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hatch_bpf.objects.model import MapDef
from hatch_bpf.objects.uapi import MAPS_OF_MAPS, MapFlag, MapType, map_type_name


@dataclass(frozen=True)
class MapRule:
    """What a type of map takes. If a range of sizes contains 0, a map may leave that size out."""

    key: range
    value: range
    entries: range
    flags: int = 0
    """All flags that it may have."""
    needs: int = 0
    """The flags that it must have."""
    extra: range = range(1)
    typed: bool = False
    """Key and value have to be given as types that BTF describes, the key as an integer."""


_KMALLOC = 1 << 22
_ELEMENT = _KMALLOC - 1
"""An element is key, value and what the kernel adds to them."""
_PER_CPU = 1 << 15
_SHORT = 1 << 16
_INT_MAX = (1 << 31) - 1
_ENTRIES = (1 << 32) - 1
_ARENA_PAGES = 1 << 20
_PAGE = 4096
_CPUS = 8192
"""The most CPUs that a kernel is built for (NR_CPUS)."""
_NUMA_NODES = 1024
"""The most NUMA nodes that a kernel is built for (MAX_NUMNODES)."""


def _to(high: int, low: int = 1, step: int = 1) -> range:
    return range(low, high + 1, step)


_NONE, _INDEX, _FD, _FD_OR_MORE = range(1), _to(4, 4), _to(4, 4), _to(8, 4, 4)
_ANY, _BUCKETS, _HALF = _to(_ENTRIES), _to(1 << 27), _to(1 << 31)
_ACCESS = MapFlag.NUMA_NODE | MapFlag.RDONLY | MapFlag.WRONLY
_PROG_ACCESS = MapFlag.RDONLY_PROG | MapFlag.WRONLY_PROG
_HASH = MapFlag.NO_PREALLOC | MapFlag.ZERO_SEED | _ACCESS | _PROG_ACCESS
_LRU = MapFlag.NO_COMMON_LRU | MapFlag.ZERO_SEED | _ACCESS | _PROG_ACCESS
_LOCAL = MapRule(_INDEX, _to(_SHORT), _NONE, MapFlag.NO_PREALLOC | MapFlag.CLONE, MapFlag.NO_PREALLOC, typed=True)
_RING = MapRule(_NONE, _NONE, _HALF, MapFlag.NUMA_NODE | MapFlag.RB_OVERWRITE)
_QUEUE = MapRule(_NONE, _to(_KMALLOC), _ANY, _ACCESS | _PROG_ACCESS)
_SMALL = ~MapFlag.NUMA_NODE

RULES: dict[int, MapRule] = {
    MapType.HASH: MapRule(_to(_ELEMENT), _to(_ELEMENT), _BUCKETS, _HASH),
    MapType.PERCPU_HASH: MapRule(_to(_ELEMENT), _to(_PER_CPU), _BUCKETS, _HASH & _SMALL),
    MapType.LRU_HASH: MapRule(_to(_ELEMENT), _to(_ELEMENT), _BUCKETS, _LRU),
    MapType.LRU_PERCPU_HASH: MapRule(_to(_ELEMENT), _to(_PER_CPU), _BUCKETS, _LRU & _SMALL),
    MapType.ARRAY: MapRule(_INDEX, _to(_INT_MAX), _ANY, _ACCESS | _PROG_ACCESS | MapFlag.MMAPABLE | MapFlag.INNER_MAP),
    MapType.PERCPU_ARRAY: MapRule(_INDEX, _to(_PER_CPU), _ANY, (_ACCESS | _PROG_ACCESS) & _SMALL),
    MapType.PROG_ARRAY: MapRule(_INDEX, _FD, _ANY, _ACCESS),
    # libbpf makes it as large as there are CPUs
    MapType.PERF_EVENT_ARRAY: MapRule(_INDEX, _FD, range(_ENTRIES + 1), _ACCESS | MapFlag.PRESERVE_ELEMS),
    MapType.CGROUP_ARRAY: MapRule(_INDEX, _FD, _ANY, _ACCESS),
    MapType.ARRAY_OF_MAPS: MapRule(_INDEX, _FD, _ANY, _ACCESS),
    MapType.HASH_OF_MAPS: MapRule(_to(_ELEMENT), _FD, _BUCKETS, _HASH),
    # addresses of 8 bytes, or struct bpf_stack_build_id of 32; 127 of them
    MapType.STACK_TRACE: MapRule(_INDEX, _to(127 * 32, 8, 8), _HALF, _ACCESS | MapFlag.STACK_BUILD_ID),
    MapType.LPM_TRIE: MapRule(
        _to(260, 5), _to(_ELEMENT), _ANY, MapFlag.NO_PREALLOC | _ACCESS | _PROG_ACCESS, MapFlag.NO_PREALLOC
    ),
    MapType.DEVMAP: MapRule(_INDEX, _FD_OR_MORE, _ANY, _ACCESS),
    MapType.DEVMAP_HASH: MapRule(_INDEX, _FD_OR_MORE, _HALF, _ACCESS),
    MapType.CPUMAP: MapRule(_INDEX, _FD_OR_MORE, _to(_CPUS), MapFlag.NUMA_NODE),
    MapType.XSKMAP: MapRule(_INDEX, _FD, _ANY, _ACCESS),
    MapType.SOCKMAP: MapRule(_INDEX, _FD_OR_MORE, _ANY, _ACCESS),
    MapType.SOCKHASH: MapRule(_to(512), _FD_OR_MORE, _BUCKETS, _ACCESS),
    MapType.REUSEPORT_SOCKARRAY: MapRule(_INDEX, _FD_OR_MORE, _ANY, _ACCESS | _PROG_ACCESS),
    # by cgroup id alone, or struct bpf_cgroup_storage_key
    MapType.CGROUP_STORAGE: MapRule(_to(16, 8, 8), _to(_SHORT), _NONE, _ACCESS | _PROG_ACCESS),
    MapType.PERCPU_CGROUP_STORAGE: MapRule(_to(16, 8, 8), _to(_PER_CPU), _NONE, _ACCESS | _PROG_ACCESS),
    MapType.QUEUE: _QUEUE,
    MapType.STACK: _QUEUE,
    MapType.BLOOM_FILTER: MapRule(
        _NONE, _to(_KMALLOC), _ANY, _ACCESS | _PROG_ACCESS | MapFlag.ZERO_SEED, extra=range(16)
    ),
    MapType.SK_STORAGE: _LOCAL,
    MapType.INODE_STORAGE: _LOCAL,
    MapType.TASK_STORAGE: _LOCAL,
    MapType.CGRP_STORAGE: _LOCAL,
    MapType.RINGBUF: _RING,
    MapType.USER_RINGBUF: _RING,
    MapType.ARENA: MapRule(
        _NONE,
        _NONE,
        _to(_ARENA_PAGES),
        MapFlag.MMAPABLE | MapFlag.SEGV_ON_FAULT | MapFlag.NO_USER_CONV,
        MapFlag.MMAPABLE,
        extra=range(0, 1 << 64, _PAGE),
    ),
}
"""By type. STRUCT_OPS maps are libbpf's own (see libbpf_rules.py); nothing is known about types newer than these."""
NOT_INNER = MAPS_OF_MAPS | {
    MapType.PROG_ARRAY, MapType.CGROUP_STORAGE, MapType.PERCPU_CGROUP_STORAGE, MapType.STRUCT_OPS,
}  # fmt: skip
"""Types whose maps cannot be in maps."""
_EXCLUSIVE = ((MapFlag.RDONLY, MapFlag.WRONLY), (MapFlag.RDONLY_PROG, MapFlag.WRONLY_PROG))
_BUILD_ID = 32
_ADDRESSES = 127 * 8


def unset_sizes(definition: MapDef) -> list[str]:
    """Which sizes a map lacks that its type cannot be created without."""
    rule = RULES.get(definition.type)
    sizes = {} if rule is None else {"key_size": rule.key, "value_size": rule.value, "max_entries": rule.entries}
    return [name for name, allowed in sizes.items() if not getattr(definition, name) and 0 not in allowed]


def has_typed_keys(definition: MapDef) -> bool:
    """Whether a map declares the type of its keys, and kernels look at it."""
    rule = RULES.get(definition.type)
    return rule is not None and rule.typed and bool(definition.key_type_id)


def broken(definition: MapDef, *, is_inner: bool = False) -> Iterator[tuple[str, str]]:
    """Rules that a map breaks on every kernel: what is wrong, and what to do."""
    rule = RULES.get(definition.type)
    if rule is None:
        return
    kind = map_type_name(definition.type)
    for member, allowed in (("key_size", rule.key), ("value_size", rule.value), ("max_entries", rule.entries)):
        size = getattr(definition, member)
        if size and size not in allowed:
            yield _wrong_size(kind, member, size, allowed)
    flags = definition.map_flags
    # as numbers: ~ of a flag has only bits that have names
    if unknown := flags & ~int(rule.flags):
        yield f"a {kind} takes no flag {_names(unknown)}", "leave it out"
    if rule.needs & ~flags:
        yield f"a {kind} needs the flag {_names(rule.needs & ~flags)}", "set it by __uint(map_flags, ...)"
    for one, other in _EXCLUSIVE:
        if flags & one and flags & other:
            yield f"{_names(one)} and {_names(other)} exclude each other", "leave one of them out"
    if definition.map_extra not in rule.extra:
        yield f"a {kind} takes no map_extra of {definition.map_extra:#x}", "leave it out"
    if rule.typed and not (definition.key_type_id and definition.value_type_id):
        yield f"a {kind} needs types of its keys and values", "declare them by __type(key, int) and __type(value, ...)"
    if flags & MapFlag.NUMA_NODE and definition.numa_node >= _NUMA_NODES:
        yield f"no machine has a NUMA node {definition.numa_node}", f"its number is below {_NUMA_NODES}"
    if definition.type == MapType.STACK_TRACE:
        yield from _stack_trace(definition)
    if definition.type == MapType.ARENA and definition.map_extra in rule.extra and definition.max_entries:
        yield from _arena(definition)
    if is_inner and definition.type in NOT_INNER:
        yield f"a {kind} cannot be an inner map", "use another type of map"


def _stack_trace(definition: MapDef) -> Iterator[tuple[str, str]]:
    has_ids = definition.map_flags & MapFlag.STACK_BUILD_ID
    if has_ids and definition.value_size % _BUILD_ID:
        yield (
            f"with BPF_F_STACK_BUILD_ID values are structs of 32 bytes, not {definition.value_size} bytes",
            "declare an array of struct bpf_stack_build_id",
        )
    elif not has_ids and definition.value_size > _ADDRESSES and definition.value_size % 8 == 0:
        yield f"stacks have at most 127 addresses, not {definition.value_size // 8}", "declare an array of 127"


def _arena(definition: MapDef) -> Iterator[tuple[str, str]]:
    start = definition.map_extra
    if start and start >> 32 != (start + definition.max_entries * _PAGE - 1) >> 32:
        yield (
            f"the arena's {definition.max_entries} pages at {start:#x} cross an address that 4 GiB divide",
            "let map_extra be a multiple of 4 GiB",
        )


def _wrong_size(kind: str, member: str, size: int, allowed: range) -> tuple[str, str]:
    thing = {"key_size": "keys", "value_size": "values", "max_entries": "entries"}[member]
    unit = "" if member == "max_entries" else " bytes"
    if allowed == _NONE:
        declared = member.removesuffix("_size")
        return f"a {kind} has no {thing}, and this one declares {thing} of {size}{unit}" if unit else (
            f"a {kind} has no max_entries, and this one has {size}"
        ), f"leave `{declared}` out"
    if allowed == _INDEX and member == "key_size":
        return f"it has keys of {size} bytes, and the keys of a {kind} are indices", "declare its key as __u32"
    return f"a {kind} takes {thing} of {_described(allowed)}{unit}, not {size}{unit}", (
        f"declare {thing} of that size" if unit else "declare fewer"
    )


def _described(allowed: range) -> str:
    if len(allowed) == 1:
        return str(allowed[0])
    if len(allowed) == 2:
        return f"{allowed[0]} or {allowed[1]}"
    each = f" in steps of {allowed.step}" if allowed.step > 1 else ""
    return f"{allowed[0]} to {allowed[-1]}{each}"


def _names(flags: int) -> str:
    named = [f"BPF_F_{flag.name}" for flag in MapFlag if flag & flags]
    rest = flags & ~sum(MapFlag)
    return " | ".join(named + [f"{rest:#x}"] * bool(rest))
