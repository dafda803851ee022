"""CO-RE relocation record x target BTF -> what libbpf would make of it: candidates, match, value, patched instruction.

Input: a `CoreRelo` of an object, the object's `Btf`, and a kernel's `Btf`. Output: a `Resolution`, or `RelocationError`
where libbpf would refuse to load the object. The rules are those of libbpf 1.1 (relo_core.c and bpf_core_add_cands()).

- `Matcher.resolve()` looks at one record by itself; `Matcher.resolve_all()` at all of an object's in order, which is
  what libbpf does: a candidate that one record of a local type rules out is not looked at again for that type.
- A type relocation that finds nothing has the value 0 and does not poison the instruction, not even TYPE_SIZE and
  TYPE_ID_TARGET; FIELD_EXISTS and ENUMVAL_EXISTS likewise. Only the other field and enumerator kinds poison it.
- `patch_insn()` also poisons a load or store whose field changed size in a way that cannot be adjusted for
  (`Resolution.fail_memsz_adjust`).
- Where libbpf 1.6 has another rule, the stricter old one holds: a load of a whole array whose size changed is poisoned,
  while 1.6 lets it pass if the elements kept theirs.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import NamedTuple, Protocol

from hatch_bpf.btf import types as t
from hatch_bpf.btf.ext import CoreRelo, CoreReloKind
from hatch_bpf.btf.reader import Btf
from hatch_bpf.errors import BtfError, RelocationError

MAX_SPEC = 64
"""Longest access path, anonymous members counted (BPF_CORE_SPEC_MAX_LEN)."""
MAX_DEPTH = 32
"""Deepest nesting of types that a comparison follows."""
MAX_STEPS = 1 << 17
"""Types and members looked at for one record before it is given up: only a forged BTF needs more."""

INSN_SIZE = 8
POISON_IMM = 0xBAD2310
"""Number of the helper, which no kernel has, that a poisoned instruction calls."""

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
ENUMVAL_KINDS = frozenset({CoreReloKind.ENUMVAL_EXISTS, CoreReloKind.ENUMVAL_VALUE})
TYPE_KINDS = frozenset(
    {
        CoreReloKind.TYPE_ID_LOCAL,
        CoreReloKind.TYPE_ID_TARGET,
        CoreReloKind.TYPE_EXISTS,
        CoreReloKind.TYPE_MATCHES,
        CoreReloKind.TYPE_SIZE,
    }
)
FIELD_KINDS = frozenset(CoreReloKind) - ENUMVAL_KINDS - TYPE_KINDS

_ENUMS = (t.Kind.ENUM, t.Kind.ENUM64)
_U32 = 0xFFFFFFFF
_U64 = 0xFFFFFFFFFFFFFFFF
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
    """The struct or union that has the member; the type of the element; the enum. Typedefs and qualifiers skipped."""
    index: int
    name: str | None
    """None for an array element, and for the pointer dereference that every field path starts with."""


@dataclass(frozen=True, slots=True)
class Spec:
    """An access path within one BTF (`struct bpf_core_spec`). `str()` gives libbpf's rendering of it."""

    btf: Btf = field(repr=False)
    kind: CoreReloKind
    root_type_id: int
    accessors: tuple[Accessor, ...] = ()
    raw: tuple[int, ...] = ()
    """Index of every step, those into anonymous members too."""
    bit_offset: int = 0

    def __str__(self) -> str:
        root = self.btf[self.root_type_id]
        text = f"<{KIND_NAMES[self.kind]}> [{self.root_type_id}] {_kind_name(root)} {root.name or '<anon>'}"
        if self.kind in ENUMVAL_KINDS and self.accessors:
            return f"{text}::{self.accessors[0].name} = {_enumerator(self).value}"
        if self.kind in FIELD_KINDS:
            path = ":".join(map(str, self.raw))
            byte, bit = divmod(self.bit_offset, 8)
            return f"{text}{self._path()} ({path} @ offset {byte}{f'.{bit}' if bit else ''})"
        return text

    @property
    def access(self) -> str:
        """As C code would put it: `struct tcp_sock.srtt_us`, `enum bpf_func_id::BPF_FUNC_loop`, `struct sock`."""
        root = self.btf[self.root_type_id]
        prefix = {t.Struct: "struct ", t.Union: "union ", t.Enum: "enum ", t.Enum64: "enum "}.get(type(root), "")
        text = prefix + (root.name or "<anonymous>")
        if self.kind in ENUMVAL_KINDS and self.accessors:
            return f"{text}::{self.accessors[0].name}"
        return text + self._path() if self.kind in FIELD_KINDS else text

    def _path(self) -> str:
        steps = []
        for position, step in enumerate(self.accessors):
            if step.name is not None:
                steps.append(f".{step.name}")
            elif position or step.index:
                steps.append(f"[{step.index}]")
        return "".join(steps)


