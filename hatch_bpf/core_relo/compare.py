"""A local `Spec` against a type of the target -> the same path there, if the types are compatible.

Input: a path in an object's types, and a candidate: a type of the target's BTF with the same name. Output: the path in
the candidate, or None where libbpf would say that it does not match (bpf_core_spec_match()). How much one comparison
may do is limited, since a forged BTF could ask for any amount of work.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from hatch_bpf.btf import types as t
from hatch_bpf.btf.ext import CoreReloKind
from hatch_bpf.btf.reader import Btf
from hatch_bpf.core_relo.spec import ENUMVAL_KINDS, MAX_SPEC, TYPE_KINDS, Accessor, Spec, essential_name, is_flexible
from hatch_bpf.errors import RelocationError
from hatch_bpf.support.budget import Budget

MAX_DEPTH = 32
"""Deepest nesting of types that a comparison follows."""
ENUMS = (t.Kind.ENUM, t.Kind.ENUM64)


class Comparison:
    """Compares types of an object with types of a target, as long as the budget lasts."""

    def __init__(self, local: Btf, target: Btf, budget: Budget) -> None:
        self.local = local
        self.target = target
        self._step = budget.work
        """Called for each type and member that is looked at."""

    def match_spec(self, spec: Spec, candidate: int) -> Spec | None:
        """The path `spec` starting at a candidate, or None (bpf_core_spec_match())."""
        if spec.kind is CoreReloKind.TYPE_MATCHES:
            found = self.types_match(spec.root_type_id, candidate, behind_pointer=False, level=MAX_DEPTH)
            return Spec(self.target, spec.kind, candidate) if found else None
        if spec.kind in TYPE_KINDS:
            found = self.types_are_compatible(spec.root_type_id, candidate, level=MAX_DEPTH)
            return Spec(self.target, spec.kind, candidate) if found else None
        if spec.kind in ENUMVAL_KINDS:
            return self._match_enumerator(spec, candidate)
        return self._match_field(spec, candidate)

    def _match_enumerator(self, spec: Spec, candidate: int) -> Spec | None:
        type_id, enum = self.target.resolve(candidate)
        if not isinstance(enum, t.Enumeration):
            return None
        wanted = essential_name(spec.accessors[0].name or "")
        for index, value in enumerate(enum.values):
            if essential_name(value.name) == wanted:
                return Spec(self.target, spec.kind, candidate, (Accessor(type_id, index, value.name),), (index,))
        return None

    def _match_field(self, spec: Spec, candidate: int) -> Spec | None:
        btf, type_id = self.target, candidate
        accessors: list[Accessor] = []
        raw: list[int] = []
        bit_offset = 0
        for position, accessor in enumerate(spec.accessors):
            type_id, found = btf.resolve(type_id)
            if accessor.name is not None:
                member = self._find_member(accessor, type_id, depth=len(raw))
                if member is None:
                    return None
                accessors.append(Accessor(member.owner, member.path[-1], accessor.name))
                raw += member.path
                bit_offset += member.bit_offset
                type_id = member.type_id
                continue
            if position:  # the first step dereferences the pointer, and the candidate is what it points to
                if not isinstance(found, t.Array):
                    return None
                if accessor.index >= found.length and not is_flexible(btf, accessors[-1], found):
                    return None
                type_id, _ = btf.resolve(found.type_id)
            if len(raw) == MAX_SPEC:
                raise RelocationError(f"{candidate} nests deeper than {MAX_SPEC} steps")
            accessors.append(Accessor(type_id, accessor.index, None))
            raw.append(accessor.index)
            bit_offset += accessor.index * btf.size_of(type_id) * 8
        return Spec(btf, spec.kind, candidate, tuple(accessors), tuple(raw), bit_offset & 0xFFFFFFFF)

    def _find_member(self, accessor: Accessor, target_id: int, *, depth: int) -> _FoundMember | None:
        """The target's member with a local member's name and a compatible type, in anonymous members too.

        A member of the right name but an incompatible type ends the search of its struct (bpf_core_match_member()).
        """
        target_id, owner = self.target.resolve(target_id)
        if not isinstance(owner, t.Composite):
            return None
        for index, member in enumerate(owner.members):
            self._step()
            if depth == MAX_SPEC:
                raise RelocationError(f"{owner.name or 'an anonymous struct'} nests deeper than {MAX_SPEC} steps")
            if not member.name:
                inner = self._find_member(accessor, member.type_id, depth=depth + 1)
                if inner is not None:
                    return replace(inner, path=(index, *inner.path), bit_offset=member.bit_offset + inner.bit_offset)
            elif member.name == accessor.name:
                if not self.fields_are_compatible(accessor.member_in(self.local).type_id, member.type_id):
                    return None
                return _FoundMember(target_id, (index,), member.bit_offset, member.type_id)
        return None

    def fields_are_compatible(self, local_id: int, target_id: int) -> bool:
        """bpf_core_fields_are_compat()."""
        while True:
            self._step()
            _, local = self.local.resolve(local_id)
            _, target = self.target.resolve(target_id)
            match local, target:
                case (t.Composite(), t.Composite()) | (t.Ptr(), t.Ptr()) | (t.Float(), t.Float()):
                    return True
                case (t.Enumeration(), t.Enumeration()) | (t.Fwd(), t.Fwd()):
                    local_name, target_name = essential_name(local.name), essential_name(target.name)
                    return not local_name or not target_name or local_name == target_name
                case t.Int(), t.Int():
                    return local.bit_offset == 0 == target.bit_offset
                case t.Array(), t.Array():
                    local_id, target_id = local.type_id, target.type_id
                case _:
                    return False

    def types_are_compatible(self, local_id: int, target_id: int, *, level: int) -> bool:
        """bpf_core_types_are_compat(), which decides TYPE_EXISTS, TYPE_SIZE and TYPE_ID_TARGET."""
        if not _kinds_compatible(self.local.kind(local_id), self.target.kind(target_id)):
            return False
        for _ in range(MAX_DEPTH):
            self._step()
            _, local = self.local.resolve(local_id)
            _, target = self.target.resolve(target_id)
            match local, target:
                case (t.Void(), t.Void()) | (t.Fwd(), t.Fwd()) | (t.Enumeration(), t.Enumeration()):
                    return True
                case t.Composite(), t.Composite():
                    return type(local) is type(target)
                case t.Int(), t.Int():
                    return local.bit_offset == 0 == target.bit_offset
                case t.Ptr(), t.Ptr():
                    local_id, target_id = local.type_id, target.type_id
                case t.Array(), t.Array():
                    local_id, target_id = local.type_id, target.type_id
                case t.FuncProto(), t.FuncProto():
                    if len(local.params) != len(target.params):
                        return False
                    for own, other in zip(local.params, target.params, strict=True):
                        if level <= 0:
                            raise RelocationError(f"function types nest deeper than {MAX_DEPTH}")
                        own_id, _ = self.local.resolve(own.type_id)
                        other_id, _ = self.target.resolve(other.type_id)
                        if not self.types_are_compatible(own_id, other_id, level=level - 1):
                            return False
                    local_id, _ = self.local.resolve(local.return_type_id)
                    target_id, _ = self.target.resolve(target.return_type_id)
                case _:
                    return False
        raise RelocationError(f"types nest deeper than {MAX_DEPTH}")

    def types_match(self, local_id: int, target_id: int, *, behind_pointer: bool, level: int) -> bool:
        """bpf_core_types_match(), which decides TYPE_MATCHES."""
        if level <= 0:
            raise RelocationError(f"types nest deeper than {MAX_DEPTH}")
        for _ in range(MAX_DEPTH):
            self._step()
            _, local = self.local.resolve(local_id)
            _, target = self.target.resolve(target_id)
            if essential_name(local.name) != essential_name(target.name):
                return False
            match local, target:
                case t.Void(), t.Void():
                    return True
                case t.Fwd(), t.Fwd():
                    return local.is_union == target.is_union
                case t.Fwd(), t.Composite() if behind_pointer:
                    return local.is_union == isinstance(target, t.Union)
                case t.Composite(), t.Fwd() if behind_pointer:
                    return target.is_union == isinstance(local, t.Union)
                case t.Enumeration(), t.Enumeration():
                    return self._enums_match(local, target)
                case t.Composite(), t.Composite() if type(local) is type(target):
                    return behind_pointer or self._members_match(local.members, target.members, level=level)
                case t.Int(), t.Int():
                    return local.size == target.size and t.is_signed(local) == t.is_signed(target)
                case t.Ptr(), t.Ptr():
                    behind_pointer = True
                    local_id, target_id = local.type_id, target.type_id
                case t.Array(), t.Array():
                    if local.length != target.length:
                        return False
                    local_id, target_id = local.type_id, target.type_id
                case t.FuncProto(), t.FuncProto():
                    if len(local.params) != len(target.params):
                        return False
                    for own, other in zip(local.params, target.params, strict=True):
                        if not self.types_match(
                            own.type_id, other.type_id, behind_pointer=behind_pointer, level=level - 1
                        ):
                            return False
                    local_id, target_id = local.return_type_id, target.return_type_id
                case _:
                    return False
        raise RelocationError(f"types nest deeper than {MAX_DEPTH}")

    def _enums_match(self, local: t.Enumeration, target: t.Enumeration) -> bool:
        if local.size != target.size or len(local.values) > len(target.values):
            return False
        names = {essential_name(value.name) for value in target.values}
        return all(essential_name(value.name) in names for value in local.values)

    def _members_match(self, local: Sequence[t.Member], target: Sequence[t.Member], *, level: int) -> bool:
        """Whether the target has, for each local member, one with the same name and a matching type."""
        if len(local) > len(target):
            return False
        by_name: dict[str, list[t.Member]] = {}
        for other in target:
            by_name.setdefault(essential_name(other.name), []).append(other)
        return all(
            any(
                self.types_match(own.type_id, other.type_id, behind_pointer=False, level=level - 1)
                for other in by_name.get(essential_name(own.name), ())
            )
            for own in local
        )


@dataclass(frozen=True, slots=True)
class _FoundMember:
    """A member found in a struct or in its anonymous members."""

    owner: int
    """The innermost struct or union."""
    path: tuple[int, ...]
    """Indices from the outermost struct to the member."""
    bit_offset: int
    """From the outermost struct's start."""
    type_id: int


