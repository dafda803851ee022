"""ObjectModel -> Python source of a skeleton, through `templates/skeleton.py.j2`.

Input: the models of one program source, one per architecture, and `SkeletonOptions`. Output: the text of
`NAME_skel.py`, or `SkeletonError`. `types.py` declares the C types; the runtime holds all behaviour.

Names come from the object and are not trusted: they enter the text only as Python identifiers that `names.py` made,
or as quoted literals.
"""

from __future__ import annotations

import ast
import ctypes
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import hatch_bpf
from hatch_bpf import runtime
from hatch_bpf.arch import ARCHES
from hatch_bpf.btf import types as t
from hatch_bpf.errors import BtfError, SkeletonError
from hatch_bpf.objects.model import ARENA_SECTION, Function, MapDef, ObjectModel, Variable
from hatch_bpf.objects.uapi import MAPS_OF_MAPS, MapFlag, MapType
from hatch_bpf.project.alternatives import NONE, Alternatives, ObjectAlternatives, users_of_maps
from hatch_bpf.runtime import enums as runtime_enums
from hatch_bpf.runtime import types as runtime_types
from hatch_bpf.skeleton.declares_only import parse as declarations_of
from hatch_bpf.skeleton.names import Scope, identifier, quote
from hatch_bpf.skeleton.types import RESERVED_TYPES, CodecDecl, EnumDecl, MemberDecl, StructDecl, TypeDecls, bytes_codec
from hatch_bpf.support import templating

if TYPE_CHECKING:
    import jinja2

TEMPLATE = "skeleton.py.j2"
LINE_LENGTH = 120
KCONFIG = ".kconfig"
"""The section of externs that libbpf fills in at load time."""


@dataclass(frozen=True, kw_only=True)
class SkeletonOptions:
    """Everything that a skeleton needs besides its object."""

    source: str
    """The program source's path, for the header."""
    class_name: str
    """Name of the skeleton's class; see `class_name()`."""
    runtime: str = "._bpf.runtime"
    """Import path of the runtime, relative to the skeleton."""
    bpf_dir: str = "_bpf"
    """The `_bpf` folder, relative to the skeleton's folder."""
    objects: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Architecture -> the object's file name relative to `bpf_dir`, and its sha256."""
    kernels: tuple[str, str] = ("", "")
    """The file name and sha256 of the embedded BTFs."""
    libraries: str = ""
    """sha256 of the list of bundled libraries; empty if there are none."""
    events: Mapping[str, str] = field(default_factory=dict)
    """Ring or perf buffer, or group of them -> name of its events' type."""
    alternatives: Alternatives = NONE
    types: tuple[str, ...] = ()
    """Names of more types to declare."""


@dataclass(frozen=True)
class MapDecl:
    """A map, for the template."""

    name: str
    attribute: str
    cls: str
    """Class of the runtime: `HashMap`."""
    annotation: str
    """`HashMap[int, counter]`"""
    key: str = ""
    """Expression of the codec of its keys; empty if it has none."""
    value: str = ""
    users: tuple[str, ...] = ()
    """Programs that refer to it; filled in only if some may be left out."""
    holds: tuple[str, ...] = ()
    """Maps that libbpf puts into it; filled in only if some may be left out."""
    inner: MapDecl | None = None
    """The inner maps of a map of maps."""
    definition: MapDef | None = None


@dataclass(frozen=True)
class GroupDecl:
    """A group of alternatives, for the template."""

    name: str
    attribute: str
    members: tuple[str, ...]
    of_maps: bool
    annotation: str
    """The members' common type: `_bpf.EventSource[event]`."""


@dataclass(frozen=True)
class ProgramDecl:
    """A program, for the template."""

    name: str
    attribute: str
    section: str
    core: bool


@dataclass(frozen=True)
class SectionDecl:
    """A section of globals, for the template."""

    name: str
    attribute: str
    struct: StructDecl
    arena: str = ""
    """The arena that has the variables; empty if the section is a map of its own."""


@dataclass(frozen=True)
class Declarations:
    """Everything that a skeleton declares. It must be the same on all architectures."""

    types: tuple[StructDecl | EnumDecl, ...]
    sections: tuple[SectionDecl, ...]
    maps: tuple[MapDecl, ...]
    programs: tuple[ProgramDecl, ...]
    groups: tuple[GroupDecl, ...]
    optional: tuple[str, ...]

    @property
    def classes(self) -> list[StructDecl | EnumDecl]:
        """The types, and the sections as structs."""
        return [*self.types, *(section.struct for section in self.sections)]


