"""Maps as Python containers: mappings, sequences, queues. Input: a loaded map and its codecs. Output: `Map` subclasses.

Keys and values are ints for integer types, generated structs for struct types. They are copies: assign a value back to
change the map.
"""

from __future__ import annotations

import _thread  # threading costs more to import than all of this module
import ctypes
import errno
import os
from ctypes import byref, c_uint8, c_uint32, c_uint64
from itertools import chain, starmap

from ..arguments import c_string, elements
from ..descriptor import descriptor_of, open_descriptor
from ..errors import (
    ENOTSUPP,
    ClosedError,
    InvalidTypeError,
    InvalidValueError,
    MapError,
    failed,
    permission_denied,
    unprivileged,
)
from ..generic import Generic, ItemsView, MutableMapping, ValuesView
from ..host.mounts import why_not_pinned
from ..libbpf.library import BatchOpts, MapCreateOpts, opts
from ..members import Members
from ..onestep import keep_undo
from ..plain_data import PlainData
from ..sealed import Sealed
from ..types import BOOL, U32, Bytes, Codec, as_int, named, numpy_format, shown
from .counting import greatest, growth, growth_or_new, merged, total
from .shapes import MapInfo, MapShape, existing_shape, map_info, shape_of, short_type_name, type_numbers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import Any, Optional, Protocol, TypeVar, Union, overload

    from ..descriptor import HasDescriptor
    from ..libbpf.library import Libbpf
    from .counting import Function

    K = TypeVar("K")
    V = TypeVar("V")
    M = TypeVar("M", bound="Map")
    D = TypeVar("D")

    class DeclaredMap(Protocol):
        """What a skeleton says about a map."""

        cls: type[Map]
        key: Optional[Codec[Any]]
        value: Optional[Codec[Any]]
        inner: Optional[InnerMapSpec]


BPF_ANY, BPF_NOEXIST, BPF_EXIST, BPF_F_LOCK = 0, 1, 2, 4

_MISSING: Any = object()
"""Marks that no default was given."""
BATCH = 4096
"""Limit on the pairs that one system call stores or deletes."""
BATCH_BYTES = 1 << 18
"""Limit on the bytes that one system call reads: about what a processor's cache holds."""
WITH_SLOTS = type_numbers("DEVMAP", "CPUMAP", "ARRAY_OF_MAPS")
"""Map types for which the kernel lists all indexes as keys, as it does for arrays."""
_UNSUPPORTED = (errno.EINVAL, errno.EOPNOTSUPP, ENOTSUPP)
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
        if ctypes.get_errno() not in _UNSUPPORTED:
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


class _KeyedMap(Map, Generic["K", "V"]):
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


