"""Array maps: sequences of fixed length. Input: a loaded map whose keys are indexes. Output: `ArrayMap`."""

from __future__ import annotations

import ctypes
import errno
from ctypes import byref, c_uint8, c_uint32
from itertools import chain

from ..arguments import elements
from ..errors import InvalidTypeError, InvalidValueError
from ..generic import Generic
from ..types import as_int, named, shown
from .counting import growth
from .map import BATCH, BATCH_BYTES, BPF_ANY, UNSUPPORTED, Map
from .shapes import type_numbers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any, Optional, TypeVar, Union, overload

    V = TypeVar("V")


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
            if code in UNSUPPORTED:
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
