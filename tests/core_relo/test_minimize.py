"""Minimized BTF against bpftool's, and on its own where bpftool gives up."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from hatch_bpf.btf import types as t
from hatch_bpf.btf.ext import CoreReloKind
from hatch_bpf.btf.reader import Btf
from hatch_bpf.btf.types import Kind
from hatch_bpf.core_relo.minimize import collect, minimize
from hatch_bpf.core_relo.resolve import AmbiguityError, Matcher, Resolution
from hatch_bpf.errors import RelocationError
from hatch_bpf.objects.model import ObjectModel, read_object
from tests.common import kernel_btfs, needs, objects, random_types
from tests.common.btf_builder import EXIT, RawBtf, Relo, btf_ext, elf_object
from tests.core_relo.relocations import resolve_alone

K = CoreReloKind
EMPTY = struct.pack("<HBBI4I", 0xEB9F, 1, 0, 24, 0, 0, 0, 1) + b"\0"


def _bpftool(folder: Path, kernel: bytes, elves: Iterable[bytes]) -> bytes | None:
    """bpftool's result, or None where it fails."""
    source, out = folder / "kernel.btf", folder / "min.btf"
    source.write_bytes(kernel)
    paths = []
    for index, elf in enumerate(elves):
        paths.append(folder / f"{index}.bpf.o")
        paths[-1].write_bytes(elf)
    command = [needs.tool("bpftool"), "gen", "min_core_btf", str(source), str(out), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, check=False)
    return out.read_bytes() if done.returncode == 0 else None


def _outcomes(model: ObjectModel, kernel: Btf) -> list[tuple[object, ...]]:
    """All that libbpf goes by when it patches, for each relocation that does not ask for an id of the kernel's."""
    found: list[tuple[object, ...]] = []
    relos = [relo for _, relo in model.core_relos]
    for relo, item in zip(relos, Matcher(kernel).resolve_all(model.btf, relos), strict=True):
        if isinstance(item, RelocationError):
            found.append((relo, "ambiguous" if isinstance(item, AmbiguityError) else "refused"))
        elif relo.kind is K.TYPE_ID_TARGET:
            found.append((relo, item.found))
        else:
            sizes = (item.local_size, item.target_size, item.fail_memsz_adjust)
            found.append((relo, item.found, item.poisoned, item.local_value, item.target_value, item.validate, *sizes))
    return found


# --- against bpftool


@pytest.mark.thorough
@pytest.mark.parametrize("name", kernel_btfs.SAMPLE)
def test_every_real_object_on_a_kernel(name: str, tmp_path: Path) -> None:
    data = kernel_btfs.read(name)
    kernel = Btf(data, source=name)
    for program, model in objects.models().items():
        ours = minimize([model], kernel)
        assert ours == _bpftool(tmp_path, data, [model.elf]), program
        assert _outcomes(model, Btf(ours)) == _outcomes(model, kernel), program


@pytest.mark.parametrize("name", sorted(set(kernel_btfs.FILES) - set(kernel_btfs.SAMPLE))[::3])
def test_a_few_real_objects_on_more_kernels(name: str, tmp_path: Path) -> None:
    data = kernel_btfs.read(name)
    kernel = Btf(data, source=name)
    for program in ("tcplife", "runqlat", "biosnoop"):
        model = objects.models()[program]
        assert minimize([model], kernel) == _bpftool(tmp_path, data, [model.elf]), program


@pytest.mark.parametrize("name", kernel_btfs.SAMPLE[-1:])
def test_several_objects_share_one(name: str, tmp_path: Path) -> None:
    data = kernel_btfs.read(name)
    kernel = Btf(data, source=name)
    models = list(objects.models().values())
    union = minimize(models, kernel)
    assert union == _bpftool(tmp_path, data, [model.elf for model in models])
    assert union == minimize(models[::-1], kernel)
    for model in models:
        assert _outcomes(model, Btf(union)) == _outcomes(model, kernel)


@pytest.mark.parametrize("seed", range(0, 20_000 if kernel_btfs.FULL else 500, 50))
def test_random_objects(seed: int, tmp_path: Path) -> None:
    compared = 0
    for case_seed in range(seed, seed + 50):
        case = random_types.make(case_seed, tags=False)
        model = _object(case.local, list(case.relos))
        needed = collect([model], Matcher(Btf(case.target)))
        theirs = _bpftool(tmp_path, case.target, [model.elf])
        assert (theirs is None) == bool(needed.errors), f"seed {case_seed}"
        if theirs is not None:
            assert minimize([model], Btf(case.target)) == theirs, f"seed {case_seed}"
            compared += 1
    assert compared


