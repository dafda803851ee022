"""BTF's kinds as plain data: one frozen class per kind, named as in the kernel's BTF page (Documentation/bpf/btf.rst).

Input: nothing. Output: the union `Type`; a `match` over it with `assert_never` fails type checking if a kind is added.
Types refer to each other by id, as on disk; `Btf` in `reader.py` turns ids into types when asked.
Sizes are bytes and offsets of members are bits, again as on disk, unless a name says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag


class Kind(IntEnum):
    """`BTF_KIND_*` of include/uapi/linux/btf.h."""

    VOID = 0
    INT = 1
    PTR = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FWD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNC = 12
    FUNC_PROTO = 13
    VAR = 14
    DATASEC = 15
    FLOAT = 16
    DECL_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


class IntEncoding(IntFlag):
    """`BTF_INT_*`."""

    UNSIGNED = 0
    SIGNED = 1
    CHAR = 2
    BOOL = 4


class Linkage(IntEnum):
    """Linkage of a FUNC (`BTF_FUNC_*`) or of a VAR (`BTF_VAR_*`): the two enumerations agree."""

    STATIC = 0
    GLOBAL = 1
    EXTERN = 2


@dataclass(frozen=True, slots=True)
class Void:
    """Type id 0: C's void, never on disk."""

    name: str = ""


@dataclass(frozen=True, slots=True)
class Int:
    """An integer. `bit_offset` is 0 and `bits` is `8 * size`, but for the bitfield ints of old compilers."""

    name: str
    size: int
    encoding: IntEncoding
    bit_offset: int
    bits: int


@dataclass(frozen=True, slots=True)
class Float:
    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Derived:
    """A pointer to another type, or the same type qualified."""

    type_id: int
    name: str = ""


class Ptr(Derived):
    __slots__ = ()


class Volatile(Derived):
    __slots__ = ()


class Const(Derived):
    __slots__ = ()


class Restrict(Derived):
    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Typedef:
    name: str
    type_id: int


@dataclass(frozen=True, slots=True)
class TypeTag:
    """`__attribute__((btf_type_tag("name")))` on a pointed-to type; `kind_flag` marks any other attribute (6.15)."""

    name: str
    type_id: int
    kind_flag: bool = False


@dataclass(frozen=True, slots=True)
class Array:
    type_id: int
    index_type_id: int
    length: int
    """Number of elements."""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a struct or union."""

    name: str
    type_id: int
    bit_offset: int
    """Offset from the start of the struct, in bits."""
    bits: int
    """Width of a bitfield in bits; 0 for an ordinary member (or one whose INT carries the width)."""


@dataclass(frozen=True, slots=True)
class Composite:
    """A struct or union."""

    name: str
    size: int
    members: tuple[Member, ...]
    kind_flag: bool = False
    """Bitfield widths are in the members, not in their INTs."""


class Struct(Composite):
    __slots__ = ()


class Union(Composite):
    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Enumerator:
    name: str
    value: int
    """Signed or unsigned as the enum says."""


@dataclass(frozen=True, slots=True)
class Enumeration:
    """An enum whose values have 32 bits, or 64."""

    name: str
    size: int
    values: tuple[Enumerator, ...]
    signed: bool = False
    """kind_flag on disk."""


class Enum(Enumeration):
    __slots__ = ()


class Enum64(Enumeration):
    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Fwd:
    """A forward declaration."""

    name: str
    is_union: bool = False


@dataclass(frozen=True, slots=True)
class Param:
    name: str
    type_id: int
    """0 for the `...` of a variadic function, which is the last."""


@dataclass(frozen=True, slots=True)
class FuncProto:
    return_type_id: int
    params: tuple[Param, ...]
    name: str = ""


@dataclass(frozen=True, slots=True)
class Declaration:
    """A function or a variable."""

    name: str
    type_id: int
    """Id of a function's FUNC_PROTO."""
    linkage: int
    """A `Linkage`, or another number where the kernel was given one."""


class Func(Declaration):
    __slots__ = ()


class Var(Declaration):
    __slots__ = ()


