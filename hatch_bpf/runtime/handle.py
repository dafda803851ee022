"""A BPF object that libbpf holds, and everything that must be released with it. Input: libbpf's pointer.

Output: an `ObjectHandle`, which all phases of a skeleton share.
"""

from __future__ import annotations

import _thread  # threading costs more to import than all of this module
import atexit
import ctypes
import os
import sys
import time
from ctypes import byref

from .errors import BpfError, ClosedError, OpenError, PackageError, UnknownNameError, failed, reason, tail
from .globals import end_all
from .libbpf.messages import Capture, stop_capturing
from .onestep import keep_pointer, release
from .programs.links import Links

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import FrameType
    from typing import Any, Optional
    from weakref import ref

    from .libbpf.library import Libbpf
    from .spec import ObjectSpec
else:
    from _weakref import ref  # where weakref has it from, without all of weakref

LOG_LINES = 12
"""How many of libbpf's lines an error quotes."""


class ObjectHandle:
    """libbpf's object and what must be released with it. Closing it twice is harmless; a forked child does nothing."""

    def __init__(self, libbpf: Libbpf, name: str) -> None:
        self.libbpf = libbpf
        self.name = name
        self.links = Links()
        self.parts: list[Any] = []
        """Maps, programs and sections, which are closed with the object so that they never touch freed memory."""
        self.globals: dict[str, Any] = {}
        """Sections of global variables of the current phase, by attribute."""
        self.changes: list[Callable[[ObjectHandle], object]] = []
        """The application's settings, to be repeated on another object of the same bytes."""
        self.btf = -1
        """The file from which libbpf reads an embedded BTF until the load is over: its descriptor, -1 for none."""
        self.token = ""
        """The folder of the BPF token that the load uses; empty if none was asked for."""
        self.arena = 0
        """Where global variables in an arena lie in this process's memory, once the object is loaded."""
        self.made: list[tuple[int]] = []
        """libbpf's pointer, while there is an object."""
        self._is_closing = False
        self._owner: Optional[ref[Any]] = None
        self._pid = os.getpid()

    @property
    def pointer(self) -> int:
        """libbpf's pointer; 0 before `open()` and after `close()`."""
        return next((pointer for (pointer,) in self.made), 0)

    def open(self, elf: bytes, options: Any) -> None:
        """Have libbpf read the object. Raises `OpenError`."""
        with Capture(self.libbpf) as said:
            keep_pointer(self.made, self.libbpf.bpf_object__open_mem, elf, len(elf), byref(options))
            code = ctypes.get_errno()
            if not self.made:
                raise OpenError(
                    f"{self.name}: libbpf can't open its object: {reason(code)}\n{tail(said.lines, LOG_LINES)}"
                )

    def live(self) -> int:
        """libbpf's pointer. Raises `ClosedError`."""
        pointer = self.pointer
        if not pointer:
            raise ClosedError(f"{self.name}: the skeleton is closed")
        return pointer

    def find_map(self, name: str) -> int:
        """libbpf's map of this name, or of a section such as `.bss`."""
        return self._found(self.libbpf.bpf_object__find_map_by_name(self.live(), name.encode()), "map", name)

    def find_program(self, name: str) -> int:
        """libbpf's program of this name."""
        return self._found(self.libbpf.bpf_object__find_program_by_name(self.live(), name.encode()), "program", name)

    def _found(self, result: Optional[int], kind: str, name: str) -> int:
        if not result:
            raise PackageError(f"{self.name}: its object has no {kind} {name}, so it does not match this skeleton")
        return result

    def set_initial_values(self, spec: ObjectSpec, values: Mapping[str, Any]) -> None:
        """Make libbpf create the sections with these values, by attribute."""
        for section in filter(lambda section: section.is_settable, spec.sections):
            data = bytes(values[section.attribute])
            if self.libbpf.bpf_map__set_initial_value(self.find_map(section.map_name), data, len(data)):
                raise failed(OpenError, "globals can't be set", ctypes.get_errno())

    def find_global(self, owner: object, spec: ObjectSpec, name: str) -> Any:
        """A section by its attribute of `owner`."""
        found = self.globals.get(name)
        if found is not None:
            return found
        if any(name == section.attribute for section in spec.sections):
            with self.links.lock:  # after another thread that is closing it
                is_open = bool(self.pointer)
            if is_open:
                raise UnknownNameError(f"{name} of {self.name} is available once the object is loaded")
            raise ClosedError(f"{name} of {self.name}: the skeleton is closed")
        raise UnknownNameError(f"{owner!r} has no {name!r}")

    def close_with(self, owner: object) -> None:
        """Close it when its owner is collected or Python ends, if nobody has closed it before then."""
        for other in tuple(_open):
            # an exception of a signal handler may come as the callback begins, and Python drops it with the call
            if other._owner is not None and other._owner() is None:
                other._close_quietly()
        _open[self] = None
        self._owner = ref(owner, self._close_quietly)

    def _close_quietly(self, _owner: object = None) -> None:
        """Close a skeleton that is collected, or still open when Python ends. No caller could catch an error."""
        try:
            self.close()
        except BpfError:
            pass
        except BaseException as error:
            # A signal handler raised it, and Python would drop it here. Another thread raises it again where the
            # application's code goes on.
            _thread.start_new_thread(_raise_again, (_thread.get_ident(), type(error)))

    def close_on_request(self) -> None:
        """`close()` for the application. Raises `ClosedError` in a signal handler that has interrupted work on it."""
        if self._is_in_use() and not self._is_closing:
            raise ClosedError(
                f"{self.name}: a signal handler can't close it while this thread loads or attaches it: raise an "
                "exception there, which leaves the `with` block and so closes it"
            )
        self.close()

    def _is_in_use(self) -> bool:
        """Whether this thread is at work on it: then a signal handler, or the like, has interrupted that."""
        return self.links.lock._is_owned()  # type: ignore[attr-defined,no-any-return]

    def close(self) -> None:
        """Detach everything, last first, and release the object. Raises the first error after all is done."""
        if os.getpid() != self._pid or (self._is_closing and self._is_in_use()):
            return  # a forked child leaves it to its parent, and a signal handler to what it has interrupted
        try:
            with self.links.lock:
                self._close()
        finally:
            if self.made:  # a signal handler has raised an exception: that goes on once the rest is released
                self.close()

    def _close(self) -> None:
        """Release everything. After an exception, another call goes on where this one left off."""
        try:
            self._is_closing = True
            self._release()
        finally:
            self._is_closing = False

    def _release(self) -> None:
        stop_capturing()
        errors = self.links.detach_all()
        self.links.before_first.clear()
        for part in reversed(self.parts):
            part._close()
        self.parts.clear()
        end_all(self.globals.values(), "the skeleton is closed")
        self.globals.clear()
        self.btf = -1
        self._owner = None
        _open.pop(self, None)
        release(self.made, self.libbpf.bpf_object__close)
        if errors:
            raise errors[0]


def _raise_again(thread: int, error: type[BaseException]) -> None:
    """Raise an exception in a thread once it has left `_close_quietly()`, out of which Python would drop it."""
    while _closes_quietly(sys._current_frames().get(thread)):
        time.sleep(0.001)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error))


def _closes_quietly(frame: Optional[FrameType]) -> bool:
    """Whether a thread, by its innermost frame, is inside `_close_quietly()`."""
    while frame is not None and frame.f_code is not ObjectHandle._close_quietly.__code__:
        frame = frame.f_back
    return frame is not None


_open: dict[ObjectHandle, None] = {}
"""Handles that nobody has closed, in the order in which they were opened."""


def _close_all() -> None:
    for held in reversed(tuple(_open)):
        held._close_quietly()


atexit.register(_close_all)
