"""CO-RE relocation record -> `Spec`: the access path that it names, followed through one BTF's types.

Input: a `CoreRelo` and the `Btf` of the object that it belongs to. Output: a `Spec`, or `RelocationError` for a record
that libbpf would call malformed (bpf_core_parse_spec()). Paths in a kernel's types are `Spec`s too: `compare.py` finds
them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache

from hatch_bpf.btf import types as t
from hatch_bpf.btf.ext import CoreRelo, CoreReloKind
from hatch_bpf.btf.reader import Btf
from hatch_bpf.errors import RelocationError

MAX_SPEC = 64
"""Longest access path, anonymous members counted (BPF_CORE_SPEC_MAX_LEN)."""

KIND_NAMES = {
    CoreReloKind.FIELD_BYTE_OFFSET: "byte_off",
    CoreReloKind.FIELD_BYTE_SIZE: "byte_sz",
    CoreReloKind.FIELD_EXISTS: "field_exists",
    CoreReloKind.FIELD_SIGNED: "signed",
    CoreReloKind.FIELD_LSHIFT_U64: "lshift_u64",
    CoreReloKind.FIELD_RSHIFT_U64: "rshift_u64",
    CoreReloKind.TYPE_ID_LOCAL: "local_type_id",
    CoreReloKind.TYPE_ID_TARGET: "target_type_id",
    CoreReloKind.TYPE_EXISTS: "type_exists",
    CoreReloKind.TYPE_MATCHES: "type_matches",
    CoreReloKind.TYPE_SIZE: "type_size",
    CoreReloKind.ENUMVAL_EXISTS: "enumval_exists",
    CoreReloKind.ENUMVAL_VALUE: "enumval_value",
}
"""How libbpf's log spells each kind."""
ENUMVAL_KINDS = frozenset(kind for kind in CoreReloKind if kind.name.startswith("ENUMVAL_"))
TYPE_KINDS = frozenset(kind for kind in CoreReloKind if kind.name.startswith("TYPE_"))
FIELD_KINDS = frozenset(CoreReloKind) - ENUMVAL_KINDS - TYPE_KINDS

_FLAVOR = re.compile(r"(.*[^_])___[^_]", re.DOTALL)
_ACCESS = re.compile(r"[0-9]{1,9}(?::[0-9]{1,9})*")


def essential_name(name: str) -> str:
    """A type's name without its flavor: `task_struct` of `task_struct___old`."""
    if "___" not in name:
        return name
    match = _FLAVOR.match(name)
    return match[1] if match else name


@dataclass(frozen=True, slots=True)
class Accessor:
    """One step of an access path that C code names: a member, an array element, or an enumerator."""

    type_id: int
    """The struct or union that holds the member, the element's type, or the enum; never a typedef or qualifier."""
    index: int
    name: str | None
    """None for an array element, and for the pointer dereference that every field path starts with."""

    def member_in(self, btf: Btf) -> t.Member:
        """The member that this step names. `btf` is the one that its path leads through."""
        owner = btf[self.type_id]
        assert isinstance(owner, t.Composite)
        return owner.members[self.index]


