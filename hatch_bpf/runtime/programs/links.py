"""Attachments. Input: what libbpf or the kernel returned for one. Output: a `Link`, and the `Links` of an object.

However a program was attached, its `Link` detaches it. Closing a skeleton detaches all of them, the last one first.
"""

from __future__ import annotations

import _thread  # threading costs more to import than all of this module
import ctypes
import errno
import os
from ctypes import byref

from ..arguments import c_string
from ..descriptor import open_descriptor
from ..errors import AttachError, BpfError, ClosedError, InvalidTypeError, failed, reason
from ..host.mounts import why_not_pinned
from ..libbpf.library import LinkCreateOpts, TcOpts, XdpAttachOpts, opts
from ..onestep import keep_pointer, keep_undo, release
from ..sealed import Sealed
from ..sections import ATTACH_TYPES
from ..types import shown
from .interfaces import NOTHING_THERE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType
    from typing import Any, Optional, Protocol, Union

    from ..descriptor import HasDescriptor
    from ..libbpf.library import Libbpf
    from ..system.objects import LinkInfo

    class Linked(HasDescriptor, Protocol):
        """What a link needs of the program, or the struct_ops map, that it attaches."""

        name: str
        _libbpf: Libbpf
        _links: Links

        def _put_into(self, link: int) -> int: ...


BPF_F_ALLOW_MULTI = 1 << 1
BPF_TC_F_REPLACE = 1 << 0
XDP_FLAGS_UPDATE_IF_NOEXIST = 1 << 0
PERF_EVENT_IOC_SET_BPF = 0x40042408


class Links:
    """The attachments of one object, in the order in which they were made."""

    def __init__(self) -> None:
        self.lock = _thread.RLock()
        """Held while libbpf works on the object, so that no other thread closes it meanwhile."""
        self.before_first: list[Callable[[], None]] = []
        """Called before the first attachment: a perf buffer loses events until it is open."""
        self._links: list[Link] = []

    def __iter__(self) -> Iterator[Link]:
        return iter([link for link in self._links if link.attached])

    def add(self, link: Link) -> None:
        """Remember a link that is about to be attached."""
        self._links.append(link)

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


class Link(Sealed):
    """An attached program. `detach()`, leaving its `with` block or closing the skeleton detaches it."""

    def __init__(
        self,
        program: Linked,
        target: str,
        *,
        takes: tuple[str, ...] = (),
        also: tuple[str, ...] = (),
        hint: Callable[[int], str] = lambda _: "",
    ) -> None:
        self.program = program
        """The program, or the struct_ops map, that is attached."""
        self.target = target
        """What it is attached to, in words."""
        self._takes = takes
        """The types of programs that can be attached there; empty if the section name says where that is."""
        self._also = also
        """Capabilities that attaching takes besides those of the program."""
        self._hint = hint
        """What an error number means there; empty for those that say it all."""
        self._made: list[tuple[Any, ...]] = []
        """While it is attached: the arguments of the function that detaches it."""
        self._pid = os.getpid()
        self._seal()

    @property
    def attached(self) -> bool:
        """Whether it still attaches the program."""
        return bool(self._made)

    def detach(self) -> None:
        """Detach the program. Doing it twice is harmless."""
        with self.program._links.lock:
            try:
                if os.getpid() != self._pid:
                    self._made.clear()  # a forked child leaves it to the parent
                elif self._made:
                    self._release()
            finally:
                if not self._made:
                    self.program._links.forget(self)

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.detach()
        finally:
            self.detach()  # if a signal handler raises an exception on the way

    def __repr__(self) -> str:
        state = "attached to" if self.attached else "detached from"
        return f"<link of {self.program.name}, {state} {self.target}>"

    @property
    def fd(self) -> int:
        """The descriptor of the kernel's link. Raises `AttachError` if the attachment has none."""
        raise AttachError(f"{self!r} is not a kernel link, and has no descriptor{self._linked_since}")

    _linked_since = ""
    """The end of that message: the first kernel that has links of this kind."""

    def info(self) -> LinkInfo:
        """What the kernel says about the link. Raises `AttachError` if the attachment has none."""
        from ..system.objects import link_info

        try:
            return link_info(self._libbpf, self.fd)
        except BpfError as error:
            hint = _hints().not_a_kernel_link(error.errno)
            if not hint:
                raise
            raise AttachError(f"{self!r} can't be inspected: {hint}", errno=error.errno) from error

    def pin(self, path: Union[str, os.PathLike[str]]) -> None:
        """Pin the link to a path in a BPF file system: the program stays attached until the file is removed.

        `detach()` and the end of the skeleton then leave it attached. `PinnedLink(path)` opens it again.
        """
        file = c_string("path", path, "a path")
        self._call(
            f"be pinned to {os.fspath(path)}",
            lambda: self._libbpf.bpf_obj_pin(self.fd, file),
            hint=lambda code: why_not_pinned(path, code) or _hints().not_a_kernel_link(code),
        )
        self._keep_attached()

    def _keep_attached(self) -> None:
        """Make sure that closing the link does not detach what is pinned."""

    def update(self, program: Linked) -> None:
        """Replace the program, or the struct_ops map, by another of the same kind, in one step."""
        if not hasattr(program, "_put_into"):
            raise InvalidTypeError(
                f"{self!r} can't change to {shown(program)}: give a program or struct_ops map of a skeleton"
            )
        what = f"change to {program.name}"
        self._call(what, lambda: self._update(program), hint=lambda code: _hints().not_updated(code))

    def _update(self, program: Linked) -> int:
        """Replace the program. Returns a negative number, with `ctypes.get_errno()` set, on failure."""
        raise AttachError(f"{self!r} is not a kernel link, and can't change to {program.name}")

    def _call(self, what: str, function: Callable[[], int], hint: Callable[[int], str] = lambda _: "") -> None:
        """Do something with the link while no other thread detaches it. `hint` explains an error number."""
        with self.program._links.lock:
            self._live()
            if function() < 0:
                code = ctypes.get_errno()
                raise AttachError(f"{self!r} can't {what}: {hint(code) or reason(code)}", errno=code)

    @property
    def _libbpf(self) -> Libbpf:
        return self.program._libbpf

    def _live(self) -> tuple[Any, ...]:
        """What the function that detaches it takes. Raises `ClosedError`."""
        for made in self._made:
            return made
        raise ClosedError(f"{self!r} is detached already")

    def _release(self) -> None:
        """Detach the program from what it is attached to."""
        raise NotImplementedError

    def _undo(self, function: Callable[..., int]) -> None:
        """Call the C function that detaches it, and check what it returns."""
        for result in release(self._made, function):
            if result < 0:
                raise self._not_detached(ctypes.get_errno())

    def _not_detached(self, code: int) -> AttachError:
        return failed(AttachError, f"{self!r} could not be detached cleanly", code)


