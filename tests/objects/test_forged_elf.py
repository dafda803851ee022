"""Objects whose sections refer to themselves or to none: pyelftools below 0.33 ends in errors of its own."""

from __future__ import annotations

import struct

import pytest

from fuzz import seeds
from hatch_bpf.errors import ObjectError
from hatch_bpf.objects.model import read_object

TYPE, LINK = 4, 40


@pytest.mark.parametrize(
    ("section", "field", "value"), [(0, TYPE, 11), (0, TYPE, 2), (5, LINK, 11), (5, LINK, 0x7FFFFFFF), (5, LINK, 5)]
)
def test_sections_that_refer_to_themselves_or_to_none(section: int, field: int, value: int) -> None:
    forged = bytearray(seeds.objects()["little"])
    (table,) = struct.unpack_from("<Q", forged, 40)
    struct.pack_into("<I", forged, table + 64 * section + field, value)
    with pytest.raises(ObjectError):
        read_object(bytes(forged), path="forged.bpf.o")
