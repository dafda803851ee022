"""ELF + BTF -> `ObjectModel`: all that later stages want to know of a BPF object, as plain data.

Input: the bytes of an object that clang (or libbpf's linker) made. Output: an `ObjectModel`, or `ObjectError`.
pyelftools reads the ELF; what sections and symbols mean follows libbpf's bpf_object__elf_collect().
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from elftools.common.exceptions import ELFError
from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import Section, Symbol, SymbolTableSection

from hatch_bpf.btf import types as t
from hatch_bpf.btf.ext import BtfExt, CoreRelo, LineInfo, read_btf_ext
from hatch_bpf.btf.reader import Btf
from hatch_bpf.errors import BtfError, ObjectError
from hatch_bpf.objects.elf import check_sizes, contents
from hatch_bpf.objects.names import object_name

EM_BPF = 247
INSN_SIZE = 8
"""Bytes of `struct bpf_insn`; a 64-bit immediate load takes two."""
MAX_MAP_VALUE = (1 << 31) - 1
"""Bytes that kernels let a value of a map have at most: INT_MAX."""
STRUCT_OPS_SECTIONS = (".struct_ops", ".struct_ops.link", "?.struct_ops", "?.struct_ops.link")


@dataclass(frozen=True)
class Function:
    """A BPF function: a program where it lies in a section of its own, a subprogram where it lies in .text."""

    name: str
    section: str
    """Full name of its ELF section, `?` and all."""
    offset: int
    """From the section's start, in bytes."""
    insns: bytes
    """Its instructions as in the file, unrelocated."""
    is_global: bool = False
    """Neither static nor hidden: as a subprogram, the kernel checks it by itself, for any arguments."""

    @property
    def section_def(self) -> str:
        """The section name without the `?` that makes a program optional: what libbpf looks the program type up by."""
        return self.section.removeprefix("?")

    @property
    def autoload(self) -> bool:
        """False for SEC("?..."), which libbpf leaves out unless told otherwise."""
        return not self.section.startswith("?")


@dataclass(frozen=True)
class MapDef:
    """A map declared in `.maps`, as parse_btf_map_def() of libbpf reads it. Numbers that are absent are 0."""

    name: str
    type: int
    """`enum bpf_map_type`."""
    key_size: int
    value_size: int
    max_entries: int
    map_flags: int = 0
    map_extra: int = 0
    numa_node: int = 0
    pinning: int = 0
    """`LIBBPF_PIN_BY_NAME` is 1."""
    key_type_id: int = 0
    """0 where the map gives only a size."""
    value_type_id: int = 0
    inner: MapDef | None = None
    """The template of a map-in-map's inner maps."""
    holds: tuple[str, ...] = ()
    """Names of the maps or programs that libbpf puts in when it makes the map."""


@dataclass(frozen=True)
class Variable:
    """A global variable, or an extern."""

    name: str
    type_id: int
    offset: int
    """From the section's start, in bytes; of externs in .kconfig, in the map that libbpf makes of them; else 0."""
    size: int
    """Bytes; 0 for functions."""
    linkage: int
    """A `Linkage`."""
    weak: bool = False


@dataclass(frozen=True)
class DataSection:
    """A section of globals: .data, .bss, .rodata or a custom `.data.x`; libbpf makes one array map of each."""

    name: str
    data: bytes
    """Initial contents; zeros for .bss."""
    variables: tuple[Variable, ...]
    """All of its variables, static ones too, by rising offset."""


@dataclass(frozen=True)
class SymbolRelocation:
    """An ELF relocation: the instruction at `offset` of `section` refers to `symbol`."""

    section: str
    offset: int
    """Bytes from the section's start."""
    symbol: str
    """Name of the symbol, or of the section where the symbol is a section's."""
    target_section: str
    """Section the symbol is in; empty for externs."""
    value: int
    """The symbol's offset in its section, in bytes."""


