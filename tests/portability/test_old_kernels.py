"""Verdicts on kernels from before Linux 5.10, which the lab does not boot: each from what their BTF has or lacks."""

from __future__ import annotations

import pytest

from hatch_bpf.btf.reader import Btf
from hatch_bpf.kernels.identity import host
from hatch_bpf.objects.insns import InsnSet
from hatch_bpf.objects.model import ObjectModel
from hatch_bpf.portability.kernel_features import KernelFeatures
from hatch_bpf.portability.object_check import KernelTypes, check_on
from hatch_bpf.portability.verdicts import ProgramVerdict, ReasonKind, Verdict
from tests.common import c_programs, kernel_btfs, needs
from tests.common.btf_builder import RawBtf


def old_btf(
    *,
    has_subprograms: bool = True,
    has_zeros: bool = True,
    has_speculation: bool = True,
    has_branch_function: bool = False,
    has_spin_locks: bool = False,
    keeps_constants: bool = False,
    has_linkage: bool = False,
    has_get_stack: bool = True,
) -> RawBtf:
    """The signs of what its verifier can do; by default as in CentOS 8.1's 4.18.0-147."""
    btf = RawBtf()
    number = btf.integer()

    def struct(name: str, *members: str) -> None:
        btf.struct(name, 4 * len(members), *((member, number, 32 * at) for at, member in enumerate(members)))

    struct("bpf_prog_aux", "refcnt", *["func_cnt"] * has_subprograms)
    locks = ["active_spin_lock"] * has_spin_locks
    struct("bpf_verifier_state", "curframe", *["speculative"] * has_speculation, *locks)
    struct("bpf_reg_state", "type", *["precise"] * keeps_constants)
    struct("bpf_func_info_aux", "unreliable", *["linkage"] * has_linkage)
    slots = {"STACK_INVALID": 0, "STACK_SPILL": 1, "STACK_MISC": 2} | ({"STACK_ZERO": 3} if has_zeros else {})
    btf.enum("bpf_stack_slot_type", **slots)
    helpers = {"BPF_FUNC_map_lookup_elem": 1, "BPF_FUNC_get_prandom_u32": 7}
    btf.enum("bpf_func_id", **helpers, **({"BPF_FUNC_get_stack": 67} if has_get_stack else {}))
    btf.func("bpf_check", btf.func_proto(number))
    if has_branch_function:
        btf.func("is_branch_taken", btf.func_proto(number))
    return btf


LINUX_4_15 = old_btf(has_subprograms=False, has_zeros=False, has_speculation=False, has_get_stack=False)
UBUNTU_4_15 = old_btf(has_subprograms=False, has_zeros=False, has_branch_function=True, has_get_stack=False)
LINUX_4_19 = old_btf(has_speculation=False)
CENTOS_4_18 = old_btf()
LINUX_5_4 = old_btf(has_spin_locks=True, keeps_constants=True)
LINUX_5_6 = old_btf(has_spin_locks=True, keeps_constants=True, has_linkage=True)


def features(btf: RawBtf) -> KernelFeatures:
    return KernelFeatures(Btf(btf.build(), source="test"))


def check(obj: ObjectModel, btf: RawBtf) -> ProgramVerdict:
    (found,) = check_on([obj], [KernelTypes(host(), Btf(btf.build(), source="test"))]).kernels[0].programs
    return found


@pytest.mark.parametrize(
    ("btf", "unequal", "order", "registers", "zeros", "spills", "shifts"),
    [
        (LINUX_4_15, False, False, False, False, False, False),
        (UBUNTU_4_15, True, True, True, False, False, False),
        (LINUX_4_19, True, False, False, True, False, True),
        (CENTOS_4_18, True, True, False, True, False, True),
        (LINUX_5_4, True, True, True, True, True, True),
    ],
)
def test_what_old_verifiers_follow(
    btf: RawBtf, unequal: bool, order: bool, registers: bool, zeros: bool, spills: bool, shifts: bool
) -> None:
    """As kernel/bpf/verifier.c of these kernels has it."""
    found = features(btf).verifier
    assert (found.decides_unequal, found.decides_order, found.decides_registers) == (unequal, order, registers)
    assert (found.follows_spilled_zeros, found.follows_spills) == (zeros, spills)
    assert found.follows_arithmetic_shifts == shifts


