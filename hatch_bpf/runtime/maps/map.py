"""What all maps have in common: info, pins, errors, reading and writing one value. Output: `Map` and `KeyedMap`.

Input: a loaded map and its codecs. The modules beside this one derive Python's containers: mappings, sequences, queues.
Keys and values are ints for integer types, generated structs for struct types. They are copies: assign a value back to
change the map.
"""

from __future__ import annotations

import ctypes
import errno
import os
from ctypes import byref, c_uint32, c_uint64

from ..arguments import c_string
from ..descriptor import descriptor_of
from ..errors import ENOTSUPP, ClosedError, MapError, failed, permission_denied, unprivileged
from ..generic import Generic
from ..host.mounts import why_not_pinned
from ..libbpf.library import BatchOpts, opts
from ..sealed import Sealed
from ..types import Bytes, Codec, named
from .counting import merged
from .shapes import MapInfo, MapShape, map_info, short_type_name, type_numbers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any, Optional, TypeVar, Union

    from ..libbpf.library import Libbpf
    from .counting import Function

    K = TypeVar("K")
    V = TypeVar("V")

BPF_ANY, BPF_NOEXIST, BPF_EXIST, BPF_F_LOCK = 0, 1, 2, 4

BATCH = 4096
"""Limit on the pairs that one system call stores or deletes."""
BATCH_BYTES = 1 << 18
"""Limit on the bytes that one system call reads: about what a processor's cache holds."""
WITH_SLOTS = type_numbers("DEVMAP", "CPUMAP", "ARRAY_OF_MAPS")
"""Map types for which the kernel lists all indexes as keys, as it does for arrays."""
UNSUPPORTED = (errno.EINVAL, errno.EOPNOTSUPP, ENOTSUPP)
"""Errors by which kernels say that a map has no such operation."""


_HINTS = {
    (kind, code): hint
    for kinds, code, hint in (
        ("DEVMAP DEVMAP_HASH", errno.EINVAL, "there may be no network interface of this index"),
        ("CPUMAP", errno.EOVERFLOW, "the queue of a CPU holds at most 16384 packets"),
        ("CGROUP_ARRAY", errno.EBADF, "store the descriptor of a cgroup's folder"),
        ("PROG_ARRAY", errno.EINVAL, "programs in it must be of one type, and load as they do"),
        ("PROG_ARRAY", errno.EBADF, "store a program, or the descriptor of one"),
        ("SOCKMAP SOCKHASH XSKMAP REUSEPORT_SOCKARRAY", errno.ENOTSOCK, "store a socket"),
        ("SOCKMAP SOCKHASH XSKMAP", errno.EBADF, "store a socket that is open"),
        ("SOCKMAP SOCKHASH", errno.EOPNOTSUPP, "older kernels take connected TCP sockets alone"),
        ("XSKMAP", errno.EOPNOTSUPP, "store a socket of the family AF_XDP"),
        ("REUSEPORT_SOCKARRAY", errno.EINVAL, "store a bound socket that has SO_REUSEPORT and, if it is TCP, listens"),
        ("CGRP_STORAGE", errno.EBADF, "the key is the descriptor of a cgroup's folder"),
        ("TASK_STORAGE", errno.EBADF, "the key is a pidfd, as os.pidfd_open() returns it"),
        ("INODE_STORAGE", errno.EBADF, "the key is the descriptor of an open file"),
        ("SK_STORAGE", errno.EBADF, "the key is the descriptor of an open socket"),
        ("SK_STORAGE", errno.ENOTSOCK, "the key is the descriptor of an open socket"),
        ("HASH_OF_MAPS ARRAY_OF_MAPS", errno.EINVAL, "the map is not like the inner map that the object declares"),
        ("HASH_OF_MAPS ARRAY_OF_MAPS", errno.EBADF, "store a map, or the descriptor of one"),
        ("LPM_TRIE", ENOTSUPP, "kernels before 4.16 do not list the keys of an LPM trie"),
        ("STACK_TRACE", errno.EINVAL, "kernels before 4.16 list no ids; look up those that bpf_get_stackid() returned"),
    )
    for kind in kinds.split()
}
"""What error numbers mean for maps of some types, and what to do."""


