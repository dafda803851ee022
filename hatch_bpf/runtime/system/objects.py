"""Programs, maps, links and BTFs of this system. Input: the kernel's lists of ids, or a descriptor. Output: infos.

Listing those of other processes takes CAP_SYS_ADMIN.
"""

from __future__ import annotations

import ctypes
import errno
from ctypes import byref, c_char, c_uint8, c_uint32, c_uint64
from typing import Any, Callable, Iterator, NamedTuple, Optional, TypeVar

from ..descriptor import open_descriptor
from ..errors import BpfError, failed, permission_denied
from ..libbpf import library as _library
from ..maps.shapes import MapInfo, map_info

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..libbpf.library import Libbpf

T = TypeVar("T")

PROGRAM_TYPES = (
    *("UNSPEC", "SOCKET_FILTER", "KPROBE", "SCHED_CLS", "SCHED_ACT", "TRACEPOINT", "XDP", "PERF_EVENT", "CGROUP_SKB"),
    *("CGROUP_SOCK", "LWT_IN", "LWT_OUT", "LWT_XMIT", "SOCK_OPS", "SK_SKB", "CGROUP_DEVICE", "SK_MSG"),
    *("RAW_TRACEPOINT", "CGROUP_SOCK_ADDR", "LWT_SEG6LOCAL", "LIRC_MODE2", "SK_REUSEPORT", "FLOW_DISSECTOR"),
    *("CGROUP_SYSCTL", "RAW_TRACEPOINT_WRITABLE", "CGROUP_SOCKOPT", "TRACING", "STRUCT_OPS", "EXT", "LSM"),
    *("SK_LOOKUP", "SYSCALL", "NETFILTER"),
)
"""Names of `enum bpf_prog_type`, in order, without BPF_PROG_TYPE_."""
LINK_TYPES = (
    *("UNSPEC", "RAW_TRACEPOINT", "TRACING", "CGROUP", "ITER", "NETNS", "XDP", "PERF_EVENT", "KPROBE_MULTI"),
    *("STRUCT_OPS", "NETFILTER", "TCX", "UPROBE_MULTI", "NETKIT", "SOCKMAP"),
)
"""Names of `enum bpf_link_type`, in order, without BPF_LINK_TYPE_."""


class ProgramInfo(NamedTuple):
    """What the kernel says about a program."""

    id: int
    type: str
    """A name of `enum bpf_prog_type` without BPF_PROG_TYPE_; the number if the type has no name here."""
    name: str
    """At most 15 characters."""
    tag: str
    """A digest of its instructions."""
    loaded_at: float
    """In seconds on the clock `time.CLOCK_BOOTTIME`."""
    uid: int
    """The user that loaded it."""
    gpl_compatible: bool
    instruction_bytes: int
    """Size of the verified instructions."""
    jited_bytes: int
    """Size of the machine code; 0 without a JIT compiler."""
    verified_instructions: int
    """How many the verifier walked through (Linux 5.16)."""
    map_ids: tuple[int, ...]
    btf_id: int
    """0 if it has none."""
    run_count: int
    """Runs while statistics were on: `count_runs()`, or the sysctl kernel.bpf_stats_enabled."""
    run_time: float
    """Seconds that these took."""
    recursion_misses: int
    """Runs that were skipped because the program was already running on that CPU."""


class LinkInfo(NamedTuple):
    """What the kernel says about a link."""

    id: int
    type: str
    """A name of `enum bpf_link_type` without BPF_LINK_TYPE_; the number if the type has no name here."""
    program_id: int
    """0 for a link of a struct_ops map."""
    target: dict[str, Any]
    """What it is attached to, if that is a number or a name: `cgroup_id`, `ifindex`, `netns_ino`, `tp_name`."""


class BtfInfo(NamedTuple):
    """What the kernel says about a BTF."""

    id: int
    name: str
    """`vmlinux`, a module's name, or nothing for that of a program."""
    size: int
    """In bytes."""
    is_kernel: bool


def _each(kind: Any, *names: str) -> list[tuple[str, Any]]:
    """Fields of one type in a row."""
    return [(name, kind) for name in names]


