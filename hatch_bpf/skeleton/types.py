"""BTF types -> declarations of Python classes for the structs, unions and enums of a skeleton.

Input: an object's BTF and the wanted types, one by one. Output: `StructDecl`s and `EnumDecl`s in an order in which
Python can define them, and a `CodecDecl` for each wanted type: how generated code stores and shows its values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from hatch_bpf.btf import types as t
from hatch_bpf.btf.reader import Btf
from hatch_bpf.errors import SkeletonError
from hatch_bpf.objects.model import Variable
from hatch_bpf.skeleton.names import Scope
from hatch_bpf.support.budget import Budget

MAX_SIZE = 1 << 28
"""Bytes of the largest type declared: far above any map's value, far below what ctypes can handle."""
MAX_DEPTH = 32
"""How deep types may nest, as in the kernel."""
LEAST_NEGATIVE = -(1 << 16)
"""Where BTF does not say whether an enum is signed, a lower value is taken for a flag, not a negative number."""


@dataclass(frozen=True)
class CodecDecl:
    """How a value of a C type is stored and shown."""

    expression: str
    """Python expression of the runtime's codec: `_t.U32`."""
    ctype: str
    """Python expression of the ctypes type that stores it."""
    python: str
    """Annotation of the Python value: `int`."""
    is_native: bool = False
    """Whether the ctypes field itself gives the Python value, so that no descriptor is needed."""


@dataclass(frozen=True)
class MemberDecl:
    """A member of a struct or union, or of an anonymous member of it."""

    c_name: str
    name: str
    offset: int
    """Bytes from the struct's start."""
    storage: str
    """Name of the ctypes field; empty for a member without a field of its own."""
    annotation: str
    """The annotation of a native member."""
    descriptor: str
    """The expression to assign to any other member."""
    codec: str
    """Expression of the codec of its value, or of its elements if it is a flexible array."""


@dataclass(frozen=True)
class StructDecl:
    """A struct or union class."""

    name: str
    c_name: str
    """`struct rtt_event`"""
    is_union: bool
    size: int
    fields: tuple[tuple[str, str], ...]
    """ctypes `_fields_`: names and type expressions, including padding."""
    members: tuple[MemberDecl, ...]
    codec: str
    """Name of the module's variable for its codec; empty if no other declaration needs it."""


@dataclass(frozen=True)
class EnumDecl:
    """An enum class."""

    name: str
    c_name: str
    is_flag: bool
    values: tuple[tuple[str, int], ...]
    codec: str
    base: str
    """Expression of the codec of the integer that stores it."""


def bytes_codec(size: int) -> CodecDecl:
    """The codec of a value of which only the size is known."""
    return CodecDecl(f"_t.Bytes({size})", f"_t.c_uint8 * {size}", "bytes")


_SCALARS = {
    (size, signed): CodecDecl(f"_t.{letter}{8 * size}", f"_t.c_{kind}{8 * size}", "int", True)
    for signed, letter, kind in ((False, "U", "uint"), (True, "S", "int"))
    for size in (1, 2, 4, 8)
}
"""By size and signedness."""
_BOOL = CodecDecl("_t.BOOL", "_t.c_bool", "bool", True)
_FLOATS = {4: CodecDecl("_t.F32", "_t.c_float", "float", True), 8: CodecDecl("_t.F64", "_t.c_double", "float", True)}

_STEPS_PER_NAME = 20
"""What a member or enumerator costs of the budget, with its declaration in the skeleton."""

RESERVED_MEMBERS = frozenset(
    {
        "_t", "_e", "int", "bool", "float", "to_dict",
        "_names_", "_fields_", "_pack_", "_layout_", "_align_", "_anonymous_", "_swappedbytes_", "_objects",
        "_b_base_", "_b_needsfree_", "from_buffer", "from_buffer_copy", "from_address", "from_param", "in_dll", "mro",
    }
)  # fmt: skip
"""Names that no member can have in Python, because the class bodies or their bases use them."""
RESERVED_ENUMERATORS = frozenset({"name", "value", "names", "values", "mro"})
"""Names that no enumerator can have: attributes of Python's enums that users rely on."""
RESERVED_TYPES = frozenset({"_t", "_e", "_bpf", "int", "bool", "float", "bytes", "annotations"})
"""Names that no class of the module can have."""


