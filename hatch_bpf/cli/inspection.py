"""`ObjectModel` -> what is in a BPF object, as a document for `hatch-bpf inspect`: JSON, or text for people.

Input: a BPF object. Output: plain dicts and lists, and their rendering.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from hatch_bpf.btf.ext import CoreRelo
from hatch_bpf.core_relo.source_lines import SourceLines
from hatch_bpf.core_relo.spec import KIND_NAMES, parse_spec
from hatch_bpf.errors import BtfError, RelocationError
from hatch_bpf.objects.linked_program import LinkedProgram, Linker
from hatch_bpf.objects.model import INSN_SIZE, MapDef, ObjectModel
from hatch_bpf.objects.uapi import helper_name, map_type_name
from hatch_bpf.runtime.printable import printable
from hatch_bpf.runtime.sections import parse_section


def inspect(obj: ObjectModel) -> dict[str, Any]:
    """All that an object holds. Raises `ObjectError` for code that no compiler makes."""
    linker, lines = Linker(obj), SourceLines(obj)
    return {
        "object": obj.path,
        "license": obj.license,
        "endian": obj.endian,
        "programs": [_program(obj, linker.link(program), lines) for program in obj.programs],
        "maps": [_map(obj, definition) for definition in obj.maps],
        "globals": [
            {
                "section": section.name,
                "name": variable.name,
                "type": _type(obj, variable.type_id),
                "size": variable.size,
            }
            for section in obj.data_sections
            for variable in section.variables
        ],
        "externs": [extern.name for extern in (*obj.kconfig, *obj.ksyms)],
    }


def headline(document: dict[str, Any]) -> str:
    """What is true of the object as a whole."""
    text = f"{document['object']}: license {document['license'] or 'none'}, {document['endian']}-endian"
    return printable(text)


def tables(document: dict[str, Any]) -> list[tuple[str, Sequence[str], Sequence[Sequence[object]]]]:
    """The document as tables, one for each kind of thing: title, header, rows."""
    programs = document["programs"]
    relocations = [
        (p["name"], r["insn"], r["kind"], r["access"], r["source"]) for p in programs for r in p["relocations"]
    ]
    maps = [(m["name"], m["type"], m["key"], m["value"], m["max_entries"]) for m in document["maps"]]
    variables = [(v["section"], v["name"], v["type"], v["size"]) for v in document["globals"]]
    found: list[tuple[str, Sequence[str], Sequence[Sequence[object]]]] = [
        (
            "programs",
            ("name", "section", "type", "insns"),
            [(p["name"], p["section"], p["type"], p["instructions"]) for p in programs],
        ),
        ("maps", ("name", "type", "key", "value", "entries"), maps),
        ("globals", ("section", "name", "type", "bytes"), variables),
        ("externs", ("name",), [(name,) for name in document["externs"]]),
        ("helpers", ("program", "called"), [(p["name"], ", ".join(p["helpers"])) for p in programs]),
        ("CO-RE relocations", ("program", "insn", "kind", "access", "source"), relocations),
    ]
    return [
        (title, header, [[printable(cell) if isinstance(cell, str) else cell for cell in row] for row in rows])
        for title, header, rows in found
    ]


def render(document: dict[str, Any]) -> str:
    """The document as plain text."""
    lines = [headline(document)]
    for title, header, rows in tables(document):
        lines += _table(title, header, rows)
    return "\n".join(lines) + "\n"


def _program(obj: ObjectModel, linked: LinkedProgram, lines: SourceLines) -> dict[str, Any]:
    program = linked.program
    section = parse_section(program.section)
    relocations = [_relocation(obj, *obj.core_relos[index], slot, lines) for slot, index in linked.core_relos]
    return {
        "name": program.name,
        "section": program.section,
        "type": section.program_type.lower() if section else "unknown",
        "autoload": program.autoload,
        "instructions": len(program.insns) // INSN_SIZE,
        "subprograms": [function.name for function in linked.functions[1:]],
        "helpers": sorted({helper_name(number) for number in linked.helper_calls.values()}),
        "kfuncs": sorted(set(linked.kfunc_calls.values())),
        "relocations": relocations,
    }


def _relocation(obj: ObjectModel, section: str, relo: CoreRelo, slot: int, lines: SourceLines) -> dict[str, Any]:
    try:
        access = parse_spec(obj.btf, relo).access
    except (RelocationError, BtfError) as error:
        access = f"malformed: {error}"
    return {
        "insn": slot,
        "kind": KIND_NAMES[relo.kind],
        "access": access,
        "source": lines.of(section, relo),
    }


def _map(obj: ObjectModel, definition: MapDef) -> dict[str, Any]:
    return {
        "name": definition.name,
        "type": map_type_name(definition.type).removeprefix("BPF_MAP_TYPE_").lower(),
        "key": _type(obj, definition.key_type_id) or f"{definition.key_size} bytes",
        "value": _type(obj, definition.value_type_id) or f"{definition.value_size} bytes",
        "max_entries": definition.max_entries,
        "flags": definition.map_flags,
    }


def _type(obj: ObjectModel, type_id: int) -> str:
    """The name of a type, or of what it is made of; empty for none."""
    name = obj.btf.name(type_id)
    if name or not type_id:
        return name
    _, found = obj.btf.resolve(type_id)
    return found.name or type(found).__name__.lower()


def _table(title: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    cells = [header, *([str(cell) for cell in row] for row in rows)]
    if len(cells) == 1:
        return []
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)
    return ["", title, *(f"  {line}".rstrip() for line in lines)]
