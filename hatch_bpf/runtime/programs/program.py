"""Loaded programs: attach them, run them once. Input: libbpf's program. Output: `Link`s and `TestRun`s.

`attach()` uses the section name, as libbpf does; the `attach_*` methods take the target.
"""

from __future__ import annotations

import ctypes
import errno
import os
from ctypes import byref

from ..arguments import c_string, choice, elements, path_argument
from ..descriptor import descriptor_of, open_descriptor, own_descriptor
from ..errors import AttachError, ClosedError, InvalidTypeError, InvalidValueError, failed, reason
from ..events.perf_events import event_config, event_hint, online_cpus, open_sampled, threads_of
from ..host.mounts import no_cgroup2, why_not_pinned
from ..libbpf.library import (
    CookieOpts,
    IterOpts,
    KprobeMultiOpts,
    KprobeOpts,
    KsyscallOpts,
    NetfilterOpts,
    TcHook,
    UprobeMultiOpts,
    UprobeOpts,
    opts,
)
from ..members import Members
from ..sections import ATTACH_TYPES, Target, parse_section
from ..types import BOOL, S32, U16, U32, U64, as_bytes, as_int, named, shown, size_of
from . import iterators, testrun
from .attaching import Attachable, NoTargetError
from .interfaces import TC_POINTS, XDP_MODES, find_interface
from .links import BPF_F_ALLOW_MULTI, FdLink, Link, PerfEventLink, PlainLink, TcLink, XdpLink

TYPE_CHECKING = False
if TYPE_CHECKING:
    import io
    from collections.abc import Iterator, Sequence
    from typing import Any, Optional, Union

    from ..events.perf_events import Event
    from ..libbpf.library import Libbpf
    from ..maps.map import Map
    from ..system.objects import ProgramInfo
    from ..types import StructT
    from .links import Links
    from .testrun import TestRun

CGROUP_TYPES = (
    *("CGROUP_SKB", "CGROUP_SOCK", "CGROUP_SOCK_ADDR", "CGROUP_SOCKOPT", "CGROUP_SYSCTL", "CGROUP_DEVICE", "SOCK_OPS"),
    "LSM",
)
"""Types of the programs that can be attached to cgroups."""
SHOWN_USDTS = 30
"""How many USDTs an error lists."""
ITERATED = {"bpf_map_elem": "map", "bpf_sk_storage_map": "map", "cgroup": "cgroup"}
"""Iterators that need something to iterate over: the name in their section -> the argument that takes it."""
CGROUP_ORDERS = {"self_only": 1, "descendants_pre": 2, "descendants_post": 3, "ancestors_up": 4}
"""`enum bpf_cgroup_iter_order`."""


