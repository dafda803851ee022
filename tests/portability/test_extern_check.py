"""Externs: options of the kernel's configuration, its variables and kfuncs, as libbpf looks them up."""

from __future__ import annotations

import pytest

from hatch_bpf.btf import types as t
from hatch_bpf.kernels.identity import Kernel, host
from hatch_bpf.portability.object_check import Checker
from hatch_bpf.portability.verdicts import ReasonKind, Verdict
from tests.common import c_programs, kernel_btfs, needs
from tests.common.checked import (
    btf_of,
    btf_of_host,
    model,
    verdict,
    verdicts_on,
    version_of,
)
from tests.common.on_kernels import KernelTypes, check_kernel, check_on
from tests.lab.steps.verdicts import loads_with_libbpf


def test_a_condition_on_the_configuration_names_it() -> None:
    reason, note = verdict(kernel_btfs.EXAMPLES[-1], "externs.bpf.c", "conditional__on_the_configuration").reasons
    assert reason.what.endswith("depends on CONFIG_HATCH_BPF_NEVER")
    assert note.kind is ReasonKind.KCONFIG_UNKNOWN


_KCONFIG = """
extern int {option} __attribute__((section(".kconfig"){weak}));
SEC("socket") int program(void *ctx) {{ return {option} != 0; }}
"""


@pytest.mark.parametrize(
    ("option", "weak", "expected"),
    [
        ("CONFIG_HATCH_BPF_NEVER", "", Verdict.CONDITIONAL),
        ("CONFIG_HATCH_BPF_NEVER", ", weak", Verdict.LOADS),
        ("CONFIG_HZ", "", Verdict.LOADS),
    ],
)
def test_an_option_that_is_not_weak_is_a_condition(option: str, weak: str, expected: Verdict) -> None:
    obj = c_programs.model(_KCONFIG.format(option=option, weak=weak))
    (found,) = verdicts_on(kernel_btfs.EXAMPLES[0], obj).values()
    assert (found.verdict, [reason.kind for reason in found.reasons]) == (expected, [ReasonKind.KCONFIG_UNKNOWN])
    assert ("and that it sets CONFIG_HATCH_BPF_NEVER: declare it __weak" in found.reasons[0].message) == (
        expected is Verdict.CONDITIONAL
    )


def test_libbpf_refuses_an_option_that_is_not_weak_and_not_set() -> None:
    needs.root_bpf()
    obj = c_programs.model(_KCONFIG.format(option="CONFIG_HATCH_BPF_NEVER", weak=""))
    assert [loaded.error != 0 for loaded in needs.libbpf().load_each(obj.elf)] == [True]


def test_a_strong_symbol_that_no_btf_lists_is_noted() -> None:
    source = """extern const void hatch_bpf_never __attribute__((section(".ksyms")));
    SEC("raw_tp/sched_switch") long program(void *ctx) { return (long)&hatch_bpf_never; }"""
    (found,) = verdicts_on(kernel_btfs.EXAMPLES[-1], c_programs.model(source)).values()
    (reason,) = found.reasons
    assert (found.verdict, reason.kind) == (Verdict.LOADS, ReasonKind.KSYM_UNKNOWN)
    assert "libbpf looks it up in /proc/kallsyms" in reason.what


_EXTERN = """
struct task_struct {{ int pid; }};
extern {declaration} __attribute__((section(".ksyms"), weak));
SEC("tp_btf/sched_switch") int program(void *ctx) {{ return {use} ? 1 : 0; }}
char LICENSE[] SEC("license") = "GPL";
"""