class Map(Sealed):
    """A loaded map of any type; the subclasses add what their types can do."""

    types: tuple[int, ...] = ()
    """The map types of this class, from `enum bpf_map_type`; empty for `Map`, which serves the rest."""
    _no_such_key: tuple[int, ...] = (errno.ENOENT,)
    """Errors by which the kernel says that there is nothing to delete under a key."""

    @classmethod
    def for_shape(cls, shape: MapShape) -> type[Map]:
        """The class for a map of this shape: this one, unless its flags ask for another."""
        del shape
        return cls

    def __init__(
        self,
        libbpf: Libbpf,
        shape: MapShape,
        name: str,
        *,
        key: Optional[Codec[Any]] = None,
        value: Optional[Codec[Any]] = None,
    ) -> None:
        self._libbpf = libbpf
        self._fd: int = shape.fd
        self._is_closed = False
        self.name = name
        """Its name in C."""
        self.type: int = shape.type
        """`enum bpf_map_type`."""
        self.max_entries: int = shape.max_entries
        self.key_size: int = shape.key_size
        self.value_size: int = shape.value_size
        self._key = _fitting(key, self.key_size)
        self._value = _fitting(value, self.value_size)
        self._lock = BPF_F_LOCK if _has_spin_lock(self._value) else 0
        """Makes the kernel hold a value's `struct bpf_spin_lock` while it copies the value."""

    @property
    def fd(self) -> int:
        """The map's file descriptor, which stays the map's. Raises `ClosedError` after the skeleton was closed."""
        fd = self._fd
        if fd >= 0:
            return fd
        if self._is_closed:
            raise ClosedError(f"map {self.name}: the skeleton is closed")
        raise ClosedError(f"map {self.name} was not created (autocreate is off)")

    def info(self) -> MapInfo:
        """What the kernel says about the map."""
        info = map_info(self._libbpf, self.fd)
        if info is None:
            raise self._error("be inspected")
        return info

    def pin(self, path: Union[str, os.PathLike[str]]) -> None:
        """Pin the map to a path in a BPF file system. It stays there until the file is removed."""
        if self._libbpf.bpf_obj_pin(self.fd, c_string("path", path, "a path")):
            code = ctypes.get_errno()
            hint = why_not_pinned(path, code)
            if hint:
                raise MapError(f"map {self.name} can't be pinned to {path}: {hint}", errno=code)
            ctypes.set_errno(code)
            raise self._error(f"be pinned to {path}")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def _refusal(self, name: str) -> str:
        where = f"on maps.{self.name} of what open() returned"
        return f"map {self.name}: {name} can't be set; what can be set before load() is set {where}"

    def _close(self) -> None:
        self._is_closed = True
        self._fd = -1

    def _error(self, action: str) -> Exception:
        code, what = ctypes.get_errno(), f"map {self.name} can't {action}"
        if code == errno.EPERM and unprivileged():
            return permission_denied(what, errno=code)
        if code == errno.EPERM:
            hint = "its flags forbid that to user space (BPF_F_RDONLY, BPF_F_WRONLY), or it is frozen"
        elif code == errno.E2BIG:
            hint = f"the map is full, or the index is not below {self.max_entries} (max_entries)"
        elif code == errno.ENOMEM:
            hint = "out of memory, or the map is full"
        else:
            hint = _HINTS.get((short_type_name(self.type), code), "")
        return failed(MapError, what, code, hint=hint)

    def _encode_key(self, key: Any) -> Any:
        return named(f"map {self.name}: key", self._key.encode, key)

    def _encode_value(self, value: Any) -> Any:
        return named(f"map {self.name}: value", self._value.encode, value)

    def _descriptor(self, item: Any) -> int:
        return named(f"map {self.name}: descriptor", descriptor_of, item)  # type: ignore[no-any-return]

    def _store_descriptor(self, key: Any, item: Any) -> None:
        """Store the descriptor of something under an encoded key."""
        fd = self._descriptor(item)  # a name keeps it open
        self._update(key, (c_uint64 if self.value_size == 8 else c_uint32)(fd), BPF_ANY)

    def _lookup(self, key: Any) -> Any:
        """A value by encoded key, or None."""
        storage = self._lookup_storage(key)
        return None if storage is None else self._value.decode(storage)

    def _lookup_storage(self, key: Any) -> Any:
        storage = self._value.new()
        return storage if self._read_into(storage, key) else None

    def _read_into(self, storage: Any, key: Any) -> bool:
        """Read a value by encoded key, None in maps without keys. Returns whether it is there."""
        pointer = None if key is None else byref(key)
        if self._libbpf.bpf_map_lookup_elem_flags(self.fd, pointer, byref(storage), self._lock):
            if ctypes.get_errno() == errno.ENOENT:
                return False
            raise self._error("be read")
        return True

    def _update(self, key: Any, value: Any, flags: int) -> bool:
        """Store an encoded value. Returns False if `flags` forbid it: the key is there already, or is not."""
        if self._libbpf.bpf_map_update_elem(self.fd, byref(key), byref(value), flags | self._lock):
            if flags and ctypes.get_errno() in (errno.EEXIST, errno.ENOENT):
                return False
            raise self._error("be written")
        return True

    def _update_batch(self, keys: Any, values: Any, count: int) -> None:
        """Store encoded pairs: with one system call, or one by one if the kernel has none for this type of map."""
        options = self._batch_options()
        if not self._libbpf.bpf_map_update_batch(self.fd, keys, values, byref(c_uint32(count)), options):
            return
        if ctypes.get_errno() not in UNSUPPORTED:
            raise self._error("be written")
        for i in range(count):
            key = self._key.ctype.from_buffer_copy(keys, i * self.key_size)
            self._update(key, self._value.ctype.from_buffer_copy(values, i * self._value.size), BPF_ANY)

    def _batch_options(self) -> Any:
        """The options of a batch: the flag for the lock in a value, if there is one."""
        return byref(opts(BatchOpts, elem_flags=self._lock)) if self._lock else None

    def _delete(self, key: Any) -> bool:
        if self._libbpf.bpf_map_delete_elem(self.fd, byref(key)):
            if ctypes.get_errno() in self._no_such_key:
                return False
            raise self._error("be deleted from")
        return True

    def _merged(self, function: Function, values: Sequence[Any]) -> Any:
        """A function of values of this map, applied to each number in them."""
        return merged(self._value, function, values)

    def _keys(self) -> Iterator[Any]:
        """Every key, as storage, and none twice. If one is deleted meanwhile, the kernel starts over."""
        current, following = None, self._key.new()
        seen: set[bytes] = set()
        while True:
            pointer = byref(current) if current is not None else None
            if self._libbpf.bpf_map_get_next_key(self.fd, pointer, byref(following)):
                if ctypes.get_errno() == errno.ENOENT:
                    return
                raise self._error("be iterated over")
            raw = bytes(following)
            current, following = following, self._key.new()
            if raw in seen:
                # the kernel has started over and passes known keys, or the walk goes in circles
                if len(seen) >= self.max_entries:
                    return
                continue
            seen.add(raw)
            yield self._key.ctype.from_buffer_copy(raw) if raw else current


def _fitting(codec: Optional[Codec[Any]], size: int) -> Codec[Any]:
    """The declared codec, unless the size was changed before the load."""
    return codec if codec is not None and codec.size == size else Bytes(size)


def _has_spin_lock(value: Codec[Any]) -> bool:
    """Whether values are structs with a `struct bpf_spin_lock`."""
    fields = getattr(value.ctype, "_fields_", ())
    return any(getattr(kind, "__name__", "") == "bpf_spin_lock" for _, kind, *_ in fields)


class KeyedMap(Map, Generic["K", "V"]):
    """A map whose values are read and written by key."""

    def __getitem__(self, key: K) -> V:
        found = self._lookup(self._encode_key(key))
        if found is None:
            raise KeyError(key)
        return found  # type: ignore[no-any-return]

    def __setitem__(self, key: K, value: V) -> None:
        self._update(self._encode_key(key), self._encode_value(value), BPF_ANY)

    def __delitem__(self, key: K) -> None:
        if not self._delete(self._encode_key(key)):
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return self._lookup_storage(self._encode_key(key)) is not None

    def _keys(self) -> Iterator[Any]:
        keys = super()._keys()
        return (key for key in keys if self._lookup_storage(key) is not None) if self.type in WITH_SLOTS else keys
