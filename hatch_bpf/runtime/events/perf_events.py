"""perf_event_open(): what runs programs so often a second, and what carries perf buffers. Output: descriptors.

A function returns a `Descriptor`, or -1 with `ctypes.get_errno()` set.
"""

from __future__ import annotations

import ctypes
import os
from ctypes import byref

from ..descriptor import open_descriptor
from ..errors import AttachError
from ..host.arch import running, running_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

MAX_SAMPLE_RATE = "/proc/sys/kernel/perf_event_max_sample_rate"


def online_cpus() -> list[int]:
    """Numbers of the CPUs that are online."""
    with open("/sys/devices/system/cpu/online", "rb") as file:
        ranges = [part.split("-") for part in file.read().decode().strip().split(",")]
    return [cpu for ends in ranges for cpu in range(int(ends[0]), int(ends[-1]) + 1)]


def threads_of(pid: int) -> list[int]:
    """The threads that a process has now. Raises `OSError` if there is no such process."""
    return sorted(map(int, os.listdir(f"/proc/{pid}/task")))


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


PERF_TYPE_SOFTWARE = 1
PERF_COUNT_SW_CPU_CLOCK, PERF_COUNT_SW_BPF_OUTPUT = 0, 10
PERF_SAMPLE_RAW = 1 << 10
INHERIT, FREQ, INHERIT_THREAD = 1 << 1, 1 << 10, 1 << 35
"""Bits of the attribute's flags."""
PERF_FLAG_FD_CLOEXEC = 1 << 3


def open_cpu_clock(frequency: int, *, cpu: int, tid: int) -> int:
    """A clock on a CPU (-1: on any), of a thread and those that it will start, or of everything (-1)."""
    if tid < 0:
        return _open(cpu, tid, PERF_COUNT_SW_CPU_CLOCK, sample_freq=frequency, flags=FREQ)
    flags = FREQ | INHERIT | INHERIT_THREAD
    fd = _open(cpu, tid, PERF_COUNT_SW_CPU_CLOCK, sample_freq=frequency, flags=flags)
    if fd < 0:  # before Linux 5.13 processes that it starts inherit it as well
        fd = _open(cpu, tid, PERF_COUNT_SW_CPU_CLOCK, sample_freq=frequency, flags=FREQ | INHERIT)
    return fd


def open_bpf_output(cpu: int) -> int:
    """What carries the events that programs on a CPU put into a perf buffer."""
    return _open(cpu, -1, PERF_COUNT_SW_BPF_OUTPUT, sample_freq=1, sample_type=PERF_SAMPLE_RAW, wakeup_events=1)


def _open(cpu: int, tid: int, config: int, **attributes: int) -> int:
    arch = running()
    if arch is None:
        raise AttachError(f"the number of the system call perf_event_open on {running_name()} is not known here")
    attr = _PerfEventAttr(type=PERF_TYPE_SOFTWARE, config=config, **attributes)
    attr.size = ctypes.sizeof(attr)
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    syscall.restype = ctypes.c_long
    syscall.argtypes = (ctypes.c_long, ctypes.c_void_p, *[ctypes.c_int] * 3, ctypes.c_ulong)
    return open_descriptor(syscall, arch.perf_event_open, byref(attr), tid, cpu, -1, PERF_FLAG_FD_CLOEXEC)
