"""Ring buffers: BPF_MAP_TYPE_RINGBUF, read straight from its mapped pages, as an iterator of typed events.

Input: the map and the codec of an event. Output: events, oldest first. No callback runs in C code, so that exceptions
and Ctrl-C behave as in any Python loop. Layout: kernel/bpf/ringbuf.c, and Documentation/bpf/ringbuf.rst.
"""

from __future__ import annotations

import _thread  # threading costs more to import than all of this module
import ctypes
import mmap
import os
import select
import time
from itertools import chain, repeat

from .errors import MapError, reason
from .maps import Map, OneParameter
from .types import Nested, numpy_fields, read_record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator
    from typing import Any, Optional, TypeVar

    E = TypeVar("E")


BUSY = 1 << 31
DISCARDED = 1 << 30
HEADER = 8
"""Bytes before each record: its length with two flags, and the kernel's own page offset."""
LONG = ctypes.sizeof(ctypes.c_ulong)

BATCH = 4096
"""Records copied out at a time: so many that the fixed cost is small, so few that the ring does not fill up."""
MAX_BATCH = 1 << 18
"""Where `read_batch()` stops for producers that are faster than it."""


class EventSource(Map, OneParameter["E"]):
    """What ring and perf buffers have in common: waiting, iterating, closing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._event = kwargs.pop("value", None)
        super().__init__(*args, **kwargs)
        self._pending: Iterator[E] = iter(())
        """Events that were taken from the kernel's pages, and not yet given to anybody."""
        self._reading = _thread.RLock()
        """Held while the kernel's pages are read, so that they don't go away meanwhile."""
        self._wakers: Optional[tuple[Any, Any]] = None
        """A pipe's ends: closing the second ends the waits of other threads."""
        self._struct: Any = None
        """Class of the events, where they are structs."""
        self._decode: Any = bytes
        """From a record, a bytes-like object, to an event."""
        if isinstance(self._event, Nested):
            self._struct = self._event.cls
            self._struct_size = self._event.size
            self._decode = self._read_struct
        elif self._event is not None:
            self._decode = self._read_value

    def _read_value(self, record: Any) -> Any:
        missing = self._event.size - len(record)
        return self._event.read(bytes(record) + bytes(missing) if missing > 0 else record)

    def _read_struct(self, record: Any) -> Any:
        return read_record(self._struct, record)

    def open(self) -> None:
        """Start receiving, before programs are attached: perf buffers lose what comes before; ring buffers nothing."""

    def get_ready(self) -> None:
        """`open()` unless it was done. Attaching the first program does this to buffers whose events are declared."""

    def fileno(self) -> int:
        """A descriptor that is readable when there are events, for select, poll, epoll and event loops."""
        raise NotImplementedError

    def _read(self) -> bool:
        """Move some of what the kernel has into `_pending`, without waiting; whether there was anything."""
        raise NotImplementedError

    def _add(self, events: Iterable[E]) -> None:
        """Let events be pending, behind those that are. Needs `_reading`."""
        self._pending = chain(self._pending, events)

    def poll(self, timeout: Optional[float] = None) -> list[E]:
        """The events there are; if there are none, wait for some, for `timeout` seconds at most, forever if None."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            batch = self.read_batch()
            if batch:
                return batch
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return []
            self._wait(left)

    def read_batch(self) -> list[E]:
        """The events there are, without waiting."""
        batch = list(self._pending)
        while len(batch) < MAX_BATCH and self._read():
            batch.extend(self._pending)
        return batch

    def __iter__(self) -> Iterator[E]:
        """Events as they come, forever. Leaving the loop loses none: the next one goes on where it left off."""
        return chain.from_iterable(self._runs())

    def _runs(self) -> Iterator[Iterator[E]]:
        """What is pending, again and again; waiting for it where there is nothing."""
        while True:
            yield self._pending
            if not self._read():
                self._wait(None)

    async def __aiter__(self) -> AsyncIterator[E]:
        """Events as they come, for `async for`."""
        import asyncio

        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        fd = self.fileno()
        while True:
            for event in self._pending:
                yield event
            if not self._read():
                ready.clear()
                loop.add_reader(fd, ready.set)
                try:
                    await ready.wait()
                finally:
                    loop.remove_reader(fd)

    def _wait(self, timeout: Optional[float]) -> None:
        wait([self], timeout)

    def _waker(self) -> Any:
        """What becomes readable when another thread closes this."""
        with self._reading:
            if self._wakers is None:
                read, write = os.pipe()
                self._wakers = os.fdopen(read, "rb", buffering=0), os.fdopen(write, "wb", buffering=0)
            return self._wakers[0]

    def _close(self) -> None:
        super()._close()
        if self._wakers is not None:
            # threads that wait hold the other end as long as they need it
            self._wakers[1].close()
            self._wakers = None


def wait(buffers: Iterable[EventSource[Any]], timeout: Optional[float] = None) -> None:
    """Wait until any of several buffers has events, or is closed; for `timeout` seconds at most, forever if None."""
    poller = select.poll()
    wakers = []
    for buffer in buffers:
        poller.register(buffer.fileno(), select.POLLIN)
        wakers.append(buffer._waker())
        poller.register(wakers[-1], select.POLLIN)
    poller.poll(None if timeout is None else max(0, timeout) * 1000)


class RingBuffer(EventSource["E"]):
    """A ring buffer. Iterate over it, or `poll()` it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._fence = _thread.allocate_lock()
        self._mapped = False
        self._dtype: Any = None
        """NumPy's type of the events, once it was asked for."""

    def _map(self) -> None:
        """Map the ring's pages."""
        page = mmap.PAGESIZE
        size = self.max_entries
        try:
            # the consumer's position; then the producer's position and the data, mapped twice in a row by the kernel,
            # so that no record is ever split
            self._consumer_pages: Any = mmap.mmap(self.fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
            self._pages: Any = mmap.mmap(self.fd, page + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        except OSError as error:
            raise MapError(f"ring buffer {self.name} can't be mapped: {reason(error.errno or 0)}") from error
        self._consumer = memoryview(self._consumer_pages).cast("L")
        self._producer = memoryview(self._pages)[:LONG].cast("L")
        self._data = memoryview(self._pages)[page:]
        self._headers = self._data.cast("I")
        self._mask = size - 1
        self._mapped = True

    def fileno(self) -> int:
        return self.fd

    def _close(self) -> None:
        with self._reading:
            super()._close()
            if self._mapped:
                self._mapped = False
                for view in (self._consumer, self._producer, self._headers, self._data):
                    view.release()
                self._consumer_pages.close()
                self._pages.close()

    def _read(self) -> bool:
        with self._reading:
            self._ensure_mapped()
            start = self._consumer[0]
            end = self._read_run(start) if self._struct is not None else start
            if end == start:
                end = self._read_any(start)
            if end != start:
                self._order_memory()
                self._consumer[0] = end
            return end != start

    def _read_run(self, start: int) -> int:
        """Move a run of finished records that are as long as the struct, from `start` on; where it ends.

        Nearly all records of nearly all rings are such, and a run needs no loop over headers.
        """
        size = self._struct_size
        stride = (size + HEADER + 7) & ~7
        count = min((self._producer[0] - start) // stride, BATCH)
        self._order_memory()
        first = start & self._mask
        headers = self._headers[first >> 2 : (first + count * stride) >> 2 : stride >> 2].tolist()
        if headers.count(size) != count:
            count = next(i for i, header in enumerate(headers) if header != size)
        self._order_memory()
        # one copy of all of them; the structs are made as they are asked for, by loops in C
        records = bytes(self._data[first : first + count * stride])
        self._add(map(self._struct.from_buffer_copy, repeat(records), range(HEADER, len(records), stride)))
        return start + count * stride

    def _read_any(self, start: int) -> int:
        """Move finished records of any length, from `start` on; where they end."""
        end, found = self._scan(start)
        data, decode = self._data, self._decode
        self._add([decode(data[offset : offset + length]) for offset, length in found])
        return end

    def read_array(self) -> Any:
        """The events there are, without waiting, as a NumPy structured array: one copy, and no Python object for each.

        For events of a struct type that all have its size; bitfields are left out. NumPy must be installed.
        """
        import importlib

        numpy: Any = importlib.import_module("numpy")
        if self._dtype is None:
            if self._struct is None:
                raise TypeError(f"ring buffer {self.name}: its events have no struct type; declare one under `events`")
            self._dtype = numpy.dtype(numpy_fields(self._struct))
        size = self._struct_size
        stride = (size + HEADER + 7) & ~7
        parts: list[Any] = []
        with self._reading:
            self._ensure_mapped()
            position, produced = self._consumer[0], self._producer[0]
            self._order_memory()
            while position < produced:
                events = self._copy_run(numpy, position, (produced - position) // stride)
                if len(events):
                    parts.append(events)
                    position += len(events) * stride
                    continue
                header = self._headers[(position & self._mask) >> 2]
                if header & BUSY or (parts and not header & DISCARDED):
                    break
                if not header & DISCARDED:
                    raise TypeError(f"ring buffer {self.name}: a record has {header} bytes, not {size}")
                position += ((header & ~DISCARDED) + HEADER + 7) & ~7
            self._order_memory()
            self._consumer[0] = position
        return parts[0] if len(parts) == 1 else numpy.concatenate(parts or [numpy.empty(0, self._dtype)])

    def _copy_run(self, numpy: Any, position: int, count: int) -> Any:
        """A copy of the events from `position` on, up to the first record that is not a finished one of their size."""
        size, first = self._struct_size, position & self._mask
        strides = ((size + HEADER + 7) & ~7,)
        headers = numpy.ndarray((count,), "=u4", self._data, first, strides)
        others = (headers != size).nonzero()[0]
        self._order_memory()
        count = others[0] if len(others) else count
        # as so many bytes each, since NumPy copies structs member by member
        return numpy.ndarray((count,), f"V{size}", self._data, first + HEADER, strides).copy().view(self._dtype)

    def _ensure_mapped(self) -> None:
        if not self._mapped:
            self._map()

    def _scan(self, position: int) -> tuple[int, list[tuple[int, int]]]:
        """Where the finished records end, and where each of them lies in the data."""
        found: list[tuple[int, int]] = []
        headers, mask, produced = self._headers, self._mask, self._producer[0]
        self._order_memory()
        while position < produced and len(found) < BATCH:
            offset = position & mask
            header = headers[offset >> 2]
            if header & BUSY:
                break
            length = header & ~(BUSY | DISCARDED)
            if not header & DISCARDED:
                found.append((offset + HEADER, length))
            position += (length + HEADER + 7) & ~7
        self._order_memory()
        return position, found

    def _order_memory(self) -> None:
        """Keep loads and stores before this from mixing with those after it.

        Python has no fence; taking and releasing a lock twice is one: what comes before the first release
        stays before the second acquire.
        """
        with self._fence:
            pass
        with self._fence:
            pass
