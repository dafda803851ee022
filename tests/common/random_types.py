"""Random local types, target types and relocation records that may well match, for differential tests.

The same seed always gives the same case. Types refer mostly to earlier ones, pointers to any; names come from a small
pool, with flavors, so that candidates, ambiguities and near misses are common.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from hatch_bpf.btf import types as t
from hatch_bpf.btf.ext import CoreReloKind
from hatch_bpf.btf.reader import Btf
from hatch_bpf.btf.types import Kind
from tests.common.btf_builder import RawBtf, Relo

_TYPE_NAMES = ("A", "B", "C", "A___x", "B___y", "A___x___y")
_MEMBER_NAMES = ("a", "b", "c", "d", "a___x")
_SIZES = (1, 2, 4, 8)
INSN = 8


@dataclass(frozen=True)
class Case:
    local: RawBtf
    target: bytes
    relos: tuple[Relo, ...]


def make(seed: int, *, tags: bool = True) -> Case:
    """One case. Without `tags` there are neither type tags nor forward declarations."""
    rng = random.Random(seed)
    if rng.random() < 0.2:
        return _field_that_changes(rng)
    local = RawBtf()
    _fill(rng, local, rng.randint(4, 10), tags=tags)
    target = RawBtf()
    _fill(rng, target, rng.randint(4, 14), tags=tags)
    if rng.random() < 0.5:  # often the target is a variation of the local types
        target = RawBtf()
        shared = rng.randrange(1 << 30)
        local = RawBtf()
        _fill(random.Random(shared), local, 8, tags=tags)
        _fill(random.Random(shared), target, 8, tags=tags, twist=rng)
        _fill(rng, target, rng.randint(0, 6), tags=tags)
    read = Btf(local.build())
    relos = tuple(_relo(rng, read, INSN * index) for index in range(rng.randint(1, 4)))
    return Case(local, target.build(), relos)


def _field_that_changes(rng: random.Random) -> Case:
    """One field, of a type of its own on each side: what may change the width of a load.

    No array is loaded as a whole: libbpf 1.6 goes by the size of its elements there, and 1.1 by that of the array.
    """
    access = rng.choice(("0:0", "0:0", "0:0:0"))
    sides = []
    for _ in range(2):
        btf = RawBtf()
        btf.integer()
        size, signed = rng.choice(_SIZES), rng.random() < 0.3
        number = btf.integer("number", size, signed=signed)
        field = rng.choice(
            [
                number,
                number,
                btf.ptr(number),
                btf.array(number, rng.choice((1, 2, 4))) if access == "0:0:0" else number,
                btf.enum("", size, signed=signed, X=1),
                btf.struct("S", 8, ("a", number, 0)),
                btf.typedef("T", number),
            ]
        )
        field = btf.mod(Kind.CONST, field) if rng.random() < 0.2 else field
        sides.append((btf, btf.struct("A", 64, ("a", field, 8 * rng.randrange(32)))))
    (local, struct_id), (target, _) = sides
    return Case(local, target.build(), ((0, struct_id, access, CoreReloKind.FIELD_BYTE_OFFSET),))


def _fill(rng: random.Random, btf: RawBtf, count: int, *, tags: bool, twist: random.Random | None = None) -> None:
    """Append types. With `twist` the calls on `rng` are the same, but some details differ."""
    first = len(Btf(btf.build()))
    odd = twist or random.Random(0)

    def differs() -> bool:
        return twist is not None and odd.random() < 0.15

    ints = [
        btf.integer("int", 4),
        btf.integer("long", 8),
        btf.integer("u16", 2, signed=False),
        btf.integer("char", 1, signed=rng.random() < 0.5),
        btf.integer("odd", 4, offset=rng.choice((0, 0, 3)), bits=8),
    ]
    last = first + len(ints) + count
    ids = [0, *ints]
    kinds = ["struct"] * 5 + ["union"] * 2 + ["ptr"] * 3 + ["array"] * 2 + ["enum"] * 2 + ["typedef"] * 2
    kinds += ["enum64", "float", "mod", "proto"] + (["fwd", "tag"] if tags else [])
    for _ in range(count):
        kind = rng.choice(kinds)
        name = rng.choice(_TYPE_NAMES)
        any_id, earlier = rng.randrange(last), rng.choice(ids[1:])
        length, flag, size = rng.choice((0, 1, 3)), rng.random() < 0.5, rng.choice(_SIZES)
        values = {rng.choice(("X", "Y", "Z", "X___f")): rng.randrange(1 << 32) for _ in range(rng.randint(1, 3))}
        members = _members(rng, btf, ids, odd if twist else None)
        if differs():
            length, flag, size, any_id = length + 1, not flag, odd.choice(_SIZES), odd.randrange(last)
            values["W"] = 5
        match kind:
            case "struct" | "union":
                of_kind = Kind.STRUCT if (kind == "struct") != differs() else Kind.UNION
                name = name if rng.random() < 0.8 else ""
                if of_kind is Kind.UNION:  # libbpf writes no union whose members have offsets
                    members = [(item[0], item[1], 0, *item[3:]) for item in members]
                new = btf.struct(name, rng.randrange(8, 64), *members, kind=of_kind)
            case "ptr":
                new = btf.ptr(any_id)
            case "array":
                new = btf.array(earlier, length, ints[0])
            case "enum":
                new = btf.enum(name if flag or size > 2 else "", size, signed=flag, **values)
            case "enum64":
                new = btf.enum64(name, signed=flag, **{item: value << 16 for item, value in values.items()})
            case "typedef":
                new = btf.typedef(name, earlier)
            case "float":
                new = btf.floating(name, size)
            case "mod":
                new = btf.mod(rng.choice((Kind.CONST, Kind.VOLATILE, Kind.RESTRICT)), earlier)
            case "proto":
                new = btf.func_proto(rng.choice(ids), *(("p", rng.choice(ids)) for _ in range(length)))
            case "fwd":
                new = btf.fwd(name, union=flag)
            case _:
                new = btf.mod(Kind.TYPE_TAG, earlier, "tag")
        ids.append(new)


def _members(
    rng: random.Random, btf: RawBtf, ids: Sequence[int], odd: random.Random | None
) -> list[tuple[str, int, int] | tuple[str, int, int, int]]:
    read = Btf(btf.build())
    names = rng.sample(_MEMBER_NAMES, rng.randint(0, 4))
    used = set(names)
    with_bits = rng.random() < 0.2
    members: list[tuple[str, int, int] | tuple[str, int, int, int]] = []
    for name in names:
        type_id, offset, bits = rng.choice(ids[1:]), 8 * rng.randrange(40), rng.randint(0, 20)
        anonymous = rng.random() < 0.5
        if odd is not None and odd.random() < 0.2:
            offset, type_id = 8 * odd.randrange(40), odd.choice(ids[1:])
        _, found = read.resolve(type_id)
        inner = _flat_names(read, type_id)
        # as in C, no name appears twice, not even in anonymous members
        if anonymous and isinstance(found, (t.Struct, t.Union)) and not used & inner:
            used |= inner
            name = ""
        if with_bits:
            is_int = isinstance(found, (t.Int, t.Enum))
            members.append((name, type_id, offset + (bits if is_int else 0), bits if is_int else 0))
        else:
            members.append((name, type_id, offset))
    return members


def _flat_names(btf: Btf, type_id: int) -> set[str]:
    """The member names that an anonymous member of this type would add to its struct."""
    _, found = btf.resolve(type_id)
    if not isinstance(found, (t.Struct, t.Union)):
        return set()
    names: set[str] = set()
    for member in found.members:
        names |= {member.name} if member.name else _flat_names(btf, member.type_id)
    return names


def _relo(rng: random.Random, btf: Btf, insn_off: int) -> Relo:
    named = [type_id for type_id in range(6, len(btf)) if btf.name(type_id)] or [1]
    type_id = rng.choice(named) if rng.random() < 0.95 else rng.randrange(1, len(btf))
    _, found = btf.resolve(type_id)
    types = [kind for kind in CoreReloKind if 6 <= kind <= 9 or kind == CoreReloKind.TYPE_MATCHES]
    if isinstance(found, (t.Enum, t.Enum64)) and rng.random() < 0.8:
        kind = rng.choice((CoreReloKind.ENUMVAL_EXISTS, CoreReloKind.ENUMVAL_VALUE))
        return insn_off, type_id, str(rng.randrange(len(found.values))), kind
    if isinstance(found, (t.Struct, t.Union, t.Array)) and rng.random() < 0.75:
        kind = rng.choice([kind for kind in CoreReloKind if kind <= CoreReloKind.FIELD_RSHIFT_U64] + [CoreReloKind(0)])
        return insn_off, type_id, _access(rng, btf, type_id), kind
    if rng.random() < 0.03:
        return (
            insn_off,
            type_id,
            rng.choice(("", "0:", ":0", "0:99", "x", "1", "0:0:0:0")),
            rng.choice(list(CoreReloKind)),
        )
    return insn_off, type_id, "0", rng.choice(types)


def _access(rng: random.Random, btf: Btf, type_id: int) -> str:
    steps = [rng.choice((0, 0, 0, 1))]
    for _ in range(4):
        type_id, found = btf.resolve(type_id)
        if isinstance(found, (t.Struct, t.Union)) and found.members:
            steps.append(rng.randrange(len(found.members)))
            type_id = found.members[steps[-1]].type_id
        elif isinstance(found, t.Array):
            steps.append(rng.randrange(found.length + 1))
            type_id = found.type_id
        else:
            break
        if rng.random() < 0.3:
            break
    return ":".join(map(str, steps))