@dataclass(frozen=True, slots=True)
class Resolution:
    """What one relocation record comes to on one target (`struct bpf_core_relo_res`, with the paths it came from)."""

    relo: CoreRelo
    local: Spec
    target: Spec | None
    """The first candidate that matched; None when none did, and for TYPE_ID_LOCAL, which needs none."""
    type_is_there: bool = True
    """The target has a type of that name and kind, whether or not it matches."""
    poisoned: bool = False
    """Nothing matched, and the value would mean nothing: libbpf makes the instruction an invalid call."""
    local_value: int = 0
    """What the compiler put in the instruction. Like the next, an unsigned 64-bit number."""
    target_value: int = 0
    """What has to be there on the target."""
    validate: bool = True
    """libbpf checks that the instruction holds `local_value` first."""
    local_size: int = 0
    """Bytes of the field at a byte_off relocation, 0 elsewhere and for bitfields. Where `target_size` is another,
    a load or store must change its width."""
    target_size: int = 0
    local_type_id: int = 0
    """Type of that field."""
    target_type_id: int = 0
    fail_memsz_adjust: bool = False
    """The sizes differ and no change of width would read the right value: libbpf poisons a load or store."""

    @property
    def found(self) -> bool:
        return self.target is not None or self.relo.kind is CoreReloKind.TYPE_ID_LOCAL


class Resolver(Protocol):
    """What verdicts need of a `Matcher`."""

    def resolve_all(self, local: Btf, relos: Iterable[CoreRelo]) -> Iterator[Resolution | RelocationError]:
        """What an object's records come to, in order."""


class AmbiguityError(RelocationError):
    """Two candidates match and give different values, so libbpf refuses to load the object; `targets` are the two."""

    def __init__(self, message: str, targets: tuple[Spec, Spec]) -> None:
        self.targets = targets
        super().__init__(message)


class Outcome(NamedTuple):
    """What the kernel's side of a `Resolution` is, as numbers that can be kept."""

    type_is_there: bool
    poisoned: bool
    value: int
    size: int
    fail_memsz_adjust: bool


def outcome_of(resolution: Resolution) -> Outcome:
    """What to keep of a resolution."""
    return Outcome(
        resolution.type_is_there,
        resolution.poisoned,
        resolution.target_value,
        resolution.target_size,
        resolution.fail_memsz_adjust,
    )


def resolution_of(local: Btf, relo: CoreRelo, outcome: Outcome) -> Resolution:
    """The resolution again, without what it found on the target. `relo` has to be as the one that led to `outcome`."""
    spec = parse_spec(local, relo)
    if relo.kind is CoreReloKind.TYPE_ID_LOCAL:
        return _of_local_id(relo, spec)
    return _resolution(relo, spec, _local_value(spec), outcome)


@dataclass(frozen=True, slots=True)
class _Value:
    """What a record comes to on one side."""

    value: int
    validate: bool = True
    size: int = 0
    """Bytes of the field at a byte_off relocation."""
    type_id: int = 0
    """Its type."""


@dataclass(frozen=True, slots=True)
class _Decision:
    """What local types that look alike come to on the target."""

    target: Spec | None
    value: _Value
    matching: tuple[int, ...]
    """The candidates that led to it."""


