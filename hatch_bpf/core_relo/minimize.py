"""BPF objects x kernel BTF -> minimized BTF: the types that the objects' CO-RE relocations need, and nothing else.

Input: `ObjectModel`s and a kernel's `Btf`. Output: raw BTF, byte for byte what `bpftool gen min_core_btf` (7.1) makes,
against which libbpf resolves every relocation as against the whole BTF. Three things get lost, as with bpftool: a
type's id (TYPE_ID_TARGET); what a member points to, so that TYPE_MATCHES may take it for a `void *`; what follows an
array of length 0, which then counts as flexible. Whoever needs to know resolves the relocations on both.

What bpftool refuses is served too: an object without relocations needs nothing; FWDs and type tags are kept like other
types; a relocation that is ambiguous on the kernel keeps what makes it so, for libbpf to refuse it there as well; one
that is malformed adds nothing and does not stop the others. `collect()` tells of these two. Where a kernel has several
types of one name, and an object's relocations come to more than one of them, each keeps what all of these match, which
bpftool drops. Byte order is the kernel's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto

from hatch_bpf.btf import types as t
from hatch_bpf.btf.ext import CoreReloKind
from hatch_bpf.btf.reader import Btf
from hatch_bpf.btf.writer import BtfBuilder
from hatch_bpf.core_relo.resolve import AmbiguityError, Matcher, Resolution
from hatch_bpf.core_relo.spec import ENUMVAL_KINDS, FIELD_KINDS, Spec
from hatch_bpf.errors import RelocationError
from hatch_bpf.objects.model import ObjectModel


@dataclass(frozen=True)
class Needs:
    """What some objects need of one kernel's BTF."""

    types: dict[int, set[int]]
    """Ids, each with the indices of the members needed (of a struct or union)."""
    errors: tuple[RelocationError, ...]
    """The relocations for which libbpf would refuse to load their object on this kernel."""


def minimize(objects: Sequence[ObjectModel], kernel: Btf) -> bytes:
    """The minimized BTF that serves all the objects."""
    return extract(kernel, collect(objects, Matcher(kernel)))


def collect(objects: Sequence[ObjectModel], matcher: Matcher) -> Needs:
    """Find the types that the objects' relocations need."""
    marker = _Marker(matcher.target)
    for model in objects:
        matcher.expect(map(model.btf.name, {relo.type_id for relo in model.core_relo_records}))
    errors = []
    for model in objects:
        relos = model.core_relo_records
        found = matcher.resolve_all(model.btf, relos)
        errors += [resolution for resolution in found if isinstance(resolution, RelocationError)]
        # relocations of one field share their resolution
        resolved = {id(resolution): (relo, resolution) for relo, resolution in zip(relos, found, strict=True)}.values()
        roots: dict[int, set[int]] = {}
        for relo, resolution in resolved:
            roots.setdefault(relo.type_id, set()).update(target.root_type_id for target in _targets(resolution))
        for relo, resolution in resolved:
            targets, among = _targets(resolution), roots[relo.type_id]
            if targets and len(among) > 1:
                # where it matched only one of these types, libbpf would rule out the others for what comes later
                targets = [target for target in matcher.matches(model.btf, relo) if target.root_type_id in among]
            for target in targets:
                marker.mark(target)
    return Needs(marker.types, tuple(errors))


def _targets(resolution: Resolution | RelocationError) -> Sequence[Spec]:
    """What a relocation comes to on the kernel: nothing, one path, or the two that libbpf cannot decide between."""
    if isinstance(resolution, AmbiguityError):
        return resolution.targets
    return () if isinstance(resolution, RelocationError) or resolution.target is None else (resolution.target,)


def extract(kernel: Btf, needs: Needs) -> bytes:
    """The BTF of only these types, in the kernel's order; references to others become void."""
    ids = {0: 0}
    for new_id, type_id in enumerate(sorted(needs.types), 1):
        ids[type_id] = new_id

    def moved(type_id: int) -> int:
        return ids.get(type_id, 0)

    builder = BtfBuilder(endian=kernel.endian)
    for type_id in sorted(needs.types):
        builder.add(_reduced(kernel[type_id], needs.types[type_id], moved))
    return builder.build()


