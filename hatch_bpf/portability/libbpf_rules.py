"""What libbpf refuses of an object whatever the kernel: the rules of bpf_object__open() and of what a load does first.

Input: an object. Output: reasons, each with the rule that it breaks and what to do. `RULES` is the whole list; where
libbpf is at hand, `libbpf_open.py` asks it as well. The order is that of libbpf's bpf_object_open().
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter

from elftools.elf.constants import SH_FLAGS

from hatch_bpf.btf import types as t
from hatch_bpf.objects.elf import (
    STB_GLOBAL,
    STB_LOCAL,
    STB_WEAK,
    STT_NOTYPE,
    STV_HIDDEN,
    STV_INTERNAL,
    ElfObject,
)
from hatch_bpf.objects.model import (
    ARENA_SECTION,
    OLD_MAPS,
    OLD_MAPS_FAULT,
    OLD_MAPS_REMEDY,
    Function,
    MapDef,
    ObjectModel,
    is_data,
)
from hatch_bpf.objects.uapi import MAPS_OF_MAPS, MapType
from hatch_bpf.portability import reasons as because
from hatch_bpf.portability.special_fields import special_fields
from hatch_bpf.portability.verdicts import Reason
from hatch_bpf.runtime.sections import ARENA_VARIABLES, parse_section

_VIRTUAL_KCONFIG = ("LINUX_KERNEL_VERSION", "LINUX_HAS_BPF_COOKIE", "LINUX_HAS_SYSCALL_WRAPPER")
"""The externs of .kconfig that libbpf fills in by itself; all others are options of the kernel's configuration."""
_VERSION_BYTES = 4
"""Size of the section `version`, and the least that holds LINUX_KERNEL_VERSION."""
_MAPS_DATA = (1, 5)
"""The first libbpf that maps global variables into memory as it loads an object; before, only the skeleton did, and
ours does without where the kernel refuses."""
_POINTER_BYTES = 8
_PAGE = 4096
"""Bytes of a page; architectures with larger ones have room for more."""


@dataclass(frozen=True)
class DataRelocation:
    """An ELF relocation of data: what a pointer in an initial value points to."""

    section: str
    offset: int
    """Bytes from the section's start."""
    symbol: str
    """Empty where the symbol is a section's, as for static functions and string literals."""
    target_section: str


class ElfView:
    """What the rules read from an object's file, beyond its model."""

    def __init__(self, obj: ObjectModel) -> None:
        self.obj = obj
        self.elf = ElfObject(obj.elf, obj.path)

    @cached_property
    def sections(self) -> Mapping[str, int]:
        """Bytes of each section, by name."""
        return {section.name: section["sh_size"] for section in self.elf.sections}

    @cached_property
    def data_relocations(self) -> list[DataRelocation]:
        """Relocations of sections with data, without those that the compiler adds for debuggers and loaders."""
        found = []
        for table, target in self.elf.relocation_tables():
            if target["sh_flags"] & SH_FLAGS.SHF_EXECINSTR or not _holds_values(target.name):
                continue
            for offset, symbol in self.elf.relocations(table):
                home = self.elf.section(symbol.section).name if symbol.section else ""
                found.append(DataRelocation(target.name, offset, symbol.name, home))
        return found

    @cached_property
    def section_of_extern(self) -> Mapping[str, str]:
        """Sections of the externs that BTF describes, by name."""
        btf = self.obj.btf
        return {
            btf.name(info.type_id): data_sec.name
            for data_sec in btf
            if isinstance(data_sec, t.DataSec)
            for info in data_sec.variables
        }

    @cached_property
    def maps(self) -> list[tuple[t.Var, t.Struct]]:
        """Variables of .maps, and how they are defined."""
        btf = self.obj.btf
        found = ((var, btf.resolve(var.type_id)[1]) for var in btf.variables(".maps"))
        return [(var, definition) for var, definition in found if isinstance(definition, t.Struct)]


def _holds_values(section: str) -> bool:
    return section == ".maps" or "struct_ops" in section or is_data(section)


def refusals(view: ElfView, libbpf: tuple[int, int] | None = None) -> list[Reason]:
    """Why libbpf refuses the object: every libbpf, or those before a certain one. `libbpf` is the version that loads
    the object; None if any may."""
    found = [because.refused_by_libbpf(what, remedy) for rule in RULES for what, remedy in rule(view)]
    if libbpf is None or libbpf >= _MAPS_DATA:
        mapped = (because.refused_by_libbpf(what, remedy) for what, remedy in _mapped_fields(view))
        newer = "{}.{} and newer".format(*_MAPS_DATA)
        found += (one if libbpf else because.with_libbpf(one, newer, fails=False) for one in mapped)
    if view.sections.get(ARENA_SECTION) and (libbpf is None or libbpf < ARENA_VARIABLES):
        found.append(because.libbpf_too_old(ARENA_VARIABLES, "global variables in an arena", libbpf))
    return found


