"""Attachments. Input: what libbpf or the kernel returned for one. Output: a `Link`, and the `Links` of an object.

However a program was attached, its `Link` detaches it. Closing a skeleton detaches all of them, the last one first.
"""

from __future__ import annotations

import _thread  # threading costs more to import than all of this module
import ctypes
import errno
import os
from ctypes import byref

from .descriptor import Descriptor
from .errors import AttachError, ClosedError, reason
from .libbpf import TcOpts, XdpAttachOpts, opts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Any, Optional, Protocol, TypeVar

    from .descriptor import HasDescriptor
    from .errors import BpfError
    from .libbpf import Libbpf

    LinkT = TypeVar("LinkT", bound="Link")

    class Linked(HasDescriptor, Protocol):
        """What a link needs of the program, or the struct_ops map, that it attaches."""

        name: str
        _libbpf: Libbpf
        _links: Links

        def _put_into(self, link: int) -> int: ...


BPF_TC_F_REPLACE = 1 << 0


class Links:
    """The attachments of one object, in the order in which they were made."""

    def __init__(self) -> None:
        self.lock = _thread.RLock()
        """Held while libbpf works on the object, so that no other thread closes it meanwhile."""
        self.before_first: list[Callable[[], None]] = []
        """Called before the first attachment: a perf buffer loses events until it is open."""
        self._links: list[Link] = []

    def __iter__(self) -> Iterator[Link]:
        return iter(tuple(self._links))

    def add(self, link: LinkT) -> LinkT:
        self._links.append(link)
        return link

    def forget(self, link: Link) -> None:
        if link in self._links:
            self._links.remove(link)

    def get_ready(self) -> None:
        """Call what must precede the first attachment. Each is called once, unless it raises."""
        while self.before_first:
            self.before_first[0]()
            del self.before_first[0]

    def detach_all(self) -> list[BpfError]:
        """Detach everything, the last one first, and return the errors of those that failed."""
        errors: list[BpfError] = []
        for link in reversed(self._links.copy()):
            try:
                link.detach()
            except AttachError as error:
                errors.append(error)
        return errors


class Link:
    """An attached program. `detach()`, leaving its `with` block or closing the skeleton detaches it."""

    def __init__(self, program: Linked, target: str) -> None:
        self.program = program
        """The program, or the struct_ops map, that is attached."""
        self.target = target
        """What it is attached to, in words."""
        self.attached = True
        self._pid = os.getpid()

    def detach(self) -> None:
        """Detach the program. Doing it twice is harmless."""
        with self.program._links.lock:
            if not self.attached:
                return
            self.attached = False
            self.program._links.forget(self)
            if os.getpid() == self._pid:  # a forked child leaves it to the parent
                self._release()

    def __enter__(self) -> Link:
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.detach()

    def __repr__(self) -> str:
        state = "attached to" if self.attached else "detached from"
        return f"<link of {self.program.name}, {state} {self.target}>"

    @property
    def fd(self) -> int:
        """The descriptor of the kernel's link. Raises `AttachError` if the attachment has none."""
        raise AttachError(f"{self!r} is not a kernel link, and has no descriptor")

    def pin(self, path: str) -> None:
        """Pin the link to a path in a BPF file system: the program stays attached until the file is removed."""
        self._call("be pinned to " + path, lambda: self._libbpf.bpf_obj_pin(self.fd, path.encode()))

    def update(self, program: Linked) -> None:
        """Replace the program, or the struct_ops map, by another of the same kind, in one step."""
        self._call(f"change to {program.name}", lambda: self._update(program))

    def _update(self, program: Linked) -> int:
        """Replace the program. Returns a negative number, with `ctypes.get_errno()` set, on failure."""
        raise AttachError(f"{self!r} is not a kernel link, and can't change to {program.name}")

    def _call(self, what: str, function: Callable[[], int]) -> None:
        """Do something with the link while no other thread detaches it."""
        with self.program._links.lock:
            if not self.attached:
                raise ClosedError(f"{self!r} is detached already")
            if function() < 0:
                code = ctypes.get_errno()
                raise AttachError(f"{self!r} can't {what}: {reason(code)}", errno=code)

    @property
    def _libbpf(self) -> Libbpf:
        return self.program._libbpf

    def _check_attached(self) -> None:
        if not self.attached:
            raise ClosedError(f"{self!r} is detached already")

    def _check_detached(self, result: int) -> None:
        if result < 0:
            code = ctypes.get_errno()
            raise AttachError(f"{self!r} could not be detached cleanly: {reason(code)}", errno=code)

    def _release(self) -> None:
        raise NotImplementedError


