"""C++ and Rust names as their sources have them. Input: a symbol's name. Output: a readable one, or the same.

The machine's own libraries do it: binutils' libbfd (C++ and Rust), or else libstdc++ or libc++abi (C++, and the older
of Rust's two schemes, which is C++'s with a hash). Without any of them names stay as they are.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from contextlib import suppress
from functools import lru_cache, partial

from ..libbpf.library import library_folders, trusted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Callable, Match, Optional

PREFIXES = ("_Z", "_R", "__Z", "__R")
DMGL_PARAMS, DMGL_ANSI = 1 << 0, 1 << 1
"""libiberty's options: show parameters, and `const` and the like."""
ABI_LIBRARIES = ("libstdc++.so.6", "libc++abi.so.1")
ESCAPES = {"LT": "<", "GT": ">", "RF": "&", "BP": "*", "LP": "(", "RP": ")", "C": ",", "SP": "@"}
"""What Rust's older scheme writes between dollars for characters that C++ names cannot have."""
ESCAPE = re.compile(r"\$(?:([A-Z]{1,2})|u([0-9a-f]{1,6}))\$")
"""One of these, or any other character by its number: `$u7b$`."""
OLD_RUST = re.compile(r"(.*)::h[0-9a-f]{16}")
"""A name of that scheme ends with a hash."""


def demangled(name: str) -> str:
    """The name in the source, with C++'s parameters; the name itself if it is not mangled, or nothing here can tell."""
    if not name.startswith(PREFIXES):
        return name
    function = _demangler()
    result = function(name.encode("utf-8", "surrogateescape")) if function is not None else None
    return name if result is None else _without_hash(result.decode("utf-8", "backslashreplace"))


def _without_hash(name: str) -> str:
    """A name of Rust's older scheme as Rust has it; others as they are."""
    found = OLD_RUST.fullmatch(name)
    if found is None:
        return name
    name = ESCAPE.sub(_character, found[1])
    return name.replace("..", "::").replace("::_<", "::<").replace("_<", "<", 1 if name.startswith("_") else 0)


def _character(escape: Match[str]) -> str:
    """The character that an escape is for; the escape itself if it is for none that prints."""
    short, digits = escape.groups()
    if short:
        return ESCAPES.get(short, escape[0])
    number = int(digits, 16)
    prints = number <= sys.maxunicode and chr(number).isprintable()
    return chr(number) if prints else escape[0]


@lru_cache(1)
def _demangler() -> Optional[Callable[[bytes], Optional[bytes]]]:
    """A function of the machine's libraries that demangles."""
    for path, name, before, after in _candidates():
        if os.path.exists(path) and trusted(path):
            with suppress(OSError, AttributeError):
                function = getattr(ctypes.CDLL(path), name)
                function.restype = ctypes.c_void_p
                return partial(_call, function, before, after)
    return None


def _candidates() -> Iterator[tuple[str, str, tuple[Any, ...], tuple[Any, ...]]]:
    """Libraries, the functions in them, and what these take before and after the mangled name."""
    folders = library_folders()
    for folder in folders:
        for name in sorted(os.listdir(folder)):
            if name.startswith("libbfd") and ".so" in name:
                yield os.path.join(folder, name), "bfd_demangle", (None,), (DMGL_PARAMS | DMGL_ANSI,)
    for folder in folders:
        for name in ABI_LIBRARIES:
            yield os.path.join(folder, name), "__cxa_demangle", (), (None, None, None)


def _call(function: Any, before: tuple[Any, ...], after: tuple[Any, ...], name: bytes) -> Optional[bytes]:
    """What a C function returns for a mangled name: a string that it has allocated, or NULL."""
    pointer = function(*before, name, *after)
    if not pointer:
        return None
    free = ctypes.CDLL(None).free
    free.restype, free.argtypes = None, (ctypes.c_void_p,)
    try:
        return ctypes.string_at(pointer)
    finally:
        free(pointer)
