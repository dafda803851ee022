"""The file that holds a kernel's BTF -> texts that identify it.

Input: a `KernelSource`. Output: identities, found without unpacking the file; each changes whenever the contents may
have changed, or hatch-bpf itself. Raises nothing.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator

from hatch_bpf.kernels.identity import running_kernel_digest
from hatch_bpf.kernels.matrix import KernelSource

SETTLED = 2.0
"""Seconds after which another write to a file gives it another time stamp."""


def identity_of(source: KernelSource) -> str | None:
    """Identity of a kernel's file: changes whenever its contents may have. None if it cannot be read."""
    return next(identities(source), None)


def identities(source: KernelSource) -> Iterator[str]:
    """The cheapest first: what the file system says of the file, then its contents, which a copy shares."""
    try:
        if source.is_host:
            yield f"host {running_kernel_digest()}"
            return
        status = os.stat(source.path)
        # whoever writes a file can set the time it was modified, but not the time it was changed
        if max(status.st_mtime, status.st_ctime) < time.time() - SETTLED:
            stamps = f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
            yield f"{source.path} {status.st_dev} {status.st_ino} {stamps}"
        # the name too, since a file of an archive has to hold what its name says
        contents = hashlib.sha256(source.path.read_bytes()).hexdigest()
        yield f"{source.path.name} {contents}"
    except OSError:
        return
