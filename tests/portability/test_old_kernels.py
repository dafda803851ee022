"""Verdicts on kernels from before Linux 5.10, which the lab does not boot: each from what their BTF has or lacks."""

from __future__ import annotations

import pytest

from hatch_bpf.btf.reader import Btf
from hatch_bpf.kernels.identity import host
from hatch_bpf.objects.insns import InsnSet
from hatch_bpf.objects.model import ObjectModel
from hatch_bpf.objects.uapi import helper, helpers
from hatch_bpf.portability.helper_functions import ALWAYS_THERE, function_of
from hatch_bpf.portability.kernel_features import KernelFeatures
from hatch_bpf.portability.verdicts import ProgramVerdict, ReasonKind, Verdict
from tests.common import c_programs, kernel_btfs, needs
from tests.common.btf_builder import RawBtf
from tests.common.on_kernels import KernelTypes, check_on


def old_btf(
    *,
    has_subprograms: bool = True,
    has_zeros: bool = True,
    has_speculation: bool = True,
    function: str = "bpf_prog_load",
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
    btf.func(function, btf.func_proto(number))
    return btf


LINUX_4_15 = old_btf(has_subprograms=False, has_zeros=False, has_speculation=False, has_get_stack=False)
UBUNTU_4_15 = old_btf(has_subprograms=False, has_zeros=False, function="is_branch_taken", has_get_stack=False)
UBUNTU_4_15_INLINED = old_btf(has_subprograms=False, has_zeros=False, function="sanitize_err", has_get_stack=False)
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
        (UBUNTU_4_15_INLINED, True, True, True, False, False, False),
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


@pytest.mark.parametrize(
    ("section", "member", "verdict"),
    [
        ("cgroup/sock_create", "type", Verdict.FAILS),
        ("cgroup/sock_create", "expected_attach_type", Verdict.LOADS),
        ("cgroup/sock", "type", Verdict.LOADS),
    ],
)
def test_before_linux_4_17_no_program_is_loaded_for_an_attach_type(section: str, member: str, verdict: Verdict) -> None:
    """libbpf leaves the attach type of SEC("cgroup/sock") out where the kernel does not take it."""
    btf = RawBtf()
    btf.struct("bpf_prog", 4, (member, btf.integer(), 0))
    found = check(c_programs.model(f'SEC("{section}") int program(void *ctx) {{ return 1; }}', cpu="v1"), btf)
    assert found.verdict is verdict
    assert [reason.remedy for reason in found.reasons] == ['write SEC("cgroup/sock")'] * (verdict is Verdict.FAILS)


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


GUARDED_HELPER = """
enum bpf_func_id { BPF_FUNC_sk_release = 86 } id;
SEC("tc") int program(void *ctx)
{ return bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_sk_release) ? ((long (*)(void *))86)(ctx) : 0; }
"""


def lists_helpers(*functions: str, listed: bool = True) -> RawBtf:
    btf = RawBtf()
    number = btf.integer()
    more = {"BPF_FUNC_sk_release": 86, "BPF_FUNC_spin_lock": 93, "BPF_FUNC_redirect_map": 51} if listed else {}
    btf.enum("bpf_func_id", BPF_FUNC_map_lookup_elem=1, **more)
    btf.struct("bpf_verifier_state", 4, ("curframe", number, 0))
    for name in ("bpf_check", *functions):
        btf.func(name, btf.func_proto(number))
    return btf


@pytest.mark.parametrize(
    ("btf", "has"),
    [
        (lists_helpers(*ALWAYS_THERE, "bpf_sk_release"), True),
        (lists_helpers(*ALWAYS_THERE), False),
        (lists_helpers(*ALWAYS_THERE[:2]), True),  # one that leaves out functions
        (lists_helpers(listed=False), False),
    ],
)
def test_a_kernel_has_a_helper_whose_function_it_has(btf: RawBtf, has: bool) -> None:
    assert features(btf).has_helper(86) == has


def test_a_helper_without_a_function_of_its_name_counts_as_listed() -> None:
    found = features(lists_helpers(*ALWAYS_THERE))
    assert found.has_helper(helper("redirect_map"))
    assert not found.has_helper(helper("spin_lock"))  # nothing in the verifier's state holds one


def test_a_listed_helper_without_its_function_is_no_matter_of_guards() -> None:
    obj = c_programs.model(GUARDED_HELPER, cpu="v1")
    (reason,) = check(obj, lists_helpers(*ALWAYS_THERE)).reasons
    assert reason.what == "this kernel has no bpf_sk_release(), although its BTF has the enumerator"
    assert reason.remedy == "a guard does not help: call it in a program of its own that is optional"
    for btf in (lists_helpers(*ALWAYS_THERE, "bpf_sk_release"), lists_helpers(listed=False)):
        assert check(obj, btf).verdict is Verdict.LOADS


LACKING = helpers("""
    lwt_seg6_store_bytes lwt_seg6_adjust_srh lwt_seg6_action sk_lookup_tcp sk_lookup_udp sk_release map_push_elem
    map_pop_elem map_peek_elem msg_push_data msg_pop_data spin_lock spin_unlock sk_fullsock tcp_sock skb_ecn_set_ce
    get_listener_sock skc_lookup_tcp tcp_check_syncookie sysctl_get_name sysctl_get_current_value sysctl_get_new_value
    sysctl_set_new_value strtol strtoul sk_storage_get sk_storage_delete send_signal tcp_gen_syncookie
""")
"""What openEuler's 4.19.90 lists and lacks. CentOS 8 lacks the first three."""
SEG6 = helpers("lwt_seg6_store_bytes lwt_seg6_adjust_srh lwt_seg6_action")


def of_kernel(name: str) -> KernelFeatures:
    found = KernelFeatures(Btf(kernel_btfs.read(name), source=name))
    found.expect(filter(None, map(function_of, found.helpers or ())))
    return found


def lacking(found: KernelFeatures) -> set[int]:
    return {number for number in found.helpers or () if not found.has_helper(number)}


@pytest.mark.parametrize("kernel", kernel_btfs.EXAMPLES)
def test_debians_kernels_have_all_helpers_that_they_list(kernel: str) -> None:
    assert lacking(of_kernel(kernel)) == set()


OLD = [name for name in kernel_btfs.FILES if name.rsplit("/", 1)[1].startswith(("4.18.", "4.19."))]


def test_the_signs_of_the_archives_old_kernels() -> None:
    needs.archive()
    assert OLD
    for name in OLD:
        found = of_kernel(name)
        assert found.has_subprograms, name
        # one of kylin has the verifier of Linux 5.5, by its other signs too
        is_newer = found.has_loops
        assert lacking(found) == (set() if is_newer else SEG6 if "4.18." in name else LACKING), name
        assert found.verifier.decides_order, name
        assert found.has_insns(InsnSet.JUMP32) == is_newer, name
        assert found.verifier.follows_spills == is_newer, name
        assert not found.verifier.checks_globals_alone, name
