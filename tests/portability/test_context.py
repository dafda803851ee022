"""Reads and writes of the context through a pointer that was moved, as the running kernel's verifier judges them."""

from __future__ import annotations

import pytest

from hatch_bpf.btf.reader import Btf
from hatch_bpf.kernels.identity import Kernel, host
from hatch_bpf.portability.object_check import KernelTypes, check_on
from hatch_bpf.portability.verdicts import ReasonKind, Verdict
from tests.common import c_programs, kernel_btfs, needs

PRELUDE = """
struct core trace_entry { unsigned short type; };
struct core trace_event_raw_inet_sock_set_state {
    struct trace_entry ent; int oldstate; int newstate; u8 saddr[4]; u8 saddr_v6[16];
};
struct core trace_event_raw_sys_enter { struct trace_entry ent; long id; unsigned long args[6]; };
struct core __sk_buff { u32 mark; u32 cb[5]; };
static long (*probe_read_kernel)(void *, u32, const void *) = (void *)113;
u8 copy[16]; long sum;
"""
STATE = 'SEC("tp/sock/inet_sock_set_state") int f(struct trace_event_raw_inet_sock_set_state *ctx)'
ENTER = 'SEC("tp/syscalls/sys_enter_openat") int f(struct trace_event_raw_sys_enter *ctx)'
SKB = 'SEC("tc") int f(struct __sk_buff *ctx)'
MOVED = {
    "memcpy()": STATE + "{ __builtin_memcpy(copy, ctx->saddr_v6, 16); return 0; }",
    "a loop that is unrolled": ENTER + "{ for (int i = 0; i < 6; i++) sum += ctx->args[i]; return 0; }",
    "a write": SKB + "{ for (int i = 0; i < 5; i++) ctx->cb[i] = i; return 0; }",
    "behind a branch": STATE + "{ if (ctx->newstate == 7) __builtin_memcpy(copy, ctx->saddr_v6, 16); return 0; }",
    "kept on the stack": STATE
    + "{ volatile void *kept = ctx; struct trace_event_raw_inet_sock_set_state *again = (void *)kept;"
    + " __builtin_memcpy(copy, again->saddr_v6, 16); return 0; }",
    "in a subprogram": "static __attribute__((noinline)) int g(struct trace_event_raw_inet_sock_set_state *ctx)"
    + "{ __builtin_memcpy(copy, ctx->saddr_v6, 16); return copy[3]; }"
    + STATE
    + "{ return g(ctx); }",
    "by hand": 'SEC("raw_tp/sched_switch") int f(void *ctx)'
    + '{ asm volatile("%0 += 8; %0 = *(u64 *)(%0 + 0)" : "+r"(ctx)); return (long)ctx; }',
}
NOT_MOVED = {
    "a field": STATE + "{ sum = ctx->newstate; return 0; }",
    "an element": STATE + "{ sum = ctx->saddr[1]; return 0; }",
    "by a helper": STATE + "{ probe_read_kernel(copy, 16, ctx->saddr_v6); return 0; }",
    "moved and back": 'SEC("raw_tp/sched_switch") int f(void *ctx)'
    + '{ asm volatile("%0 += 8; %0 += -8; %0 = *(u64 *)(%0 + 8)" : "+r"(ctx)); return (long)ctx; }',
    "in dead code": STATE + '{ asm volatile("r1 = 0; if r1 == 0 goto +2; %0 += 8; r1 = *(u64 *)(%0 + 0)"'
    ' :: "r"(ctx) : "r1"); return 0; }',
}


def outcomes(source: str) -> tuple[Verdict, frozenset[ReasonKind], bool]:
    """The verdict on the running kernel, the kinds of its reasons, and whether libbpf loads the program there."""
    needs.root_bpf()
    obj = c_programs.model(PRELUDE + source)
    btf = Btf(needs.host_btf().read_bytes(), source="host")
    (found,) = check_on([obj], [KernelTypes(host(), btf)]).kernels[0].programs
    (loaded,) = needs.libbpf().load_each(obj.elf)
    return found.verdict, frozenset(reason.kind for reason in found.reasons), not loaded.error


@pytest.mark.parametrize("how", MOVED)
def test_the_context_is_not_read_through_a_pointer_that_was_moved(how: str) -> None:
    verdict, kinds, loads = outcomes(MOVED[how])
    assert (verdict, loads) == (Verdict.FAILS, False)
    assert ReasonKind.CONTEXT_MOVED in kinds


@pytest.mark.parametrize("how", NOT_MOVED)
def test_what_is_like_it_and_loads(how: str) -> None:
    assert outcomes(NOT_MOVED[how]) == (Verdict.LOADS, frozenset(), True)


@pytest.mark.parametrize("kernel", kernel_btfs.EXAMPLES)
def test_it_fails_on_all_kernels_with_a_remedy(kernel: str) -> None:
    obj = c_programs.model(PRELUDE + MOVED["memcpy()"])
    btf = Btf(kernel_btfs.read(kernel), source=kernel)
    (found,) = check_on([obj], [KernelTypes(Kernel.parse(kernel), btf)]).kernels[0].programs
    assert found.verdict is Verdict.FAILS
    (reason,) = (reason for reason in found.reasons if reason.kind is ReasonKind.CONTEXT_MOVED)
    assert reason.on_any_kernel
    assert "bpf_probe_read_kernel()" in reason.remedy


def test_a_condition_names_what_decides() -> None:
    source = (
        f"volatile const int deep = 0; {STATE} {{ if (deep) __builtin_memcpy(copy, ctx->saddr_v6, 16); return 0; }}"
    )
    verdict, kinds, loads = outcomes(source)
    assert (verdict, loads) == (Verdict.CONDITIONAL, True)
    assert ReasonKind.CONTEXT_MOVED in kinds
