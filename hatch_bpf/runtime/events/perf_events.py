"""perf_event_open(): what runs programs as events happen, what they read, and what carries perf buffers.

Input: an event, by its name as `perf list` has it. Output: descriptors.

A function returns a `Descriptor`, or -1 with `ctypes.get_errno()` set.
"""

from __future__ import annotations

import ctypes
import errno
import os
from ctypes import byref

from ..descriptor import open_descriptor
from ..errors import AttachError, InvalidTypeError, InvalidValueError
from ..host.arch import running, running_name
from ..types import U32, U64, named, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional, Union

    Event = Union[str, tuple[int, int]]
    """The name of an event, or its type and config of `struct perf_event_attr`."""

MAX_SAMPLE_RATE = "/proc/sys/kernel/perf_event_max_sample_rate"


def online_cpus() -> list[int]:
    """Numbers of the CPUs that are online."""
    with open("/sys/devices/system/cpu/online", "rb") as file:
        ranges = [part.split("-") for part in file.read().decode().strip().split(",")]
    return [cpu for ends in ranges for cpu in range(int(ends[0]), int(ends[-1]) + 1)]


def threads_of(pid: int) -> list[int]:
    """The threads that a process has now; none if there is no such process."""
    try:
        return sorted(map(int, os.listdir(f"/proc/{pid}/task")))
    except OSError:
        return []


def max_sample_rate() -> Optional[int]:
    """The highest frequency that the kernel takes, if it says so."""
    try:
        with open(MAX_SAMPLE_RATE, "rb") as file:
            return int(file.read())
    except (OSError, ValueError):
        return None


class _PerfEventAttr(ctypes.Structure):
    """The first 64 bytes of `struct perf_event_attr`, PERF_ATTR_SIZE_VER0."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
        ("config", ctypes.c_uint64),
        ("sample_freq", ctypes.c_uint64),  # or sample_period
        ("sample_type", ctypes.c_uint64),
        ("read_format", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
        ("wakeup_events", ctypes.c_uint32),
        ("bp_type", ctypes.c_uint32),
        ("config1", ctypes.c_uint64),
    )


PERF_TYPE_HARDWARE, PERF_TYPE_SOFTWARE, PERF_TYPE_HW_CACHE = 0, 1, 3
PERF_COUNT_SW_BPF_OUTPUT = 10
HARDWARE = (
    *("cycles", "instructions", "cache-references", "cache-misses", "branches", "branch-misses", "bus-cycles"),
    *("stalled-cycles-frontend", "stalled-cycles-backend", "ref-cycles"),
)
"""`enum perf_hw_id`."""
SOFTWARE = (
    *("cpu-clock", "task-clock", "page-faults", "context-switches", "cpu-migrations", "minor-faults", "major-faults"),
    *("alignment-faults", "emulation-faults", "dummy"),
)
"""`enum perf_sw_ids`."""
CACHES = ("L1-dcache", "L1-icache", "LLC", "dTLB", "iTLB", "branch", "node")
"""`enum perf_hw_cache_id`."""
CACHE_OPS = ("load", "store", "prefetch")
"""`enum perf_hw_cache_op_id`: `L1-dcache-loads`, `L1-dcache-load-misses`."""
PERF_SAMPLE_RAW = 1 << 10
INHERIT, FREQ, WRITE_BACKWARD, INHERIT_THREAD = 1 << 1, 1 << 10, 1 << 27, 1 << 35
"""Bits of the attribute's flags."""
PERF_FLAG_FD_CLOEXEC = 1 << 3


def event_config(event: Event) -> tuple[int, int]:
    """Type and config of an event. Raises `InvalidValueError` if no event has this name."""
    if not isinstance(event, str):
        try:
            kind, config = event
        except (TypeError, ValueError):
            raise InvalidTypeError(f"event must be a name, or a pair of type and config, not {shown(event)}") from None
        return named("the event's type", U32.put, kind), named("the event's config", U64.put, config)
    if event in HARDWARE:
        return PERF_TYPE_HARDWARE, HARDWARE.index(event)
    if event in SOFTWARE:
        return PERF_TYPE_SOFTWARE, SOFTWARE.index(event)
    for number, cache in enumerate(CACHES):
        for operation, op in enumerate(CACHE_OPS):
            for result, name in enumerate((f"{cache}-{op}{'es' if op == 'prefetch' else 's'}", f"{cache}-{op}-misses")):
                if event == name:
                    return PERF_TYPE_HW_CACHE, number | operation << 8 | result << 16
    caches = f"and {', '.join(CACHES)} with -loads, -load-misses, -stores and the like"
    raise InvalidValueError(f"no event is called {event!r}; there are {', '.join((*SOFTWARE, *HARDWARE))}, {caches}")


def open_sampled(event: Event, *, frequency: int, period: int, cpu: int, tid: int) -> int:
    """Open an event for sampling on a CPU (-1: any), in a thread and those that it will start (-1: everywhere).

    `frequency` is in samples a second. If it is 0, `period` is the number of events for each sample.
    """
    flags = FREQ if frequency else 0
    # before Linux 5.13 processes that a thread starts inherit the event as well
    choices = (flags,) if tid < 0 else (flags | INHERIT | INHERIT_THREAD, flags | INHERIT)
    opened = (_open(cpu, tid, event, sample_freq=frequency or period, flags=choice) for choice in choices)
    return next((fd for fd in opened if fd >= 0), -1)


def open_counter(event: Event, cpu: int) -> int:
    """Open a counter of an event on a CPU."""
    return _open(cpu, -1, event)


def open_bpf_output(cpu: int, *, backward: bool = False) -> int:
    """Open what carries the events that programs on a CPU put into a perf buffer.

    `backward`: it is written from its end to its beginning, so that the newest event comes first, and wakes nobody.
    """
    output = PERF_TYPE_SOFTWARE, PERF_COUNT_SW_BPF_OUTPUT
    flags = WRITE_BACKWARD if backward else 0
    return _open(
        cpu, -1, output, sample_freq=1, sample_type=PERF_SAMPLE_RAW, flags=flags, wakeup_events=int(not backward)
    )


def event_hint(event: Event, code: int, frequency: int = 0) -> str:
    """Why an event could not be opened: it was to be sampled too often, or this machine does not count it. Empty for
    other error numbers."""
    highest = max_sample_rate()
    if highest is not None and frequency > highest:
        return f"{frequency} Hz is more than the {highest} in {MAX_SAMPLE_RATE}"
    if code not in (errno.ENOENT, errno.EOPNOTSUPP, errno.ENODEV):
        return ""
    return (
        f"this machine does not count {event}: virtual machines often have no hardware events, `perf list` shows them"
    )


def _open(cpu: int, tid: int, event: Event, **attributes: int) -> int:
    kind, config = event_config(event)
    arch = running()
    if arch is None:
        raise AttachError(f"the number of the system call perf_event_open on {running_name()} is not known here")
    attr = _PerfEventAttr(type=kind, size=ctypes.sizeof(_PerfEventAttr), config=config, **attributes)
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    syscall.restype = ctypes.c_long
    syscall.argtypes = (ctypes.c_long, ctypes.c_void_p, *[ctypes.c_int] * 3, ctypes.c_ulong)
    return open_descriptor(syscall, arch.perf_event_open, byref(attr), tid, cpu, -1, PERF_FLAG_FD_CLOEXEC)
