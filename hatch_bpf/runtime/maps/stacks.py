"""Stack traces that bpf_get_stackid() stored. Input: a stack map. Output: addresses, or `BuildIdFrame`s, by id."""

from __future__ import annotations

import ctypes
from ctypes import c_uint32

from ..types import U32, as_int, named
from .map import Map
from .shapes import type_numbers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from .build_ids import BuildIdFrame
    from .shapes import MapShape

BPF_F_STACK_BUILD_ID = 1 << 5


class StackTraces(Map):
    """BPF_MAP_TYPE_STACK_TRACE: lists of addresses, innermost first, by the id that bpf_get_stackid() returned."""

    types = type_numbers("STACK_TRACE")

    @classmethod
    def for_shape(cls, shape: MapShape) -> type[Map]:
        return BuildIdStacks if shape.flags & BPF_F_STACK_BUILD_ID else StackTraces

    def __getitem__(self, stack_id: int) -> list[int]:
        return [address for address in self._words(stack_id) if address]

    def __delitem__(self, stack_id: int) -> None:
        if not _is_u32(stack_id) or not self._delete(c_uint32(stack_id)):
            raise KeyError(stack_id)

    def __iter__(self) -> Iterator[int]:
        return map(U32.read, self._keys())

    def items(self) -> Iterator[tuple[int, list[Any]]]:
        """Pairs of id and stack. One that is deleted meanwhile is left out."""
        for stack_id in self:
            stack = self.get(stack_id)
            if stack is not None:
                yield stack_id, stack

    def clear(self) -> None:
        """Delete all stacks."""
        for stack_id in self:
            self._delete(c_uint32(stack_id))

    def get(self, stack_id: int, default: Any = None) -> Any:
        """A stack, or the default: for ids that are errors of bpf_get_stackid(), and stacks that were replaced."""
        try:
            return self[stack_id]
        except KeyError:
            return default

    def _words(self, stack_id: int) -> Any:
        """The value as words of 64 bits."""
        storage = (ctypes.c_uint64 * (self.value_size // 8))()
        if _is_u32(stack_id) and self._read_into(storage, c_uint32(stack_id)):
            return storage
        raise KeyError(stack_id)


class BuildIdStacks(StackTraces):
    """A stack map with BPF_F_STACK_BUILD_ID: lists of `BuildIdFrame`s, innermost first."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        from .build_ids import frames_of  # as such a map is made: later the process may not be able to read the file

        super().__init__(*args, **kwargs)
        self._frames_of = frames_of

    def __getitem__(self, stack_id: int) -> list[BuildIdFrame]:  # type: ignore[override]
        return self._frames_of(bytes(self._words(stack_id)))


def _is_u32(number: int) -> bool:
    """Whether an id can be that of a stack: an error of bpf_get_stackid() is negative."""
    return bool(0 <= named("the stack's id", as_int, number) < 1 << 32)
