"""What a program does that not every kernel takes: calls, loops, instructions, and what guards them."""

from __future__ import annotations

from functools import reduce

import pytest

from hatch_bpf.kernels.identity import Kernel, host
from hatch_bpf.portability.verdicts import ReasonKind, Verdict, Weight
from tests.common import c_programs, kernel_btfs
from tests.common.checked import (
    line_of,
    message_for,
    model,
    old_kernel,
    verdict,
    verdicts_on,
    version_of,
)
from tests.common.on_kernels import KernelTypes, check_on


@pytest.mark.parametrize(
    ("program", "names", "as_built"),
    [
        ("conditional__on_a_global", "use_never", "is not"),
        ("conditional__on_a_global_that_is_set", "use_never_by_default", "is"),
        ("conditional__on_a_comparison", "level", "is not"),
        ("conditional__on_a_mask", "level", "is not"),
        ("conditional__on_two_globals", "level, use_never", "is not"),
        ("conditional__on_a_global_passed_on", "use_never", "is not"),
    ],
)
def test_a_condition_names_its_globals(program: str, names: str, as_built: str) -> None:
    (reason,) = verdict(kernel_btfs.EXAMPLES[-1], "globals.bpf.c", program).reasons
    assert f"whether it is reached depends on {names} (with the initial values of globals it {as_built})" in reason.what
    assert "remove" not in message_for(reason, "any")


@pytest.mark.parametrize("kernel", kernel_btfs.EXAMPLES)
def test_a_global_subprogram_that_is_not_called_counts_where_the_kernel_checks_it(kernel: str) -> None:
    found = verdict(kernel, "lazy_global.bpf.c", "global_subprogram_behind_a_guard")
    # since Linux 6.8, a global subprogram is checked when a call of it is reached
    major, minor = map(int, kernel.rsplit("/", 1)[1].split(".")[:2])
    assert found.verdict is (Verdict.LOADS if (major, minor) >= (6, 8) else Verdict.FAILS)


@pytest.mark.parametrize("kernel", kernel_btfs.EXAMPLES)
def test_what_a_helper_reads_is_known_afterwards_where_the_kernel_tells_reads_from_writes(kernel: str) -> None:
    found = verdict(kernel, "helper_memory.bpf.c", "guard_in_memory_that_a_helper_reads")
    # Linux 6.12 does not, in the lab, and 6.18 does
    major, minor = map(int, kernel.rsplit("/", 1)[1].split(".")[:2])
    assert found.verdict is (Verdict.LOADS if (major, minor) >= (6, 18) else Verdict.FAILS)


def test_libbpf_falls_back_to_probe_read_on_old_kernels() -> None:
    """So a program that calls probe_read_kernel() isn't told to be missing it, but one that calls another helper is."""
    kernel = Kernel.parse("centos/8/x86_64/4.18.0-147.el8")
    report = check_on([model("guards.bpf.c")], [KernelTypes(kernel, old_kernel())])
    for found in report.kernels[0].programs:
        texts = [reason.what for reason in found.reasons if reason.kind is ReasonKind.HELPER_MISSING]
        assert not any("probe_read" in text for text in texts)
        if "overwritten_by_a_helper" in found.program:
            assert any("bpf_get_current_task()" in text for text in texts)


def test_a_read_of_an_argument_that_the_target_lacks_names_both() -> None:
    found = verdict(kernel_btfs.EXAMPLES[-1], "arguments.bpf.c", "fails__behind_the_return_value")
    (reason,) = [reason for reason in found.reasons if reason.kind is ReasonKind.ARGUMENT_MISSING]
    assert reason.what == "the program reads argument 6 of vfs_fsync_range, which has 4 arguments on this kernel"
    line = line_of("arguments.bpf.c", "volatile __u64 value = ctx[argument]")
    assert reason.source == f"arguments.bpf.c:{line}"


