"""Ring buffers: BPF_MAP_TYPE_RINGBUF, read straight from its mapped pages, as an iterator of typed events.

Input: the map and the codec of an event. Output: events, oldest first. Layout: kernel/bpf/ringbuf.c, and
Documentation/bpf/ringbuf.rst.
"""

from __future__ import annotations

import _thread  # threading costs more to import than all of this module
import ctypes
import mmap
from itertools import repeat

from ..errors import InvalidTypeError, MapError, failed
from ..maps.shapes import type_numbers
from ..types import numpy_fields
from .source import EventSource, Taken

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, TypeVar

    E = TypeVar("E")


BUSY = 1 << 31
DISCARDED = 1 << 30
HEADER = 8
"""Bytes before each record: its length with two flags, and the kernel's own page offset."""
LONG = ctypes.sizeof(ctypes.c_ulong)

BATCH = 4096
"""Records copied out at a time: so many that the fixed cost is small, so few that the ring does not fill up."""
DECODED = 256
"""Records of other lengths that are decoded at a time: so few that a signal hardly ever comes while they are: then the
reading has to start over."""


class RingBuffer(EventSource["E"]):
    """A ring buffer. Iterate over it, or `poll()` it."""

    types = type_numbers("RINGBUF")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._mapped = False
        if self._struct is not None:
            self._stride = (self._struct_size + HEADER + 7) & ~7
            """Bytes from one record with a struct to the next."""
            self._finished = bytes(ctypes.c_uint32(self._struct_size)) * BATCH
            """Headers of finished records as long as the struct."""
        self._dtype: Any = None
        """NumPy's type of the events, once it was asked for."""

    def fileno(self) -> int:
        return self.fd

    @property
    def pending(self) -> int:
        """Bytes of `max_entries` that records take which nobody has read yet, their headers included."""
        with self._reading:
            self._check_open()
            self._map()
            return int(self._producer[0] - self._consumer[0])

    def read_array(self) -> Any:
        """The events there are, without waiting, as a NumPy structured array: one copy, and no Python object for each.

        For events of a struct type that all have its size; bitfields are left out. NumPy must be installed.
        """
        import importlib

        numpy: Any = importlib.import_module("numpy")
        if self._dtype is None:
            if self._struct is None:
                raise InvalidTypeError(
                    f"ring buffer {self.name}: its events have no struct type; declare one under `events`"
                )
            self._dtype = numpy.dtype(numpy_fields(self._struct))
        ident = _thread.get_ident()
        array: Any = None
        in_hand: list[Any] = []
        self._check_not_reading()
        with self._reading:
            batch: Any = self._claim()
            if not batch:
                self._check_open()
                self._free()
                array, end = self._copy_runs(numpy)
                # where the next call finds them, if an exception comes before the array is handed over
                in_hand = [self._structs(array, range(0, array.nbytes, self._struct_size))]
                self._take(Taken((), self._consumer, end, {**self._taken.in_hand, ident: in_hand}))
        if batch:
            array = numpy.frombuffer(bytearray().join(map(bytes, batch)), self._dtype)
            del self._in_hand[ident]
        else:
            del in_hand[0]
        return array

    def _release(self) -> None:
        if self._mapped:
            # a slice of these must not outlive the expression that makes it, not even in the frame of an exception:
            # else the pages could not be unmapped
            for view in (self._consumer, self._producer, self._headers):
                view.release()
            self._consumer_pages.close()
            self._pages.close()
            self._mapped = False

    def _map(self) -> None:
        """Map the ring's pages, unless that is done."""
        if self._mapped:
            return
        page = mmap.PAGESIZE
        size = self.max_entries
        try:
            # the consumer's position; then the producer's position and the data, mapped twice in a row by the kernel,
            # so that no record is ever split
            self._consumer_pages: Any = mmap.mmap(self.fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
            self._pages: Any = mmap.mmap(self.fd, page + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        except OSError as error:
            raise failed(MapError, f"ring buffer {self.name} can't be mapped", error.errno or 0) from error
        self._consumer = memoryview(self._consumer_pages).cast("L")
        self._producer = memoryview(self._pages)[:LONG].cast("L")
        self._headers = memoryview(self._pages)[page:].cast("I")
        self._mask = size - 1
        self._mapped = True

    def _read(self) -> bool:
        self._map()
        start = self._consumer[0]
        events, end = self._read_run(start) if self._struct is not None else ((), start)
        if end == start:
            events, end = self._read_any(start)
        if end != start:
            self._take(Taken(events, self._consumer, end, self._taken.in_hand))
        return bool(end != start)

    def _read_run(self, start: int) -> tuple[Iterable[E], int]:
        """A run of finished records that are as long as the struct, from `start` on; where it ends.

        Most records of most rings are like that, and a run of them needs no loop over headers.
        """
        size, stride = self._struct_size, self._stride
        count = min((self._producer[0] - start) // stride, BATCH)
        self._order_memory()
        first = start & self._mask
        headers = self._headers[first >> 2 : (first + count * stride) >> 2 : stride >> 2].tobytes()
        if headers != self._finished[: len(headers)]:
            count = next(i for i, header in enumerate(memoryview(headers).cast("I")) if header != size)
        self._order_memory()
        # one copy of all of them; the structs are made as they are asked for, by loops in C
        first += mmap.PAGESIZE
        records = self._pages[first : first + count * stride]
        return self._structs(records, range(HEADER, len(records), stride)), start + count * stride

    def _structs(self, records: Any, places: range) -> Iterable[E]:
        return map(self._struct.from_buffer_copy, repeat(records), places)

    def _read_any(self, start: int) -> tuple[Iterable[E], int]:
        """Finished records of any length, from `start` on; where they end."""
        events: list[E] = []
        position, mask, produced = start, self._mask, self._producer[0]
        self._order_memory()
        while position < produced and len(events) < DECODED:
            header = self._headers[(position & mask) >> 2]
            if header & BUSY:
                break
            length = header & ~DISCARDED
            if not header & DISCARDED:
                first = mmap.PAGESIZE + (position & mask) + HEADER
                events.append(self._decode(self._pages[first : first + length]))
            position += (length + HEADER + 7) & ~7
        self._order_memory()
        return iter(events), position

    def _copy_runs(self, numpy: Any) -> tuple[Any, int]:
        """A copy of all finished records, which must be as long as the struct; where they end."""
        parts: list[Any] = []
        self._map()
        position, produced = self._consumer[0], self._producer[0]
        self._order_memory()
        while position < produced:
            events = self._copy_run(numpy, position, (produced - position) // self._stride)
            if len(events):
                parts.append(events)
                position += len(events) * self._stride
                continue
            header = self._headers[(position & self._mask) >> 2]
            if header & BUSY or (parts and not header & DISCARDED):
                break
            if not header & DISCARDED:
                raise InvalidTypeError(f"ring buffer {self.name}: a record has {header} bytes, not {self._struct_size}")
            position += ((header & ~DISCARDED) + HEADER + 7) & ~7
        self._order_memory()
        array = parts[0] if len(parts) == 1 else numpy.concatenate(parts or [numpy.empty(0, self._dtype)])
        return array, position

    def _copy_run(self, numpy: Any, position: int, count: int) -> Any:
        """A copy of the events from `position` on, up to the first record that is not a finished one of their size."""
        size, first, strides = self._struct_size, position & self._mask, (self._stride,)
        # each array over the ring lives in one expression: see _close()
        others = (numpy.ndarray((count,), "=u4", self._headers, first, strides) != size).nonzero()[0]
        self._order_memory()
        count = others[0] if len(others) else count
        # as so many bytes each, since NumPy copies structs member by member
        return numpy.ndarray((count,), f"V{size}", self._headers, first + HEADER, strides).copy().view(self._dtype)
