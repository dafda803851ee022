"""Runs inside a guest: load one program of an object, and no other, and attach it where that is harmless.

Input: libbpf, an object's bytes, and which program. Output: a record of what happened, ready for JSON.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Sequence
from typing import Any

from hatch_bpf.runtime.libbpf.library import Libbpf, OpenOpts, opts
from hatch_bpf.runtime.libbpf.messages import Capture

LOG_BYTES = 12_000
"""How much of libbpf's messages, the verifier's log among them, is kept: the end."""
CGROUP = "/sys/fs/cgroup/hatch-bpf-try"
"""An empty cgroup for programs that are attached to one."""


def load_alone(
    libbpf: Libbpf, data: bytes, name: str, program: str, others: Sequence[str], *, btf: str | None, attach: str
) -> dict[str, Any]:
    """Load `program` of the object `name`, and none of `others`; then attach it by its section or to a cgroup, if
    `attach` says so."""
    options = opts(OpenOpts, object_name=name.encode(), btf_custom_path=btf.encode() if btf else None)
    with Capture(libbpf) as said:
        handle = libbpf.pointer(libbpf.bpf_object__open_mem(data, len(data), ctypes.byref(options)))
        if not handle:
            return _record("refused", ctypes.get_errno(), said)
        try:
            for other in others:
                libbpf.bpf_program__set_autoload(_find(libbpf, handle, other), False)
            chosen = _find(libbpf, handle, program)
            libbpf.bpf_program__set_autoload(chosen, True)
            error = -libbpf.bpf_object__load(handle)
            if error:
                return _record("refused", error, said)
            if not attach:
                return _record("loads", 0, said)
            link = libbpf.pointer(_attach(libbpf, chosen, attach))
            if not link:
                return _record("attach-refused", ctypes.get_errno(), said)
            libbpf.bpf_link__destroy(link)
            return _record("attaches", 0, said)
        finally:
            libbpf.bpf_object__close(handle)


def _find(libbpf: Libbpf, handle: int, name: str) -> int:
    return libbpf.pointer(libbpf.bpf_object__find_program_by_name(handle, name.encode()))


def _attach(libbpf: Libbpf, program: int, how: str) -> int | None:
    if how == "section":
        found: int | None = libbpf.bpf_program__attach(program)
        return found
    os.makedirs(CGROUP, exist_ok=True)
    fd = os.open(CGROUP, os.O_RDONLY)
    try:
        linked: int | None = libbpf.bpf_program__attach_cgroup(program, fd)
    finally:
        os.close(fd)
    return linked


def _record(happened: str, code: int, said: Capture) -> dict[str, Any]:
    log = "\n".join(said.lines) if code else ""
    return {
        "happened": happened,
        "errno": errno.errorcode.get(code, str(code)) if code else "",
        "log": log[-LOG_BYTES:],
    }