@dataclass(frozen=True)
class ObjectModel:
    """A BPF object."""

    name: str
    """libbpf's object name: the file name up to its first `.`, anything but letters and digits an underscore."""
    path: str
    """Where it came from, for messages."""
    elf: bytes
    endian: Literal["little", "big"]
    license: str
    btf: Btf
    ext: BtfExt
    programs: tuple[Function, ...]
    """In the file's order."""
    subprograms: tuple[Function, ...]
    """The functions of .text."""
    maps: tuple[MapDef, ...]
    """In the order of the `.maps` DATASEC."""
    struct_ops: tuple[str, ...]
    """Names of the variables in `.struct_ops` and `.struct_ops.link`: libbpf makes a map of each."""
    data_sections: tuple[DataSection, ...]
    kconfig: tuple[Variable, ...]
    """Externs of .kconfig: `LINUX_KERNEL_VERSION`, `CONFIG_HZ`."""
    ksyms: tuple[Variable, ...]
    """Externs of .ksyms: kernel variables and kfuncs (whose type is a FUNC)."""
    relocations: tuple[SymbolRelocation, ...]
    """ELF relocations of instructions, by section and offset."""

    @property
    def functions(self) -> tuple[Function, ...]:
        return self.programs + self.subprograms

    def core_relos(self) -> list[tuple[str, CoreRelo]]:
        """Every CO-RE relocation with its section, in .BTF.ext's order."""
        return [(section, relo) for section, relos in self.ext.core_relos.items() for relo in relos]

    def function_at(self, section: str, offset: int) -> Function | None:
        """The function whose instructions hold byte `offset` of a section."""
        for function in self.functions:
            if function.section == section and function.offset <= offset < function.offset + len(function.insns):
                return function
        return None

    def line_at(self, section: str, offset: int) -> LineInfo | None:
        """The source line of the instruction at byte `offset` of a section: the last line_info at or before it.

        Line 0 is clang's way to say that an instruction belongs to no line.
        """
        best = None
        for line in self.ext.line_infos.get(section, ()):
            if line.line and line.insn_off <= offset and (best is None or line.insn_off >= best.insn_off):
                best = line
        return best


def read_object(data: bytes, *, path: str) -> ObjectModel:
    """Read a BPF object. `path` names it in messages and gives it its name. Raises `ObjectError`."""
    try:
        return _read(data, path)
    except (ELFError, OverflowError) as error:  # OverflowError: pyelftools was told to look at byte 2**63 or beyond
        raise ObjectError(f"{path}: not an ELF file that can be read: {error}") from error
    except BtfError as error:
        raise ObjectError(f"{path}: {error}") from error


def _read(data: bytes, path: str) -> ObjectModel:
    elf = ELFFile(io.BytesIO(data))
    machine = elf.header["e_machine"]
    if machine not in ("EM_BPF", EM_BPF):
        raise ObjectError(f"{path}: not a BPF object: its ELF machine is {machine}, not EM_BPF")
    if elf.elfclass != 64:
        raise ObjectError(f"{path}: a BPF object is a 64-bit ELF file; this one is {elf.elfclass}-bit")
    sections = list(elf.iter_sections())
    check_sizes(sections, len(data))
    by_name = {section.name: section for section in sections}
    if ".BTF" not in by_name:
        raise ObjectError(
            f"{path}: has no .BTF section: it holds no program, map or global, or was compiled without clang -g"
        )
    btf = Btf(contents(by_name[".BTF"]), source=f"{path}: .BTF")
    ext = read_btf_ext(contents(by_name[".BTF.ext"]), btf) if ".BTF.ext" in by_name else BtfExt()
    symbols = _symbols(sections)
    functions = _functions(sections, symbols, path)
    data_secs = {sec.name: sec for sec in btf if isinstance(sec, t.DataSec)}
    return ObjectModel(
        name=object_name(path),
        path=path,
        elf=data,
        endian="little" if elf.little_endian else "big",
        license=_license(by_name.get("license")),
        btf=btf,
        ext=ext,
        programs=tuple(function for function in functions if function.section != ".text"),
        subprograms=tuple(function for function in functions if function.section == ".text"),
        maps=_maps(btf, data_secs.get(".maps"), symbols, sections, path),
        struct_ops=_struct_ops(btf, data_secs),
        data_sections=_data_sections(sections, symbols, btf, data_secs, path),
        kconfig=_kconfig(btf, _externs(btf, data_secs.get(".kconfig"), symbols)),
        ksyms=_externs(btf, data_secs.get(".ksyms"), symbols),
        relocations=tuple(_relocations(sections, path)),
    )