class Matcher:
    """Resolves relocations against one target BTF; what it learns of the target serves every object."""

    def __init__(self, target: Btf) -> None:
        self.target = target
        self._by_name: dict[tuple[str, tuple[t.Kind, ...]], tuple[int, ...]] = {}
        self._decisions: dict[tuple[object, ...], _Decision] = {}
        self._resolved: dict[tuple[Btf, tuple[CoreRelo, ...]], tuple[Resolution | RelocationError, ...]] = {}

    def expect(self, local_names: Iterable[str]) -> None:
        """Say for types of which names `candidates()` will be called: these are found together."""
        self.target.expect(map(essential_name, local_names))

    def candidates(self, local: Btf, type_id: int) -> tuple[int, ...]:
        """Ids of the target's types that may stand for a local type: its name, flavors aside, and its kind.

        A module's own types count only where its base has none.
        """
        name, kind = essential_name(local.name(type_id)), local.kind(type_id)
        kinds = _ENUMS if kind in _ENUMS else (kind,)
        if (name, kinds) not in self._by_name:
            flavors = (flavor for flavor in self.target.flavors(name) if essential_name(flavor) == name)
            names = {name} if essential_name(name) == name else set()
            named = {found for flavor in names.union(flavors) for found in self.target.find(flavor, *kinds)}
            self._by_name[name, kinds] = tuple(sorted(named))
        ids = self._by_name[name, kinds]
        in_base = tuple(found for found in ids if found < self.target.first_id)
        return in_base or ids

    def resolve(self, local: Btf, relo: CoreRelo) -> Resolution:
        """Resolve one record by itself. Raises `RelocationError`."""
        return self._resolve(local, relo, {})

    def matches(self, local: Btf, relo: CoreRelo) -> list[Spec]:
        """The paths in all the candidates that a record matches, whether or not they give the same value."""
        comparison, spec = _Comparison(local, self.target), parse_spec(local, relo)
        found = (comparison.match_spec(spec, candidate) for candidate in self.candidates(local, relo.type_id))
        return [target for target in found if target is not None]

    def resolve_all(self, local: Btf, relos: Iterable[CoreRelo]) -> Iterator[Resolution | RelocationError]:
        """Resolve an object's records in order, with libbpf's narrowing of candidates; an error doesn't end it."""
        key = (local, tuple(relos))
        if key not in self._resolved:
            self._resolved[key] = tuple(self._in_order(*key))
        return iter(self._resolved[key])

    def _in_order(self, local: Btf, relos: Iterable[CoreRelo]) -> Iterator[Resolution | RelocationError]:
        candidates: dict[int, tuple[int, ...]] = {}
        for relo in relos:
            try:
                yield self._resolve(local, relo, candidates)
            except RelocationError as error:
                yield error

    def _resolve(self, local: Btf, relo: CoreRelo, narrowed: dict[int, tuple[int, ...]]) -> Resolution:
        try:
            spec = parse_spec(local, relo)
            if relo.kind is CoreReloKind.TYPE_ID_LOCAL:
                return _of_local_id(relo, spec)
            if not local.name(relo.type_id):
                raise RelocationError(f"{spec} is of an anonymous type, for which libbpf looks for no candidates")
            if relo.type_id not in narrowed:
                narrowed[relo.type_id] = self.candidates(local, relo.type_id)
            decision = self._decide(spec, narrowed[relo.type_id])
            resolution = _resolve_to(relo, spec, decision, type_is_there=bool(narrowed[relo.type_id]))
        except (BtfError, RelocationError) as error:
            message = f"{local.source}: CO-RE relocation at byte {relo.insn_off} against {self.target.source}: {error}"
            if isinstance(error, AmbiguityError):
                raise AmbiguityError(message, error.targets) from error
            raise RelocationError(message) from error
        if decision.matching:
            narrowed[relo.type_id] = decision.matching
        return resolution

    def _decide(self, spec: Spec, candidates: tuple[int, ...]) -> _Decision:
        """Which candidates match; worked out once for all local paths that look alike, of whatever object."""
        key = (*_likeness(spec), candidates)
        if key not in self._decisions:
            self._decisions[key] = self._match(spec, candidates)
        return self._decisions[key]

    def _match(self, spec: Spec, candidates: Sequence[int]) -> _Decision:
        first: Spec | None = None
        value = _Value(0)
        matching = []
        comparison = _Comparison(spec.btf, self.target)
        for candidate in candidates:
            target = comparison.match_spec(spec, candidate)
            if target is None:
                continue
            found = _value(target)
            if first is None:
                first, value = target, found
            if target.bit_offset != first.bit_offset:
                raise AmbiguityError(f"field offset ambiguity: {first} or {target}", (first, target))
            if found.value != value.value:
                values = f"{first} gives {value.value}, {target} gives {found.value}"
                raise AmbiguityError(f"relocation decision ambiguity: {values}", (first, target))
            matching.append(candidate)
        return _Decision(first, value, tuple(matching))


