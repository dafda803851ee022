"""What programs return: as the running kernel takes it, and as older ones do by what their BTF has."""

from __future__ import annotations

from functools import cache

import pytest

from hatch_bpf.btf.reader import Btf
from hatch_bpf.kernels.identity import host
from hatch_bpf.portability.kernel_features import KernelFeatures
from hatch_bpf.portability.return_check import allowed_returns
from hatch_bpf.portability.verdicts import ProgramVerdict, ReasonKind, Verdict
from hatch_bpf.runtime.sections import parse_section, section_patterns
from tests.common import c_programs, needs
from tests.common.btf_builder import RawBtf
from tests.common.on_kernels import KernelTypes, check_on

TARGETS = {"fentry": "do_nanosleep", "fexit": "do_nanosleep", "iter": "task"}
VALUES = (-1, 0, 1, 2, 3, 4)
RANDOM = "static int (*random)(void) = (void *)7;"


def checked_sections() -> list[str]:
    """Sections of which a kernel with everything takes some values only."""
    kernel = KernelFeatures(Btf(linux_5_12().build(), source="test"))
    names = []
    for pattern in section_patterns():
        head = pattern.rstrip("+")
        name = f"{head}/{TARGETS[head]}" if head in TARGETS else head
        if allowed_returns(parse_section(name), kernel) is not None:
            names.append(name)
    return names


def linux_5_2() -> RawBtf:
    """What tells that a kernel is from before Linux 5.3."""
    btf = RawBtf()
    number = btf.integer()
    btf.struct("bpf_prog", 4, ("pages", number, 0))
    btf.enum("bpf_attach_type", BPF_CGROUP_INET_INGRESS=0, BPF_CGROUP_INET_EGRESS=1, BPF_TRACE_FENTRY=24)
    btf.func("__cgroup_bpf_run_filter_sock_addr", btf.func_proto(number, *[("", number)] * 4))
    return btf


def linux_5_12() -> RawBtf:
    btf = RawBtf()
    number = btf.integer()
    btf.struct("bpf_prog", 4, ("enforce_expected_attach_type", number, 0))
    btf.enum("bpf_attach_type", BPF_CGROUP_INET_EGRESS=1, BPF_TRACE_FENTRY=24, BPF_TRACE_ITER=28)
    btf.func("__cgroup_bpf_run_filter_sock_addr", btf.func_proto(number, *[("", number)] * 5))
    return btf


def verdict(source: str, btf: Btf) -> ProgramVerdict:
    (found,) = check_on([c_programs.model(RANDOM + source)], [KernelTypes(host(), btf)]).kernels[0].programs
    return found


@cache
def host_btf() -> Btf:
    return Btf(needs.host_btf().read_bytes(), source="host")


def test_constants_as_the_running_kernel_takes_them() -> None:
    """Of each section that libbpf and the kernel have."""
    needs.root_bpf()
    cases = [(section, value) for section in checked_sections() for value in VALUES]
    source = "".join(
        f'SEC("{section}") int p{at}(void *ctx) {{ return {value}; }}' for at, (section, value) in enumerate(cases)
    )
    obj = c_programs.model(source)
    programs = check_on([obj], [KernelTypes(host(), host_btf())]).kernels[0].programs
    said = {one.program: ReasonKind.RETURN_VALUE in [reason.kind for reason in one.reasons] for one in programs}
    loaded = {one.program: one for one in needs.libbpf().load_each(obj.elf)}
    compared = set()
    for at, (section, value) in enumerate(cases):
        one = loaded[f"p{at}"]
        is_refused = "At program exit the register R0" in one.log
        if is_refused or not one.error:
            compared.add(section)
            assert said[f"p{at}"] == is_refused, (section, value, one.log)
    assert compared >= {
        "cgroup_skb/egress", "cgroup/skb", "cgroup/sock", "cgroup/dev", "cgroup/sysctl", "cgroup/setsockopt",
        "cgroup/bind4", "cgroup/connect6", "cgroup/recvmsg4", "cgroup/getpeername6", "sockops", "sk_lookup",
        "iter/task",
    }  # fmt: skip


