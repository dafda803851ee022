"""Types of a BTF -> raw BTF with only these, in the same byte order.

Input: a `Btf`, and which of its types, as their words. Output: the bytes of a blob, laid out as by libbpf's
btf__raw_data(): a header of 24 bytes, the types, the strings.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from hatch_bpf.btf import types as t
from hatch_bpf.btf.header import MAGIC, MIN_HEADER, VERSION
from hatch_bpf.btf.reader import Btf
from hatch_bpf.btf.types import (
    ENTRY_REFERENCES,
    EXTRA_WORDS,
    FIXED_WORDS,
    NAMED_ENTRIES,
    REFERRING,
    WORDS_PER_ENTRY,
)


def write_types(
    btf: Btf, kept: Sequence[int], record_of: Callable[[int], tuple[t.Kind, array[int]]] | None = None
) -> bytes:
    """Raw BTF of some types, which get new ids in this order; references to others become void.

    `record_of` gives the kind of a type and its words, if not all of them are to be written. Each string is stored
    once, in the order of first use, as in libbpf: equal types give equal bytes.
    """
    ids = {0: 0, **{type_id: number for number, type_id in enumerate(kept, 1)}}
    out, strings = array("I"), bytearray(1)
    places, offsets = {"": 0}, {0: 0}

    def moved(offset: int) -> int:
        if offset not in offsets:
            text = btf.string(offset)
            if text not in places:
                places[text] = len(strings)
                strings.extend(text.encode("utf-8", "surrogateescape") + b"\0")
            offsets[offset] = places[text]
        return offsets[offset]

    for type_id in kept:
        kind, record = (record_of or btf.record)(type_id)
        record[0] = moved(record[0])
        if kind in REFERRING or kind is t.Kind.DECL_TAG:
            record[2] = ids.get(record[2], 0)
        width = WORDS_PER_ENTRY.get(kind) or EXTRA_WORDS.get(kind, 1)
        for at in range(FIXED_WORDS, len(record), width):
            if kind in NAMED_ENTRIES:
                record[at] = moved(record[at])
            for word in ENTRY_REFERENCES.get(kind, ()):
                record[at + word] = ids.get(record[at + word], 0)
        out.extend(record)
    return blob(out, strings, endian=btf.endian)


def as_libbpf_writes(btf: Btf) -> bytes:
    """The same BTF with each string once, in the order of first use."""
    return write_types(btf, range(1, len(btf)))


def blob(words: Iterable[int], strings: bytes | bytearray, *, endian: Literal["little", "big"]) -> bytes:
    """Raw BTF of a type section, as 32-bit words, and a string section."""
    types = array("I", words)
    if endian != sys.byteorder:
        types.byteswap()
    order, size = "<" if endian == "little" else ">", len(types) * types.itemsize
    header = struct.pack(order + "HBBI4I", MAGIC, VERSION, 0, MIN_HEADER, 0, size, size, len(strings))
    return header + types.tobytes() + bytes(strings)