def parse_spec(local: Btf, relo: CoreRelo) -> Spec:
    """A record's access string, followed through the object's own types (bpf_core_parse_spec())."""
    return _parse_spec(local, relo.kind, relo.type_id, relo.access_str)


@lru_cache(maxsize=1 << 14)  # the same for every kernel
def _parse_spec(local: Btf, kind: CoreReloKind, root_type_id: int, text: str) -> Spec:
    if kind in TYPE_KINDS:
        if text != "0":
            raise RelocationError(f"access string {text!r} is malformed; a type relocation has '0'")
        local.kind(root_type_id)  # it has to be there
        return Spec(local, kind, root_type_id)
    if not _ACCESS.fullmatch(text):
        raise RelocationError(f"access string {text!r} is malformed")
    raw = tuple(int(step) for step in text.split(":"))
    if len(raw) > MAX_SPEC:
        raise RelocationError(f"access string of {len(raw)} steps is too long; libbpf takes {MAX_SPEC}")
    type_id, root = local.resolve(root_type_id)
    if kind in ENUMVAL_KINDS:
        if not isinstance(root, (t.Enum, t.Enum64)) or len(raw) > 1 or raw[0] >= len(root.values):
            raise RelocationError(f"access string {text!r} names no enumerator of type {root_type_id}, {root.name!r}")
        accessor = Accessor(type_id, raw[0], root.values[raw[0]].name)
        return Spec(local, kind, root_type_id, (accessor,), raw)
    accessors = [Accessor(type_id, raw[0], None)]
    bit_offset = raw[0] * local.size_of(type_id) * 8
    for index in raw[1:]:
        type_id, found = local.resolve(type_id)
        match found:
            case t.Struct() | t.Union():
                if index >= len(found.members):
                    raise RelocationError(f"access string {text!r} names no member of {found.name or 'a struct'!r}")
                member = found.members[index]
                bit_offset += member.bit_offset
                if member.name:
                    accessors.append(Accessor(type_id, index, member.name))
                type_id = member.type_id
            case t.Array():
                if index >= found.length and not _is_flexible(local, accessors[-1], found):
                    raise RelocationError(f"access string {text!r} is past the end of an array of {found.length}")
                type_id, _ = local.resolve(found.type_id)
                accessors.append(Accessor(type_id, index, None))
                bit_offset += index * local.size_of(type_id) * 8
            case _:
                raise RelocationError(f"access string {text!r} goes into a {_kind_name(found)}, which has no members")
    return Spec(local, kind, root_type_id, tuple(accessors), raw, bit_offset & _U32)


def agree(full: Resolution | RelocationError, small: Resolution | RelocationError) -> bool:
    """Whether a relocation comes to the same on the full and the minimized BTF; ids of kernel types never do."""
    if isinstance(full, RelocationError) or isinstance(small, RelocationError):
        return False
    if full.relo.kind is CoreReloKind.TYPE_ID_TARGET:
        return full.found == small.found
    return (full.poisoned, full.target_value, full.target_size, full.fail_memsz_adjust) == (
        small.poisoned,
        small.target_value,
        small.target_size,
        small.fail_memsz_adjust,
    )


