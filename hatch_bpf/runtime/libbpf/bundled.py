"""The libbpf that a package brings: `_bpf/lib/ARCH` -> a loaded libbpf.so, from bytes whose sha256 was checked.

Input: the package's own files. Output: the path of the library, and the library. The libraries that libbpf needs are
loaded first, so that the dynamic linker finds them by their sonames and never looks into the system's folders.
"""

from __future__ import annotations

import ctypes
import os

from ..errors import LibbpfNotFoundError, PackageError
from ..host.arch import running_name
from ..host.kernel import read_verified, sealed_memfd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

INDEX = "libraries.json"
"""soname -> sha256, in the order of loading; the last is libbpf."""
_kept_open: list[int] = []
"""Descriptors of loaded libraries. The dynamic linker knows a library by the name under which it was opened: if the
number were used again, opening it would give the old library."""


def load_bundled(bpf_dir: str, digest: str) -> tuple[str, ctypes.CDLL]:
    """Load the libbpf of a package for this machine. Raises `PackageError`, `LibbpfNotFoundError`.

    `digest` is the sha256 of the list, without which the list could name any library.
    """
    import json  # only if there is something to read

    folder = os.path.join(bpf_dir, "lib", running_name())
    index = json.loads(read_verified(os.path.join(folder, INDEX), digest))
    loaded: Optional[tuple[str, ctypes.CDLL]] = None
    # musl does not recognise a library by its soname after loading it by a path. In musllinux wheels the libraries do
    # not name each other, and their symbols are shared instead.
    scope = ctypes.DEFAULT_MODE if hasattr(ctypes.CDLL(None), "gnu_get_libc_version") else ctypes.RTLD_GLOBAL
    for soname, digest in index.items():
        path = os.path.join(folder, soname)
        # from memory, so that what is loaded is what was checked
        fd = sealed_memfd(soname, read_verified(path, digest))
        try:
            loaded = path, ctypes.CDLL(f"/proc/self/fd/{fd}", mode=scope, use_errno=True)
            _kept_open.append(fd)
        except OSError as error:
            raise LibbpfNotFoundError(
                f"{path}, which came with the package, cannot be loaded ({error}): this system's C library may be too "
                f"old for the wheel; install one that was built for it"
            ) from error
    if loaded is None:
        raise PackageError(f"{folder} brings no libbpf: its list is empty")
    return loaded
