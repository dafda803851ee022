"""Excerpts of kernels' BTF: they answer as the whole does, or say that they cannot."""

from __future__ import annotations

import random

import pytest

from hatch_bpf.btf import types as t
from hatch_bpf.btf.excerpt import Excerpt, NotInExcerptError, RecordedBtf
from hatch_bpf.btf.reader import NAMED_IN_C, Btf
from hatch_bpf.core_relo.minimize import collect, extract, minimize
from hatch_bpf.core_relo.resolve import Matcher
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.portability.object_check import Checker
from tests.common import kernel_btfs, objects
from tests.common.btf_of_types import BtfBuilder
from tests.common.on_kernels import KernelTypes, check_kernel

OBJECTS = 61 if kernel_btfs.FULL else 8


def whole(kernel: str) -> RecordedBtf:
    return RecordedBtf(kernel_btfs.read(kernel), source=kernel)


@pytest.mark.parametrize("kernel", kernel_btfs.SAMPLE)
def test_an_excerpt_gives_the_minimized_btf_and_the_verdicts_of_the_whole(kernel: str) -> None:
    models = random.Random(kernel).sample(sorted(objects.models().values(), key=lambda model: model.path), OBJECTS)
    name, btf = Kernel.parse(kernel), whole(kernel)
    checker = Checker(models)
    made = extract(btf, collect(models, Matcher(btf)))
    told = check_kernel(checker, KernelTypes(name, btf, Btf(made)))
    packed = btf.pack()
    assert len(packed) < len(btf.data) / 20
    excerpt = Excerpt(packed, source=kernel)
    assert minimize(models, excerpt) == made == minimize(models, Btf(btf.data, source=kernel))
    assert check_kernel(checker, KernelTypes(name, excerpt, Btf(made))) == told


@pytest.mark.parametrize("kernel", kernel_btfs.SAMPLE)
def test_an_excerpt_has_the_size_of_pointers_and_the_types_asked_for(kernel: str) -> None:
    btf = whole(kernel)
    ids = btf.find("task_struct", t.Kind.STRUCT)
    assert not btf.find("no_such_type_anywhere")
    former = whole(kernel)
    former.find("sk_buff", t.Kind.STRUCT)
    former.find("schedule")
    excerpt = Excerpt(btf.pack(Excerpt(former.pack(), source=kernel)), source=kernel)
    assert excerpt.pointer_size == btf.pointer_size == 8
    assert excerpt.names == {"no_such_type_anywhere", "schedule"}
    assert excerpt.names_in_c == {"task_struct", "sk_buff"}
    assert not excerpt.find("no_such_type_anywhere")
    assert excerpt.find("schedule", t.Kind.FUNC)
    assert excerpt.find("sk_buff", t.Kind.STRUCT, t.Kind.TYPEDEF)
    (own,) = excerpt.find("task_struct", t.Kind.STRUCT)
    (theirs,) = ids
    mine, original = excerpt[own], btf[theirs]
    assert isinstance(mine, t.Struct)
    assert isinstance(original, t.Struct)
    assert [(m.name, m.bit_offset, m.bits) for m in mine.members] == [
        (m.name, m.bit_offset, m.bits) for m in original.members
    ]
    for member, same in zip(mine.members, original.members, strict=True):
        kind = excerpt.resolve(member.type_id)[1]
        assert type(kind) is type(btf.resolve(same.type_id)[1])
        if not isinstance(kind, (t.Void, t.Fwd, t.FuncProto)):
            assert excerpt.size_of(member.type_id) == btf.size_of(same.type_id)


def test_an_excerpt_does_not_answer_for_what_was_not_asked() -> None:
    btf = whole(kernel_btfs.EXAMPLES[0])
    btf.find("task_struct", t.Kind.STRUCT)
    excerpt = Excerpt(btf.pack(), source="excerpt")
    # it is in there, bare, since pointers lead to it
    assert any(excerpt.name(type_id) == "mm_struct" for type_id in range(1, len(excerpt)))
    for ask in (excerpt.find, excerpt.flavors):
        with pytest.raises(NotInExcerptError):
            ask("mm_struct")
    # nor for other kinds of types than those asked for
    for kinds in ([], [t.Kind.FUNC], [t.Kind.STRUCT, t.Kind.FUNC]):
        with pytest.raises(NotInExcerptError):
            excerpt.find("task_struct", *kinds)


