"""Perf buffers: BPF_MAP_TYPE_PERF_EVENT_ARRAY, read straight from mapped pages, as an iterator of typed events.

Input: the map and the codec of an event. Output: events, in each CPU's order. Layout: `struct perf_event_mmap_page` and
`enum perf_event_type` in linux/perf_event.h.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import select
import struct
from ctypes import byref, c_int, c_uint32
from itertools import repeat
from time import monotonic, sleep

from ..descriptor import duplicate
from ..errors import MapError, failed, permission_denied
from ..maps.shapes import type_numbers
from ..privileges import for_perf_event
from ..types import has_flexible
from .perf_events import event_hint, online_cpus, open_bpf_output, open_counter
from .source import EventSource, Taken

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, Optional, TypeVar

    from .perf_events import Event

    E = TypeVar("E")

PAGES = 64
"""Pages of each CPU's buffer unless `open()` says otherwise."""
HEAD, TAIL = 1024, 1032
"""Where in the first page the positions are up to which the kernel has written, and we have read."""
RECORD = struct.Struct("=I2xHI")
"""`struct perf_event_header`, and the length of a sample's data, which follows it."""
LOST = struct.Struct("=8x8xQ")
"""`struct perf_event_header`, an id, and a number of events."""
MOST_BYTES = 1 << 16
"""Bytes copied at a time: at least one record, whose length has 16 bits, and so few that a signal hardly ever comes
while they are read: then the reading has to start over."""
CROWDED = 0.002
"""Seconds: readings that follow each other faster than that let events gather."""
FEW = 1 << 14
"""Bytes: a reading of less has found few events."""
GATHER = 0.0005
"""Seconds for which events gather."""
ROOMY = 8
"""Pages: a buffer of so many holds what comes meanwhile."""
PERF_RECORD_LOST, PERF_RECORD_SAMPLE = 2, 9
PERF_EVENT_IOC_PAUSE_OUTPUT = 0x40042409