class HashMap(_KeyedMap["K", "V"], MutableMapping["K", "V"]):
    """BPF_MAP_TYPE_HASH, LRU_HASH and other maps with keys of any type: a mutable mapping."""

    types = type_numbers("HASH", "LRU_HASH", "DEVMAP", "CPUMAP", "CGROUP_STORAGE", "DEVMAP_HASH")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._draining: dict[int, list[Any]] = {}
        """For each thread, what `drain()` has removed and not returned yet."""
        self._drained: dict[K, V] = {}
        """The pairs at the last `drain(remove=False)`."""

    def __iter__(self) -> Iterator[K]:
        return (self._key.decode(key) for key in self._keys())

    def __len__(self) -> int:
        """Number of keys. They are counted one by one, since the kernel keeps no count."""
        return sum(1 for _ in self._keys())

    def __bool__(self) -> bool:
        return next(self._keys(), None) is not None

    __eq__, __hash__ = object.__eq__, object.__hash__  # that of a mapping would read and compare all pairs

    def add(self, key: K, value: V) -> bool:
        """Store a value unless the key is there, atomically. Returns whether it was stored.

        Maps of devices and CPUs (DEVMAP, CPUMAP) can't do that in one step: it takes a look first.
        """
        return self._add(self._encode_key(key), self._encode_value(value))

    def replace(self, key: K, value: V) -> bool:
        """Store a value only if the key is there, atomically. Returns whether it was stored."""
        return self._update(self._encode_key(key), self._encode_value(value), BPF_EXIST)

    def items(self) -> ItemsView[K, V]:
        """Pairs of key and value. A pair that is deleted meanwhile is left out."""
        return _Items(self)

    def values(self) -> ValuesView[V]:
        """The values of `items()`."""
        return _Values(self)

    if TYPE_CHECKING:

        @overload
        def pop(self, key: K) -> V: ...

        @overload
        def pop(self, key: K, default: Union[V, D]) -> Union[V, D]: ...

    def pop(self, key: K, default: Any = _MISSING) -> Any:
        """Remove a key and return its value, which nobody else gets. From Linux 5.14 on it is one step for hashes.

        Raises `KeyError` if the key is not there, unless a default is given. If a signal handler raises an exception
        meanwhile, the value is put back.
        """
        removed: list[int] = []
        encoded, storage = self._encode_key(key), self._value.new()
        try:
            self._take(encoded, storage, removed)
            if removed:
                return self._value.decode(storage)
        except BaseException:
            self._put_back(encoded, storage, removed)
            raise
        if default is _MISSING:
            raise KeyError(key)
        return default

    def popitem(self) -> tuple[K, V]:
        """Remove any key and return it with its value, as `pop()` does. Raises `KeyError` if the map is empty."""
        for encoded in self._keys():
            removed: list[int] = []
            key, storage = self._key.decode(encoded), self._value.new()
            try:
                self._take(encoded, storage, removed)
                if removed:
                    return key, self._value.decode(storage)
            except BaseException:
                self._put_back(encoded, storage, removed)
                raise
        raise KeyError(f"map {self.name} is empty")

    def setdefault(self, key: K, default: Any = None) -> V:
        """The value of a key, after storing `default` if the key is not there."""
        encoded, value = self._encode_key(key), None
        while True:
            found = self._lookup(encoded)
            if found is not None:
                return found  # type: ignore[no-any-return]
            value = self._encode_value(default) if value is None else value
            if self._add(encoded, value):
                return default  # type: ignore[no-any-return]

    def _add(self, key: Any, value: Any) -> bool:
        if self.type not in WITH_SLOTS:
            return self._update(key, value, BPF_NOEXIST)
        return self._lookup_storage(key) is None and self._update(key, value, BPF_ANY)

    def _take(self, key: Any, storage: Any, removed: list[int]) -> None:
        """Remove an encoded key and store its value. In the same step `removed` is filled, unless it was not there."""
        take = self._libbpf.bpf_map_lookup_and_delete_elem
        arguments: tuple[Any, ...] = (self.fd, byref(key), byref(storage))
        if self._lock and self._libbpf.has("bpf_map_lookup_and_delete_elem_flags"):
            take = self._libbpf.bpf_map_lookup_and_delete_elem_flags
            arguments = (*arguments, self._lock)
        keep_undo(removed, 0, take, *arguments)
        code = ctypes.get_errno()
        if removed or code == errno.ENOENT:
            return
        if code not in _UNSUPPORTED:
            raise self._error("be taken from")
        # before Linux 5.14, and for some types since
        if self._read_into(storage, key):
            keep_undo(removed, 0, self._libbpf.bpf_map_delete_elem, self.fd, byref(key))
            if not removed and ctypes.get_errno() != errno.ENOENT:
                raise self._error("be deleted from")

    def _put_back(self, key: Any, storage: Any, removed: list[int]) -> None:
        """Store again what was removed, unless a program has stored something meanwhile."""
        flags = BPF_ANY if self.type in WITH_SLOTS else BPF_NOEXIST
        if removed:
            self._libbpf.bpf_map_update_elem(self.fd, byref(key), byref(storage), flags | self._lock)

    def update_many(self, items: Union[Mapping[K, V], Iterable[tuple[K, V]]]) -> None:
        """Store many values, with few system calls from Linux 5.6 on."""
        read: Any = getattr(items, "items", None)
        pairs: list[Any] = elements(f"map {self.name}: what is stored", items if read is None else read())
        if not all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in pairs):
            raise InvalidTypeError(f"map {self.name}: what is stored must be a mapping, or pairs of key and value")
        for at in range(0, len(pairs), BATCH):
            some = pairs[at : at + BATCH]
            keys = named(f"map {self.name}: key", self._key.write_many, [key for key, _ in some])
            values = named(f"map {self.name}: value", self._value.write_many, [value for _, value in some])
            self._update_batch(keys, values, len(some))

    if not TYPE_CHECKING:  # type checkers know what every mutable mapping has

        def update(self, other: Any = (), **values: Any) -> None:
            """Store many values, as `update_many()` does."""
            self.update_many(other)
            self.update_many(values)

    def delete_many(self, keys: Iterable[K]) -> None:
        """Delete many keys, with few system calls from Linux 5.6 on. Keys that are not there are ignored."""
        every = elements(f"map {self.name}: keys", keys)
        for at in range(0, len(every), BATCH):
            some = every[at : at + BATCH]
            count = c_uint32(len(some))
            data = named(f"map {self.name}: key", self._key.write_many, some)
            if self._libbpf.bpf_map_delete_batch(self.fd, data, byref(count), None):
                if ctypes.get_errno() not in (*_UNSUPPORTED, errno.ENOENT):
                    raise self._error("be deleted from")
                for key in some:
                    self._delete(self._encode_key(key))

    def clear(self) -> None:
        """Delete all keys. `drain()` returns them, and loses nothing that programs store meanwhile."""
        self.delete_many(list(self))
        self._drained = {}

    def drain(self, *, remove: bool = True) -> list[tuple[K, V]]:
        """Remove all pairs and return them: from Linux 5.6 on, each is read and removed in one step of the kernel.

        Nothing that programs store meanwhile is lost, unlike with `items()` followed by `clear()`. One gap remains: a
        program that has already looked a value up may add to it in the instant in which it is removed. Kernels without
        that step (before 5.6; for LPM tries all of them) read each pair and then remove it.

        With `remove=False` the pairs stay, and what each has grown by since the last such call is returned, if it has:
        so not one count is lost, on any kernel. A value that has become smaller is taken for a new one.
        """
        if not named("remove", BOOL.put, remove):
            return self._drain_growth()
        ident = _thread.get_ident()
        taken = self._draining.setdefault(ident, [])
        for _ in self._calls(self._libbpf.bpf_map_lookup_and_delete_batch, self._take, taken, "be drained"):
            pass  # the next call has what these removed if an exception comes
        pairs = list(chain.from_iterable(starmap(self._pairs, starmap(self._contents, taken))))
        self._drained = {}
        del self._draining[ident]
        return pairs

    def _drain_growth(self) -> list[tuple[K, V]]:
        now, before = dict(self.items()), self._drained
        grown = [
            (key, value if key not in before else self._merged(growth_or_new, (value, before[key])))
            for key, value in now.items()
            if key not in before or value != before[key]
        ]
        self._drained = now
        return grown

    def _calls(
        self, call: Any, one: Callable[[Any, Any, list[int]], None], made: list[Any], action: str
    ) -> Iterator[None]:
        """Have the kernel read all pairs, many at a time, or by `one`. `made` gets the storage that each call fills.

        It is there before the call, so that it has what the call removes even if an exception comes. The kernel fills
        batches bucket by bucket, so that no pair comes twice.
        """
        place: Any = None
        size = min(self.max_entries, max(1, BATCH_BYTES // (self.key_size + self._value.size)))
        while True:
            following = (c_uint8 * max(self.key_size, 4))()  # the place behind this batch; at least a number
            keys, values = (c_uint8 * (self.key_size * size))(), (c_uint8 * (self._value.size * size))()
            count = c_uint32(size)
            results: list[int] = []
            made.append((keys, values, count, results))
            arguments = self.fd, place, following, keys, values, byref(count), self._batch_options()
            # the call and the notes of what it returned are one step
            results.extend(chain(starmap(call, (arguments,)), starmap(ctypes.get_errno, ((),))))
            result, code = results
            yield
            if not result:
                place = following
            elif code == errno.ENOENT:
                return
            elif code == errno.ENOSPC:
                size *= 2  # the next bucket has more pairs than that
            elif code in _UNSUPPORTED and place is None:
                break  # this kernel has no batches for this type of map
            else:
                ctypes.set_errno(code)
                raise self._error(action)
        for key in self._keys():
            results, value = [], self._value.new()
            made.append((key, value, c_uint32(1), results))
            one(key, value, results)
            yield

    def _contents(self, keys: Any, values: Any, count: c_uint32, results: list[int]) -> tuple[bytes, bytes]:
        """The bytes of the keys and of the values in storage that a call has filled, by what it returned and the error
        number: nothing if it was not made."""
        number = count.value if 0 in results[:1] or errno.ENOENT in results[1:] else 0
        key_bytes, value_bytes = memoryview(keys).cast("B"), memoryview(values).cast("B")
        return bytes(key_bytes[: number * self.key_size]), bytes(value_bytes[: number * self._value.size])

    def _pairs(self, keys: bytes, values: bytes) -> Iterable[tuple[K, V]]:
        return zip(self._key.read_many(keys), self._value.read_many(values))

    def read_arrays(self) -> tuple[Any, Any]:
        """All keys and their values as two NumPy arrays of equal length, without a Python object for each.

        Bitfields of structs are left out. Per-CPU values have a column for each possible CPU. NumPy must be installed.
        """
        import importlib

        numpy: Any = importlib.import_module("numpy")
        batches = list(self._batches())
        keys, values = bytearray().join(keys for keys, _ in batches), bytearray().join(values for _, values in batches)
        length = len(keys) // self.key_size
        return numpy.ndarray((length,), numpy_format(self._key), keys), self._value_array(numpy, values, length)

    def _value_array(self, numpy: Any, values: bytearray, length: int) -> Any:
        return numpy.ndarray((length,), numpy_format(self._value), values)

    def _batches(self) -> Iterator[tuple[bytes, bytes]]:
        """All pairs, many at a time: the bytes of their keys and of their values."""
        made: list[Any] = []
        for _ in self._calls(self._libbpf.bpf_map_lookup_batch, self._read_one, made, "be read"):
            yield self._contents(*made.pop())

    def _read_one(self, key: Any, storage: Any, found: list[int]) -> None:
        """Read a value by encoded key. `found` is filled if it is there."""
        if self._read_into(storage, key):
            found.append(0)


class _Items(ItemsView["K", "V"]):
    """`HashMap.items()`, read many at a time."""

    _mapping: HashMap[K, V]

    def __iter__(self) -> Iterator[tuple[K, V]]:
        return chain.from_iterable(starmap(self._mapping._pairs, self._mapping._batches()))

    def __contains__(self, pair: object) -> bool:
        if not isinstance(pair, tuple) or len(pair) != 2:
            return False
        found = self._mapping._lookup(self._mapping._encode_key(pair[0]))
        return bool(found is not None and found == pair[1])


class _Values(ValuesView["V"]):
    """`HashMap.values()`, read many at a time."""

    _mapping: HashMap[Any, V]

    def __iter__(self) -> Iterator[V]:
        return chain.from_iterable(self._mapping._value.read_many(values) for _, values in self._mapping._batches())

    def __contains__(self, value: object) -> bool:
        return any(value == found for found in self)


class LpmTrie(HashMap["K", "V"]):
    """BPF_MAP_TYPE_LPM_TRIE: a lookup finds the longest prefix; keys are structs that start with a prefix length."""

    types = type_numbers("LPM_TRIE")


class _PerCpuValue(Codec["list[Any]"]):
    """A list with a value for each possible CPU; each value takes a multiple of 8 bytes."""

    def __init__(self, value: Codec[Any], cpus: int) -> None:
        self.value = value
        self.cpus = cpus
        self.stride = (value.size + 7) // 8 * 8
        self.size = self.stride * cpus
        self.ctype = c_uint8 * self.size

    def decode(self, storage: Any) -> list[Any]:
        return self.read(storage)

    def read(self, buffer: Any, offset: int = 0) -> list[Any]:
        return [self.value.read(buffer, at) for at in range(offset, offset + self.size, self.stride)]

    def encode(self, values: Any) -> Any:
        if not hasattr(values, "__len__") or isinstance(values, (str, bytes)):
            raise InvalidTypeError(f"must be a list with a value for each possible CPU, not {shown(values)}")
        if len(values) != self.cpus:
            raise InvalidValueError(f"must have a value for each of {self.cpus} possible CPUs, not {len(values)}")
        parts = (bytes(self.value.encode(value)).ljust(self.stride, b"\0") for value in values)
        return self.ctype.from_buffer_copy(b"".join(parts))


class _PerCpuMap(Map):
    """A map whose values are lists with an element for each possible CPU."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        cpus = self._libbpf.libbpf_num_possible_cpus()
        if cpus <= 0:
            raise failed(MapError, "the number of possible CPUs can't be read", -cpus)
        self._element = self._value
        self._value: Any = _PerCpuValue(self._element, cpus)

    def _merged(self, function: Function, values: Sequence[Any]) -> Any:
        return [merged(self._element, function, of_cpu) for of_cpu in zip(*values)]


class PerCpuHashMap(_PerCpuMap, HashMap["K", "list[V]"]):
    """BPF_MAP_TYPE_PERCPU_HASH, LRU_PERCPU_HASH: a value is a list with an element for each possible CPU."""

    types = type_numbers("PERCPU_HASH", "LRU_PERCPU_HASH", "PERCPU_CGROUP_STORAGE")

    def sums(self) -> dict[K, V]:
        """For each key the sum over all CPUs; for structs and arrays, that of each number in them."""
        return {key: merged(self._element, total, values) for key, values in self.items()}

    def maxima(self) -> dict[K, V]:
        """For each key the greatest value of any CPU; for structs and arrays, that of each number in them."""
        return {key: merged(self._element, greatest, values) for key, values in self.items()}

    def _value_array(self, numpy: Any, values: bytearray, length: int) -> Any:
        codec = self._value
        slot = {"names": ["value"], "formats": [numpy_format(codec.value)], "itemsize": codec.stride}
        return numpy.ndarray((length, codec.cpus), slot, values)["value"]


class ArrayMap(Map, Generic["V"]):
    """BPF_MAP_TYPE_ARRAY: a sequence of fixed length."""

    types = type_numbers("ARRAY")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._drained: Optional[list[V]] = None
        """The elements at the last `drain()`."""

    def __len__(self) -> int:
        return self.max_entries

    if TYPE_CHECKING:

        @overload
        def __getitem__(self, index: int) -> V: ...

        @overload
        def __getitem__(self, index: slice) -> list[V]: ...

    def __getitem__(self, index: Union[int, slice]) -> Union[V, list[V]]:
        if isinstance(index, slice):
            places = self._places(index)
            if places.step == 1:
                return list(self._between(places.start, places.stop))
            return [self[i] for i in places]
        found = self._lookup(c_uint32(self._index(index)))
        if found is None:
            raise IndexError(f"map {self.name} has nothing at index {index}")
        return found  # type: ignore[no-any-return]

    if TYPE_CHECKING:

        @overload
        def __setitem__(self, index: int, value: V) -> None: ...

        @overload
        def __setitem__(self, index: slice, value: Sequence[V]) -> None: ...

    def __setitem__(self, index: Union[int, slice], value: Any) -> None:
        """Store a value, or with `array[start:stop] = values` many, with few system calls from Linux 5.6 on."""
        if isinstance(index, slice):
            self._store_many(self._places(index), elements(f"map {self.name}: values", value))
        else:
            self._update(c_uint32(self._index(index)), self._encode_value(value), BPF_ANY)

    def __iter__(self) -> Iterator[V]:
        return self._between(0, self.max_entries)

    def __reversed__(self) -> Iterator[V]:
        return reversed(self[:])

    def drain(self) -> list[V]:
        """What each element has grown by since the last `drain()`, or since the map was made: no count is ever lost.

        Elements stay as they are, since no kernel reads and clears them in one step. In structs and arrays each number
        is such a difference, and the rest is as it is now.
        """
        now = self[:]
        before = self._drained
        grown = now if before is None else [self._merged(growth, pair) for pair in zip(now, before)]
        self._drained = now
        return grown

    def clear(self) -> None:
        """Set all bytes of every element to zero, with few system calls from Linux 5.6 on."""
        self._drained = None
        for at in range(0, self.max_entries, BATCH):
            indexes = range(at, min(at + BATCH, self.max_entries))
            values = bytes(self._value.size * len(indexes))
            self._update_batch((c_uint32 * len(indexes))(*indexes), values, len(indexes))

    def _between(self, start: int, stop: int) -> Iterator[V]:
        return chain.from_iterable(map(self._value.read_many, self._blocks(start, stop)))

    def _blocks(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes of the elements from `start` up to `stop`, many at a time."""
        size = max(1, BATCH_BYTES // self._value.size)
        while start < stop:
            block = self._read_block(start, min(size, stop - start))
            if block is None:
                break  # this kernel has no batches for this type of map: before 5.6, for per-CPU arrays 5.13
            yield block
            start += size
        for index in range(start, stop):
            yield bytes(self._lookup_storage(c_uint32(index)))

    def _read_block(self, start: int, count: int) -> Optional[bytes]:
        """The bytes of so many elements; None if the kernel has no batches."""
        place = byref(c_uint32(start - 1)) if start else None
        keys, values = (c_uint32 * count)(), (c_uint8 * (self._value.size * count))()
        found = c_uint32(count)
        read = self._libbpf.bpf_map_lookup_batch
        if read(self.fd, place, byref(c_uint32()), keys, values, byref(found), self._batch_options()):
            code = ctypes.get_errno()
            if code in _UNSUPPORTED:
                return None
            if code != errno.ENOENT:  # which tells that these are the last
                raise self._error("be read")
        return bytes(values)

    def _store_many(self, places: range, values: list[V]) -> None:
        if len(values) != len(places):
            raise InvalidValueError(f"map {self.name}: {len(values)} values do not fit {len(places)} elements")
        for at in range(0, len(places), BATCH):
            some, indexes = values[at : at + BATCH], places[at : at + BATCH]
            data = named(f"map {self.name}: value", self._value.write_many, some)
            self._update_batch((c_uint32 * len(some))(*indexes), data, len(some))

    def items(self) -> Iterator[tuple[int, V]]:
        """Pairs of index and value."""
        return enumerate(self)

    def _places(self, part: slice) -> range:
        """The indexes of a part of the array."""
        try:
            return range(*part.indices(self.max_entries))
        except (TypeError, ValueError) as error:
            raise InvalidTypeError(f"map {self.name}: {part!r} is no part of an array: {error}") from None

    def _index(self, index: int) -> int:
        index = named(f"map {self.name}: index", as_int, index)
        if not -self.max_entries <= index < self.max_entries:
            raise IndexError(f"map {self.name} has {self.max_entries} elements; there is no index {shown(index)}")
        return index % self.max_entries


class PerCpuArrayMap(_PerCpuMap, ArrayMap["list[V]"]):
    """BPF_MAP_TYPE_PERCPU_ARRAY: each element is a list with a value for each possible CPU."""

    types = type_numbers("PERCPU_ARRAY")

    def sums(self) -> list[V]:
        """For each element the sum over all CPUs; for structs and arrays, that of each number in them."""
        return [merged(self._element, total, values) for values in self]

    def maxima(self) -> list[V]:
        """For each element the greatest value of any CPU; for structs and arrays, that of each number in them."""
        return [merged(self._element, greatest, values) for values in self]


class Queue(Map, Generic["V"]):
    """BPF_MAP_TYPE_QUEUE and STACK."""

    types = type_numbers("QUEUE", "STACK")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._popped: dict[int, list[Any]] = {}
        """For each thread, what was removed and not returned, since a signal handler had raised an exception."""

    def push(self, value: V, *, replace: bool = False) -> None:
        """Add a value. Raises `MapError` if the map is full, unless `replace` drops the oldest value."""
        storage, flags = self._encode_value(value), BPF_EXIST if named("replace", BOOL.put, replace) else BPF_ANY
        if self._libbpf.bpf_map_update_elem(self.fd, None, byref(storage), flags):
            raise self._error("take another value")

    def pop(self) -> V:
        """Remove the next value and return it. Raises `IndexError` if there is none.

        If a signal handler raises an exception meanwhile, the next `pop()` of this thread returns it.
        """
        popped, storage = self._popped.setdefault(_thread.get_ident(), []), self._value.new()
        if not popped:
            arguments = self.fd, None, byref(storage)
            keep_undo(popped, storage, self._libbpf.bpf_map_lookup_and_delete_elem, *arguments)
            if not popped:
                raise self._none_or_error()
        value: V = self._value.decode(popped[0])
        del popped[0]
        return value

    def peek(self) -> V:
        """The next value, which stays. Raises `IndexError` if there is none."""
        storage = self._value.new()
        for popped in self._popped.get(_thread.get_ident(), ()):
            return self._value.decode(popped)  # type: ignore[no-any-return]
        if not self._read_into(storage, None):
            raise self._none_or_error()
        return self._value.decode(storage)  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[V]:
        """Remove values until there is none."""
        while True:
            try:
                value = self.pop()
            except IndexError:
                return
            yield value

    def _none_or_error(self) -> Exception:
        if ctypes.get_errno() == errno.ENOENT:
            return IndexError(f"map {self.name} is empty")
        return self._error("be read")


class BloomFilter(Map, Generic["V"]):
    """BPF_MAP_TYPE_BLOOM_FILTER: finds every value that was added, and rarely one that was not."""

    types = type_numbers("BLOOM_FILTER")

    def add(self, value: V) -> None:
        """Add a value. None can be removed."""
        storage = self._encode_value(value)
        if self._libbpf.bpf_map_update_elem(self.fd, None, byref(storage), BPF_ANY):
            raise self._error("take a value")

    def __contains__(self, value: Any) -> bool:
        return self._read_into(self._encode_value(value), None)


class ProgramArray(Map):
    """BPF_MAP_TYPE_PROG_ARRAY: programs to tail-call, by index."""

    types = type_numbers("PROG_ARRAY")

    def __setitem__(self, index: int, program: Union[HasDescriptor, int]) -> None:
        self._store_descriptor(self._index(index), program)

    def __delitem__(self, index: int) -> None:
        if not self._delete(self._index(index)):
            raise IndexError(f"map {self.name} has no program at index {index}")

    def __contains__(self, index: object) -> bool:
        """Whether there is a program at an index."""
        number = named(f"map {self.name}: index", as_int, index)
        return 0 <= number < self.max_entries and self._read_into(c_uint32(), c_uint32(number))

    def _index(self, index: int) -> Any:
        return named(f"map {self.name}: index", U32.encode, index)


class InnerMapSpec(PlainData):
    """The inner maps of a map of maps, as the object declares them."""

    cls: type[Map]
    type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    key: Optional[Codec[Any]] = None
    value: Optional[Codec[Any]] = None
    inner: Optional[InnerMapSpec] = None

    def create(self, libbpf: Libbpf, name: str, max_entries: int) -> Map:
        """Make such a map. Raises `MapError`."""
        options = opts(MapCreateOpts, map_flags=self.flags)
        create = libbpf.bpf_map_create
        fd = open_descriptor(create, self.type, None, self.key_size, self.value_size, max_entries, byref(options))
        if fd < 0:
            raise failed(MapError, f"map {name} can't be created", ctypes.get_errno())
        return make_map(libbpf, shape_of(self, fd=fd, max_entries=max_entries), name, self)


def make_map(libbpf: Libbpf, shape: MapShape, name: str, declared: DeclaredMap) -> Map:
    """The object for a map that exists."""
    cls = declared.cls
    if shape.fd >= 0 and cls.types and shape.type not in cls.types:
        cls = _class_of(shape.type)  # the type was changed before the load
    made = cls.for_shape(shape)(libbpf, shape, name, key=declared.key, value=declared.value)
    if isinstance(made, MapOfMaps):
        made._inner = declared.inner
    made._seal()
    return made


def _class_of(map_type: int) -> type[Map]:
    """The class for maps of a type: `Map` itself if none is for it."""
    classes = [Map]
    for cls in classes:  # which grows meanwhile
        if map_type in cls.types:
            return cls
        classes += cls.__subclasses__()
    return Map


class MapOfMaps(_KeyedMap["K", "int"], Generic["K", "M"]):
    """BPF_MAP_TYPE_HASH_OF_MAPS and ARRAY_OF_MAPS: inner maps by key; reading gives an inner map's id."""

    types = type_numbers("ARRAY_OF_MAPS", "HASH_OF_MAPS")
    _inner: Optional[InnerMapSpec] = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "value": U32})

    def create(self, key: K, *, max_entries: Optional[int] = None) -> M:
        """Make an inner map as the object declares it, store it under a key, and return it.

        `max_entries` replaces the declared number of elements, if the kernel lets it differ: for hashes, and for arrays
        with BPF_F_INNER_MAP.
        """
        made = self.create_inner(max_entries=max_entries)
        self[key] = made
        return made

    def create_inner(self, *, max_entries: Optional[int] = None) -> M:
        """Make an inner map as `create()` does, and return it without storing it.

        Fill it, and then put it with `outer[key] = inner`, in one step, in the place of the one that programs use.
        """
        self.fd  # noqa: B018 - raises ClosedError
        inner = self._declared_inner()
        size = inner.max_entries if max_entries is None else max_entries
        name = f"{self.name}.inner"
        return inner.create(self._libbpf, name, named("max_entries", U32.put, size))  # type: ignore[return-value]

    def open_inner(self, key: K) -> M:
        """Open the inner map under a key, even if another process stored it. Raises `KeyError`, `MapError`."""
        inner, number = self._declared_inner(), self[key]
        fd = open_descriptor(self._libbpf.bpf_map_get_fd_by_id, number)
        if fd < 0:
            raise self._error(f"give its inner map with id {number}")
        shape = existing_shape(self._libbpf, fd, inner.cls.types, f"inner map {number} of map {self.name}")
        return make_map(self._libbpf, shape, f"{self.name}.inner", inner)  # type: ignore[return-value]

    def _declared_inner(self) -> InnerMapSpec:
        if self._inner is None:
            raise MapError(f"map {self.name}: the object declares no inner map: make one yourself and store it")
        return self._inner

    def __setitem__(self, key: K, inner: Union[HasDescriptor, int]) -> None:
        """Store a map, or the descriptor of one."""
        self._store_descriptor(self._encode_key(key), inner)

    def __iter__(self) -> Iterator[K]:
        return (self._key.decode(key) for key in self._keys())


class DescriptorMap(Map, Generic["K"]):
    """BPF_MAP_TYPE_SOCKMAP, SOCKHASH, REUSEPORT_SOCKARRAY, XSKMAP, CGROUP_ARRAY: sockets or cgroups by key.

    User space can put sockets or cgroups in and take them out, but not read them.
    """

    _no_such_key = (errno.ENOENT, errno.EINVAL)
    """A SOCKMAP says EINVAL for an empty place, and an XSKMAP for an index that is too high."""
    types = type_numbers("CGROUP_ARRAY", "SOCKMAP", "XSKMAP", "SOCKHASH", "REUSEPORT_SOCKARRAY")

    def __setitem__(self, key: K, item: Any) -> None:
        """Store a descriptor, or that of anything with a `fileno()`."""
        self._store_descriptor(self._encode_key(key), item)

    def __delitem__(self, key: K) -> None:
        if not self._delete(self._encode_key(key)):
            raise KeyError(key)


class LocalStorage(_KeyedMap["Any", "V"]):
    """BPF_MAP_TYPE_SK_STORAGE, TASK_STORAGE, INODE_STORAGE, CGRP_STORAGE: a value per socket, task, file or cgroup.

    Keys are descriptors: of a socket, a pidfd, a file, a cgroup's folder; or anything with a `fileno()`.
    """

    types = type_numbers("SK_STORAGE", "INODE_STORAGE", "TASK_STORAGE", "CGRP_STORAGE")

    def get(self, owner: Any) -> Optional[V]:
        """The owner's value, or None."""
        return self._lookup(self._encode_key(owner))  # type: ignore[no-any-return]

    def _encode_key(self, owner: Any) -> Any:
        fd = self._descriptor(owner)
        key: Any = c_uint32(fd)
        key.descriptor = fd  # which stays open as long as there is the key
        return key


class Maps(Members):
    """The maps of a skeleton, as attributes; also by their names in C: `maps["counts"]`."""
