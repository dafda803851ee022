"""What an object may cost, however it is made: five seconds for each command. What no compiler makes is refused.

Objects here are a few hundred kilobytes. Each has something whose cost grows with the square of its size, or worse,
where it is not bounded.
"""

from __future__ import annotations

import contextlib
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import pytest

from fuzz.objects import OBJECTS, WORST, missing_fields
from hatch_bpf.btf.ext import CoreReloKind, read_btf_ext
from hatch_bpf.btf.reader import Btf
from hatch_bpf.cli.inspection import inspect
from hatch_bpf.errors import ObjectError, SkeletonError
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.objects.insns import Class, Insn, JmpOp
from hatch_bpf.objects.model import read_object
from hatch_bpf.portability.text import render_failures
from hatch_bpf.skeleton.names import Scope
from hatch_bpf.skeleton.types import TypeDecls
from tests.common import kernel_btfs
from tests.common.btf_builder import EXIT, RawBtf, btf_ext, elf_object
from tests.common.c_programs import model
from tests.common.on_kernels import KernelTypes, check_on

pytestmark = pytest.mark.thorough

SECONDS = 5


@contextmanager
def in_time() -> Iterator[None]:
    """CPU time, so that a busy machine fails no test."""
    start = time.process_time()
    yield
    assert time.process_time() - start < SECONDS


def some_types() -> bytes:
    btf = RawBtf()
    btf.integer()
    return btf.build()


def test_functions_that_overlap() -> None:
    """A hundred names for the same 80,000 instructions."""
    functions = [(0, 1, 0, 80_000 * 8)] * 100
    data = elf_object(some_types(), None, {"xdp": EXIT * 80_000}, functions=functions)
    with in_time(), pytest.raises(ObjectError, match="more than 524,288 instructions, where an object of 250 large"):
        read_object(data, path="object")


def test_more_functions_than_any_object_has() -> None:
    functions = [(0, 1, 0, 8)] * 10_000
    data = elf_object(some_types(), None, {"xdp": EXIT}, functions=functions)
    with in_time(), pytest.raises(ObjectError, match="more than 4,096 functions, where the largest object known has"):
        read_object(data, path="object")


def test_names_of_symbols_that_are_tails_of_one_long_name() -> None:
    functions = [(at, 1, 0, 8) for at in range(1, 4_000)]
    data = elf_object(some_types(), None, {"xdp": EXIT}, functions=functions, names_of_functions=b"\0" + b"a" * 200_000)
    with in_time(), pytest.raises(ObjectError, match="unpacks to more than any real file of its size"):
        read_object(data, path="object")


def test_source_lines_of_one_section_in_many_pieces() -> None:
    btf = RawBtf()
    section, text = btf.string("xdp"), btf.string("return 0;")
    pieces = [struct.pack("<II4I", section, 1, 8 * n, text, text, 7 << 10) for n in range(100_000)]
    table = struct.pack("<I", 16) + b"".join(pieces)
    data = struct.pack("<HBBI6I", 0xEB9F, 1, 0, 32, 0, 0, 0, len(table), 0, 0) + table
    with in_time():
        lines = read_btf_ext(data, Btf(btf.build())).lines["xdp"]
    assert len(lines) == 100_000
    line = lines.at(8 * 70_000 + 7)
    assert line is not None
    assert (line.insn_off, line.line) == (8 * 70_000, 7)


def test_a_chain_of_jumps_back() -> None:
    """Each goes to the one before it, so that what is read at the end is live at the start by way of all."""
    count = 20_000
    back = struct.pack("<BBhi", 0x15, 1, -2, 7)
    code = struct.pack("<BBhi", 0xB7, 0, 0, 0) + back * count + EXIT
    obj = read_object(elf_object(some_types(), None, {"socket": code}), path="object")
    kernel = KernelTypes(Kernel.parse("debian/12/x86_64/6.1.0"), model("int x;").btf)
    with in_time():
        report = check_on([obj], [kernel])
    assert report.kernels


def test_members_and_enumerators_of_one_name() -> None:
    btf = RawBtf()
    number = btf.integer()
    thing = btf.struct("thing", 80_000, *(("same", number, 32 * n) for n in range(20_000)))
    types = TypeDecls(Btf(btf.build(), source="object"), Scope(), where="object")
    with in_time(), pytest.raises(SkeletonError, match="the name same: more than 256 things that Python would call so"):
        types.codec(thing)


def test_more_members_than_a_skeleton_can_declare() -> None:
    btf = RawBtf()
    number = btf.integer()
    thing = btf.struct("thing", 4 << 20, *((f"m{n}", number, 32 * n) for n in range(130_000)))
    types = TypeDecls(Btf(btf.build(), source="object"), Scope(), where="object")
    with in_time(), pytest.raises(SkeletonError, match="object: takes more work to read than any real file"):
        types.codec(thing)


def test_as_many_programs_and_relocations_as_the_largest_object_has() -> None:
    """250 programs of 150 relocations each, all of them of fields that the kernel lacks."""
    local = RawBtf()
    number = local.integer()
    thing = local.struct("thing", 600, *((f"field{n}", number, 32 * n) for n in range(150)))
    insn = struct.pack("<BBhi", 0xB7, 1, 0, 0)
    names = [f"raw_tp/{n}" for n in range(250)]
    records = [(8 * n, thing, f"0:{n}", CoreReloKind.FIELD_EXISTS) for n in range(150)]
    ext = btf_ext(local, dict.fromkeys(names, records))
    data = elf_object(local.build(), ext, dict.fromkeys(names, insn * 150 + EXIT))
    kernel = KernelTypes(Kernel.parse("debian/12/x86_64/6.1.0"), model("int x;").btf)
    with in_time():
        obj = read_object(data, path="object")
        programs = inspect(obj)["programs"]
        report = check_on([obj], [kernel])
    assert [len(program["relocations"]) for program in programs] == [150] * 250
    assert len(report.kernels[0].programs) == 250


@pytest.mark.parametrize("what", OBJECTS if kernel_btfs.FULL else WORST)
def test_many_of_what_objects_have_a_few_of(what: str) -> None:
    """Taken or refused, in time: 4,000 programs, 8,000 accesses, loops and branches in each of 500 programs."""
    kernel = KernelTypes(Kernel.parse("debian/12/x86_64/6.1.0"), _kernel())
    data = OBJECTS[what]()
    with in_time(), contextlib.suppress(ObjectError):
        render_failures(check_on([read_object(data, path="object")], [kernel]))


def test_what_is_walked_for_all_programs_together() -> None:
    kernel = KernelTypes(Kernel.parse("debian/12/x86_64/6.1.0"), _kernel())
    obj = read_object(OBJECTS["programs of branches"](), path="object")
    with pytest.raises(ObjectError, match=r"^object: takes more work to read than any real file of its size"):
        check_on([obj], [kernel])


def test_more_accesses_than_any_object_has() -> None:
    with pytest.raises(ObjectError, match=r"^object: more than 8,192 different CO-RE accesses, where an object of 250"):
        read_object(missing_fields(8_193), path="object")


@cache
def _kernel() -> Btf:
    """Some names that those which are missing are like."""
    return model("enum bpf_map_type { BPF_MAP_TYPE_HASH }; struct task_struct { int pid, flags; } x; int y;").btf


def test_a_jump_of_an_instruction() -> None:
    assert [Insn(Class.JMP | op, 0, 0, 3, 0).is_jump for op in (JmpOp.JA, JmpOp.JEQ, JmpOp.EXIT)] == [True, True, False]