def unused_struct_ops(view: ElfView) -> frozenset[str]:
    """Names of struct_ops programs that no struct_ops map refers to, which libbpf does not load."""
    used = {relocation.symbol for relocation in view.data_relocations if "struct_ops" in relocation.section}
    return frozenset(
        program.name
        for program in view.obj.programs
        if program.section_def.split("/")[0] in ("struct_ops", "struct_ops.s") and program.name not in used
    )


def lost_pointers(view: ElfView) -> list[tuple[str, str, range]]:
    """Global variables with pointers as initial values, which libbpf leaves zero: section, name, and place in it."""
    found: dict[tuple[str, str], range] = {}
    variables = {section.name: section.variables for section in view.obj.data_sections}
    starts = {name: [variable.offset for variable in inside] for name, inside in variables.items()}
    for relocation in view.data_relocations:
        index = bisect_right(starts.get(relocation.section, ()), relocation.offset) - 1
        if index >= 0:
            variable = variables[relocation.section][index]
            place = range(variable.offset, variable.offset + variable.size)
            if relocation.offset in place:
                found[relocation.section, variable.name] = place
    return [(section, name, place) for (section, name), place in found.items()]


_Refusal = tuple[str, str]
"""What is wrong, and what to do."""


def _legacy_maps(view: ElfView) -> Iterator[_Refusal]:
    if view.sections.get(OLD_MAPS):
        yield OLD_MAPS_FAULT, OLD_MAPS_REMEDY


def _version_section(view: ElfView) -> Iterator[_Refusal]:
    if view.sections.get("version", _VERSION_BYTES) != _VERSION_BYTES:
        yield f"its section version has {view.sections['version']} bytes instead of 4", "remove it; no kernel needs it"


def _static_programs(view: ElfView) -> Iterator[_Refusal]:
    programs = {(program.name, program.section, program.offset) for program in view.obj.programs}
    local = {symbol.name for symbol in view.elf.symbols if symbol.bind == STB_LOCAL}
    for name, section, _ in sorted(programs):
        if name in local and section != ".text":
            yield f'program {name} in SEC("{section}") is static', "declare it without static"


def _externs(view: ElfView) -> Iterator[_Refusal]:
    btf = view.obj.btf
    for symbol in view.elf.symbols:
        is_undefined = symbol.section == 0 and symbol.bind in (STB_GLOBAL, STB_WEAK) and symbol.type == STT_NOTYPE
        name = symbol.name
        if not (name and is_undefined):
            continue
        section = view.section_of_extern.get(name)
        is_function = bool(btf.find(name, t.Kind.FUNC))
        if section is None:
            thing = f"{name}()" if is_function else name
            what = f"{thing} is declared, and no source of the object defines it"
            kernels = "__ksym" if is_function else "__ksym, or a kernel option with __kconfig"
            yield what, f"link the source that does by the option `link`, or declare what the kernel has with {kernels}"
        elif section == ".kconfig":
            yield from _kconfig(view.obj, name, is_function=is_function, weak=symbol.bind == STB_WEAK)
        elif section != ".ksyms":
            yield f"extern {name} is in section {section}", "declare it with __ksym or __kconfig, or define it"


def _kconfig(obj: ObjectModel, name: str, *, is_function: bool, weak: bool) -> Iterator[_Refusal]:
    if is_function:
        yield f"extern {name}() is a function in .kconfig", "declare it with __ksym"
        return
    extern = next((extern for extern in obj.kconfig if extern.name == name), None)
    kind = _kconfig_kind(obj, extern.type_id) if extern else ""
    if not kind:
        yield (
            f"extern {name} is of a type that no kernel option has",
            "declare it as a bool, char, integer, char array or enum libbpf_tristate",
        )
    elif name in _VIRTUAL_KCONFIG:
        is_short = name == _VIRTUAL_KCONFIG[0] and (kind == "bool" or (extern and extern.size < _VERSION_BYTES))
        if kind in ("tristate", "string") or is_short:
            yield f"extern {name} is a number that does not fit its type", "declare it as int"
    elif not name.startswith("CONFIG_") and not (name.startswith("LINUX_") and weak):
        yield (
            f"extern {name} is no option of the kernel's configuration, whose names begin with CONFIG_",
            f"libbpf itself provides {', '.join(_VIRTUAL_KCONFIG)}",
        )


