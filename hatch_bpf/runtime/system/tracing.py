"""What programs print. Input: tracefs, or a stream of a program. Output: lines of bpf_printk(), a stream's text."""

from __future__ import annotations

import _thread
import ctypes
import errno
import os
import re
import select
import time
from ctypes import c_uint32, c_uint64
from itertools import starmap
from typing import Any, Generator, NamedTuple, Optional

from ..arguments import choice
from ..descriptor import descriptor_of, open_descriptor
from ..errors import BpfError, failed
from ..events.source import deadline_of
from ..host.arch import running, running_name
from ..host.mounts import MOUNT_TRACEFS, in_tracefs
from ..libbpf import library as _library
from ..types import named
from .objects import program_info

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..descriptor import HasDescriptor

STREAMS = {"stdout": 1, "stderr": 2}
"""`BPF_STREAM_*`."""
CHUNK = 4096
_LINE = re.compile(
    r"\s*(.{1,16})-(\d+)\s+(?:\([^)]*\)\s+)?\[(\d+)\]\s+(\S+)\s+(\d+\.\d+): (?:bpf_trace_printk|\S+): (.*)"
)
_BPF_PROG_STREAM_READ_BY_FD = 37


_unread: dict[tuple[int, str], list[Any]] = {}
"""What was read and not returned because a signal handler raised an exception, by thread and by what it reads."""


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

    It begins with what nobody has read yet, and leaving the loop leaves the other lines there. The system's pipe has
    one reader at a time: `close()` the iterator when you are done. Lines of other tracers are left out.
    """
    deadline = deadline_of(timeout)
    path = in_tracefs("trace_pipe")
    if not path:
        raise BpfError(f"tracefs is not mounted: {MOUNT_TRACEFS}")
    try:
        fd = open_descriptor(os.open, path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        code = error.errno or 0
        hint = "somebody else reads it, and it has one reader at a time" if code == errno.EBUSY else ""
        raise failed(BpfError, f"{path} can't be read", code, hint=hint) from error
    return _lines(fd, deadline)


def _lines(fd: int, end: Optional[float]) -> Generator[TraceLine, None, None]:
    unread = _unread.setdefault((_thread.get_ident(), ""), [])
    while True:
        if not unread:
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                return
            select.select([fd], [], [], left)
            try:
                # The kernel removes whole lines, as many as fit, and hands out the rest of the last one at the next
                # call. So this removes one line, and an iterator that is closed has not removed those behind it.
                unread.extend(starmap(os.read, ((fd, 1), (fd, CHUNK))))
            except BlockingIOError:
                continue
        line = b"".join(unread).decode("utf-8", "backslashreplace").rstrip("\n")
        found = _LINE.match(line)
        if found:
            task, pid, cpu, flags, timestamp, message = found.groups()
            made = TraceLine(task.strip(), int(pid), int(cpu), flags, float(timestamp), message)
            del unread[:]
            yield made
        else:
            del unread[:]


class _StreamRead(ctypes.Structure):
    _fields_ = (("buffer", c_uint64), ("length", c_uint32), ("stream_id", c_uint32), ("prog_fd", c_uint32))


def read_stream(program: HasDescriptor, stream: str = "stderr") -> str:
    """What a program has written to one of its streams and nobody has read (Linux 6.17).

    `stdout` is what it wrote itself; in `stderr` the kernel reports its faults, such as loops that never end.
    """
    stream_id = choice("stream", stream, STREAMS)
    fd, libc = named("program", descriptor_of, program), ctypes.CDLL(None, use_errno=True)
    arch = running()
    if arch is None:
        raise BpfError(
            f"the stream can't be read: the number of the system call bpf on {running_name()} is not known here"
        )
    of_program = _thread.get_ident(), f"{stream} {program_info(_library.current(), fd).id}"
    unread = _unread.setdefault(of_program, [])
    while True:
        results: list[int] = []
        buffer = ctypes.create_string_buffer(CHUNK)
        read = _StreamRead(ctypes.addressof(buffer), CHUNK, stream_id, fd)
        unread.append((buffer, results))
        # the call and the note that it was made are one step
        arguments = arch.bpf, _BPF_PROG_STREAM_READ_BY_FD, ctypes.byref(read), ctypes.sizeof(read)
        results.extend(starmap(libc.syscall, (arguments,)))
        if results[0] < 0:
            code = ctypes.get_errno()
            del unread[-1]
            raise failed(BpfError, "the stream can't be read", code, hint="it takes Linux 6.17")
        if not results[0]:
            break
    text = b"".join([buffer.raw[: results[0]] for buffer, results in unread if results])
    decoded = text.decode("utf-8", "backslashreplace")
    del _unread[of_program]
    return decoded