class Program(Attachable):
    """A program of a loaded object."""

    def __init__(self, libbpf: Libbpf, pointer: int, name: str, section: str, *, links: Links) -> None:
        self._libbpf = libbpf
        self._pointer = pointer
        self._fd = -1
        self._links = links
        self.name = name
        self.section = section
        """Name of its ELF section, from which libbpf takes its type and target."""
        self.loaded: bool = bool(libbpf.bpf_program__autoload(pointer))
        """False if it was left out of the load."""

    @property
    def fd(self) -> int:
        """Its file descriptor, which stays the program's. Raises `ClosedError` after the skeleton was closed."""
        with self._links.lock:
            pointer = self._live()
            if self._fd < 0:
                self._fd = own_descriptor(f"program {self.name}", self._libbpf.bpf_program__fd(pointer))
            return self._fd

    def __repr__(self) -> str:
        return f"<program {self.name}, SEC({self.section!r})>"

    def info(self) -> ProgramInfo:
        """What the kernel says about the program: its id, its size, how often it ran (`count_runs()`), and more."""
        from ..system.objects import program_info

        return program_info(self._libbpf, self.fd)

    def pin(self, path: Union[str, os.PathLike[str]]) -> None:
        """Pin the program to a path in a BPF file system. It stays loaded until the file is removed.

        Only a pinned link keeps it attached. `PinnedProgram(path)` opens it again.
        """
        fd = self.fd
        if self._libbpf.bpf_obj_pin(fd, c_string("path", path, "a path")):
            code = ctypes.get_errno()
            detail = why_not_pinned(path, code) or reason(code)
            raise AttachError(f"program {self.name} can't be pinned to {os.fspath(path)}: {detail}", errno=code)

    def attach(self) -> Link:
        """Attach to the target in the section name."""
        section = parse_section(self.section)
        if section is not None and section.target_kind == Target.ITERATOR and section.target in ITERATED:
            option = ITERATED[section.target]
            raise NoTargetError(
                f"program {self.name}: SEC({self.section!r}) does not name what to iterate over; "
                f"use read_iter({option}=...) or attach_iter({option}=...)",
                errno=errno.EOPNOTSUPP,
            )
        if section is not None and section.target_kind == Target.BPF_PROGRAM:
            return self._replace()
        kind, _, target = self.section.lstrip("?").partition("/")
        binary, _, function = target.partition(":")
        if function and kind.startswith(("uprobe", "uretprobe")) and ".session" not in kind:
            return self._attach_uprobes(kind, binary, function)
        return self._attach(
            f"the target of SEC({self.section!r})",
            "bpf_program__attach",
            hint=lambda code: _usdt_hint(binary, code) if kind.startswith("usdt") else "",
        )

    def _attach_uprobes(self, kind: str, binary: str, function: str) -> Link:
        """Attach as SEC("KIND/BINARY:FUNCTION") says, also to functions that only a separate debug file knows."""
        retprobe = kind.startswith("uretprobe")
        if ".multi" in kind:
            return self.attach_uprobe_multi(binary, function, retprobe=retprobe)
        name, offset = _function_and_offset(function)
        return self.attach_uprobe(binary, name, offset=offset, retprobe=retprobe)

    def _replace(self) -> Link:
        """Replace the function that was named before the load."""
        target = f"the target of SEC({self.section!r})"
        try:
            return self._attach(target, "bpf_program__attach")
        except AttachError as error:
            if error.errno != errno.EINVAL:
                raise
        # Linux before 5.10: for fentry and the like libbpf makes this call itself, but not for these programs
        link = FdLink(self, target)
        return self._make(link, lambda: link.attach(self._libbpf.bpf_raw_tracepoint_open, None, self.fd))

    def attach_cgroup(self, path: Union[str, os.PathLike[str]]) -> Link:
        """Attach to a cgroup (version 2), by its folder."""
        fd, target = self._open_cgroup(path), f"cgroup {os.fspath(path)}"
        section = parse_section(self.section)

        def hint(code: int) -> str:
            return no_cgroup2(path) if code == errno.EBADF else ""

        try:
            return self._attach(target, "bpf_program__attach_cgroup", fd, takes=CGROUP_TYPES, hint=hint)
        except AttachError as error:
            if error.errno != errno.EINVAL or section is None or section.attach_type not in ATTACH_TYPES:
                raise
        # kernels before 5.7 have no links for cgroups
        link, attach_type = PlainLink(self, target, takes=CGROUP_TYPES, hint=hint), section.attach_type
        return self._make(link, lambda: link.attach(fd, attach_type, BPF_F_ALLOW_MULTI))

    def attach_tracepoint(self, category: str, name: str, *, cookie: int = 0) -> Link:
        """Attach to a tracepoint, `attach_tracepoint("syscalls", "sys_enter_openat")`."""
        names = c_string("category", category), c_string("name", name)
        target, options = f"tracepoint {category}:{name}", byref(opts(CookieOpts, cookie=cookie))
        return self._attach(target, "bpf_program__attach_tracepoint_opts", *names, options, takes=("TRACEPOINT",))

    def attach_raw_tracepoint(self, name: str) -> Link:
        """Attach to a raw tracepoint, `attach_raw_tracepoint("sched_switch")`."""
        takes, text = ("RAW_TRACEPOINT", "RAW_TRACEPOINT_WRITABLE", "TRACING"), c_string("name", name)
        return self._attach(f"raw tracepoint {name}", "bpf_program__attach_raw_tracepoint", text, takes=takes)

    def attach_kprobe(self, function: str, *, offset: int = 0, retprobe: bool = False, cookie: int = 0) -> Link:
        """Attach to a kernel function: at its entry, `offset` bytes behind it, or with `retprobe` at its return."""
        name = c_string("function", function)
        options = byref(opts(KprobeOpts, bpf_cookie=cookie, offset=offset, retprobe=retprobe))
        target = f"{'kretprobe' if retprobe else 'kprobe'} {function}+{offset:#x}"
        return self._attach(target, "bpf_program__attach_kprobe_opts", name, options, takes=("KPROBE",))

    def attach_ksyscall(self, syscall: str, *, retprobe: bool = False, cookie: int = 0) -> Link:
        """Attach to the handler of a system call, whatever its name is on this architecture."""
        options, name = byref(opts(KsyscallOpts, bpf_cookie=cookie, retprobe=retprobe)), c_string("syscall", syscall)
        return self._attach(f"system call {syscall}", "bpf_program__attach_ksyscall", name, options, takes=("KPROBE",))

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
        """Attach to a function of a program or library in user space, or with `offset` alone to a place in its file.

        A function that was stripped is found in a separate debug file. `pid` limits it to a process (0: this one).
        """
        if function:
            self._libbpf.require((0, 8), "finding a function by its name")
        path, name = path_argument("binary", binary), c_string("function", function)
        pid, offset = named("pid", S32.put, pid), named("offset", U64.put, offset)
        target = f"{'uretprobe' if retprobe else 'uprobe'} {path}:{function}+{offset:#x}"
        options = opts(UprobeOpts, bpf_cookie=cookie, retprobe=retprobe, func_name=name or None)
        try:
            return self._attach_uprobe(target, pid, path, offset, options)
        except AttachError as error:
            found = _stripped_functions(path, function) if function and error.errno == errno.ENOENT else []
            if len(found) != 1:
                raise
        from .elfsyms import full_path

        options.func_name = None
        return self._attach_uprobe(target, pid, full_path(path), found[0] + offset, options)

    def _attach_uprobe(self, target: str, pid: int, path: str, offset: int, options: Any) -> Link:
        where = pid, os.fsencode(path), offset
        return self._attach(target, "bpf_program__attach_uprobe_opts", *where, byref(options), takes=("KPROBE",))

    def attach_uprobe_multi(
        self,
        binary: Union[str, os.PathLike[str]],
        pattern: str = "",
        *,
        functions: Sequence[str] = (),
        retprobe: bool = False,
        pid: int = -1,
        cookies: Sequence[int] = (),
    ) -> Link:
        """Attach to many functions of a program or library at once (Linux 6.6, libbpf 1.3).

        Give a pattern with `*` and `?`, or a list of names; `cookies` may have one number for each name. `pid` limits
        it to a process (0: this one). Functions that were stripped are found in a separate debug file. The program's
        section is `uprobe.multi`.
        """
        from .elfsyms import full_path, function_offsets

        path, wanted, names = path_argument("binary", binary), c_string("pattern", pattern), self._names(functions)
        target = f"{'uretprobes' if retprobe else 'uprobes'} {path}:{pattern or ', '.join(names)}"
        options = opts(UprobeMultiOpts, retprobe=retprobe, cookies=self._cookies(cookies, names))
        offsets: Sequence[int] = ()
        if names:
            try:
                offsets = function_offsets(full_path(path), names)
            except (OSError, ValueError) as error:
                raise AttachError(f"program {self.name} can't be attached to {target}: {error}") from error
        elif pattern:
            offsets = _stripped_functions(path, pattern)
            wanted = b"" if offsets else wanted
        if offsets:
            options.offsets, options.cnt = (ctypes.c_ulong * len(offsets))(*offsets), len(offsets)
            path = full_path(path)  # with offsets, libbpf looks for a short name nowhere
        where = named("pid", S32.put, pid) or os.getpid(), os.fsencode(path), wanted or None
        return self._attach(target, "bpf_program__attach_uprobe_multi", *where, byref(options), takes=("KPROBE",))

    def attach_usdt(
        self, binary: Union[str, os.PathLike[str]], provider: str, name: str, *, pid: int = -1, cookie: int = 0
    ) -> Link:
        """Attach to a USDT, a probe that a program in user space defines."""
        path = path_argument("binary", binary)
        options, names = opts(CookieOpts, cookie=cookie), (c_string("provider", provider), c_string("name", name))
        return self._attach(
            f"USDT {path}:{provider}:{name}",
            "bpf_program__attach_usdt",
            named("pid", S32.put, pid),
            os.fsencode(path),
            *names,
            byref(options),
            takes=("KPROBE",),
            hint=lambda code: _usdt_hint(path, code),
        )

    def attach_freplace(self, program: Program, function: str) -> Link:
        """Replace a global function of another BPF program, which must have the same arguments.

        Before the load, `set_attach_target()` names the first such function, and `attach()` attaches to it.
        """
        fd, name = named("program", descriptor_of, program), c_string("function", function)
        target = f"function {function} of program {getattr(program, 'name', program)}"
        return self._attach(target, "bpf_program__attach_freplace", fd, name, takes=("EXT",))

    def attach_perf_event(self, fd: int, *, cookie: int = 0) -> Link:
        """Attach to a perf event, by its descriptor. The link then owns the descriptor, and closes it."""
        options, fd = byref(opts(CookieOpts, cookie=cookie)), named("fd", S32.put, fd)
        return self._attach(f"perf event {fd}", "bpf_program__attach_perf_event_opts", fd, options)

    def attach_kprobe_multi(
        self,
        pattern: str = "",
        *,
        functions: Sequence[str] = (),
        retprobe: bool = False,
        session: bool = False,
        cookies: Sequence[int] = (),
    ) -> Link:
        """Attach to many kernel functions at once: those that match a pattern with `*` and `?`, or a list of names.

        `cookies` may have one number for each name. The section is `kprobe.multi`. With `session` it is
        `kprobe.session`, and the program runs at the entry and, if it returned 0 there, where the function returns
        (Linux 6.10, libbpf 1.5).
        """
        if session:
            self._libbpf.require((1, 5), "a session of entry and return")
        wanted, names = c_string("pattern", pattern), self._names(functions)
        options = opts(KprobeMultiOpts, retprobe=retprobe, session=session, cookies=self._cookies(cookies, names))
        if names:
            options.syms, options.cnt = (ctypes.c_char_p * len(names))(*map(os.fsencode, names)), len(names)
        target, attach = f"kernel functions {pattern or ', '.join(names)}", "bpf_program__attach_kprobe_multi_opts"
        return self._attach(target, attach, wanted or None, byref(options), takes=("KPROBE",))

    def attach_sampling(
        self,
        frequency: int = 0,
        *,
        period: int = 0,
        event: Event = "cpu-clock",
        cpus: Optional[Sequence[int]] = None,
        pid: int = -1,
    ) -> list[Link]:
        """Run a perf_event program `frequency` times a second on each CPU, or on some.

        With `period` it runs instead each time the event has happened that many times. Events have the names that
        `perf list` shows: `cycles`, `cache-misses`, `page-faults`, `LLC-load-misses`; or give their type and config.

        `pid` limits it to the threads of a process (0: this one) and to those that they start. It then runs
        `frequency` times per second that a thread spends on a CPU.
        """
        frequency, period = named("frequency", as_int, frequency), named("period", as_int, period)
        pid, config = named("pid", S32.put, pid), event_config(event)
        if (period or frequency) < 1 or (frequency and period):
            what = f"{shown(frequency)} Hz and a period of {shown(period)}"
            raise AttachError(f"program {self.name} can't sample with {what}: give one of them, 1 is the least")
        named("frequency or period", U64.put, frequency or period)
        threads = [-1] if pid < 0 else threads_of(pid or os.getpid())
        numbers = (online_cpus() if pid < 0 else [-1]) if cpus is None else elements("cpus", cpus)
        numbers = [named(f"cpus[{at}]", S32.put, cpu) for at, cpu in enumerate(numbers)]
        if not numbers:
            raise InvalidValueError(f"program {self.name}: cpus names no CPU to sample")
        links: list[Link] = []
        try:
            for tid in threads:
                for cpu in numbers:
                    links += self._sample(event, config, frequency, period, cpu=cpu, tid=tid)
        except BaseException:
            for link in reversed(links):
                link.detach()
            raise
        if not links:
            raise failed(AttachError, f"program {self.name} can't be attached to process {pid}", errno.ESRCH)
        return links

    def _sample(
        self, event: Event, config: tuple[int, int], frequency: int, period: int, *, cpu: int, tid: int
    ) -> Iterator[Link]:
        """A link to an event of a CPU or a thread; none if the thread has ended."""
        where = f"{event} of {f'CPU {cpu}' if cpu >= 0 else f'thread {tid}'}"
        link = PerfEventLink(self, where, takes=("PERF_EVENT",), hint=lambda code: event_hint(event, code, frequency))
        opened = open_sampled(config, frequency=frequency, period=period, cpu=cpu, tid=tid)
        if opened >= 0:
            yield self._make(link, lambda: link.attach_event(opened))
        elif tid < 0 or ctypes.get_errno() != errno.ESRCH:
            raise self._failed(link, ctypes.get_errno(), [])

    def attach_tcx(self, interface: Union[str, int]) -> Link:
        """Attach to an interface's tcx hook (Linux 6.6, libbpf 1.3). The section names the direction."""
        index, target = self._interface(interface)
        return self._attach(f"{target} (tcx)", "bpf_program__attach_tcx", index, None, takes=("SCHED_CLS",))

    def attach_netkit(self, interface: Union[str, int]) -> Link:
        """Attach to a netkit device, by its primary end (Linux 6.7, libbpf 1.3). The section names the end."""
        index, target = self._interface(interface)
        return self._attach(f"{target} (netkit)", "bpf_program__attach_netkit", index, None, takes=("SCHED_CLS",))

    def attach_netfilter(self, *, family: int, hook: int, priority: int) -> Link:
        """Attach to a netfilter hook (Linux 6.4, libbpf 1.3): `NFPROTO_*`, `NF_INET_*` and a priority."""
        options = byref(opts(NetfilterOpts, pf=family, hooknum=hook, priority=priority))
        return self._attach(f"netfilter hook {hook}", "bpf_program__attach_netfilter", options, takes=("NETFILTER",))

    def attach_sockmap(self, sockets: Map) -> Link:
        """Attach an sk_skb or sk_msg program to a sockmap or sockhash. Its section names the hook."""
        section = parse_section(self.section)
        if section is None or section.program_type not in ("SK_MSG", "SK_SKB"):
            raise InvalidValueError(
                f"program {self.name}: SEC({self.section!r}) is neither an sk_skb nor an sk_msg section"
            )
        attach_type = section.attach_type or "BPF_SK_SKB_VERDICT"
        fd, target = named("sockets", descriptor_of, sockets), f"map {getattr(sockets, 'name', sockets)}"
        link = PlainLink(self, target, takes=("SK_MSG", "SK_SKB"))
        return self._make(link, lambda: link.attach(fd, attach_type))

    def attach_netns(self, path: Union[str, os.PathLike[str]] = "/proc/self/ns/net") -> Link:
        """Attach to a network namespace (sk_lookup, flow_dissector), by its file; the default is this process's own."""
        where = path_argument("path", path)
        fd = self._opened(where, where, os.O_RDONLY)
        takes = ("SK_LOOKUP", "FLOW_DISSECTOR")
        return self._attach(f"network namespace {where}", "bpf_program__attach_netns", fd, takes=takes)

    def attach_xdp(self, interface: Union[str, int], *, mode: str = "auto", replace: bool = False) -> Link:
        """Attach to a network interface, by name or index. `mode`: auto, skb (generic), driver or hardware.

        `replace` replaces, in one step, a program that was attached without a link, as `ip link set xdp` does. This
        program then has no kernel link either.
        """
        flags = choice(f"program {self.name}: mode", mode, XDP_MODES)
        index, where = self._interface(interface)
        target = f"{where} (XDP)"
        if not named("replace", BOOL.put, replace):
            by_link = FdLink(self, target, takes=("XDP",), hint=_xdp_hint)
            try:
                return self._make(by_link, lambda: by_link.create(index, "BPF_XDP", flags))
            except AttachError as error:
                # kernels before 5.9 have no links for XDP
                if error.errno != errno.EINVAL or not self._libbpf.has("bpf_xdp_attach"):
                    raise
        link = XdpLink(self, target, takes=("XDP",), hint=_xdp_hint)
        return self._make(link, lambda: link.attach(ifindex=index, flags=flags, only_if_free=not replace))

    def attach_tc(
        self,
        interface: Union[str, int],
        direction: str = "ingress",
        *,
        handle: int = 0,
        priority: int = 0,
        replace: bool = False,
    ) -> TcLink:
        """Attach as a direct-action tc filter, at `ingress` or `egress`. For 0 the kernel chooses a number.

        A filter outlives a process that is killed. `replace` puts this one, in one step, in the place of the filter
        with the same handle and priority, if there is one; 0 means 1 then, so that runs replace each other.
        """
        point = choice(f"program {self.name}: direction", direction, TC_POINTS)
        handle, priority = named("handle", U32.put, handle), named("priority", U16.put, priority)
        replace = named("replace", BOOL.put, replace)
        index, target = self._interface(interface)
        target = f"{target} (tc {direction})"
        link = TcLink(self, target, opts(TcHook, ifindex=index, attach_point=point))
        return self._make(
            link,
            lambda: link.attach(handle=handle or int(replace), priority=priority or int(replace), replace=replace),
        )

    def attach_iter(
        self,
        *,
        map: Optional[Map] = None,
        cgroup: Union[str, os.PathLike[str], None] = None,
        order: str = "descendants_pre",
        pid: int = 0,
    ) -> Link:
        """Attach an iterator. `read_iter()` does that itself.

        `map` is the map to iterate over (`iter/bpf_map_elem`). `cgroup` is the folder of the cgroup at which an
        `iter/cgroup` starts, in an order of `enum bpf_cgroup_iter_order`. `pid` is the only process to visit
        (`iter/task` and its like, Linux 6.1).
        """
        number = choice(f"program {self.name}: order", order, CGROUP_ORDERS)
        info, target = (ctypes.c_uint32 * 4)(), "iterator"  # union bpf_iter_link_info
        fd = -1
        pid = named("pid", U32.put, pid)
        if map is not None:
            fd = named("map", descriptor_of, map)
            info[0], target = fd, f"iterator over map {getattr(map, 'name', map)}"
        elif cgroup is not None:
            fd, target = self._open_cgroup(cgroup), f"iterator over cgroup {os.fspath(cgroup)}"
            info[0], info[1] = number, fd
        elif pid:
            info[1], target = pid, f"iterator over process {pid}"
        options = opts(IterOpts)
        if any(info):
            options.link_info, options.link_info_len = ctypes.addressof(info), ctypes.sizeof(info)
        return self._attach(target, "bpf_program__attach_iter", byref(options), takes=("TRACING",))

    def read_iter(
        self,
        *,
        map: Optional[Map] = None,
        cgroup: Union[str, os.PathLike[str], None] = None,
        order: str = "descendants_pre",
        pid: int = 0,
    ) -> str:
        """Run an iterator program once, with the arguments of `attach_iter()`, and return the text it wrote."""
        data = self.read_iter_bytes(map=map, cgroup=cgroup, order=order, pid=pid)
        return data.decode("utf-8", "backslashreplace")

    def read_iter_bytes(
        self,
        *,
        map: Optional[Map] = None,
        cgroup: Union[str, os.PathLike[str], None] = None,
        order: str = "descendants_pre",
        pid: int = 0,
    ) -> bytes:
        """What `read_iter()` reads, as bytes: for programs that write records."""
        with self.open_iter(map=map, cgroup=cgroup, order=order, pid=pid) as file:
            return file.read()

    def read_iter_records(
        self,
        record: type[StructT],
        *,
        map: Optional[Map] = None,
        cgroup: Union[str, os.PathLike[str], None] = None,
        order: str = "descendants_pre",
        pid: int = 0,
    ) -> list[StructT]:
        """What `read_iter()` reads, as a list of structs of a class of the skeleton's."""
        try:
            size = size_of(record)
        except TypeError:
            raise InvalidTypeError(f"record must be a struct class of the skeleton, not {shown(record)}") from None
        data = self.read_iter_bytes(map=map, cgroup=cgroup, order=order, pid=pid)
        if not size or len(data) % size:
            raise InvalidValueError(
                f"program {self.name} wrote {len(data)} bytes: no records of {size} bytes ({record.__name__})"
            )
        return [record.from_buffer_copy(data, at) for at in range(0, len(data), size)]

    def open_iter(
        self,
        *,
        map: Optional[Map] = None,
        cgroup: Union[str, os.PathLike[str], None] = None,
        order: str = "descendants_pre",
        pid: int = 0,
    ) -> io.BufferedReader:
        """A binary file of what an iterator program writes, with the arguments of `attach_iter()`.

        The program runs while the file is read. Close the file, or use it in a `with` block.
        """
        with self.attach_iter(map=map, cgroup=cgroup, order=order, pid=pid) as link:
            fd = open_descriptor(self._libbpf.bpf_iter_create, link.fd)
            if fd < 0:
                raise self._failed(link, ctypes.get_errno(), [])
        return iterators.open_file(fd)  # the file keeps the program, and what it iterates over

    def test_run(self, data: bytes = b"", *, context: bytes = b"", repeat: int = 1, flags: int = 0) -> TestRun:
        """Run the program on a packet or a context, without attaching it (BPF_PROG_TEST_RUN).

        Programs in `SEC("syscall")` run only this way. The context of a raw tracepoint program is its arguments, of 8
        bytes each.
        """
        return testrun.run_program(
            self,
            data=named("data", as_bytes, data),
            context=named("context", as_bytes, context),
            repeat=repeat,
            flags=flags,
        )

    def _open_cgroup(self, path: Union[str, os.PathLike[str]]) -> int:
        folder = path_argument("the cgroup's folder", path)
        return self._opened(folder, f"cgroup {os.fspath(path)}", os.O_RDONLY | os.O_DIRECTORY)

    def _opened(self, path: str, target: str, flags: int) -> int:
        """A descriptor of the file or folder that names the target to the kernel."""
        try:
            return open_descriptor(os.open, path, flags | os.O_CLOEXEC)
        except OSError as error:
            code = error.errno or 0
            raise AttachError(
                f"program {self.name} can't be attached to {target}: {error.strerror}", errno=code
            ) from error

    def _names(self, functions: Sequence[str]) -> list[str]:
        """The names in `functions`, checked."""
        names = elements("functions", functions)
        return [os.fsdecode(c_string(f"functions[{at}]", name)) for at, name in enumerate(names)]

    def _cookies(self, cookies: Sequence[int], names: list[str]) -> Any:
        """The cookies of a list of functions as a C array; None if there are none."""
        values = [named(f"cookies[{at}]", U64.put, value) for at, value in enumerate(elements("cookies", cookies))]
        if values and len(values) != len(names):
            raise InvalidValueError(
                f"cookies can't be {len(values)} numbers for {len(names)} functions: give one for each"
            )
        return (ctypes.c_uint64 * len(values))(*values) if values else None

    def _interface(self, interface: Union[str, int]) -> tuple[int, str]:
        return find_interface(interface, f"program {self.name} can't be attached to")

    def _live(self) -> int:
        if not self._pointer:
            raise ClosedError(f"program {self.name}: the skeleton is closed")
        if not self.loaded:
            raise ClosedError(f"program {self.name} was left out of the load (autoload is off)")
        return self._pointer

    def _close(self) -> None:
        self._pointer = 0
        self._fd = -1


