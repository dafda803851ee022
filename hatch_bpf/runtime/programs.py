"""Loaded programs: attach them, run them once. Input: libbpf's program. Output: `Link`s and `TestRun`s.

`attach()` goes by the section name, as libbpf does; the `attach_*` methods say where to.
"""

from __future__ import annotations

import ctypes
import errno
import os
from ctypes import byref

from .errors import AttachError, ClosedError, permission_denied, reason, tail
from .libbpf import (
    Capture,
    CookieOpts,
    KprobeMultiOpts,
    KprobeOpts,
    KsyscallOpts,
    LinkCreateOpts,
    NetfilterOpts,
    TcHook,
    TcOpts,
    TcxOpts,
    TestRunOpts,
    UprobeOpts,
    opts,
)
from .links import FdLink, LibbpfLink, Link, MapLink, TcLink, XdpLink
from .members import Members

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from typing import Any, Optional, TypeVar, Union

    from .errors import BpfError
    from .libbpf import Libbpf
    from .maps import Map

    LinkT = TypeVar("LinkT", bound=Link)

BPF_XDP = 37
"""`enum bpf_attach_type`."""
XDP_MODES = {"auto": 0, "skb": 1 << 1, "driver": 1 << 2, "hardware": 1 << 3}
"""`XDP_FLAGS_*` of linux/if_link.h."""
XDP_FLAGS_UPDATE_IF_NOEXIST = 1 << 0
SOCKMAP_ATTACH_TYPES = {
    "sk_skb/stream_parser": 4,
    "sk_skb/stream_verdict": 5,
    "sk_msg": 7,
    "sk_skb/verdict": 38,
    "sk_skb": 38,
}
"""Section -> `enum bpf_attach_type`, for maps of sockets."""
TC_POINTS = {"ingress": 1 << 0, "egress": 1 << 1}
"""`enum bpf_tc_attach_point`."""

TRACEFS = ("/sys/kernel/tracing/events", "/sys/kernel/debug/tracing/events")
LOG_LINES = 8
"""Lines of libbpf's that an attach error's message holds."""


class TestRun:
    """What a program did with a test input."""

    __slots__ = ("context", "data", "duration", "result")

    def __init__(self, *, result: int, data: bytes, context: bytes, duration: int) -> None:
        self.result = result
        """The program's return value, as an unsigned 32-bit number."""
        self.data = data
        """The packet as the program left it."""
        self.context = context
        """The context as the program left it."""
        self.duration = duration
        """Average time of a run, in nanoseconds."""

    def __repr__(self) -> str:
        return f"TestRun(result={self.result}, duration={self.duration})"


