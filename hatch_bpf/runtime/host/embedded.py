"""The minimized BTFs of a package and the kernels they are for: the file `kernels.btfs`.

Input: its bytes, as `hatch_bpf/wheel/embedded_btfs.py` writes them. Output: an `Embedded`, which names the kernels and
puts together the BTF of each.

From kernel to kernel few types change: a struct grows, and all others stay. So each distinct type is stored once, and a
BTF is a list of types. What would differ all the same are the numbers by which types refer to each other and to
strings. Hence there is one string section for all, and types refer to each other by class: `struct sock`, whichever of
its variants the BTF lists. No BTF has two types of one class.

    header    magic, and the bytes that each section takes
    kernels   for each group a line `distro/version/arch` and a line for each release; an empty line between groups
    strings   as in BTF: NUL-terminated, the empty one first
    digests   of each BTF, the first bytes of its sha256
    chosen    of each kernel, in their order: the number of its BTF
    classes   of each type: its class, from 1
    types     as in BTF, but for names, which are offsets in `strings`, and type ids, which are classes
    btfs      of each BTF: its byte order, how many types it has, and the number of each

The last four are 32-bit little-endian words. Nothing is compressed: a wheel is. So equal builds have equal bytes
whatever their zlib, the runtime needs none, and the list of kernels can be read with `strings`.
"""

from __future__ import annotations

import struct
import sys
from array import array

from ..errors import PackageError
from .digest import sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MAGIC = b"btfs\x01\0\0\0"
"""The fifth byte is the version of the format."""
HEADER = struct.Struct("<8s7I")
DIGEST_BYTES = 8
"""How much of each BTF's sha256 is kept. The whole file has a full one; this one checks the reassembly of a BTF."""
ORDERS = ("<", ">")
"""A BTF's byte order, by the word in `btfs`."""

_TAILS = {1: "n", 3: "rrn", 4: "srn", 5: "srn", 6: "sn", 13: "sr", 14: "n", 15: "rnn", 17: "n", 19: "snn"}
"""Kind -> what follows the three words that every type has."""
_REPEATED = frozenset((4, 5, 6, 13, 15, 19))
"""Kinds that repeat their tail for each member, parameter, enumerator or variable."""
_REFERRING = frozenset((2, 8, 9, 10, 11, 12, 13, 14, 17, 18))
"""Kinds whose third word is a type, not a size."""


def roles(info: int) -> str:
    """What each word of a type is, from its second word: `s` a string, `r` a reference to a type, `n` a number."""
    kind = kind_of(info)
    tail = _TAILS.get(kind, "")
    return ("snr" if kind in _REFERRING else "snn") + tail * (info & 0xFFFFFF if kind in _REPEATED else 1)


def kind_of(info: int) -> int:
    """The kind of a type, from its second word."""
    return info >> 24 & 0x7F


