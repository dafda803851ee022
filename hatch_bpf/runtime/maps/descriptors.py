"""Maps whose values or keys are descriptors: of programs, sockets, cgroups, tasks, files.

Input: a loaded map. Output: `ProgramArray`, `DescriptorMap`, `LocalStorage`.
"""

from __future__ import annotations

import errno
from ctypes import c_uint32

from ..generic import Generic
from ..types import U32, as_int, named
from .map import KeyedMap, Map
from .shapes import type_numbers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional, TypeVar, Union

    from ..descriptor import HasDescriptor

    K = TypeVar("K")
    V = TypeVar("V")


class ProgramArray(Map):
    """BPF_MAP_TYPE_PROG_ARRAY: programs to tail-call, by index."""

    types = type_numbers("PROG_ARRAY")

    def __setitem__(self, index: int, program: Union[HasDescriptor, int]) -> None:
        self._store_descriptor(self._index(index), program)

    def __delitem__(self, index: int) -> None:
        if not self._delete(self._index(index)):
            raise IndexError(f"map {self.name} has no program at index {index}")

    def __contains__(self, index: object) -> bool:
        """Whether there is a program at an index."""
        number = named(f"map {self.name}: index", as_int, index)
        return 0 <= number < self.max_entries and self._read_into(c_uint32(), c_uint32(number))

    def _index(self, index: int) -> Any:
        return named(f"map {self.name}: index", U32.encode, index)


class DescriptorMap(Map, Generic["K"]):
    """BPF_MAP_TYPE_SOCKMAP, SOCKHASH, REUSEPORT_SOCKARRAY, XSKMAP, CGROUP_ARRAY: sockets or cgroups by key.

    User space can put sockets or cgroups in and take them out, but not read them.
    """

    _no_such_key = (errno.ENOENT, errno.EINVAL)
    """A SOCKMAP says EINVAL for an empty place, and an XSKMAP for an index that is too high."""
    types = type_numbers("CGROUP_ARRAY", "SOCKMAP", "XSKMAP", "SOCKHASH", "REUSEPORT_SOCKARRAY")

    def __setitem__(self, key: K, item: Any) -> None:
        """Store a descriptor, or that of anything with a `fileno()`."""
        self._store_descriptor(self._encode_key(key), item)

    def __delitem__(self, key: K) -> None:
        if not self._delete(self._encode_key(key)):
            raise KeyError(key)


class LocalStorage(KeyedMap["Any", "V"]):
    """BPF_MAP_TYPE_SK_STORAGE, TASK_STORAGE, INODE_STORAGE, CGRP_STORAGE: a value per socket, task, file or cgroup.

    Keys are descriptors: of a socket, a pidfd, a file, a cgroup's folder; or anything with a `fileno()`.
    """

    types = type_numbers("SK_STORAGE", "INODE_STORAGE", "TASK_STORAGE", "CGRP_STORAGE")

    def get(self, owner: Any) -> Optional[V]:
        """The owner's value, or None."""
        return self._lookup(self._encode_key(owner))  # type: ignore[no-any-return]

    def _encode_key(self, key: Any) -> Any:
        fd = self._descriptor(key)
        encoded: Any = c_uint32(fd)
        encoded.descriptor = fd  # which stays open as long as there is the key
        return encoded