class Program:
    """A program of a loaded object."""

    def __init__(
        self,
        libbpf: Libbpf,
        pointer: int,
        name: str,
        section: str,
        *,
        links: list[Link],
        lock: AbstractContextManager[Any],
    ) -> None:
        self._libbpf = libbpf
        self._pointer = pointer
        self._lock = lock
        """Held while libbpf works on the program, so that no other thread closes the object meanwhile."""
        self._links = links
        self.name = name
        self.section = section
        """Its ELF section's name, which tells libbpf its type and where to attach it."""
        self.loaded: bool = bool(libbpf.bpf_program__autoload(pointer))
        """False where it was left out of the load."""

    @property
    def fd(self) -> int:
        """The program's file descriptor, which stays libbpf's."""
        with self._lock:
            return int(self._libbpf.bpf_program__fd(self._live()))

    def __repr__(self) -> str:
        return f"<program {self.name}, SEC({self.section!r})>"

    def attach(self) -> Link:
        """Attach where the section name says."""
        return self._attach(f"what SEC({self.section!r}) says", lambda: self._libbpf.bpf_program__attach(self._live()))

    def attach_cgroup(self, path: Union[str, os.PathLike[str]]) -> Link:
        """Attach to a cgroup (version 2), by its folder."""
        where = os.fspath(path)
        try:
            fd = os.open(where, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise AttachError(
                f"program {self.name} can't be attached to cgroup {where}: {error.strerror}", errno=error.errno or 0
            ) from error
        try:
            return self._attach(f"cgroup {where}", lambda: self._libbpf.bpf_program__attach_cgroup(self._live(), fd))
        finally:
            os.close(fd)

    def attach_tracepoint(self, category: str, name: str, *, cookie: int = 0) -> Link:
        """Attach to a tracepoint, `attach_tracepoint("syscalls", "sys_enter_openat")`."""
        attach = self._libbpf.bpf_program__attach_tracepoint_opts
        options = opts(CookieOpts, cookie=cookie)
        return self._attach(
            f"tracepoint {category}:{name}",
            lambda: attach(self._live(), category.encode(), name.encode(), byref(options)),
        )

    def attach_raw_tracepoint(self, name: str) -> Link:
        """Attach to a raw tracepoint, `attach_raw_tracepoint("sched_switch")`."""
        attach = self._libbpf.bpf_program__attach_raw_tracepoint
        return self._attach(f"raw tracepoint {name}", lambda: attach(self._live(), name.encode()))

    def attach_kprobe(self, function: str, *, offset: int = 0, retprobe: bool = False, cookie: int = 0) -> Link:
        """Attach to a kernel function, at its entry or `offset` bytes in; with `retprobe` where it returns."""
        attach = self._libbpf.bpf_program__attach_kprobe_opts
        options = opts(KprobeOpts, bpf_cookie=cookie, offset=offset, retprobe=retprobe)
        kind = "kretprobe" if retprobe else "kprobe"
        return self._attach(
            f"{kind} {function}+{offset:#x}", lambda: attach(self._live(), function.encode(), byref(options))
        )

    def attach_ksyscall(self, syscall: str, *, retprobe: bool = False, cookie: int = 0) -> Link:
        """Attach to a system call's handler, whatever this architecture names it."""
        attach = self._libbpf.bpf_program__attach_ksyscall
        options = opts(KsyscallOpts, bpf_cookie=cookie, retprobe=retprobe)
        return self._attach(f"system call {syscall}", lambda: attach(self._live(), syscall.encode(), byref(options)))

    def attach_uprobe(
        self,
        binary: Union[str, os.PathLike[str]],
        function: str = "",
        *,
        offset: int = 0,
        retprobe: bool = False,
        pid: int = -1,
        cookie: int = 0,
    ) -> Link:
        """Attach to a function of a program or library in user space; `pid` limits it to a process (0: this one)."""
        attach = self._libbpf.bpf_program__attach_uprobe_opts
        path = os.fspath(binary)
        options = opts(UprobeOpts, bpf_cookie=cookie, retprobe=retprobe, func_name=function.encode() or None)
        return self._attach(
            f"{'uretprobe' if retprobe else 'uprobe'} {path}:{function}+{offset:#x}",
            lambda: attach(self._live(), pid, path.encode(), offset, byref(options)),
        )

    def attach_usdt(
        self, binary: Union[str, os.PathLike[str]], provider: str, name: str, *, pid: int = -1, cookie: int = 0
    ) -> Link:
        """Attach to a statically defined probe of a program in user space."""
        attach = self._libbpf.bpf_program__attach_usdt
        path = os.fspath(binary)
        options = opts(CookieOpts, cookie=cookie)
        return self._attach(
            f"USDT {path}:{provider}:{name}",
            lambda: attach(self._live(), pid, path.encode(), provider.encode(), name.encode(), byref(options)),
        )

    def attach_perf_event(self, fd: int, *, cookie: int = 0) -> Link:
        """Attach to a perf event, by its descriptor, which the link then owns."""
        attach = self._libbpf.bpf_program__attach_perf_event_opts
        options = opts(CookieOpts, cookie=cookie)
        return self._attach(f"perf event {fd}", lambda: attach(self._live(), fd, byref(options)))

    def attach_kprobe_multi(self, pattern: str = "", *, functions: Sequence[str] = (), retprobe: bool = False) -> Link:
        """Attach to many kernel functions at once: those a pattern with `*` and `?` fits, or those named."""
        attach = self._libbpf.bpf_program__attach_kprobe_multi_opts
        options = opts(KprobeMultiOpts, retprobe=retprobe)
        if functions:
            options.syms = (ctypes.c_char_p * len(functions))(*(name.encode() for name in functions))
            options.cnt = len(functions)
        return self._attach(
            f"kernel functions {pattern or ', '.join(functions)}",
            lambda: attach(self._live(), pattern.encode() or None, byref(options)),
        )

    def attach_sampling(self, frequency: int, *, cpus: Optional[Sequence[int]] = None, pid: int = -1) -> list[Link]:
        """Run a perf_event program so many times a second on each CPU, or on some; `pid` limits it to a process."""
        links: list[Link] = []
        try:
            for cpu in cpus if cpus is not None else online_cpus():
                fd = _open_cpu_clock(frequency, cpu=cpu, pid=pid)
                if fd < 0:
                    raise self._failed(f"the clock of CPU {cpu}", ctypes.get_errno(), [])
                try:
                    links.append(self.attach_perf_event(fd))
                except BaseException:
                    os.close(fd)
                    raise
        except BaseException:
            for link in reversed(links):
                link.detach()
            raise
        return links

    def attach_tcx(self, interface: Union[str, int]) -> Link:
        """Attach to an interface's tcx hook (Linux 6.6, libbpf 1.3); the direction is the section's."""
        attach = self._libbpf.bpf_program__attach_tcx
        index, target = self._interface(interface)
        options = opts(TcxOpts)
        return self._attach(f"{target} (tcx)", lambda: attach(self._live(), index, byref(options)))

    def attach_netfilter(self, *, family: int, hook: int, priority: int) -> Link:
        """Attach to a netfilter hook (Linux 6.4, libbpf 1.3): `NFPROTO_*`, `NF_INET_*` and a priority."""
        attach = self._libbpf.bpf_program__attach_netfilter
        options = opts(NetfilterOpts, pf=family, hooknum=hook, priority=priority)
        return self._attach(f"netfilter hook {hook}", lambda: attach(self._live(), byref(options)))

    def attach_sockmap(self, sockets: Map) -> Link:
        """Attach an sk_skb or sk_msg program to a sockmap or sockhash; what it is for, its section says."""
        kind = self.section.lstrip("?")
        if kind not in SOCKMAP_ATTACH_TYPES:
            raise ValueError(f"SEC({self.section!r}) is none of {', '.join(SOCKMAP_ATTACH_TYPES)}")
        attach_type = SOCKMAP_ATTACH_TYPES[kind]
        if self._libbpf.bpf_prog_attach(self.fd, sockets.fd, attach_type, 0):
            raise self._failed(f"map {sockets.name}", ctypes.get_errno(), [])
        return self._add(MapLink(self, f"map {sockets.name}", sockets, attach_type))

    def attach_netns(self, path: Union[str, os.PathLike[str]] = "/proc/self/ns/net") -> Link:
        """Attach to a network namespace (sk_lookup, flow_dissector), by its file; this process's own by default."""
        where = os.fspath(path)
        try:
            fd = os.open(where, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise AttachError(
                f"program {self.name} can't be attached to {where}: {error.strerror}", errno=error.errno or 0
            ) from error
        try:
            return self._attach(
                f"network namespace {where}", lambda: self._libbpf.bpf_program__attach_netns(self._live(), fd)
            )
        finally:
            os.close(fd)

    def attach_xdp(self, interface: Union[str, int], *, mode: str = "auto") -> Link:
        """Attach to a network interface, by name or index. `mode`: auto, skb (generic), driver or hardware."""
        if mode not in XDP_MODES:
            raise ValueError(f"mode must be one of {', '.join(XDP_MODES)} (got {mode!r})")
        index, target = self._interface(interface)
        options = opts(LinkCreateOpts, flags=XDP_MODES[mode])
        fd = self._libbpf.bpf_link_create(self.fd, index, BPF_XDP, byref(options))
        if fd >= 0:
            return self._add(FdLink(self, f"{target} (XDP)", fd))
        code = ctypes.get_errno()
        if code == errno.EINVAL and self._libbpf.has("bpf_xdp_attach"):
            # kernels before 5.9 know no links for XDP
            flags = XDP_MODES[mode] | XDP_FLAGS_UPDATE_IF_NOEXIST
            if self._libbpf.bpf_xdp_attach(index, self.fd, flags, None) >= 0:
                return self._add(XdpLink(self, f"{target} (XDP)", ifindex=index, flags=XDP_MODES[mode]))
            code = ctypes.get_errno()
        hint = "another XDP program is attached there" if code in (errno.EBUSY, errno.EEXIST) else ""
        raise self._failed(f"{target} (XDP)", code, [hint] if hint else [])

    def attach_tc(
        self, interface: Union[str, int], direction: str = "ingress", *, handle: int = 0, priority: int = 0
    ) -> TcLink:
        """Attach as a direct-action tc filter, at `ingress` or `egress`; 0 lets the kernel choose."""
        if direction not in TC_POINTS:
            raise ValueError(f"direction must be one of {', '.join(TC_POINTS)} (got {direction!r})")
        index, target = self._interface(interface)
        target = f"{target} (tc {direction})"
        hook = opts(TcHook, ifindex=index, attach_point=TC_POINTS[direction])
        options = opts(TcOpts, prog_fd=self.fd, handle=handle, priority=priority)
        with Capture(self._libbpf) as lines:
            created = self._libbpf.bpf_tc_hook_create(byref(hook))
            if created < 0 and ctypes.get_errno() != errno.EEXIST:
                raise self._failed(target, ctypes.get_errno(), lines)
            if self._libbpf.bpf_tc_attach(byref(hook), byref(options)) < 0:
                raise self._failed(target, ctypes.get_errno(), lines)
        return self._add(TcLink(self, target, hook, handle=options.handle, priority=options.priority))

    def attach_iter(self) -> Link:
        """Attach an iterator; `read_iter()` then runs it."""
        return self._attach("iterator", lambda: self._libbpf.bpf_program__attach_iter(self._live(), None))

    def read_iter(self) -> str:
        """Run an iterator program once, and return the text it wrote."""
        with self.attach_iter() as link:
            fd = self._libbpf.bpf_iter_create(link.fd)
            if fd < 0:
                raise self._failed("iterator", ctypes.get_errno(), [])
            with os.fdopen(fd, encoding="utf-8", errors="backslashreplace") as file:
                return file.read()

    def test_run(self, data: bytes = b"", *, context: bytes = b"", repeat: int = 1, flags: int = 0) -> TestRun:
        """Run the program on a packet or a context, without attaching it (BPF_PROG_TEST_RUN)."""
        room = len(data) + 256  # the program may grow the packet
        data_out, context_out = ctypes.create_string_buffer(room), ctypes.create_string_buffer(max(len(context), 1))
        options: Any = opts(
            TestRunOpts,
            data_in=ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p) if data else None,
            data_out=ctypes.addressof(data_out) if data else None,
            data_size_in=len(data),
            data_size_out=room if data else 0,
            ctx_in=ctypes.cast(ctypes.c_char_p(context), ctypes.c_void_p) if context else None,
            ctx_out=ctypes.addressof(context_out) if context else None,
            ctx_size_in=len(context),
            ctx_size_out=len(context),
            repeat=repeat,
            flags=flags,
        )
        if self._libbpf.bpf_prog_test_run_opts(self.fd, byref(options)) < 0:
            code = ctypes.get_errno()
            raise AttachError(f"program {self.name} can't be test-run: {reason(code)}", errno=code)
        return TestRun(
            result=options.retval,
            data=data_out.raw[: options.data_size_out],
            context=context_out.raw[: options.ctx_size_out],
            duration=options.duration,
        )

    def _attach(self, target: str, attach: Callable[[], Optional[int]]) -> Link:
        with self._lock, Capture(self._libbpf) as lines:
            pointer = self._libbpf.pointer(attach())
            code = ctypes.get_errno()
            if not pointer:
                raise self._failed(target, code, lines)
            return self._add(LibbpfLink(self, target, pointer))

    def _add(self, link: LinkT) -> LinkT:
        self._links.append(link)
        return link

    def _forget(self, link: Link) -> None:
        with self._lock:
            if link in self._links:
                self._links.remove(link)

    def _failed(self, target: str, code: int, lines: list[str]) -> Exception:
        what = f"program {self.name} can't be attached to {target}"
        if code == errno.EPERM:
            return permission_denied(what, errno=code, lines=lines)
        message = f"{what}: {reason(code)}"
        if code == errno.EOPNOTSUPP and not lines:
            message += "; use the attach_ method for its kind and say where to"
        if lines:
            message += "\n" + tail(lines, LOG_LINES)
        if code == errno.ENOENT and not any(map(os.path.isdir, TRACEFS)):
            message += (
                "\n  tracefs is not mounted, which names tracepoints: mount -t tracefs tracefs /sys/kernel/tracing"
            )
        return AttachError(message, errno=code)

    def _interface(self, interface: Union[str, int]) -> tuple[int, str]:
        import socket

        if isinstance(interface, int):
            return interface, f"interface {interface}"
        try:
            return socket.if_nametoindex(interface), f"interface {interface}"
        except OSError as error:
            raise AttachError(
                f"program {self.name} can't be attached to interface {interface}: there is none of that name",
                errno=errno.ENODEV,
            ) from error

    def _live(self) -> int:
        if not self._pointer:
            raise ClosedError(f"program {self.name}: the skeleton is closed")
        if not self.loaded:
            raise ClosedError(f"program {self.name} was left out of the load (autoload is off)")
        return self._pointer

    def _close(self) -> None:
        self._pointer = 0


def online_cpus() -> list[int]:
    """Numbers of the CPUs that are on."""
    with open("/sys/devices/system/cpu/online", "rb") as file:
        ranges = [part.split("-") for part in file.read().decode().strip().split(",")]
    return [cpu for ends in ranges for cpu in range(int(ends[0]), int(ends[-1]) + 1)]


class _PerfEventAttr(ctypes.Structure):
    """The first 64 bytes of `struct perf_event_attr`, as PERF_ATTR_SIZE_VER0 has them."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
        ("config", ctypes.c_uint64),
        ("sample_freq", ctypes.c_uint64),
        ("sample_type", ctypes.c_uint64),
        ("read_format", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
        ("wakeup_events", ctypes.c_uint32),
        ("bp_type", ctypes.c_uint32),
        ("config1", ctypes.c_uint64),
    )


PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CPU_CLOCK = 1, 0
_FREQ = 1 << 10
"""Bit `freq` of the attribute's flags."""
PERF_FLAG_FD_CLOEXEC = 1 << 3
PERF_EVENT_OPEN = {
    "x86_64": 298,
    "amd64": 298,
    "aarch64": 241,
    "arm64": 241,
    "riscv64": 241,
    "loongarch64": 241,
    "s390x": 331,
    "ppc64le": 319,
    "i686": 336,
    "i386": 336,
    "armv7l": 364,
    "armv6l": 364,
    "armhf": 364,
}
"""Number of the system call perf_event_open, by `uname -m`: libc has no function for it."""


def _open_cpu_clock(frequency: int, *, cpu: int, pid: int) -> int:
    attributes = _PerfEventAttr(
        type=PERF_TYPE_SOFTWARE, config=PERF_COUNT_SW_CPU_CLOCK, sample_freq=frequency, flags=_FREQ
    )
    attributes.size = ctypes.sizeof(attributes)
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    syscall.restype = ctypes.c_long
    syscall.argtypes = (ctypes.c_long, ctypes.c_void_p, *[ctypes.c_int] * 3, ctypes.c_ulong)
    number = PERF_EVENT_OPEN[os.uname().machine]
    return int(syscall(number, byref(attributes), pid, cpu, -1, PERF_FLAG_FD_CLOEXEC))


def says_no_target(error: BpfError, libbpf: Libbpf) -> bool:
    """Whether an `attach()` failed because the section name does not tell where to."""
    return error.errno == errno.EOPNOTSUPP or (libbpf.version < (0, 8) and error.errno == errno.ESRCH)


class Programs(Members):
    """The programs of a skeleton, as attributes; also by their names in C: `programs["handle_exit"]`."""

    def __repr__(self) -> str:
        return f"<programs {', '.join(self._by_name)}>"