def patch_insn(insns: bytes, insn_off: int, resolution: Resolution) -> bytes:
    """The instructions with the one at byte `insn_off` relocated (bpf_core_patch_insn()).

    `insn_off` counts from the start of `insns`, while `CoreRelo.insn_off` counts from the start of the ELF section.
    Raises `RelocationError` where libbpf refuses to load the object.
    """
    if insn_off % INSN_SIZE or not 0 <= insn_off <= len(insns) - INSN_SIZE:
        raise RelocationError(f"{resolution.local}: there is no instruction at byte {insn_off}")
    order = "<" if resolution.local.btf.endian == "little" else ">"
    code, _, off, imm = struct.unpack_from(order + "BBhi", insns, insn_off)
    local, target = resolution.local_value, resolution.target_value
    is_wide = code == _LD_IMM64

    def error(what: str) -> RelocationError:
        return RelocationError(f"{resolution.local}: instruction {insn_off // INSN_SIZE} {what}")

    if is_wide and insn_off + 2 * INSN_SIZE > len(insns):
        raise error("is half a 64-bit load")
    patched = bytearray(insns)

    def poison() -> bytes:
        for at in (insn_off, insn_off + INSN_SIZE)[: 2 if is_wide else 1]:
            struct.pack_into(order + "BBhi", patched, at, _CALL, 0, 0, POISON_IMM)
        return bytes(patched)

    if resolution.poisoned:
        return poison()
    match code & 7:
        case 4 | 7:  # BPF_ALU, BPF_ALU64
            if code & 8:
                raise error("takes its operand from a register, not from an immediate")
            if resolution.validate and imm & _U64 != local:
                raise error(f"holds {imm} where {local} was expected")
            struct.pack_into(order + "I", patched, insn_off + 4, target & _U32)
        case 1 | 2 | 3:  # BPF_LDX, BPF_ST, BPF_STX
            if resolution.validate and off & _U64 != local:
                raise error(f"has offset {off} where {local} was expected")
            if target > 0x7FFF:
                raise error(f"cannot have offset {target}: it does not fit 16 bits")
            if resolution.fail_memsz_adjust:
                return poison()
            if resolution.local_size != resolution.target_size:
                if _BYTES_OF_SIZE[code & 0x18] != resolution.local_size:
                    raise error(
                        f"accesses {_BYTES_OF_SIZE[code & 0x18]} bytes of a field of {resolution.local_size}, "
                        f"so it cannot be changed to one of {resolution.target_size}"
                    )
                if resolution.target_size not in _SIZE_OF_BYTES:
                    raise error(f"cannot access {resolution.target_size} bytes at once")
                patched[insn_off] = code & 0xE7 | _SIZE_OF_BYTES[resolution.target_size]
            struct.pack_into(order + "H", patched, insn_off + 2, target)
        case 0 if is_wide:
            code2, regs2, off2, imm2 = struct.unpack_from(order + "BBhI", insns, insn_off + INSN_SIZE)
            src = insns[insn_off + 1] >> 4 if order == "<" else insns[insn_off + 1] & 0xF
            if src or off or code2 or regs2 or off2:
                raise error("is not a plain 64-bit load")
            held = imm & _U32 | imm2 << 32
            if resolution.validate and held != local:
                raise error(f"holds {held} where {local} was expected")
            struct.pack_into(order + "I", patched, insn_off + 4, target & _U32)
            struct.pack_into(order + "I", patched, insn_off + INSN_SIZE + 4, target >> 32)
        case _:
            raise error(f"(code {code:#x}) is of a class that cannot be relocated")
    return bytes(patched)


_LD_IMM64 = 0x18
_CALL = 0x85
_BYTES_OF_SIZE = {0x00: 4, 0x08: 2, 0x10: 1, 0x18: 8}
"""Bytes that a load or store accesses, by the size bits of its code (BPF_W, BPF_H, BPF_B, BPF_DW)."""
_SIZE_OF_BYTES = {count: bits for bits, count in _BYTES_OF_SIZE.items()}


def _of_local_id(relo: CoreRelo, spec: Spec) -> Resolution:
    """The one kind that no target is needed for."""
    return Resolution(relo, spec, None, local_value=relo.type_id, target_value=relo.type_id, validate=False)


def _resolve_to(relo: CoreRelo, local: Spec, decision: _Decision, *, type_is_there: bool) -> Resolution:
    """The values of a record (bpf_core_calc_relo())."""
    own, other, target = _local_value(local), decision.value, decision.target
    is_field = relo.kind in FIELD_KINDS and relo.kind is not CoreReloKind.FIELD_EXISTS
    outcome = Outcome(
        type_is_there,
        poisoned=target is None and (is_field or relo.kind is CoreReloKind.ENUMVAL_VALUE),
        value=other.value,
        size=other.size,
        fail_memsz_adjust=target is not None
        and own.size != other.size
        and not _can_adjust(local.btf[own.type_id], target.btf[other.type_id]),
    )
    return _resolution(relo, local, own, outcome, target=target, target_type_id=other.type_id)


