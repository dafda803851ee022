"""Hash maps and LPM tries: mutable mappings that read, store, delete and drain many pairs with one system call.

Input: a loaded map with keys of any type. Output: `HashMap`, `LpmTrie`.
"""

from __future__ import annotations

import _thread  # threading costs more to import than all of this module
import ctypes
import errno
from ctypes import byref, c_uint8, c_uint32
from itertools import chain, starmap

from ..arguments import elements
from ..errors import InvalidTypeError
from ..generic import ItemsView, MutableMapping, ValuesView
from ..onestep import keep_undo
from ..types import BOOL, named, numpy_format
from .counting import growth_or_new
from .map import BATCH, BATCH_BYTES, BPF_ANY, BPF_EXIST, BPF_NOEXIST, UNSUPPORTED, WITH_SLOTS, KeyedMap
from .shapes import type_numbers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any, TypeVar, Union, overload

    K = TypeVar("K")
    V = TypeVar("V")
    D = TypeVar("D")

_MISSING: Any = object()
"""Marks that no default was given."""


class HashMap(KeyedMap["K", "V"], MutableMapping["K", "V"]):
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

    def __hash__(self) -> int:
        return object.__hash__(self)

    def __eq__(self, other: object) -> bool:
        return self is other  # a mapping's own would read and compare all pairs

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
        if code not in UNSUPPORTED:
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
                if ctypes.get_errno() not in (*UNSUPPORTED, errno.ENOENT):
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
            elif code in UNSUPPORTED and place is None:
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
