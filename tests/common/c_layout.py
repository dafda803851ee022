"""How clang lays out the types of a C header, to compare with the BTF that the header was made from.

A layout is everything that matters to a program that uses the type: size, and each member's name, place, width and
type. Types with a name stand in it by their name (without `___2`), those without one in full.
"""

from __future__ import annotations

import io
import re
import subprocess
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path

from elftools.elf.elffile import ELFFile

from hatch_bpf.btf import types as t
from hatch_bpf.btf.reader import Btf
from tests.common import needs

FLAGS = ("-Wall", "-Werror", "-c")
Key = tuple[str, str]
"""`("struct", "task_struct")`; the first word may be union, enum or typedef too."""

EVERY = ("union", "every_type")
"""The union in which a program uses all the types."""

_TAG = re.compile(r"^(?:typedef )?((?:struct|union|enum) (\w+)) \{", re.MULTILINE)
_TYPEDEF = re.compile(
    r"^typedef (?:\S.* \**|.*\(\*)(\w+)(?:\)?(?:\(.*\)|\[\d+\])+)?;$|^} ?(?:__attribute__.* )?(\w+);$", re.MULTILINE
)


def compiled(header: str, folder: Path, *, chosen: Callable[[Key], bool], target: str = "bpfel") -> Btf:
    """The BTF of a program that uses the chosen structs, unions, enums and typedefs of a header."""
    uses = [f"{tag} v{n};" for n, (tag, name) in enumerate(_TAG.findall(header)) if chosen((tag.split()[0], name))]
    names = sorted({first or second for first, second in _TYPEDEF.findall(header)})
    uses += [f"{name} *p{n};" for n, name in enumerate(names) if chosen(("typedef", name))]
    # members of one union: clang takes far longer for as many variables
    program = "\n".join(('#include "vmlinux.h"', "union every_type {", *uses, "} used_types;"))
    elf = ELFFile(io.BytesIO(run_clang(program, header, folder, "-g", "-O2", target=target)))
    section = elf.get_section_by_name(".BTF")
    assert section is not None
    return Btf(section.data())


def run_clang(program: str, header: str, folder: Path, *flags: str, target: str = "bpfel") -> bytes:
    """Compile a program that includes "vmlinux.h", as strictly as the build does. It must compile."""
    (folder / "vmlinux.h").write_text(header)
    (folder / "uses.bpf.c").write_text(program)
    command = [needs.tool("clang"), "-target", target, *FLAGS, *flags, "-o", "-", "uses.bpf.c"]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[:4000]
    return done.stdout


def assertions(btf: Btf) -> Iterator[str]:
    """A program that does not compile unless every named struct, union and enum has the kernel's size, every member of
    it the kernel's offset, and every enumerator the kernel's value. Names with two meanings are left out."""
    ids = [type_id for type_id in range(1, len(btf)) if btf.kind(type_id) in _TAGGED and btf.name(type_id)]
    count = Counter(btf.name(type_id) for type_id in ids)
    idents: Counter[str] = Counter()
    enums = []
    for found in btf:
        if isinstance(found, t.Enum | t.Enum64):
            idents.update(value.name for value in found.values)
            enums.append(found)
        elif isinstance(found, t.Typedef):
            idents[found.name] += 1
    for enum in enums:
        yield from (
            _assert(f"{v.name} == {v.value}{'ULL' * (v.value >> 63)}") for v in enum.values if idents[v.name] == 1
        )
    for type_id in ids:
        found = btf[type_id]
        if count[found.name] > 1 or (isinstance(found, t.Enum) and not found.values):
            continue
        assert isinstance(found, t.Struct | t.Union | t.Enum | t.Enum64)
        tag = f"{_DEFINITIONS[btf.kind(type_id)]} {found.name}"
        yield _assert(f"sizeof({tag}) == {found.size}")
        if isinstance(found, t.Struct | t.Union):
            for name, offset in _places(btf, found, 0):
                yield _assert(f"__builtin_offsetof({tag}, {name}) == {offset}")


def _places(btf: Btf, found: t.Struct | t.Union, base: int) -> Iterator[tuple[str, int]]:
    """Name and byte offset of each member that has an address, including those of anonymous members."""
    for member in found.members:
        _, of = btf.resolve(member.type_id)
        offset = base + member.bit_offset // 8
        if member.name and not member.bits:
            yield member.name, offset
        elif not member.name and isinstance(of, t.Struct | t.Union):
            yield from _places(btf, of, offset)


