"""Global variables in an arena: what is read of the object, and the verdicts."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from hatch_bpf.kernels.identity import host
from hatch_bpf.objects.model import ARENA_SECTION, ObjectModel
from hatch_bpf.portability.verdicts import ProgramVerdict, Verdict
from hatch_bpf.project.alternatives import users_of_maps
from tests.common import c_programs
from tests.common.on_kernels import KernelTypes, check_on
from tests.common.skeleton_package import BPF, model_of

KERNEL = """
enum bpf_map_type { BPF_MAP_TYPE_ARRAY = 2, BPF_MAP_TYPE_ARENA = 33 } a;
enum bpf_prog_type { BPF_PROG_TYPE_SYSCALL = 31 } b;
struct bpf_reg_state { int precise; } c;
struct bpf_map_ops { int map_direct_value_addr; int map_mmap; int map_meta_equal; int map_mem_usage; } d;
struct bpf_prog_aux { int sleepable; } e;
"""
"""As much of a kernel's BTF as says that it has arenas."""


def verdict(model: ObjectModel) -> ProgramVerdict:
    (found,) = check_on([model], [KernelTypes(host(), c_programs.kernel(KERNEL))]).kernels[0].programs
    return found


def test_the_verdict_depends_on_libbpf(tmp_path: Path) -> None:
    model = model_of(BPF / "arena.bpf.c", tmp_path)
    (section,) = (section for section in model.data_sections if section.name == ARENA_SECTION)
    assert {variable.name for variable in section.variables} == {"counter", "steps", "place", "name"}
    steps = next(variable for variable in section.variables if variable.name == "steps")
    assert struct.unpack_from("4q", section.data, steps.offset) == (1, 2, 3, 4)
    assert users_of_maps([model]) == {"arena": ("run",)}
    found = verdict(model)
    assert found.verdict is Verdict.CONDITIONAL
    assert [reason.what for reason in found.reasons] == [
        "libbpf before 1.4 does not know global variables in an arena, and refuses to load it"
    ]


@pytest.mark.parametrize(
    ("arena", "message"),
    [
        ("", "it has global variables in an arena, and no arena"),
        (
            'struct { int (*type)[33]; int (*map_flags)[1024]; int (*max_entries)[1]; } arena SEC(".maps");',
            "its global variables in the arena take 8192 bytes, and map arena has 1 pages of 4096",
        ),
    ],
)
def test_variables_that_have_no_room(arena: str, message: str) -> None:
    source = f"""{arena}
    __attribute__((section(".addr_space.1"))) char big[8192];
    SEC("syscall") int program(void *ctx) {{ return (long)big; }}"""
    found = verdict(c_programs.model(source))
    assert found.verdict is Verdict.FAILS
    assert message in found.reasons[0].what
