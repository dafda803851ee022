"""Refuse objects in which a fault of GNU's assembler makes programs use the wrong variables.

Input: an object's file. Output: nothing, or `ObjectError`. binutils 2.40 writes where a variable lies both into the
relocation's symbol and into the instruction, and libbpf's bpf_program__record_reloc() adds the two. The first variable
of each section is right, since it lies at 0.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from elftools.elf.constants import SH_FLAGS

from hatch_bpf.errors import ObjectError
from hatch_bpf.objects.elf import STT_OBJECT, ElfObject

_IMM = 4
"""Where an instruction has its constant, in bytes."""


def reject_double_offsets(elf: ElfObject, is_data: Callable[[str], bool]) -> None:
    """`is_data` says whether libbpf makes a map of a section's variables. Raises `ObjectError`."""
    comments = [section for section in elf.sections if section.name == ".comment"]
    if not any(b"GCC: " in elf.contents(section) for section in comments):
        return
    for table, target in elf.relocation_tables():
        if not target["sh_flags"] & SH_FLAGS.SHF_EXECINSTR:
            continue
        code = elf.contents(target)
        for offset, symbol in elf.relocations(table):
            if not (symbol.type == STT_OBJECT and symbol.value and symbol.section) or offset + _IMM + 4 > len(code):
                continue
            (written,) = struct.unpack_from(f"{elf.order}i", code, offset + _IMM)
            home = elf.section(symbol.section).name
            # an instruction may well have an offset, but one within the variable
            if written == symbol.value and written >= symbol.size and is_data(home):
                raise ObjectError(
                    f"{elf.path}: GNU's assembler wrote the place of {symbol.name} in {home} down twice, and libbpf "
                    f"adds the two, so that programs would use other bytes: give {symbol.name} a section of its own, "
                    f'SEC("{home}.{symbol.name}")'
                )
