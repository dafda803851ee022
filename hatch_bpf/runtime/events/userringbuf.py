"""User ring buffers: BPF_MAP_TYPE_USER_RINGBUF, through which user space sends records to BPF programs.

Input: values and their codec. Output: records that bpf_user_ringbuf_drain() takes out.
"""

from __future__ import annotations

import _thread  # threading costs more to import than all of this module
import ctypes
import errno
import select
import time

from ..errors import MapError, failed
from ..generic import Generic
from ..maps.map import Map
from ..maps.shapes import type_numbers
from ..onestep import keep_pointer, release
from ..types import as_bytes, named
from .source import deadline_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional, TypeVar

    E = TypeVar("E")

PATIENCE = 0.1
"""Seconds after which a thread that waits for room looks whether the buffer was closed meanwhile."""


class UserRingBuffer(Map, Generic["E"]):
    """A user ring buffer: `send()` records."""

    types = type_numbers("USER_RINGBUF")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._event = kwargs.pop("value", None)
        super().__init__(*args, **kwargs)
        self._made: list[tuple[int]] = []
        """libbpf's pointer, once the buffer is in use."""
        self._sending = _thread.RLock()
        """Held while libbpf works on the buffer, so that no other thread closes it meanwhile."""

    def send(self, value: E, *, timeout: Optional[float] = 0) -> bool:
        """Send a record; False if there was no room for it within `timeout` seconds (None: wait forever).

        It has the type that the option `events` names for the buffer; without one it is bytes.
        """
        encode = as_bytes if self._event is None else self._event.encode
        data = bytes(named(f"user ring buffer {self.name}: record", encode, value))
        deadline = deadline_of(timeout)
        try:
            while not self._send(data):
                left = PATIENCE if deadline is None else min(PATIENCE, deadline - time.monotonic())
                if left <= 0:
                    return False
                poller = select.poll()
                fd = self.fd  # stays open as long as it has a name
                poller.register(fd, select.POLLOUT)
                poller.poll(left * 1000)
            return True
        finally:
            if self._is_closed:
                self._close()

    def _send(self, data: bytes) -> bool:
        """Send a record if there is room for it; whether there was."""
        with self._sending:
            fd = self.fd
            if not self._made:
                keep_pointer(self._made, self._libbpf.user_ring_buffer__new, fd, None)
                if not self._made:
                    raise self._error("be opened")
            ring = self._made[0]
            # in one step: a record that is reserved and never submitted would block those behind it
            places = filter(None, map(self._libbpf.user_ring_buffer__reserve, ring, (len(data),)))
            filled = map(ctypes.memmove, places, (data,), (len(data),))
            if list(map(self._libbpf.user_ring_buffer__submit, ring, filled)):
                return True
            code = ctypes.get_errno()
            if code == errno.ENOSPC:
                return False
            raise failed(MapError, f"user ring buffer {self.name} can't take {len(data)} bytes", code)

    def _close(self) -> None:
        in_use = self._sending._is_owned()  # type: ignore[attr-defined]
        with self._sending:
            super()._close()
            if not in_use:  # else `send()` does it: a signal handler closes what this thread is sending to
                release(self._made, self._libbpf.user_ring_buffer__free)
