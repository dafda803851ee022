"""Links: attached programs, each of which can be detached. Input: what libbpf or the kernel gave. Output: `Link`s.

Whatever way a program is attached, its `Link` undoes it; a skeleton that is closed undoes all of them, last first.
"""

from __future__ import annotations

import ctypes
import os
from ctypes import byref

from .errors import AttachError, ClosedError, reason
from .libbpf import TcHook, TcOpts, XdpAttachOpts, opts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Optional

    from .libbpf import Libbpf
    from .maps import Map
    from .programs import Program


class Link:
    """An attached program. `detach()`, leaving its `with` block or closing the skeleton detaches it."""

    def __init__(self, program: Program, target: str) -> None:
        self.program = program
        self.target = target
        """What it is attached to, in words."""
        self.attached = True
        self._pid = os.getpid()

    def detach(self) -> None:
        """Detach the program. Doing it twice is harmless."""
        if not self.attached:
            return
        self.attached = False
        self.program._forget(self)
        if os.getpid() == self._pid:  # what a forked child got is the parent's to detach
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
        """The descriptor of the kernel's link. Raises `AttachError` where the attachment is none."""
        raise AttachError(f"{self!r} is no kernel link, and has no descriptor")

    def pin(self, path: str) -> None:
        """Pin the link to a path in a BPF file system: the program stays attached until the file is removed."""
        self._check_attached()
        if self._libbpf.bpf_obj_pin(self.fd, path.encode()):
            raise AttachError(f"{self!r} can't be pinned to {path}: {reason(ctypes.get_errno())}")

    def update(self, program: Program) -> None:
        """Put another program of the same kind in this one's place, atomically."""
        self._check_attached()
        if self._libbpf.bpf_link_update(self.fd, program.fd, None):
            raise AttachError(f"{self!r} can't change to {program.name}: {reason(ctypes.get_errno())}")

    @property
    def _libbpf(self) -> Libbpf:
        return self.program._libbpf

    def _check_attached(self) -> None:
        if not self.attached:
            raise ClosedError(f"{self!r} is detached already")

    def _release(self) -> None:
        raise NotImplementedError


class LibbpfLink(Link):
    """A `struct bpf_link` of libbpf."""

    def __init__(self, program: Program, target: str, pointer: int) -> None:
        super().__init__(program, target)
        self._pointer = pointer

    @property
    def fd(self) -> int:
        self._check_attached()
        return int(self._libbpf.bpf_link__fd(self._pointer))

    def _release(self) -> None:
        pointer, self._pointer = self._pointer, 0
        if self._libbpf.bpf_link__destroy(pointer) < 0:
            raise AttachError(f"{self!r} could not be detached cleanly: {reason(ctypes.get_errno())}")


class FdLink(Link):
    """A kernel link that we made ourselves."""

    def __init__(self, program: Program, target: str, fd: int) -> None:
        super().__init__(program, target)
        self._fd = fd

    @property
    def fd(self) -> int:
        self._check_attached()
        return self._fd

    def _release(self) -> None:
        os.close(self._fd)


class MapLink(Link):
    """A program attached to a map of sockets."""

    def __init__(self, program: Program, target: str, sockets: Map, attach_type: int) -> None:
        super().__init__(program, target)
        self._sockets = sockets
        self._attach_type = attach_type

    def _release(self) -> None:
        if self._libbpf.bpf_prog_detach2(self.program.fd, self._sockets.fd, self._attach_type):
            raise AttachError(f"{self!r} could not be detached cleanly: {reason(ctypes.get_errno())}")


class TcLink(Link):
    """A tc filter. The clsact qdisc it hangs on stays: others may have put filters there since."""

    def __init__(self, program: Program, target: str, hook: TcHook, *, handle: int, priority: int) -> None:
        super().__init__(program, target)
        self._hook = hook
        self.handle = handle
        self.priority = priority

    def _release(self) -> None:
        options = opts(TcOpts, handle=self.handle, priority=self.priority)
        if self._libbpf.bpf_tc_detach(byref(self._hook), byref(options)) < 0:
            raise AttachError(f"{self!r} could not be detached cleanly: {reason(ctypes.get_errno())}")


class XdpLink(Link):
    """XDP attached through netlink, before the kernel had links for it (5.9)."""

    def __init__(self, program: Program, target: str, *, ifindex: int, flags: int) -> None:
        super().__init__(program, target)
        self._ifindex = ifindex
        self._flags = flags

    def _release(self) -> None:
        options: Any = opts(XdpAttachOpts, old_prog_fd=self.program.fd)
        if self._libbpf.bpf_xdp_detach(self._ifindex, self._flags, byref(options)) < 0:
            raise AttachError(f"{self!r} could not be detached cleanly: {reason(ctypes.get_errno())}")
