"""What ring and perf buffers have in common: waiting, iterating, closing, and losing nothing.

Input: a subclass that takes events from the kernel's pages. Output: each event exactly once, whatever exceptions signal
handlers raise, to whichever thread asks first.

How nothing is lost: an event is in exactly one place at any time. It is in the kernel's pages until `_taken` is set,
which holds the events and the position in the pages behind them, so that both change with one bytecode. From there it
goes to the application if that iterates, else into this thread's batch in `_in_hand`: either is one step in C. The last
bytecode before a batch is returned removes it from there. After that one no signal handler runs, except in CPython
before 3.11, which looks for signals once more when a function has returned.
"""

from __future__ import annotations

import _thread  # threading costs more to import than all of this module
import select
import sys
import time
from itertools import chain, repeat

from ..arguments import elements, seconds
from ..descriptor import duplicate, open_pipe
from ..errors import InvalidTypeError, MapError
from ..generic import Generic
from ..maps.map import Map
from ..types import Nested, read_record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator
    from functools import partial
    from typing import Any, Optional, TypeVar

    E = TypeVar("E")
else:
    from _functools import partial  # where functools has it from, without all of functools

LONGEST_POLL = (1 << 31) // 1000 - 1
"""In seconds. poll() counts milliseconds in an int."""
RETURNING = "_fill", "read_array"
"""Functions that leave the lock before their result is in the hands of the application."""
MAX_BATCH = 1 << 18
"""Number of events at which `read_batch()` stops, since a producer may be faster."""


class Taken:
    """Events that were taken from the kernel's pages. Nothing changes one; another takes its place."""

    __slots__ = ("cell", "cpu", "end", "events", "in_hand", "lost")

    def __init__(
        self,
        events: Iterable[Any] = (),
        cell: Any = None,
        end: int = 0,
        in_hand: Optional[dict[int, list[Iterable[Any]]]] = None,
        lost: int = 0,
        cpu: int = -1,
    ) -> None:
        self.events = iter(events)
        """Those not handed out yet: an iterator written in C, which threads may share."""
        self.cell = cell
        """The memory that tells the kernel up to which position its pages are free."""
        self.end = end
        """The position behind these events."""
        self.in_hand = in_hand or {}
        """For each thread, an iterator over the events that it is about to return as an array; none once it has."""
        self.lost = lost
        """Events that the kernel has reported as lost so far."""
        self.cpu = cpu
        """The CPU whose programs made these events; -1 if it is not known."""


