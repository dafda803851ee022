"""What an ELF file says of its sections -> their contents, as long as that is what is in the file.

Input: pyelftools' sections. Output: bytes, or `ELFError`. pyelftools itself believes what a file claims: that a few
bytes unpack to gigabytes, or that there are as many zeros.
"""

from __future__ import annotations

from collections.abc import Iterable

from elftools.common.exceptions import ELFError
from elftools.elf.sections import Section


def contents(section: Section) -> bytes:
    """The bytes of a section. No compiler compresses those that are read here, nor leaves them out of the file."""
    if section.compressed:
        raise ELFError(f"section {section.name} is compressed")
    if section["sh_type"] == "SHT_NOBITS":
        raise ELFError(f"section {section.name} is not in the file")
    return section.data()


def check_sizes(sections: Iterable[Section], file_size: int) -> None:
    """Refuse sections that overlap or go beyond the file: read one by one they could take any time and memory."""
    total = sum(section["sh_size"] for section in sections if section["sh_type"] not in ("SHT_NOBITS", "SHT_NULL"))
    if total > file_size:
        raise ELFError(f"its sections claim to have {total} bytes, and the file has {file_size}")
