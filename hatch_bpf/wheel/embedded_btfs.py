"""Kernels and their minimized BTFs -> the file `kernels.btfs`, in which each distinct type is stored once.

Input: a minimized BTF for each kernel. Output: bytes, the same on any machine. `runtime/host/embedded.py` describes the
format and reads it.
"""

from __future__ import annotations

import hashlib
import itertools
import sys
from array import array
from collections.abc import Iterable, Mapping

from hatch_bpf.btf.reader import Btf
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.runtime.host.embedded import DIGEST_BYTES, HEADER, MAGIC, ORDERS, Embedded, kind_of, roles

_Key = tuple[object, ...]
_DEPTH = 8
"""How deep the key of an anonymous type looks: `const char *[4]` is an array, a pointer, a const and a name deep."""


def pack_btfs(minimized: Mapping[Kernel, bytes]) -> bytes:
    """The file for these kernels.

    Each BTF must have its strings in the order of first use, as `write_types()` and libbpf write them.
    """
    store = _Sections()
    in_order = sorted(minimized)
    groups = [
        "\n".join((group, *(kernel.release for kernel in kernels)))
        for group, kernels in itertools.groupby(in_order, _group)
    ]
    chosen = [store.add(minimized[kernel]) for kernel in in_order]
    sections = (
        "\n\n".join(groups).encode(),
        bytes(store.strings),
        b"".join(hashlib.sha256(btf).digest()[:DIGEST_BYTES] for btf in store.btfs),
        *(_little_endian(words) for words in (chosen, store.classes, store.types, store.lists)),
    )
    data = HEADER.pack(MAGIC, *map(len, sections)) + b"".join(sections)
    embedded = Embedded(data, "what was just packed")
    for number in range(len(store.btfs)):
        embedded.btf(number)  # raises unless it equals what was stored
    return data


def _group(kernel: Kernel) -> str:
    """A kernel's group. Unknown parts are empty, since the runtime compares with os-release's own values."""
    return f"{kernel.distro}/{kernel.version}/{kernel.arch}"


class _Sections:
    """The file's sections, which grow BTF by BTF."""

    def __init__(self) -> None:
        self.btfs: dict[bytes, int] = {}
        self.strings = bytearray(1)
        self.classes: list[int] = []
        self.types: list[int] = []
        self.lists: list[int] = []
        self._offsets = {"": 0}
        self._class_of: dict[_Key, int] = {}
        self._numbers: dict[tuple[int, ...], int] = {}

    def add(self, data: bytes) -> int:
        """Store a BTF unless it is stored already. Returns its number."""
        if data not in self.btfs:
            self.btfs[data] = len(self.btfs)
            btf = Btf(data, source="minimized BTF")
            types = [btf.record(type_id)[1] for type_id in range(1, len(btf))]
            classes = self._classes(btf, types)
            self.lists += (ORDERS.index("<" if btf.endian == "little" else ">"), len(types))
            self.lists += (self._number(btf, words, classes, of) for words, of in zip(types, classes[1:], strict=True))
        return self.btfs[data]

    def _classes(self, btf: Btf, types: list[array[int]]) -> list[int]:
        """The class of each type, void first. If two types of one BTF share a key, they get different classes."""
        classes = [0]
        seen: dict[_Key, int] = {}
        for type_id in range(1, len(types) + 1):
            key = _key(btf, types, type_id, _DEPTH)
            seen[key] = seen.get(key, 0) + 1
            classes.append(self._class_of.setdefault((key, seen[key]), len(self._class_of) + 1))
        return classes

    def _number(self, btf: Btf, words: array[int], classes: list[int], of_type: int) -> int:
        """The number of a type, which is stored first if it is new."""
        stored = tuple(
            self._offset(btf.string(word)) if role == "s" else classes[word] if role == "r" else word
            for word, role in zip(words, roles(words[1]), strict=True)
        )
        number = self._numbers.setdefault((of_type, *stored), len(self._numbers))
        if number == len(self.classes):
            self.classes.append(of_type)
            self.types += stored
        return number

    def _offset(self, text: str) -> int:
        offset = self._offsets.setdefault(text, len(self.strings))
        if offset == len(self.strings):
            self.strings += text.encode("utf-8", "surrogateescape") + b"\0"
        return offset


def _key(btf: Btf, types: list[array[int]], type_id: int, depth: int) -> _Key:
    """Identifies a type across kernels: by kind and name, or by its parts if it is anonymous."""
    if type_id == 0 or depth == 0:
        return ()
    words = types[type_id - 1]
    kind, described = kind_of(words[1]), list(zip(words, roles(words[1]), strict=True))
    if words[0]:
        return (kind, btf.string(words[0]))
    if names := tuple(btf.string(word) for word, role in described[3:] if role == "s"):
        return (kind, names)
    return (kind, *(_key(btf, types, word, depth - 1) if role == "r" else word for word, role in described[2:]))


def _little_endian(words: Iterable[int]) -> bytes:
    encoded = array("I", words)
    if sys.byteorder == "big":
        encoded.byteswap()
    return encoded.tobytes()
