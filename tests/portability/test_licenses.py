"""What only programs may call whose license is compatible with the GPL."""

from __future__ import annotations

import pytest

from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.objects.model import ObjectModel
from hatch_bpf.portability.verdicts import ReasonKind, Verdict, Weight
from tests.common import c_programs, kernel_btfs, needs
from tests.common.checked import (
    old_kernel,
    verdicts_on,
)
from tests.common.on_kernels import KernelTypes, check_on

PRINT = "static long (*bpf_trace_printk)(const char *, u32, ...) = (void *)6;"

NOW = "static u64 (*bpf_ktime_get_ns)(void) = (void *)5;"

LICENSES = [
    (PRINT, "bpf_trace_printk(text, 2)", "Proprietary", "bpf_trace_printk()"),
    (PRINT, "bpf_trace_printk(text, 2)", "", "bpf_trace_printk()"),
    (PRINT, "bpf_trace_printk(text, 2)", "gpl", "bpf_trace_printk()"),
    (PRINT, "bpf_trace_printk(text, 2)", "GPL v2", ""),
    (PRINT, "bpf_trace_printk(text, 2)", "Dual MPL/GPL", ""),
    (PRINT, "off ? bpf_trace_printk(text, 2) : 0", "Proprietary", ""),
    (NOW, "bpf_ktime_get_ns()", "Proprietary", ""),
]


def licensed(declared: str, call: str, license_: str) -> ObjectModel:
    source = f"""{declared} const volatile int off;
    SEC("raw_tp/sched_switch") int program(void *ctx) {{ char text[] = "x"; return {call}; }}"""
    return c_programs.model(f'{source} char LICENSE[] SEC("license") = "{license_}";')


@pytest.mark.parametrize(("declared", "call", "license_", "refused"), LICENSES)
def test_what_only_gpl_programs_may_call(declared: str, call: str, license_: str, refused: str) -> None:
    ((_, found),) = verdicts_on(kernel_btfs.EXAMPLES[-1], licensed(declared, call, license_)).items()
    told = [reason for reason in found.reasons if reason.kind is ReasonKind.LICENSE]
    assert [reason.what for reason in told if reason.weight is Weight.FAILS] == (
        [f"{refused} needs a license that is compatible with the GPL, and this object's is "
         + (f'"{license_}"' if license_ else "none")] if refused else []
    )  # fmt: skip
    assert found.verdict is (Verdict.FAILS if refused else Verdict.CONDITIONAL if "off" in call else Verdict.LOADS)


@pytest.mark.parametrize(("declared", "call", "license_", "refused"), LICENSES)
def test_the_running_kernel_agrees_on_licenses(declared: str, call: str, license_: str, refused: str) -> None:
    needs.root_bpf()
    (loaded,) = needs.libbpf().load_each(licensed(declared, call, license_).elf)
    assert bool(loaded.error) == bool(refused), loaded.log


def test_an_old_kernel_keeps_the_time_for_gpl_programs() -> None:
    old = KernelTypes(Kernel.parse("centos/8/x86_64/4.18.0-147.el8"), old_kernel())
    found, free = (
        check_on([licensed(NOW, "bpf_ktime_get_ns()", license_)], [old]).kernels[0].programs[0].reasons
        for license_ in ("Proprietary", "GPL")
    )
    assert [reason.kind for reason in found if reason.kind is ReasonKind.LICENSE] == [ReasonKind.LICENSE]
    assert not any(reason.kind is ReasonKind.LICENSE for reason in free)


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ('SEC("lsm/file_open") int program(void *ctx) { return 0; }', 'SEC("lsm/file_open")'),
        (
            """extern void bpf_rcu_read_lock(void) SEC(".ksyms"); extern void bpf_rcu_read_unlock(void) SEC(".ksyms");
            SEC("raw_tp/sched_switch") int program(void *ctx)
            { bpf_rcu_read_lock(); bpf_rcu_read_unlock(); return 0; }""",
            "kfunc bpf_rcu_read_lock()",
        ),
    ],
)
def test_what_is_for_gpl_programs_as_a_whole(source: str, what: str) -> None:
    for license_, verdict_ in (("Proprietary", Verdict.FAILS), ("GPL", Verdict.NEEDS_KERNEL_BTF)):
        model = c_programs.model(f'{source} char LICENSE[] SEC("license") = "{license_}";')
        ((_, found),) = verdicts_on(kernel_btfs.EXAMPLES[-1], model).items()
        assert found.verdict is verdict_
        told = [reason.what for reason in found.reasons if reason.kind is ReasonKind.LICENSE]
        assert [line.partition(what)[0] for line in told[:1]] == ([""] if verdict_ is Verdict.FAILS else [])
