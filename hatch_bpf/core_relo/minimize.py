"""BPF objects x kernel BTF -> minimized BTF: the types that the objects' CO-RE relocations need, and nothing else.

Input: `ObjectModel`s and a kernel's `Btf`. Output: raw BTF, the same bytes as from `bpftool gen min_core_btf` (7.1), on
which libbpf resolves every relocation as on the whole BTF. Three things get lost, as with bpftool: a type's id
(TYPE_ID_TARGET); what a member points to, so that TYPE_MATCHES may take it for a `void *`; and what follows an array of
length 0, which then counts as flexible. To find out, callers resolve the relocations on both.

Objects that bpftool refuses work too. An object without relocations needs nothing. FWDs and type tags are kept like
other types. A relocation that is ambiguous on the kernel keeps both candidates, so that libbpf refuses it there as
well; a malformed one adds nothing and does not stop the others. `collect()` reports these two. If a kernel has several
types of one name, and an object's relocations match more than one of them, each keeps whatever all of them match, which
bpftool drops. The byte order is the kernel's.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from itertools import chain

from hatch_bpf.btf import types as t
from hatch_bpf.btf.ext import CoreReloKind
from hatch_bpf.btf.reader import Btf
from hatch_bpf.btf.types import FIXED_WORDS, KIND_MASK, WORDS_PER_ENTRY
from hatch_bpf.btf.writer import write_types
from hatch_bpf.core_relo.resolve import AmbiguityError, Matcher, Resolution
from hatch_bpf.core_relo.spec import ENUMVAL_KINDS, FIELD_KINDS, Spec
from hatch_bpf.errors import RelocationError
from hatch_bpf.objects.model import ObjectModel


@dataclass(frozen=True)
class Needs:
    """What some objects need from one kernel's BTF."""

    types: dict[int, set[int]]
    """Type ids; for a struct or union, with the indices of the members that are needed."""
    errors: tuple[RelocationError, ...]
    """The relocations for which libbpf would refuse to load their object on this kernel."""


def minimize(objects: Sequence[ObjectModel], kernel: Btf) -> bytes:
    """The minimized BTF that serves all the objects."""
    return extract(kernel, collect(objects, Matcher(kernel)))


def collect(objects: Sequence[ObjectModel], matcher: Matcher) -> Needs:
    """Find the types that the objects' relocations need."""
    marker = _NeededTypes(matcher.target)
    for model in objects:
        matcher.expect(map(model.btf.name, {relo.type_id for relo in model.core_relo_records}))
    errors = []
    for model in objects:
        relos = model.core_relo_records
        found = matcher.resolve_all(model.btf, relos)
        # relocations of one field share their resolution
        resolved = dict(zip(map(id, found), zip(relos, found, strict=True), strict=True)).values()
        errors += [resolution for _, resolution in resolved if isinstance(resolution, RelocationError)]
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
    """A relocation's paths on the kernel: none, one, or the two that libbpf cannot decide between."""
    if isinstance(resolution, AmbiguityError):
        return resolution.targets
    return () if isinstance(resolution, RelocationError) or resolution.target is None else (resolution.target,)


def extract(kernel: Btf, needs: Needs) -> bytes:
    """The BTF of only these types, in the kernel's order; references to others become void."""

    def record(type_id: int) -> tuple[t.Kind, array[int]]:
        kind, words = kernel.record(type_id)
        is_composite = kind in (t.Kind.STRUCT, t.Kind.UNION)
        return kind, _with_members(words, needs.types[type_id]) if is_composite else words

    return write_types(kernel, sorted(needs.types), record)


def _with_members(words: array[int], indices: set[int]) -> array[int]:
    """A struct or union with only the needed members."""
    size = WORDS_PER_ENTRY[t.Kind.STRUCT]
    members = [words[at : at + size] for at in (FIXED_WORDS + size * index for index in sorted(indices))]
    # with the flag, the upper 8 bits of a member's last word are the width of a bitfield
    has_bitfields = words[1] >> 31 and any(member[2] >> 24 for member in members)
    info = words[1] & KIND_MASK << 24 | has_bitfields << 31 | len(members)
    return array("I", chain((words[0], info, words[2]), *members))


class _NeededTypes:
    """Notes which types and members a target spec needs (bpftool's btfgen_record_*_relo())."""

    def __init__(self, kernel: Btf) -> None:
        self.types: dict[int, set[int]] = {}
        self._kernel = kernel
        self._walked: set[tuple[int, _Extent]] = set()

    def mark(self, target: Spec) -> None:
        if target.kind in FIELD_KINDS:
            self._mark_field(target)
        elif target.kind in ENUMVAL_KINDS:
            self._mark_type(target.root_type_id, _Extent.TO_POINTERS)
        elif target.kind is CoreReloKind.TYPE_MATCHES:
            self._mark_type(target.root_type_id, _Extent.MEMBERS)
        else:
            self._mark_type(target.root_type_id, _Extent.THROUGH_POINTERS)

    def _mark_field(self, target: Spec) -> None:
        """The types and members along an access path; structs on the way keep only these members."""
        type_id = target.root_type_id
        self._mark_type(type_id, _Extent.TO_POINTERS)
        for index in target.raw[1:]:
            type_id, found = self._kernel.resolve(type_id)
            if isinstance(found, t.Composite):
                self.types[type_id].add(index)
                type_id = found.members[index].type_id
                self._mark_type(type_id, _Extent.TO_POINTERS)
            else:
                assert isinstance(found, t.Array)
                type_id = found.type_id

    def _mark_type(self, type_id: int, walk: _Extent) -> None:
        """A type and everything it is made of, as far as `walk` says."""
        pending = [(type_id, walk)]
        while pending:
            step = pending.pop()
            if step[0] == 0 or step in self._walked:
                continue
            self._walked.add(step)
            self.types.setdefault(step[0], set())
            pending += self._parts(*step)

    def _parts(self, type_id: int, walk: _Extent) -> Iterator[tuple[int, _Extent]]:
        found = self._kernel[type_id]
        # bpftool starts afresh in elements, parameters and members, even behind a pointer
        inner = _Extent.MEMBERS if walk is _Extent.NAMES else walk
        match found:
            case t.Typedef() | t.Const() | t.Volatile() | t.Restrict() | t.TypeTag() | t.Var():
                yield found.type_id, walk
            case t.Ptr() if walk is _Extent.THROUGH_POINTERS:
                yield found.type_id, walk
            case t.Ptr() if walk is not _Extent.TO_POINTERS:
                yield found.type_id, _Extent.NAMES
            case t.Array():
                yield found.type_id, inner
                yield found.index_type_id, inner
            case t.FuncProto():
                yield found.return_type_id, inner
                for param in found.params:
                    yield param.type_id, inner
            case t.Composite() if walk is _Extent.MEMBERS:
                self.types[type_id].update(range(len(found.members)))
                for member in found.members:
                    yield member.type_id, inner


class _Extent(Enum):
    """How much of a type's parts is needed."""

    TO_POINTERS = auto()
    """Leave out members, and what pointers point to."""
    THROUGH_POINTERS = auto()
    """Include what pointers point to; leave out members."""
    MEMBERS = auto()
    """Include all members, and the names of what pointers point to."""
    NAMES = auto()
    """Behind a pointer of MEMBERS."""
