"""What kernels want of a program's own functions, and of locks and timers in its maps: as the running kernel says."""

from __future__ import annotations

import pytest

from hatch_bpf.btf.reader import Btf
from hatch_bpf.portability.kernel_features import KernelFeatures
from hatch_bpf.portability.verdicts import ReasonKind, Verdict
from hatch_bpf.support.own_libbpf import own_library
from tests.common import c_programs, needs
from tests.common.libbpf_load import Libbpf
from tests.portability.test_libbpf_rules import PRELUDE, loads, verdict_on_host

SEVEN_DEEP = """
#define F(n, m) static noinline int g##n(int x) { volatile int a = x; return g##m(a) + 1; }
static noinline int g0(int x) { volatile int a = x; return a; }
F(1, 0) F(2, 1) F(3, 2) F(4, 3) F(5, 4) F(6, 5)
"""
ROUND = """
static noinline int g(int x);
static noinline int h(int x) { asm volatile(""); return g(x) + 1; }
static noinline int g(int x) { asm volatile(""); return x > 3 ? h(x - 1) : x; }
"""
NEVER = "struct core task_struct___n { int hatch_bpf_never; };"
GUARDED = "if (bpf_core_field_exists(((struct task_struct___n *)0)->hatch_bpf_never))"
LOCK = """
struct bpf_spin_lock { u32 val; };
struct bpf_timer { u64 opaque[2]; } __attribute__((aligned(8)));
struct locked { struct bpf_spin_lock lock; int count; };
struct timed { struct bpf_timer timer; };
struct index { int i; };
static void (*spin_lock)(struct bpf_spin_lock *) = (void *)93;
static void (*spin_unlock)(struct bpf_spin_lock *) = (void *)94;
static long (*timer_init)(struct bpf_timer *, void *, u64) = (void *)169;
"""
USES_LOCK = """{ int key = 0; struct locked *v = lookup(&m, &key);
    if (v) { spin_lock(&v->lock); v->count++; spin_unlock(&v->lock); } return 0; }"""
USES_TIMER = "{ int key = 0; struct timed *v = lookup(&m, &key); if (v) timer_init(&v->timer, &m, 1); return 0; }"
ARRAY = "__uint(type, 2); __uint(max_entries, 1);"