SINCE = {
    "newer_insns.bpf.c": {
        "sign_extending_move": (6, 6),
        "signed_division": (6, 6),
        "byte_swap": (6, 6),
        "sign_extending_load": (6, 6),
        "guarded_byte_swap": (6, 6),
        "guarded_sign_extending_load": (6, 6),
        "may_goto": (6, 9),
        "may_goto_in_dead_code": (6, 9),
        "load_acquire": (6, 15),
        "load_acquire_in_dead_code": (5, 12),
        "fetching_addition": (5, 12),
        "compare_and_exchange": (5, 12),
        "fetching_addition_in_dead_code": (5, 12),
    },
    "subprograms.bpf.c": {
        "global_of_pointer": (5, 12),
        "global_of_pointer_in_dead_code": (5, 12),
        "tail_call_beside": (5, 10),
        "tail_call_within": (5, 10),
    },
    "sleepable.bpf.c": {
        "sleepable_uprobe": (6, 0),
        "sleepable_uretprobe": (6, 0),
        "syscall_program": (5, 14),
        "sleepable_lsm": (5, 11),
    },
    "ring_that_overwrites.bpf.c": {"beside_the_map": (6, 19)},
}

"""The Linux that is the first to take a program; what the lab loads there agrees."""

SINCE_ARM64 = {"tail_call_beside": (6, 0), "tail_call_within": (6, 0), "sleepable_lsm": (6, 4)}


@pytest.mark.parametrize("kernel", kernel_btfs.EXAMPLES)
@pytest.mark.parametrize("file", SINCE)
def test_what_came_with_one_kernel_fails_on_older_ones(file: str, kernel: str) -> None:
    since = {**SINCE[file], **(SINCE_ARM64 if "arm64" in kernel else {})}
    found = {program: found for (_, program), found in verdicts_on(kernel, model(file, "v3")).items()}
    for program in SINCE[file]:
        assert found[program].verdict.is_failure == (version_of(kernel) < since[program]), found[program]


OLD_KERNEL = """
struct bpf_reg_state { int precise; } a;
struct bpf_map_ops { int map_direct_value_addr; int map_mmap; } b;
struct bpf_verifier_state { int active_spin_lock; } c;
enum bpf_func_id { BPF_FUNC_get_prandom_u32 = 7 } d;
"""

"""As much of a kernel's BTF as tells kernels before Linux 5.5 apart."""


@pytest.mark.parametrize(
    ("lacks", "kinds"),
    [
        (["precise"], [ReasonKind.LOOPS_MISSING]),
        (["map_direct_value_addr"], [ReasonKind.TOO_LONG]),
        (["map_mmap"], [ReasonKind.MAP_FLAG_MISSING]),
        (["precise", "active_spin_lock"], [ReasonKind.INSN_MISSING, ReasonKind.LOOPS_MISSING]),
    ],
)
def test_what_kernels_before_5_5_lack(lacks: list[str], kinds: list[ReasonKind]) -> None:
    """No kernel of the example's is so old."""
    source = """struct { int (*type)[2]; int (*max_entries)[1]; int (*key_size)[4]; int (*value_size)[8];
        int (*map_flags)[1024]; } values SEC(".maps");
    SEC("socket") long program(void *ctx) {
        long sum = 0;
        #pragma clang loop unroll(disable)
        for (int i = 0; i < 10; i++) sum += ((u64 (*)(void))7)();
        asm volatile(".rept 4096\\n r0 = 0\\n .endr" ::: "r0");
        return (int)sum < -5;
    }"""
    obj = c_programs.model(source)
    older = reduce(lambda text, member: text.replace(member, "other"), lacks, OLD_KERNEL)
    for kernel, expected in ((OLD_KERNEL, []), (older, kinds)):
        (found,) = check_on([obj], [KernelTypes(host(), c_programs.kernel(kernel))]).kernels[0].programs
        failing = [reason.kind for reason in found.reasons if reason.weight is Weight.FAILS]
        assert failing == expected


def test_a_jump_back_that_closes_no_loop_is_none() -> None:
    source = """SEC("socket") long program(void *ctx) {
        asm volatile("goto +2; r0 = 1; goto +2; r0 = 2; goto -4; r0 = 3" ::: "r0");
        return 0;
    }"""
    obj = c_programs.model(source)
    kernel = c_programs.kernel("struct bpf_reg_state { int older; } a;")
    (found,) = check_on([obj], [KernelTypes(host(), kernel)]).kernels[0].programs
    assert ReasonKind.LOOPS_MISSING not in {reason.kind for reason in found.reasons}
