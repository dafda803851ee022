"""Files in memory, also for Pythons without os.memfd_create(): 3.7, and those built for glibc 2.26 or older.

Input: a name. Output: a `Descriptor`. Kernels have this since Linux 3.17.
"""

from __future__ import annotations

import ctypes
import errno
import os

from ..descriptor import open_descriptor
from .arch import running

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MFD_CLOEXEC, MFD_ALLOW_SEALING = 0x1, 0x2
F_ADD_SEALS = 1033
F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_WRITE = 0x1, 0x2, 0x4, 0x8


def memory_file(name: str) -> int:
    """An empty file in memory. It can be sealed."""
    create: Callable[..., int] = getattr(os, "memfd_create", None) or _memfd_create
    return open_descriptor(create, name, MFD_CLOEXEC | MFD_ALLOW_SEALING)


def seal(fd: int) -> None:
    """Make sure that a file in memory is never changed again, and that its seals stay on."""
    import fcntl

    fcntl.fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)


def _memfd_create(name: str, flags: int) -> int:
    """What os.memfd_create() does. Raises `OSError`."""
    arch = running()
    if arch is None:
        raise OSError(errno.ENOSYS, "this Python has no os.memfd_create()")
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    syscall.restype = ctypes.c_long
    syscall.argtypes = (ctypes.c_long, ctypes.c_char_p, ctypes.c_uint)
    fd = int(syscall(arch.memfd_create, os.fsencode(name), flags))
    if fd < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return fd
