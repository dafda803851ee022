"""What every BTF blob starts with, and how its words lie in memory: constants of the format (`struct btf_header`).

Input: bytes in either byte order. Output: 32-bit words in the machine's order.
"""

from __future__ import annotations

import sys
from array import array
from typing import Literal

MAGIC = 0xEB9F
VERSION = 1
MIN_HEADER = 24
"""Bytes of the header that every version has."""


def words_of(data: bytes | memoryview, endian: Literal["little", "big"]) -> array[int]:
    """Bytes of a BTF as 32-bit words."""
    words = array("I")
    words.frombytes(data)
    if endian != sys.byteorder:
        words.byteswap()
    return words