def _kconfig_kind(obj: ObjectModel, type_id: int) -> str:
    """As find_kcfg_type() has it; empty for a type that it does not know."""
    _, found = obj.btf.resolve(type_id)
    match found:
        case t.Int():
            if found.encoding & t.IntEncoding.BOOL:
                return "bool" if found.size == 1 else ""
            if found.size == 1:
                return "char"
            return "integer" if found.size in (2, 4, 8) else ""
        case t.Enumeration():
            return "tristate" if found.name == "libbpf_tristate" else ""
        case t.Array():
            return "string" if found.length and _kconfig_kind(obj, found.type_id) == "char" else ""
        case _:
            return ""


def _map_definitions(view: ElfView) -> Iterator[_Refusal]:
    for var, definition in view.maps:
        yield from _map_definition(view.obj, var.name, definition)
    for found in view.obj.maps:
        if found.type == MapType.STRUCT_OPS:
            yield (
                f"map {found.name} is a BPF_MAP_TYPE_STRUCT_OPS in .maps, on which libbpf crashes",
                'define the struct as a variable in SEC(".struct_ops.link")',
            )
    arenas = [definition for definition in view.obj.maps if definition.type == MapType.ARENA]
    if len(arenas) > 1:
        names = " and ".join(arena.name for arena in arenas)
        yield f"maps {names} are arenas, and an object may have one", "give each an object"
    size = view.sections.get(ARENA_SECTION, 0)
    if size and not arenas:
        yield "it has global variables in an arena, and no arena", 'declare a BPF_MAP_TYPE_ARENA map in SEC(".maps")'
    for arena in arenas:
        if size > arena.max_entries * _PAGE:
            yield (
                f"its global variables in the arena take {size} bytes, and map {arena.name} has {arena.max_entries} "
                f"pages of {_PAGE}",
                "give the map more max_entries",
            )


def _map_definition(obj: ObjectModel, name: str, definition: t.Struct, *, is_inner: bool = False) -> Iterator[_Refusal]:
    """The rules of parse_btf_map_def() that the object's model does not refuse itself."""
    btf = obj.btf
    sizes: dict[str, int] = {}
    map_type = 0
    for position, member in enumerate(definition.members):
        _, pointer = btf.resolve(member.type_id)
        target = btf.resolve(pointer.type_id)[1] if isinstance(pointer, t.Ptr) else None
        number = target.length if isinstance(target, t.Array) else 0
        if member.name not in ("key", "value", "values", "map_extra") and not isinstance(pointer, t.Ptr):
            yield f"map {name}: {member.name} is declared with __ulong()", "declare it with __uint()"
        if member.name == "type":
            map_type = number
        elif member.name == "pinning":
            if is_inner:
                yield f"map {name} is an inner map and has `pinning`", "leave it out; the outer map may have it"
            elif number not in (0, 1):
                yield f"map {name} has pinning {number}", "LIBBPF_PIN_BY_NAME is the only kind of pinning"
        elif member.name in ("key", "key_size", "value", "value_size"):
            of = member.name.removesuffix("_size")
            size = btf.size_of(pointer.type_id) if member.name == of and isinstance(pointer, t.Ptr) else number
            if sizes.setdefault(of, size) != size:
                yield f"map {name} has two sizes of its {of}s: {sizes[of]} and {size}", "leave one of them out"
        elif member.name == "values":
            yield from _values(obj, name, definition, position, map_type, sizes)


def _values(
    obj: ObjectModel, name: str, definition: t.Struct, position: int, map_type: int, sizes: Mapping[str, int]
) -> Iterator[_Refusal]:
    """What a map has for `values`, by __array()."""
    _, array = obj.btf.resolve(definition.members[position].type_id)
    _, pointer = obj.btf.resolve(array.type_id) if isinstance(array, t.Array) else (0, array)
    _, target = obj.btf.resolve(pointer.type_id) if isinstance(pointer, t.Ptr) else (0, pointer)
    if position != len(definition.members) - 1:
        yield f"map {name} has members behind `values`", "declare `values` last"
    if map_type not in (*MAPS_OF_MAPS, MapType.PROG_ARRAY):
        yield (
            f"map {name} has `values`, and is neither a map of maps nor a program array",
            "declare the value by __type()",
        )
    elif isinstance(target, t.Struct) != (map_type in MAPS_OF_MAPS):
        wanted = "maps" if map_type in MAPS_OF_MAPS else "functions"
        yield f"map {name} has `values` that are not {wanted}", f"declare an array of {wanted} by __array()"
    if sizes.get("value", 4) != 4:
        yield f"map {name} has `values`, and values of {sizes['value']} bytes", "leave the value's size out"
    if isinstance(array, t.Array) and array.length:
        yield f"map {name} has `values` of a fixed length", "declare them by __array(), without a length"
    if isinstance(target, t.Struct):
        yield from _map_definition(obj, f"{name}.inner", target, is_inner=True)


