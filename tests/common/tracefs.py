"""tracefs for tests that attach to tracepoints; mounted for this process alone where the machine has not mounted it."""

from __future__ import annotations

import ctypes
import os
from functools import cache

from hatch_bpf.runtime.host.mounts import TRACEFS, in_tracefs
from tests.common import needs

_CLONE_NEWNS = 0x00020000
_MS_REC_PRIVATE = (1 << 14) | (1 << 18)


def mounted() -> None:
    """Make sure that tracefs is mounted. Needs root; skips (under CI=true fails) where the kernel has none."""
    needs.root_bpf()
    if not in_tracefs("events") and not _mount():
        needs.missing("tracefs can't be mounted")


@cache
def _mount() -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    # in a new mount namespace, which only this process and its children use
    if libc.unshare(_CLONE_NEWNS) or libc.mount(None, b"/", None, _MS_REC_PRIVATE, None):
        return False
    libc.mount(b"tracefs", os.fsencode(TRACEFS[0]), b"tracefs", 0, None)
    return bool(in_tracefs("events"))