class _RawProgramInfo(ctypes.Structure):
    _fields_ = (
        *_each(c_uint32, "type", "id"),
        ("tag", c_uint8 * 8),
        *_each(c_uint32, "jited_prog_len", "xlated_prog_len"),
        *_each(c_uint64, "jited_prog_insns", "xlated_prog_insns", "load_time"),
        *_each(c_uint32, "created_by_uid", "nr_map_ids"),
        ("map_ids", c_uint64),
        ("name", c_char * 16),
        *_each(c_uint32, "ifindex", "gpl_compatible"),
        *_each(c_uint64, "netns_dev", "netns_ino"),
        *_each(c_uint32, "nr_jited_ksyms", "nr_jited_func_lens"),
        *_each(c_uint64, "jited_ksyms", "jited_func_lens"),
        *_each(c_uint32, "btf_id", "func_info_rec_size"),
        ("func_info", c_uint64),
        *_each(c_uint32, "nr_func_info", "nr_line_info"),
        *_each(c_uint64, "line_info", "jited_line_info"),
        *_each(c_uint32, "nr_jited_line_info", "line_info_rec_size", "jited_line_info_rec_size", "nr_prog_tags"),
        *_each(c_uint64, "prog_tags", "run_time_ns", "run_cnt", "recursion_misses"),
        *_each(c_uint32, "verified_insns", "attach_btf_obj_id", "attach_btf_id"),
    )


class _RawLinkInfo(ctypes.Structure):
    _fields_ = (*_each(c_uint32, "type", "id", "prog_id", "pad"), ("union", c_uint32 * 12))


class _RawBtfInfo(ctypes.Structure):
    _fields_ = (
        ("btf", c_uint64),
        *_each(c_uint32, "btf_size", "id"),
        ("name", c_uint64),
        *_each(c_uint32, "name_len", "kernel_btf"),
    )


def loaded_programs() -> Iterator[ProgramInfo]:
    """The programs of this system, by id."""
    return _all("prog", "programs", program_info)


def loaded_maps() -> Iterator[MapInfo]:
    """The maps of this system, by id."""
    return _all("map", "maps", _map_info)


def loaded_links() -> Iterator[LinkInfo]:
    """The links of this system, by id."""
    return _all("link", "links", link_info)


def loaded_btfs() -> Iterator[BtfInfo]:
    """The BTFs of this system, by id: of the kernel, of modules and of programs."""
    return _all("btf", "BTFs", _btf_info)


def program_info(libbpf: Libbpf, fd: int) -> ProgramInfo:
    """What the kernel says about the program with this descriptor."""
    raw = _RawProgramInfo()
    _fill(libbpf, fd, raw, "program")
    count = raw.nr_map_ids
    ids = (c_uint32 * count)()
    if count:
        raw = _RawProgramInfo(nr_map_ids=count, map_ids=ctypes.addressof(ids))
        _fill(libbpf, fd, raw, "program")
    return ProgramInfo(
        id=raw.id,
        type=_named(PROGRAM_TYPES, raw.type),
        name=raw.name.decode("ascii", "backslashreplace"),
        tag=bytes(raw.tag).hex(),
        loaded_at=raw.load_time / 1e9,
        uid=raw.created_by_uid,
        gpl_compatible=bool(raw.gpl_compatible & 1),
        instruction_bytes=raw.xlated_prog_len,
        jited_bytes=raw.jited_prog_len,
        verified_instructions=raw.verified_insns,
        map_ids=tuple(ids[: raw.nr_map_ids]),
        btf_id=raw.btf_id,
        run_count=raw.run_cnt,
        run_time=raw.run_time_ns / 1e9,
        recursion_misses=raw.recursion_misses,
    )