@dataclass(frozen=True, slots=True)
class Spec:
    """An access path within one BTF (`struct bpf_core_spec`). `str()` renders it as libbpf's log does."""

    btf: Btf = field(repr=False)
    kind: CoreReloKind
    root_type_id: int
    accessors: tuple[Accessor, ...] = ()
    raw: tuple[int, ...] = ()
    """Index of every step, including those into anonymous members."""
    bit_offset: int = 0

    def __str__(self) -> str:
        root = self.btf[self.root_type_id]
        text = f"<{KIND_NAMES[self.kind]}> [{self.root_type_id}] {t.kind_name(root)} {root.name or '<anon>'}"
        if self.kind in ENUMVAL_KINDS and self.accessors:
            return f"{text}::{self.accessors[0].name} = {self.enumerator.value}"
        if self.kind in FIELD_KINDS:
            path = ":".join(map(str, self.raw))
            byte, bit = divmod(self.bit_offset, 8)
            return f"{text}{self._path()} ({path} @ offset {byte}{f'.{bit}' if bit else ''})"
        return text

    @property
    def access(self) -> str:
        """The path as in C: `struct tcp_sock.srtt_us`, `enum bpf_func_id::BPF_FUNC_loop`, `struct sock`."""
        root = self.btf[self.root_type_id]
        prefix = {t.Struct: "struct ", t.Union: "union ", t.Enum: "enum ", t.Enum64: "enum "}.get(type(root), "")
        text = prefix + (root.name or "<anonymous>")
        if self.kind in ENUMVAL_KINDS and self.accessors:
            return f"{text}::{self.accessors[0].name}"
        return text + self._path() if self.kind in FIELD_KINDS else text

    @property
    def enumerator(self) -> t.Enumerator:
        """The enumerator that an ENUMVAL relocation names."""
        enum = self.btf[self.accessors[0].type_id]
        assert isinstance(enum, t.Enumeration)
        return enum.values[self.accessors[0].index]

    def _path(self) -> str:
        steps = []
        for position, step in enumerate(self.accessors):
            if step.name is not None:
                steps.append(f".{step.name}")
            elif position or step.index:
                steps.append(f"[{step.index}]")
        return "".join(steps)


def parse_spec(local: Btf, relo: CoreRelo) -> Spec:
    """A record's access string, followed through the object's own types (bpf_core_parse_spec())."""
    return _parse_spec(local, relo.kind, relo.type_id, relo.access_str)


@lru_cache(maxsize=1 << 14)  # the same for every kernel
def _parse_spec(local: Btf, kind: CoreReloKind, root_type_id: int, text: str) -> Spec:
    if kind in TYPE_KINDS:
        if text != "0":
            raise RelocationError(f"access string {text!r} is malformed; a type relocation has '0'")
        local.kind(root_type_id)  # raises if there is no such type
        return Spec(local, kind, root_type_id)
    if not _ACCESS.fullmatch(text):
        raise RelocationError(f"access string {text!r} is malformed")
    raw = tuple(int(step) for step in text.split(":"))
    if len(raw) > MAX_SPEC:
        raise RelocationError(f"access string of {len(raw)} steps is too long; libbpf takes {MAX_SPEC}")
    type_id, root = local.resolve(root_type_id)
    if kind in ENUMVAL_KINDS:
        if not isinstance(root, t.Enumeration) or len(raw) > 1 or raw[0] >= len(root.values):
            raise RelocationError(f"access string {text!r} names no enumerator of type {root_type_id}, {root.name!r}")
        accessor = Accessor(type_id, raw[0], root.values[raw[0]].name)
        return Spec(local, kind, root_type_id, (accessor,), raw)
    accessors = [Accessor(type_id, raw[0], None)]
    bit_offset = raw[0] * local.size_of(type_id) * 8
    for index in raw[1:]:
        type_id, found = local.resolve(type_id)
        match found:
            case t.Composite():
                if index >= len(found.members):
                    raise RelocationError(f"access string {text!r} names no member of {found.name or 'a struct'!r}")
                member = found.members[index]
                bit_offset += member.bit_offset
                if member.name:
                    accessors.append(Accessor(type_id, index, member.name))
                type_id = member.type_id
            case t.Array():
                if index >= found.length and not is_flexible(local, accessors[-1], found):
                    raise RelocationError(f"access string {text!r} is past the end of an array of {found.length}")
                type_id, _ = local.resolve(found.type_id)
                accessors.append(Accessor(type_id, index, None))
                bit_offset += index * local.size_of(type_id) * 8
            case _:
                raise RelocationError(f"access string {text!r} goes into a {t.kind_name(found)}, which has no members")
    return Spec(local, kind, root_type_id, tuple(accessors), raw, bit_offset & 0xFFFFFFFF)


def is_flexible(btf: Btf, accessor: Accessor, array: t.Array) -> bool:
    """Whether the array just reached through `accessor` is the last member of its struct, with no length of its own."""
    if accessor.name is None or array.length:
        return False
    owner = btf[accessor.type_id]
    return isinstance(owner, t.Composite) and accessor.index == len(owner.members) - 1
