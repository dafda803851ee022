"""Kernels that were built without BTF: what they refuse beside what every kernel refuses whose BTF cannot be seen."""

from __future__ import annotations

import pytest

from hatch_bpf.btf.reader import Btf
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.portability.kernel_features import KernelFeatures
from hatch_bpf.portability.verdicts import ProgramVerdict, ReasonKind, Verdict
from tests.common import c_programs, kernel_btfs
from tests.common.btf_builder import RawBtf
from tests.common.on_kernels import KernelTypes, check_on

CONTEXT = """
struct __sk_buff { u32 len; };
__attribute__((noinline)) int length(struct __sk_buff *ctx) { return ctx->len; }
"""
STATIC = CONTEXT.replace("__attribute__((noinline)) int", "static __attribute__((noinline)) int")
CALL = 'SEC("tc") int p(struct __sk_buff *ctx) { return length(ctx); }'
CURRENT = """
struct task_struct { int pid; };
static struct task_struct *(*get_current_task_btf)(void) = (void *)158;
static int (*get_prandom_u32)(void) = (void *)7;
SEC("raw_tp/sched_switch") int p(void *ctx) { return get_prandom_u32() ? 0 : get_current_task_btf()->pid; }
"""
FIRST_OF_SYSFS = "btf_vmlinux_read"
"""A function that only a kernel with BTF has."""


def kernel(*functions: str, checks_globals: bool = True) -> KernelTypes:
    """What pahole makes of Linux 5.11, as far as it matters: CONFIG_DEBUG_INFO_BTF adds functions and nothing else."""
    btf = RawBtf()
    number = btf.integer()
    btf.enum("bpf_func_id", BPF_FUNC_get_prandom_u32=7, BPF_FUNC_spin_lock=93, BPF_FUNC_get_current_task_btf=158)
    btf.enum("bpf_prog_type", BPF_PROG_TYPE_SCHED_CLS=3, BPF_PROG_TYPE_RAW_TRACEPOINT=17)
    btf.struct("bpf_verifier_state", 4, ("active_spin_lock", number, 0))
    btf.struct("bpf_ringbuf", 4, ("mask", number, 0))
    btf.struct("bpf_map_ops", 4, ("map_direct_value_addr", number, 0))
    if checks_globals:
        btf.struct("bpf_func_info_aux", 4, ("linkage", number, 0))
    for name in ("schedule", "bpf_get_current_task_btf", *functions):
        btf.func(name, btf.func_proto(number))
    btf.typedef("btf_trace_sched_switch", btf.ptr(btf.func_proto(0)))
    return KernelTypes(Kernel.parse("debian/11/x86_64/5.11.0-1-amd64"), Btf(btf.build(), source="kernel"))


def verdict(source: str, on: KernelTypes) -> ProgramVerdict:
    (found,) = check_on([c_programs.model(source)], [on]).kernels[0].programs
    return found


@pytest.mark.parametrize("source", [CONTEXT + CALL, CURRENT])
def test_without_its_own_btf_the_kernel_refuses(source: str) -> None:
    found = verdict(source, kernel())
    assert (found.verdict, found.reasons[0].kind) == (Verdict.NEEDS_KERNEL_BTF, ReasonKind.KERNEL_WITHOUT_BTF)
    # where it has one, it does not matter that nobody sees it
    found = verdict(source, kernel(FIRST_OF_SYSFS))
    assert (found.verdict, found.reasons) == (Verdict.LOADS, ())


def test_what_needs_no_btf() -> None:
    assert verdict(STATIC + CALL, kernel()).verdict is Verdict.LOADS
    # before 5.6 a global function is checked as a static one
    assert verdict(CONTEXT + CALL, kernel(checks_globals=False)).verdict is Verdict.LOADS
    never = CURRENT.replace("get_prandom_u32() ? 0 :", "1 ? 0 :")
    assert verdict(never, kernel()).verdict is Verdict.LOADS


def test_messages() -> None:
    (reason,) = verdict(CONTEXT + CALL, kernel()).reasons
    assert reason.message == (
        "the global function length() takes the context, which kernels without a BTF of their own refuse "
        "(CONFIG_DEBUG_INFO_BTF), and what is known of this kernel does not show that it has one: declare it static"
    )
    (reason,) = verdict(CURRENT, kernel()).reasons
    assert reason.what.startswith(
        "bpf_get_current_task_btf() returns a pointer to a struct of the kernel, which kernels"
    )


@pytest.mark.parametrize("name", kernel_btfs.EXAMPLES)
def test_kernels_of_debian_have_btf(name: str) -> None:
    """All since 11. pahole left out the static functions of its arm64 kernels, so that nothing shows it there."""
    shown = KernelFeatures(Btf(kernel_btfs.read(name), source=name)).is_built_with_btf
    assert shown == ("/arm64/5.10." not in name)