def _symbols(sections: list[Section]) -> list[Symbol]:
    return [symbol for table in sections if isinstance(table, SymbolTableSection) for symbol in table.iter_symbols()]


def _license(section: Section | None) -> str:
    return contents(section).split(b"\0", 1)[0].decode("utf-8", "replace") if section else ""


def _functions(sections: list[Section], symbols: list[Symbol], path: str) -> list[Function]:
    found = []
    code: dict[int, bytes] = {}
    for symbol in symbols:
        index = symbol["st_shndx"]
        if symbol["st_info"]["type"] != "STT_FUNC" or not isinstance(index, int):
            continue
        if index >= len(sections):
            raise ObjectError(f"{path}: function {symbol.name} is in section {index}, which isn't there")
        section, offset, size = sections[index], symbol["st_value"], symbol["st_size"]
        if not size or size % INSN_SIZE or offset % INSN_SIZE or offset + size > section["sh_size"]:
            raise ObjectError(f"{path}: function {symbol.name} does not fit its section {section.name}")
        if index not in code:
            code[index] = contents(section)
        insns = code[index][offset : offset + size]
        is_global = symbol["st_info"]["bind"] != "STB_LOCAL" and symbol["st_other"]["visibility"] == "STV_DEFAULT"
        function = Function(name=symbol.name, section=section.name, offset=offset, insns=insns, is_global=is_global)
        found.append((index, function))
    return [function for _, function in sorted(found, key=lambda item: (item[0], item[1].offset))]


def _data_sections(
    sections: list[Section], symbols: list[Symbol], btf: Btf, data_secs: Mapping[str, t.DataSec], path: str
) -> tuple[DataSection, ...]:
    own = {index: section for index, section in enumerate(sections) if _is_data(section.name) and section["sh_size"]}
    places: dict[str, dict[str, Symbol]] = {section.name: {} for section in own.values()}
    for symbol in symbols:
        if symbol.name and symbol["st_shndx"] in own:
            places[own[symbol["st_shndx"]].name][symbol.name] = symbol
    listed = _listed_variables(btf, data_secs, places, path)
    result = []
    for section in own.values():
        size = section["sh_size"]
        if size > MAX_MAP_VALUE:
            raise ObjectError(f"{path}: {section.name} has {size} bytes; it becomes one map value, of less than 2 GiB")
        initial = bytes(size) if section["sh_type"] == "SHT_NOBITS" else contents(section)
        variables = [
            Variable(var.name, var.type_id, places[section.name][var.name]["st_value"], size, var.linkage)
            for home, var, size in listed
            if home == section.name
        ]
        variables.sort(key=lambda variable: variable.offset)
        result.append(DataSection(section.name, initial, tuple(variables)))
    return tuple(result)


def _is_data(name: str) -> bool:
    return name.startswith(".") and name.split(".")[1] in ("data", "bss", "rodata")


def _listed_variables(
    btf: Btf, data_secs: Mapping[str, t.DataSec], places: Mapping[str, Mapping[str, Symbol]], path: str
) -> list[tuple[str, t.Var, int]]:
    """Every variable of BTF's DATASECs, with the section its symbol is in and its size.

    That is the section that the DATASEC is of, but for zeros with padding between them: clang lists those under .data,
    and puts them into .bss.
    """
    found = []
    for name, data_sec in data_secs.items():
        if not _is_data(name):
            continue
        for info in data_sec.variables:
            var = btf[info.type_id]
            if not isinstance(var, t.Var):
                continue
            homes = [home for home in places if var.name in places[home]]
            home = name if name in homes else homes[0] if homes else ""
            if home and name not in places:
                raise ObjectError(
                    f"{path}: BTF says that {var.name} is in {name}, but the object has no such section, and libbpf "
                    f"doesn't open it then; {var.name} is in {home}: declare it without an initializer, which only "
                    f"says that it is zero"
                )
            if home:
                found.append((home, var, info.size))
    return found


