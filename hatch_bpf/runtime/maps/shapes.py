"""What is known about a map: its type, its sizes, its descriptor. Input: a map of libbpf's, or a pinned one.

Output: a `MapShape`, or what the kernel says in a `MapInfo`.
"""

from __future__ import annotations

import ctypes
import os
from ctypes import byref, c_uint32

from ..arguments import c_string
from ..descriptor import check_is, open_descriptor, own_descriptor
from ..errors import MapError, failed
from ..host.mounts import no_bpf_file_system
from ..plain_data import PlainData

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional, Union

    from ..libbpf.library import Libbpf

MAP_TYPES = (
    *("UNSPEC", "HASH", "ARRAY", "PROG_ARRAY", "PERF_EVENT_ARRAY", "PERCPU_HASH", "PERCPU_ARRAY", "STACK_TRACE"),
    *("CGROUP_ARRAY", "LRU_HASH", "LRU_PERCPU_HASH", "LPM_TRIE", "ARRAY_OF_MAPS", "HASH_OF_MAPS", "DEVMAP", "SOCKMAP"),
    *("CPUMAP", "XSKMAP", "SOCKHASH", "CGROUP_STORAGE", "REUSEPORT_SOCKARRAY", "PERCPU_CGROUP_STORAGE", "QUEUE"),
    *("STACK", "SK_STORAGE", "DEVMAP_HASH", "STRUCT_OPS", "RINGBUF", "INODE_STORAGE", "TASK_STORAGE", "BLOOM_FILTER"),
    *("USER_RINGBUF", "CGRP_STORAGE", "ARENA", "INSN_ARRAY", "RHASH"),
)
"""Names of `enum bpf_map_type`, in order, without BPF_MAP_TYPE_."""


def type_numbers(*names: str) -> tuple[int, ...]:
    """The numbers of map types."""
    return tuple(map(MAP_TYPES.index, names))


BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_PROG_ARRAY, BPF_MAP_TYPE_STRUCT_OPS = type_numbers("ARRAY", "PROG_ARRAY", "STRUCT_OPS")


def short_type_name(number: int) -> str:
    """`RINGBUF`, or the number of a type that has no name here."""
    return MAP_TYPES[number] if 0 <= number < len(MAP_TYPES) else str(number)


class MapInfo(PlainData):
    """What the kernel says about a map: the start of `struct bpf_map_info`."""

    type: int
    id: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    name: str

    def __repr__(self) -> str:
        return f"MapInfo({', '.join(f'{name}={value!r}' for name, value in sorted(vars(self).items()))})"


class _RawMapInfo(ctypes.Structure):
    _fields_ = (
        *((name, c_uint32) for name in ("type", "id", "key_size", "value_size", "max_entries", "flags")),
        ("name", ctypes.c_char * 16),
    )


def map_info(libbpf: Libbpf, fd: int) -> Optional[MapInfo]:
    """What the kernel says about the map with this descriptor, or None and `ctypes.get_errno()` set."""
    raw = _RawMapInfo()
    length = c_uint32(ctypes.sizeof(raw))
    if libbpf.bpf_obj_get_info_by_fd(fd, byref(raw), byref(length)):
        return None
    values = {name: getattr(raw, name) for name in MapInfo.__annotations__}
    return MapInfo(**{**values, "name": raw.name.decode("ascii", "backslashreplace")})


class MapShape(PlainData):
    """A map's descriptor, -1 if it was not created, and the numbers that define it."""

    fd: int
    type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int


DEFINING = ("type", "key_size", "value_size", "max_entries", "flags")
"""The numbers that define a map."""


def shape_of(item: Any, **others: int) -> MapShape:
    """The shape of a map that has the numbers of `item`, but for these others."""
    return MapShape(**{**{name: getattr(item, name) for name in DEFINING}, **others})


def is_autocreated(libbpf: Libbpf, pointer: int) -> bool:
    """Whether the load creates a map. libbpf before 0.8 creates every one."""
    return not libbpf.has("bpf_map__autocreate") or bool(libbpf.bpf_map__autocreate(pointer))


def created_descriptor(libbpf: Libbpf, pointer: int) -> int:
    """libbpf's descriptor for a loaded object's map, or -1 for one that was not created."""
    # libbpf 1.4 and later have a descriptor even for a map that they did not create: it is no map's
    return int(libbpf.bpf_map__fd(pointer)) if is_autocreated(libbpf, pointer) else -1


