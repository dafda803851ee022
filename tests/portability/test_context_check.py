"""Reads and writes of the context: where it lacks what is accessed, and through a pointer that was moved."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest

from hatch_bpf.btf import types as t
from hatch_bpf.btf.c_dump import dump_c
from hatch_bpf.btf.reader import Btf
from hatch_bpf.kernels.identity import Kernel, host
from hatch_bpf.objects.uapi import helper
from hatch_bpf.portability.context_check import CONTEXTS
from hatch_bpf.portability.verdicts import ReasonKind, Verdict
from hatch_bpf.runtime.sections import parse_section
from tests.common import c_programs, kernel_btfs, needs
from tests.common.on_kernels import KernelTypes, check_on

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


@cache
def btf_of_host() -> Btf:
    return Btf(needs.host_btf().read_bytes(), source="host")


def outcomes(source: str) -> tuple[Verdict, frozenset[ReasonKind], bool]:
    """The verdict on the running kernel, the kinds of its reasons, and whether libbpf loads the program there."""
    needs.root_bpf()
    obj = c_programs.model(PRELUDE + source)
    btf = btf_of_host()
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


UAPI = """
struct __sk_buff {
    u32 mark; u32 cb[5]; union { u64 *sk; u64 : 64; } __attribute__((aligned(8))); u64 hwtstamp, tstamp;
    u32 data, family;
};
struct xdp_md { u32 data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex; };
struct core __sk_buff___new { u64 hwtstamp; };
"""
"""Contexts as uapi/linux/bpf.h has them: without relocations."""
OLD_KERNEL = "struct __sk_buff { u32 mark; u32 cb[5]; } skb; struct xdp_buff { int rxq; } xdp;"
NEW_KERNEL = (
    "struct __sk_buff { u32 mark; u32 cb[5]; u64 *sk; u64 hwtstamp, tstamp; u32 data, family; } skb;"
    "struct xdp_buff { int rxq, txq; } xdp;"
)
WITH_A_HOLE = OLD_KERNEL.replace("u32 cb[5];", "u32 cb[2]; u64 hwtstamp;")
ACCESSES = {
    "a field": ('SEC("tc") int f(struct __sk_buff *ctx) { return ctx->hwtstamp != 0; }', "__sk_buff.hwtstamp"),
    "a pointer": ('SEC("socket") int f(struct __sk_buff *ctx) { return ctx->sk != 0; }', "__sk_buff.sk"),
    "a write": ('SEC("tc") int f(struct __sk_buff *ctx) { ctx->tstamp = 1; return 0; }', "__sk_buff.tstamp"),
    "a part": (
        'SEC("tc") int f(struct __sk_buff *ctx) { return *((volatile u8 *)&ctx->hwtstamp + 1); }',
        "__sk_buff.hwtstamp",
    ),
    "none": ('SEC("tc") int f(void *ctx) { return *(volatile u32 *)(ctx + 72); }', "byte 72 of __sk_buff"),
    "in a subprogram": (
        "static __attribute__((noinline)) int g(struct __sk_buff *ctx) { return ctx->hwtstamp != 0; }"
        ' SEC("tc") int f(struct __sk_buff *ctx) { return g(ctx); }',
        "__sk_buff.hwtstamp",
    ),
    "of xdp": ('SEC("xdp/devmap") int f(struct xdp_md *ctx) { return ctx->egress_ifindex; }', "xdp_md.egress_ifindex"),
}
NO_ACCESSES = {
    "an old field": 'SEC("tc") int f(struct __sk_buff *ctx) { return ctx->cb[4]; }',
    "an old field of xdp": 'SEC("xdp") int f(struct xdp_md *ctx) { return ctx->rx_queue_index; }',
    "behind a guard": 'SEC("tc") int f(struct __sk_buff *ctx)'
    "{ struct __sk_buff___new *new = 0; return bpf_core_field_exists(new->hwtstamp) ? ctx->hwtstamp != 0 : 0; }",
    "through another pointer": 'SEC("tc") int f(struct __sk_buff *ctx)'
    '{ struct __sk_buff here[1] = {}; asm volatile("" :: "r"(here) : "memory"); return here->hwtstamp != 0; }',
    "of a type that no struct describes": 'SEC("tp/sched/sched_switch") int f(void *ctx)'
    "{ return *(volatile u64 *)(ctx + 64); }",
}


def reasons_on(kernel: str, source: str) -> list[str]:
    """What is said of fields that the context of a program lacks, on a kernel made of some C."""
    btf = c_programs.kernel(kernel)
    (found,) = check_on([c_programs.model(UAPI + source)], [KernelTypes(host(), btf)]).kernels[0].programs
    reasons = [reason for reason in found.reasons if reason.kind is ReasonKind.CONTEXT_FIELD_MISSING]
    assert found.verdict is (Verdict.FAILS if reasons else Verdict.LOADS), found.reasons
    return [reason.what for reason in reasons]


@pytest.mark.parametrize("how", ACCESSES)
def test_a_field_that_is_newer_than_the_kernel_is_named(how: str) -> None:
    source, field = ACCESSES[how]
    (what,) = reasons_on(OLD_KERNEL, source)
    assert what == f"the program's context has no {field} on this kernel, which refuses a program that accesses it"
    assert reasons_on(NEW_KERNEL, source) == ([what] if how == "none" else [])
    assert reasons_on("int other;", source) == []


@pytest.mark.parametrize("how", NO_ACCESSES)
def test_what_accesses_no_field_that_is_newer(how: str) -> None:
    assert reasons_on(OLD_KERNEL, NO_ACCESSES[how]) == []


def test_a_hole_between_fields_is_none_of_them() -> None:
    source = 'SEC("tc") int f(void *ctx) { return *(volatile u32 *)(ctx + %d); }'
    refused = [offset for offset in (8, 12, 16, 20, 24) if reasons_on(WITH_A_HOLE, source % offset)]
    assert refused == [12, 24]


def test_a_relocated_access_is_judged_by_its_relocation() -> None:
    source = (
        'struct core __sk_buff { u64 hwtstamp; }; SEC("tc") int f(struct __sk_buff *ctx) { return !!ctx->hwtstamp; }'
    )
    for kernel, kinds in ((OLD_KERNEL, {ReasonKind.CO_RE_MISSING}), (NEW_KERNEL, set())):
        (found,) = (
            check_on([c_programs.model(source)], [KernelTypes(host(), c_programs.kernel(kernel))]).kernels[0].programs
        )
        assert {reason.kind for reason in found.reasons} == kinds


def test_the_running_kernel_agrees_on_what_its_context_lacks() -> None:
    """Right up to the end of a context, and not beyond it."""
    btf = btf_of_host()
    (type_id,) = btf.find("__sk_buff", t.Kind.STRUCT)
    size = btf.size_of(type_id)
    for offset in (size - 4, size, size + 4):
        source = f'SEC("tc") int f(void *ctx) {{ return *(volatile u32 *)(ctx + {offset}); }}'
        verdict, kinds, loads = outcomes(source)
        is_beyond = offset >= size
        assert (ReasonKind.CONTEXT_FIELD_MISSING in kinds) == is_beyond
        assert (verdict is Verdict.LOADS) == (not is_beyond)
        assert not (is_beyond and loads)


RIGHTS = {
    "data of a socket filter": (
        'SEC("socket") int f(struct __sk_buff *ctx) { return ctx->data; }',
        "read __sk_buff.data",
    ),
    "a write by a filter": (
        'SEC("socket") int f(struct __sk_buff *ctx) { ctx->mark = 1; return 0; }',
        "write __sk_buff.mark",
    ),
    "a socket of tc": ('SEC("tc") int f(struct __sk_buff *ctx) { return ctx->family; }', "read __sk_buff.family"),
    "where no packet leaves": (
        'SEC("xdp") int f(struct xdp_md *ctx) { return ctx->egress_ifindex; }',
        "read xdp_md.egress_ifindex",
    ),
    "relocated": (
        "struct core bpf_sock_ops { u32 op, mark; };"
        'SEC("sockops") int f(struct bpf_sock_ops *ctx) { ctx->mark = 1; return 1; }',
        "write bpf_sock_ops.mark",
    ),
}


@pytest.mark.parametrize("how", RIGHTS)
def test_a_field_that_is_not_for_such_programs_is_named(how: str) -> None:
    source, refused = RIGHTS[how]
    kernel = f"{NEW_KERNEL} struct bpf_sock_ops {{ u32 op, mark; }} ops;"
    obj, btf = c_programs.model(UAPI + source), c_programs.kernel(kernel)
    (found,) = check_on([obj], [KernelTypes(host(), btf)]).kernels[0].programs
    section = source.partition('SEC("')[2].partition('"')[0]
    assert [reason.what for reason in found.reasons] == [f'this kernel lets no SEC("{section}") program {refused}']


@pytest.mark.parametrize("of_cgroups", [False, True])
def test_programs_of_cgroups_read_packets_since_linux_5_0(of_cgroups: bool) -> None:
    kernel = "int sk_filter_is_valid_access(int off) { return off; } int bpf_check(int n) { return n; }"
    kernel += "int cg_skb_is_valid_access(int off) { return off; }" if of_cgroups else ""
    source = 'SEC("cgroup_skb/ingress") int f(struct __sk_buff *ctx) { return !!ctx->data; }'
    obj, btf = c_programs.model(UAPI + source), c_programs.kernel(kernel)
    (found,) = check_on([obj], [KernelTypes(host(), btf)]).kernels[0].programs
    assert (found.verdict is Verdict.LOADS) == of_cgroups


@pytest.mark.parametrize(
    ("load", "refused"),
    [
        ("u8 *)(ctx + 5)", True),
        ("u16 *)(ctx + 6)", True),
        ("u8 *)(ctx + 4)", False),
        ("u32 *)(ctx + 4)", False),
        ("u8 *)(ctx + 9)", False),
    ],
)
def test_old_kernels_let_only_the_first_bytes_of_a_field_be_read(load: str, refused: bool) -> None:
    """As bpf_ctx_narrow_align_ok() did until Linux 5.0. Of arrays, each byte may be read."""
    skb = "struct __sk_buff { u32 len, mark; u32 cb[5]; }"
    source = f'SEC("tc") int f(struct __sk_buff *ctx) {{ return *(volatile {load.replace("ctx", "(void *)ctx")}; }}'
    obj = c_programs.model(f"{skb}; {source}")
    for number in (90, 91):
        btf = c_programs.kernel(f"{skb} skb; enum bpf_func_id {{ BPF_FUNC_unspec, BPF_FUNC_last = {number} }} id;")
        (found,) = check_on([obj], [KernelTypes(host(), btf)]).kernels[0].programs
        is_refused = refused and number < helper("msg_pop_data")
        assert [reason.kind for reason in found.reasons] == [ReasonKind.CONTEXT_FIELD_REFUSED] * is_refused


@pytest.mark.parametrize(
    ("kernel", "source", "refused"),
    [
        ("int other;", 'SEC("flow_dissector") int f(struct __sk_buff *ctx) { return ctx->mark; }', False),
        (
            "struct bpf_flow_dissector { int n; } other;",
            'SEC("flow_dissector") int f(struct __sk_buff *ctx) { return ctx->mark; }',
            True,
        ),
        (
            "struct bpf_verifier_state { int active_spin_lock; } other;",
            'SEC("tc") int f(struct __sk_buff *ctx) { ctx->queue_mapping = 1; return 0; }',
            False,
        ),
        (
            "struct bpf_verifier_state { int curframe; } other;",
            'SEC("tc") int f(struct __sk_buff *ctx) { ctx->queue_mapping = 1; return 0; }',
            True,
        ),
    ],
)
def test_rights_that_came_and_went(kernel: str, source: str, refused: bool) -> None:
    obj, btf = c_programs.model("struct __sk_buff { u32 mark, queue_mapping; };" + source), c_programs.kernel(kernel)
    (found,) = check_on([obj], [KernelTypes(host(), btf)]).kernels[0].programs
    assert (ReasonKind.CONTEXT_FIELD_REFUSED in {reason.kind for reason in found.reasons}) == refused


_HOOKS = ("bind", "connect", "sendmsg", "recvmsg", "getpeername", "getsockname")
SECTIONS = (
    "socket", "tc", "action", "cgroup_skb/ingress", "sk_skb/stream_parser", "flow_dissector", "lwt_in", "lwt_out",
    "lwt_xmit", "lwt_seg6local", "xdp", "xdp/devmap", "xdp/cpumap", "sockops", "perf_event", "kprobe/vfs_read",
    "sk_msg", "sk_lookup", "sk_reuseport", "cgroup/dev", "cgroup/sysctl", "cgroup/getsockopt", "cgroup/setsockopt",
    "cgroup/sock_create", "cgroup/sock_release", "cgroup/post_bind4", "cgroup/post_bind6",
    *(f"cgroup/{hook}{version}" for hook in _HOOKS for version in (4, 6)),
)  # fmt: skip
"""One of each kind of program whose context has rights of its own."""


@pytest.mark.parametrize("section", SECTIONS)
def test_the_running_kernel_refuses_what_is_said_to_be_no_right(section: str) -> None:
    """Each field of the kernel's own struct is read and written; and hardly anything else is refused."""
    needs.root_bpf()
    btf = btf_of_host()
    parsed = parse_section(section)
    assert parsed is not None
    (type_id,) = btf.find(CONTEXTS[parsed.program_type], t.Kind.STRUCT)
    source = dump_c(btf, [type_id])
    for name, offset, size in _fields(btf, type_id):
        word = {1: "u8", 2: "u16", 4: "u32", 8: "u64"}[size]
        for what, code in (("read", f"r2 = *({word} *)(%0 + {offset})"), ("write", f"*({word} *)(%0 + {offset}) = r2")):
            body = f'asm volatile("r2 = 0; {code}" :: "r"(ctx) : "r2", "memory"); return 1;'
            source += f'SEC("{section}") int {what}_{name}(struct {CONTEXTS[parsed.program_type]} *ctx) {{ {body} }}\n'
    obj = c_programs.model(source)
    said = {
        found.program
        for found in check_on([obj], [KernelTypes(host(), btf)]).kernels[0].programs
        if ReasonKind.CONTEXT_FIELD_REFUSED in {reason.kind for reason in found.reasons}
    }
    tried = needs.libbpf().load_each(obj.elf)
    refused = {loaded.program for loaded in tried if loaded.error and "invalid bpf_context access" in loaded.log}
    assert said <= refused
    # a program on a network card may write a field, so nothing is said of that
    assert said == refused or section.startswith("xdp")