@pytest.mark.parametrize("seed", range(0, 20_000 if kernel_btfs.FULL else 500, 500))
def test_random_objects_resolve_as_on_the_whole_btf(seed: int) -> None:
    for case_seed in range(seed, seed + 500):
        case = random_types.make(case_seed)
        model, full = _object(case.local, list(case.relos)), Btf(case.target)
        small = Btf(minimize([model], full))
        for on_full, on_small in zip(_outcomes(model, full), _outcomes(model, small), strict=True):
            # other refusals come of types that only a forged BTF has
            assert on_full == on_small or on_full[1] == "refused", f"seed {case_seed}"


def _object(local: RawBtf, relos: list[Relo], *, order: str = "<") -> ObjectModel:
    ext = btf_ext(local, {"socket": relos}) if relos else None
    code = {"socket": EXIT * (len(relos) + 1)} if relos else {}
    return read_object(elf_object(local.build(), ext, code, order=order), path="test.bpf.o")


# --- what it holds


def _thing(order: str = "<") -> tuple[RawBtf, int]:
    local = RawBtf(order)
    return local, local.struct("thing", 8, ("wanted", local.integer(), 0))


def _kernel_with_thing(order: str = "<") -> Btf:
    kernel = RawBtf(order)
    number = kernel.integer("long", 8)
    other = kernel.integer("int", 4)
    pointer = kernel.ptr(number)
    kernel.struct("thing", 32, ("first", number, 0), ("wanted", other, 64), ("last", pointer, 128))
    return Btf(kernel.build())


def test_a_struct_keeps_its_size_and_the_needed_member() -> None:
    local, thing = _thing()
    small = Btf(minimize([_object(local, [(0, thing, "0:0", K.FIELD_BYTE_OFFSET)])], _kernel_with_thing()))
    assert list(small)[1:] == [
        t.Int("int", 4, t.IntEncoding.SIGNED, 0, 32),
        t.Struct("thing", 32, (t.Member("wanted", 1, 64, 0),)),
    ]


def test_nothing_needed_is_an_empty_btf(tmp_path: Path) -> None:
    local, thing = _thing()
    missing = _object(local, [(0, thing, "0:0", K.FIELD_EXISTS)])
    kernel = RawBtf()
    kernel.integer()
    empty = minimize([missing], Btf(kernel.build()))
    assert empty == EMPTY == _bpftool(tmp_path, kernel.build(), [missing.elf])
    assert minimize([], Btf(kernel.build())) == EMPTY
    assert len(Btf(empty)) == 1


def test_an_object_of_only_maps_needs_nothing(tmp_path: Path) -> None:
    local, _ = _thing()
    only_maps = _object(local, [])
    kernel = _kernel_with_thing()
    assert minimize([only_maps], kernel) == EMPTY
    assert _bpftool(tmp_path, kernel.data, [only_maps.elf]) is None
    local, thing = _thing()
    other = _object(local, [(0, thing, "0:0", K.FIELD_EXISTS)])
    assert minimize([only_maps, other], kernel) == minimize([other], kernel)


def test_forward_declarations_and_type_tags_behind_a_typedef(tmp_path: Path) -> None:
    local = RawBtf()
    thing = local.typedef("thing_t", local.ptr(local.fwd("thing")))
    model = _object(local, [(0, thing, "0", K.TYPE_EXISTS), (8, thing, "0", K.TYPE_MATCHES)])
    for of_kind in (Kind.FWD, Kind.TYPE_TAG):
        kernel = RawBtf()
        declared = kernel.fwd("thing")
        pointed = declared if of_kind is Kind.FWD else kernel.mod(Kind.TYPE_TAG, declared, "user")
        kernel.typedef("thing_t", kernel.ptr(pointed))
        full = Btf(kernel.build())
        small = minimize([model], full)
        assert _bpftool(tmp_path, full.data, [model.elf]) is None
        assert small == full.data
        assert _outcomes(model, Btf(small)) == _outcomes(model, full)
        assert [item[1] for item in _outcomes(model, full)] == [True, True]


