"""ELF + BTF -> `ObjectModel`: everything that later stages need to know about a BPF object, as plain data.

Input: the bytes of an object that clang (or libbpf's linker) made. Output: an `ObjectModel`, or `ObjectError`.
pyelftools reads the ELF; what sections and symbols mean follows libbpf's bpf_object__elf_collect().
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from operator import attrgetter, itemgetter
from typing import Literal

from elftools.common.exceptions import ELFError
from elftools.elf.constants import SH_FLAGS
from elftools.elf.sections import Section

from hatch_bpf.btf import types as t
from hatch_bpf.btf.ext import BtfExt, CoreRelo, access_of, read_btf_ext
from hatch_bpf.btf.reader import Btf
from hatch_bpf.errors import BtfError, ObjectError
from hatch_bpf.objects.elf import STB_LOCAL, STB_WEAK, STT_FUNC, STV_DEFAULT, ElfObject, Symbol
from hatch_bpf.objects.gnu_assembler import reject_double_offsets
from hatch_bpf.objects.names import object_name
from hatch_bpf.objects.uapi import MapType
from hatch_bpf.support.budget import ACCESSES, EXTERNS, FUNCTIONS, INSNS, MAPS, RELOCATIONS

INSN_SIZE = 8
"""Bytes of `struct bpf_insn`; a 64-bit immediate load takes two."""
MAX_MAP_VALUE = (1 << 31) - 1
"""Largest value of a map that kernels allow, in bytes: INT_MAX."""
ARENA_SECTION = ".addr_space.1"
"""The section of global variables in the arena; `__arena` of the kernel's tests is this address space."""
OLD_MAPS = "maps"
"""The section of maps that libbpf 0.x read, and bcc's successors in other languages still write."""
OLD_MAPS_FAULT = "its section maps has definitions as they were before libbpf 1.0"
OLD_MAPS_REMEDY = 'declare the maps in SEC(".maps"), with __uint() and __type(), or by #[btf_map] in aya'
STRUCT_OPS_SECTIONS = (".struct_ops", ".struct_ops.link", "?.struct_ops", "?.struct_ops.link")


@dataclass(frozen=True)
class Function:
    """A BPF function: a subprogram if it is in .text, else a program."""

    name: str
    section: str
    """Full name of its ELF section, `?` and all."""
    offset: int
    """From the section's start, in bytes."""
    insns: bytes
    """Its instructions as in the file, before any relocation."""
    is_global: bool = False
    """Whether it is neither static nor hidden. The kernel checks a global subprogram by itself, for any arguments."""

    @property
    def section_def(self) -> str:
        """The section name without the `?` that makes a program optional; libbpf derives the program type from it."""
        return self.section.removeprefix("?")

    @property
    def autoload(self) -> bool:
        """False for SEC("?..."), which libbpf loads only on request."""
        return not self.section.startswith("?")


@dataclass(frozen=True)
class MapDef:
    """A map declared in `.maps`, as parse_btf_map_def() of libbpf reads it. Numbers that are absent are 0."""

    name: str
    type: int
    """`enum bpf_map_type`."""
    key_size: int = 0
    value_size: int = 0
    max_entries: int = 0
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
    """Names of the maps or programs that libbpf puts into the map when it creates it."""


@dataclass(frozen=True)
class Variable:
    """A global variable, or an extern."""

    name: str
    type_id: int
    offset: int
    """From the section's start, in bytes. For externs in .kconfig, from the start of libbpf's map; for others 0."""
    size: int
    """Bytes; 0 for functions."""
    linkage: int
    """A `Linkage`."""
    weak: bool = False


@dataclass(frozen=True)
class DataSection:
    """A section of globals: .data, .bss, .rodata or a custom `.data.x`. libbpf creates one array map for each, but puts
    the variables of `ARENA_SECTION` into the arena."""

    name: str
    data: bytes
    """Initial contents; zeros for .bss."""
    variables: tuple[Variable, ...]
    """All of its variables, including static ones, by rising offset."""


@dataclass(frozen=True)
class SymbolRelocation:
    """An ELF relocation: the instruction at `offset` of `section` refers to `symbol`."""

    section: str
    offset: int
    """Bytes from the section's start."""
    symbol: str
    """Name of the symbol, or of the section if it is a section symbol."""
    target_section: str
    """Section the symbol is in; empty for externs."""
    value: int
    """The symbol's offset in its section, in bytes."""