def _fields(btf: Btf, type_id: int) -> Iterator[tuple[str, int, int]]:
    """Name, offset and size of a struct's fields; of an anonymous union its first, of an array the first element."""
    struct = btf[type_id]
    assert isinstance(struct, t.Struct)
    for member in struct.members:
        name, (_, found), size = member.name, btf.resolve(member.type_id), btf.size_of(member.type_id)
        if isinstance(found, t.Union) and not name:
            name, (_, found) = found.members[0].name, btf.resolve(found.members[0].type_id)
        if isinstance(found, t.Array):
            size = btf.size_of(found.type_id)
        yield name, member.bit_offset // 8, 8 if isinstance(found, t.Struct) else size


def test_the_running_kernel_agrees_on_global_functions() -> None:
    """They are checked alone, with the context that they take."""
    (type_id,) = btf_of_host().find("__sk_buff", t.Kind.STRUCT)
    for offset in (0, btf_of_host().size_of(type_id)):
        verdict, kinds, loads = outcomes(
            "__attribute__((noinline)) int g(struct __sk_buff *ctx, int n)"
            f"{{ return *(volatile u32 *)((char *)ctx + {offset}) + n; }}"
            'SEC("tc") int f(struct __sk_buff *ctx) { return g(ctx, 1); }'
        )
        assert (ReasonKind.CONTEXT_FIELD_MISSING in kinds) == bool(offset)
        assert (verdict is Verdict.LOADS) == (not offset)
        assert loads == (not offset)