@dataclass(frozen=True, slots=True)
class SecInfo:
    """One variable's place in a section."""

    type_id: int
    """Id of a VAR (or of a FUNC, in .ksyms)."""
    offset: int
    """From the section's start, in bytes; clang leaves 0 and libbpf fills it in from the symbols."""
    size: int


@dataclass(frozen=True, slots=True)
class DataSec:
    name: str
    size: int
    variables: tuple[SecInfo, ...]


@dataclass(frozen=True, slots=True)
class DeclTag:
    """`__attribute__((btf_decl_tag("name")))` on a declaration."""

    name: str
    type_id: int
    component_idx: int
    """Index of the member or parameter it stands on; -1 for the declaration itself."""
    kind_flag: bool = False


Type = (
    Void | Int | Ptr | Array | Struct | Union | Enum | Fwd | Typedef | Volatile | Const | Restrict
    | Func | FuncProto | Var | DataSec | Float | DeclTag | TypeTag | Enum64
)  # fmt: skip

KIND_OF: dict[type, Kind] = {
    Void: Kind.VOID, Int: Kind.INT, Ptr: Kind.PTR, Array: Kind.ARRAY, Struct: Kind.STRUCT, Union: Kind.UNION,
    Enum: Kind.ENUM, Fwd: Kind.FWD, Typedef: Kind.TYPEDEF, Volatile: Kind.VOLATILE, Const: Kind.CONST,
    Restrict: Kind.RESTRICT, Func: Kind.FUNC, FuncProto: Kind.FUNC_PROTO, Var: Kind.VAR, DataSec: Kind.DATASEC,
    Float: Kind.FLOAT, DeclTag: Kind.DECL_TAG, TypeTag: Kind.TYPE_TAG, Enum64: Kind.ENUM64,
}  # fmt: skip
"""The kind of each class."""

MODIFIERS = (Typedef, Volatile, Const, Restrict, TypeTag)
"""What libbpf's skip_mods_and_typedefs() looks through."""


# --- how a type lies in a blob: 32-bit words

KIND_MASK = 0x7F
VLEN_MASK = 0xFFFFFF
"""Fields of the info word. Linux 7.1 widened kind from 5 to 7 bits and vlen from 16 to 24; the bits had been 0."""
FIXED_WORDS = 3
"""Words that every type starts with: the name's offset, info, and a size or the id of a type."""
EXTRA_WORDS = {Kind.INT: 1, Kind.ARRAY: 3, Kind.VAR: 1, Kind.DECL_TAG: 1}
"""Words after those, by kind."""
WORDS_PER_ENTRY = {
    Kind.STRUCT: 3, Kind.UNION: 3, Kind.ENUM: 2, Kind.FUNC_PROTO: 2, Kind.DATASEC: 3, Kind.ENUM64: 3,
}  # fmt: skip
"""Words after those for each member, enumerator, parameter or variable, of which there are vlen."""
ENTRY_REFERENCES = {
    Kind.ARRAY: (0, 1),
    Kind.FUNC_PROTO: (1,),
    Kind.STRUCT: (1,),
    Kind.UNION: (1,),
}
"""Which of those words are ids of types."""
NAMED_ENTRIES = frozenset({Kind.STRUCT, Kind.UNION, Kind.ENUM, Kind.ENUM64, Kind.FUNC_PROTO})
"""Kinds whose entries start with a name's offset."""
REFERRING = frozenset({
    Kind.PTR, Kind.TYPEDEF, Kind.VOLATILE, Kind.CONST, Kind.RESTRICT, Kind.TYPE_TAG, Kind.VAR, Kind.FUNC,
    Kind.FUNC_PROTO,
})  # fmt: skip
"""Kinds whose third word is the id of a type that they are made of. A DECL_TAG's is what it is attached to."""


def kind_name(found: Type) -> str:
    """The kind of a type as libbpf spells it in its log: `struct`, `enum64`."""
    return KIND_OF[type(found)].name.lower()


def is_signed(found: Type) -> bool:
    """Whether a type is a signed integer or enum."""
    match found:
        case Enum() | Enum64():
            return found.signed
        case Int():
            return IntEncoding.SIGNED in found.encoding
        case _:
            return False


def signed(value: int, bits: int) -> int:
    """An unsigned number of some bits, read as a signed one."""
    return value - (1 << bits) if value >> (bits - 1) else value
