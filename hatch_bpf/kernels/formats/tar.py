"""A tar -> its members, front to back; and the BTF in a tar that holds nothing else.

Input: a `PlainStream` at the start of a tar, and the budget of the file it is in. Output: the members one by one, each
with its content until the next is asked for. Raises `KernelError`.

Python's `tarfile` is not used: its readers of pax and sparse headers take minutes and gigabytes for a forged file of a
few hundred bytes. This reader knows what archives of BTF, Debian packages and root file systems have: ustar, GNU's long
names, and pax's `path`, `linkpath` and `size`. A sparse file counts as a member that is not a regular file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from hatch_bpf.errors import KernelError
from hatch_bpf.kernels.formats.compression import PlainStream
from hatch_bpf.kernels.formats.raw_btf import check_btf
from hatch_bpf.runtime.printable import printable
from hatch_bpf.support.budget import FILE_NAME, Budget

BLOCK = 512
STEPS_PER_MEMBER = 24
"""What a member costs of a budget. Linux's headers, the package with the most files, have 20,000 to 30,000."""
_LONG_NAME, _LONG_LINK, _PAX, _PAX_OF_ALL, _FOLDER = b"L", b"K", b"x", b"g", b"5"
_HARD_LINK, _SYMBOLIC_LINK = b"1", b"2"
_FILES = (b"0", b"\0", b"7")
_RECORD = re.compile(rb"([0-9]{1,4}) ([^=]+)=")


@dataclass(frozen=True)
class TarMember:
    """A file, folder or link in a tar."""

    name: str
    size: int
    """Bytes of content."""
    is_file: bool
    """Whether it is a regular file without holes."""
    is_folder: bool
    is_hard_link: bool
    is_symbolic_link: bool
    link: str
    """What a link leads to."""
    mode: int
    """Permissions."""
    stream: PlainStream

    def read(self) -> bytes:
        """The content. To be called once at most, before the next member is asked for."""
        return self.stream.read(self.size)


def members(stream: PlainStream, budget: Budget) -> Iterator[TarMember]:
    """Every member of a tar. Raises `KernelError`."""
    extended: dict[str, str] = {}
    while (header := stream.read(BLOCK)).strip(b"\0"):
        budget.work(STEPS_PER_MEMBER)
        kind, size = header[156:157], _size(header, stream)
        if kind in (_LONG_NAME, _LONG_LINK, _PAX, _PAX_OF_ALL):
            content = stream.read(FILE_NAME.check(size, source=budget.source))
            stream.skip(-size % BLOCK)
            if kind == _LONG_NAME:
                extended["path"] = _text(content)
            elif kind == _LONG_LINK:
                extended["linkpath"] = _text(content)
            elif kind == _PAX:
                extended.update(_records(content, stream))
            continue
        if "size" in extended:
            size = _number(extended["size"].encode(errors="replace"), 10, stream)
        is_whole = not any(key.startswith("GNU.sparse.") for key in extended)
        name = extended.get("path") or _name(header)
        end = stream.position + size + -size % BLOCK
        yield TarMember(
            name,
            size,
            is_file=kind in _FILES and is_whole,
            is_folder=kind == _FOLDER,
            is_hard_link=kind == _HARD_LINK,
            is_symbolic_link=kind == _SYMBOLIC_LINK,
            link=extended.get("linkpath") or _text(header[157:257]),
            mode=_number(header[100:108], 8, stream),
            stream=stream,
        )
        stream.skip(end - stream.position)
        extended = {}


def only_member(tar: bytes, budget: Budget) -> tuple[str, bytes]:
    """Name and BTF of a tar's one member. Raises `KernelError` for any other tar."""
    found: tuple[str, bytes] | None = None
    for member in members(PlainStream([tar], "its tar", source=budget.source), budget):
        shown = printable(member.name)
        if member.is_folder and not member.name.strip("./"):
            continue
        if found is not None:
            raise KernelError(
                f'holds more than one member ("{printable(found[0])}", "{shown}"); pack exactly one, the kernel\'s BTF',
                source=budget.source,
            )
        name = member.name.removeprefix("./")
        if not member.is_file:
            raise KernelError(f'"{shown}" is not a regular file; pack the BTF itself', source=budget.source)
        if "/" in name:
            raise KernelError(
                f'"{shown}" leads to another folder; pack the BTF under its bare name', source=budget.source
            )
        found = name, member.read()
    if found is None:
        raise KernelError("holds no member; pack exactly one, the kernel's BTF", source=budget.source)
    name, data = found
    return name, check_btf(data, f"{budget.source}, {printable(name)}")


def _name(header: bytes) -> str:
    prefix = _text(header[345:500]) if header[257:263] == b"ustar\0" else ""
    name = _text(header[:100])
    return f"{prefix}/{name}" if prefix else name


def _size(header: bytes, stream: PlainStream) -> int:
    """Bytes of content, as said by a header whose checksum is right."""
    if sum(header[:148]) + 8 * ord(" ") + sum(header[156:]) != _number(header[148:156], 8, stream):
        raise stream.fault("a header's checksum is wrong")
    if header[124] == 0x80:  # above 8 GiB, as a binary number
        return int.from_bytes(header[125:136], "big")
    return _number(header[124:136], 8, stream)


def _records(content: bytes, stream: PlainStream) -> dict[str, str]:
    """The records of a pax header, each `LENGTH KEY=VALUE` and a newline."""
    found = {}
    at = 0
    while at < len(content):
        match = _RECORD.match(content, at)
        end = at + int(match[1]) if match else 0
        if match is None or not match.end() < end <= len(content):
            raise stream.fault("a broken pax header")
        found[_text(match[2])] = _text(content[match.end() : end - 1])
        at = end
    return found


def _number(text: bytes, base: int, stream: PlainStream) -> int:
    digits = text.strip(b" \0")
    if not re.fullmatch(b"[0-7]{0,12}" if base == 8 else b"[0-9]{1,15}", digits):
        raise stream.fault("a broken number")
    return int(digits or b"0", base)


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")
