"""CO-RE relocation records x target BTF -> what libbpf would make of each: which candidate matches, and its value.

Input: `CoreRelo`s of an object, the object's `Btf`, and a kernel's `Btf`. Output: a `Resolution` for each, or
`RelocationError` where libbpf would refuse to load the object. The rules are those of libbpf 1.1 (bpf_core_calc_relo()
and bpf_core_add_cands()).

- `Matcher.resolve_all()` takes the records of an object in order, as libbpf does: once a record of a local type has
  ruled out a candidate, later records of that type no longer see it.
- A type relocation that finds nothing has the value 0 and does not poison the instruction, not even TYPE_SIZE and
  TYPE_ID_TARGET, and neither do FIELD_EXISTS and ENUMVAL_EXISTS. Only the other field and enumerator kinds do.
- Where libbpf 1.6 has another rule, the older and stricter one holds: a load of a whole array whose size changed is
  poisoned, while 1.6 allows it if the elements kept their size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter

from hatch_bpf.btf import types as t
from hatch_bpf.btf.ext import CoreRelo, CoreReloKind, access_of
from hatch_bpf.btf.reader import Btf
from hatch_bpf.core_relo.compare import ENUMS, Comparison, likeness
from hatch_bpf.core_relo.spec import FIELD_KINDS, Spec, essential_name, parse_spec
from hatch_bpf.core_relo.values import RelocationValue, can_adjust, local_value, value_of
from hatch_bpf.errors import BtfError, RelocationError
from hatch_bpf.support.budget import Budget

_STEPS_PER_RECORD = 16
"""What a record costs of the budget before anything is compared."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """The result of one relocation record on one target (`struct bpf_core_relo_res`), with the access paths."""

    local: Spec
    target: Spec | None
    """The path in the first candidate that matched. None if none did, and for TYPE_ID_LOCAL, which needs none."""
    type_is_there: bool = True
    """Whether the target has a type with that name and kind, even if it does not match."""
    poisoned: bool = False
    """Nothing matched and there is no meaningful value: libbpf replaces the instruction with an invalid call."""
    local_value: int = 0
    """What the compiler put into the instruction, as an unsigned 64-bit number."""
    target_value: int = 0
    """What the instruction must hold on the target, as an unsigned 64-bit number."""
    validate: bool = True
    """Whether libbpf first checks that the instruction holds `local_value`."""
    local_size: int = 0
    """For a byte_off relocation, the field's size in bytes; 0 for bitfields and other kinds. If `target_size` differs,
    a load or store must change its width."""
    target_size: int = 0
    fail_memsz_adjust: bool = False
    """The sizes differ, and no other width would read the right value: libbpf poisons a load or store."""

    @property
    def kind(self) -> CoreReloKind:
        return self.local.kind

    @property
    def found(self) -> bool:
        return self.target is not None or self.kind is CoreReloKind.TYPE_ID_LOCAL


class AmbiguityError(RelocationError):
    """Two candidates match with different values, so libbpf refuses to load the object. `targets` are the two paths."""

    def __init__(self, message: str, targets: tuple[Spec, Spec]) -> None:
        self.targets = targets
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class _Decision:
    """The match that local paths with the same `likeness()` have on the target."""

    target: Spec | None
    value: RelocationValue
    matching: tuple[int, ...]
    """All candidates that match."""


class Matcher:
    """Resolves relocations against one target BTF, and remembers what it learns of the target for other objects."""

    def __init__(self, target: Btf) -> None:
        self.target = target
        self._by_name: dict[tuple[str, tuple[t.Kind, ...]], tuple[int, ...]] = {}
        self._decisions: dict[tuple[object, ...], _Decision] = {}
        self._resolved: dict[Btf, tuple[Sequence[CoreRelo], list[Resolution | RelocationError]]] = {}
        self._budgets: dict[Btf, Budget] = {}
        """How much comparing may cost, by object."""

    def expect(self, local_names: Iterable[str]) -> None:
        """Announce the names of the types that `candidates()` will be called for, so that one search finds them all."""
        self.target.expect(map(essential_name, local_names))

    def candidates(self, local: Btf, type_id: int) -> tuple[int, ...]:
        """Ids of the target's types with the name and kind of a local type, whatever their flavors."""
        name, kind = essential_name(local.name(type_id)), local.kind(type_id)
        kinds = ENUMS if kind in ENUMS else (kind,)
        if (name, kinds) not in self._by_name:
            flavors = (flavor for flavor in self.target.flavors(name) if essential_name(flavor) == name)
            names = {name} if essential_name(name) == name else set()
            named = {found for flavor in names.union(flavors) for found in self.target.find(flavor, *kinds)}
            self._by_name[name, kinds] = tuple(sorted(named))
        return self._by_name[name, kinds]

    def matches(self, local: Btf, relo: CoreRelo) -> list[Spec]:
        """The matching paths in all candidates, even if their values differ."""
        comparison, spec = self._comparison(local), parse_spec(local, relo)
        found = (comparison.match_spec(spec, candidate) for candidate in self.candidates(local, relo.type_id))
        return [target for target in found if target is not None]

    def resolve_all(self, local: Btf, relos: Sequence[CoreRelo]) -> Sequence[Resolution | RelocationError]:
        """Resolve an object's records in order, narrowing the candidates as libbpf does. An error does not end it."""
        known, found = self._resolved.get(local, (None, []))
        if known != relos:
            # programs read the same fields over and over: one record of each will do where none narrows another
            once = dict.fromkeys(map(access_of, relos))
            if self._narrow_nothing(local, {type_id for type_id, _, _ in once}):
                records = [CoreRelo(0, *access) for access in once]
                by_access = dict(zip(once, self._in_order(local, records), strict=True))
                found = list(map(by_access.__getitem__, map(access_of, relos)))
            else:
                found = list(self._in_order(local, relos))
            if any(issubclass(kind, RelocationError) for kind in set(map(type, found))):
                found = [
                    self._placed(each, local, relo) if isinstance(each, RelocationError) else each
                    for each, relo in zip(found, relos, strict=True)
                ]
            self._resolved[local] = relos, found
        return found

    def _narrow_nothing(self, local: Btf, type_ids: Iterable[int]) -> bool:
        """Whether each local type has at most one candidate."""
        try:
            return all(len(self.candidates(local, type_id)) < 2 for type_id in type_ids if local.name(type_id))
        except BtfError:
            return False  # a type that is not there: its own record says so

    def _in_order(self, local: Btf, relos: Iterable[CoreRelo]) -> Iterator[Resolution | RelocationError]:
        narrowed: dict[int, tuple[int, ...]] = {}
        known: dict[tuple[object, ...], Resolution | RelocationError] = {}
        for relo in relos:
            key = (*access_of(relo), narrowed.get(relo.type_id))
            if key not in known:
                try:
                    self._budget(local).work(_STEPS_PER_RECORD)
                    known[key] = self._resolve(local, relo, narrowed)
                except RelocationError as error:
                    known[key] = error
            yield known[key]

    def _placed(self, error: RelocationError, local: Btf, relo: CoreRelo) -> RelocationError:
        """An error that also says where the record is and what it was resolved against."""
        message = f"{local.source}: CO-RE relocation at byte {relo.insn_off} against {self.target.source}: {error}"
        if isinstance(error, AmbiguityError):
            return AmbiguityError(message, error.targets)
        return RelocationError(message)

    def _comparison(self, local: Btf) -> Comparison:
        return Comparison(local, self.target, self._budget(local))

    def _budget(self, local: Btf) -> Budget:
        if local not in self._budgets:
            size = len(local.data) + len(self.target.data)
            self._budgets[local] = Budget(local.source, size, error=RelocationError)
        return self._budgets[local]

    def _resolve(self, local: Btf, relo: CoreRelo, narrowed: dict[int, tuple[int, ...]]) -> Resolution:
        """Resolve a record against the candidates that are left for its type, and narrow these."""
        try:
            spec = parse_spec(local, relo)
            if relo.kind is CoreReloKind.TYPE_ID_LOCAL:
                # the one kind that needs no target
                own = spec.root_type_id
                return Resolution(spec, None, local_value=own, target_value=own, validate=False)
            if not local.name(relo.type_id):
                raise RelocationError(f"{spec} has an anonymous type, and libbpf looks for candidates by name")
            if relo.type_id not in narrowed:
                narrowed[relo.type_id] = self.candidates(local, relo.type_id)
            decision = self._decide(spec, narrowed[relo.type_id])
            resolution = _resolution(spec, decision, type_is_there=bool(narrowed[relo.type_id]))
        except BtfError as error:
            raise RelocationError(str(error)) from error
        if decision.matching:
            narrowed[relo.type_id] = decision.matching
        return resolution

    def _decide(self, spec: Spec, candidates: tuple[int, ...]) -> _Decision:
        """Find the match, once for all local paths with the same `likeness()`, in whatever object."""
        key = (*likeness(spec), candidates)
        if key not in self._decisions:
            self._decisions[key] = self._match(spec, candidates)
        return self._decisions[key]

    def _match(self, spec: Spec, candidates: Sequence[int]) -> _Decision:
        first: Spec | None = None
        value = RelocationValue(0)
        matching = []
        comparison = self._comparison(spec.btf)
        for candidate in candidates:
            target = comparison.match_spec(spec, candidate)
            if target is None:
                continue
            found = value_of(target)
            if first is None:
                first, value = target, found
            if target.bit_offset != first.bit_offset:
                raise AmbiguityError(f"field offset ambiguity: {first} or {target}", (first, target))
            if found.value != value.value:
                values = f"{first} gives {value.value}, {target} gives {found.value}"
                raise AmbiguityError(f"relocation decision ambiguity: {values}", (first, target))
            matching.append(candidate)
        return _Decision(first, value, tuple(matching))


