"""What verifiers before Linux 5.12 refuse of maps and of the stack, by the signs of their age in BTF.

What is expected is what kernels said that were built from the sources of 4.15, 4.18, 5.4 and 5.8.
"""

from __future__ import annotations

import pytest

from hatch_bpf.btf.reader import Btf
from hatch_bpf.kernels.identity import host
from hatch_bpf.portability.object_check import KernelTypes, check_on
from hatch_bpf.portability.verdicts import ProgramVerdict, ReasonKind, Verdict
from tests.common import c_programs
from tests.common.btf_builder import RawBtf

HELPERS = {"map_lookup_elem": 1, "map_update_elem": 2, "map_delete_elem": 3, "probe_read": 4, "get_prandom_u32": 7}
SINCE = {(4, 18): {"get_stack": 67}, (5, 0): {"msg_pop_data": 91}, (5, 12): {"check_mtu": 163}}
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
struct pt_regs { u64 r15; };
"""


def kernel(*version: int) -> KernelTypes:
    btf = RawBtf()
    number = btf.integer()
    helpers = HELPERS | {name: n for since, new in SINCE.items() if since <= version for name, n in new.items()}
    btf.enum("bpf_func_id", **{f"BPF_FUNC_{name}": n for name, n in helpers.items()})
    btf.enum("bpf_prog_type", BPF_PROG_TYPE_SOCKET_FILTER=1, BPF_PROG_TYPE_KPROBE=2)
    btf.enum("bpf_map_type", BPF_MAP_TYPE_HASH=1)
    members = ["map_alloc", *["map_direct_value_addr"] * (version >= (5, 2))]
    btf.struct("bpf_map_ops", 8, *((name, number, 32 * at) for at, name in enumerate(members)))
    return KernelTypes(host(), Btf(btf.build(), source="test"))


def verdict(body: str, on: KernelTypes) -> ProgramVerdict:
    source = PRELUDE + f'SEC("kprobe/do_nanosleep") int p(struct pt_regs *ctx) {{ {body} }}'
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
    (reason,) = verdict(VARIABLE["a load"], kernel(4, 18)).reasons
    assert reason.message == (
        "the program accesses its stack at an offset that varies, and this kernel takes fixed offsets only: "
        "keep the buffer in a map of one element, such as a per-CPU array"
    )