@dataclass(frozen=True)
class ObjectModel:
    """A BPF object."""

    name: str
    """libbpf's name: the file name up to its first `.`, with underscores for all but letters and digits."""
    path: str
    """Its file, for messages."""
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
    """Names of the variables in `.struct_ops` and `.struct_ops.link`. libbpf creates a map for each."""
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

    @property
    def arena(self) -> str:
        """The name of its arena, of which it has one at most; empty if it has none."""
        return next((definition.name for definition in self.maps if definition.type == MapType.ARENA), "")

    @cached_property
    def core_relos(self) -> tuple[tuple[str, CoreRelo], ...]:
        """Every CO-RE relocation with its section, in .BTF.ext's order."""
        return tuple((section, relo) for section, relos in self.ext.core_relos.items() for relo in relos)

    @cached_property
    def core_relo_records(self) -> tuple[CoreRelo, ...]:
        """The same without the sections."""
        return tuple(chain.from_iterable(self.ext.core_relos.values()))

    def core_relos_of(self, function: Function) -> list[int]:
        """The CO-RE relocations of a function's instructions: their indices in `core_relos`, rising."""
        places = self._core_relo_places.get(function.section, [])
        first = bisect_left(places, function.offset, key=itemgetter(0))
        end = bisect_left(places, function.offset + len(function.insns), first, key=itemgetter(0))
        return sorted(index for _, index in places[first:end])

    @cached_property
    def _core_relo_places(self) -> Mapping[str, list[tuple[int, int]]]:
        """By section: the offsets of its CO-RE relocations, rising, each with its index in `core_relos`."""
        places: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for index, (section, relo) in enumerate(self.core_relos):
            places[section].append((relo.insn_off, index))
        return {section: sorted(found) for section, found in places.items()}

    @cached_property
    def _functions_by_section(self) -> Mapping[str, list[Function]]:
        """By section: its functions, by rising offset."""
        by_section: dict[str, list[Function]] = defaultdict(list)
        for function in sorted(self.functions, key=attrgetter("offset")):
            by_section[function.section].append(function)
        return by_section

    def function_at(self, section: str, offset: int) -> Function | None:
        """The function whose instructions hold byte `offset` of a section."""
        functions = self._functions_by_section.get(section, [])
        index = bisect_right(functions, offset, key=attrgetter("offset")) - 1
        if index < 0 or offset >= functions[index].offset + len(functions[index].insns):
            return None
        return functions[index]


def read_object(data: bytes, *, path: str) -> ObjectModel:
    """Read a BPF object. `path` names it in messages and gives it its name. Raises `ObjectError`."""
    with _format_errors(path):
        return _read(_open(data, path), data)


def check_header(data: bytes, *, path: str, endian: Literal["little", "big"]) -> None:
    """Check that a file is a BPF object of this endianness, with maps as libbpf reads them. Raises `ObjectError`."""
    with _format_errors(path):
        elf = _open(data, path)
        if elf.endian != endian:
            raise ObjectError(
                f"{path}: the object is {elf.endian}-endian, and its architecture {endian}-endian: make one for each, "
                "told apart by {arch}"
            )
        if any(section.name == OLD_MAPS and section["sh_size"] for section in elf.sections):
            raise ObjectError(f"{path}: {OLD_MAPS_FAULT}; {OLD_MAPS_REMEDY}")


@contextmanager
def _format_errors(path: str) -> Iterator[None]:
    try:
        yield
    except (ELFError, OverflowError) as error:  # OverflowError: pyelftools was told to look at byte 2**63 or beyond
        raise ObjectError(f"{path}: not an ELF file that can be read: {error}") from error
    except BtfError as error:
        raise ObjectError(f"{path}: {error}") from error


def _open(data: bytes, path: str) -> ElfObject:
    elf = ElfObject(data, path)
    if elf.machine != "EM_BPF":
        raise ObjectError(f"{path}: not a BPF object: its ELF machine is {elf.machine}, not EM_BPF")
    if elf.bits != 64:
        raise ObjectError(f"{path}: a BPF object is a 64-bit ELF file; this one is {elf.bits}-bit")
    return elf


