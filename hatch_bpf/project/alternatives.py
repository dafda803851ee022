"""The options `alternatives` and `optional`, and their meaning for one object: its groups, and its maps' users.

Input: what the project declares, and objects. Output: an `ObjectAlternatives` for each object, or `ConfigError` where a
name fits none. At run time `runtime/alternatives.py` tries them out; `portability/` predicts where that fails.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from hatch_bpf.errors import Fault, refuse
from hatch_bpf.objects.linked_program import Linker
from hatch_bpf.objects.model import ObjectModel
from hatch_bpf.objects.uapi import MapType
from hatch_bpf.project.forms import TEXT, TEXTS, ListForm, NameForm, TableForm, described, suggestion

RING_AND_PERF_BUFFERS = (MapType.RINGBUF, MapType.PERF_EVENT_ARRAY)
"""Types of maps that can replace each other."""


@dataclass(frozen=True)
class AlternativeGroup:
    """Programs, or ring and perf buffers; the first one that the kernel accepts is used."""

    name: str
    members: tuple[str, ...]
    of_maps: bool


@dataclass(frozen=True)
class ObjectAlternatives:
    """The part of a project's alternatives that is about one object."""

    groups: tuple[AlternativeGroup, ...] = ()
    optional: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.groups or self.optional)

    @property
    def questionable(self) -> frozenset[str]:
        """Programs that may be left out of the load."""
        return frozenset(self.optional).union(*(group.members for group in self.groups if not group.of_maps))

    def group_of(self, program: str) -> AlternativeGroup | None:
        """The group that a program is in."""
        return next((group for group in self.groups if not group.of_maps and program in group.members), None)


@dataclass(frozen=True)
class Alternatives:
    """What a project declares, for all of its objects."""

    groups: Mapping[str, tuple[str, ...]] = field(
        default_factory=dict,
        metadata=described(
            TableForm(
                ListForm(TEXT, at_least_two="programs or buffers"),
                NameForm("a group: letters, digits and _, not a digit first", "[A-Za-z_][A-Za-z0-9_]*"),
            ),
            "groups of programs, or of ring and perf buffers: the first one that the machine accepts is used, under "
            'the name of the group: `{ on_close = ["fentry_close", "kprobe_close"] }`',
            "none: all are loaded",
            name="alternatives",
        ),
    )
    """By the group's name; the member to prefer comes first."""
    optional: tuple[str, ...] = field(
        default=(), metadata=described(TEXTS, "programs that are left out where they cannot be loaded", "none")
    )

    def of_object(self, model: ObjectModel) -> ObjectAlternatives:
        """The groups all of whose members are in the object, and its optional programs."""
        programs, maps = _programs(model), _buffers(model)
        groups = [
            AlternativeGroup(name, members, of_maps=maps.issuperset(members))
            for name, members in self.groups.items()
            if programs.issuperset(members) or maps.issuperset(members)
        ]
        return ObjectAlternatives(tuple(groups), tuple(name for name in self.optional if name in programs))

    def duplicates(self, key: str) -> list[Fault]:
        """A fault for each name that occurs twice. `key` is the path of the table with these options."""
        faults: list[Fault] = []
        users = dict.fromkeys(self.optional, f"{key}.optional")
        for group, members in self.groups.items():
            own = f"{key}.alternatives.{group}"
            for i, member in enumerate(members):
                other = users.setdefault(member, own)
                if member and (other != own or members.index(member) != i):
                    faults.append(Fault(f"{own}[{i}]", f"is in {other} already (got {member!r})"))
        return faults

    def check(self, models: Sequence[ObjectModel]) -> None:
        """Check that every name fits an object. Raises `ConfigError` with all that fit none."""
        faults: list[Fault] = []
        programs = {name for model in models for name in _programs(model)}
        known = programs.union(*map(_buffers, models))
        for i, name in enumerate(self.optional):
            if name not in programs:
                faults.append(_unknown(f"optional[{i}]", name, programs, "no program"))
        for group, members in self.groups.items():
            key = f"alternatives.{group}"
            unknown = [(i, name) for i, name in enumerate(members) if name not in known]
            faults += [_unknown(f"{key}[{i}]", name, known, "no program, ring or perf buffer") for i, name in unknown]
            if not unknown:
                faults += _faults_of_group(key, group, members, models)
        refuse(faults)


NONE = Alternatives()


def _faults_of_group(key: str, group: str, members: tuple[str, ...], models: Sequence[ObjectModel]) -> list[Fault]:
    declared = Alternatives({group: members})
    found = [(model, own) for model in models for own in declared.of_object(model).groups]
    if not found:
        where = "; ".join(
            f"{name} is in {', '.join(dict.fromkeys(m.path for m in models if name in _programs(m) | _buffers(m)))}"
            for name in members
        )
        rule = "must be programs of one object, or ring and perf buffers of one"
        return [Fault(key, f"{rule} ({where}; the option link makes one object of several sources)")]
    for model, own in found:
        taken = {item.name for item in model.maps} if own.of_maps else _programs(model)
        if group in taken:
            kind = "map" if own.of_maps else "program"
            return [Fault(key, f"is the name of a {kind} of {model.path}; choose another for the group")]
    return []


def _unknown(key: str, name: str, known: Iterable[str], what: str) -> Fault:
    there = sorted(known)
    names = f"; there are {', '.join(there)}" if there else ""
    return Fault(key, f"names {what} of any object (got {name!r}{suggestion(name, there)}{names})")


def users_of_maps(models: Iterable[ObjectModel]) -> dict[str, tuple[str, ...]]:
    """The programs that use each map, by the map's name. `models` are one source's objects, one per architecture."""
    users: dict[str, set[str]] = {}
    for model in models:
        linker = Linker(model)
        for program in model.programs:
            for reference in linker.link(program).references.values():
                name = reference.map_in(model)
                if name:
                    users.setdefault(name, set()).add(program.name)
    return {name: tuple(sorted(programs)) for name, programs in sorted(users.items())}


def _programs(model: ObjectModel) -> set[str]:
    return {program.name for program in model.programs}


def _buffers(model: ObjectModel) -> set[str]:
    return {item.name for item in model.maps if item.type in RING_AND_PERF_BUFFERS}
