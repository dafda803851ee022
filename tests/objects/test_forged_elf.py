"""Objects whose sections refer to themselves or to none, which libbpf refuses as well."""

from __future__ import annotations

import io
import struct

import pytest
from elftools.elf.elffile import ELFFile

from fuzz import seeds
from hatch_bpf.errors import ObjectError
from hatch_bpf.objects.elf import ElfObject
from hatch_bpf.objects.model import read_object
from hatch_bpf.portability.libbpf_open import refusals_of_libbpf

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
    version, refused = refusals_of_libbpf([bytes(forged)])
    assert bytes(forged) in refused or not version


@pytest.mark.parametrize(
    ("at", "form", "value", "message"),
    [
        (40, "Q", 1 << 63, "its headers are beyond the end of the file"),
        (40, "Q", 1 << 20, "its headers are beyond the end of the file"),
        (40, "Q", 0, r"has no \.BTF section"),
        (58, "H", 40, "its section headers have 40 bytes, not 64"),
        (60, "H", 9999, "more than 8,192 sections"),
        (62, "H", 99, "the names of its sections are in section 99 of 8"),
        (4, "B", 3, "its class is 3"),
    ],
)
def test_a_forged_header(at: int, form: str, value: int, message: str) -> None:
    forged = bytearray(seeds.objects()["little"])
    struct.pack_into(f"<{form}", forged, at, value)
    with pytest.raises(ObjectError, match=message):
        read_object(bytes(forged), path="forged.bpf.o")


def test_sections_are_read_as_pyelftools_reads_them() -> None:
    for data in seeds.objects().values():
        theirs = [
            (s.name, s["sh_flags"], s["sh_size"], s["sh_link"], s["sh_info"], s.data())
            for s in ELFFile(io.BytesIO(data)).iter_sections()
        ]
        elf = ElfObject(data, "seed.bpf.o")
        ours = [
            (s.name, s.flags, s.size, s.link, s.info, elf.contents(s) if s.is_in_file else b"") for s in elf.sections
        ]
        assert ours == theirs
        assert len(ours) > 7


def test_more_sections_than_the_header_can_count() -> None:
    """Numbers from 0xff00 on are in the first section's header: of the object itself, which has few, all the same."""
    forged = bytearray(seeds.objects()["little"])
    (table,) = struct.unpack_from("<Q", forged, 40)
    count, names = struct.unpack_from("<HH", forged, 60)
    struct.pack_into("<HH", forged, 60, 0, 0xFFFF)
    struct.pack_into("<Q", forged, table + 32, count)
    struct.pack_into("<I", forged, table + LINK, names)
    sections = ElfObject(bytes(forged), "forged.bpf.o").sections
    assert [section.name for section in sections] == [
        section.name for section in ElfObject(seeds.objects()["little"], "seed.bpf.o").sections
    ]