def _externs(btf: Btf, section: t.DataSec | None, symbols: list[Symbol]) -> tuple[Variable, ...]:
    weak = {symbol.name for symbol in symbols if symbol["st_info"]["bind"] == "STB_WEAK"}
    result = []
    for info in section.variables if section else ():
        extern = btf[info.type_id]
        if isinstance(extern, t.Var):
            result.append(Variable(extern.name, extern.type_id, 0, info.size, extern.linkage, extern.name in weak))
        elif isinstance(extern, t.Func):
            result.append(Variable(extern.name, info.type_id, 0, 0, extern.linkage, extern.name in weak))
    return tuple(result)


def _kconfig(btf: Btf, externs: tuple[Variable, ...]) -> tuple[Variable, ...]:
    """Externs of .kconfig in their places in libbpf's map: bpf_object__collect_externs() sorts them."""

    def alignment(extern: Variable) -> int:
        # they are integers, enums, and strings
        return 1 if isinstance(btf.resolve(extern.type_id)[1], t.Array) else max(min(extern.size, 8), 1)

    placed, end = [], 0
    for extern in sorted(
        externs, key=lambda extern: (-alignment(extern), extern.size, extern.name.encode("utf-8", "surrogateescape"))
    ):
        at = -(-end // alignment(extern)) * alignment(extern)
        placed.append(replace(extern, offset=at))
        end = at + extern.size
    return tuple(placed)


def _relocations(sections: list[Section], path: str) -> list[SymbolRelocation]:
    def section_at(index: int) -> Section:
        if index >= len(sections):
            raise ObjectError(f"{path}: relocations refer to section {index}, which isn't there")
        return sections[index]

    result = []
    for table in sections:
        if not isinstance(table, RelocationSection):
            continue
        target = section_at(table["sh_info"])
        if not target["sh_flags"] & SH_FLAGS.SHF_EXECINSTR:  # the others relocate data, or .BTF itself
            continue
        symbol_table = section_at(table["sh_link"])
        if not isinstance(symbol_table, SymbolTableSection):
            raise ObjectError(f"{path}: relocations of {target.name} take {symbol_table.name} for a symbol table")
        for entry in table.iter_relocations():
            symbol = symbol_table.get_symbol(entry["r_info_sym"])
            index = symbol["st_shndx"]
            home = section_at(index).name if isinstance(index, int) else ""
            result.append(
                SymbolRelocation(target.name, entry["r_offset"], symbol.name or home, home, symbol["st_value"])
            )
    return sorted(result, key=lambda relocation: (relocation.section, relocation.offset))


def _maps(
    btf: Btf, section: t.DataSec | None, symbols: list[Symbol], sections: list[Section], path: str
) -> tuple[MapDef, ...]:
    held = _held_by_maps(symbols, sections)
    result = []
    for info in section.variables if section else ():
        var = btf[info.type_id]
        if not isinstance(var, t.Var):
            raise ObjectError(f"{path}: .maps holds {var.name!r}, which is not a variable")
        _, definition = btf.resolve(var.type_id)
        if not isinstance(definition, t.Struct):
            raise ObjectError(f"{path}: map {var.name} is not declared as a struct")
        if var.linkage == t.Linkage.STATIC:
            raise ObjectError(f"{path}: map {var.name} is static, and libbpf opens no object with such a map")
        if var.linkage == t.Linkage.EXTERN:
            raise ObjectError(f"{path}: map {var.name} is extern: link the source that defines it, by the option link")
        result.append(replace(_map(btf, var.name, definition, path), holds=held.get(var.name, ())))
    return tuple(result)


def _held_by_maps(symbols: list[Symbol], sections: list[Section]) -> dict[str, tuple[str, ...]]:
    """What the maps with initial values begin with: their relocations say, each of which lies within a map."""
    tables = [table for table in sections if isinstance(table, RelocationSection) and table["sh_info"] < len(sections)]
    held: dict[str, tuple[str, ...]] = {}
    for table in tables:
        names = sections[table["sh_link"]] if table["sh_link"] < len(sections) else None
        if sections[table["sh_info"]].name != ".maps" or not isinstance(names, SymbolTableSection):
            continue
        own = [symbol for symbol in symbols if symbol["st_shndx"] == table["sh_info"] and symbol["st_size"]]
        for entry in table.iter_relocations():
            for symbol in own:
                if 0 <= entry["r_offset"] - symbol["st_value"] < symbol["st_size"]:
                    held[symbol.name] = (*held.get(symbol.name, ()), names.get_symbol(entry["r_info_sym"]).name)
    return {name: tuple(dict.fromkeys(targets)) for name, targets in held.items()}


def _struct_ops(btf: Btf, data_secs: Mapping[str, t.DataSec]) -> tuple[str, ...]:
    sections = [data_secs[name] for name in STRUCT_OPS_SECTIONS if name in data_secs]
    return tuple(btf.name(info.type_id) for section in sections for info in section.variables)


def _map(btf: Btf, name: str, definition: t.Struct, path: str, *, is_inner: bool = False) -> MapDef:
    numbers: dict[str, int] = {}
    inner: MapDef | None = None
    for member in definition.members:
        match member.name:
            case (
                "type" | "max_entries" | "map_flags" | "map_extra" | "numa_node" | "pinning" | "key_size" | "value_size"
            ):
                numbers[member.name] = _uint(btf, member, name, path)
            case "key" | "value":
                _, pointer = btf.resolve(member.type_id)
                if not isinstance(pointer, t.Ptr):
                    raise ObjectError(f"{path}: map {name}: {member.name} is not declared with __type()")
                numbers[f"{member.name}_type_id"] = pointer.type_id
                numbers[f"{member.name}_size"] = btf.size_of(pointer.type_id)
            case "values" if not is_inner:
                numbers.setdefault("value_size", 4)
                inner = _inner_map(btf, name, member, path)
            case _:
                raise ObjectError(f"{path}: map {name} has an attribute {member.name!r} that libbpf does not know")
    if not numbers.get("type"):
        raise ObjectError(f"{path}: map {name} has no type, and libbpf wants one: __uint(type, BPF_MAP_TYPE_HASH)")
    zero = {"key_size": 0, "value_size": 0, "max_entries": 0}
    return MapDef(name=name, inner=inner, holds=(), **{**zero, **numbers})


def _inner_map(btf: Btf, name: str, member: t.Member, path: str) -> MapDef | None:
    """`__array(values, struct inner)`: a template for a map-in-map; for a prog array, functions, so no template."""
    _, values = btf.resolve(member.type_id)
    if isinstance(values, t.Array):
        _, pointer = btf.resolve(values.type_id)
        if isinstance(pointer, t.Ptr):
            _, target = btf.resolve(pointer.type_id)
            if isinstance(target, t.Struct):
                return _map(btf, f"{name}.inner", target, path, is_inner=True)
            if isinstance(target, t.FuncProto):
                return None
    raise ObjectError(f"{path}: map {name}: `values` is neither an array of maps nor one of programs")


def _uint(btf: Btf, member: t.Member, name: str, path: str) -> int:
    """`__uint(x, 5)` is a pointer to an array of 5; `__ulong(x, 5)` an enum whose one value is 5."""
    _, pointer = btf.resolve(member.type_id)
    if isinstance(pointer, t.Ptr):
        _, array = btf.resolve(pointer.type_id)
        if isinstance(array, t.Array):
            return array.length
    if isinstance(pointer, (t.Enum, t.Enum64)) and len(pointer.values) == 1:
        return pointer.values[0].value
    raise ObjectError(f"{path}: map {name}: {member.name} is not declared with __uint()")