@pytest.mark.parametrize(
    ("declaration", "is_so"),
    [
        ("struct task_struct *bpf_task_acquire(struct task_struct *task)", True),
        ("struct other *bpf_task_acquire(struct other *task)", False),  # only declared
        ("struct task_struct *bpf_task_acquire(const struct task_struct *const task)", True),
        ("struct task_struct *bpf_task_acquire(void)", False),
        ("struct task_struct *bpf_task_acquire(struct task_struct *task, int flags)", False),
        ("struct task_struct *bpf_task_acquire(int pid)", False),
        ("int bpf_task_acquire(struct task_struct *task)", False),
        ("const int bpf_prog_active", True),
        ("const unsigned int bpf_prog_active", True),
        ("const enum { A } bpf_prog_active", False),
        ("const struct task_struct bpf_prog_active", False),
    ],
)
def test_an_extern_is_declared_as_the_kernel_has_it(declaration: str, is_so: bool) -> None:
    """As libbpf says of it on the running kernel, if that has it."""
    needs.root_bpf()
    btf = btf_of_host()
    name = "bpf_prog_active" if "bpf_prog_active" in declaration else "bpf_task_acquire"
    if not btf.find(name, t.Kind.VAR, t.Kind.FUNC):
        pytest.skip(f"the running kernel has no {name}")
    use = name if "(" in declaration else f"&{name}"
    obj = c_programs.model(_EXTERN.format(declaration=declaration, use=use))
    (found,) = check_on([obj], [KernelTypes(host(), btf)]).kernels[0].programs
    # of functions libbpf 1.3 and newer takes it for missing
    otherwise = Verdict.CONDITIONAL if "(" in declaration else Verdict.FAILS
    assert found.verdict is (Verdict.NEEDS_KERNEL_BTF if is_so else otherwise), found.reasons
    (loaded,) = needs.libbpf().load_each(obj.elf)
    assert ("incompatible" in loaded.log) != is_so, loaded.log


@pytest.mark.parametrize("kernel", kernel_btfs.EXAMPLES)
def test_the_address_of_a_kfunc_is_refused_by_kernels_that_have_the_kfunc_but_not_that(kernel: str) -> None:
    """As Linux 6.1 does in the lab: `pseudo btf_id 87476 in ldimm64 isn't KIND_VAR`."""
    obj = c_programs.model(
        """struct bpf_key { int serial; };
        extern void bpf_key_put(struct bpf_key *) __attribute__((section(".ksyms"), weak));
        SEC("raw_tp/sched_switch") int guarded(void *ctx) { return bpf_key_put ? 1 : 0; }
        SEC("raw_tp/sched_switch") int without(void *ctx) { return 0; }"""
    )
    guarded, without = (found.verdict for found in verdicts_on(kernel, obj).values())
    has_it = bool(btf_of(kernel).find("bpf_key_put", t.Kind.FUNC))
    assert guarded is (Verdict.FAILS if has_it and version_of(kernel) < (6, 4) else Verdict.NEEDS_KERNEL_BTF)
    assert without is Verdict.NEEDS_KERNEL_BTF


@pytest.mark.parametrize(
    ("file", "program", "older", "newer"),
    [
        ("flavored_kfuncs.bpf.c", "beside_flavored_kfuncs", True, True),
        ("flavored_kfuncs.bpf.c", "guarded_flavored_kfunc", True, True),
        ("flavored_kfuncs.bpf.c", "flavored_kfunc", False, True),
        ("flavored_kfuncs.bpf.c", "guarded_kfunc_of_another_type", True, True),
        ("weak_wrong_kfunc.bpf.c", "beside_the_kfunc", False, True),
        ("weak_wrong_kfunc.bpf.c", "guarded", False, True),
        ("weak_wrong_kfunc.bpf.c", "unguarded", False, False),
    ],
)
def test_which_libbpf_finds_a_kfunc(file: str, program: str, older: bool, newer: bool) -> None:
    """As libbpf 1.1 and 1.7 do in the lab."""
    found = verdict("debian/12/x86_64/6.12.95+deb12-cloud-amd64", file, program)
    if older == newer:
        assert found.verdict is (Verdict.NEEDS_KERNEL_BTF if newer else Verdict.FAILS)
    else:
        assert found.verdict is Verdict.CONDITIONAL
        assert found.reasons[0].what.startswith("with libbpf before 1.3, this kernel")
        assert [loads_with_libbpf(found, has_flavors=has) for has in (False, True)] == [older, newer]


@pytest.mark.parametrize(("libbpf", "expected"), [((1, 1), Verdict.FAILS), ((1, 5), Verdict.NEEDS_KERNEL_BTF)])
def test_the_libbpf_of_the_wheel_decides_that(libbpf: tuple[int, int], expected: Verdict) -> None:
    kernel = "debian/12/x86_64/6.12.95+deb12-cloud-amd64"
    obj = model("flavored_kfuncs.bpf.c")
    report = check_kernel(Checker([obj], libbpf=libbpf), KernelTypes(Kernel.parse(kernel), btf_of(kernel)))
    found = next(found for found in report.programs if found.program == "flavored_kfunc")
    assert (found.verdict, [reason for reason in found.reasons if "with libbpf" in reason.what]) == (expected, [])