def _resolution(
    relo: CoreRelo, local: Spec, own: _Value, outcome: Outcome, *, target: Spec | None = None, target_type_id: int = 0
) -> Resolution:
    return Resolution(
        relo,
        local,
        target,
        outcome.type_is_there,
        poisoned=outcome.poisoned,
        local_value=own.value,
        target_value=outcome.value,
        validate=own.validate,
        local_size=own.size,
        target_size=outcome.size,
        local_type_id=own.type_id,
        target_type_id=target_type_id,
        fail_memsz_adjust=outcome.fail_memsz_adjust,
    )


def _value(spec: Spec) -> _Value:
    """What a record's value is on the side of `spec`."""
    match spec.kind:
        case CoreReloKind.FIELD_EXISTS | CoreReloKind.ENUMVAL_EXISTS | CoreReloKind.TYPE_EXISTS:
            return _Value(1)
        case CoreReloKind.TYPE_MATCHES:
            return _Value(1)
        case CoreReloKind.TYPE_ID_TARGET:
            # the compiler puts the local id there, by which nobody can tell whether it is the right instruction
            return _Value(spec.root_type_id, validate=False)
        case CoreReloKind.TYPE_SIZE:
            return _Value(spec.btf.size_of(spec.root_type_id))
        case CoreReloKind.ENUMVAL_VALUE:
            return _Value(_enumerator_value(spec))
        case _:
            return _field_value(spec)


_local_value = lru_cache(maxsize=1 << 14)(_value)
"""`_value()` of an object's own side, which is the same for every kernel."""


@lru_cache(maxsize=1 << 14)
def _likeness(spec: Spec) -> tuple[object, ...]:
    """What of a local path decides which candidates match it: paths that are alike in this match the same."""
    if spec.kind in ENUMVAL_KINDS:
        return spec.kind, essential_name(spec.accessors[0].name or "")
    if spec.kind in TYPE_KINDS:
        return spec.kind, spec.btf, spec.root_type_id
    steps: list[object] = [spec.kind]
    for accessor in spec.accessors:
        if accessor.name is None:
            steps.append(accessor.index)
        else:
            owner = spec.btf[accessor.type_id]
            assert isinstance(owner, (t.Struct, t.Union))
            steps.append((accessor.name, *_field_likeness(spec.btf, owner.members[accessor.index].type_id)))
    return tuple(steps)


def _field_likeness(btf: Btf, type_id: int) -> Iterator[object]:
    """What `fields_are_compatible()` looks at of a local type."""
    for _ in range(MAX_DEPTH):
        type_id, found = btf.resolve(type_id)
        yield t.Kind.ENUM if isinstance(found, t.Enum64) else t.KIND_OF[type(found)]
        match found:
            case t.Array():
                type_id = found.type_id
            case t.Enum() | t.Enum64() | t.Fwd():
                yield essential_name(found.name)
                return
            case t.Int():
                yield found.bit_offset
                return
            case _:
                return
    yield from (btf, type_id)  # deeper than C goes: like nothing else