FAILS = {
    "a call through a pointer": (
        'int (*called)(int); SEC("xdp") int f(void *ctx) { return called(1); }',
        ReasonKind.INSN_MISSING,
    ),
    "one that is guarded": (
        NEVER + 'int (*called)(int); SEC("xdp") int f(void *ctx) { ' + GUARDED + " return called(1); return 2; }",
        ReasonKind.INSN_MISSING,
    ),
    "nine functions deep": (
        SEVEN_DEEP + 'F(7, 6) SEC("xdp") int f(u32 *ctx) { return g7(ctx[4]); }',
        ReasonKind.CALL_DEPTH,
    ),
    "functions in a circle": (ROUND + 'SEC("xdp") int f(u32 *ctx) { return g(ctx[4]); }', ReasonKind.CALL_DEPTH),
    "a circle that is not entered": (
        ROUND + NEVER + 'SEC("xdp") int f(u32 *ctx) { ' + GUARDED + " return g(ctx[4]); return 2; }",
        ReasonKind.CALL_DEPTH,
    ),
    "no return value": ('int n; SEC("xdp") void f(u32 *ctx) { n = ctx[4]; }', ReasonKind.RETURN_VALUE),
    "a global function that returns nothing": (
        'noinline void g(int *x) { if (x) *x = 1; } SEC("xdp") int f(void *ctx) { int a = 0; g(&a); return a; }',
        ReasonKind.GLOBAL_FUNCTION,
    ),
    "a global function that returns a pointer": (
        'int n; noinline int *g(int i) { return i ? &n : 0; } SEC("xdp") int f(u32 *ctx) { return g(ctx[4]) != 0; }',
        ReasonKind.GLOBAL_FUNCTION,
    ),
    "a global function that takes anything": (
        'noinline int g(void *x) { return x != 0; } SEC("xdp") int f(void *ctx) { int a = 0; return g(&a); }',
        ReasonKind.GLOBAL_FUNCTION,
    ),
    "two cgroup storages": (
        "struct key { u64 id; u32 type; };"
        'struct { __uint(type, 19); __type(key, struct key); __type(value, int); } m SEC(".maps"), n SEC(".maps");'
        "static int *(*storage)(void *, u64) = (void *)81;"
        'SEC("cgroup_skb/ingress") int f(void *ctx) { return *storage(&m, 0) + *storage(&n, 0) ? 1 : 0; }',
        ReasonKind.MAP_REFUSED,
    ),
    "a lock where keys are no int": (
        LOCK
        + f'MAP({ARRAY} __type(key, struct index); __type(value, struct locked);); SEC("tc") int f(void *ctx)'
        + USES_LOCK,
        ReasonKind.MAP_FIELD,
    ),
    "a lock in values without a type": (
        LOCK + f'MAP({ARRAY} __type(key, int); __uint(value_size, 8);); SEC("tc") int f(void *ctx)' + USES_LOCK,
        ReasonKind.MAP_FIELD,
    ),
    "a lock in an LRU hash": (
        LOCK + "MAP(__uint(type, 9); __uint(max_entries, 1); __type(key, int); __type(value, struct locked););"
        ' SEC("tc") int f(void *ctx)' + USES_LOCK,
        ReasonKind.MAP_FIELD,
    ),
    "a timer for each CPU": (
        LOCK + "MAP(__uint(type, 6); __uint(max_entries, 1); __type(key, int); __type(value, struct timed););"
        ' SEC("tc") int f(void *ctx)' + USES_TIMER,
        ReasonKind.MAP_FIELD,
    ),
    "a lock in a kprobe's map": (
        LOCK + f"MAP({ARRAY} __type(key, int); __type(value, struct locked););"
        ' SEC("kprobe/vfs_read") int f(void *ctx) { int key = 0; return lookup(&m, &key) != 0; }',
        ReasonKind.MAP_FIELD,
    ),
    "a lock in a socket filter's map": (
        LOCK + f"MAP({ARRAY} __type(key, int); __type(value, struct locked););"
        ' SEC("socket") int f(void *ctx) { int key = 0; return lookup(&m, &key) != 0; }',
        ReasonKind.MAP_FIELD,
    ),
    "a timer in a tracepoint's map": (
        LOCK + f"MAP({ARRAY} __type(key, int); __type(value, struct timed););"
        ' SEC("tp/sched/sched_switch") int f(void *ctx) { int key = 0; return lookup(&m, &key) != 0; }',
        ReasonKind.MAP_FIELD,
    ),
    "a trie in a program that may sleep": (
        "MAP(__uint(type, 11); __uint(max_entries, 1); __type(key, long); __type(value, int); __uint(map_flags, 1););"
        ' SEC("syscall") int f(void *ctx) { long key = 0; return lookup(&m, &key) != 0; }',
        ReasonKind.SLEEPABLE,
    ),
    "a perf buffer in a program that may sleep": (
        "MAP(__uint(type, 4); __uint(key_size, 4); __uint(value_size, 4););"
        "static long (*output)(void *, void *, u64, void *, u64) = (void *)25;"
        ' SEC("uprobe.s") int f(void *ctx) { int x = 0; return output(ctx, &m, 0xffffffff, &x, 4); }',
        ReasonKind.SLEEPABLE,
    ),
    "sleep where it may not": (
        "static long (*copy)(void *, u32, void *) = (void *)148;"
        ' SEC("kprobe/vfs_read") int f(void *ctx) { int x; return copy(&x, 4, ctx); }',
        ReasonKind.SLEEPABLE,
    ),
    "a callback that is global": (
        "noinline int each(u32 i, void *c) { return 0; } static long (*loop)(u32, void *, void *, u64) = (void *)181;"
        ' SEC("tc") int f(void *ctx) { return loop(10, each, 0, 0); }',
        ReasonKind.GLOBAL_FUNCTION,
    ),
    "programs of two types in one array": (
        'SEC("tc") int g(void *ctx) { return 0; } SEC("xdp") int f(void *ctx) { return 2; }'
        " struct { __uint(type, 3); __uint(max_entries, 2); __uint(key_size, 4); __array(values, int (void *)); }"
        ' m SEC(".maps") = { .values = { (void *)&g, (void *)&f } };',
        ReasonKind.LIBBPF_REFUSES,
    ),
}
LOADS = {
    "maps of a program that may sleep": "MAP(__uint(type, 10); __uint(max_entries, 1); __type(key, int);"
    " __type(value, int);); static long (*copy)(void *, u32, void *) = (void *)148;"
    ' SEC("uprobe.s") int f(void *ctx) { int x = 0; copy(&x, 4, ctx); return lookup(&m, &x) != 0; }',
    "a callback": "static int each(u32 i, void *c) { return 0; } static long (*loop)(u32, void *, void *, u64)"
    ' = (void *)181; SEC("tc") int f(void *ctx) { return loop(10, each, 0, 0); }',
    "eight functions deep": SEVEN_DEEP + 'SEC("xdp") int f(u32 *ctx) { return g6(ctx[4]); }',
    "a return value of a call": 'SEC("tp/sched/sched_switch") void f(void *ctx) { ((int (*)(void))7)(); }',
    "a global function that is not called": 'noinline void g(int *x) { if (x) *x = 1; } SEC("xdp") int f(void *ctx)'
    " { return 2; }",
    "a hidden function that returns nothing": '__attribute__((visibility("hidden"))) noinline void g(int *x)'
    ' { if (x) *x = 1; } SEC("xdp") int f(void *ctx) { int a = 0; g(&a); return a; }',
    "a global function that returns a bool": 'noinline _Bool g(int x) { return x > 2; } SEC("xdp") int f(u32 *ctx)'
    " { return g(ctx[4]); }",
    "a lock": LOCK + f'MAP({ARRAY} __type(key, u32); __type(value, struct locked);); SEC("tc") int f(void *ctx)'
    + USES_LOCK,
    "a timer in an LRU hash": LOCK + "MAP(__uint(type, 9); __uint(max_entries, 1); __type(key, int);"
    ' __type(value, struct timed);); SEC("tc") int f(void *ctx)' + USES_TIMER,
}  # fmt: skip


