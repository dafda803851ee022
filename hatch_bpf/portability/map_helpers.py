"""What programs may do with maps: what all versions of the kernel's check_map_func_compatibility() have in common, and
what flags of maps forbid.

Input: a linked program and its maps. Output: calls, loads and stores that every kernel refuses where it reaches them.
A map is followed back from them through straight code alone: where paths meet it may be another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hatch_bpf.objects.insns import AluOp, Class
from hatch_bpf.objects.linked_program import LinkedProgram, RefersTo
from hatch_bpf.objects.model import MapDef
from hatch_bpf.objects.uapi import MapFlag, MapType, helper, helpers

_LOOKUP = helper("map_lookup_elem")
_OF_ANY_MAP = helpers("map_lookup_elem map_update_elem map_delete_elem")
_WRITES = helpers("map_update_elem map_delete_elem map_push_elem map_pop_elem")
_REDIRECT = helpers("redirect_map map_lookup_elem")
_QUEUE = helpers("map_push_elem map_pop_elem map_peek_elem")
_SOCKETS = _OF_ANY_MAP | helpers("sk_select_reuseport")

ONLY: Mapping[int, frozenset[int]] = {
    MapType.PROG_ARRAY: helpers("tail_call"),
    MapType.PERF_EVENT_ARRAY: helpers("perf_event_read perf_event_read_value perf_event_output skb_output xdp_output"),
    MapType.STACK_TRACE: helpers("get_stackid"),
    MapType.CGROUP_ARRAY: helpers("skb_under_cgroup current_task_under_cgroup"),
    MapType.DEVMAP: _REDIRECT,
    MapType.DEVMAP_HASH: _REDIRECT,
    MapType.CPUMAP: helpers("redirect_map"),
    MapType.XSKMAP: _REDIRECT,
    MapType.SOCKMAP: _SOCKETS | helpers("sk_redirect_map msg_redirect_map sock_map_update"),
    MapType.SOCKHASH: _SOCKETS | helpers("sk_redirect_hash msg_redirect_hash sock_hash_update"),
    MapType.REUSEPORT_SOCKARRAY: helpers("sk_select_reuseport"),
    MapType.CGROUP_STORAGE: helpers("get_local_storage"),
    MapType.PERCPU_CGROUP_STORAGE: helpers("get_local_storage"),
    MapType.ARRAY_OF_MAPS: helpers("map_lookup_elem"),
    MapType.HASH_OF_MAPS: helpers("map_lookup_elem"),
    MapType.QUEUE: _QUEUE,
    MapType.STACK: _QUEUE,
    MapType.BLOOM_FILTER: helpers("map_push_elem map_peek_elem"),
    MapType.RINGBUF: helpers("ringbuf_output ringbuf_reserve ringbuf_query ringbuf_reserve_dynptr"),
    MapType.USER_RINGBUF: helpers("user_ringbuf_drain"),
    MapType.SK_STORAGE: helpers("sk_storage_get sk_storage_delete"),
    MapType.INODE_STORAGE: helpers("inode_storage_get inode_storage_delete"),
    MapType.TASK_STORAGE: helpers("task_storage_get task_storage_delete"),
    MapType.CGRP_STORAGE: helpers("cgrp_storage_get cgrp_storage_delete"),
}
"""Types of maps that may be passed to these helpers alone."""
_PER_CPU = frozenset({MapType.PERCPU_HASH, MapType.PERCPU_ARRAY, MapType.LRU_PERCPU_HASH})
_TYPES: Mapping[int, frozenset[int]] = {
    **{
        number: frozenset(kind for kind, allowed in ONLY.items() if number in allowed)
        for number in frozenset[int]().union(*ONLY.values()) - _OF_ANY_MAP
    },
    helper("map_lookup_percpu_elem"): _PER_CPU,
    helper("for_each_map_elem"): _PER_CPU | {MapType.HASH, MapType.ARRAY, MapType.LRU_HASH, MapType.RHASH},
}
"""Helpers that take maps of these types alone: those of the table above, and helpers for maps that are not in it."""
_SECOND = helpers("""
    tail_call get_stackid perf_event_output skb_output xdp_output skb_under_cgroup sk_select_reuseport sk_redirect_map
    msg_redirect_map sock_map_update sk_redirect_hash msg_redirect_hash sock_hash_update
