"""Bytes that are, or somewhere hold, a kernel's BTF -> that BTF.

Input: the bytes of a file, or of a decompressed kernel image. Output: the BTF's bytes, or `KernelError`.
Only the header is checked: indexing 130,000 types takes longer than unpacking them, and `btf.reader` does it later.
"""

from __future__ import annotations

import struct

from hatch_bpf.btf.header import MIN_HEADER, VERSION
from hatch_bpf.errors import KernelError
from hatch_bpf.support.budget import BTF_BYTES, Budget

MAX_HEADER = 256
"""Longest header believed, in bytes; known ones have 24 and 32."""
MAGICS = {b"\x9f\xeb": "<", b"\xeb\x9f": ">"}
"""BTF's magic number in either byte order, and struct's sign for that order."""


def is_btf(data: bytes) -> bool:
    """Whether data starts as BTF does."""
    return data[:2] in MAGICS and data[2:3] == bytes([VERSION])


def check_btf(data: bytes, source: str) -> bytes:
    """`data`, when all of it is the BTF of a whole kernel. `source` names it in errors. Raises `KernelError`."""
    if not is_btf(data):
        start = data[:4].hex(" ") or "nothing"
        raise KernelError(f"not BTF: it starts with {start} instead of 9f eb 01 00", source=source)
    BTF_BYTES.check(len(data), source=source)
    if btf_size(data, 0) is None:
        raise KernelError(
            "this BTF is cut off, or not of a whole kernel (a module's only adds to vmlinux's); "
            "get the file anew, or name the kernel's own BTF",
            source=source,
        )
    return data


def find_btf(image: bytes, budget: Budget) -> bytes | None:
    """The largest sane BTF inside a kernel image, or None. Raises `KernelError` for an image of nothing but headers."""
    start, length = 0, 0
    for magic in MAGICS:
        at = image.find(magic + bytes([VERSION, 0]))
        while at >= 0:
            budget.work()
            size = btf_size(image, at)
            if size is not None and size > length:
                start, length = at, size
            at = image.find(magic + bytes([VERSION, 0]), at + 1)
    return image[start : start + length] or None


def btf_size(data: bytes, at: int) -> int | None:
    """Bytes of the BTF that starts at an offset, or None when its header isn't a kernel's."""
    order = MAGICS[data[at : at + 2]]
    if len(data) - at < MIN_HEADER:
        return None
    lengths: tuple[int, ...] = struct.unpack_from(order + "IIIII", data, at + 4)
    hdr_len, type_off, type_len, str_off, str_len = lengths
    if not MIN_HEADER <= hdr_len <= MAX_HEADER or hdr_len % 4:
        return None
    types, strings = at + hdr_len + type_off, at + hdr_len + str_off
    end = max(types + type_len, strings + str_len)
    if not type_len or type_len % 4 or type_off % 4 or not str_len or end > len(data) or end - at > BTF_BYTES.most:
        return None
    # the empty string comes first; a module's strings go on where the kernel's end, and start with a name
    if data[strings] or data[strings + str_len - 1]:
        return None
    return end - at