class LibbpfLink(Link):
    """A `struct bpf_link` of libbpf."""

    def attach(self, function: Callable[..., Optional[int]], *arguments: Any) -> None:
        """Have libbpf attach the program. If that fails, it is not `attached`."""
        keep_pointer(self._made, function, *arguments)

    @property
    def fd(self) -> int:
        with self.program._links.lock:
            return int(self._libbpf.bpf_link__fd(*self._live()))

    def _update(self, program: Linked) -> int:
        return program._put_into(self._live()[0])

    def _keep_attached(self) -> None:
        # libbpf would disable the perf event of a probe or tracepoint; now it leaves the descriptors to this process
        if self.info().type == "PERF_EVENT":
            self._libbpf.bpf_link__disconnect(self._live()[0])

    def _release(self) -> None:
        self._undo(self._libbpf.bpf_link__destroy)


class FdLink(Link):
    """A kernel link that the runtime made itself."""

    def attach(self, function: Callable[..., int], *arguments: Any) -> None:
        """Attach the program by a function that returns the link's descriptor."""
        fd = open_descriptor(function, *arguments)
        if fd >= 0:
            self._made.append((fd,))

    def create(self, target: int, attach_type: str, flags: int = 0) -> None:
        """Attach the program by BPF_LINK_CREATE."""
        number, options = ATTACH_TYPES[attach_type], opts(LinkCreateOpts, flags=flags)
        self.attach(self._libbpf.bpf_link_create, self.program.fd, target, number, byref(options))

    @property
    def fd(self) -> int:
        return self._live()[0]  # type: ignore[no-any-return]

    def _update(self, program: Linked) -> int:
        fd = program.fd
        return int(self._libbpf.bpf_link_update(self.fd, fd, None))

    def _release(self) -> None:
        self._made.clear()


class PerfEventLink(FdLink):
    """A program attached to a perf event. The link closes the event."""

    def attach_event(self, event: int) -> None:
        self.create(event, "BPF_PERF_EVENT")
        if not self._made and ctypes.get_errno() == errno.EINVAL:
            # kernels before 5.15 know no links for perf events: closing the event detaches the program
            import fcntl

            try:
                fcntl.ioctl(event, PERF_EVENT_IOC_SET_BPF, self.program.fd)
            except OSError as error:
                ctypes.set_errno(error.errno or 0)
            else:
                self._made.append((event,))


class PlainLink(Link):
    """A program attached by BPF_PROG_ATTACH: to a map of sockets, or to a cgroup before Linux 5.7."""

    _linked_since = "; cgroups have links from Linux 5.7 on, and maps of sockets have none here"

    def attach(self, target: int, attach_type: str, flags: int = 0) -> None:
        undo = self.program.fd, target, ATTACH_TYPES[attach_type]
        keep_undo(self._made, undo, self._libbpf.bpf_prog_attach, *undo, flags)

    def _release(self) -> None:
        self._undo(self._libbpf.bpf_prog_detach2)