def link_info(libbpf: Libbpf, fd: int) -> LinkInfo:
    """What the kernel says about the link with this descriptor."""
    raw = _RawLinkInfo()
    _fill(libbpf, fd, raw, "link")
    kind = _named(LINK_TYPES, raw.type)
    target: dict[str, Any] = {}
    if kind == "RAW_TRACEPOINT":
        text = ctypes.create_string_buffer(256)
        asked = _RawLinkInfo()
        ctypes.memmove(asked.union, bytes(c_uint64(ctypes.addressof(text))) + bytes(c_uint32(len(text))), 12)
        _fill(libbpf, fd, asked, "link")
        target["tp_name"] = text.value.decode()
    elif kind == "CGROUP":
        target["cgroup_id"] = c_uint64.from_buffer(raw.union).value
    elif kind in ("XDP", "TCX", "NETKIT"):
        target["ifindex"] = raw.union[0]
    elif kind == "NETNS":
        target["netns_ino"] = raw.union[0]
    return LinkInfo(id=raw.id, type=kind, program_id=raw.prog_id, target=target)


def _map_info(libbpf: Libbpf, fd: int) -> MapInfo:
    info = map_info(libbpf, fd)
    if info is None:
        raise _error("a map can't be inspected")
    return info


def _btf_info(libbpf: Libbpf, fd: int) -> BtfInfo:
    name = ctypes.create_string_buffer(64)
    raw = _RawBtfInfo(name=ctypes.addressof(name), name_len=len(name))
    try:
        _fill(libbpf, fd, raw, "BTF")
    except BpfError as error:
        if error.errno != errno.E2BIG:
            raise
        # kernels before 5.11 have no names for BTFs, and refuse what they do not know
        raw = _RawBtfInfo()
        _fill(libbpf, fd, raw, "BTF")
    return BtfInfo(id=raw.id, name=name.value.decode(), size=raw.btf_size, is_kernel=bool(raw.kernel_btf))


def _all(kind: str, noun: str, read: Callable[[Libbpf, int], T]) -> Iterator[T]:
    """The infos of all objects of a kind. One that is freed meanwhile is left out."""
    libbpf = _library.current()
    following, open_by_id = getattr(libbpf, f"bpf_{kind}_get_next_id"), getattr(libbpf, f"bpf_{kind}_get_fd_by_id")
    number = c_uint32()
    while not following(number.value, byref(number)):
        fd = open_descriptor(open_by_id, number.value)
        if fd >= 0:
            yield read(libbpf, fd)
        elif ctypes.get_errno() != errno.ENOENT:
            raise _error(f"the system's {noun} can't be opened")
    if ctypes.get_errno() != errno.ENOENT:
        raise _error(f"the system's {noun} can't be listed", since={"link": "5.8", "btf": "5.4"}.get(kind, ""))


def _fill(libbpf: Libbpf, fd: int, raw: Any, noun: str) -> None:
    """Have the kernel fill a struct, as much of it as it knows."""
    if libbpf.bpf_obj_get_info_by_fd(fd, byref(raw), byref(c_uint32(ctypes.sizeof(raw)))):
        raise _error(f"a {noun} can't be inspected")


def _error(what: str, *, since: str = "", instead: str = "") -> BpfError:
    """The error for a call that failed. `since` is the Linux version that brought it, `instead` an alternative."""
    code = ctypes.get_errno()
    if code == errno.EPERM:
        return permission_denied(what, errno=code, also=("CAP_SYS_ADMIN",))
    hint = f"it takes Linux {since}{instead}" if since and code == errno.EINVAL else ""
    return failed(BpfError, what, code, hint=hint)


def _named(names: tuple[str, ...], number: int) -> str:
    return names[number] if number < len(names) else str(number)


class count_runs:  # noqa: N801 - used as a function
    """`with count_runs():` the kernel counts the runs of all programs and their time meanwhile (Linux 5.8)."""

    def __init__(self) -> None:
        self._fd = -1

    def __enter__(self) -> count_runs:
        self._fd = open_descriptor(_library.current().bpf_enable_stats, 0)
        if self._fd < 0:
            instead = "; from 5.1 on root can write 1 to /proc/sys/kernel/bpf_stats_enabled instead"
            raise _error("run statistics can't be turned on", since="5.8", instead=instead)
        return self

    def __exit__(self, *_: Optional[object]) -> None:
        self._fd = -1