def class_name(stem: str) -> str:
    """Name of the skeleton class for a source's stem: `HttpConn` for `http_conn`."""
    words = "".join(char if char.isascii() and char.isalnum() else " " for char in stem).split()
    name = "".join(word[0].upper() + word[1:] for word in words)
    # `None` and its like are keywords that look like class names
    return identifier(name) if name and not name[0].isdigit() else f"Bpf{name}"


def generate(models: Mapping[str, ObjectModel], *, options: SkeletonOptions) -> str:
    """The skeleton of one program source; `models` has its object for each architecture. Raises `SkeletonError`."""
    if not models:
        raise SkeletonError(f"{options.source}: there is no object to make a skeleton of")
    users = {}
    distinct = {id(model): model for model in models.values()}
    if any(options.alternatives.of_object(model) for model in distinct.values()):
        users = users_of_maps(distinct.values())
    declared = {key: _declare(model, options, users) for key, model in distinct.items()}
    by_arch = {arch: declared[id(models[arch])] for arch in sorted(models)}
    first, *others = by_arch
    for other in others:
        _compare(options.source, first, by_arch[first], other, by_arch[other])
    declarations = by_arch[first]
    text = _template().render(_values(declarations, options, models[first].name))
    _check(declarations, text, options)
    return text


# --- what the object holds ------------------------------------------------------------------------------------------

_CLASSES_BY_PARAMETERS = {
    "kv": ("HashMap", "LpmTrie", "PerCpuHashMap"),
    "v": ("ArrayMap", "BloomFilter", "LocalStorage", "PerCpuArrayMap", "Queue"),
    "k": ("DescriptorMap", "MapOfMaps"),
    "e": ("PerfBuffer", "RingBuffer", "UserRingBuffer"),
    "": ("ProgramArray", "StackTraces"),
}
"""The runtime's classes of maps by their type parameters: k(ey), v(alue), e(vent)."""
_MAP_CLASSES = {
    number: (cls, parameters)
    for parameters, classes in _CLASSES_BY_PARAMETERS.items()
    for cls in classes
    for number in getattr(runtime, cls).types
}
"""By type of map. Other types are plain `Map`s: user space does not read their contents."""

_PARTS = ("", "Opened", "Loaded", "Maps", "OpenedMaps", "Programs", "OpenedPrograms")
"""Endings of the classes that a skeleton declares besides the C types."""


def _declare(model: ObjectModel, options: SkeletonOptions, users: Mapping[str, tuple[str, ...]]) -> Declarations:
    _check_externs(model)
    names = Scope(reserved=RESERVED_TYPES | {f"{options.class_name}{part}" for part in _PARTS})
    sections = [section for section in model.data_sections if any(map(_is_public, section.variables))]
    section_names = {section.name: names.take(f"{options.class_name}{_camel(section.name)}") for section in sections}
    types = TypeDecls(model.btf, names, where=model.path)
    try:
        alternatives = options.alternatives.of_object(model)
        events = _events(model, options, alternatives, types)
        for name in options.types:
            types.codec(_find_type(model, name, "types"))  # which declares it
        map_names = Scope(reserved=_RUNTIME_MEMBERS)
        maps = tuple(_map(definition, map_names, types, events, users) for definition in model.maps)
        maps += tuple(MapDecl(name, map_names.take(name), "StructOps", "_bpf.StructOps") for name in model.struct_ops)
        section_attributes = Scope(reserved=_LOADED_ATTRIBUTES)
        declared = tuple(
            SectionDecl(
                name=section.name,
                attribute=section_attributes.take(_usual_name(section.name).replace(".", "_")),
                arena=model.arena if section.name == ARENA_SECTION else "",
                struct=types.section(
                    section_names[section.name],
                    c_name=section.name,
                    size=len(section.data),
                    variables=[variable for variable in section.variables if _is_public(variable)],
                ),
            )
            for section in sections
        ) + _kconfig(model, names, types, options.class_name)
    except BtfError as error:
        raise SkeletonError(f"{model.path}: {error}") from error
    program_names = Scope(reserved=_RUNTIME_MEMBERS)
    programs = tuple(
        ProgramDecl(
            name=program.name,
            attribute=program_names.take(program.name),
            section=program.section,
            core=_has_core_relos(model, program),
        )
        for program in model.programs
    )
    groups = _groups(alternatives, events, options, map_names=map_names, program_names=program_names)
    return Declarations(types.declared(), declared, maps, programs, groups, alternatives.optional)


