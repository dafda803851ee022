"""Sections: program types, flags and attach types that a kernel knows, and what programs attach to."""

from __future__ import annotations

import pytest

from hatch_bpf.btf.reader import Btf
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.portability.verdicts import ReasonKind, Verdict, decide
from tests.common import c_programs, kernel_btfs
from tests.common.btf_builder import RawBtf
from tests.common.checked import (
    model,
    old_kernel,
    verdicts_on,
    version_of,
)
from tests.common.on_kernels import KernelTypes, check_on


def test_program_types_of_a_newer_kernel() -> None:
    kernel = Kernel.parse("centos/8/x86_64/4.18.0-147.el8")
    found = check_on([model("targets.bpf.c")], [KernelTypes(kernel, old_kernel())]).kernels[0].programs
    by_name = {program.program: program for program in found}
    reason = by_name["kernel_btf__fentry"].reasons[0]
    assert reason.kind is ReasonKind.PROGRAM_TYPE_MISSING
    assert reason.remedy == "provide a kprobe/vfs_read program for it"
    assert by_name["loads__kprobe"].verdict is Verdict.LOADS


def test_attach_targets_that_are_looked_up_at_attach_are_conditions() -> None:
    obj = model("targets.bpf.c")
    by_name = {name: found for (_, name), found in verdicts_on(kernel_btfs.EXAMPLES[-1], obj).items()}
    for name, found in by_name.items():
        kinds = [reason.kind for reason in found.reasons]
        if "cannot_attach" in name:
            assert kinds == [ReasonKind.ATTACH_TARGET_UNKNOWN]
        elif name.startswith("loads__"):
            assert kinds == []
    assert by_name["fails__tp_btf"].reasons[0].remedy == "provide a raw_tp/hatch_bpf_never program for it"


_EXTENDED = """
#define NAMED(section, name) SEC(section) int name(void *ctx) { return 0; }
NAMED("xdp.frags", frags)
NAMED("kprobe.session/vfs_read", session)
NAMED("cgroup/connect_unix", connect_unix)
NAMED("sk_lookup", lookup)
char LICENSE[] SEC("license") = "GPL";
"""


@pytest.mark.parametrize("kernel", kernel_btfs.EXAMPLES)
def test_flags_and_attach_types_count_from_the_release_that_brought_them(kernel: str) -> None:
    """BPF_F_XDP_HAS_FRAGS, BPF_TRACE_KPROBE_SESSION, BPF_CGROUP_UNIX_CONNECT and BPF_SK_LOOKUP."""
    found = verdicts_on(kernel, c_programs.model(_EXTENDED))
    since = {"frags": (5, 18), "session": (6, 10), "connect_unix": (6, 7), "lookup": (5, 9)}
    for (_, program), verdict_there in found.items():
        loads = version_of(kernel) >= since[program]
        known = [reason for reason in verdict_there.reasons if reason.kind is not ReasonKind.LIBBPF_TOO_OLD]
        refused = Verdict.CANNOT_ATTACH if program == "session" else Verdict.FAILS
        assert decide(known)[0] is (Verdict.LOADS if loads else refused), program
        texts = [reason.what for reason in known]
        if loads:
            assert texts == []
        elif program == "frags":
            assert texts == ['SEC("xdp.frags") needs BPF_F_XDP_HAS_FRAGS, which this kernel does not know']
        elif program == "session":
            assert texts[0].endswith("which this kernel does not know, so it loads but can never be attached")
        else:
            assert texts[0].endswith("which this kernel does not know, so it does not load")


def test_sleepable_programs_on_a_kernel_from_before_them() -> None:
    btf = RawBtf()
    btf.integer()
    btf.enum("bpf_prog_type", BPF_PROG_TYPE_UNSPEC=0, BPF_PROG_TYPE_TRACING=26)
    btf.func("vfs_read", btf.func_proto(0))
    old = KernelTypes(Kernel.parse("debian/11/x86_64/5.8.0"), Btf(btf.build(), source="5.8"))
    source = """SEC("fentry.s/vfs_read") int slow(void *ctx) { return 0; }
    SEC("fentry/vfs_read") int fast(void *ctx) { return 0; }"""
    slow, fast = check_on([c_programs.model(source)], [old]).kernels[0].programs
    assert slow.verdict is Verdict.FAILS
    assert slow.reasons[0].what == 'SEC("fentry.s/vfs_read") is sleepable, and this kernel is too old for that'
    assert fast.verdict is Verdict.NEEDS_KERNEL_BTF


