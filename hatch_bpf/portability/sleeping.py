"""Programs that may sleep, and those that may not: which maps and helpers kernels keep from either.

Input: a linked program, its section and its maps. Output: what every kernel refuses of that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hatch_bpf.objects.linked_program import LinkedProgram, RefersTo
from hatch_bpf.objects.uapi import PARTS_OF_OTHERS, MapType, helpers
from hatch_bpf.runtime.sections import ProgramSection

MAPS_OF_SLEEPERS = frozenset({
    MapType.HASH, MapType.LRU_HASH, MapType.PERCPU_HASH, MapType.LRU_PERCPU_HASH, MapType.ARRAY, MapType.PERCPU_ARRAY,
    MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS, MapType.QUEUE, MapType.STACK, MapType.RINGBUF, MapType.USER_RINGBUF,
    MapType.SK_STORAGE, MapType.INODE_STORAGE, MapType.TASK_STORAGE, MapType.CGRP_STORAGE, MapType.ARENA,
})  # fmt: skip
"""Types of maps that some kernel until Linux 6.18 lets sleepable programs use: check_map_prog_compatibility()."""
_SLEEP = helpers("copy_from_user copy_from_user_task")
"""Helpers that may sleep."""


def maps_not_for_sleepers(
    linked: LinkedProgram, section: ProgramSection | None, types: Mapping[str, int]
) -> Iterator[tuple[str, int]]:
    """Name and type of maps that a sleepable program uses but may not, whether or not it reaches that code."""
    if section is None or not section.sleepable:
        return
    used = (one.name for one in linked.references.values() if one.to is RefersTo.MAP)
    for name in dict.fromkeys(used):
        if name in types and types[name] not in MAPS_OF_SLEEPERS:
            yield name, types[name]


def sleeping_calls(linked: LinkedProgram, section: ProgramSection | None) -> Iterator[tuple[int, int]]:
    """Calls of helpers that may sleep, in a program that may not: slot and helper."""
    if section is None or section.sleepable or section.program_type in PARTS_OF_OTHERS:
        return
    yield from ((slot, number) for slot, number in linked.helper_calls.items() if number in _SLEEP)