def _check_externs(model: ObjectModel) -> None:
    """Raise `SkeletonError` for an extern that is neither the kernel's nor defined in the object."""
    known = {extern.name for extern in (*model.kconfig, *model.ksyms)}
    missing = sorted({relo.symbol for relo in model.relocations if not relo.target_section} - known - {""})
    if missing:
        raise SkeletonError(
            f"{model.path}: {', '.join(missing)}: declared, but defined nowhere, and libbpf opens no such object: "
            f"define it, link the source that does (option link), or mark it __ksym or __kconfig if it is the kernel's"
        )


def _groups(
    alternatives: ObjectAlternatives,
    events: Mapping[str, CodecDecl],
    options: SkeletonOptions,
    *,
    map_names: Scope,
    program_names: Scope,
) -> tuple[GroupDecl, ...]:
    groups = []
    for group in alternatives.groups:
        annotation = "_bpf.Program"
        if group.of_maps:
            carried = {name: events[name].python if name in events else "bytes" for name in group.members}
            if len(set(carried.values())) > 1:
                told = ", ".join(f"{name} {event}" for name, event in carried.items())
                raise SkeletonError(
                    f"{options.source}: alternatives.{group.name}: its buffers carry different events ({told}): "
                    f"name the group, instead of them, in the option events"
                )
            annotation = f"_bpf.EventSource[{carried[group.members[0]]}]"
        attribute = (map_names if group.of_maps else program_names).take(group.name)
        groups.append(GroupDecl(group.name, attribute, group.members, group.of_maps, annotation))
    return tuple(groups)


_RUNTIME_MEMBERS = frozenset({"_by_name"})
"""Names that no map or program can have in Python, because `runtime/members.py` uses them."""
_LOADED_ATTRIBUTES = frozenset(
    {"maps", "programs", "btf", "links", "kconfig", "attach", "close", "load", "open", "run", "choices", "explain"}
)


def _kconfig(model: ObjectModel, names: Scope, types: TypeDecls, class_name: str) -> tuple[SectionDecl, ...]:
    """The kernel configuration that libbpf passes to the program, as a read-only section."""
    if not model.kconfig:
        return ()
    size = model.kconfig[-1].offset + model.kconfig[-1].size
    name = names.take(f"{class_name}Kconfig")
    return (SectionDecl(KCONFIG, "kconfig", types.section(name, c_name=KCONFIG, size=size, variables=model.kconfig)),)


def _is_public(variable: Variable) -> bool:
    return variable.linkage != t.Linkage.STATIC


def _usual_name(section: str) -> str:
    """The name of a section in skeletons, as in bpftool's."""
    return "arena" if section == ARENA_SECTION else section.lstrip(".")


def _camel(section: str) -> str:
    return "".join(part.capitalize() for part in _usual_name(section).replace("_", ".").split("."))


def _has_core_relos(model: ObjectModel, program: Function) -> bool:
    """Whether a program has CO-RE relocations. Those of subprograms count for every program, since it may call them."""
    return bool(model.ext.core_relos.get(".text") or model.core_relos_of(program))


def _map(
    definition: MapDef,
    names: Scope,
    types: TypeDecls,
    events: Mapping[str, CodecDecl],
    users: Mapping[str, tuple[str, ...]],
) -> MapDecl:
    cls, parameters = _class_of(definition)
    key = _sized(types, definition.key_type_id, definition.key_size)
    value = _sized(types, definition.value_type_id, definition.value_size)
    event = events.get(definition.name)
    arguments = {"k": key.python, "v": value.python, "e": event.python if event else "bytes"}
    annotation = f"_bpf.{cls}"
    if parameters:
        annotation += f"[{', '.join(arguments[parameter] for parameter in parameters)}]"
    inner = _map(definition.inner, Scope(), types, {}, {}) if definition.inner else None
    if cls == "MapOfMaps":
        annotation = f"_bpf.{cls}[{key.python}, {inner.annotation if inner else '_bpf.Map'}]"
    return MapDecl(
        name=definition.name,
        attribute=names.take(definition.name),
        cls=cls,
        annotation=annotation,
        key=key.expression if "k" in parameters else "",
        value=event.expression if event else value.expression if "v" in parameters else "",
        users=users.get(definition.name, ()),
        holds=definition.holds if users and definition.type in MAPS_OF_MAPS else (),
        inner=inner,
        definition=definition,
    )


