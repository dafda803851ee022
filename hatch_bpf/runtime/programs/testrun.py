"""BPF_PROG_TEST_RUN: run a program on a packet or a context without attaching it. Output: a `TestRun`."""

from __future__ import annotations

import ctypes
import errno
from ctypes import byref

from ..errors import ENOTSUPP, AttachError, InvalidValueError, reason
from ..libbpf.library import TestRunOpts, opts
from ..plain_data import PlainData
from ..sections import parse_section
from ..types import S32, named

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

    from ..sections import ProgramSection
    from .attaching import Attachable

ROOM = 256
"""How many bytes a program may add to the packet."""

IN_PLACE = ("SYSCALL", "RAW_TRACEPOINT", "RAW_TRACEPOINT_WRITABLE")
"""Types of programs whose context the kernel changes where it is, instead of returning a copy."""


SHORTEST_PACKET = 14
"""An Ethernet header."""

_ON_PACKETS = ("SOCKET_FILTER", "SCHED_CLS", "SCHED_ACT", "XDP", "CGROUP_SKB", "LWT_IN", "LWT_OUT", "LWT_XMIT")


class TestRun(PlainData):
    """What a program did with a test input."""

    result: int
    """The program's return value, as an unsigned 32-bit number."""
    data: bytes
    """The packet as the program left it."""
    context: bytes
    """The context as the program left it."""
    duration: int
    """Average time of a run, in nanoseconds."""

    def __repr__(self) -> str:
        return f"TestRun(result={self.result}, duration={self.duration})"


def run_program(program: Attachable, *, data: bytes, context: bytes, repeat: int, flags: int) -> TestRun:
    """Run a loaded program `repeat` times. Raises `AttachError`."""
    fd = program.fd
    if named("repeat", S32.put, repeat) < 0:
        raise InvalidValueError(f"repeat can't be {repeat}: the kernel would take it for some four billion")
    room = len(data) + ROOM
    parsed = parse_section(program.section)
    in_place = parsed is not None and parsed.program_type in IN_PLACE
    context_in = ctypes.create_string_buffer(context, len(context) or 1)
    data_out, context_out = ctypes.create_string_buffer(room), ctypes.create_string_buffer(len(context) or 1)
    has_context_out = bool(context) and not in_place
    options: Any = opts(
        TestRunOpts,
        data_in=ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p) if data else None,
        data_out=ctypes.addressof(data_out) if data else None,
        data_size_in=len(data),
        data_size_out=room if data else 0,
        ctx_in=ctypes.addressof(context_in) if context else None,
        ctx_out=ctypes.addressof(context_out) if has_context_out else None,
        ctx_size_in=len(context),
        ctx_size_out=len(context) if has_context_out else 0,
        repeat=repeat if repeat != 1 else 0,  # 0 means once too, and some programs refuse any other number
        flags=flags,
    )
    if program._libbpf.bpf_prog_test_run_opts(fd, byref(options)) < 0:
        code = ctypes.get_errno()
        hint = _why_not_run(code, parsed, data=data, context=context)
        raise AttachError(f"program {program.name} can't be test-run: {hint or reason(code)}", errno=code)
    return TestRun(
        result=options.retval,
        data=data_out.raw[: options.data_size_out],
        context=context_in.raw[: len(context)] if in_place else context_out.raw[: options.ctx_size_out],
        duration=options.duration,
    )


def _why_not_run(code: int, section: Optional[ProgramSection], *, data: bytes, context: bytes) -> str:
    """What the kernel means by the error number; empty where the number says it all."""
    if section is None:
        return ""
    if code == ENOTSUPP:
        later = "; raw tracepoints can be from Linux 5.10 on" if section.program_type == "RAW_TRACEPOINT" else ""
        return f"this kernel cannot test-run programs of type {section.program_type}{later}"
    if code != errno.EINVAL:
        return ""
    if section.program_type in _ON_PACKETS and len(data) < SHORTEST_PACKET:
        return f"{reason(code)}; it runs on a packet, which data= has to hold: {SHORTEST_PACKET} bytes or more"
    if context:
        none = "none at all before Linux 5.2, and none for XDP before 5.15"
        return f"{reason(code)}; the kernel does not take this context: {none}"
    return ""