def _stripped_functions(binary: str, pattern: str) -> list[int]:
    """Offsets of a stripped file's functions that match a pattern, from its debug file: libbpf does not read those."""
    from .elfsyms import full_path, stripped_functions

    try:
        return stripped_functions(full_path(binary), pattern)
    except (OSError, ValueError):
        return []  # libbpf has said what is wrong with the file


def _function_and_offset(target: str) -> tuple[str, int]:
    """What `FUNCTION+OFFSET` behind the colon of SEC("uprobe/BINARY:FUNCTION+OFFSET") names, as libbpf reads it."""
    function, _, offset = target.rpartition("+")
    try:
        return (function, int(offset, 0)) if function else (target, 0)
    except ValueError:
        return target, 0


def _usdt_hint(path: str, code: int) -> str:
    """What to do about a USDT that could not be attached: the remedy, or which ones the file has."""
    from .elfsyms import usdt_names

    if code == errno.EOPNOTSUPP:
        return "before Linux 5.15 the USDTs of a library are attached in one process: attach_usdt(..., pid=PID)"
    if code != errno.ENOENT:
        return ""
    try:
        names = usdt_names(path)
    except (OSError, ValueError):
        return ""  # libbpf has said what is wrong with the file, or found it in a folder of the system's
    return (
        f"{path} has {', '.join(names[:SHOWN_USDTS])}{', ...' * (len(names) > SHOWN_USDTS)}"
        if names
        else f"{path} has no USDT"
    )


def _xdp_hint(code: int) -> str:
    if code == errno.EOPNOTSUPP:
        return 'the driver of this interface does not take XDP in this mode; mode="skb" works with any'
    return "another XDP program is attached there" if code in (errno.EBUSY, errno.EEXIST) else ""


class Programs(Members):
    """The programs of a skeleton, as attributes; also by their names in C: `programs["handle_exit"]`."""