class PerfBuffer(EventSource["E"]):
    """A perf buffer. Iterate over it, or `poll()` it; `lost` counts the events for which there was no room.

    The same type of map holds counters for `bpf_perf_event_read_value()`: `open_counters()` fills it with them.

    The kernel fills each event up to 4 bytes past a multiple of 8 and does not say how long it was: of 5 bytes that a
    program writes 12 arrive, the last 7 of them with whatever was in the buffer. An event of a declared type has its
    type's size; a flexible array at its end, and events without a type, include these bytes. Ring buffers have none.
    """

    types = type_numbers("PERF_EVENT_ARRAY")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._rings: Optional[list[_CpuRing]] = None
        """One for each CPU, once it is open."""
        self._epoll = -1
        self._last = 0
        """Which ring was read last: the next one is first in turn."""
        self._is_trickle = False
        """Whether the last reading found little in a buffer with much room."""
        self._read_at = 0.0
        """When that was."""
        self._on_lost: Optional[Callable[[int, int], object]] = None
        self._overwrites = False
        """Whether new events take the place of the oldest ones."""
        self._counters: list[int] = []
        """Descriptors of counters, if it holds such."""
        # a record with a struct, as long as the kernel makes it
        length = (self._struct_size + 4 + 7 & ~7) - 4 if self._struct and not has_flexible(self._struct) else 0
        self._usual = PERF_RECORD_SAMPLE, RECORD.size + length, length
        """Type, size and length of the data of nearly all records; the length is 0 if records vary."""

    @property
    def lost(self) -> int:
        """Events lost so far because the buffer was full."""
        return self._taken.lost

    def open(
        self,
        *,
        pages: int = PAGES,
        on_lost: Optional[Callable[[int, int], object]] = None,
        overwrite: bool = False,
    ) -> None:
        """Start receiving, with so many pages (a power of two) for each CPU.

        Reading calls `on_lost` with the number of a CPU and how many events the kernel says were lost there, before it
        returns the events that followed them.

        With `overwrite` a new event takes the place of the oldest ones if there is no more room, and `latest()` returns
        those that are there, instead of `poll()` and iteration. `lost` and `on_lost` then report nothing.

        Reading opens the buffer too, with 64 pages, and so does attaching the first program if the option `events` says
        what the buffer carries. To have another number of pages, call this before that.
        """
        with self._reading:
            self._check_open()
            if pages < 1 or pages & (pages - 1):
                raise MapError(f"perf buffer {self.name} can't have {pages} pages; it must be a power of two")
            if self._rings is not None:
                raise MapError(f"perf buffer {self.name} is open already; call open() before anything is attached")
            self._check_gives_events()
            rings: list[_CpuRing] = []
            epoll = select.epoll()
            try:
                for cpu in self._cpus():
                    fd = open_bpf_output(cpu, backward=overwrite)
                    if fd < 0:
                        raise self._cannot_open(ctypes.get_errno())
                    rings.append(_CpuRing(fd, pages, cpu, writable=not overwrite))
                    epoll.register(fd, select.EPOLLIN)
                    self._connect(cpu, fd)
                self._epoll = duplicate(epoll.fileno())
                self._overwrites = overwrite
                self._rings = rings
                self._on_lost = on_lost
            except OSError as error:
                raise self._cannot_open(error.errno or 0) from error
            finally:
                if self._rings is not rings:
                    for ring in rings:
                        ring.close()

    def open_counters(self, event: Event) -> None:
        """Fill the map with counters of an event, one for each CPU, for programs to read with BPF_F_CURRENT_CPU.

        Events have the names of `attach_sampling()`. Doing it again replaces the counters.
        """
        with self._reading:
            self._check_open()
            if self._rings is not None:
                raise MapError(f"perf buffer {self.name} is open for events; it can't hold counters too")
            opened: list[int] = []
            for cpu in self._cpus():
                fd = open_counter(event, cpu)
                if fd < 0:
                    code = ctypes.get_errno()
                    raise self._cannot_open(code, event_hint(event, code))
                self._connect(cpu, fd)
                opened.append(fd)
            self._counters = opened

    def _cpus(self) -> list[int]:
        """The CPUs that are online, and that the map has a place for."""
        return [cpu for cpu in online_cpus() if cpu < self.max_entries]

    def _check_gives_events(self) -> None:
        """Raise `MapError` if there is nothing to wait for."""
        if self._counters:
            raise MapError(f"map {self.name} holds counters, which programs read; no events come from it")
        if self._overwrites:
            raise MapError(f"perf buffer {self.name} was opened with overwrite=True; call latest() to read it")

    def latest(self) -> list[E]:
        """The latest events, of a buffer opened with `overwrite=True`: CPU after CPU, the oldest first.

        They stay there, so the next call returns them again unless newer ones have replaced them. Events that programs
        write to a CPU's buffer while it is copied are lost.
        """
        import fcntl

        with self._reading:
            self._check_open()
            if not self._overwrites:
                raise MapError(f"perf buffer {self.name} keeps no latest events; open it with open(overwrite=True)")
            events: list[E] = []
            for ring in self._rings or ():
                try:
                    fcntl.ioctl(ring.fd, PERF_EVENT_IOC_PAUSE_OUTPUT, 1)
                    data = ring.copy_latest(self._order_memory)
                finally:
                    fcntl.ioctl(ring.fd, PERF_EVENT_IOC_PAUSE_OUTPUT, 0)
                events += self._parse_latest(data)
            return events

    def _parse_latest(self, data: bytes) -> list[E]:
        """The events of records that begin with the newest one, in the order in which they were made."""
        events, at = [], 0
        while at + RECORD.size <= len(data):
            kind, size, length = RECORD.unpack_from(data, at)
            if not size or at + size > len(data):  # nothing was ever written there, or it is overwritten in part
                break
            if kind == PERF_RECORD_SAMPLE:
                first = at + RECORD.size
                events.append(self._decode(data[first : first + length]))
            at += size
        return events[::-1]

    def with_cpu(self) -> Iterator[tuple[int, E]]:
        """Events as they come, forever, each with its CPU: `for cpu, event in skel.maps.events.with_cpu()`.

        The CPU is -1 for an event that a `poll()` was about to return when an exception of a signal handler came.
        """
        for taken in self._each_taken():
            yield from zip(repeat(taken.cpu), taken.events)

    def pause(self) -> None:
        """Stop receiving until `resume()`: programs fail to write meanwhile. What is there can still be read."""
        with self._reading:
            self._check_open()
            for ring in self._rings or ():
                self._delete(c_uint32(ring.cpu))

    def resume(self) -> None:
        """Receive again after `pause()`."""
        with self._reading:
            self._check_open()
            for ring in self._rings or ():
                self._connect(ring.cpu, ring.fd)

    def _connect(self, cpu: int, fd: int) -> None:
        """Let what programs write on a CPU go there."""
        if self._libbpf.bpf_map_update_elem(self.fd, byref(c_uint32(cpu)), byref(c_int(fd)), 0):
            raise self._cannot_open(ctypes.get_errno())

    def _cannot_open(self, code: int, hint: str = "") -> Exception:
        what = f"perf buffer {self.name} can't be opened"
        if code in (errno.EPERM, errno.EACCES):
            return permission_denied(what, errno=code, also=("CAP_PERFMON", *for_perf_event("perf_event")))
        return failed(MapError, what, code, hint=hint)

    def get_ready(self) -> None:
        with self._reading:
            if self._rings is None and not self._counters:
                self.open()

    def fileno(self) -> int:
        with self._reading:
            self._check_open()
            self._check_gives_events()
            self.get_ready()
            return self._epoll

    def _gather(self) -> None:
        """Let events gather if few came last time, and just now: each one wakes the reader, which costs both sides more
        than the event itself. The first after a silence is read at once."""
        if self._is_trickle and monotonic() - self._read_at < CROWDED:
            sleep(GATHER)

    def _is_all(self, reads: int) -> bool:
        # each reading begins behind the last one's CPU, so that as many readings look at all
        return self._is_trickle and 0 < len(self._rings or ()) <= reads

    def _read(self) -> bool:
        self._check_gives_events()
        self.get_ready()
        rings = self._rings or []
        for turn in range(len(rings)):
            at = (self._last + 1 + turn) % len(rings)
            data, start = rings[at].copy(self._order_memory)
            if data:
                events, length, lost = self._parse(data)
                end, ring = start + length, rings[at]
                self._take(Taken(events, ring.tail, end, self._taken.in_hand, self.lost + lost, ring.cpu))
                self._last = at
                self._is_trickle, self._read_at = length < FEW and ring.pages >= ROOMY, monotonic()
                if lost and self._on_lost is not None:
                    self._on_lost(ring.cpu, lost)
                return True
        return False

    def _parse(self, data: bytes) -> tuple[Iterable[E], int, int]:
        """The events of whole records, how long these records are, and how many events the kernel says were lost."""
        stride = self._usual[1]
        count = self._count_usual(data) if self._usual[2] else 0
        if count:
            # the structs are made as they are asked for, by loops in C
            places = range(RECORD.size, count * stride, stride)
            return map(self._struct.from_buffer_copy, repeat(data), places), count * stride, 0
        return self._parse_any(data)

    def _count_usual(self, data: bytes) -> int:
        """How many usual records the data begins with. They need no loop over records."""
        kind, stride, length = self._usual
        count = len(data) // stride
        view = memoryview(data)[: count * stride]
        words, halves = view.cast("I"), view.cast("H")
        columns = (
            (words[:: stride >> 2], kind),
            (halves[3 :: stride >> 1], stride),
            (words[2 :: stride >> 2], length),
        )
        for column, wanted in columns:
            found = column[:count].tolist()
            if found != [wanted] * count:
                count = next(i for i, value in enumerate(found) if value != wanted)
        return count

    def _parse_any(self, data: bytes) -> tuple[Iterable[E], int, int]:
        """`_parse()` of records of any kind, up to where usual ones begin."""
        events, lost, at = [], 0, 0
        last = len(data) - RECORD.size  # behind that a header is cut off
        while at <= last:
            kind, size, length = record = RECORD.unpack_from(data, at)
            if at + size > len(data) or (at and record == self._usual):
                break
            if kind == PERF_RECORD_SAMPLE:
                first = at + RECORD.size
                events.append(self._decode(data[first : first + length]))
            elif kind == PERF_RECORD_LOST:
                lost += LOST.unpack_from(data, at)[0]
            at += size
        return events, at, lost

    def _release(self) -> None:
        self._counters.clear()
        for ring in self._rings or ():
            ring.close()
        self._rings, self._epoll = None, -1


