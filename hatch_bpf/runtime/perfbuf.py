"""Perf buffers: BPF_MAP_TYPE_PERF_EVENT_ARRAY read through libbpf's perf_buffer, as an iterator of typed events.

Input: the map and the codec of an event. Output: events, in each CPU's order. libbpf's callbacks only copy; the user's
code runs outside of them, so its exceptions go where they should.
"""

from __future__ import annotations

import ctypes
import errno

from .errors import MapError, permission_denied, reason
from .libbpf import LOST_FN, SAMPLE_FN
from .privileges import for_perf_event
from .ringbuf import EventSource

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional, TypeVar

    E = TypeVar("E")

PAGES = 64
"""Pages of each CPU's buffer unless `open()` says otherwise."""


class PerfBuffer(EventSource["E"]):
    """A perf buffer. Iterate over it, or `poll()` it; `lost` counts the events for which there was no room."""

    _settable_ = ("lost",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lost = 0
        """Events lost so far because the buffer was full."""
        self._pages = PAGES
        self._pointer = 0
        self._found: list[Any] = []
        """What the callback was given while the kernel's pages are read."""
        self._error_in_callback: Optional[BaseException] = None
        self._sample_fn = SAMPLE_FN(self._sample)
        self._lost_fn = LOST_FN(self._count_lost)

    def open(self, *, pages: int = PAGES) -> None:
        """Start receiving, with so many pages (a power of two) for each CPU.

        Attaching the first program does it too, with 64, where the option `events` says what the buffer carries, and so
        does reading: to have another number of pages, call this before.
        """
        with self._reading:
            fd = self.fd
            if self._pointer:
                raise MapError(f"perf buffer {self.name} is open already; call open() before anything is attached")
            new = self._libbpf.perf_buffer__new
            pointer = self._libbpf.pointer(new(fd, pages, self._sample_fn, self._lost_fn, None, None))
            if not pointer:
                code = ctypes.get_errno()
                if code in (errno.EPERM, errno.EACCES):
                    what = f"perf buffer {self.name} can't be opened"
                    raise permission_denied(what, errno=code, also=("CAP_PERFMON", *for_perf_event("perf_event")))
                hint = "; pages must be a power of two" if code == errno.EINVAL else ""
                raise MapError(f"perf buffer {self.name} can't be opened: {reason(code)}{hint}", errno=code)
            self._pointer = pointer

    def get_ready(self) -> None:
        with self._reading:
            if not self._pointer:
                self.open()

    def fileno(self) -> int:
        with self._reading:
            self.get_ready()
            return int(self._libbpf.perf_buffer__epoll_fd(self._pointer))

    def _read(self) -> bool:
        with self._reading:
            self.get_ready()
            result = self._libbpf.perf_buffer__consume(self._pointer)
            found, self._found = self._found, []
            self._add(found)
        if self._error_in_callback is not None:
            error, self._error_in_callback = self._error_in_callback, None
            raise error
        if result < 0:
            raise self._error("be read")
        return bool(found)

    def _sample(self, _context: int, _cpu: int, data: int, size: int) -> None:
        try:
            self._found.append(self._decode(ctypes.string_at(data, size)))
        except BaseException as error:  # Ctrl-C may land here; it is raised again outside of C
            self._error_in_callback = error

    def _count_lost(self, _context: int, _cpu: int, count: int) -> None:
        self.lost += count

    def _close(self) -> None:
        with self._reading:
            super()._close()
            if self._pointer:
                self._libbpf.perf_buffer__free(self._pointer)
                self._pointer = 0
