"""What loads and can never be attached, and what an attach type in the section does to the load on old kernels.

Each was tried on Linux 4.15, 4.18, 5.4 and 5.8, which the lab does not boot.
"""

from __future__ import annotations

import pytest

from hatch_bpf.btf.reader import Btf
from hatch_bpf.kernels.identity import host
from hatch_bpf.portability.object_check import Checker
from hatch_bpf.portability.text import render_failures, render_json, render_summary, render_text
from hatch_bpf.portability.verdicts import KernelReport, ProgramVerdict, ReasonKind, Report, Verdict
from hatch_bpf.runtime.sections import parse_section
from tests.common import c_programs
from tests.common.btf_builder import RawBtf
from tests.common.on_kernels import KernelTypes, check_kernel

LIBBPF = (1, 5)
"""It knows all the sections here."""


def old_kernel(*, loads_for_attach_types: bool, lists_tracepoints: bool = False) -> Btf:
    """Linux 5.4, as far as it matters here; without `loads_for_attach_types` 4.15, with its names of system calls."""
    btf = RawBtf()
    number = btf.integer()
    btf.struct("bpf_prog", 4, ("expected_attach_type" if loads_for_attach_types else "type", number, 0))
    btf.enum("bpf_attach_type", BPF_CGROUP_INET_SOCK_CREATE=2, BPF_SK_SKB_STREAM_VERDICT=5)
    syscall = "__x64_sys_{}" if loads_for_attach_types else "SyS_{}"
    for name in ("bpf_prog_load", "trace_event_raw_event_sched_switch", syscall.format("unlinkat")):
        btf.func(name, btf.func_proto(number))
    if lists_tracepoints:
        btf.typedef("btf_trace_sched_switch", number)
    return Btf(btf.build(), source="old kernel")


LINUX_4_15, LINUX_5_4 = (old_kernel(loads_for_attach_types=has) for has in (False, True))
LISTED = old_kernel(loads_for_attach_types=True, lists_tracepoints=True)


def check(section: str, btf: Btf, *, returns: int = 1) -> ProgramVerdict:
    obj = c_programs.model(f'SEC("{section}") int program(void *ctx) {{ return {returns}; }}', cpu="v1")
    (found,) = check_kernel(Checker([obj], libbpf=LIBBPF), KernelTypes(host(), btf)).programs
    return found


@pytest.mark.parametrize(
    ("section", "on_4_15", "on_5_4"),
    [
        ("kprobe.multi/do_unlink*", Verdict.FAILS, Verdict.CANNOT_ATTACH),
        ("uprobe.multi//bin/sh:main", Verdict.FAILS, Verdict.CANNOT_ATTACH),
        ("tcx/ingress", Verdict.FAILS, Verdict.CANNOT_ATTACH),
        ("netkit/peer", Verdict.FAILS, Verdict.CANNOT_ATTACH),
        ("xdp/devmap", Verdict.FAILS, Verdict.CANNOT_ATTACH),
        ("xdp/cpumap", Verdict.FAILS, Verdict.CANNOT_ATTACH),
        ("sk_skb/verdict", Verdict.CANNOT_ATTACH, Verdict.CANNOT_ATTACH),
        ("sk_skb/stream_verdict", Verdict.LOADS, Verdict.LOADS),
        ("tc/ingress", Verdict.FAILS, Verdict.LOADS),
        ("tc", Verdict.LOADS, Verdict.LOADS),
        ("sk_reuseport/migrate", Verdict.LOADS, Verdict.LOADS),
        ("cgroup/sock_create", Verdict.FAILS, Verdict.LOADS),
        ("cgroup/sock", Verdict.LOADS, Verdict.LOADS),
        ("cgroup/connect4", Verdict.FAILS, Verdict.FAILS),
        ("lirc_mode2", Verdict.FAILS, Verdict.FAILS),
    ],
)
def test_attach_types_that_an_old_kernel_lacks(section: str, on_4_15: Verdict, on_5_4: Verdict) -> None:
    assert [check(section, btf).verdict for btf in (LINUX_4_15, LINUX_5_4)] == [on_4_15, on_5_4]


@pytest.mark.parametrize(("section", "plain"), [("tc/egress", "tc"), ("cgroup/sock_create", "cgroup/sock")])
def test_the_remedy_is_the_section_without_an_attach_type(section: str, plain: str) -> None:
    assert [reason.remedy for reason in check(section, LINUX_4_15).reasons] == [f'write SEC("{plain}")']


