"""A BPF object that libbpf holds, and everything that must be released with it. Input: libbpf's pointer.

Output: an `ObjectHandle`, which all phases of a skeleton share.
"""

from __future__ import annotations

import os

from .errors import BpfError, ClosedError, PackageError, UnknownNameError
from .links import Links

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Optional

    from .libbpf import Libbpf
    from .spec import ObjectSpec


class ObjectHandle:
    """libbpf's object and what must be released with it. Closing it twice is harmless; a forked child does nothing."""

    def __init__(self, libbpf: Libbpf, pointer: int, name: str, *, memfd: int) -> None:
        self.libbpf = libbpf
        self.pointer = pointer
        self.name = name
        self.links = Links()
        self.parts: list[Any] = []
        """Maps, programs and sections, which are closed with the object so that they never touch freed memory."""
        self.globals: dict[str, Any] = {}
        """Sections of global variables of the current phase, by attribute."""
        self.changes: list[Callable[[ObjectHandle], object]] = []
        """The application's settings, to be repeated on another object of the same bytes."""
        self.memfd = memfd
        """The file from which libbpf reads an embedded BTF until the load is over; -1 if there is none."""
        self._pid = os.getpid()

    def live(self) -> int:
        if not self.pointer:
            raise ClosedError(f"{self.name}: the skeleton is closed")
        return self.pointer

    def find_map(self, name: str) -> int:
        """libbpf's map of this name, or of a section such as `.bss`."""
        return self._found(self.libbpf.bpf_object__find_map_by_name(self.live(), name.encode()), "map", name)

    def find_program(self, name: str) -> int:
        """libbpf's program of this name."""
        return self._found(self.libbpf.bpf_object__find_program_by_name(self.live(), name.encode()), "program", name)

    def _found(self, result: Optional[int], kind: str, name: str) -> int:
        pointer = self.libbpf.pointer(result)
        if not pointer:
            raise PackageError(f"{self.name}: its object has no {kind} {name}, so it does not match this skeleton")
        return pointer

    def find_global(self, owner: object, spec: ObjectSpec, name: str) -> Any:
        """A section by its attribute of `owner`."""
        if name in self.globals:
            return self.globals[name]
        if any(name == section.attribute for section in spec.sections):
            if self.pointer:
                raise UnknownNameError(f"{name} of {self.name} is available once the object is loaded")
            raise ClosedError(f"{name} of {self.name}: the skeleton is closed")
        raise UnknownNameError(f"{owner!r} has no {name!r}")

    def close_memfd(self) -> None:
        if self.memfd >= 0:
            fd, self.memfd = self.memfd, -1
            os.close(fd)

    def close(self) -> None:
        """Detach everything, last first, and release the object. Raises the first error after all is done."""
        if os.getpid() != self._pid:
            return
        with self.links.lock:
            if self.pointer:
                self._close()

    def _close(self) -> None:
        errors = self.links.detach_all()
        self.links.before_first.clear()
        for part in reversed(self.parts):
            part._close()
        self.parts.clear()
        self.globals.clear()
        pointer, self.pointer = self.pointer, 0
        self.close_memfd()
        self.libbpf.bpf_object__close(pointer)
        if errors:
            raise errors[0]


def close_quietly(held: ObjectHandle) -> None:
    """Close a skeleton that is collected, or that Python's end finds open: nobody is there to see an error."""
    try:
        held.close()
    except BpfError:
        pass
