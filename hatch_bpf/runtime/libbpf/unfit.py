"""Why the dynamic linker cannot load a file as libbpf. Input: its path, and the C library of this process.

Output: a few words. The linkers' own messages say little: musl's asks for glibc's linker, and glibc's says of a library
for another architecture that there is no such file.
"""

from __future__ import annotations

_C_LIBRARIES = (("glibc", b"\0libc.so.6\0"), ("musl", b"\0libc.so\0"), ("musl", b"\0libc.musl-"))
"""C libraries, and their names in the list of libraries that a shared library needs."""


def why_unfit(path: str, running: str) -> str:
    """Why a file cannot be loaded into this process, whose C library is `running`; empty if we do not know."""
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
