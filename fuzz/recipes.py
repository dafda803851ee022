"""A few bytes -> a file that is right but for what the bytes say: repeated, nested, or with a field that lies.

Input: bytes, which libFuzzer or hypothesis choose. Output: files of up to some megabytes. What costs time or memory is
seldom a byte that is wrong: it is a right record a million times over, behind a checksum, in something compressed.
Single bytes of a small seed never become that.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
from collections.abc import Callable
from itertools import chain
from typing import TypeVar

from fuzz import formats
from hatch_bpf.runtime.host.embedded import HEADER, MAGIC

T = TypeVar("T")
MOST = 1 << 20
"""Bytes that one repetition makes at the most."""


class Recipe:
    """Choices, read from bytes; after the last byte always the first one."""

    def __init__(self, data: bytes) -> None:
        self._bytes = iter(data)

    def choose(self, *options: T) -> T:
        return options[next(self._bytes, 0) % len(options)]

    def make(self, *makers: Callable[[Recipe], bytes]) -> bytes:
        """What one of the makers makes."""
        return self.choose(*makers)(self)

    def count(self) -> int:
        """A number of any order of magnitude, up to 10 million."""
        return int(10 ** (next(self._bytes, 0) * 7 / 255))

    def times(self, data: bytes) -> bytes:
        """The same over and over."""
        return data * min(self.count(), max(1, MOST // max(1, len(data))))

    def parts(self, *makers: Callable[[Recipe], bytes]) -> bytes:
        """Up to four things, each perhaps many times."""
        return b"".join(self.times(self.make(*makers)) for _ in range(self.choose(1, 2, 3, 4)))


def just(data: bytes) -> Callable[[Recipe], bytes]:
    """A maker of the same thing whatever the recipe says."""
    return lambda _: data


def text(recipe: Recipe) -> bytes:
    """A text of any length, often one that some reader takes for a number, or a terminal for an escape."""
    odd = (b"a", b"1", b"9", b"6.1-", b"-", b".", b"[", b"a.", b"\x1b[2J", b"\xe2\x80\xae", b"\xff", b"\0", b"\n")
    return recipe.times(recipe.choose(*odd))


_BTF = formats.btf(struct.pack("<IIII", 1, 1 << 24, 4, 32), b"\0int\0")
_NAME = b"6.1.0-1-amd64"
_PACK: tuple[Callable[[bytes], bytes], ...] = (
    lambda data: lzma.compress(data, preset=0),
    lambda data: gzip.compress(data, 1, mtime=0),
    lambda data: bz2.compress(data, 1),
    lambda data: lzma.compress(data, lzma.FORMAT_ALONE, preset=0),
    bytes,
)


def packed(recipe: Recipe, data: bytes) -> bytes:
    """Data in some compression, perhaps with empty streams around it."""
    pack = recipe.choose(*_PACK)
    around = recipe.make(just(b""), just(b""), lambda inner: inner.times(pack(b"")))
    return around + pack(data) + around


def _tar_file(recipe: Recipe) -> bytes:
    name = recipe.make(just(_NAME + b".btf"), just(b"./control"), just(b"boot/vmlinuz-6.1"), text)
    content = recipe.make(just(_BTF), just(b""), image, text)
    size = recipe.choose(len(content), len(content), 0, 8**11 - 1, len(content) + 1)
    kind = recipe.choose(*(b"%c" % kind for kind in b"0010257gLKSD7"))
    return formats.tar_header(name, size, kind) + formats.padded(content)


def _tar_extension(recipe: Recipe) -> bytes:
    keys = (b"path", b"size", b"GNU.sparse.major", b"GNU.sparse.map", b"GNU.sparse.numblocks", b"hdrcharset")
    return formats.pax(recipe.make(text, lambda inner: formats.pax_record(inner.choose(*keys), text(inner))))


def tar(recipe: Recipe) -> bytes:
    """A tar, compressed."""
    end = just(bytes(1024)), just(b""), lambda inner: inner.times(bytes(512))
    return packed(recipe, recipe.parts(_tar_file, _tar_extension) + recipe.make(*end))


def deb(recipe: Recipe) -> bytes:
    """A Debian package."""
    members = [
        (recipe.choose(b"data.tar.xz", b"control.tar", b"debian-binary"), recipe.make(tar, text))
        for _ in range(recipe.choose(1, 2, 3))
    ]
    most = MOST // sum(60 + len(data) for _, data in members)
    size = recipe.choose(b"", b"", b"", b"-60", b"-120", b"9" * 10, b"+0_0", b" 1")
    return formats.ar(*members * max(1, min(recipe.count(), most)), size=size)


def _cpio_file(recipe: Recipe) -> bytes:
    name = recipe.make(just(b"x\0"), just(b"./boot/vmlinuz-6.1\0"), just(b"TRAILER!!!\0"), text)
    content = recipe.make(just(b""), image, text)
    size, name_size = (recipe.choose(None, None, 0, 0xFFFFFFFF) for _ in range(2))
    return formats.cpio(name, content, size=size, name_size=name_size)


def rpm(recipe: Recipe) -> bytes:
    """An RPM package."""
    tags = recipe.times(struct.pack(">IIII", recipe.choose(1001, 1002, 1022, 5), 6, recipe.count(), 1))
    count = recipe.choose(len(tags) // 16, len(tags) // 16, 0, 0xFFFFFFFF)
    header = formats.rpm_header(tags, text(recipe), count, recipe.choose(None, None, 0xFFFFFF, 0xFFFFFFFF))
    return formats.rpm(packed(recipe, recipe.parts(_cpio_file)), header)


def elf(recipe: Recipe) -> bytes:
    """An ELF file."""
    names = b"\0.BTF\0" + text(recipe)
    name, kind, flags = recipe.choose(0, 1, 6, 0xFFFFFFFF), recipe.choose(1, 3, 8), recipe.choose(0, 0x800)
    rows = [(name, kind, flags, 64, recipe.count())] * min(recipe.count(), 0xFF00)
    return formats.elf(names, rows, machine=recipe.choose(62, 183, 247))


def image(recipe: Recipe) -> bytes:
    """A kernel image, or what its readers take for one."""
    body = recipe.parts(just(_BTF), just(_BTF[:24]), just(b"\x9f\xeb\1\0"), text, just(bytes(16)))
    return recipe.make(just(body), lambda inner: packed(inner, body), lambda inner: _bootable(inner, body))


def _bootable(recipe: Recipe, body: bytes) -> bytes:
    payload = packed(recipe, body)
    size = recipe.choose(len(payload), 0xFFFFFFFF)
    boot = bytearray(0xA60)
    boot[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", boot, 0x248, 0x60, size)
    zboot = b"MZ\0\0zimg" + struct.pack("<II", 16, size)
    return recipe.choose(bytes(boot), zboot) + payload


def btf(recipe: Recipe) -> bytes:
    """A BTF of many types that are alike, whose names may be tails of one string."""
    strings = b"\0int\0task_struct\0pid\0" + text(recipe) + b"\0"
    kind, step = recipe.choose(*range(1, 20)), recipe.choose(0, 1, 3, 12)
    width = {4: 3, 5: 3, 6: 2, 13: 2, 15: 3, 19: 3}.get(kind, 0)
    members = min(recipe.count(), 20_000) if width else 0
    words = width * members + {1: 1, 3: 3, 14: 1, 17: 1}.get(kind, 0)
    ahead = recipe.choose(0, 1, -1)
    types = [struct.pack("<IIII", 1, 1 << 24, 4, 1 << 24 | 32)]
    for number in range(2, 2 + min(recipe.count(), MOST // (12 + 4 * words))):
        name = (5 + step * number) % len(strings)
        entries = (((5 + step * member) % len(strings), 1, 32 * member)[:width] for member in range(members))
        tail = chain.from_iterable(entries)
        head = (name, kind << 24 | members, number + ahead if ahead else 1)
        types.append(struct.pack(f"<{3 + words}I", *head, *tail, *[0] * (words - width * members)))
    return formats.btf(b"".join(types), strings)


def _kernel(recipe: Recipe) -> bytes:
    release = recipe.make(just(_NAME), text)
    return b"/".join((b"debian", b"12", recipe.choose(b"x86_64", b"vax", b"arm64"), release))


def index(recipe: Recipe) -> bytes:
    """An index.txt."""
    return recipe.parts(lambda inner: inner.make(_kernel, text) + b"\n")


def lock(recipe: Recipe) -> bytes:
    """A bpf-kernels.lock."""
    head = recipe.choose(b"patterns = []\narchs = []\n[btf-sha256]\n", b"patterns = [\n", b"")
    line = (lambda inner: b'"' + _kernel(inner) + b'" = "' + b"0f" * 32 + b'"\n', lambda inner: text(inner) + b" = 1\n")
    return head + recipe.parts(*line, lambda inner: b'"' + _kernel(inner) + b'",\n')


def embedded(recipe: Recipe) -> bytes:
    """A kernels.btfs."""
    kernels = b"d/1/x86_64" + recipe.times(b"\n6") + recipe.make(just(b""), text)
    strings = b"\0" + text(recipe) + b"\0"
    members, step = min(recipe.count(), 100_000), recipe.choose(0, 1, 3)
    one = struct.pack("<III", 0, 4 << 24 | members, 4)
    one += b"".join(struct.pack("<III", 1 + step * member, 0, 0) for member in range(members))
    listed = struct.pack("<II", 0, 1) + recipe.times(bytes(4))
    sections = (kernels, strings, recipe.times(bytes(8)), recipe.times(bytes(4)), struct.pack("<I", 1), one, listed)
    return HEADER.pack(MAGIC, *map(len, sections)) + b"".join(sections)


def package(recipe: Recipe) -> bytes:
    """A kernel in any form."""
    return recipe.make(image, deb, rpm, tar, elf)


FILES: dict[str, Callable[[Recipe], bytes]] = {
    "package": package,
    "archive": tar,
    "btf": btf,
    "index": index,
    "lock": lock,
    "embedded": embedded,
}
"""What is made for which target."""