@pytest.mark.parametrize(("btf", "has"), [(LINUX_4_15, False), (CENTOS_4_18, False), (LINUX_5_4, True)])
def test_the_first_kernel_with_jumps_of_32_bits(btf: RawBtf, has: bool) -> None:
    assert features(btf).has_insns(InsnSet.JUMP32) == has


def test_a_btf_without_the_structs_says_nothing_of_what_they_lack() -> None:
    btf = RawBtf()
    btf.integer()
    found = features(btf)
    assert found.has_subprograms
    assert found.has_insns(InsnSet.JUMP32)
    assert found.verifier.follows_spilled_zeros


CALLING = """
static __attribute__((noinline)) int twice(int n) { asm volatile("" : "+r"(n)); return 2 * n; }
SEC("socket") int program(void *ctx) { return twice((long)ctx & 1) + twice(3); }
"""


def test_a_program_that_calls_its_own_functions_fails_before_linux_4_16() -> None:
    """Even where no call is reached: the function's code, to which nothing else leads, is refused."""
    obj = c_programs.model(CALLING, cpu="v1")
    found = check(obj, UBUNTU_4_15)
    assert found.verdict is Verdict.FAILS
    reasons = [reason.what for reason in found.reasons if reason.kind is ReasonKind.SUBPROGRAMS_MISSING]
    assert reasons == ["it calls twice(), and this kernel runs no program that calls functions of its own"]
    assert ReasonKind.SUBPROGRAMS_MISSING not in {reason.kind for reason in check(obj, CENTOS_4_18).reasons}


GUARDED_BY_ARGUMENT = """
__attribute__((noinline)) long global(long which)
{ if (which == 1) return 0; return ((long (*)(void))210)(); }
SEC("socket") int program(void *ctx) { return global(1); }
"""
"""Calls bpf_cgrp_storage_get(), which no old kernel has, for any argument but the one that is given."""


@pytest.mark.parametrize(
    ("btf", "verdict"), [(CENTOS_4_18, Verdict.LOADS), (LINUX_5_4, Verdict.LOADS), (LINUX_5_6, Verdict.FAILS)]
)
def test_a_global_function_is_a_static_one_before_linux_5_6(btf: RawBtf, verdict: Verdict) -> None:
    found = check(c_programs.model(GUARDED_BY_ARGUMENT, cpu="v1"), btf)
    assert found.verdict is verdict, found.reasons


GUARDED_FIELD = """
struct core bpf_reg_state { int type; };
struct core bpf_reg_state___new { int hatch_bpf_never; };
SEC("socket") int program(void *ctx)
{
    struct bpf_reg_state *state = ctx;
    struct bpf_reg_state___new *other = ctx;
    if (bpf_core_field_exists(state->type)) return 0;
    return bpf_core_field_size(other->hatch_bpf_never);
}
"""


@pytest.mark.parametrize("btf", [LINUX_4_15, UBUNTU_4_15, LINUX_4_19, CENTOS_4_18, LINUX_5_4])
def test_the_other_half_of_a_guard_is_walked_by_linux_4_15(btf: RawBtf) -> None:
    """There, `if 1 == 0` is not decided, so what the kernel lacks fails although another field is there."""
    found = check(c_programs.model(GUARDED_FIELD, cpu="v1"), btf)
    assert found.verdict is (Verdict.FAILS if btf is LINUX_4_15 else Verdict.LOADS)
    assert any("too old to follow the guard" in reason.what for reason in found.reasons) == (btf is LINUX_4_15)


OLD = [name for name in kernel_btfs.FILES if name.rsplit("/", 1)[1].startswith(("4.18.", "4.19."))]


def test_the_signs_of_the_archives_old_kernels() -> None:
    needs.archive()
    assert OLD
    for name in OLD:
        found = KernelFeatures(Btf(kernel_btfs.read(name), source=name))
        assert found.has_subprograms, name
        # the second kylin has the verifier of Linux 5.5, by its other signs too
        is_newer = found.has_loops
        assert found.verifier.decides_order, name
        assert found.has_insns(InsnSet.JUMP32) == is_newer, name
        assert found.verifier.follows_spills == is_newer, name
        assert not found.verifier.checks_globals_alone, name