@lru_cache(maxsize=1 << 14)
def likeness(spec: Spec) -> tuple[object, ...]:
    """Equal for local paths that match the same candidates."""
    if spec.kind in ENUMVAL_KINDS:
        return spec.kind, essential_name(spec.accessors[0].name or "")
    if spec.kind in TYPE_KINDS:
        return spec.kind, spec.btf, spec.root_type_id
    steps: list[object] = [spec.kind]
    for accessor in spec.accessors:
        if accessor.name is None:
            steps.append(accessor.index)
        else:
            steps.append((accessor.name, *_field_likeness(spec.btf, accessor.member_in(spec.btf).type_id)))
    return tuple(steps)


def _field_likeness(btf: Btf, type_id: int) -> Iterator[object]:
    """Everything that `fields_are_compatible()` looks at in a local type."""
    for _ in range(MAX_DEPTH):
        type_id, found = btf.resolve(type_id)
        yield t.Kind.ENUM if isinstance(found, t.Enum64) else t.KIND_OF[type(found)]
        match found:
            case t.Array():
                type_id = found.type_id
            case t.Enumeration() | t.Fwd():
                yield essential_name(found.name)
                return
            case t.Int():
                yield found.bit_offset
                return
            case _:
                return
    yield from (btf, type_id)  # deeper than C allows: unlike anything else


def _kinds_compatible(local: t.Kind, target: t.Kind) -> bool:
    """Whether two kinds are the same, counting ENUM and ENUM64 as one (btf_kind_core_compat())."""
    return local == target or (local in ENUMS and target in ENUMS)
