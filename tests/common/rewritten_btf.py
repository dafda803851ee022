"""A BTF blob with its types encoded anew: what the writer must make of all that the reader read.

Input: a `Btf`. Output: its bytes, with the header, the strings and all else that is not types as they were.
"""

from __future__ import annotations

from hatch_bpf.btf.header import MIN_HEADER
from hatch_bpf.btf.reader import Btf
from tests.common.btf_of_types import BtfBuilder


def rewrite(btf: Btf) -> bytes:
    """A name in its strings twice is put at the first."""
    builder = _OnItsStrings(btf)
    for type_id in range(1, len(btf)):
        builder.add(btf[type_id])
    start, end = btf.header.type_start, btf.header.type_end
    return btf.data[:start] + builder.build()[MIN_HEADER : MIN_HEADER + end - start] + btf.data[end:]


class _OnItsStrings(BtfBuilder):
    def __init__(self, btf: Btf) -> None:
        super().__init__(endian=btf.endian)
        self._all = btf.strings
        self._places: dict[str, int] = {}
        offset = 0
        for raw in btf.strings.split(b"\0")[:-1]:
            self._places.setdefault(raw.decode("utf-8", "surrogateescape"), offset)
            offset += len(raw) + 1

    def string(self, text: str) -> int:
        if text not in self._places:  # the tail of another
            return self._all.index(text.encode("utf-8", "surrogateescape") + b"\0")
        return self._places[text]
