"""Maps without keys. Input: a loaded map and the codec of its values. Output: `Queue`, `BloomFilter`."""

from __future__ import annotations

import _thread  # threading costs more to import than all of this module
import ctypes
import errno
from ctypes import byref

from ..generic import Generic
from ..onestep import keep_undo
from ..types import BOOL, named
from .map import BPF_ANY, BPF_EXIST, Map
from .shapes import type_numbers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, TypeVar

    V = TypeVar("V")


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