class TypeDecls:
    """The declarations of one object's types, made on demand."""

    def __init__(self, btf: Btf, names: Scope, *, where: str) -> None:
        """`names` is the module's scope; `where` is the object's name in errors."""
        self._btf = btf
        self._names = names
        self._where = where
        self._declared: list[StructDecl | EnumDecl] = []
        self._structs: dict[str, StructDecl] = {}
        """The structs and unions among them, by the name of their class."""
        self._budget = Budget(where, len(btf.data), error=SkeletonError)
        self._codecs: dict[int, CodecDecl] = {}
        self._by_shape: dict[tuple[object, ...], CodecDecl] = {}
        self._open: list[int] = []
        """Types whose codecs are being made. One that appears again contains itself."""

    def declared(self) -> tuple[StructDecl | EnumDecl, ...]:
        """All declarations so far, each after those that it needs."""
        return tuple(self._declared)

    def codec(self, type_id: int, *, hint: str = "") -> CodecDecl:
        """How to store and show a value of a type. `hint` names it if it is anonymous. Raises `SkeletonError`."""
        name, resolved_id, resolved = self._named(type_id)
        if resolved_id not in self._codecs:
            if resolved_id in self._open or len(self._open) >= MAX_DEPTH:
                what = f"{type(resolved).__name__.lower()} {name or hint}".strip()
                raise SkeletonError(f"{self._where}: {what} contains itself, or nests deeper than {MAX_DEPTH}")
            self._open.append(resolved_id)
            try:
                self._codecs[resolved_id] = self._make(resolved, name, hint)
            finally:
                self._open.pop()
        return self._codecs[resolved_id]

    def section(self, name: str, *, c_name: str, size: int, variables: Sequence[Variable]) -> StructDecl:
        """A section of global variables as a struct."""
        members = tuple(t.Member(variable.name, variable.type_id, 8 * variable.offset, 0) for variable in variables)
        return self._struct(name, f"section {c_name}", t.Struct(c_name, size, members), codec="")

    def _named(self, type_id: int) -> tuple[str, int, t.Type]:
        """The type behind typedefs and qualifiers, with its name or that of the closest typedef."""
        resolved_id, resolved = self._btf.resolve(type_id)
        name = resolved.name
        while not name and type_id != resolved_id:
            found = self._btf[type_id]
            assert isinstance(found, t.MODIFIERS)
            if isinstance(found, t.Typedef):
                name = found.name if self._btf.resolve(found.type_id)[0] == resolved_id else ""
            type_id = found.type_id
        return name, resolved_id, resolved

    def _make(self, found: t.Type, name: str, hint: str) -> CodecDecl:
        match found:
            case t.Int():
                return self._int(found)
            case t.Float():
                return _FLOATS.get(found.size) or bytes_codec(found.size)
            case t.Ptr():
                return _SCALARS[self._btf.pointer_size, False]
            case t.Array():
                return self._array(found, hint)
            case t.Enumeration():
                return self._enum(found, name or hint)
            case t.Composite():
                return self._nested(found, name or hint)
            case _:
                what = f"{type(found).__name__.lower()} {name}".strip()
                raise SkeletonError(f"{self._where}: {hint or 'a type'} is a {what}, of which there can be no value")

    def _int(self, found: t.Int) -> CodecDecl:
        if found.encoding & t.IntEncoding.BOOL and found.size == 1:
            return _BOOL
        signed = bool(found.encoding & t.IntEncoding.SIGNED)
        scalar = _SCALARS.get((found.size, signed))
        if scalar is not None:
            return scalar
        self._check_size(f"int {found.name}", found.size)
        return CodecDecl(f"_t.Wide({found.size}, signed={signed})", f"_t.c_uint8 * {found.size}", "int")

    def _array(self, found: t.Array, hint: str) -> CodecDecl:
        _, element = self._btf.resolve(found.type_id)
        length = found.length
        if isinstance(element, t.Int) and element.size == 1 and not element.encoding & t.IntEncoding.BOOL:
            self._check_size(f"array {hint}", length)
            if element.name == "char":
                return CodecDecl(f"_t.Text({length})", f"_t.c_uint8 * {length}", "_t.Chars")
            if not element.encoding & t.IntEncoding.SIGNED:
                return bytes_codec(length)
        codec = self.codec(found.type_id, hint=hint)
        self._check_size(f"array {hint}", length * self._btf.size_of(found.type_id))
        return CodecDecl(
            f"_t.ArrayOf({codec.expression}, {length})", f"{codec.ctype} * {length}", f"_t.ArrayView[{codec.python}]"
        )

    def _check_size(self, what: str, size: int) -> None:
        if size > MAX_SIZE:
            raise SkeletonError(
                f"{self._where}: {what.strip()} has {size} bytes; {MAX_SIZE} is the most that is declared"
            )

    # --- enums ------------------------------------------------------------------------------------------------------

    def _signs(self, found: t.Enumeration) -> t.Enumeration:
        """An enum with its enumerators' signs as in C: clang before 15 does not record that an enum is signed."""
        if isinstance(found, t.Enum64) or found.signed:
            return found
        high = [value.value - (1 << 32) for value in found.values if value.value >> 31]
        if not high or (found.size >= 4 and (min(high) < LEAST_NEGATIVE or self._compiler_tells_signs)):
            return found
        values = (value.value - (value.value >> 31 << 32) for value in found.values)
        named = tuple(replace(old, value=value) for old, value in zip(found.values, values, strict=True))
        return replace(found, values=named, signed=True)

    @cached_property
    def _compiler_tells_signs(self) -> bool:
        """Whether the BTF has something that only compilers which record signed enums write."""
        return any(isinstance(found, t.Enum64) or (isinstance(found, t.Enum) and found.signed) for found in self._btf)

    def _enum(self, found: t.Enumeration, name: str) -> CodecDecl:
        found = self._signs(found)
        base = _SCALARS.get((found.size, found.signed))
        if base is None:
            raise SkeletonError(f"{self._where}: enum {name} has {found.size} bytes, which no enum of C has")
        if not found.values or (isinstance(found, t.Enum) and found.size > 4):
            return base  # clang before 15 records only the lower half of each value
        shape = ("enum", name, found.size, found.signed, found.values)
        if shape in self._by_shape:
            return self._by_shape[shape]
        self._budget.work(len(found.values) * _STEPS_PER_NAME)
        class_name = self._names.take(name or "enum")
        codec_name = self._names.take(f"_{class_name}")
        scope = Scope(reserved=RESERVED_ENUMERATORS)
        values = tuple((_enumerator(scope, value.name), value.value) for value in found.values)
        is_flag = _is_flag([value for _, value in values])
        self._declared.append(
            EnumDecl(class_name, f"enum {found.name}".strip(), is_flag, values, codec_name, base.expression)
        )
        codec = CodecDecl(codec_name, base.ctype, class_name)
        self._by_shape[shape] = codec
        return codec

    # --- structs and unions -----------------------------------------------------------------------------------------

    def _nested(self, found: t.Composite, name: str) -> CodecDecl:
        keyword = "union" if isinstance(found, t.Union) else "struct"
        class_name = self._names.take(name or keyword)
        codec_name = self._names.take(f"_{class_name}")
        c_name = f"{keyword} {found.name}" if found.name else name or keyword
        declared = self._structs[class_name] = self._struct(class_name, c_name, found, codec=codec_name)
        self._declared.append(declared)
        return CodecDecl(codec_name, class_name, class_name)

    def _struct(self, class_name: str, c_name: str, found: t.Composite, *, codec: str) -> StructDecl:
        self._check_size(c_name, found.size)
        is_union = isinstance(found, t.Union)
        slots = list(self._slots(found, class_name))
        scope = Scope(reserved=RESERVED_MEMBERS | {slot.codec.expression for slot in slots if slot.codec})
        public: list[list[tuple[str, str]]] = []
        for slot in slots:
            names = (
                [slot.member.name] if slot.member.name or slot.inner is None else [m.c_name for m in slot.inner.members]
            )
            self._budget.work(len(names) * _STEPS_PER_NAME)
            public.append([(name, scope.take(name)) for name in names])
        layout = _Layout(f"{self._where}: {c_name}", found.size, is_union=is_union, scope=scope)
        members: list[MemberDecl] = []
        for slot, names_taken in zip(slots, public, strict=True):
            members += layout.place(slot, names_taken)
        return StructDecl(class_name, c_name, is_union, found.size, layout.finish(), tuple(members), codec)

    def _flexible_element(self, type_id: int, hint: str) -> CodecDecl:
        """The codec of a flexible array's elements; for an array of bytes, the class of the whole array."""
        _, element = self._btf.resolve(type_id)
        if isinstance(element, t.Int) and element.size == 1 and not element.encoding & t.IntEncoding.BOOL:
            if element.name == "char":
                return CodecDecl("_t.Chars", "", "_t.Chars")
            if not element.encoding & t.IntEncoding.SIGNED:
                return CodecDecl("_t.RawBytes", "", "bytes")
        return self.codec(type_id, hint=hint)

    def _slots(self, found: t.Composite, class_name: str) -> Iterator[_Slot]:
        """The members that need a place, by rising offset."""
        ordered = sorted(found.members, key=lambda member: member.bit_offset)
        for index, member in enumerate(ordered):
            bit_offset, bits = member.bit_offset, member.bits
            _, resolved = self._btf.resolve(member.type_id)
            if isinstance(resolved, t.Int) and not bits and (resolved.bit_offset or resolved.bits != 8 * resolved.size):
                # compilers wrote bitfields this way before kind_flag
                bit_offset, bits = bit_offset + resolved.bit_offset, resolved.bits
            where = f"{class_name}_{member.name or index}"
            if bits:
                if not member.name:
                    continue  # padding that is written as a bitfield
                enum = self.codec(member.type_id, hint=where) if isinstance(resolved, t.Enumeration) else None
                signed = isinstance(resolved, t.Int) and bool(resolved.encoding & t.IntEncoding.SIGNED)
                if isinstance(resolved, t.Enumeration):
                    signed = self._signs(resolved).signed
                yield _Slot(member, bit_offset, bits=bits, signed=signed, codec=enum)
                continue
            if bit_offset % 8:
                raise SkeletonError(f"{self._where}: {class_name}.{member.name} starts at bit {bit_offset}")
            if isinstance(resolved, t.Array) and resolved.length == 0:
                element = self._flexible_element(resolved.type_id, where)
                yield _Slot(member, bit_offset, codec=element, is_flexible=True)
                continue
            if not member.name and not isinstance(resolved, t.Composite):
                continue  # C cannot name it either
            codec = self.codec(member.type_id, hint=where)
            inner = None if member.name else self._structs[codec.python]
            yield _Slot(member, bit_offset, codec=codec, size=self._btf.size_of(member.type_id), inner=inner)