class _Marker:
    """Notes which types and members a target spec needs (bpftool's btfgen_record_*_relo())."""

    def __init__(self, kernel: Btf) -> None:
        self.types: dict[int, set[int]] = {}
        self._kernel = kernel
        self._walked: set[tuple[int, _Walk]] = set()

    def mark(self, target: Spec) -> None:
        if target.kind in FIELD_KINDS:
            self._mark_field(target)
        elif target.kind in ENUMVAL_KINDS:
            self._mark_type(target.root_type_id, _Walk.TO_POINTERS)
        elif target.kind is CoreReloKind.TYPE_MATCHES:
            self._mark_type(target.root_type_id, _Walk.MEMBERS)
        else:
            self._mark_type(target.root_type_id, _Walk.THROUGH_POINTERS)

    def _mark_field(self, target: Spec) -> None:
        """The types and members along an access path; structs on the way keep only these members."""
        type_id = target.root_type_id
        self._mark_type(type_id, _Walk.TO_POINTERS)
        for index in target.raw[1:]:
            type_id, found = self._kernel.resolve(type_id)
            if isinstance(found, (t.Struct, t.Union)):
                self.types[type_id].add(index)
                type_id = found.members[index].type_id
                self._mark_type(type_id, _Walk.TO_POINTERS)
            else:
                assert isinstance(found, t.Array)
                type_id = found.type_id

    def _mark_type(self, type_id: int, walk: _Walk) -> None:
        """A type and all that it is made of, as far as `walk` goes."""
        pending = [(type_id, walk)]
        while pending:
            step = pending.pop()
            if step[0] == 0 or step in self._walked:
                continue
            self._walked.add(step)
            self.types.setdefault(step[0], set())
            pending += self._parts(*step)

    def _parts(self, type_id: int, walk: _Walk) -> Iterator[tuple[int, _Walk]]:
        found = self._kernel[type_id]
        # bpftool starts afresh in elements, parameters and members, even behind a pointer
        inner = _Walk.MEMBERS if walk is _Walk.NAMES else walk
        match found:
            case t.Typedef() | t.Const() | t.Volatile() | t.Restrict() | t.TypeTag() | t.Var():
                yield found.type_id, walk
            case t.Ptr() if walk is _Walk.THROUGH_POINTERS:
                yield found.type_id, walk
            case t.Ptr() if walk is not _Walk.TO_POINTERS:
                yield found.type_id, _Walk.NAMES
            case t.Array():
                yield found.type_id, inner
                yield found.index_type_id, inner
            case t.FuncProto():
                yield found.return_type_id, inner
                for param in found.params:
                    yield param.type_id, inner
            case t.Struct() | t.Union() if walk is _Walk.MEMBERS:
                self.types[type_id].update(range(len(found.members)))
                for member in found.members:
                    yield member.type_id, inner


class _Walk(Enum):
    """How far marking a type goes."""

    TO_POINTERS = auto()
    """What a pointer points to stays out, and so do members."""
    THROUGH_POINTERS = auto()
    """What a pointer points to is in; members stay out."""
    MEMBERS = auto()
    """All members too, and of what a pointer points to the name."""
    NAMES = auto()
    """Behind a pointer of MEMBERS."""


def _reduced(found: t.Type, members: set[int], moved: Callable[[int], int]) -> t.Type:
    """A type with only the needed members, its references renumbered."""
    match found:
        case t.Struct() | t.Union():
            kept = tuple(
                replace(member, type_id=moved(member.type_id))
                for index, member in enumerate(found.members)
                if index in members
            )
            return replace(found, members=kept, kind_flag=any(member.bits for member in kept))
        case t.Array():
            return replace(found, type_id=moved(found.type_id), index_type_id=moved(found.index_type_id))
        case t.FuncProto():
            params = tuple(replace(param, type_id=moved(param.type_id)) for param in found.params)
            return replace(found, return_type_id=moved(found.return_type_id), params=params)
        case t.Ptr() | t.Typedef() | t.Const() | t.Volatile() | t.Restrict() | t.TypeTag() | t.Var():
            return replace(found, type_id=moved(found.type_id))
        case _:
            return found
