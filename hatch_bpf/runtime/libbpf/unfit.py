"""A file that the dynamic linker does not take as libbpf -> why this process cannot have it.

Input: its path, and the C library of this process. Output: a few words. The linkers name a missing library or a
relocation, which says little: musl's asks for glibc's own linker, and glibc's says of a library for another
architecture that there is no such file.
"""

from __future__ import annotations

_C_LIBRARIES = (("glibc", b"\0libc.so.6\0"), ("musl", b"\0libc.so\0"), ("musl", b"\0libc.musl-"))
"""Names of the C libraries, as they are in what a shared library needs."""


def why_unfit(path: str, running: str) -> str:
    """Why a file cannot be loaded here, where `running` is the C library; empty if that is not known."""
    try:
        with open(path, "rb") as file:
            library = file.read()
    except OSError as error:
        return error.strerror or str(error)
    if not library.startswith(b"\x7fELF"):
        return "it is no shared library"
    with open("/proc/self/exe", "rb") as file:
        own = file.read(20)
    if _architecture(library) != _architecture(own):
        return "it is built for another architecture than this Python"
    needed = {name for name, soname in _C_LIBRARIES if soname in library}
    if needed and running not in needed:
        return (
            f"it is built for {needed.pop()}, and this Python runs on {running}: name one that is built for {running}"
        )
    return ""


def _architecture(elf: bytes) -> bytes:
    """Word size, byte order and machine of an ELF file."""
    return elf[4:6] + elf[18:20]