@pytest.mark.parametrize("what", FAILS)
def test_what_kernels_refuse_of_functions_locks_and_timers(what: str) -> None:
    source, kind = FAILS[what]
    found = verdict_on_host(source)
    if KernelFeatures(Btf(needs.host_btf().read_bytes(), source="host")).is_beyond_6_18:
        # some of these rules are of older kernels alone
        assert found.verdict is not Verdict.FAILS or not loads(source)[0]
        return
    assert found.verdict is Verdict.FAILS
    assert next(reason for reason in found.reasons if reason.kind is kind).remedy
    taken, log = loads(source)
    assert not taken, log


@pytest.mark.parametrize("hidden", [True, False])
def test_a_lock_in_variables_that_are_mapped_into_memory(hidden: bool) -> None:
    """libbpf maps them as it loads the object since 1.5, unless all variables of a section are hidden."""
    place = '__attribute__((section(".data.own"), visibility("hidden"))) ' if hidden else ""
    source = (
        LOCK
        + f"{place}struct bpf_spin_lock lock; {place}int n;"
        + ('SEC("tc") int f(void *ctx) { spin_lock(&lock); n++; spin_unlock(&lock); return 0; }')
    )
    assert verdict_on_host(source).verdict is (Verdict.LOADS if hidden else Verdict.CONDITIONAL)
    by_version = [verdict_on_host(source, libbpf=version).verdict for version in ((1, 4), (1, 5))]
    assert by_version == [Verdict.LOADS, Verdict.LOADS if hidden else Verdict.FAILS]
    needs.root_bpf()
    needs.own_libbpf()
    tried = {one.program: one for one in Libbpf(str(own_library())).load_each(c_programs.compile_bpf(PRELUDE + source))}
    assert bool(tried["f"].error) is not hidden, tried["f"].log


@pytest.mark.parametrize("what", LOADS)
def test_their_siblings_that_load(what: str) -> None:
    assert verdict_on_host(LOADS[what]).verdict is Verdict.LOADS
    taken, log = loads(LOADS[what])
    assert taken, log
