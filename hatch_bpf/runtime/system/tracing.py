"""What programs print. Input: tracefs, or a stream of a program. Output: lines of bpf_printk(), a stream's text."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import select
import time
from ctypes import c_uint32, c_uint64
from typing import Generator, NamedTuple, Optional

from ..descriptor import descriptor_of
from ..errors import BpfError, InvalidValueError, reason
from ..events.source import deadline_of
from ..types import named, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..descriptor import HasDescriptor

TRACE_PIPES = ("/sys/kernel/tracing/trace_pipe", "/sys/kernel/debug/tracing/trace_pipe")
STREAMS = {"stdout": 1, "stderr": 2}
"""`BPF_STREAM_*`."""
CHUNK = 4096
_LINE = re.compile(
    r"\s*(.{1,16})-(\d+)\s+(?:\([^)]*\)\s+)?\[(\d+)\]\s+(\S+)\s+(\d+\.\d+): (?:bpf_trace_printk|\S+): (.*)"
)
_SYSCALLS = {"x86_64": 321, "s390x": 351, "ppc64le": 361, "ppc64": 361}
"""The number of bpf(2), where it is not the generic one."""
_GENERIC_SYSCALL, _BPF_PROG_STREAM_READ_BY_FD = 280, 37


class TraceLine(NamedTuple):
    """A line of trace_pipe."""

    task: str
    """The thread's name."""
    pid: int
    """The thread's id."""
    cpu: int
    flags: str
    timestamp: float
    """In seconds, by the clock of the trace."""
    message: str
    """What bpf_printk() wrote, without the newline."""


def trace_pipe(timeout: Optional[float] = None) -> Generator[TraceLine, None, None]:
    """What bpf_printk() writes in any program of the system; it ends after `timeout` seconds, if given.

    It begins with what nobody has read yet. The system's pipe has one reader at a time: `close()` the iterator when
    you are done. Lines of other tracers are left out.
    """
    deadline = deadline_of(timeout)
    path = next(filter(os.path.exists, TRACE_PIPES), None)
    if path is None:
        raise BpfError("tracefs is not mounted: mount -t tracefs tracefs /sys/kernel/tracing")
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        code = error.errno or 0
        hint = "; somebody else reads it, and it has one reader at a time" if code == errno.EBUSY else ""
        raise BpfError(f"{path} can't be read: {reason(code)}{hint}", errno=code) from error
    return _lines(fd, deadline)


def _lines(fd: int, end: Optional[float]) -> Generator[TraceLine, None, None]:
    rest = b""
    with open(fd, "rb", buffering=0) as file:
        while True:
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                return
            select.select([file], [], [], left)
            lines = (rest + (file.read(CHUNK) or b"")).split(b"\n")
            rest = lines.pop()
            for line in lines:
                found = _LINE.match(line.decode("utf-8", "backslashreplace"))
                if found:
                    task, pid, cpu, flags, timestamp, message = found.groups()
                    yield TraceLine(task.strip(), int(pid), int(cpu), flags, float(timestamp), message)


class _StreamRead(ctypes.Structure):
    _fields_ = (("buffer", c_uint64), ("length", c_uint32), ("stream_id", c_uint32), ("prog_fd", c_uint32))


def read_stream(program: HasDescriptor, stream: str = "stderr") -> str:
    """What a program has written to one of its streams and nobody has read (Linux 6.17).

    `stdout` is what it wrote itself; in `stderr` the kernel reports its faults, such as loops that never end.
    """
    if not isinstance(stream, str) or stream not in STREAMS:
        raise InvalidValueError(f"stream must be one of {', '.join(STREAMS)} (got {shown(stream)})")
    fd, libc = named("program", descriptor_of, program), ctypes.CDLL(None, use_errno=True)
    number = _SYSCALLS.get(os.uname().machine, _GENERIC_SYSCALL)
    buffer = ctypes.create_string_buffer(CHUNK)
    read = _StreamRead(ctypes.addressof(buffer), CHUNK, STREAMS[stream], fd)
    text = b""
    while True:
        got = libc.syscall(number, _BPF_PROG_STREAM_READ_BY_FD, ctypes.byref(read), ctypes.sizeof(read))
        if got < 0:
            code = ctypes.get_errno()
            raise BpfError(f"the stream can't be read: {reason(code)}; it takes Linux 6.17", errno=code)
        if not got:
            return text.decode("utf-8", "backslashreplace")
        text += buffer.raw[:got]