class EventSource(Map, Generic["E"]):
    """A map that the kernel puts events into."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._event = kwargs.pop("value", None)
        super().__init__(*args, **kwargs)
        self._taken = Taken()
        self._in_hand: dict[int, list[E]] = {}
        """For each thread, events that it is about to return."""
        self._reading = _thread.RLock()
        """Held while the kernel's pages are read, so that they don't go away meanwhile."""
        self._fence = _thread.allocate_lock()
        self._wakers: Optional[tuple[int, int]] = None
        """A pipe's ends: closing the second ends the waits of other threads, which hold the first."""
        self._sleeping: list[Callable[[], object]] = []
        """Functions that wake the tasks that wait for events: another task may have taken more than it uses."""
        self._struct: Any = None
        """Class of the events, where they are structs."""
        self._decode: Any = bytes
        """Makes an event from a record, which is a bytes object."""
        if isinstance(self._event, Nested):
            self._struct = self._event.cls
            self._struct_size = self._event.size
            self._decode = partial(read_record, self._struct)
        elif self._event is not None:
            self._decode = self._read_value

    def _read_value(self, record: bytes) -> Any:
        return self._event.read(record.ljust(self._event.size, b"\0"))

    def open(self) -> None:
        """Start receiving, before programs are attached: perf buffers lose what comes before; ring buffers nothing."""
        self._check_open()

    def get_ready(self) -> None:
        """Call `open()` unless that is done. Attaching the first program does it for buffers with declared events."""

    def fileno(self) -> int:
        """A descriptor that is readable when there are events, for select, poll, epoll and event loops."""
        raise NotImplementedError

    def _read(self) -> bool:
        """Take some events from the kernel's pages, without waiting; whether there was anything. Needs `_reading`, and
        that nothing is left of those in `_taken`."""
        raise NotImplementedError

    def _take(self, taken: Taken) -> None:
        """Make these the taken ones, and free the kernel's pages up to their end."""
        self._taken = taken
        self._free()

    def _free(self) -> None:
        """Free the kernel's pages up to the end of what was taken last. Doing it twice is harmless."""
        cell, end = self._taken.cell, self._taken.end
        if cell is not None and cell[0] < end:
            self._order_memory()
            cell[0] = end

    def _order_memory(self) -> None:
        """Keep loads and stores before this from mixing with those after it. Needs `_reading`.

        Python has no fence; taking and releasing a lock twice is one: what comes before the first release stays before
        the second acquire. A lock that is taken already was left so by an exception, and is released now.
        """
        for _ in range(2):
            self._fence.acquire(False)
            self._fence.release()

    def poll(self, timeout: Optional[float] = None) -> list[E]:
        """The events there are; if there are none, wait for some, for `timeout` seconds at most, forever if None."""
        deadline = deadline_of(timeout)
        ident = _thread.get_ident()
        if timeout is None or timeout > 0:
            self._gather()
        while True:
            self._check_not_reading()
            batch = self._fill()
            if batch:
                del self._in_hand[ident]
                return batch
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return []
            wait([self], left)

    def read_batch(self) -> list[E]:
        """The events there are, without waiting."""
        ident = _thread.get_ident()
        self._check_not_reading()
        batch = self._fill()
        del self._in_hand[ident]
        return batch

    def _check_not_reading(self) -> None:
        """Raise `MapError` if a signal handler, or another function that Python calls by itself, has interrupted this
        thread while it takes events: to take some in between would give them out twice."""
        if self._is_reading() or self._is_returning():
            raise MapError(
                f"map {self.name}: this thread is reading it already, and was interrupted, by a signal handler or the "
                "like: set a flag there, and read where the flag is looked at"
            )

    def _is_reading(self) -> bool:
        """Whether this thread is between taking events from the kernel's pages and giving them out."""
        return self._reading._is_owned()  # type: ignore[attr-defined,no-any-return]

    def _is_returning(self) -> bool:
        """Whether this thread has taken events, and a function that has not returned yet is about to return them."""
        ident = _thread.get_ident()
        if ident in self._in_hand or self._taken.in_hand.get(ident):
            frame: Any = sys._getframe(3)  # of the caller of the function that asks
            while frame is not None:
                if frame.f_code.co_name in RETURNING and frame.f_locals.get("self") is self:
                    return True
                frame = frame.f_back
        return False

    def _fill(self) -> list[E]:
        """This thread's batch, with the events there are."""
        with self._reading:
            batch = self._claim()
            reads = 0
            while len(batch) < MAX_BATCH and not self._is_all(reads) and self._read_next():
                batch.extend(self._taken.events)
                reads += 1
            return batch

    def _claim(self) -> list[E]:
        """This thread's batch, with the events that were taken and not handed over, oldest first. Needs `_reading`."""
        ident = _thread.get_ident()
        batch = self._in_hand.setdefault(ident, [])
        array = self._taken.in_hand.get(ident)
        if array:
            batch.extend(chain.from_iterable(map(list.pop, repeat(array, len(array)))))
        batch.extend(self._taken.events)
        return batch

    def _read_next(self) -> bool:
        """`_read()`, once it is certain that the pages of what was taken before are free."""
        self._check_open()
        self._free()
        return self._read()

    def __iter__(self) -> Iterator[E]:
        """Events as they come, forever. Leaving the loop loses none: the next one goes on where it left off.

        If two threads share an iterator, the second gets a ValueError. Two iterators may share the buffer.
        """
        for taken in self._each_taken():
            yield from taken.events

    def _each_taken(self) -> Iterator[Taken]:
        """The taken events, batch after batch, forever. The caller uses up one batch before it asks for the next."""
        self._put_back()
        while True:
            taken = self._taken
            yield taken
            self._gather()
            if not self._refill(taken):
                wait([self])

    def _put_back(self) -> None:
        """Let what this thread was about to return when an exception came be taken next."""
        self._check_not_reading()
        with self._reading:
            self._put_back_held()

    def _put_back_held(self) -> None:
        """`_put_back()`. Needs `_reading`."""
        ident = _thread.get_ident()
        if self._in_hand.get(ident) or self._taken.in_hand.get(ident):
            batch, taken = self._claim(), self._taken
            popped = map(list.pop, repeat(batch, len(batch)), repeat(0))
            self._taken = Taken(popped, taken.cell, taken.end, taken.in_hand, taken.lost)

    def _refill(self, taken: Taken) -> bool:
        """Whether there are more events in `_taken` now that those of `taken` are used up."""
        self._check_not_reading()
        with self._reading:
            if self._taken is taken:
                self._put_back_held()
            return self._taken is not taken or self._read_next()

    async def __aiter__(self) -> AsyncIterator[E]:
        """Events as they come, for `async for`. Ends with `ClosedError` when the skeleton is closed."""
        import asyncio

        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        with self._reading:
            # duplicates, since an event loop takes one reader for each descriptor
            descriptors = [duplicate(self.fileno()), duplicate(self._waker())]
        self._put_back()
        while True:
            taken = self._taken
            for event in taken.events:
                yield event
            if self._refill(taken):
                for wake in tuple(self._sleeping):
                    wake()
                continue
            ready.clear()
            wake = partial(loop.call_soon_threadsafe, ready.set)
            self._sleeping.append(wake)
            try:
                for fd in descriptors:
                    loop.add_reader(fd, ready.set)
                await ready.wait()
            finally:
                self._sleeping.remove(wake)
                for fd in descriptors:
                    loop.remove_reader(fd)

    def _waker(self) -> int:
        """A descriptor that becomes readable when another thread closes this. Raises `ClosedError` after that."""
        with self._reading:
            self._check_open()
            if self._wakers is None:
                self._wakers = open_pipe()
            return self._wakers[0]

    def _gather(self) -> None:
        """Let more events come before a reading that may wait, if that is worth it."""

    def _is_all(self, reads: int) -> bool:
        """Whether so many readings have found all events that were there at the first one."""
        del reads
        return False

    def _check_open(self) -> None:
        """Raise `ClosedError` after the skeleton was closed."""
        self.fd  # noqa: B018

    def _close(self) -> None:
        in_use = self._is_reading()
        with self._reading:
            super()._close()
            self._wakers = None
            if not in_use:  # else they go with this object: a signal handler closes what this thread is reading
                self._release()

    def _release(self) -> None:
        """Give the kernel's pages back. Needs `_reading`."""


def wait(buffers: Iterable[EventSource[Any]], timeout: Optional[float] = None) -> None:
    """Wait until any of several buffers has events, or is closed; for `timeout` seconds at most, forever if None."""
    poller = select.poll()
    descriptors = []  # they stay open as long as they have a name
    for buffer in elements("buffers", buffers):
        if not hasattr(buffer, "_waker"):
            raise InvalidTypeError(f"buffers must be ring buffers and perf buffers, not {type(buffer).__name__}")
        descriptors += [buffer.fileno(), buffer._waker()]
    for fd in descriptors:
        poller.register(fd, select.POLLIN)
    deadline = deadline_of(timeout)
    poller.poll(None if deadline is None else min(max(0, deadline - time.monotonic()), LONGEST_POLL) * 1000)


def deadline_of(timeout: Optional[float]) -> Optional[float]:
    """The value of `time.monotonic()` at which so many seconds are over; None if there is no timeout."""
    if timeout is None:
        return None
    return time.monotonic() + seconds("timeout", timeout)