def loaded_shape(libbpf: Libbpf, pointer: int) -> MapShape:
    """The shape of a loaded object's map. Raises `MapError` if this process may have no more descriptors."""
    fd = created_descriptor(libbpf, pointer)
    return _declared_shape(libbpf, pointer, own_descriptor("a map", fd) if fd >= 0 else -1)


def _declared_shape(libbpf: Libbpf, pointer: int, fd: int = -1) -> MapShape:
    return MapShape(
        fd=fd,
        type=libbpf.bpf_map__type(pointer),
        key_size=libbpf.bpf_map__key_size(pointer),
        value_size=libbpf.bpf_map__value_size(pointer),
        max_entries=libbpf.bpf_map__max_entries(pointer),
        flags=libbpf.bpf_map__map_flags(pointer),
    )


def refused_map(libbpf: Libbpf, pointer: int) -> str:
    """Why a map could not be created, in words that follow "the map is": its pin, its type or its sizes."""
    from .. import since  # most maps are created

    wanted = _declared_shape(libbpf, pointer)
    pin = libbpf.bpf_map__pin_path(pointer)
    if pin is not None:
        path = os.fsdecode(pin)
        hint = no_bpf_file_system(path)
        if hint:
            return f"to be pinned at {path}, but {hint}"
        others = _differences(libbpf, path, wanted)
        if others:
            return f"not like the map pinned at {path}, which has {others}; remove that file, or make them alike"
    kind = short_type_name(wanted.type)
    known = libbpf.libbpf_probe_bpf_map_type(wanted.type, None) if libbpf.has("libbpf_probe_bpf_map_type") else 1
    if known == 0:
        return f"of type {kind}, {since.unknown(kind, since.MAP_TYPES)}"
    if known < 0:  # to try a map of storage, libbpf needs a kernel that takes BTF
        return f"of type {kind}, {since.too_old(since.MAP_TYPES.get(kind))}"
    flags = [named for bit, named in since.MAP_FLAGS.items() if wanted.flags & bit]
    newer = [f"{name} came with {since.linux(came)}" for name, came in flags]
    if kind in since.WIDE_VALUES and wanted.value_size == 8:
        newer.append(f"values of 8 bytes came with {since.linux(since.WIDE_VALUES[kind])}")
    return (
        f"of type {kind}, with keys of {wanted.key_size} bytes, values of {wanted.value_size} bytes, "
        f"{wanted.max_entries} for max_entries, and flags {wanted.flags:#x}: the kernel does not take these together"
        + "".join(f"; {what}" for what in newer)
    )


def _differences(libbpf: Libbpf, path: str, wanted: MapShape) -> str:
    """The numbers of the map pinned at a path that are not those of the map that is to be created."""
    try:
        pinned = pinned_shape(libbpf, path, ())
    except MapError:
        return ""
    theirs, ours = (
        {**vars(shape), "type": short_type_name(shape.type), "flags": hex(shape.flags)} for shape in (pinned, wanted)
    )
    return ", ".join(f"{name} {theirs[name]} (not {ours[name]})" for name in DEFINING if theirs[name] != ours[name])


def pinned_shape(libbpf: Libbpf, path: Union[str, os.PathLike[str]], types: tuple[int, ...]) -> MapShape:
    """The shape of the map pinned at a path, which must be of one of these types. Raises `MapError`."""
    fd = open_descriptor(libbpf.bpf_obj_get, c_string("path", path, "a path"))
    if fd < 0:
        what, code = f"no map can be opened at {path}", ctypes.get_errno()
        raise failed(MapError, what, code, hint=no_bpf_file_system(path))
    return existing_shape(libbpf, fd, types, f"what is pinned at {path}")


def existing_shape(libbpf: Libbpf, fd: int, types: tuple[int, ...], what: str) -> MapShape:
    """The shape of the map with this descriptor, which must be of one of these types. Raises `MapError`."""
    check_is("map", fd, what, MapError)  # the kernel's call for infos answers for programs and links as well
    info = map_info(libbpf, fd)
    if info is None:
        raise failed(MapError, f"{what} can't be inspected", ctypes.get_errno())
    if types and info.type not in types:
        wanted = " or ".join(map(short_type_name, types))
        raise MapError(f"{what} is a map of type {short_type_name(info.type)}, not {wanted}")
    return shape_of(info, fd=fd)