def _class_of(definition: MapDef) -> tuple[str, str]:
    """The runtime's class for a map, and its type parameters."""
    if definition.type == MapType.STACK_TRACE and definition.map_flags & MapFlag.STACK_BUILD_ID:
        return "BuildIdStacks", ""
    return _MAP_CLASSES.get(definition.type, ("Map", ""))


def _sized(types: TypeDecls, type_id: int, size: int) -> CodecDecl:
    return types.codec(type_id) if type_id else bytes_codec(size)


def buffers_of(model: ObjectModel, alternatives: ObjectAlternatives) -> dict[str, tuple[str, ...]]:
    """Names that `events` accepts, each with its maps: an object's ring and perf buffers, and groups of them."""
    buffers = {m.name: (m.name,) for m in model.maps if "e" in _MAP_CLASSES.get(m.type, ("", ""))[1]}
    return buffers | {group.name: group.members for group in alternatives.groups if group.of_maps}


def _events(
    model: ObjectModel, options: SkeletonOptions, alternatives: ObjectAlternatives, types: TypeDecls
) -> dict[str, CodecDecl]:
    buffers = buffers_of(model, alternatives)
    events: dict[str, CodecDecl] = {}
    for name, type_name in sorted(options.events.items()):
        if name not in buffers:
            there = f"its ring and perf buffers are {', '.join(sorted(buffers))}" if buffers else "it has none"
            raise SkeletonError(f"{options.source}: events.{name}: no ring or perf buffer of that name; {there}")
        codec = types.codec(_find_type(model, type_name, f"events.{name}"))
        events.update(dict.fromkeys(buffers[name], codec))
    return events


_DECLARABLE = (t.Kind.STRUCT, t.Kind.UNION, t.Kind.TYPEDEF, t.Kind.ENUM, t.Kind.ENUM64, t.Kind.INT)


def type_of(model: ObjectModel, name: str) -> int:
    """Id of a type that the configuration names, as `rtt_event`, `struct rtt_event` or by a typedef; 0 for none."""
    return next((found[0] for kind in _DECLARABLE if (found := model.btf.find(_bare(name), kind))), 0)


def _bare(name: str) -> str:
    return name.removeprefix("struct ").removeprefix("union ").removeprefix("enum ").strip()


def _find_type(model: ObjectModel, name: str, key: str) -> int:
    found = type_of(model, name)
    if found:
        return found
    bare, kinds = _bare(name), _DECLARABLE[:-1]
    there = {model.btf.name(i) for i in range(1, len(model.btf)) if model.btf.kind(i) in kinds} - {""}
    near = difflib.get_close_matches(bare, sorted(there), n=3)
    hint = f"; did you mean {' or '.join(near)}?" if near else ";"
    raise SkeletonError(
        f"{key}: {model.path} has no type {name!r}{hint} clang drops types that nothing refers to; "
        f"`struct {bare} *unused_{bare} __attribute__((unused));` in the source keeps one"
    )


# --- the text -------------------------------------------------------------------------------------------------------


def _values(declarations: Declarations, options: SkeletonOptions, name: str) -> dict[str, object]:
    """What the template prints."""
    package, _, module = options.runtime.rpartition(".")
    return {
        **vars(options),
        **vars(declarations),
        "version": hatch_bpf.__version__,
        "name": name,
        "runtime_package": package or ".",
        "runtime_module": module,
        "objects": [(arch, options.objects[arch]) for arch in ARCHES if arch in options.objects],
        "types": declarations.classes,
        "uses_types": any((*declarations.classes, *("_t." in f"{m.key}{m.value}" for m in declarations.maps))),
        "has_enums": any(isinstance(item, EnumDecl) for item in declarations.types),
    }


def _one_line(text: str) -> str:
    """Text that is safe in a comment or docstring: one line of ASCII that cannot end a string."""
    return "".join(char if char.isascii() and char.isprintable() and char not in '\\"' else "?" for char in text)


def _docstring(text: str) -> str:
    return f'"""{_one_line(text)}"""'