OUTSIDE = {
    "the fields that all tracepoints have": 'SEC("tp/sched/sched_switch") int f(int *ctx) { return ctx[0]; }',
    "a write to a tracepoint's": STATE + "{ ctx->newstate = 1; return 0; }",
    "behind a raw tracepoint's arguments": 'SEC("raw_tp/sched_switch") int f(u64 *ctx) { return ctx[12]; }',
    "a write to a raw tracepoint's": 'SEC("raw_tp/sched_switch") int f(u64 *ctx) { ctx[0] = 1; return 0; }',
    "a write to registers": 'SEC("kprobe/vfs_read") int f(u64 *ctx) { ctx[3] = 1; return 0; }',
}
"""Parts of contexts that no kernel lets a program access, whatever the object calls them."""
INSIDE = {
    "the first field of a tracepoint's own": STATE + "{ return ctx->oldstate; }",
    "the last of a raw tracepoint's arguments": 'SEC("raw_tp/sched_switch") int f(u64 *ctx) { return ctx[11]; }',
    "a register": 'SEC("kprobe/vfs_read") int f(u64 *ctx) { return ctx[3]; }',
}


@pytest.mark.parametrize("how", OUTSIDE)
def test_contexts_without_a_struct_have_bounds(how: str) -> None:
    verdict, kinds, loaded = outcomes(OUTSIDE[how])
    assert (verdict, loaded) == (Verdict.FAILS, False)
    assert ReasonKind.CONTEXT_FIELD_REFUSED in kinds


@pytest.mark.parametrize("how", INSIDE)
def test_what_is_within_their_bounds(how: str) -> None:
    verdict, kinds, loaded = outcomes(INSIDE[how])
    assert (verdict, loaded) == (Verdict.LOADS, True)
    assert ReasonKind.CONTEXT_FIELD_REFUSED not in kinds
