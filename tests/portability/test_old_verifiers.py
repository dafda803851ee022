"""What verifiers before Linux 5.12 refuse of maps and of the stack, by the signs of their age in BTF.

What is expected is what kernels said that were built from the sources of 4.15, 4.18, 5.4 and 5.8.
"""

from __future__ import annotations

import pytest

from hatch_bpf.btf.reader import Btf
from hatch_bpf.kernels.identity import host
from hatch_bpf.portability.verdicts import ProgramVerdict, ReasonKind, Verdict
from tests.common import c_programs
from tests.common.btf_builder import RawBtf
from tests.common.on_kernels import KernelTypes, check_on

HELPERS = {
    "map_lookup_elem": 1, "map_update_elem": 2, "map_delete_elem": 3, "probe_read": 4, "get_prandom_u32": 7,
    "perf_event_output": 25, "skb_load_bytes": 26,
}  # fmt: skip
SINCE = {
    (4, 18): {"get_stack": 67},
    (5, 0): {"msg_pop_data": 91},
    (5, 8): {"ringbuf_reserve": 131, "ringbuf_submit": 132},
    (5, 12): {"check_mtu": 163},
}
"""Helpers that came with a Linux."""
PRELUDE = """
static void *(*lookup)(void *, void *) = (void *)1;
static int (*update)(void *, void *, void *, u64) = (void *)2;
static int (*delete)(void *, void *) = (void *)3;
static int (*probe_read)(void *, u32, void *) = (void *)4;
static int (*random)(void) = (void *)7;
struct { int (*type)[1]; u64 *key; u64 *value; int (*max_entries)[8]; } hash SEC(".maps");
static __attribute__((noinline)) int find(u64 *key) { return lookup(&hash, key) != 0; }
static __attribute__((noinline)) char at(char *text, u32 n) { return text[n & 15]; }
static int (*output)(void *, void *, u64, void *, u64) = (void *)25;
static int (*load_bytes)(void *, u32, void *, u32) = (void *)26;
static int (*get_stack)(void *, void *, u32, u64) = (void *)67;
static void *(*reserve)(void *, u64, u64) = (void *)131;
static void (*submit)(void *, u64) = (void *)132;
struct { int (*type)[4]; u32 *key; u32 *value; } events SEC(".maps");
static __attribute__((noinline)) void fill(u64 *key) { *key = random(); }
struct pt_regs { u64 r15; };
"""


def kernel(*version: int) -> KernelTypes:
    btf = RawBtf()
    number = btf.integer()
    helpers = HELPERS | {name: n for since, new in SINCE.items() if since <= version for name, n in new.items()}
    btf.enum("bpf_func_id", **{f"BPF_FUNC_{name}": n for name, n in helpers.items()})
    btf.enum("bpf_prog_type", BPF_PROG_TYPE_SOCKET_FILTER=1, BPF_PROG_TYPE_KPROBE=2, BPF_PROG_TYPE_RAW_TRACEPOINT=17)
    btf.enum("bpf_map_type", BPF_MAP_TYPE_HASH=1, BPF_MAP_TYPE_PERF_EVENT_ARRAY=4, BPF_MAP_TYPE_RINGBUF=27)
    members = ["map_alloc", *["map_direct_value_addr"] * (version >= (5, 2))]
    btf.struct("bpf_map_ops", 8, *((name, number, 32 * at) for at, name in enumerate(members)))
    members = ["func_cnt", *["sleepable"] * (version >= (5, 10))]
    btf.struct("bpf_prog_aux", 8, *((name, number, 32 * at) for at, name in enumerate(members)))
    return KernelTypes(host(), Btf(btf.build(), source="test"))


def verdict(body: str, on: KernelTypes, section: str = "kprobe/do_nanosleep") -> ProgramVerdict:
    source = PRELUDE + f'SEC("{section}") int p(struct pt_regs *ctx) {{ {body} }}'
    (found,) = check_on([c_programs.model(source, cpu="v2")], [on]).kernels[0].programs
    return found


def kinds(body: str, on: KernelTypes) -> list[ReasonKind]:
    return [reason.kind for reason in verdict(body, on).reasons]