@pytest.mark.parametrize(
    ("section", "on_4_15", "on_5_4", "remedy"),
    [
        ("ksyscall/unlinkat", Verdict.CANNOT_ATTACH, Verdict.LOADS, 'write SEC("kprobe/sys_unlinkat") for this kernel'),
        (
            "kretsyscall/unlinkat",
            Verdict.CANNOT_ATTACH,
            Verdict.LOADS,
            'write SEC("kretprobe/sys_unlinkat") for this kernel',
        ),
        ("ksyscall/hatch_bpf_never", Verdict.CONDITIONAL, Verdict.CONDITIONAL, ""),
        ("kprobe/sys_unlinkat", Verdict.LOADS, Verdict.CONDITIONAL, ""),
    ],
)
def test_system_calls_have_other_names_before_4_17(
    section: str, on_4_15: Verdict, on_5_4: Verdict, remedy: str
) -> None:
    """libbpf probes __x64_sys_NAME or __se_sys_NAME."""
    old, new = (check(section, btf, returns=0) for btf in (LINUX_4_15, LINUX_5_4))
    assert (old.verdict, new.verdict) == (on_4_15, on_5_4)
    assert [reason.remedy for reason in old.reasons] == [remedy] * bool(old.reasons)


@pytest.mark.parametrize("section", ["raw_tp/{}", "tp/sched/{}"])
@pytest.mark.parametrize(
    ("btf", "target", "kinds"),
    [
        (LINUX_5_4, "sched_switch", []),
        (LINUX_5_4, "hatch_bpf_never", [ReasonKind.ATTACH_TARGET_UNKNOWN]),
        (LISTED, "sched_switch", []),
    ],
)
def test_a_btf_without_tracepoints_leaves_most_of_them_open(
    section: str, btf: Btf, target: str, kinds: list[ReasonKind]
) -> None:
    found = check(section.format(target), btf)
    assert (found.verdict, [reason.kind for reason in found.reasons]) == (Verdict.LOADS, kinds)


def test_a_kernel_that_was_built_with_lirc_mode2() -> None:
    btf = RawBtf()
    for name in ("bpf_prog_load", "lirc_prog_attach"):
        btf.func(name, btf.func_proto(btf.integer()))
    assert check("lirc_mode2", Btf(btf.build(), source="with")).verdict is Verdict.LOADS
    assert "built without (CONFIG_BPF_LIRC_MODE2)" in check("lirc_mode2", LINUX_5_4).reasons[0].what


def test_a_tracepoint_that_is_not_listed() -> None:
    never = check("tp/sched/hatch_bpf_never", LISTED)
    assert (never.verdict, never.at_load, never.breaks_build) == (Verdict.CANNOT_ATTACH, Verdict.LOADS, True)
    assert check("raw_tp/hatch_bpf_never", LISTED).verdict is Verdict.CONDITIONAL
    assert check("tp_btf/hatch_bpf_never", LISTED).verdict is Verdict.FAILS


def test_reports_say_it_in_its_own_word() -> None:
    never = check("tp/sched/hatch_bpf_never", LISTED)
    report = Report((KernelReport(host(), (never,)),))
    assert report.exit_status == 1
    assert render_failures(report).startswith(f"program.program cannot be attached on {host()}:\n")
    assert render_summary(report) == "1 program on 1 kernel: cannot-attach\n"
    assert '"verdict": "cannot-attach"' in render_json(report)
    assert "program.program on A: \x1b[35mcannot-attach\x1b[0m\n" in render_text(report, colour=True)
    assert "NOATT" in render_text(report, width=20).splitlines()[1]


@pytest.mark.parametrize(
    ("section", "since"),
    [
        ("tc/ingress", (1, 3)),
        ("cgroup/connect_unix", (1, 3)),
        ("usdt.s", (1, 3)),
        ("sk_skb/verdict", (1, 4)),
        ("struct_ops.s", (1, 2)),
    ],
)
def test_the_first_libbpf_that_knows_a_section(section: str, since: tuple[int, int]) -> None:
    """By libbpf's history of src/libbpf.c."""
    found = parse_section(section)
    assert found is not None
    assert found.since == since
