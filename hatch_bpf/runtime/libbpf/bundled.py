"""The libbpf that a package brings: `_bpf/lib` -> a loaded libbpf.so.1, from bytes whose sha256 was checked.

Input: the package's own files. Output: the path of the library, and the library. A wheel has one for each architecture
and C library that it is tagged for; each has libelf and zlib inside, and needs nothing but the C library.
"""

from __future__ import annotations

import ctypes
import os

from ..errors import LibbpfNotFoundError
from ..host.arch import running_name
from ..host.kernel import read_verified, sealed_memfd

INDEX = "libraries.txt"
"""A line for each library, in `ARCH/LIBC/`: its architecture, its C library and its sha256."""
SONAME = "libbpf.so.1"
_kept_open: list[int] = []
"""Descriptors of loaded libraries. The dynamic linker knows a library by the name under which it was opened: if the
number were used again, opening it would give the old library."""


def load_bundled(bpf_dir: str, digest: str) -> tuple[str, ctypes.CDLL]:
    """Load the libbpf of a package for this machine. Raises `PackageError`, `LibbpfNotFoundError`.

    `digest` is the sha256 of the list, without which the list could name any library.
    """
    folder = os.path.join(bpf_dir, "lib")
    lines = read_verified(os.path.join(folder, INDEX), digest).decode().splitlines()
    libraries = {(arch, libc): expected for arch, libc, expected in map(str.split, lines)}
    arch, libc = running_name(), running_libc()
    expected = libraries.get((arch, libc))
    if expected is None:
        there = ", ".join(f"{name} with {c_library}" for name, c_library in sorted(libraries))
        raise LibbpfNotFoundError(
            f"{folder} has no libbpf for {arch} with {libc}: the package brings it for {there}; install one that was "
            "built for this machine, or give open() the libbpf of this machine: open(libbpf=...)"
        )
    path = os.path.join(folder, arch, libc, SONAME)
    # from memory, so that what is loaded is what was checked
    fd = sealed_memfd(SONAME, read_verified(path, expected))
    try:
        library = ctypes.CDLL(f"/proc/self/fd/{fd}", use_errno=True)
    except OSError as error:
        os.close(fd)
        from .unfit import why_unfit

        why = why_unfit(path, libc) or "this system's C library may be too old for it"
        raise LibbpfNotFoundError(
            f"{path}, which came with the package, cannot be loaded ({error}): {why}; give open() another libbpf: "
            "open(libbpf=...)"
        ) from error
    _kept_open.append(fd)
    return path, library


def running_libc() -> str:
    """The C library of this process: `glibc` or `musl`."""
    return "glibc" if hasattr(ctypes.CDLL(None), "gnu_get_libc_version") else "musl"
