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
from hatch_bpf.runtime.sections import ATTACH_TYPES

LOG_BYTES = 12_000
"""How much of libbpf's messages, the verifier's log among them, is kept: the end."""
SECTION = "section"
"""Attach as the section says. Any other value is the attach type of a program for cgroups."""
CGROUP = "/sys/fs/cgroup/hatch-bpf-try"
"""An empty cgroup for programs that are attached to one."""


def load_alone(
    libbpf: Libbpf, data: bytes, name: str, program: str, programs: Sequence[str], *, btf: str | None, attach: str
) -> dict[str, Any]:
    """Load one of the programs of the object `name`, and none of the others; then attach it as `attach` says: see
    `how_to_attach()`."""
    options = opts(OpenOpts, object_name=name.encode(), btf_custom_path=btf.encode() if btf else None)
    with Capture(libbpf) as said:
        handle = libbpf.bpf_object__open_mem(data, len(data), ctypes.byref(options))
        if not handle:
            return _record("refused", ctypes.get_errno(), said)
        try:
            for each in programs:
                libbpf.bpf_program__set_autoload(_find(libbpf, handle, each), each == program)
            error = -libbpf.bpf_object__load(handle)
            if error:
                return _record("refused", error, said)
            if not attach:
                return _record("loads", 0, said)
            error = _attach(libbpf, _find(libbpf, handle, program), attach)
            return _record("attach-refused" if error else "attaches", error, said)
        finally:
            libbpf.bpf_object__close(handle)


def _find(libbpf: Libbpf, handle: int, name: str) -> Any:
    return libbpf.bpf_object__find_program_by_name(handle, name.encode())


def _attach(libbpf: Libbpf, program: int, how: str) -> int:
    """Attach a program, and detach it. Returns an error number."""
    if how == SECTION:
        return _by_link(libbpf, libbpf.bpf_program__attach(program))
    os.makedirs(CGROUP, exist_ok=True)
    cgroup = os.open(CGROUP, os.O_RDONLY)
    try:
        error = _by_link(libbpf, libbpf.bpf_program__attach_cgroup(program, cgroup))
        if error != errno.EINVAL or how not in ATTACH_TYPES:
            return error
        # kernels before 5.7 have no links for cgroups
        where = libbpf.bpf_program__fd(program), cgroup, ATTACH_TYPES[how]
        if libbpf.bpf_prog_attach(*where, 0) < 0:
            return ctypes.get_errno()
        libbpf.bpf_prog_detach2(*where)
        return 0
    finally:
        os.close(cgroup)


def _by_link(libbpf: Libbpf, link: int | None) -> int:
    if not link:
        return ctypes.get_errno()
    libbpf.bpf_link__destroy(link)
    return 0


def _record(happened: str, code: int, said: Capture) -> dict[str, Any]:
    log = "\n".join(said.lines) if code else ""
    return {
        "happened": happened,
        "errno": errno.errorcode.get(code, str(code)) if code else "",
        "log": log[-LOG_BYTES:],
    }
