"""CPU clocks that run perf_event programs at a frequency. Input: frequency, CPU, process. Output: descriptors."""

from __future__ import annotations

import ctypes
from ctypes import byref

from .arch import running, running_name
from .errors import AttachError


def online_cpus() -> list[int]:
    """Numbers of the CPUs that are online."""
    with open("/sys/devices/system/cpu/online", "rb") as file:
        ranges = [part.split("-") for part in file.read().decode().strip().split(",")]
    return [cpu for ends in ranges for cpu in range(int(ends[0]), int(ends[-1]) + 1)]


class _PerfEventAttr(ctypes.Structure):
    """The first 64 bytes of `struct perf_event_attr`, PERF_ATTR_SIZE_VER0."""

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
"""The bit `freq` of the flags."""
PERF_FLAG_FD_CLOEXEC = 1 << 3


def open_cpu_clock(frequency: int, *, cpu: int, pid: int) -> int:
    """The descriptor of a clock. Returns a negative number, with `ctypes.get_errno()` set, on failure."""
    arch = running()
    if arch is None:
        raise AttachError(f"the number of the system call perf_event_open is not known for {running_name()}")
    attributes = _PerfEventAttr(
        type=PERF_TYPE_SOFTWARE, config=PERF_COUNT_SW_CPU_CLOCK, sample_freq=frequency, flags=_FREQ
    )
    attributes.size = ctypes.sizeof(attributes)
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    syscall.restype = ctypes.c_long
    syscall.argtypes = (ctypes.c_long, ctypes.c_void_p, *[ctypes.c_int] * 3, ctypes.c_ulong)
    return int(syscall(arch.perf_event_open, byref(attributes), pid, cpu, -1, PERF_FLAG_FD_CLOEXEC))