VALUE = "u64 k = 0, *v = lookup(&hash, &k); if (!v) return 0; "
PASSED_ON = {
    "a key": VALUE + "return lookup(&hash, v) != 0;",
    "a value": VALUE + "return update(&hash, &k, v, 0);",
    "to delete": VALUE + "return delete(&hash, v);",
    "a part": VALUE + "return delete(&hash, (char *)v + (random() & 3));",
    "by a function": VALUE + "return find(v);",
    "the second of two": VALUE
    + "if (random() & 1) { k = 2; v = lookup(&hash, &k); if (!v) return 0; } return find(v);",
}
KEPT = {
    "copied": VALUE + "k = *v; return lookup(&hash, &k) != 0;",
    "read into": VALUE + "return probe_read(v, 8, 0);",
    "on the stack": "u64 k = random(), v = 1; return update(&hash, &k, &v, 0);",
}


@pytest.mark.parametrize("how", PASSED_ON)
def test_map_values_passed_on(how: str) -> None:
    """`R2 type=map_value expected=fp`"""
    found = verdict(PASSED_ON[how], kernel(4, 15))
    assert found.verdict is Verdict.FAILS
    assert {reason.kind for reason in found.reasons} == {ReasonKind.MAP_VALUE}
    assert verdict(PASSED_ON[how], kernel(4, 18)).verdict is Verdict.LOADS


@pytest.mark.parametrize("how", KEPT)
def test_map_values_where_every_kernel_takes_them(how: str) -> None:
    assert verdict(KEPT[how], kernel(4, 15)).verdict is Verdict.LOADS


BUFFER = 'char b[16] = {}; u32 n = random(); asm volatile("" :: "r"(b) : "memory"); '
SEEN = 'asm volatile("" :: "r"(b) : "memory"); '
VARIABLE = {
    "a store": BUFFER + "b[n & 15] = 1; " + SEEN + "return 0;",
    "a load": BUFFER + "return b[n & 15];",
    "behind a comparison": BUFFER + "if (n < 16) return b[n]; return 0;",
    "what two comparisons leave": BUFFER + 'n &= 7; asm volatile("" : "+r"(n)); if (n > 3) return b[n]; return 0;',
    "of the context": BUFFER + "return b[ctx->r15 & 15];",
    "by a function": BUFFER + "return at(b, n);",
    "what a helper returned": BUFFER + "long m = probe_read(b, 16, 0); if (m < 0 || m > 15) return 0; return b[m];",
    "what a helper wrote": BUFFER + "probe_read(&n, 4, 0); return b[n & 15];",
}
FIXED = {
    "a constant": BUFFER + "return b[3];",
    "one of two constants": BUFFER + "return n & 1 ? b[3] : b[5];",
    "the one that is left": BUFFER + "if (n != 3) return 0; return b[n];",
    "a loop that is unrolled": BUFFER
    + "int s = 0;\n#pragma unroll\nfor (int i = 0; i < 16; i++) s += b[i];\nreturn s;",
    "0, masked": BUFFER + "return b[(n & 15) >> 4];",
    "in a map": "u64 k = 0; char *v = lookup(&hash, &k); if (!v) return 0; return v[random() & 7];",
}


@pytest.mark.parametrize("how", VARIABLE)
def test_the_stack_at_variable_offsets(how: str) -> None:
    """`variable stack access var_off=(0x0; 0xf)`"""
    for version in ((4, 15), (4, 18), (5, 2), (5, 11)):
        found = verdict(VARIABLE[how], kernel(*version))
        assert (found.verdict, found.reasons[0].kind) == (Verdict.FAILS, ReasonKind.VARIABLE_STACK), version
    assert verdict(VARIABLE[how], kernel(5, 12)).verdict is Verdict.LOADS


@pytest.mark.parametrize("how", FIXED)
def test_the_stack_at_fixed_offsets(how: str) -> None:
    assert ReasonKind.VARIABLE_STACK not in kinds(FIXED[how], kernel(4, 15))


def test_helpers_took_variable_offsets_before_programs_did() -> None:
    """`invalid variable stack read R1 var_off=(0x0; 0x8)`"""
    body = BUFFER + "return probe_read(b + (n & 8), 8, 0);"
    assert kinds(body, kernel(4, 18)) == [ReasonKind.VARIABLE_STACK]
    assert verdict(body, kernel(5, 2)).verdict is Verdict.LOADS