def test_type_matches_keeps_members_and_the_names_behind_pointers(tmp_path: Path) -> None:
    def fill(btf: RawBtf, *extra: tuple[str, int, int]) -> int:
        number = btf.integer()
        inner = btf.struct("inner", 8, ("a", number, 0))
        pointed = btf.struct("pointed", 8, ("b", number, 0))
        proto = btf.func_proto(number, ("p", btf.ptr(pointed)))
        members = (("i", inner, 0), ("p", btf.ptr(pointed), 64), ("f", btf.ptr(proto), 128))
        return btf.struct("thing", 32, *members, *extra)

    local, kernel = RawBtf(), RawBtf()
    thing = fill(local)
    fill(kernel, ("extra", 1, 192))
    full = Btf(kernel.build())
    model = _object(local, [(0, thing, "0", K.TYPE_MATCHES)])
    small = minimize([model], full)
    assert small == _bpftool(tmp_path, full.data, [model.elf])
    (pointed,) = (item for item in Btf(small) if item.name == "pointed")
    assert pointed == t.Struct("pointed", 8, ())
    assert _outcomes(model, Btf(small)) == _outcomes(model, full)


def test_what_gets_lost_gets_lost_with_bpftool_too(tmp_path: Path) -> None:
    local, kernel = RawBtf(), RawBtf()
    number = local.integer()
    pointing = local.struct("pointing", 8, ("p", local.ptr(0), 0))
    trailing = local.struct("trailing", 8, ("n", number, 0), ("data", local.array(number, 0), 32))
    number = kernel.integer()
    pointed = kernel.struct("pointed", 8, ("a", number, 0))
    kernel.struct("pointing", 8, ("p", kernel.ptr(pointed), 0))
    kernel.struct("trailing", 8, ("data", kernel.array(number, 0), 0), ("more", number, 0))
    full = Btf(kernel.build())
    for relos in (
        [(0, pointing, "0", K.TYPE_MATCHES), (8, pointing, "0:0", K.FIELD_EXISTS)],
        [(0, trailing, "0:1:3", K.FIELD_EXISTS), (8, trailing, "0:1", K.FIELD_EXISTS)],
        [(0, pointing, "0", K.TYPE_ID_TARGET)],
    ):
        model = _object(local, relos)
        small = minimize([model], full)
        assert small == _bpftool(tmp_path, full.data, [model.elf])
        _, relo = model.core_relos[0]
        on_full, on_small = (resolve_alone(Matcher(btf), model.btf, relo) for btf in (full, Btf(small)))
        assert on_full.target_value != on_small.target_value


def test_an_enum_is_kept_whole() -> None:
    local = RawBtf()
    enum = local.enum("numbers", WANTED=1)
    kernel = RawBtf()
    kernel.enum64("numbers", OTHER=3, WANTED=1 << 40)
    small = Btf(minimize([_object(local, [(0, enum, "0", K.ENUMVAL_VALUE)])], Btf(kernel.build())))
    assert list(small) == list(Btf(kernel.build()))


def test_an_ambiguous_relocation_stays_ambiguous_and_spares_the_other_objects() -> None:
    kernel = RawBtf()
    number = kernel.integer()
    kernel.struct("thing", 8, ("wanted", number, 0))
    kernel.struct("thing", 8, ("wanted", number, 32))
    kernel.struct("other", 8, ("fine", number, 32))
    full = Btf(kernel.build())
    local, thing = _thing()
    bad = _object(local, [(0, thing, "0:0", K.FIELD_EXISTS)])
    local = RawBtf()
    other = local.struct("other", 8, ("fine", local.integer(), 0))
    good = _object(local, [(0, other, "0:0", K.FIELD_BYTE_OFFSET)])
    small = Btf(minimize([bad, good], full))
    assert _outcomes(bad, small) == _outcomes(bad, full)
    assert _outcomes(good, small) == _outcomes(good, full)
    (error,) = collect([bad, good], Matcher(full)).errors
    assert "field offset ambiguity" in str(error)


@pytest.mark.parametrize("kind", [K.FIELD_BYTE_OFFSET, K.TYPE_ID_TARGET])
@pytest.mark.parametrize("ambiguous_first", [False, True])
def test_another_relocation_does_not_settle_an_ambiguous_one(kind: K, ambiguous_first: bool, tmp_path: Path) -> None:
    """What it matches in both types stays in both, or libbpf would go on with the one that has it."""
    kernel = RawBtf()
    number = kernel.integer()
    kernel.struct("thing", 12, ("same", number, 0), ("wanted", number, 32))
    kernel.struct("thing", 12, ("same", number, 0), ("wanted", number, 64))
    full = Btf(kernel.build())
    local = RawBtf()
    number = local.integer()
    thing = local.struct("thing", 8, ("same", number, 0), ("wanted", number, 32))
    asked = [("0:0", K.FIELD_EXISTS), ("0" if kind is K.TYPE_ID_TARGET else "0:1", kind)]
    ordered = reversed(asked) if ambiguous_first else asked
    model = _object(local, [(8 * at, thing, *relo) for at, relo in enumerate(ordered)])
    small = Btf(minimize([model], full))
    assert _outcomes(model, small) == _outcomes(model, full)
    assert "ambiguous" in [outcome[1] for outcome in _outcomes(model, small)]
    assert _bpftool(tmp_path, full.data, [model.elf]) is None