def _read(elf: ElfObject, data: bytes) -> ObjectModel:
    path = elf.path
    by_name = {section.name: section for section in elf.sections}
    if ".BTF" not in by_name:
        raise ObjectError(
            f"{path}: has no .BTF section: it holds no program, map or global, or was compiled without -g (clang), "
            "-gbtf (GCC) or --btf (bpf-linker)"
        )
    btf = Btf(elf.contents(by_name[".BTF"]), source=f"{path}: .BTF")
    ext = read_btf_ext(elf.contents(by_name[".BTF.ext"]), btf) if ".BTF.ext" in by_name else BtfExt()
    relos = [*chain.from_iterable(ext.core_relos.values())]
    RELOCATIONS.check(len(relos), source=path, error=ObjectError, remedy=_SPLIT)
    ACCESSES.check(len(set(map(access_of, relos))), source=path, error=ObjectError, remedy=_SPLIT)
    functions = _functions(elf)
    reject_double_offsets(elf, is_data)
    data_secs = {sec.name: sec for sec in btf if isinstance(sec, t.DataSec)}
    return ObjectModel(
        name=object_name(path),
        path=path,
        elf=data,
        endian=elf.endian,
        license=_license(elf, by_name.get("license")),
        btf=btf,
        ext=ext,
        programs=tuple(function for function in functions if function.section != ".text"),
        subprograms=tuple(function for function in functions if function.section == ".text"),
        maps=_maps(btf, data_secs.get(".maps"), elf),
        struct_ops=_struct_ops(btf, data_secs),
        data_sections=_data_sections(elf, btf, data_secs),
        kconfig=_kconfig(btf, _externs(btf, data_secs.get(".kconfig"), elf.symbols)),
        ksyms=_externs(btf, data_secs.get(".ksyms"), elf.symbols),
        relocations=tuple(_relocations(elf)),
    )


def _license(elf: ElfObject, section: Section | None) -> str:
    return elf.contents(section).split(b"\0", 1)[0].decode("utf-8", "replace") if section else ""


_SPLIT = "split the object"