_OF_7_2 = """
SEC("tp_btf.s/sys_enter") int btf(void *ctx) { return 0; }
SEC("raw_tp.s/sys_enter") int raw(void *ctx) { return 0; }
SEC("tp.s/syscalls/sys_enter_read") int plain(void *ctx) { return 0; }
SEC("fentry.multi/vfs_*") int many(void *ctx) { return 0; }
SEC("fentry.multi.s/vfs_*") int many_that_sleep(void *ctx) { return 0; }
"""


@pytest.mark.parametrize("attach_types", [{"BPF_TRACE_FSESSION": 58}, {"BPF_TRACE_FENTRY_MULTI": 59}])
def test_tracepoints_that_sleep_and_functions_by_pattern_came_with_linux_7_2(attach_types: dict[str, int]) -> None:
    """As the kernel lab saw them load and attach on 7.2 with libbpf 1.8."""
    btf = RawBtf()
    btf.integer()
    btf.enum("bpf_prog_type", BPF_PROG_TYPE_TRACEPOINT=5, BPF_PROG_TYPE_RAW_TRACEPOINT=17, BPF_PROG_TYPE_TRACING=26)
    btf.enum("bpf_attach_type", BPF_TRACE_RAW_TP=23, **attach_types)
    btf.struct("bpf_prog_aux", 4, ("sleepable", 1, 0))
    for tracepoint in ("sys_enter", "sched_switch"):
        btf.typedef(f"btf_trace_{tracepoint}", 1)
    btf.func("__x64_sys_read", btf.func_proto(0))
    kernel = KernelTypes(Kernel.parse("debian/13/x86_64/7.2.0"), Btf(btf.build(), source="7.2"))
    found = {p.program: p for p in check_on([c_programs.model(_OF_7_2)], [kernel]).kernels[0].programs}
    is_new = "BPF_TRACE_FENTRY_MULTI" in attach_types
    for program in found.values():
        assert program.verdict is (Verdict.CONDITIONAL if is_new else Verdict.FAILS), program
    told = {name: [reason.what for reason in program.reasons] for name, program in found.items()}
    if is_new:
        assert told["raw"] == [
            'libbpf before 1.8 does not know SEC("raw_tp.s/sys_enter"), and refuses to load it',
            'SEC("raw_tp.s/sys_enter") attaches only if its tracepoint may sleep, as those of system calls may; BTF '
            "does not say which",
        ]
        assert told["many"][1:] == ['SEC("fentry.multi/vfs_*") needs the kernel\'s own BTF']
    else:
        assert 'SEC("tp_btf.s/sys_enter") is sleepable, and this kernel is too old for that' in told["btf"]
        assert 'SEC("tp.s/syscalls/sys_enter_read") is sleepable, and this kernel is too old for that' in told["plain"]
        assert any(
            "attaches as BPF_TRACE_FENTRY_MULTI, which this kernel does not know" in what for what in told["many"]
        )


@pytest.mark.parametrize("section", ["fentry/vfs_read", "fexit/vfs_read", "lsm/file_open", "freplace", "kprobe/f"])
@pytest.mark.parametrize("kernel", [kernel for kernel in kernel_btfs.EXAMPLES if "arm64" in kernel])
def test_what_arm64_cannot_attach_is_said_to_load_there(kernel: str, section: str) -> None:
    """As docs/attaching.md has it: in place of BPF programs from Linux 6.0 on, of kernel functions from 6.4 on."""
    (found,) = verdicts_on(kernel, c_programs.model(f'SEC("{section}") int f(void *ctx) {{ return 0; }}')).values()
    told = [reason.what for reason in found.reasons if reason.kind is ReasonKind.ATTACH_UNSUPPORTED]
    since = {"freplace": (6, 0), "kprobe/f": (0, 0)}.get(section, (6, 4))
    assert bool(told) == (version_of(kernel) < since)
    assert (found.verdict is Verdict.CANNOT_ATTACH) == bool(told)
    assert all("can never be attached: on arm64" in what for what in told)