""")
"""Helpers whose second argument is the map; it is the first of all others."""
_TAKES_MAP = _OF_ANY_MAP | _TYPES.keys()
READ_ONLY, WRITE_ONLY = "BPF_F_RDONLY_PROG", "BPF_F_WRONLY_PROG"


def misused_maps(linked: LinkedProgram, types: Mapping[str, int]) -> Iterator[tuple[int, str, int]]:
    """Slot, map and helper of calls whose helper does not take the map. `types` has the maps' types."""
    for slot, name, number in _passed(linked):
        kind = types.get(name)
        if kind is not None and not (number in ONLY.get(kind, {number}) and kind in _TYPES.get(number, {kind})):
            yield slot, name, number


def refused_map_accesses(
    linked: LinkedProgram, maps: Mapping[str, MapDef]
) -> Iterator[tuple[int, str, str, int | None]]:
    """What every kernel refuses of a program's reads and writes.

    Slot; the map's name, or that of the section or extern that is only for reading; the flag of the map that forbids
    it, empty for those; the number of the helper, None for a plain load or store.
    """
    flags = {name: found.map_flags & (MapFlag.RDONLY_PROG | MapFlag.WRONLY_PROG) for name, found in maps.items()}
    if any(flags.values()):
        for slot, name, number in _passed(linked):
            if number in _WRITES and flags.get(name, 0) & MapFlag.RDONLY_PROG:
                yield slot, name, READ_ONLY, number
    constant = {slot for slot, one in linked.references.items() if _is_constant(one.to, one.name)}
    if not constant and not any(flags.values()):
        return
    for slot, insn in enumerate(linked.insns):
        is_read = insn.cls is Class.LDX
        if not is_read and insn.cls not in (Class.ST, Class.STX):
            continue
        origin = _origin(insn.src if is_read else insn.dst, slot, linked, moved=True)
        if origin is None:
            continue
        if origin in constant and not is_read:
            yield slot, linked.references[origin].name, "", None
        elif linked.helper_calls.get(origin) == _LOOKUP:
            name = _map_in(1, origin, linked)
            forbidden = MapFlag.WRONLY_PROG if is_read else MapFlag.RDONLY_PROG
            if flags.get(name, 0) & forbidden:
                yield slot, name, WRITE_ONLY if is_read else READ_ONLY, None


def map_sizes(linked: LinkedProgram, maps: Mapping[str, MapDef]) -> dict[int, tuple[int, int]]:
    """Slots of calls -> bytes of the keys and of the values of the map that they get, as it is declared."""
    found = ((slot, maps.get(name)) for slot, name, _ in _passed(linked))
    return {slot: (one.key_size, one.value_size) for slot, one in found if one is not None}


def _is_constant(to: RefersTo, name: str) -> bool:
    return to is RefersTo.KCONFIG or (to is RefersTo.DATA and name.startswith(".rodata"))


def _passed(linked: LinkedProgram) -> Iterator[tuple[int, str, int]]:
    """Slots of calls, the names of the maps that they get, and the helpers' numbers."""
    for slot, number in linked.helper_calls.items():
        if number in _TAKES_MAP:
            yield slot, _map_in(2 if number in _SECOND else 1, slot, linked), number


def _map_in(register: int, call: int, linked: LinkedProgram) -> str:
    """The map that a register holds at a call; empty if straight code does not tell."""
    origin = _origin(register, call, linked)
    reference = linked.references.get(origin) if origin is not None else None
    return reference.name if reference is not None and reference.to is RefersTo.MAP else ""


def _origin(register: int, slot: int, linked: LinkedProgram, *, moved: bool = False) -> int | None:
    """The slot that made what a register holds: a 64-bit load, or a call; None where straight code does not tell.

    A pointer may have been `moved` by a constant since.
    """
    start = slot
    while (before := linked.set_before(slot, register, of=start)) is not None:
        slot, insn = before, linked.insns[before]
        if slot in linked.references or (insn.is_call and register == 0):
            return slot
        if insn.cls is not Class.ALU64 or insn.off:
            return None
        if insn.op == AluOp.MOV and insn.uses_register:
            register = insn.src
        elif not (moved and insn.op == AluOp.ADD and not insn.uses_register):
            return None
    return None