_result_of = attrgetter("poisoned", "target_value", "target_size", "fail_memsz_adjust")


def agree(full: Resolution | RelocationError, small: Resolution | RelocationError) -> bool:
    """Whether a relocation has the same result on the full and the minimized BTF, apart from ids of kernel types."""
    if isinstance(full, RelocationError) or isinstance(small, RelocationError):
        return False
    if full.kind is CoreReloKind.TYPE_ID_TARGET:
        return full.found == small.found
    return bool(_result_of(full) == _result_of(small))


def _resolution(local: Spec, decision: _Decision, *, type_is_there: bool) -> Resolution:
    """The result of a record whose match is known (bpf_core_calc_relo())."""
    own, other, target = local_value(local), decision.value, decision.target
    is_field = local.kind in FIELD_KINDS and local.kind is not CoreReloKind.FIELD_EXISTS
    return Resolution(
        local,
        target,
        type_is_there,
        poisoned=target is None and (is_field or local.kind is CoreReloKind.ENUMVAL_VALUE),
        local_value=own.value,
        target_value=other.value,
        validate=own.validate,
        local_size=own.size,
        target_size=other.size,
        fail_memsz_adjust=target is not None
        and own.size != other.size
        and not can_adjust(local.btf[own.type_id], target.btf[other.type_id]),
    )
