"""The table of what kernels take of a map: against the running kernel, a change at a time."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from dataclasses import replace

import pytest

from hatch_bpf.btf.reader import Btf
from hatch_bpf.objects.model import MapDef
from hatch_bpf.objects.uapi import MapType
from hatch_bpf.portability.kernel_features import KernelFeatures
from hatch_bpf.portability.map_rules import NOT_INNER, RULES, broken, unset_sizes
from tests.common import needs
from tests.common.btf_builder import RawBtf

SIZES = (0, 1, 2, 3, 4, 5, 7, 8, 12, 16, 17, 24, 32, 260, 261, 512, 513, 1016, 1024, 32768, 32769, 1 << 22)
ENTRIES = (0, 1, 2, 3)
EXTRA = (0, 1, 3, 15, 16, 4096)
FLAGS = 19
"""How many the running kernel surely knows."""


class _Options(ctypes.Structure):
    """libbpf's `struct bpf_map_create_opts`."""

    _fields_ = [
        ("size", ctypes.c_size_t),
        ("btf_fd", ctypes.c_uint32),
        ("btf_key_type_id", ctypes.c_uint32),
        ("btf_value_type_id", ctypes.c_uint32),
        ("btf_vmlinux_value_type_id", ctypes.c_uint32),
        ("inner_map_fd", ctypes.c_uint32),
        ("map_flags", ctypes.c_uint32),
        ("map_extra", ctypes.c_uint64),
        ("numa_node", ctypes.c_uint32),
        ("map_ifindex", ctypes.c_uint32),
    ]


class Kernel:
    """Creates maps."""

    def __init__(self) -> None:
        needs.root_bpf()
        needs.libbpf()
        self._lib = ctypes.CDLL("libbpf.so.1", use_errno=True)
        btf = RawBtf()
        btf.integer()
        data = btf.build()
        self._btf: int = self._lib.bpf_btf_load(data, len(data), None)
        assert self._btf >= 0
        self._inner = self._create(MapDef("inner", MapType.ARRAY, 4, 4, 1))
        assert self._inner >= 0

    def takes(self, definition: MapDef, *, inner: int | None = None) -> bool:
        fd = self._create(definition, inner=self._inner if inner is None else inner)
        if fd >= 0:
            os.close(fd)
        # it is as it should be, only too large for this machine
        return fd >= 0 or fd == -errno.ENOMEM

    def holds(self, definition: MapDef) -> bool | None:
        """Whether a map can be in a map; None if it cannot even be created."""
        fd = self._create(definition)
        if fd < 0:
            return None
        try:
            return self.takes(MapDef("outer", MapType.ARRAY_OF_MAPS, 4, 4, 1), inner=fd)
        finally:
            os.close(fd)

    def _create(self, definition: MapDef, *, inner: int = 0) -> int:
        of_maps = definition.type in (MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS)
        typed = RULES[definition.type].typed
        options = _Options(
            size=ctypes.sizeof(_Options),
            inner_map_fd=inner if of_maps else 0,
            map_flags=definition.map_flags,
            map_extra=definition.map_extra,
            btf_fd=self._btf if typed else 0,
            btf_key_type_id=definition.key_type_id if typed else 0,
            btf_value_type_id=definition.value_type_id if typed else 0,
        )
        fd: int = self._lib.bpf_map_create(
            definition.type,
            b"probe",
            definition.key_size,
            definition.value_size,
            definition.max_entries,
            ctypes.byref(options),
        )
        return fd


def usual(map_type: int) -> MapDef:
    """A map of a type as kernels take it."""
    rule = RULES[map_type]
    entries = 4096 if map_type in (MapType.RINGBUF, MapType.USER_RINGBUF) else min(rule.entries[-1], 4)
    key = 4 if 4 in rule.key else rule.key[0]
    value = 4 if 4 in rule.value else rule.value[0]
    types = {"key_type_id": 1, "value_type_id": 1} if rule.typed else {}
    return MapDef("m", map_type, key, value, entries, rule.needs, **types)


def varied(definition: MapDef) -> Iterator[MapDef]:
    """The map, and others that differ in one thing."""
    yield definition
    # the types of key and value are those of an int
    if not RULES[definition.type].typed:
        for size in SIZES:
            yield replace(definition, key_size=size)
            yield replace(definition, value_size=size)
    if definition.type not in (MapType.RINGBUF, MapType.USER_RINGBUF):
        for entries in ENTRIES:
            yield replace(definition, max_entries=entries)
    for bit in (*range(FLAGS), 30):
        yield replace(definition, map_flags=definition.map_flags ^ 1 << bit)
    yield replace(definition, map_flags=definition.map_flags | 0x18)
    yield replace(definition, map_flags=definition.map_flags | 0x180)
    for extra in EXTRA:
        yield replace(definition, map_extra=extra)


@pytest.mark.parametrize("map_type", RULES, ids=lambda found: MapType(found).name)
def test_the_running_kernel_takes_what_the_table_says(map_type: int) -> None:
    running = Kernel()
    definition = usual(map_type)
    features = KernelFeatures(Btf(needs.host_btf().read_bytes(), source="host"))
    if not features.has_map_type(map_type):
        pytest.skip("the running kernel has no such maps")
    wrong = []
    for one in varied(definition):
        # this one is libbpf's to give a size
        sized = replace(one, max_entries=one.max_entries or 4) if map_type == MapType.PERF_EVENT_ARRAY else one
        said = [*unset_sizes(one), *(what for what, _ in broken(one))]
        if running.takes(sized) == bool(said):
            wrong.append((one, said))
    assert wrong == []


@pytest.mark.parametrize("start", [1 << 44, (1 << 44) - 4 * 4096, (1 << 44) - 3 * 4096])
def test_where_an_arena_may_lie(start: int) -> None:
    """The last of its four pages may end at a multiple of 4 GiB, not behind."""
    running = Kernel()
    if not KernelFeatures(Btf(needs.host_btf().read_bytes(), source="host")).has_map_type(MapType.ARENA):
        pytest.skip("the running kernel has no such maps")
    arena = replace(usual(MapType.ARENA), map_extra=start)
    assert running.takes(arena) is not any(broken(arena))


def test_the_running_kernel_holds_in_maps_what_the_table_says() -> None:
    running = Kernel()
    held = {
        kind: running.holds(usual(kind)) for kind in RULES if kind not in (MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS)
    }
    known = {kind: found for kind, found in held.items() if found is not None}
    assert len(known) > 20
    assert {kind for kind, found in known.items() if not found} == NOT_INNER & known.keys()