class Embedded:
    """The contents of `kernels.btfs`. Every method raises `PackageError` for a damaged file."""

    __slots__ = ("_btfs", "_chosen", "_classes", "_digests", "_groups", "_path", "_starts", "_strings", "_types")

    def __init__(self, data: bytes, path: str) -> None:
        self._path = path
        try:
            magic, *sizes = HEADER.unpack_from(data)
            if magic != MAGIC or HEADER.size + sum(sizes) != len(data):
                raise ValueError("its header does not fit")
            ends = [HEADER.size + sum(sizes[: number + 1]) for number in range(len(sizes))]
            kernels, *sections = (data[end - size : end] for size, end in zip(sizes, ends))
            text = kernels.decode()
            self._groups = [group.split("\n") for group in text.split("\n\n")] if text else []
            if any(group[0].count("/") != 2 for group in self._groups):
                raise ValueError("its kernels are no kernels")
            self._strings, self._digests = sections[:2]
            self._chosen, self._classes, self._types, self._btfs = map(_words, sections[2:])
            if len(self._chosen) < sum(len(releases) for _, releases, _ in self._in_order()):
                raise ValueError("it names more kernels than it has BTFs for")
            self._starts = _starts(self._types)
        except (struct.error, ValueError, IndexError) as error:
            raise self._damaged(error) from error

    def kernels(self) -> dict[str, int]:
        """`distro/version/arch/release` -> the number of its BTF."""
        return {
            f"{group}/{release}": self._chosen[first + at]
            for group, releases, first in self._in_order()
            for at, release in enumerate(releases)
        }

    def namesakes(self, *, arch: str, release: str) -> dict[str, int]:
        """The entries of `kernels()` for one architecture and release, without looking at all the others."""
        return {
            f"{group}/{release}": self._chosen[first + releases.index(release)]
            for group, releases, first in self._in_order()
            if group.endswith(f"/{arch}") and release in releases
        }

    def btf(self, number: int) -> bytes:
        """A BTF, byte for byte as it was embedded."""
        try:
            data = self._put_together(number)
        except (IndexError, KeyError, ValueError) as error:
            raise self._damaged(error) from error
        digest = self._digests[number * DIGEST_BYTES : (number + 1) * DIGEST_BYTES]
        if sha256(data)[: 2 * DIGEST_BYTES] != digest.hex():
            raise self._damaged(f"BTF {number} has the wrong sha256")
        return data

    def _put_together(self, number: int) -> bytes:
        order, numbers = self._listed(number)
        ids = {self._classes[of_type]: type_id for type_id, of_type in enumerate(numbers, 1)}
        if len(ids) < len(numbers):
            raise ValueError(f"BTF {number} lists two types of one class")
        ids[0] = 0  # void
        types, strings, offsets = array("I"), bytearray(1), {0: 0}
        for of_type in numbers:
            words = self._types[self._starts[of_type] : self._starts[of_type + 1]]
            for at, role in enumerate(roles(words[1])):
                if role == "r":
                    words[at] = ids[words[at]]
                elif role == "s":
                    if words[at] not in offsets:
                        # libbpf stores strings in the order of their first use
                        offsets[words[at]] = len(strings)
                        strings += self._strings[words[at] : self._strings.index(b"\0", words[at]) + 1]
                        if len(strings) > len(self._strings):
                            raise ValueError(f"BTF {number} has more names than there are")
                    words[at] = offsets[words[at]]
            types += words
        if order != ("<" if sys.byteorder == "little" else ">"):
            types.byteswap()
        size = 4 * len(types)
        return struct.pack(order + "HBB5I", 0xEB9F, 1, 0, 24, 0, size, size, len(strings)) + types.tobytes() + strings

    def _listed(self, number: int) -> tuple[str, array[int]]:
        """The byte order of a BTF, and the numbers of its types."""
        at = 0
        for _ in range(number):
            at += 2 + self._btfs[at + 1]
        order, count = self._btfs[at : at + 2]
        return ORDERS[order], self._btfs[at + 2 : at + 2 + count]

    def _in_order(self) -> Iterator[tuple[str, list[str], int]]:
        """Each group, its releases, and how many kernels are before it."""
        first = 0
        for group, *releases in self._groups:
            yield group, releases, first
            first += len(releases)

    def _damaged(self, why: object) -> PackageError:
        return PackageError(f"{self._path} is damaged ({why}); reinstall the package")


def _starts(types: array[int]) -> list[int]:
    """Where each type begins, and where the last one ends."""
    starts = [0]
    while starts[-1] < len(types):
        info = types[starts[-1] + 1]
        # not len(roles()): garbage may claim millions of members
        count = info & 0xFFFFFF if kind_of(info) in _REPEATED else 1
        starts.append(starts[-1] + 3 + count * len(_TAILS.get(kind_of(info), "")))
    if starts[-1] != len(types):
        raise ValueError("its last type is cut off")
    return starts


def _words(data: bytes) -> array[int]:
    words = array("I")
    words.frombytes(data)
    if sys.byteorder == "big":
        words.byteswap()
    return words
