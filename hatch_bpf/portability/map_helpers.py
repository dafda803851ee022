"""Which helpers maps may be passed to: what all versions of the kernel's check_map_func_compatibility() have in common.

Input: a linked program and the types of its maps. Output: calls that every kernel refuses where it reaches them. A map
is followed back from a call through straight code alone: behind a jump it may be another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hatch_bpf.objects.insns import AluOp, Class, Insn, Mode
from hatch_bpf.objects.linked_program import LinkedProgram, RefersTo
from hatch_bpf.objects.uapi import MapType, helper, helpers

_ELEMENTS = helpers("map_lookup_elem map_update_elem map_delete_elem map_push_elem map_pop_elem map_peek_elem")
_EVENTS = helpers("perf_event_read perf_event_read_value perf_event_output skb_output xdp_output")
_RING = helpers("ringbuf_output ringbuf_reserve ringbuf_query ringbuf_reserve_dynptr")
_IN_CGROUP = helpers("skb_under_cgroup current_task_under_cgroup")
_QUEUE = helpers("map_push_elem map_pop_elem map_peek_elem")

ONLY: Mapping[int, frozenset[int]] = {
    MapType.PROG_ARRAY: helpers("tail_call"),
    MapType.PERF_EVENT_ARRAY: _EVENTS,
    MapType.STACK_TRACE: helpers("get_stackid"),
    MapType.CGROUP_ARRAY: _IN_CGROUP,
    MapType.CPUMAP: helpers("redirect_map"),
    MapType.ARRAY_OF_MAPS: helpers("map_lookup_elem"),
    MapType.HASH_OF_MAPS: helpers("map_lookup_elem"),
    MapType.RINGBUF: _RING,
}
"""Types of maps that may be passed to these helpers alone."""
_TYPES: Mapping[int, frozenset[int]] = {
    helper("tail_call"): frozenset({MapType.PROG_ARRAY}),
    helper("get_stackid"): frozenset({MapType.STACK_TRACE}),
    helper("redirect_map"): frozenset({MapType.DEVMAP, MapType.DEVMAP_HASH, MapType.CPUMAP, MapType.XSKMAP}),
    **dict.fromkeys(_EVENTS, frozenset({MapType.PERF_EVENT_ARRAY})),
    **dict.fromkeys(_RING, frozenset({MapType.RINGBUF})),
    **dict.fromkeys(_IN_CGROUP, frozenset({MapType.CGROUP_ARRAY})),
    **dict.fromkeys(_QUEUE, frozenset({MapType.QUEUE, MapType.STACK, MapType.BLOOM_FILTER})),
}
"""Helpers that take maps of these types alone."""
_SECOND = helpers("tail_call get_stackid perf_event_output skb_output xdp_output skb_under_cgroup")
"""Helpers whose second argument is the map; the first of all others here."""
_TAKES_MAP = _ELEMENTS | _TYPES.keys()
_CALLER_SAVED = range(6)
_AT_MOST = 64
"""Instructions that a map is followed back through."""


def misused_maps(linked: LinkedProgram, types: Mapping[str, int]) -> Iterator[tuple[int, str, int]]:
    """Slot of the call, name of the map and number of the helper that may not have it. `types` are the maps'."""
    for slot, number in linked.helper_calls.items():
        if number not in _TAKES_MAP:
            continue
        name = _map_in(2 if number in _SECOND else 1, slot, linked)
        kind = types.get(name)
        if kind is not None and not (number in ONLY.get(kind, {number}) and kind in _TYPES.get(number, {kind})):
            yield slot, name, number


def _map_in(register: int, call: int, linked: LinkedProgram) -> str:
    """The map that a register holds at a call; empty where straight code does not tell."""
    slot = call
    while slot not in linked.meetings and slot > max(0, call - _AT_MOST):
        slot -= 1
        insn = linked.insns[slot]
        if insn.is_jump or insn.is_exit or (insn.is_call and register in _CALLER_SAVED):
            return ""
        if not _writes(insn, register):
            continue
        reference = linked.references.get(slot)
        if reference is not None:
            return reference.name if reference.to is RefersTo.MAP else ""
        if insn.cls is not Class.ALU64 or insn.op != AluOp.MOV or not insn.uses_register or insn.off:
            return ""
        register = insn.src
    return ""


def _writes(insn: Insn, register: int) -> bool:
    if insn.cls is Class.STX and insn.mode == Mode.ATOMIC:
        return register in (insn.src, 0)  # those that fetch do
    # the second half of a 64-bit immediate load says nothing of registers
    return insn.cls in (Class.ALU, Class.ALU64, Class.LDX, Class.LD) and insn.dst == register and insn.code != 0
