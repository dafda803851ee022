"""libbpf that came with the package: `_bpf/lib/ARCH` -> a loaded libbpf.so, from bytes whose sha256 was checked.

Input: the package's own files. Output: the path it was loaded from, and the library. What libbpf needs is loaded before
it, so that the dynamic linker finds it there by its soname, and the system's folders are never asked.
"""

from __future__ import annotations

import ctypes
import os

from .arch import running_name
from .errors import LibbpfNotFoundError
from .kernel import read_verified, sealed_memfd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

INDEX = "libraries.json"
"""soname -> sha256, in the order of loading; the last is libbpf."""


def load_bundled(bpf_dir: str) -> Optional[tuple[str, ctypes.CDLL]]:
    """Load the libbpf of a package for this machine, if it has one. Raises `PackageError`, `LibbpfNotFoundError`."""
    folder = os.path.join(bpf_dir, "lib", running_name())
    try:
        with open(os.path.join(folder, INDEX), encoding="utf-8") as file:
            import json  # not before it is known that there is something to read

            index = json.load(file)
    except FileNotFoundError:
        return None
    loaded = None
    # musl does not know a library by its soname that it was told to load by a path. In wheels for it the libraries do
    # not name each other, and are found by their symbols.
    scope = ctypes.DEFAULT_MODE if hasattr(ctypes.CDLL(None), "gnu_get_libc_version") else ctypes.RTLD_GLOBAL
    for soname, digest in index.items():
        path = os.path.join(folder, soname)
        # Loaded from memory, so that what is loaded is what was checked. The descriptor stays open: the dynamic linker
        # knows a library by the name it was opened under, and a number used again would give the old one.
        fd = sealed_memfd(soname, read_verified(path, digest))
        try:
            loaded = path, ctypes.CDLL(f"/proc/self/fd/{fd}", mode=scope, use_errno=True)
        except OSError as error:
            os.close(fd)
            raise LibbpfNotFoundError(
                f"{path}, which came with the package, cannot be loaded ({error}): this system's C library may be too "
                f"old for the wheel; install one that was built for it"
            ) from error
    return loaded