class _CpuRing:
    """The pages that hold the events of one CPU."""

    def __init__(self, fd: int, pages: int, cpu: int, *, writable: bool) -> None:
        """Map them. Raises `OSError`. The kernel overwrites what was not read in pages that are not `writable`."""
        self.fd = fd
        self.cpu = cpu
        self.pages = pages
        self._size = pages * mmap.PAGESIZE
        access = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        self._pages = mmap.mmap(fd, mmap.PAGESIZE + self._size, prot=access)
        self._head = memoryview(self._pages)[HEAD : HEAD + 8].cast("Q")
        self.tail = memoryview(self._pages)[TAIL : TAIL + 8].cast("Q")

    def copy(self, order_memory: Any) -> tuple[bytes, int]:
        """Records that nobody has read yet, the last of them perhaps cut off, and the position where they begin."""
        head, tail = self._head[0], self.tail[0]
        order_memory()
        first, length = tail % self._size, min(head - tail, MOST_BYTES)
        start = mmap.PAGESIZE + first
        data = self._pages[start : start + length]
        if first + length > self._size:  # it goes on where the pages begin
            data = self._pages[start:] + self._pages[mmap.PAGESIZE : start + length - self._size]
        order_memory()
        return data, tail

    def copy_latest(self, order_memory: Any) -> bytes:
        """All that is in pages written backward, from the newest record on."""
        start = mmap.PAGESIZE + self._head[0] % self._size
        order_memory()
        return self._pages[start:] + self._pages[mmap.PAGESIZE : start]

    def close(self) -> None:
        self._head.release()
        self.tail.release()
        self._pages.close()
        self.fd = -1