def _fields(fields: tuple[tuple[str, str], ...]) -> str:
    entries = [f'("{name}", {ctype})' for name, ctype in fields]
    return _tuple("_fields_", entries, may_be_one_line=len(entries) < 2)


def _member_names(members: tuple[MemberDecl, ...]) -> str:
    return _tuple("_names_", [f'"{member.name}"' for member in members])


def _tuple(attribute: str, entries: Sequence[str], *, may_be_one_line: bool = True) -> str:
    """A tuple as a formatter would write it."""
    line = f"({', '.join(entries)}{',' if len(entries) == 1 else ''})"
    if may_be_one_line and len(f"    {attribute} = {line}") <= LINE_LENGTH:
        return line
    return _one_per_line(entries, 4, "()")


def _quoted(texts: Sequence[str], indent: int, brackets: str = "[]") -> str:
    """A list or tuple of texts, whose closing bracket is indented by this many spaces."""
    return _one_per_line([quote(text) for text in texts], indent, brackets)


def _one_per_line(entries: Sequence[str], indent: int, brackets: str) -> str:
    lines = "".join(f"{' ' * (indent + 4)}{entry},\n" for entry in entries)
    return f"{brackets[0]}\n{lines}{' ' * indent}{brackets[1]}"


@cache
def _template() -> jinja2.Template:
    environment = templating.environment()
    environment.filters.update(
        quote=quote, quoted=_quoted, one_line=_one_line, docstring=_docstring, fields=_fields, names=_member_names
    )
    return environment.get_template(TEMPLATE)


# --- checks ---------------------------------------------------------------------------------------------------------


def _compare(source: str, arch: str, one: Declarations, other_arch: str, other: Declarations) -> None:
    if one == other:
        return
    for what in ("types", "sections", "maps", "programs", "groups"):
        mine, theirs = ({item.name: item for item in getattr(declared, what)} for declared in (one, other))
        for name in [*mine, *theirs]:
            if mine.get(name) != theirs.get(name):
                raise SkeletonError(
                    f"{source}: {_difference(what.removesuffix('s'), name, mine.get(name), theirs.get(name))} "
                    f"on {arch} and {other_arch}, and one skeleton serves both. "
                    f"Use types of the same size everywhere (__u64 rather than long), and the same declarations"
                )
    raise SkeletonError(f"{source}: its declarations differ between {arch} and {other_arch}")


def _difference(what: str, name: str, one: Any, other: Any) -> str:
    if one is None or other is None:
        return f"{what} {name} is not declared both"
    if what == "section":
        one, other = one.struct, other.struct
    if isinstance(one, StructDecl) and isinstance(other, StructDecl):
        if one.size != other.size:
            return f"{what} {name} differs in size ({one.size} and {other.size} bytes)"
        for member, theirs in zip(one.members, other.members, strict=False):
            if member != theirs:
                return f"{what} {name} differs at its member {member.c_name}"
    return f"{what} {name} differs"


def _check(declarations: Declarations, text: str, options: SkeletonOptions) -> None:
    """Create the classes in this process, with our runtime, and compare ctypes' sizes and offsets with BTF's."""
    tree = declarations_of(text, source=options.source)
    tree.body = [part for part in tree.body if not (isinstance(part, ast.ImportFrom) and part.level)]
    namespace: dict[str, Any] = {"__name__": "hatch_bpf_skeleton_check", "__file__": __file__}
    namespace |= {"_bpf": runtime, "_e": runtime_enums, "_t": runtime_types}
    try:
        exec(compile(tree, "skeleton", "exec"), namespace)
    except Exception as error:
        raise SkeletonError(f"{options.source}: its skeleton can't be imported: {error}") from error
    for declared in declarations.classes:
        if isinstance(declared, StructDecl):
            _check_struct(declared, namespace[declared.name], options.source)


def _check_struct(declared: StructDecl, cls: Any, source: str) -> None:
    if ctypes.sizeof(cls) != declared.size:
        raise SkeletonError(
            f"{source}: {declared.c_name} has {declared.size} bytes in C, but {ctypes.sizeof(cls)} in Python"
        )
    for member in declared.members:
        if member.storage and (offset := getattr(cls, member.storage).offset) != member.offset:
            raise SkeletonError(
                f"{source}: {declared.c_name}.{member.c_name} is at byte {member.offset} in C, but at {offset} here"
            )