@pytest.mark.parametrize("endian", ["little", "big"])
def test_every_kind_of_type_comes_through(endian: str) -> None:
    builder = BtfBuilder(endian="big" if endian == "big" else "little")
    integer = builder.add(t.Int("long", 4, t.IntEncoding.SIGNED, 0, 32))
    inner = builder.add(t.Struct("inner", 4, (t.Member("x", integer, 0, 0),), False))
    pointer = builder.add(t.Ptr(inner))
    array = builder.add(t.Array(inner, integer, 3))
    enum = builder.add(t.Enum("e", 4, (t.Enumerator("A", 1),), False))
    enum64 = builder.add(t.Enum64("e64", 8, (t.Enumerator("B", 1 << 40),), False))
    forward = builder.add(t.Fwd("later", False))
    proto = builder.add(t.FuncProto(pointer, (t.Param("a", pointer), t.Param("b", enum))))
    function = builder.add(t.Func("f", proto, 1))
    tag = builder.add(t.DeclTag("bpf_kfunc", function, -1))
    const = builder.add(t.Const(forward))
    real = builder.add(t.Float("double", 8))
    behind = [builder.add(t.Ptr(type_id)) for type_id in (const, proto)]
    members = [pointer, array, enum, enum64, real, *behind]
    named = tuple(t.Member(f"m{number}", type_id, 64 * number, 0) for number, type_id in enumerate(members))
    outer = builder.add(t.Struct("outer", 64, named, False))
    var = builder.add(t.Var("v", outer, 1))
    builder.add(t.DataSec(".data", 64, (t.SecInfo(var, 0, 64),)))
    btf = RecordedBtf(builder.build(), source="made up")
    for name in ("outer", "f", "bpf_kfunc", "v", ".data"):
        assert btf.find(name)
    excerpt = Excerpt(btf.pack(), source="excerpt")
    assert excerpt.endian == endian
    assert excerpt.pointer_size == 4
    kept = {type_id: excerpt[type_id] for type_id in range(1, len(excerpt))}
    # all of it is needed, in the same order, so that the ids are the same; what stays in a section is not
    original = {type_id: btf[type_id] for type_id in range(1, len(btf))}
    assert kept == {**original, **{k: t.DataSec(".data", 64, ()) for k in btf.find(".data")}}
    assert tag in kept
    # and the inner struct is bare where only a pointer leads to it
    btf = RecordedBtf(builder.build(), source="made up")
    btf.find("f")
    bare = Excerpt(btf.pack(), source="excerpt")
    assert [found.members for found in bare if isinstance(found, t.Struct)] == [()]


@pytest.mark.parametrize("kernel", kernel_btfs.SAMPLE)
def test_many_names_are_found_as_one_is(kernel: str) -> None:
    data = kernel_btfs.read(kernel)
    one, many = Btf(data), Btf(data)
    ids = random.Random(1).sample(range(1, len(one)), 60)
    names = [one.name(type_id) for type_id in ids] + ["int", "long", "", "no_such_type_anywhere", "sock", "socket"]
    many.expect(names)
    for name in names:
        assert many.find(name) == one.find(name), name
        in_c = [type_id for type_id in one.find(name) if one.kind(type_id) in NAMED_IN_C]
        assert many.find(name, *NAMED_IN_C) == one.find(name, *NAMED_IN_C) == in_c, name
    assert all(type_id in many.find(one.name(type_id)) for type_id in ids if one.name(type_id))


def test_flavors_are_found_with_the_names() -> None:
    builder = BtfBuilder()
    names = ("a", "a_", "a___b", "a___b___c", "a____d", "ab", "b___a")
    for name in names:
        builder.add(t.Struct(name, 0, (), False))
    for expected in ([], ["a"], ["a___b"], names):
        btf = Btf(builder.build())
        btf.expect(expected)
        assert btf.flavors("a") == ["a___b", "a___b___c", "a____d"]
        assert btf.flavors("a_") == ["a____d"]
        assert btf.flavors("a___b") == ["a___b___c"]
        assert not btf.flavors("ab")
        assert [btf.find(name, t.Kind.STRUCT) for name in names] == [[number + 1] for number in range(len(names))]


@pytest.mark.parametrize("kinds", [(), (t.Kind.STRUCT,)])
def test_a_name_may_be_the_tail_of_a_longer_one(kinds: tuple[t.Kind, ...]) -> None:
    builder = BtfBuilder()
    builder.add(t.Struct("my_struct___x", 0, (), False))
    data = bytearray(builder.build())
    # the struct's name now begins three bytes further on
    data[24:28] = (1 + 3).to_bytes(4, "little")
    for expected in ([], ["my_struct", "struct"]):
        btf = Btf(bytes(data))
        btf.expect(expected)
        assert btf.find("struct___x", *kinds) == [1]
        assert not btf.find("my_struct___x", *kinds)
        # of strings only whole ones
        assert btf.flavors("my_struct") == ["my_struct___x"]
        assert not btf.flavors("struct")