class TcLink(Link):
    """A tc filter. Its clsact qdisc stays, since others may have put filters there."""

    def __init__(self, program: Linked, target: str, hook: Any) -> None:
        super().__init__(program, target, takes=("SCHED_CLS", "SCHED_ACT"), also=("CAP_NET_ADMIN",), hint=_tc_hint)
        self._hook = hook
        self._attached = opts(TcOpts)
        """What was asked for; once it is attached, what the kernel chose."""
        self._ours = opts(TcOpts)
        """What tells the kernel which filter to detach."""

    @property
    def handle(self) -> int:
        """The filter's number, which the kernel chose if it was 0."""
        return int(self._attached.handle)

    @property
    def priority(self) -> int:
        """Its priority, which the kernel chose if it was 0. A lower number runs first."""
        return int(self._attached.priority)

    def attach(self, *, handle: int, priority: int, replace: bool) -> None:
        fd = self.program.fd
        if self._libbpf.bpf_tc_hook_create(byref(self._hook)) < 0 and ctypes.get_errno() != errno.EEXIST:
            return
        flags = BPF_TC_F_REPLACE if replace else 0
        self._attached = opts(TcOpts, prog_fd=fd, handle=handle, priority=priority, flags=flags)
        undo = byref(self._hook), byref(self._ours)
        keep_undo(self._made, undo, self._libbpf.bpf_tc_attach, byref(self._hook), byref(self._attached))

    def _update(self, program: Linked) -> int:
        fd = program.fd
        options = opts(TcOpts, prog_fd=fd, flags=BPF_TC_F_REPLACE, handle=self.handle, priority=self.priority)
        result = int(self._libbpf.bpf_tc_attach(byref(self._hook), byref(options)))
        if result >= 0:
            self._attached = options
        return result

    def _release(self) -> None:
        there = opts(TcOpts, handle=self.handle, priority=self.priority)
        found = self._libbpf.bpf_tc_query(byref(self._hook), byref(there)) >= 0
        gone = not found and ctypes.get_errno() in NOTHING_THERE
        if gone or (found and there.prog_id != self._attached.prog_id):
            self._made.clear()  # somebody has removed this filter, or put another one in its place
            return
        self._ours.handle, self._ours.priority = self.handle, self.priority
        self._undo(self._libbpf.bpf_tc_detach)


class XdpLink(Link):
    """XDP attached through netlink: where the kernel has no links for it (before 5.9), or to replace a program that was
    attached without one."""

    _linked_since = "; XDP has links from Linux 5.9 on, unless the program replaced another"

    def attach(self, *, ifindex: int, flags: int, only_if_free: bool) -> None:
        self._ifindex, self._flags = ifindex, flags
        self._program_fd = self.program.fd
        """Descriptor of the program that is attached now; no other program is touched."""
        flags |= XDP_FLAGS_UPDATE_IF_NOEXIST if only_if_free else 0
        keep_undo(self._made, (-1,), self._libbpf.bpf_xdp_attach, ifindex, self._program_fd, flags, None)

    def _update(self, program: Linked) -> int:
        fd = program.fd
        result = self._replace(fd)
        if result >= 0:
            self._program_fd = fd
        return result

    def _release(self) -> None:
        # not by _undo(): a signal handler may raise an exception within _replace(), and then this is called again
        result, code = self._replace(-1), ctypes.get_errno()
        self._made.clear()
        if result < 0 and code != errno.EEXIST:
            raise self._not_detached(code)

    def _replace(self, fd: int) -> int:
        """Put a program in the place of this link's; -1 for none. EEXIST if somebody has replaced or removed that."""
        replace, ours = self._libbpf.bpf_xdp_attach, opts(XdpAttachOpts, old_prog_fd=self._program_fd)
        result = int(replace(self._ifindex, fd, self._flags, byref(ours)))
        if result >= 0 or ctypes.get_errno() != errno.EINVAL:
            return result
        # Linux before 5.7 takes no program that must be there, so we look whether it is
        if self._is_there():
            return int(replace(self._ifindex, fd, self._flags, None))
        ctypes.set_errno(errno.EEXIST)
        return result

    def _is_there(self) -> bool:
        """Whether this link's program is the one on the interface."""
        from ..system.objects import program_info

        ours = program_info(self._libbpf, self._program_fd).id
        there = ctypes.c_uint32()
        # Linux before 4.19 names the interface's program only if it is asked for no mode
        for flags in (self._flags, 0):
            if self._libbpf.bpf_xdp_query_id(self._ifindex, flags, byref(there)) >= 0 and there.value == ours:
                return True
        return False


def _tc_hint(code: int) -> str:
    return (
        "the kernel has no clsact qdisc or no BPF filters: modprobe sch_ingress cls_bpf" if code == errno.ENOENT else ""
    )


def _hints() -> ModuleType:
    from . import attach_hints  # hardly any link needs them

    return attach_hints