@dataclass(frozen=True)
class _Slot:
    """A member of a struct that has no Python name yet."""

    member: t.Member
    bit_offset: int
    size: int = 0
    """Bytes; 0 for a bitfield or flexible array."""
    codec: CodecDecl | None = None
    bits: int = 0
    signed: bool = False
    is_flexible: bool = False
    inner: StructDecl | None = None
    """The struct or union that an anonymous member is."""


class _Layout:
    """Places members one after another and fills the gaps, so that ctypes adds no padding of its own."""

    def __init__(self, where: str, size: int, *, is_union: bool, scope: Scope) -> None:
        self._where = where
        self._size = size
        self._is_union = is_union
        self._scope = scope
        self._fields: list[tuple[str, str]] = []
        self._at = 0
        self._bits_storage = ""
        self._bits_start = 0
        """Byte where the current run of bitfields starts. The run's storage is the last field until the run ends."""

    def place(self, slot: _Slot, names: Sequence[tuple[str, str]]) -> list[MemberDecl]:
        """The members of a slot, with their C and Python names."""
        offset = slot.bit_offset // 8
        if slot.bits:
            return [self._bitfield(slot, *names[0])]
        codec = slot.codec
        assert codec is not None
        if slot.inner is not None:
            storage = self._field(offset, slot.size, codec.ctype, self._scope.take(f"_anonymous_{offset}"))
            inner = zip(slot.inner.members, names, strict=True)
            return [
                MemberDecl(c_name, name, offset + member.offset, "", "", _inner(storage, offset, member), member.codec)
                for member, (c_name, name) in inner
            ]
        c_name, name = names[0]
        if slot.is_flexible:
            return [MemberDecl(c_name, name, offset, "", "", _flexible(offset, codec.expression), codec.expression)]
        if codec.is_native:
            self._field(offset, slot.size, codec.ctype, name)
            return [MemberDecl(c_name, name, offset, name, codec.python, "", codec.expression)]
        storage = self._field(offset, slot.size, codec.ctype, self._scope.take(f"_{name}"))
        descriptor = f'_t.Field("{storage}", {codec.expression})'
        return [MemberDecl(c_name, name, offset, storage, "", descriptor, codec.expression)]

    def _field(self, offset: int, size: int, ctype: str, name: str) -> str:
        self._pad_to(offset)
        self._check(name, offset, size)
        self._fields.append((name, ctype))
        self._at = offset + size
        self._bits_storage = ""
        return name

    def _bitfield(self, slot: _Slot, c_name: str, name: str) -> MemberDecl:
        start, end = slot.bit_offset // 8, (slot.bit_offset + slot.bits + 7) // 8
        if self._bits_storage and start <= self._at and not self._is_union:
            end = max(end, self._at)
            self._check(name, self._bits_start, end - self._bits_start)
            self._fields[-1] = (self._bits_storage, f"_t.c_uint8 * {end - self._bits_start}")
            self._at = end
        else:
            # in a union each bitfield starts at byte 0 and has its own bytes
            start = 0 if self._is_union else start
            storage = self._scope.take(f"_bits_{start}")
            self._field(start, end - start, f"_t.c_uint8 * {end - start}", storage)
            self._bits_storage, self._bits_start = storage, start
        bit = slot.bit_offset - 8 * self._bits_start
        signed = ", signed=True" if slot.signed else ""
        bits = f'_t.Bits("{self._bits_storage}", bit={bit}, width={slot.bits}{signed})'
        is_enum = slot.codec is not None and not slot.codec.is_native
        codec = slot.codec.expression if slot.codec is not None else "_t.S64" if slot.signed else "_t.U64"
        descriptor = f"_t.EnumBits({bits}, {codec})" if is_enum else bits
        return MemberDecl(c_name, name, self._bits_start, self._bits_storage, "", descriptor, codec)

    def _pad_to(self, offset: int) -> None:
        if offset > self._at and not self._is_union:
            self._fields.append((self._scope.take(f"_pad_{self._at}"), f"_t.c_uint8 * {offset - self._at}"))
            self._at = offset

    def _check(self, name: str, offset: int, size: int) -> None:
        overlaps = offset > 0 if self._is_union else offset < self._at and not self._bits_storage
        if overlaps:
            raise SkeletonError(f"{self._where}: member {name} overlaps the one before it")
        if offset + size > self._size:
            raise SkeletonError(f"{self._where}: member {name} ends at byte {offset + size} of {self._size}")

    def finish(self) -> tuple[tuple[str, str], ...]:
        """All fields, padded to the struct's size."""
        if self._is_union:
            # ctypes makes a union as large as its largest member; C may round it up
            self._fields.append((self._scope.take("_size"), f"_t.c_uint8 * {self._size}"))
        else:
            self._bits_storage = ""
            self._pad_to(self._size)
        return tuple(self._fields)


def _inner(storage: str, offset: int, member: MemberDecl) -> str:
    """The descriptor of a member of an anonymous member."""
    if member.descriptor.startswith("_t.Flexible"):
        return _flexible(offset + member.offset, member.codec)
    return f'_t.Inner("{storage}", "{member.name}", {member.codec})'


def _flexible(offset: int, codec: str) -> str:
    descriptor = "FlexibleBytes" if codec in ("_t.Chars", "_t.RawBytes") else "Flexible"
    return f"_t.{descriptor}({offset}, {codec})"


def _enumerator(scope: Scope, name: str) -> str:
    # Python's enums reserve names with an underscore at either end
    return scope.take(name.strip("_") or "_0" if name.startswith("_") else name)


def _is_flag(values: Iterable[int]) -> bool:
    """Whether an enum's values are bits to combine: at least three, each a single bit or zero."""
    bits = {value for value in values if value}
    return len(bits) >= 3 and all(value > 0 and value & (value - 1) == 0 for value in bits)