def _functions(elf: ElfObject) -> list[Function]:
    found = []
    code: dict[int, bytes] = {}
    total = 0
    for symbol in elf.symbols:
        if symbol.type != STT_FUNC or not symbol.section:
            continue
        section = elf.section(symbol.section, user=f"function {symbol.name} is in")
        offset, size = symbol.value, symbol.size
        if not size or size % INSN_SIZE or offset % INSN_SIZE or offset + size > section["sh_size"]:
            raise ObjectError(f"{elf.path}: function {symbol.name} does not fit its section {section.name}")
        if symbol.section not in code:
            code[symbol.section] = elf.contents(section)
        # checked as they come, since functions may overlap
        total = INSNS.check(total + size // INSN_SIZE, source=elf.path, error=ObjectError, remedy=_SPLIT)
        insns = code[symbol.section][offset : offset + size]
        is_global = symbol.bind != STB_LOCAL and symbol.visibility == STV_DEFAULT
        function = Function(name=symbol.name, section=section.name, offset=offset, insns=insns, is_global=is_global)
        found.append((symbol.section, function))
    FUNCTIONS.check(len(found), source=elf.path, error=ObjectError, remedy=_SPLIT)
    return [function for _, function in sorted(found, key=lambda item: (item[0], item[1].offset))]


def _data_sections(elf: ElfObject, btf: Btf, data_secs: Mapping[str, t.DataSec]) -> tuple[DataSection, ...]:
    own = {index: section for index, section in enumerate(elf.sections) if is_data(section.name) and section["sh_size"]}
    variables: dict[str, list[Variable]] = {section.name: [] for section in own.values()}
    homes: dict[str, dict[str, Symbol]] = defaultdict(dict)  # symbols by their name, then by their section's
    for symbol in elf.symbols:
        if symbol.name and symbol.section in own:
            homes[symbol.name][own[symbol.section].name] = symbol
    for name, data_sec in data_secs.items():
        for info in data_sec.variables if is_data(name) else ():
            var = btf[info.type_id]
            if not isinstance(var, t.Var) or var.name not in homes:
                continue
            # clang lists zeros with padding between them under .data, and puts them into .bss
            there = homes[var.name]
            home = name if name in there else next(section for section in variables if section in there)
            if name not in variables:
                raise ObjectError(
                    f"{elf.path}: BTF says that {var.name} is in {name}, but the object has no such section, and "
                    f"libbpf doesn't open it then; {var.name} is in {home}: declare it without an initializer, which "
                    f"only says that it is zero"
                )
            variables[home].append(Variable(var.name, var.type_id, there[home].value, info.size, var.linkage))
    return tuple(
        DataSection(
            section.name,
            _initial_data(elf, section),
            tuple(sorted(variables[section.name], key=attrgetter("offset"))),
        )
        for section in own.values()
    )


def _initial_data(elf: ElfObject, section: Section) -> bytes:
    size = section["sh_size"]
    if size > MAX_MAP_VALUE:
        raise ObjectError(f"{elf.path}: {section.name} has {size} bytes; it becomes one map value, of less than 2 GiB")
    return bytes(size) if section["sh_type"] == "SHT_NOBITS" else elf.contents(section)


def is_data(name: str) -> bool:
    """Whether libbpf takes a section for global variables."""
    return name == ARENA_SECTION or (name.startswith(".") and name.split(".")[1] in ("data", "bss", "rodata"))


def _externs(btf: Btf, section: t.DataSec | None, symbols: Sequence[Symbol]) -> tuple[Variable, ...]:
    weak = {symbol.name for symbol in symbols if symbol.bind == STB_WEAK}
    result = []
    listed = section.variables if section else ()
    EXTERNS.check(len(listed), source=btf.source, error=ObjectError, remedy=_SPLIT)
    for info in listed:
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


def _relocations(elf: ElfObject) -> list[SymbolRelocation]:
    result = []
    for table, target in elf.relocation_tables():
        if not target["sh_flags"] & SH_FLAGS.SHF_EXECINSTR:  # the others relocate data, or .BTF itself
            continue
        for offset, symbol in elf.relocations(table):
            home = elf.section(symbol.section, user=f"symbol {symbol.name} is in").name if symbol.section else ""
            result.append(SymbolRelocation(target.name, offset, symbol.name or home, home, symbol.value))
    return sorted(result, key=lambda relocation: (relocation.section, relocation.offset))


def _maps(btf: Btf, section: t.DataSec | None, elf: ElfObject) -> tuple[MapDef, ...]:
    held, path = _held_by_maps(elf), elf.path
    if section is None and any(own.name == ".maps" and own["sh_size"] for own in elf.sections):
        raise ObjectError(f"{path}: BTF does not describe its section .maps, and libbpf opens no object without that")
    result = []
    listed = section.variables if section else ()
    MAPS.check(len(listed), source=path, error=ObjectError, remedy=_SPLIT)
    for info in listed:
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


def _held_by_maps(elf: ElfObject) -> dict[str, tuple[str, ...]]:
    """What libbpf puts into maps that have initial values: each value has a relocation within the map."""
    held: dict[str, dict[str, None]] = defaultdict(dict)
    for table, target in elf.relocation_tables():
        if target.name != ".maps":
            continue
        own = sorted((s for s in elf.symbols if s.section == table["sh_info"] and s.size), key=lambda s: s.value)
        starts = [symbol.value for symbol in own]
        for offset, value in elf.relocations(table):
            index = bisect_right(starts, offset) - 1
            if index >= 0 and offset - starts[index] < own[index].size:
                held[own[index].name][value.name] = None
    return {name: tuple(values) for name, values in held.items()}


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
                numbers[f"{member.name}_size"] = _size_of(
                    btf, pointer.type_id, f"{path}: map {name}: its {member.name}"
                )
            case "values" if not is_inner:
                numbers.setdefault("value_size", 4)
                inner = _inner_map(btf, name, member, path)
            case "values":
                raise ObjectError(f"{path}: map {name} holds maps as well, and libbpf nests maps no deeper")
            case _:
                raise ObjectError(f"{path}: map {name} has an attribute {member.name!r} that libbpf does not know")
    if not numbers.get("type"):
        raise ObjectError(f"{path}: map {name} has no type, and libbpf wants one: __uint(type, BPF_MAP_TYPE_HASH)")
    return MapDef(name=name, inner=inner, holds=(), **numbers)


def _size_of(btf: Btf, type_id: int, what: str) -> int:
    _, found = btf.resolve(type_id)
    if isinstance(found, (t.Void, t.Fwd, t.FuncProto)):
        raise ObjectError(f"{what} has no size: give it the whole type, by __type(), or its size, by __uint()")
    return btf.size_of(type_id)


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
    if isinstance(pointer, t.Enumeration) and len(pointer.values) == 1:
        return pointer.values[0].value
    raise ObjectError(f"{path}: map {name}: {member.name} is not declared with __uint()")
