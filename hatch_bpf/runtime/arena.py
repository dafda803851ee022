"""Global variables in an arena: the section `.addr_space.1`, which libbpf puts into the object's only arena.

Input: an object before its load. Output: the place of the variables in this process's memory, and a section of them.
libbpf maps the arena for as long as the object lives, and nobody else can, since an arena has one place in a process.
So what the application gets are copies, which may outlive the memory.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_void_p, pointer

from .errors import ClosedError
from .globals import VIEWS, Mirror, plain
from .libbpf.library import Options, opts
from .types import size_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from .handle import ObjectHandle
    from .libbpf.library import Libbpf
    from .spec import SectionSpec


class ObjectSkeletonOpts(Options):
    """`struct bpf_object_skeleton`, as of libbpf 0.0.7."""

    _fields_ = (
        ("name", c_char_p),
        ("data", c_void_p),
        ("data_sz", c_size_t),
        ("obj", POINTER(c_void_p)),
        ("map_cnt", c_int),
        ("map_skel_sz", c_int),
        ("maps", c_void_p),
        ("prog_cnt", c_int),
        ("prog_skel_sz", c_int),
        ("progs", c_void_p),
    )


def load_with_arena(libbpf: Libbpf, object_pointer: int, map_pointer: int) -> tuple[int, int]:
    """Load an object: the result of libbpf, and the address of the variables in the arena, 0 if there is none.

    Only bpf_object__load_skeleton() tells the address.
    """
    of_map, address = pointer(c_void_p(map_pointer)), c_void_p()
    # struct bpf_map_skeleton: name, map, mmaped, link
    found = (c_void_p * 4)(None, ctypes.addressof(of_map.contents), ctypes.addressof(address), None)
    skeleton = opts(
        ObjectSkeletonOpts,
        name=b"",
        obj=pointer(c_void_p(object_pointer)),
        map_cnt=1,
        map_skel_sz=ctypes.sizeof(found),
        maps=ctypes.addressof(found),
    )
    result = libbpf.bpf_object__load_skeleton(ctypes.byref(skeleton))
    return result, address.value or 0


def arena_mirror(held: ObjectHandle, section: SectionSpec) -> ArenaMirror:
    """The variables of a loaded object."""
    copy = ArenaCopy(held, section)
    memory = (ctypes.c_uint8 * size_of(section.cls)).from_address(held.arena)
    return ArenaMirror(copy, copy.value, section.cls.from_buffer(memory))


class ArenaCopy:
    """A copy of the variables in an arena, brought up to date before each access."""

    writable = True

    def __init__(self, held: ObjectHandle, section: SectionSpec) -> None:
        self.name = section.name
        self._held = held
        self._buffer = bytearray(size_of(section.cls))
        self.value = section.cls.from_buffer(self._buffer)
        self.lock = held.links.lock
        """A thread that closes the skeleton has to wait for it."""

    def refresh(self) -> None:
        """Copy the variables out of the arena. Raises `ClosedError`."""
        with self.lock:
            if not self._held.pointer:
                raise ClosedError(f"{self.name}: the skeleton is closed")
            self._buffer[:] = ctypes.string_at(self._held.arena, len(self._buffer))

    def flush(self) -> None:
        """Nothing: what is set is set in the arena."""


class ArenaMirror(Mirror):
    """A struct, union or array in an arena, which is read from a copy, and set in the arena itself: an integer or a
    pointer at once, so that no program sees half of it."""

    __slots__ = ("_live",)

    def __init__(self, section: ArenaCopy, target: Any, live: Any) -> None:
        super().__init__(section, target)
        object.__setattr__(self, "_live", live)

    def _pair(self, copy: Any, live: Any) -> Any:
        return ArenaMirror(self._section, copy, live) if isinstance(copy, VIEWS) else copy

    def _get(self, read: Callable[[Any, Any], Any], what: Any) -> Any:
        with self._section.lock:
            self._refresh()
            copy, live = read(self._target, what), read(self._live, what)
            return list(map(self._pair, copy, live)) if isinstance(what, slice) else self._pair(copy, live)

    def _set(self, write: Callable[[Any, Any, Any], None], what: Any, value: Any) -> None:
        with self._section.lock:
            self._refresh()
            write(self._live, what, plain(value))

    def __iter__(self) -> Iterator[Any]:
        return iter(self[:])
