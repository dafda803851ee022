"""CO-RE relocation against libbpf itself, and case by case with the outcome spelled out."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from hatch_bpf.btf.ext import CoreRelo, CoreReloKind
from hatch_bpf.btf.reader import Btf
from hatch_bpf.btf.types import Kind
from hatch_bpf.core_relo.patch import patch_insn
from hatch_bpf.core_relo.resolve import AmbiguityError, Matcher, Resolution
from hatch_bpf.core_relo.spec import MAX_SPEC, essential_name
from hatch_bpf.objects.model import read_object
from tests.common import kernel_btfs, libbpf_log, needs, objects, random_types
from tests.common.btf_builder import EXIT, RawBtf, btf_ext, elf_object
from tests.common.c_programs import kernel
from tests.core_relo.relocations import KERNEL, LOCAL, resolve, resolve_alone, resolve_one

K = CoreReloKind


# --- against libbpf


@pytest.mark.parametrize("name", kernel_btfs.SAMPLE)
def test_every_relocation_of_real_objects_comes_out_as_in_libbpf(name: str, tmp_path: Path) -> None:
    needs.root_bpf()
    path = tmp_path / "kernel.btf"
    path.write_bytes(kernel_btfs.read(name))
    target = Btf(path.read_bytes(), source=name)
    records = 0
    for program, obj in objects.models().items():
        said = libbpf_log.relocate(obj.elf, path)
        assert libbpf_log.expect(obj, target) == said, program
        records += len(said)
    assert records > 400


@pytest.mark.parametrize("seed", range(0, 20_000 if kernel_btfs.FULL else 400, 20))
def test_random_relocations_come_out_as_in_libbpf(seed: int, tmp_path: Path) -> None:
    needs.root_bpf()
    path = tmp_path / "kernel.btf"
    for case_seed in range(seed, seed + 20):
        case = random_types.make(case_seed)
        path.write_bytes(case.target)
        relos = [(2 * insn_off, type_id, access, kind) for insn_off, type_id, access, kind in case.relos]
        code = _code_for(random.Random(case_seed), Btf(case.local.build()), Btf(case.target), relos)
        ext = btf_ext(case.local, {"socket": relos})
        elf = elf_object(case.local.build(), ext, {"socket": code + EXIT})
        obj = read_object(elf, path="random.bpf.o")
        assert libbpf_log.expect(obj, Btf(case.target)) == libbpf_log.relocate(elf, path), f"seed {case_seed}"


def _code_for(rng: random.Random, local: Btf, target: Btf, relos: list[tuple[int, int, str, K]]) -> bytes:
    """Two instructions for each record, the first of which holds the value it should, or now and then another."""
    code = b""
    resolved = Matcher(target).resolve_all(local, [CoreRelo(*relo) for relo in relos])
    for resolution in resolved:
        value = rng.randrange(4) if rng.random() < 0.05 else 0
        size = rng.choice((1, 2, 4, 8))
        if isinstance(resolution, Resolution):
            value += resolution.local_value
            size = resolution.local_size if resolution.local_size in (1, 2, 4, 8) else size
        low, high, short = value & 0xFFFFFFFF, value >> 32 & 0xFFFFFFFF, value & 0xFFFF
        size_bits = {4: 0x00, 2: 0x08, 1: 0x10, 8: 0x18}[size]
        match rng.choice(("wide", "alu32", "alu64", "load", "load", "store", "store", "other")):
            case "wide":
                code += struct.pack("<BBHIBBHI", 0x18, 1, 0, low, 0, 0, 0, high)
            case "alu32":
                code += struct.pack("<BBHIQ", 0xB4, 1, 0, low, 5)
            case "alu64":
                code += struct.pack("<BBHIQ", 0xB7, 1, 0, low, 5)
            case "load":
                code += struct.pack("<BBHIQ", 0x61 | size_bits, 0x12, short, 0, 5)
            case "store":
                code += struct.pack("<BBHIQ", rng.choice((0x62, 0x63)) | size_bits, 0x12, short, 7, 5)
            case _:
                code += struct.pack("<BBHIQ", rng.choice((0xBF, 0x05, 0x15, 0x20)), 0, short, low, 5)
    return code


def _array_for_a_number(btf: RawBtf, *, is_target: bool) -> None:
    """What an array is indexed for is an array in the object only."""
    number = btf.integer()
    btf.typedef("A", number if is_target else btf.array(number, 4))


def _deep(btf: RawBtf, *, is_target: bool) -> None:
    """Found, but one step too deep for libbpf."""
    inner = btf.struct("" if is_target else "A", 8, ("a", btf.array(btf.integer(), 2), 0))
    for level in range(MAX_SPEC - 2 if is_target else 0):
        inner = btf.struct("A" if level == MAX_SPEC - 3 else "", 8, ("", inner, 0))


def _wide(btf: RawBtf, *, is_target: bool) -> None:
    """An unsigned integer that no load takes at once."""
    number = btf.integer("number", 16 if is_target else 8, signed=False)
    btf.struct("A", 16, ("a", number, 0))


def _arrays(btf: RawBtf, *, is_target: bool) -> None:
    btf.typedef("A", btf.array(btf.integer(), 5 if is_target else 3))


def _function(btf: RawBtf, *parameters: int) -> None:
    btf.typedef("A", btf.ptr(btf.func_proto(1, *((f"p{n}", type_id) for n, type_id in enumerate(parameters)))))


def _more_parameters(btf: RawBtf, *, is_target: bool) -> None:
    number = btf.integer()
    _function(btf, *[number] * (3 if is_target else 2))


def _another_kind_of_parameter(btf: RawBtf, *, is_target: bool) -> None:
    number = btf.integer()
    _function(btf, number, btf.ptr(number) if is_target else number)


def _functions_that_take_functions(btf: RawBtf, *, is_target: bool, levels: int = 40) -> None:
    """Of a type for which libbpf gives up."""
    del is_target
    taken = btf.integer()
    for _ in range(levels):
        taken = btf.ptr(btf.func_proto(1, ("p", taken)))
    btf.typedef("A", taken)


def _few_functions_that_take_functions(btf: RawBtf, *, is_target: bool) -> None:
    _functions_that_take_functions(btf, is_target=is_target, levels=20)


def _forward(btf: RawBtf, *, is_target: bool) -> None:
    """Only declared in the object, and a struct in the kernel."""
    number = btf.integer()
    pointed = btf.struct("B", 4, ("b", number, 0)) if is_target else btf.fwd("B")
    btf.struct("A", 8, ("a", btf.ptr(pointed), 0))


def _forward_to_a_union(btf: RawBtf, *, is_target: bool) -> None:
    number = btf.integer()
    pointed = btf.union("B", 4, ("b", number, 0)) if is_target else btf.fwd("B")
    btf.struct("A", 8, ("a", btf.ptr(pointed), 0))


@pytest.mark.parametrize(
    ("make", "access", "kind"),
    [
        (_array_for_a_number, "0:1", K.FIELD_EXISTS),
        (_deep, "0:0:1", K.FIELD_EXISTS),
        (_deep, "0:0", K.FIELD_EXISTS),
        (_wide, "0:0", K.FIELD_BYTE_OFFSET),
        *(
            (make, "0", kind)
            for kind in (K.TYPE_EXISTS, K.TYPE_MATCHES)
            for make in (
                _arrays,
                _more_parameters,
                _another_kind_of_parameter,
                _functions_that_take_functions,
                _few_functions_that_take_functions,
                _forward,
                _forward_to_a_union,
            )
        ),
    ],
)
def test_types_that_differ_come_out_as_in_libbpf(
    make: Callable[..., None], access: str, kind: K, tmp_path: Path
) -> None:
    needs.root_bpf()
    local, target = RawBtf(), RawBtf()
    make(local, is_target=False)
    make(target, is_target=True)
    path = tmp_path / "kernel.btf"
    path.write_bytes(target.build())
    (root,) = Btf(local.build()).find("A", Kind.STRUCT, Kind.TYPEDEF)
    ext = btf_ext(local, {"socket": [(0, root, access, kind)]})
    load = struct.pack("<BBhi", 0x79, 0x12, 0, 0)
    ask = struct.pack("<BBhi", 0xB7, 0, 0, 1)
    elf = elf_object(local.build(), ext, {"socket": (load if kind is K.FIELD_BYTE_OFFSET else ask) + EXIT})
    said = libbpf_log.relocate(elf, path)
    assert len(said) == 1
    assert libbpf_log.expect(read_object(elf, path="program.bpf.o"), Btf(target.build())) == said


# --- case by case; expected values are what the C layout rules give on both sides


def test_type_ids() -> None:
    local, target = resolve(
        LOCAL + 'SEC("socket") u64 program(void *ctx) { return bpf_core_type_id_local(struct thing)'
        " + bpf_core_type_id_kernel(struct thing); }",
        KERNEL,
    )
    assert (local.kind, target.kind) == (K.TYPE_ID_LOCAL, K.TYPE_ID_TARGET)
    assert local.found
    assert local.target is None
    assert local.target_value == local.local.root_type_id
    assert target.target_value == kernel(KERNEL).find("thing", Kind.STRUCT)[0]
    assert not target.validate


def test_what_is_missing_poisons_the_instruction_unless_it_only_asks() -> None:
    missing = resolve_one("return ((struct thing *)ctx)->gone;")
    assert missing.poisoned
    assert not missing.found
    assert missing.local.access == "struct thing.gone"
    no_type = "struct core nothing { int x; };"
    assert resolve_one("return ((struct nothing *)ctx)->x;", local=no_type).poisoned
    for asks in ("exists(struct nothing)", "size(struct nothing)", "id_kernel(struct nothing)"):
        resolution = resolve_one(f"return bpf_core_type_{asks};", local=no_type)
        assert (resolution.found, resolution.poisoned, resolution.target_value) == (False, False, 0)


_ENUM_KERNEL = """
enum numbers { SAME = 1, OTHER = 70, BIG___x = -2 } numbers;
"""


@pytest.mark.parametrize(
    ("local", "name", "kind", "found", "value"),
    [
        ("enum numbers { SAME = 1 }", "SAME", K.ENUMVAL_VALUE, True, 1),
        ("enum numbers { OTHER = 7 }", "OTHER", K.ENUMVAL_VALUE, True, 70),
        ("enum numbers___old { OTHER___old = 7 }", "OTHER___old", K.ENUMVAL_VALUE, True, 70),
        ("enum numbers { BIG = 7 }", "BIG", K.ENUMVAL_VALUE, True, 0xFFFFFFFFFFFFFFFE),
        ("enum numbers { MISSING = 7 }", "MISSING", K.ENUMVAL_VALUE, False, 0),
        ("enum numbers { OTHER = 7 }", "OTHER", K.ENUMVAL_EXISTS, True, 1),
        ("enum numbers { MISSING = 7 }", "MISSING", K.ENUMVAL_EXISTS, False, 0),
    ],
)
def test_enumerators(local: str, name: str, kind: K, found: bool, value: int) -> None:
    macro = "bpf_core_enum_value" if kind is K.ENUMVAL_VALUE else "bpf_core_enum_value_exists"
    body = f"return {macro}({local.split(' {')[0]}, {name});"
    (resolution,) = resolve(f'{local}; SEC("socket") u64 program(void *ctx) {{ {body} }}', _ENUM_KERNEL)
    assert resolution.kind is kind
    assert (resolution.found, resolution.target_value) == (found, value)
    assert resolution.poisoned == (not found and kind is K.ENUMVAL_VALUE)


def test_an_enum_may_be_an_enum64_on_the_other_side() -> None:
    """Built by hand: clang writes ENUM64 from version 15 on."""
    small, wide = RawBtf(), RawBtf()
    small_id = small.enum("numbers", SAME=7)
    wide_id = wide.enum64("numbers", OTHER=1, SAME=0x1234567890)
    narrow, broad = Btf(small.build()), Btf(wide.build())
    up = resolve_alone(Matcher(broad), narrow, CoreRelo(0, small_id, "0", K.ENUMVAL_VALUE))
    assert (up.local_value, up.target_value) == (7, 0x1234567890)
    load = struct.pack("<BBHIBBHI", 0x18, 1, 0, 7, 0, 0, 0, 0)
    assert patch_insn(load, 0, up) == struct.pack("<BBHIBBHI", 0x18, 1, 0, 0x34567890, 0, 0, 0, 0x12)
    down = resolve_alone(Matcher(narrow), broad, CoreRelo(0, wide_id, "1", K.ENUMVAL_VALUE))
    assert (down.local_value, down.target_value) == (0x1234567890, 7)


def test_flavors_stand_for_the_same_kernel_type() -> None:
    local = """
    struct core thing___new { long moved; };
    struct core thing___old { int renamed; };
    SEC("socket") u64 program(struct thing___new *new) {
        if (bpf_core_field_exists(new->moved)) return new->moved;
        return ((struct thing___old *)new)->renamed;
    }
    """
    exists, new, old = resolve(local, KERNEL)
    assert (exists.target_value, new.target_value) == (1, 8)
    assert old.poisoned
    assert essential_name("thing___new") == "thing"
    assert essential_name("a___b___c") == "a___b"
    assert essential_name("___x") == "___x"
    assert essential_name("a____b") == "a____b"


def test_a_load_changes_its_width_where_that_is_right() -> None:
    unsigned = resolve_one("return ((struct thing *)ctx)->shrinks;")
    assert (unsigned.local_size, unsigned.target_size, unsigned.fail_memsz_adjust) == (4, 2, False)
    load = struct.pack("<BBhi", 0x61, 0x10, unsigned.local_value, 0)
    assert patch_insn(load, 0, unsigned) == struct.pack("<BBhi", 0x69, 0x10, unsigned.target_value, 0)
    signed = resolve_one("return ((struct thing *)ctx)->shrinks_signed;")
    assert signed.fail_memsz_adjust
    load = struct.pack("<BBhi", 0x61, 0x10, signed.local_value, 0)
    assert patch_insn(load, 0, signed) == struct.pack("<BBhi", 0x85, 0, 0, 195896080)
    add = struct.pack("<BBhi", 0x07, 0x01, 0, signed.local_value)  # an addition reads nothing, so nothing is wrong
    assert patch_insn(add, 0, signed) == struct.pack("<BBhi", 0x07, 0x01, 0, signed.target_value)


def test_an_array_index_must_be_within_bounds_unless_the_array_is_flexible() -> None:
    local = "struct core thing { int array[16]; }; struct core tail { int n; int data[]; };"
    target = KERNEL + "struct tail { long n; int data[]; } *tail;"
    assert resolve_one("return ((struct thing *)ctx)->array[7];", local=local, target=target).found
    assert resolve_one("return ((struct thing *)ctx)->array[8];", local=local, target=target).poisoned
    assert resolve_one("return ((struct tail *)ctx)->data[9];", local=local, target=target).target_value == 44


def test_members_must_be_of_a_compatible_type() -> None:
    local = "struct core thing { int *moved; int nested; };"
    assert resolve_one("return (u64)((struct thing *)ctx)->moved;", local=local).poisoned
    assert resolve_one("return bpf_core_field_exists(((struct thing *)ctx)->nested);", local=local).target_value == 0


def test_type_exists_goes_by_kind_not_by_members() -> None:
    local = "struct thing { char other; }; union other { int x; }; typedef int number;"
    target = KERNEL + "struct other { int x; } other; typedef long number; number n;"
    assert resolve_one("return bpf_core_type_exists(struct thing);", local=local, target=target).target_value == 1
    assert resolve_one("return bpf_core_type_exists(union other);", local=local, target=target).target_value == 0
    assert resolve_one("return bpf_core_type_exists(number);", local=local, target=target).target_value == 1


def test_a_typedef_is_looked_for_as_a_typedef() -> None:
    local = "typedef struct core { int moved; } alias_t;"
    found = resolve_one(
        "return ((alias_t *)ctx)->moved;",
        local=local,
        target="typedef struct { long l; int moved; } alias_t; alias_t a;",
    )
    assert found.target_value == 8
    assert resolve_one(
        "return ((alias_t *)ctx)->moved;", local=local, target="struct alias_t { int moved; } a;"
    ).poisoned


# --- records that libbpf refuses


def test_two_namesakes_with_another_offset_are_ambiguous() -> None:
    local, target = RawBtf(), RawBtf()
    found = local.struct("thing", 8, ("a", local.integer(), 0))
    number = target.integer()
    target.struct("thing", 8, ("a", number, 0))
    target.struct("thing___2", 8, ("a", number, 32))
    matcher, btf = Matcher(Btf(target.build())), Btf(local.build())
    with pytest.raises(
        AmbiguityError, match=r"field offset ambiguity: .*thing\.a \(0:0 @ offset 0\) or .*offset 4"
    ) as info:
        resolve_alone(matcher, btf, CoreRelo(0, found, "0:0", K.FIELD_EXISTS))
    assert [target.root_type_id for target in info.value.targets] == [2, 3]
    with pytest.raises(AmbiguityError, match=r"gives 2, .* gives 3"):
        resolve_alone(matcher, btf, CoreRelo(0, found, "0", K.TYPE_ID_TARGET))


def test_namesakes_that_agree_are_one() -> None:
    local, target = RawBtf(), RawBtf()
    found = local.struct("thing", 8, ("a", local.integer(), 0))
    number = target.integer()
    for extra in ("x", "y"):
        target.struct("thing", 8, ("a", number, 32), (extra, number, 0))
    resolution = resolve_alone(
        Matcher(Btf(target.build())), Btf(local.build()), CoreRelo(0, found, "0:0", K.FIELD_BYTE_OFFSET)
    )
    assert resolution.target_value == 4


def test_a_candidate_ruled_out_once_stays_out() -> None:
    """libbpf keeps, for each local type, the candidates that earlier records left."""
    local, target = RawBtf(), RawBtf()
    number = local.integer()
    found = local.struct("thing", 8, ("a", number, 0), ("b", number, 32))
    number = target.integer()
    target.struct("thing", 8, ("a", number, 0), ("b", number, 32))
    target.struct("thing", 8, ("a", number, 32))
    first, second = CoreRelo(0, found, "0:1", K.FIELD_BYTE_OFFSET), CoreRelo(8, found, "0:0", K.FIELD_BYTE_OFFSET)
    matcher, btf = Matcher(Btf(target.build())), Btf(local.build())
    in_order = list(matcher.resolve_all(btf, [first, second]))
    assert [item.target_value for item in in_order if isinstance(item, Resolution)] == [4, 0]
    assert isinstance(matcher.resolve_all(btf, [second, first])[0], AmbiguityError)
    with pytest.raises(AmbiguityError):
        resolve_alone(matcher, btf, second)