def _assert(condition: str) -> str:
    return f'_Static_assert({condition}, "");'


_TAGGED = (t.Kind.STRUCT, t.Kind.UNION, t.Kind.ENUM, t.Kind.ENUM64)


def layouts(btf: Btf) -> dict[Key, set[Hashable]]:
    """The layouts of each name's struct, union or enum, and of each typedef."""
    found: dict[Key, set[Hashable]] = defaultdict(set)
    view = _View(btf)
    for type_id, kind in ((type_id, btf.kind(type_id)) for type_id in range(1, len(btf))):
        if kind in _DEFINITIONS and btf.name(type_id):
            definition = btf[type_id]
            if isinstance(definition, t.Enum) and not definition.values:
                continue
            word = _DEFINITIONS[kind]
            layout = view.of(definition.type_id) if isinstance(definition, t.Typedef) else view.body(type_id)
            found[word, _plain(definition.name)].add(layout)
    return found


_DEFINITIONS = {
    t.Kind.STRUCT: "struct", t.Kind.UNION: "union", t.Kind.ENUM: "enum", t.Kind.ENUM64: "enum",
    t.Kind.TYPEDEF: "typedef",
}  # fmt: skip


class _View:
    def __init__(self, btf: Btf) -> None:
        self._btf = btf
        self._known: dict[int, Hashable] = {}

    def of(self, type_id: int) -> Hashable:
        """A type as it appears inside another one."""
        if type_id not in self._known:
            self._known[type_id] = self._of(type_id)
        return self._known[type_id]

    def _of(self, type_id: int) -> Hashable:
        found = self._btf[type_id]
        match found:
            case t.Void():
                return "void"
            case t.Int():
                # whether `char` has a sign is the compiler's choice, and pahole once lost that of `signed char`
                signed = found.name not in ("char", "signed char") and t.IntEncoding.SIGNED in found.encoding
                return found.size, signed, t.IntEncoding.BOOL in found.encoding
            case t.Float():
                return "float", found.size
            case t.Ptr():
                return "*", self.of(found.type_id)
            case t.Array():
                return found.length, self.of(found.type_id)
            case t.Const() | t.Volatile() | t.Restrict() | t.TypeTag():
                return self.of(found.type_id)
            case t.Fwd():
                return "union" if found.is_union else "struct", _plain(found.name)
            case t.Struct() | t.Union() | t.Enum() | t.Enum64():
                if found.name:
                    return _DEFINITIONS[t.KIND_OF[type(found)]], _plain(found.name)
                return self.body(type_id)
            case t.Typedef(name="__builtin_va_list"):
                # each compiler has one of its own, so that the kernel's is written out
                return self.of(found.type_id)
            case t.Typedef():
                return "typedef", _plain(found.name)
            case t.FuncProto():
                types = [param.type_id for param in found.params]
                return "()", self.of(found.return_type_id), tuple(map(self.of, [] if types == [0] else types))
            case _:
                raise AssertionError(f"{found} is no type")

    def body(self, type_id: int) -> Hashable:
        """The text between the braces of a struct, union or enum."""
        found = self._btf[type_id]
        match found:
            case t.Struct() | t.Union():
                members = [
                    (member.name, member.bit_offset, member.bits, self._of_member(member)) for member in found.members
                ]
                return type(found).__name__, found.size, tuple(members)
            case t.Enum() | t.Enum64():
                # clang writes 64-bit enumerators as BTF only from 15 on, and the sign bit too
                values = [(_plain(value.name), value.value & 0xFFFFFFFF) for value in found.values]
                return "enum", found.size, tuple(values)
            case _:
                raise AssertionError(f"{found} has no braces")

    def _of_member(self, member: t.Member) -> Hashable:
        """A member's type. One without a name is compared by contents: `struct tag;` equals `struct {...}`."""
        type_id, found = self._btf.resolve(member.type_id)
        if not member.name and isinstance(found, t.Struct | t.Union):
            return self.body(type_id)
        return self.of(member.type_id)


def _plain(name: str) -> str:
    return re.sub(r"___\d+$", "", name)
