"""Functions and USDTs in programs and libraries of this machine. Input: a path and names. Output: file offsets, names.

libbpf looks up one function by its name, or many by a pattern. A list of names works (at least in 1.4 and 1.5) only for
files that still have a `.symtab`, and distributions strip it. It knows nothing of separate debug files.
"""

from __future__ import annotations

import os
import sys

from ..arguments import c_string
from ..libbpf.library import library_folders
from ..symbols.elf_image import SHT_DYNSYM, SHT_GNU_VERSYM, SHT_SYMTAB, STB_WEAK, STT_FUNC
from ..symbols.symbol_files import opened_image, stripped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from ..symbols.elf_image import ElfImage

NT_STAPSDT = 3
VERSYM_HIDDEN = 1 << 15
"""Set for the versions of a symbol that only programs linked against them get."""


def function_offsets(path: str, names: Sequence[str]) -> list[int]:
    """The offset of each function in the file. Each name must be that of one function.

    Raises `OSError`, or `ValueError` for a missing or an ambiguous function and for what is no ELF file. As in libbpf
    the dynamic symbols come first, a default version precedes older ones, and a strong symbol a weak one. What was
    stripped is looked for in the separate debug file, and in `.gnu_debugdata`.
    """
    with opened_image(path) as image:
        wanted = {os.fsencode(name) for name in names}
        found: dict[bytes, set[int]] = {}
        for table in (SHT_DYNSYM, SHT_SYMTAB):
            found.update(_best(image, table, wanted - found.keys()))
        if wanted - found.keys():
            with stripped(image, *_home(path)) as others:
                for other in others:
                    found.update(_best(other, SHT_SYMTAB, wanted - found.keys()))
        return [_only_one(_offsets(image, found.get(os.fsencode(name), ())), name, path) for name in names]


def stripped_functions(path: str, pattern: str) -> list[int]:
    """Offsets of the functions of a stripped file that match a pattern with `*` and `?`.

    Empty if the file was not stripped, or nothing has its symbols. Raises `OSError`, or `ValueError` for what is no
    ELF file.
    """
    with opened_image(path) as image, stripped(image, *_home(path)) as others:
        return sorted(_offsets(image, (value for _, value in _matching(image, others, pattern)))) if others else []


def function_names(path: str, pattern: str) -> list[str]:
    """The functions of a file, also the stripped ones, that match a pattern with `*` and `?`.

    Raises `OSError`, or `ValueError` for what is no ELF file.
    """
    with opened_image(path) as image, stripped(image, *_home(path)) as others:
        found = {name for name, _ in _matching(image, others, pattern)}
        return sorted(name.decode("utf-8", "backslashreplace") for name in found)


def matcher(pattern: str) -> Callable[[bytes], object]:
    """A function that is true for names that match a pattern with `*` and `?`."""
    import re

    words = {"*": ".*", "?": "."}
    text = os.fsdecode(c_string("pattern", pattern))
    return re.compile(os.fsencode("".join(words.get(char) or re.escape(char) for char in text)), re.DOTALL).fullmatch


def _matching(image: ElfImage, others: Iterable[ElfImage], pattern: str) -> Iterator[tuple[bytes, int]]:
    """Name and address of the functions that match a pattern, in a file and in what has its stripped symbols."""
    wanted = matcher(pattern)
    for each, table in ((image, SHT_DYNSYM), *((each, SHT_SYMTAB) for each in (image, *others))):
        for *_, name, value in _functions(each, table, wanted):
            yield name, value


def _functions(image: ElfImage, table: int, wanted: Callable[[bytes], object]) -> Iterator[tuple[int, int, bytes, int]]:
    """Index, binding, name and address of each symbol of a wanted function, in tables of this type."""
    for index, (name_at, info, home, value, _, strings) in enumerate(image.symbols(table)):
        if info & 0xF == STT_FUNC and home:
            name = image.string(strings, name_at)
            if wanted(name):
                yield index, info >> 4, name, value


def _offsets(image: ElfImage, addresses: Iterable[int]) -> set[int]:
    """The offsets in the file of what it has at these addresses."""
    return {offset for offset in map(image.offset_of, addresses) if offset is not None}


def _home(path: str) -> tuple[str, str]:
    """Where a file really is, and the root folder below which it is there: `/proc/PID/root/...` and `/proc/PID/exe` are
    a process's own files."""
    _, *parts = path.split("/", 4)
    if len(parts) > 2 and parts[0] == "proc":
        root = f"/proc/{parts[1]}/root"
        if parts[2] == "exe":
            return os.readlink(path), root
        if parts[2] == "root":
            return "/" + "".join(parts[3:]), root
    return os.path.realpath(path), ""


def usdt_names(path: str) -> list[str]:
    """The USDTs of a file, as PROVIDER:NAME. Raises `OSError`, or `ValueError` for what is no ELF file."""
    with opened_image(path) as image:
        return sorted(set(_usdts(image)))


def full_path(binary: str) -> str:
    """The file that libbpf takes for the name of a program or library without a folder: `libc.so.6`, `bash`."""
    if "/" in binary:
        return binary
    is_library = ".so" in binary
    folders = library_folders() if is_library else os.environ.get("PATH", os.defpath).split(os.pathsep)
    return next((path for path in (os.path.join(folder, binary) for folder in folders) if os.path.exists(path)), binary)


def _usdts(image: ElfImage) -> Iterator[str]:
    """What the notes of `sys/sdt.h` name."""
    addresses = 3 * image.bits // 8
    for owner, kind, data in image.notes():
        if owner == b"stapsdt" and kind == NT_STAPSDT:
            names = data[addresses:].split(b"\0", 2)
            if len(names) > 2:  # or else the note is damaged
                yield b":".join(names[:2]).decode("utf-8", "backslashreplace")


def _only_one(offsets: set[int], name: str, path: str) -> int:
    if not offsets:
        raise ValueError(f"there is no {name}")
    if len(offsets) > 1:
        raise ValueError(
            f'{name} is ambiguous: {len(offsets)} functions of {path} have this name; pattern="{name}" takes them all'
        )
    return next(iter(offsets))


def _best(image: ElfImage, table: int, names: Collection[bytes]) -> dict[bytes, set[int]]:
    """The addresses of the functions of these names in tables of this type, only the best of each name."""
    found: dict[bytes, dict[tuple[bool, bool], set[int]]] = {}
    versions = image.contents_of(SHT_GNU_VERSYM) if table == SHT_DYNSYM else b""
    for index, binding, name, value in _functions(image, table, names.__contains__):
        version = int.from_bytes(versions[2 * index : 2 * index + 2], sys.byteorder)
        rank = bool(version & VERSYM_HIDDEN), binding == STB_WEAK
        found.setdefault(name, {}).setdefault(rank, set()).add(value)
    return {name: by_rank[min(by_rank)] for name, by_rank in found.items()}