BODIES = {
    "by a register": ("int kept = 7; random(); return kept;", True),
    "in a branch": ("if (random()) return 7; return 1;", True),
    "by a function": ("return seven(ctx);", True),
    "by a global function, which is not the program": ("one(); return 1;", False),
    "behind a guard": (
        "if (bpf_core_field_exists(((struct task_struct *)0)->hatch_bpf_never)) return 7; return 1;",
        False,
    ),
    "behind a pointer that is never 0": ("if (!((struct bpf_sock_addr *)ctx)->sk) return 7; return 1;", False),
    "behind what ends the program": ("bpf_throw(1); return 7;", False),
    "one bit": ("return random() & 1;", False),
    "two bits": ("return random() & 3;", True),
    "the other bit": ("return (random() & 1) ^ 1;", False),
    "what a shift leaves": ("return (u32)random() >> 31;", False),
    "more than a shift should leave": ("return (u32)random() >> 30;", True),
    "bounded": ("u32 n = random(); if (n > 1) return 0; return n;", False),
    "bounded too late": ("u32 n = random(); if (n > 2) return 0; return n;", True),
    "what a helper returns": ("return random();", True),
    "a field": ("return ((struct bpf_sock_addr *)ctx)->before[6];", True),
    "a field that is compared": ("return ((struct bpf_sock_addr *)ctx)->before[6] == 80;", False),
    "what a helper wrote": ("u32 n = 1; current_comm(&n, 4); return n;", True),
    "a map's value": ("u32 k = 0, *v = lookup(&array, &k); if (!v) return 0; return *v;", True),
    "a bit of a map's value": ("u32 k = 0, *v = lookup(&array, &k); if (!v) return 0; return *v & 1;", False),
    "where an array has no value": ("u32 k = 0, *v = lookup(&array, &k); if (!v) return 3; return 1;", False),
}
FUNCTIONS = """
extern void bpf_throw(u64) __attribute__((section(".ksyms")));
static void *(*lookup)(void *, void *) = (void *)1;
static int (*current_comm)(void *, u32) = (void *)16;
struct { int (*type)[2]; u32 *key; u32 *value; int (*max_entries)[1]; } array SEC(".maps");
struct bpf_sock_addr { u32 before[16]; void *sk; };
struct core task_struct { int hatch_bpf_never; };
static __attribute__((noinline)) int seven(void *ctx) { return 7; }
__attribute__((noinline)) int one(void) { asm volatile(""); return 7; }
"""


@pytest.mark.parametrize("how", BODIES)
def test_how_a_constant_is_returned(how: str) -> None:
    needs.root_bpf()
    body, is_refused = BODIES[how]
    source = FUNCTIONS + f'SEC("cgroup/connect4") int p(void *ctx) {{ {body} }}'
    found = verdict(source, host_btf())
    (loaded,) = needs.libbpf().load_each(c_programs.model(RANDOM + source).elf)
    kinds = [reason.kind for reason in found.reasons if reason.kind is not ReasonKind.KERNEL_BTF]
    assert kinds == [ReasonKind.RETURN_VALUE] * is_refused
    assert bool(loaded.error) == is_refused, loaded.log


@pytest.mark.parametrize(
    ("section", "value", "before", "after"),
    [
        ("cgroup_skb/egress", 3, True, False),
        ("cgroup_skb/egress", 4, True, True),
        ("cgroup_skb/ingress", 2, True, True),
        ("fentry/do_nanosleep", 1, False, True),
        ("cgroup/bind4", 3, True, False),
        ("cgroup/bind6", 2, True, False),
        ("cgroup/bind6", 4, True, True),
    ],
)
def test_before_linux_5_3_and_from_5_12_on(section: str, value: int, before: bool, after: bool) -> None:
    """As check_return_code() of these kernels has it."""
    source = f'SEC("{section}") int p(void *ctx) {{ return {value}; }}'
    found = [verdict(source, Btf(btf.build(), source="test")) for btf in (linux_5_2(), linux_5_12())]
    kinds = [ReasonKind.RETURN_VALUE in [reason.kind for reason in one.reasons] for one in found]
    assert kinds == [before, after]


def test_the_message() -> None:
    found = verdict('SEC("cgroup/connect4") int p(void *ctx) { return -1; }', host_btf())
    assert found.verdict is Verdict.FAILS
    assert found.reasons[0].message == (
        'the program returns -1, and this kernel takes nothing but 0 or 1 from a SEC("cgroup/connect4") program: '
        "return 0 or 1"
    )
