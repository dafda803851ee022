"""`Spec` -> the number that its relocation puts into an instruction.

Input: an access path in one BTF, the object's or the target's. Output: a `RelocationValue`, or `RelocationError` where
libbpf would refuse to load the object (bpf_core_calc_field_relo() and its siblings for types and enumerators).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from hatch_bpf.btf import types as t
from hatch_bpf.btf.ext import CoreReloKind
from hatch_bpf.core_relo.spec import KIND_NAMES, Spec
from hatch_bpf.errors import RelocationError


@dataclass(frozen=True, slots=True)
class RelocationValue:
    """The value of a relocation on one side, the object's or the target's."""

    value: int
    validate: bool = True
    size: int = 0
    """For a byte_off relocation, the field's size in bytes."""
    type_id: int = 0
    """The type of that field."""


def value_of(spec: Spec) -> RelocationValue:
    """The value of the relocation that `spec` belongs to, on its side."""
    match spec.kind:
        case CoreReloKind.FIELD_EXISTS | CoreReloKind.ENUMVAL_EXISTS:
            return RelocationValue(1)
        case CoreReloKind.TYPE_EXISTS | CoreReloKind.TYPE_MATCHES:
            return RelocationValue(1)
        case CoreReloKind.TYPE_ID_TARGET:
            # the compiler puts the local id there, which cannot tell whether it is the right instruction
            return RelocationValue(spec.root_type_id, validate=False)
        case CoreReloKind.TYPE_SIZE:
            return RelocationValue(spec.btf.size_of(spec.root_type_id))
        case CoreReloKind.ENUMVAL_VALUE:
            return RelocationValue(_enumerator_value(spec))
        case _:
            return _field_value(spec)


local_value = lru_cache(maxsize=1 << 14)(value_of)
"""`value_of()` for an object's own side, which is the same for every kernel."""


def _field_value(spec: Spec) -> RelocationValue:
    """The value of a field relocation on one side (bpf_core_calc_field_relo())."""
    kind, btf, last = spec.kind, spec.btf, spec.accessors[-1]
    if last.name is None:
        size = btf.size_of(last.type_id)
        if kind is CoreReloKind.FIELD_BYTE_OFFSET:
            return RelocationValue(spec.bit_offset // 8, True, size, last.type_id)
        if kind is CoreReloKind.FIELD_BYTE_SIZE:
            return RelocationValue(size, True)
        raise RelocationError(f"{spec}: an array element has no {KIND_NAMES[kind]}")
    member = last.member_in(btf)
    type_id, of_type = btf.resolve(member.type_id)
    bits = member.bits
    if bits:
        offset, size = _bitfield_window(spec, of_type, bits)
    else:
        offset, size = spec.bit_offset // 8, btf.size_of(type_id)
        bits = size * 8
    match kind:
        case CoreReloKind.FIELD_BYTE_OFFSET if member.bits:
            return RelocationValue(offset, False)
        case CoreReloKind.FIELD_BYTE_OFFSET:
            return RelocationValue(offset, True, size, type_id)
        case CoreReloKind.FIELD_BYTE_SIZE:
            return RelocationValue(size, not member.bits)
        case CoreReloKind.FIELD_SIGNED:
            return RelocationValue(int(t.is_signed(of_type)), True)
        case CoreReloKind.FIELD_LSHIFT_U64 if btf.endian == "little":
            return RelocationValue(64 - (spec.bit_offset + bits - offset * 8) & 0xFFFFFFFF, not member.bits)
        case CoreReloKind.FIELD_LSHIFT_U64:
            return RelocationValue((8 - size) * 8 + (spec.bit_offset - offset * 8) & 0xFFFFFFFF, not member.bits)
        case _:  # FIELD_RSHIFT_U64
            return RelocationValue(64 - bits & 0xFFFFFFFF, True)


def _bitfield_window(spec: Spec, of_type: t.Type, bits: int) -> tuple[int, int]:
    """Byte offset and size of the smallest aligned integer that holds a bitfield."""
    if not isinstance(of_type, (t.Int, t.Enumeration)) or not of_type.size:
        raise RelocationError(f"{spec}: a {t.kind_name(of_type)} cannot be a bitfield")
    size = of_type.size
    while True:
        offset = spec.bit_offset // 8 // size * size
        if spec.bit_offset + bits - offset * 8 <= size * 8:
            return offset, size
        if size >= 8:
            raise RelocationError(f"{spec}: no 64-bit load holds this bitfield")
        size *= 2


def can_adjust(local: t.Type, target: t.Type) -> bool:
    """Whether a load of another width still reads the right value: for pointers and unsigned integers."""
    match local, target:
        case t.Ptr(), t.Ptr():
            return True
        case t.Int(), t.Int():
            return t.IntEncoding.SIGNED not in (local.encoding, target.encoding)
        case _:
            return False


def _enumerator_value(spec: Spec) -> int:
    """The enumerator as an unsigned 64-bit number. libbpf sign-extends a 32-bit one, even of an unsigned enum."""
    value = spec.enumerator.value
    if isinstance(spec.btf[spec.accessors[0].type_id], t.Enum) and value >> 31 & 1:
        value |= -1 << 32
    return value & 0xFFFFFFFFFFFFFFFF
