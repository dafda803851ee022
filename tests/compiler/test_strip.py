"""Stripping DWARF, against llvm-strip -g."""

from __future__ import annotations

import io
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import SymbolTableSection

from hatch_bpf.compiler.strip import strip_debug
from hatch_bpf.errors import ObjectError
from tests.common import c_programs, needs
from tests.common.projects import PROGRAM


def contents(data: bytes) -> dict[str, object]:
    """What an object says, without section and symbol numbers: those differ, since llvm-strip drops FILE symbols."""
    elf = ELFFile(io.BytesIO(data))
    sections = list(elf.iter_sections())
    seen: dict[str, object] = {}
    for section in sections:
        if isinstance(section, SymbolTableSection):
            seen["symbols"] = [
                (symbol.name, symbol["st_value"], symbol["st_size"], symbol["st_info"]["type"], home(sections, symbol))
                for symbol in section.iter_symbols()
                if symbol["st_info"]["type"] != "STT_FILE"
            ]
        elif isinstance(section, RelocationSection):
            table = sections[section["sh_link"]]
            assert isinstance(table, SymbolTableSection)
            seen[section.name] = [
                (
                    entry["r_offset"],
                    entry["r_info_type"],
                    table.get_symbol(entry["r_info_sym"]).name,
                    home(sections, table.get_symbol(entry["r_info_sym"])),
                )
                for entry in section.iter_relocations()
            ]
        elif section.name != ".strtab":
            seen[section.name] = (section["sh_type"], section["sh_flags"], section["sh_size"], section.data())
    return seen


def home(sections: list[Any], symbol: object) -> str:
    index = symbol["st_shndx"]  # type: ignore[index]
    return sections[index].name if isinstance(index, int) else str(index)


@pytest.mark.parametrize("target", ["bpfel", "bpfeb"])
def test_it_does_what_llvm_strip_does(tmp_path: Path, target: str) -> None:
    clang, llvm_strip = needs.tool("clang"), needs.tool("llvm-strip")
    source, whole, stripped = tmp_path / "a.bpf.c", tmp_path / "whole.o", tmp_path / "stripped.o"
    source.write_text(PROGRAM + "static __noinline int sub(int x) { return x * bpf_get_prandom_u32(); }\n"
                      'SEC("tc") int with_sub(void *ctx) { return sub(1); }\n')  # fmt: skip
    includes = (
        subprocess.run([clang, "-print-multiarch"], capture_output=True, text=True, check=False).stdout.strip()
        or "x86_64-linux-gnu"
    )
    subprocess.run(
        [
            clang,
            "-target",
            target,
            "-g",
            "-O2",
            "-fno-addrsig",
            "-idirafter",
            f"/usr/include/{includes}",
            "-c",
            source,
            "-o",
            whole,
        ],
        check=True,
    )
    subprocess.run([llvm_strip, "-g", whole, "-o", stripped], check=True)
    ours = strip_debug(whole.read_bytes(), path="a.bpf.c")
    assert ".debug_info" in contents(whole.read_bytes())
    assert contents(ours) == contents(stripped.read_bytes())
    assert len(ours) < len(whole.read_bytes())
    assert strip_debug(ours, path="a.bpf.c") == ours


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"not an object at all" * 10])
def test_what_is_not_elf_is_refused(data: bytes) -> None:
    with pytest.raises(ObjectError, match=r"a\.bpf\.c: not an ELF object"):
        strip_debug(data, path="a.bpf.c")


def header_of(elf: bytes, name: str) -> int:
    """Where the section header of a section begins."""
    whole = ELFFile(io.BytesIO(elf))
    return int(whole["e_shoff"] + whole.get_section_index(name) * whole["e_shentsize"])


@pytest.mark.parametrize(
    ("field", "form", "value", "message"),
    [
        (48, "Q", 1 << 40, "section license is to be aligned to 1099511627776 bytes"),
        (8, "Q", 0x800, "section license is compressed"),
        (24, "Q", 1 << 63, "not an ELF object"),
    ],
)
def test_a_forged_section_costs_nothing(field: int, form: str, value: int, message: str) -> None:
    """Such an object may come from another compiler, or as it is."""
    forged = bytearray(c_programs.compile_bpf('SEC("xdp") int pass(void *ctx) { return 2; }'))
    struct.pack_into(f"<{form}", forged, header_of(bytes(forged), "license") + field, value)
    with pytest.raises(ObjectError, match=message):
        strip_debug(bytes(forged), path="a.bpf.c")
