"""Maps passed to helpers: as the running kernel takes them."""

from __future__ import annotations

import pytest

from hatch_bpf.btf.reader import Btf
from hatch_bpf.kernels.identity import host
from hatch_bpf.portability.verdicts import ReasonKind, Verdict
from tests.common import c_programs, needs
from tests.common.on_kernels import KernelTypes, check_on

PRELUDE = """
static void *(*lookup)(void *, const void *) = (void *)1;
static long (*update)(void *, const void *, const void *, u64) = (void *)2;
static long (*tail_call)(void *, void *, u32) = (void *)12;
static long (*get_stackid)(void *, void *, u64) = (void *)27;
static long (*output)(void *, void *, u64, void *, u64) = (void *)25;
static long (*push)(void *, const void *, u64) = (void *)87;
static long (*ring_output)(void *, void *, u64, u64) = (void *)130;
static int (*random)(void) = (void *)7;
static void *(*lookup_percpu)(void *, const void *, u32) = (void *)195;
static long (*for_each)(void *, void *, void *, u64) = (void *)164;
static long callback(void *map, void *key, void *value, void *context) { return 0; }
#define MAP(name, kind, ...) struct { int (*type)[kind]; int (*max_entries)[4096]; __VA_ARGS__ } name SEC(".maps");
MAP(hash, 1, int *key; int *value;)
MAP(progs, 3, int *key; int *value;)
MAP(perf, 4, int *key; int *value;)
MAP(stacks, 7, int *key; long (*value)[8];)
MAP(queue, 22, int *value;)
MAP(ring, 27,)
MAP(for_reading, 2, int *key; int *value; int (*map_flags)[128];)
MAP(for_writing, 2, int *key; int *value; int (*map_flags)[256];)
MAP(each_cpu, 6, int *key; int *value;)
const volatile int constant[2] = {1, 2};
extern int CONFIG_HZ __attribute__((section(".kconfig")));
"""
PROGRAM = 'SEC("tracepoint") int p(void *ctx) { int k = 0; '
REFUSED = {
    "look up a stack": "return lookup(&stacks, &k) != 0; }",
    "update a program array": "return update(&progs, &k, &k, 0); }",
    "look up in a perf buffer": "return lookup(&perf, &k) != 0; }",
    "tail call into a hash": "tail_call(ctx, &hash, 0); return 0; }",
    "a stack's id from a hash": "return get_stackid(ctx, &hash, 0); }",
    "events into a ring buffer": "return output(ctx, &ring, 0xffffffff, &k, 4); }",
    "a ring's record into a perf buffer": "return ring_output(&perf, &k, 4, 0); }",
    "push on a hash": "return push(&hash, &k, 0); }",
    "look up in a queue": "return lookup(&queue, &k) != 0; }",
    "one CPU's of an array": "return lookup_percpu(&hash, &k, 0) != 0; }",
    "each of a queue": "return for_each(&queue, callback, 0, 0); }",
}
FORBIDDEN = {
    "update a map for reading": "return update(&for_reading, &k, &k, 0); }",
    "write to a map for reading": "int *v = lookup(&for_reading, &k); if (v) *v = 1; return 0; }",
    "read a map for writing": "int *v = lookup(&for_writing, &k); return v ? *v : 0; }",
    "write to a constant": "*(volatile int *)&constant[1] = 1; return 0; }",
    "write to an option of the kernel": "*(volatile int *)&CONFIG_HZ = 1; return 0; }",
}
TAKEN = {
    "each as it should": "output(ctx, &perf, 0xffffffff, &k, 4); ring_output(&ring, &k, 4, 0); push(&queue, &k, 0);"
    " get_stackid(ctx, &stacks, 0); tail_call(ctx, &progs, 0); return lookup(&hash, &k) != 0; }",
    "what flags allow": "int *r = lookup(&for_reading, &k), *w = lookup(&for_writing, &k);"
    " update(&for_writing, &k, &k, 0); if (r && w) *w = *r + constant[1] + CONFIG_HZ; return 0; }",
    "each of an array, and of a CPU": "lookup_percpu(&each_cpu, &k, 0); return for_each(&each_cpu, callback, 0, 0); }",
    "one of two": "volatile int own = 0, *p = random() & 1 ? &own : (int *)&constant[1]; return *p; }",
    "a map that is left in a register": 'asm volatile("r1 = %0" :: "r"(&stacks) : "r1"); return random() & 1; }',
}


def outcomes(source: str) -> tuple[Verdict, list[ReasonKind], bool]:
    needs.root_bpf()
    obj = c_programs.model(PRELUDE + PROGRAM + source)
    btf = Btf(needs.host_btf().read_bytes(), source="host")
    (found,) = check_on([obj], [KernelTypes(host(), btf)]).kernels[0].programs
    (loaded,) = needs.libbpf().load_each(obj.elf)
    assert "failed to create" not in loaded.log
    return found.verdict, [reason.kind for reason in found.reasons], not loaded.error


@pytest.mark.parametrize("how", REFUSED)
def test_a_map_that_is_not_for_a_helper(how: str) -> None:
    verdict, kinds, loaded = outcomes(REFUSED[how])
    assert (verdict, loaded) == (Verdict.FAILS, False)
    assert kinds[0] is ReasonKind.MAP_HELPER


@pytest.mark.parametrize("how", FORBIDDEN)
def test_a_map_that_is_only_for_the_other(how: str) -> None:
    verdict, kinds, loaded = outcomes(FORBIDDEN[how])
    assert (verdict, loaded) == (Verdict.FAILS, False)
    assert ReasonKind.MAP_ACCESS in kinds


@pytest.mark.parametrize("how", TAKEN)
def test_maps_where_they_belong(how: str) -> None:
    verdict, kinds, loaded = outcomes(TAKEN[how])
    assert (verdict, loaded) == (Verdict.LOADS, True)
    assert set(kinds) <= {ReasonKind.KCONFIG_UNKNOWN}


def test_what_is_not_reached_does_not_count() -> None:
    guarded = "if (bpf_core_field_exists(((struct task_struct *)0)->hatch_bpf_never)) return lookup(&stacks, &k) != 0;"
    source = "struct core task_struct { int hatch_bpf_never; };" + PROGRAM + guarded + " return 0; }"
    obj = c_programs.model(PRELUDE + source)
    btf = Btf(needs.host_btf().read_bytes(), source="host")
    (found,) = check_on([obj], [KernelTypes(host(), btf)]).kernels[0].programs
    assert found.verdict is Verdict.LOADS


def test_the_message() -> None:
    btf = Btf(needs.host_btf().read_bytes(), source="host")
    obj = c_programs.model(PRELUDE + PROGRAM + REFUSED["look up a stack"])
    (found,) = check_on([obj], [KernelTypes(host(), btf)]).kernels[0].programs
    assert found.reasons[0].message == (
        "every kernel refuses to pass map stacks, a BPF_MAP_TYPE_STACK_TRACE, to bpf_map_lookup_elem(): "
        "such a map is for bpf_get_stackid() alone"
    )
