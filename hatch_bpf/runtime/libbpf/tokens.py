"""BPF tokens, by which a process in a user namespace loads programs. Input: a folder. Output: nothing, or the error.

A privileged process mounts a BPF file system for the namespace, whose mount options say what the namespace may do.
libbpf makes a token of it before each load, and the kernel accepts the token instead of rights outside the namespace:
Documentation/bpf, `struct bpf_token`, Linux 6.9.
"""

from __future__ import annotations

import ctypes
import errno
import os

from ..descriptor import open_descriptor
from ..errors import InvalidValueError, PermissionDeniedError, reason
from ..host.mounts import delegation, no_bpf_file_system
from ..privileges import in_user_namespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .library import Libbpf

LIBBPF = (1, 4)
"""The first libbpf that makes tokens."""
_HOW = "mount one with delegate_cmds, delegate_maps, delegate_progs and delegate_attachs"


def check_token(libbpf: Libbpf, folder: str) -> None:
    """Check that a token can be made of a folder, and close it again.

    Raises `LibbpfTooOldError`, `InvalidValueError` if no BPF file system is there, or `PermissionDeniedError`.
    """
    libbpf.require(LIBBPF, "token=")
    try:
        handle = open_descriptor(os.open, folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise InvalidValueError(f"token: {folder} can't be opened: {reason(error.errno or 0)}") from error
    if open_descriptor(libbpf.bpf_token_create, handle, None) < 0:
        code = ctypes.get_errno()
        hint = no_bpf_file_system(os.path.join(folder, "pin"))
        if hint:
            raise InvalidValueError(f"token: {hint} {_HOW}")
        raise PermissionDeniedError(f"token: the kernel makes no token of {folder}: {refusal(code)}", errno=code)


def refusal(code: int) -> str:
    """What an error number of BPF_TOKEN_CREATE means, for a folder in a BPF file system; and what to do."""
    here = os.uname().release
    if code == errno.ENOENT:
        return f"it is mounted without any delegation; {_HOW}"
    if code == errno.EOPNOTSUPP:
        return "this process is in no user namespace, and needs no token there: leave token out"
    if code == errno.EINVAL:
        return f"it must be where the file system is mounted, and the kernel, {here}, be Linux 6.9 or newer"
    if code == errno.EPERM and not in_user_namespace():
        return "it was mounted for a user namespace, and this process is in none: leave token out"
    if code == errno.EPERM:
        return "this process lacks CAP_BPF in its user namespace, or the file system was mounted for another one"
    return reason(code)


def token_in_words(folder: str) -> str:
    """`with the token of FOLDER, which allows cmds=any,maps=array`, for messages."""
    allowed = delegation(folder)
    return f"with the token of {folder}" + (f", which allows {allowed}" if allowed else "")