def _field_value(spec: Spec) -> _Value:
    """The value of a field relocation on one side (bpf_core_calc_field_relo())."""
    kind, btf, last = spec.kind, spec.btf, spec.accessors[-1]
    if last.name is None:
        size = btf.size_of(last.type_id)
        if kind is CoreReloKind.FIELD_BYTE_OFFSET:
            return _Value(spec.bit_offset // 8, True, size, last.type_id)
        if kind is CoreReloKind.FIELD_BYTE_SIZE:
            return _Value(size, True)
        raise RelocationError(f"{spec}: an array element has no {KIND_NAMES[kind]}")
    owner = btf[last.type_id]
    assert isinstance(owner, (t.Struct, t.Union))
    member = owner.members[last.index]
    type_id, of_type = btf.resolve(member.type_id)
    bits = member.bits
    if bits:
        offset, size = _bitfield_window(spec, of_type, bits)
    else:
        offset, size = spec.bit_offset // 8, btf.size_of(type_id)
        bits = size * 8
    match kind:
        case CoreReloKind.FIELD_BYTE_OFFSET if member.bits:
            return _Value(offset, False)
        case CoreReloKind.FIELD_BYTE_OFFSET:
            return _Value(offset, True, size, type_id)
        case CoreReloKind.FIELD_BYTE_SIZE:
            return _Value(size, not member.bits)
        case CoreReloKind.FIELD_SIGNED:
            return _Value(int(_is_signed(of_type)), True)
        case CoreReloKind.FIELD_LSHIFT_U64 if btf.endian == "little":
            return _Value(64 - (spec.bit_offset + bits - offset * 8) & _U32, not member.bits)
        case CoreReloKind.FIELD_LSHIFT_U64:
            return _Value((8 - size) * 8 + (spec.bit_offset - offset * 8) & _U32, not member.bits)
        case _:  # FIELD_RSHIFT_U64
            return _Value(64 - bits & _U32, True)


def _bitfield_window(spec: Spec, of_type: t.Type, bits: int) -> tuple[int, int]:
    """Byte offset and size of the smallest aligned integer that holds a bitfield."""
    if not isinstance(of_type, (t.Int, t.Enum, t.Enum64)) or not of_type.size:
        raise RelocationError(f"{spec}: a {_kind_name(of_type)} cannot be a bitfield")
    size = of_type.size
    while True:
        offset = spec.bit_offset // 8 // size * size
        if spec.bit_offset + bits - offset * 8 <= size * 8:
            return offset, size
        if size >= 8:
            raise RelocationError(f"{spec}: no 64-bit load holds this bitfield")
        size *= 2


def _can_adjust(local: t.Type, target: t.Type) -> bool:
    """Whether reading a field of another size gives the right value: pointers, and unsigned integers."""
    match local, target:
        case t.Ptr(), t.Ptr():
            return True
        case t.Int(), t.Int():
            return t.IntEncoding.SIGNED not in (local.encoding, target.encoding)
        case _:
            return False


def _enumerator(spec: Spec) -> t.Enumerator:
    enum = spec.btf[spec.accessors[0].type_id]
    assert isinstance(enum, (t.Enum, t.Enum64))
    return enum.values[spec.accessors[0].index]


def _enumerator_value(spec: Spec) -> int:
    """The enumerator as 64 unsigned bits; libbpf sign-extends a 32-bit one, whatever the enum's signedness."""
    value = _enumerator(spec).value
    if isinstance(spec.btf[spec.accessors[0].type_id], t.Enum) and value >> 31 & 1:
        return value | 0xFFFFFFFF_00000000 if value > 0 else value & _U64
    return value & _U64


def _is_signed(found: t.Type) -> bool:
    match found:
        case t.Enum() | t.Enum64():
            return found.signed
        case t.Int():
            return t.IntEncoding.SIGNED in found.encoding
        case _:
            return False


def _is_flexible(btf: Btf, accessor: Accessor, array: t.Array) -> bool:
    """Whether the array just reached through `accessor` is the last member of its struct, with no length of its own."""
    if accessor.name is None or array.length:
        return False
    owner = btf[accessor.type_id]
    return isinstance(owner, (t.Struct, t.Union)) and accessor.index == len(owner.members) - 1


def _kind_name(found: t.Type) -> str:
    """As libbpf spells it in its log."""
    return t.KIND_OF[type(found)].name.lower()


def _kinds_compatible(local: t.Kind, target: t.Kind) -> bool:
    """Same kind, ENUM and ENUM64 being one (btf_kind_core_compat())."""
    return local == target or (local in _ENUMS and target in _ENUMS)


class _Comparison:
    """A local type against a target type. `steps` bounds the work that forged BTF can ask for."""

    def __init__(self, local: Btf, target: Btf) -> None:
        self.local = local
        self.target = target
        self.steps = 0

    def _step(self) -> None:
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise RelocationError(f"comparing the types takes more than {MAX_STEPS} steps")

    def match_spec(self, spec: Spec, candidate: int) -> Spec | None:
        """The path `spec` from a candidate on, or None (bpf_core_spec_match())."""
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
        if not isinstance(enum, (t.Enum, t.Enum64)):
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
            if position:  # the first step is the pointer's, of which the candidate is the target already
                if not isinstance(found, t.Array):
                    return None
                if accessor.index >= found.length and not _is_flexible(btf, accessors[-1], found):
                    return None
                type_id, _ = btf.resolve(found.type_id)
            if len(raw) == MAX_SPEC:
                raise RelocationError(f"{candidate} nests deeper than {MAX_SPEC} steps")
            accessors.append(Accessor(type_id, accessor.index, None))
            raw.append(accessor.index)
            bit_offset += accessor.index * btf.size_of(type_id) * 8
        return Spec(btf, spec.kind, candidate, tuple(accessors), tuple(raw), bit_offset & _U32)

    def _find_member(self, accessor: Accessor, target_id: int, *, depth: int) -> _FoundMember | None:
        """The target's member with a local member's name and a compatible type, in anonymous members too.

        A member of the right name but an incompatible type ends the search of its struct (bpf_core_match_member()).
        """
        target_id, owner = self.target.resolve(target_id)
        if not isinstance(owner, (t.Struct, t.Union)):
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
                local_owner = self.local[accessor.type_id]
                assert isinstance(local_owner, (t.Struct, t.Union))
                local_member = local_owner.members[accessor.index]
                if not self.fields_are_compatible(local_member.type_id, member.type_id):
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
                case (t.Struct() | t.Union(), t.Struct() | t.Union()):
                    return True
                case (t.Ptr(), t.Ptr()) | (t.Float(), t.Float()):
                    return True
                case (t.Enum() | t.Enum64(), t.Enum() | t.Enum64()) | (t.Fwd(), t.Fwd()):
                    local_name, target_name = essential_name(local.name), essential_name(target.name)
                    return not local_name or not target_name or local_name == target_name
                case t.Int(), t.Int():
                    return local.bit_offset == 0 == target.bit_offset
                case t.Array(), t.Array():
                    local_id, target_id = local.type_id, target.type_id
                case _:
                    return False

    def types_are_compatible(self, local_id: int, target_id: int, *, level: int) -> bool:
        """bpf_core_types_are_compat(): what TYPE_EXISTS, TYPE_SIZE and TYPE_ID_TARGET go by."""
        if not _kinds_compatible(self.local.kind(local_id), self.target.kind(target_id)):
            return False
        for _ in range(MAX_DEPTH):
            self._step()
            _, local = self.local.resolve(local_id)
            _, target = self.target.resolve(target_id)
            match local, target:
                case (t.Void(), t.Void()) | (t.Fwd(), t.Fwd()):
                    return True
                case (t.Struct(), t.Struct()) | (t.Union(), t.Union()):
                    return True
                case (t.Enum() | t.Enum64(), t.Enum() | t.Enum64()):
                    return True
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
        """bpf_core_types_match(): what TYPE_MATCHES goes by."""
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
                case t.Fwd(), t.Struct() | t.Union() if behind_pointer:
                    return local.is_union == isinstance(target, t.Union)
                case t.Struct() | t.Union(), t.Fwd() if behind_pointer:
                    return target.is_union == isinstance(local, t.Union)
                case (t.Enum() | t.Enum64(), t.Enum() | t.Enum64()):
                    return self._enums_match(local, target)
                case t.Struct(), t.Struct():
                    return behind_pointer or self._members_match(local.members, target.members, level=level)
                case t.Union(), t.Union():
                    return behind_pointer or self._members_match(local.members, target.members, level=level)
                case t.Int(), t.Int():
                    return local.size == target.size and _is_signed(local) == _is_signed(target)
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

    def _enums_match(self, local: t.Enum | t.Enum64, target: t.Enum | t.Enum64) -> bool:
        if local.size != target.size or len(local.values) > len(target.values):
            return False
        names = {essential_name(value.name) for value in target.values}
        return all(essential_name(value.name) in names for value in local.values)

    def _members_match(self, local: Sequence[t.Member], target: Sequence[t.Member], *, level: int) -> bool:
        """Whether each local member has one of its name and a matching type in the target."""
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