UNWRITTEN = {
    "the padding of a key": "struct { u32 a; u64 b; } k; k.a = k.b = 1; return output(ctx, &events, 0, &k, 16);",
    "a key": 'u64 k; asm volatile("" :: "r"(&k)); return lookup(&hash, &k) != 0;',
    "a value": 'u64 k = 1, v; asm volatile("" : "=r"(k)); return update(&hash, &k, &v, 0);',
    "what is filled in part": "char b[64]; return probe_read(b, ctx->r15 & 63, 0);",
    "what is read in part": "char b[64]; return output(ctx, &events, 0, b, (random() & 7) + 1);",
    "on one way": "u64 k; if (random() & 1) k = 1; return lookup(&hash, &k) != 0;",
    "half of a number": 'u64 k; u32 *h = (u32 *)&k; *h = 1; asm volatile("" :: "r"(h) : "memory"); return k;',
    "where a lookup found nothing": "u64 k, n = 0; if (lookup(&hash, &n)) k = 1; return lookup(&hash, &k) != 0;",
}
WRITTEN = {
    "padding": "struct { u32 a; u64 b; } k = {}; k.a = k.b = 1; return output(ctx, &events, 0, &k, 16);",
    "by a function": "u64 k; fill(&k); return lookup(&hash, &k) != 0;",
    "by a helper": "u64 k; probe_read(&k, 8, 0); return lookup(&hash, &k) != 0;",
    "by helpers": "u64 k; probe_read(&k, 3, 0); probe_read((char *)&k + 3, 5, 0); return lookup(&hash, &k) != 0;",
    "in part by a helper": "char b[64] = {}; return probe_read(b, ctx->r15 & 63, 0);",
    "through a pointer to one of two": (
        "u64 a = 0, b = 0, *k = random() & 1 ? &a : &b; "
        'asm volatile("" : "+r"(k)); *k = 1; return lookup(&hash, k) != 0;'
    ),
    "through a pointer that is kept on the stack": (
        "u64 k, n = 0, *volatile p = &k; lookup(&hash, &n); probe_read(&n, 8, 0); *p = 1; return lookup(&hash, p) != 0;"
    ),
    "in a loop": (
        "u64 b[32]; int i = 0;\n#pragma clang loop unroll(disable)\nfor (i = 0; i < 32; i++) b[i] = random();\n"
        "return output(ctx, &events, 0, b, sizeof(b));"
    ),
    "where a flag says so": (
        "u64 k; int ok = 0; if (random() & 1) { k = 1; ok = 1; } random(); return ok && lookup(&hash, &k);"
    ),
    "where a pointer says so": (
        "u64 k, n = 0, *v = lookup(&hash, &n); if (v) k = *v; random(); if (v) return lookup(&hash, &k) != 0; return 0;"
    ),
    "as far as it is read": "char b[64]; b[0] = b[1] = 1; return output(ctx, &events, 0, b, 2);",
}


@pytest.mark.parametrize("how", UNWRITTEN)
def test_stack_that_was_never_written(how: str) -> None:
    """`invalid indirect read from stack off -16+4 size 16`"""
    for version in ((4, 15), (4, 18), (5, 11)):
        found = verdict(UNWRITTEN[how], kernel(*version))
        assert (found.verdict, found.reasons[0].kind) == (Verdict.FAILS, ReasonKind.UNWRITTEN_STACK), version


@pytest.mark.parametrize("how", WRITTEN)
def test_stack_that_was_written(how: str) -> None:
    for version in ((4, 18), (5, 11)):
        assert ReasonKind.UNWRITTEN_STACK not in kinds(WRITTEN[how], kernel(*version))


@pytest.mark.parametrize(
    ("size", "is_refused"),
    [("0", True), ("random() & 7", True), ("(random() & 7) + 1", False), ("8", False)],
)
def test_buffers_that_may_be_empty(size: str, is_refused: bool) -> None:
    """`invalid stack type R3 off=-64 access_size=0`"""
    body = f"char b[8] = {{}}; u32 n = random(); if (!n) return 0; return load_bytes(ctx, 0, b, {size});"
    assert (kinds(body, kernel(5, 11)) == [ReasonKind.EMPTY_BUFFER]) == is_refused


BEYOND = {
    "a key": "u32 k = 1; return lookup(&hash, &k) != 0;",
    "a buffer": "char b[8] = {}; u32 n = random(); if (!n) return 0; return load_bytes(ctx, 0, b, n & 15);",
}


@pytest.mark.parametrize("how", BEYOND)
def test_memory_that_ends_beyond_the_stack(how: str) -> None:
    """`invalid stack type R4 off=-8 access_size=15`"""
    assert ReasonKind.BEYOND_STACK in kinds(BEYOND[how], kernel(5, 11))


