"""User ring buffers: BPF_MAP_TYPE_USER_RINGBUF, through which user space sends records to BPF programs.

Input: values and their codec. Output: records that bpf_user_ringbuf_drain() takes out.
"""

from __future__ import annotations

import ctypes
import errno

from .errors import MapError, reason
from .maps import Map, OneParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional, TypeVar

    E = TypeVar("E")


class UserRingBuffer(Map, OneParameter["E"]):
    """A user ring buffer: `send()` records. One thread at a time."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._event = kwargs.pop("value", None)
        super().__init__(*args, **kwargs)
        self._pointer = 0

    def send(self, value: E, *, timeout: Optional[float] = 0) -> bool:
        """Send a record; False if there was no room for it within `timeout` seconds (None: wait forever)."""
        data = bytes(self._event.encode(value)) if self._event is not None else bytes(value)  # type: ignore[call-overload]
        if not self._pointer:
            self._pointer = self._libbpf.pointer(self._libbpf.user_ring_buffer__new(self.fd, None))
            if not self._pointer:
                raise self._error("be opened")
        milliseconds = -1 if timeout is None else int(timeout * 1000)
        reserve = self._libbpf.user_ring_buffer__reserve_blocking
        place = self._libbpf.pointer(reserve(self._pointer, len(data), milliseconds))
        if not place:
            code = ctypes.get_errno()
            if code == errno.ENOSPC:
                return False
            raise MapError(f"user ring buffer {self.name} can't take {len(data)} bytes: {reason(code)}", errno=code)
        ctypes.memmove(place, data, len(data))
        self._libbpf.user_ring_buffer__submit(self._pointer, place)
        return True

    def _close(self) -> None:
        super()._close()
        if self._pointer:
            self._libbpf.user_ring_buffer__free(self._pointer)
            self._pointer = 0