def _map_contents(view: ElfView) -> Iterator[_Refusal]:
    """What maps hold initially: bpf_object__collect_map_relos(), and the load that puts it in."""
    maps = {definition.name: definition for definition in view.obj.maps}
    definitions = {var.name: definition for var, definition in view.maps}
    # clang leaves the offsets in BTF to the linker; a symbol that lies elsewhere has no relocation of .maps in it
    places = sorted((s.value, s.value + s.size, s.name) for s in view.elf.symbols if s.name in maps)
    programs = {program.name for program in view.obj.programs}
    for relocation in view.data_relocations:
        index = bisect_right(places, relocation.offset, key=itemgetter(0)) - 1
        if relocation.section != ".maps" or index < 0 or relocation.offset >= places[index][1]:
            continue
        at, _, name = places[index]
        outer, held = maps[name], relocation.symbol or "a static function"
        slot = (relocation.offset - at - definitions[name].members[-1].bit_offset // 8) // _POINTER_BYTES
        if outer.type == MapType.PROG_ARRAY and relocation.symbol not in programs:
            yield (
                f"map {name} is initialized with {held}, which is no program",
                f'give it a section name, such as SEC("xdp"), or put it in by the application; subprograms like {held} '
                f"cannot be tail-called",
            )
        elif outer.type in MAPS_OF_MAPS and relocation.target_section != ".maps":
            yield f"map {name} is initialized with {held}, which is no map", "initialize it with maps"
        elif outer.type in MAPS_OF_MAPS:
            yield from _inner_map(outer, maps.get(relocation.symbol))
        if 0 < outer.max_entries <= slot:
            yield (
                f"map {name} is initialized at {slot}, and has {outer.max_entries} entries",
                "give it more max_entries",
            )


def _mixed_programs(view: ElfView) -> Iterator[_Refusal]:
    """What init_prog_array_slots() puts into program arrays: the kernel takes one type of program in each."""
    kinds = {found.name: parse_section(found.section) for found in view.obj.programs}
    for definition in view.obj.maps:
        if definition.type == MapType.PROG_ARRAY:
            held = [(name, kinds[name]) for name in definition.holds if name in kinds]
            types = {kind.program_type: name for name, kind in held if kind is not None}
            if len(types) > 1:
                yield (
                    f"map {definition.name} is initialized with {' and '.join(types.values())}, which are of different "
                    f"types ({', '.join(types)})",
                    "use an array for each type of program",
                )


def _mapped_fields(view: ElfView) -> Iterator[_Refusal]:
    """map_is_mmapable(): what libbpf maps into memory may have no lock or timer, as the kernel refuses to map that."""
    hidden = {symbol.name for symbol in view.elf.symbols if symbol.visibility in (STV_HIDDEN, STV_INTERNAL)}
    for section in view.obj.data_sections:
        fields = {
            field: variable.name
            for variable in section.variables
            for field in special_fields(view.obj.btf, variable.type_id)
        }
        is_mapped = any(
            variable.linkage != t.Linkage.STATIC and variable.name not in hidden for variable in section.variables
        )
        for field, name in fields.items() if is_mapped else ():
            yield (
                f"global variable {name} holds a struct {field}, and {section.name} is mapped into memory",
                f'keep it in a section of hidden variables: SEC(".data.{name}") __hidden struct ... {name};',
            )


def _inner_map(outer: MapDef, held: MapDef | None) -> Iterator[_Refusal]:
    if outer.type == MapType.HASH_OF_MAPS and outer.key_size != 4:
        yield (
            f"map {outer.name} is initialized, and has keys of {outer.key_size} bytes",
            "use keys of 4 bytes, or put the maps in by the application",
        )
    template = outer.inner
    if held is None or template is None:
        return
    for what in ("type", "key_size", "value_size", "map_flags"):
        if getattr(held, what) != getattr(template, what):
            yield (
                f"map {outer.name} is initialized with {held.name}, whose {what} is not that of its inner maps",
                "declare both by one struct",
            )


def _calls(view: ElfView) -> Iterator[_Refusal]:
    """bpf_program__record_reloc(): only functions of .text are subprograms."""
    functions: dict[tuple[str, int], Function] = {(f.section, f.offset): f for f in view.obj.programs}
    for relocation in view.obj.relocations:
        called = functions.get((relocation.target_section, relocation.value))
        if called is not None and called.section != ".text":
            caller = view.obj.function_at(relocation.section, relocation.offset)
            yield (
                f"{caller.name if caller else relocation.section} calls or names {called.name}, which is a program",
                "move what both do into a function without SEC()",
            )


RULES: tuple[Callable[[ElfView], Iterator[_Refusal]], ...] = (
    _version_section,
    _legacy_maps,
    _static_programs,
    _externs,
    _map_definitions,
    _map_contents,
    _mixed_programs,
    _calls,
)
"""All rules, in the order of libbpf."""