class LibbpfLink(Link):
    """A `struct bpf_link` of libbpf."""

    def __init__(self, program: Linked, target: str, pointer: int) -> None:
        super().__init__(program, target)
        self._pointer = pointer

    @property
    def fd(self) -> int:
        with self.program._links.lock:
            self._check_attached()
            return int(self._libbpf.bpf_link__fd(self._pointer))

    def _update(self, program: Linked) -> int:
        return program._put_into(self._pointer)

    def _release(self) -> None:
        pointer, self._pointer = self._pointer, 0
        self._check_detached(self._libbpf.bpf_link__destroy(pointer))


class FdLink(Link):
    """A kernel link that the runtime made itself."""

    def __init__(self, program: Linked, target: str, fd: int) -> None:
        super().__init__(program, target)
        self._fd: int = Descriptor(fd)

    @property
    def fd(self) -> int:
        fd = self._fd
        self._check_attached()
        return fd

    def _update(self, program: Linked) -> int:
        fd = program.fd
        return int(self._libbpf.bpf_link_update(self._fd, fd, None))

    def _release(self) -> None:
        self._fd = -1


class MapLink(Link):
    """A program attached to a map of sockets."""

    def __init__(self, program: Linked, target: str, sockets: HasDescriptor, attach_type: int) -> None:
        super().__init__(program, target)
        self._program_fd, self._map_fd = program.fd, sockets.fd
        self._attach_type = attach_type

    def _release(self) -> None:
        self._check_detached(self._libbpf.bpf_prog_detach2(self._program_fd, self._map_fd, self._attach_type))


class TcLink(Link):
    """A tc filter. Its clsact qdisc stays, since others may have put filters there."""

    def __init__(self, program: Linked, target: str, hook: Any, *, handle: int, priority: int) -> None:
        super().__init__(program, target)
        self._hook = hook
        self.handle = handle
        self.priority = priority

    def _update(self, program: Linked) -> int:
        fd = program.fd
        options = opts(TcOpts, prog_fd=fd, flags=BPF_TC_F_REPLACE, handle=self.handle, priority=self.priority)
        return int(self._libbpf.bpf_tc_attach(byref(self._hook), byref(options)))

    def _release(self) -> None:
        options = opts(TcOpts, handle=self.handle, priority=self.priority)
        self._check_detached(self._libbpf.bpf_tc_detach(byref(self._hook), byref(options)))


class XdpLink(Link):
    """XDP attached through netlink: on kernels without links for it (before 5.9), or to replace such a program."""

    def __init__(self, program: Linked, target: str, *, ifindex: int, flags: int) -> None:
        super().__init__(program, target)
        self._ifindex = ifindex
        self._flags = flags
        self._program_fd = program.fd
        """Descriptor of the program that is attached now; no other program is touched."""

    def _update(self, program: Linked) -> int:
        fd, options = program.fd, opts(XdpAttachOpts, old_prog_fd=self._program_fd)
        result = int(self._libbpf.bpf_xdp_attach(self._ifindex, fd, self._flags, byref(options)))
        if result >= 0:
            self._program_fd = fd
        return result

    def _release(self) -> None:
        options = opts(XdpAttachOpts, old_prog_fd=self._program_fd)
        result = self._libbpf.bpf_xdp_detach(self._ifindex, self._flags, byref(options))
        if result < 0 and ctypes.get_errno() == errno.EEXIST:
            return  # somebody has replaced or removed this program
        self._check_detached(result)