@pytest.mark.parametrize("kind", [K.FIELD_EXISTS, K.FIELD_BYTE_OFFSET])
def test_a_relocation_of_several_types_rules_none_out_for_the_next(kind: K, tmp_path: Path) -> None:
    """`same` is read of the first type, `more` of the second, which has `same` too; bpftool drops it there."""
    kernel = RawBtf()
    number = kernel.integer()
    kernel.struct("thing", 4, ("same", number, 0))
    kernel.struct("thing", 12, ("same", number, 0), ("more", number, 64))
    full = Btf(kernel.build())
    local = RawBtf()
    number = local.integer()
    thing = local.struct("thing", 8, ("same", number, 0), ("more", number, 32))
    model = _object(local, [(0, thing, "0:0", kind), (8, thing, "0:1", kind)])
    assert [outcome[1] for outcome in _outcomes(model, full)] == [True, True]
    assert _outcomes(model, Btf(minimize([model], full))) == _outcomes(model, full)
    theirs = _bpftool(tmp_path, full.data, [model.elf])
    assert theirs
    assert _outcomes(model, Btf(theirs)) != _outcomes(model, full)


def test_a_malformed_relocation_adds_nothing_and_is_told_of() -> None:
    local, thing = _thing()
    model = _object(local, [(0, thing, "0:9", K.FIELD_EXISTS), (8, thing, "0:0", K.FIELD_EXISTS)])
    needed = collect([model], Matcher(_kernel_with_thing()))
    assert len(needed.types) == 2
    (error,) = needed.errors
    assert "test.bpf.o" in str(error)


def test_byte_order_is_the_kernels(tmp_path: Path) -> None:
    local, thing = _thing(">")
    model = _object(local, [(0, thing, "0:0", K.FIELD_BYTE_OFFSET)], order=">")
    kernel = _kernel_with_thing(">")
    small = minimize([model], kernel)
    assert small[:2] == b"\xeb\x9f"
    assert _bpftool(tmp_path, kernel.data, [model.elf]) is None
    little_local, _ = _thing()
    little = _object(little_local, [(0, thing, "0:0", K.FIELD_BYTE_OFFSET)])
    assert list(Btf(small)) == list(Btf(minimize([little], _kernel_with_thing())))


def test_old_bitfields_keep_their_form() -> None:
    """Without kind_flag the INT has the width, and the member an offset within a byte; bpftool refuses those."""
    kernel = RawBtf()
    three = kernel.integer("unsigned int", 4, signed=False, bits=3)
    kernel.struct("thing", 8, ("wanted", three, 5))
    local, thing = _thing()
    model = _object(local, [(0, thing, "0:0", K.FIELD_EXISTS)])
    full = Btf(kernel.build())
    small = Btf(minimize([model], full))
    assert list(small) == list(full)


def test_bitfields_lose_the_flag_with_the_last_of_them(tmp_path: Path) -> None:
    kernel = RawBtf()
    number = kernel.integer()
    kernel.struct("thing", 8, ("wanted", number, 32), ("bits", number, 3, 4))
    local = RawBtf()
    number = local.integer()
    thing = local.struct("thing", 8, ("wanted", number, 0), ("bits", number, 32, 4))
    for access, flag in (("0:0", False), ("0:1", True)):
        model = _object(local, [(0, thing, access, K.FIELD_EXISTS)])
        small = minimize([model], Btf(kernel.build()))
        assert small == _bpftool(tmp_path, kernel.build(), [model.elf])
        (struct_,) = (item for item in Btf(small) if isinstance(item, t.Struct))
        assert struct_.kind_flag is flag


def test_types_that_lead_back_to_themselves() -> None:
    kernel = RawBtf()
    thing = kernel.struct("thing", 8, ("next", 2, 0))
    kernel.ptr(kernel.func_proto(0, ("self", 2)))  # id 2 is the FUNC_PROTO, 3 the PTR
    local = RawBtf()
    local.struct("thing", 8, ("next", 2, 0))
    local.func_proto(0, ("self", 2))
    model = _object(local, [(0, 1, "0", K.TYPE_EXISTS), (8, 1, "0:0", K.FIELD_EXISTS)])
    assert thing == 1
    resolved = list(Matcher(Btf(kernel.build())).resolve_all(model.btf, [relo for _, relo in model.core_relos]))
    assert isinstance(resolved[0], Resolution)
    assert len(Btf(minimize([model], Btf(kernel.build())))) >= 2