@pytest.mark.parametrize(
    "body", ["return lookup(&hash, ctx) != 0;", "return output(ctx, &events, 0, &ctx->r15, 8);"], ids=["key", "buffer"]
)
def test_the_context_as_memory_of_a_helper(body: str) -> None:
    """`R2 type=ctx expected=fp`"""
    found = verdict(body, kernel(5, 11))
    assert (found.verdict, [reason.kind for reason in found.reasons]) == (Verdict.FAILS, [ReasonKind.CONTEXT_PASSED])


def test_stacks_are_read_into_what_raw_tracepoints_have_written() -> None:
    """`invalid indirect read from stack off -64+0 size 64`: only their bpf_get_stack() is one that reads its buffer."""
    body = "char b[64]; return get_stack(ctx, b, 64, 0);"
    for section, is_read in (("kprobe/do_nanosleep", False), ("raw_tp/sched_switch", True)):
        for source, is_refused in ((body, is_read), (body.replace("b[64];", "b[64] = {};"), False)):
            kinds = [reason.kind for reason in verdict(source, kernel(5, 4), section).reasons]
            assert (ReasonKind.UNWRITTEN_STACK in kinds) == is_refused


RING = 'struct { int (*type)[27]; int (*max_entries)[4096]; } ring SEC(".maps");'
RESERVED = "u64 *e = reserve(&ring, 8, 0); if (!e) return 0; *e = 1; "


@pytest.mark.parametrize(
    ("body", "is_lost"),
    [
        (RESERVED + "submit(e, 0); return 0;", False),
        (RESERVED + "u64 *volatile kept = e; e = kept; *e = 2; submit(e, 0); return 0;", True),
        (RESERVED + "u64 *volatile kept = e; submit(kept, 0); return 0;", True),
        (RESERVED + "u64 *volatile kept = e; submit(e, 0); return kept != 0;", False),
    ],
)
def test_reserved_space_whose_address_is_kept_on_the_stack(body: str, is_lost: bool) -> None:
    """`R1 invalid mem access 'inv'`"""
    source = PRELUDE + RING + f'SEC("kprobe/do_nanosleep") int p(struct pt_regs *ctx) {{ {body} }}'
    for version in ((5, 8), (5, 10)):
        (found,) = check_on([c_programs.model(source, cpu="v2")], [kernel(*version)]).kernels[0].programs
        lost = is_lost and version == (5, 8)
        assert {reason.kind for reason in found.reasons} == ({ReasonKind.LOST_POINTER} if lost else set()), version


def test_what_is_not_reached_does_not_count() -> None:
    guarded = "struct core task_struct { int hatch_bpf_never; };"
    body = BUFFER + "if (bpf_core_field_exists(((struct task_struct *)0)->hatch_bpf_never)) return b[n & 15]; return 0;"
    source = guarded + PRELUDE + f'SEC("kprobe/do_nanosleep") int p(struct pt_regs *ctx) {{ {body} }}'
    (found,) = check_on([c_programs.model(source, cpu="v2")], [kernel(5, 11)]).kernels[0].programs
    assert ReasonKind.VARIABLE_STACK not in [reason.kind for reason in found.reasons]


def test_arithmetic_shifts_of_32_bits() -> None:
    """`BPF_ARSH not supported for 32 bit ALU`"""
    body = 'int n = random(); asm volatile("r0 = %0; w0 s>>= 3; %0 = r0" : "+r"(n) :: "r0"); return n;'
    assert kinds(body, kernel(4, 18)) == [ReasonKind.INSN_MISSING]
    assert verdict(body, kernel(5, 0)).verdict is Verdict.LOADS


def test_messages() -> None:
    (reason,) = verdict(PASSED_ON["a key"], kernel(4, 15)).reasons
    assert reason.message == (
        "a helper is given a key or value that is in the value of a map, and this kernel takes none from there: "
        "copy it to a variable on the stack"
    )
    (reason,) = verdict(UNWRITTEN["a key"], kernel(4, 18)).reasons
    assert reason.message == (
        "bytes of the stack are read that were never written, such as padding or a buffer of which a helper may fill a "
        'part, and this kernel refuses that ("invalid indirect read from stack"): initialize the whole variable, with '
        "its padding: __builtin_memset(&variable, 0, sizeof(variable))"
    )
    (reason,) = verdict(VARIABLE["a load"], kernel(4, 18)).reasons
    assert reason.message == (
        "the program accesses its stack at an offset that varies, and this kernel takes fixed offsets only: "
        "keep the buffer in a map of one element, such as a per-CPU array"
    )
